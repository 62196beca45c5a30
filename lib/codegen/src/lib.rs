//! Turns `openapi.yaml` into the generated half of the API crate: types, request rules, operations, traits and routes.
//!
//! Invariant: the output is a pure function of the document, so the committed files can be compared with a fresh run.
//! Policy (limits, authentication, problems, streams) is not here: generated code calls the API crate's runtime for it.

mod document;
mod naming;
mod problems;
mod rules;
mod server;
mod types;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use proc_macro2::TokenStream;

use document::Document;

/// One generated file: its path below the workspace root, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Relative to the workspace root.
    pub path: PathBuf,
    /// The whole content.
    pub text: String,
}

const TARGET: &str = "lib/api/src/generated";

/// Everything that follows from the document.
///
/// # Errors
/// Says what of the document cannot be read or is not supported by the generator.
pub fn generate(spec: &str) -> Result<Vec<Generated>> {
    let document = Document::parse(spec).context("read openapi.yaml")?;
    let file = |name: &str, text: String| Generated { path: Path::new(TARGET).join(name), text };
    Ok(vec![
        file("types.rs", types::generate(&document).context("types")?),
        file("rules.rs", pretty("What requests must look like.", rules::generate(&document).context("rules")?)?),
        file(
            "problems.rs",
            pretty("What each problem code means.", problems::generate(&document).context("problems")?)?,
        ),
        file("server.rs", pretty("Operations, traits and routes.", server::generate(&document).context("server")?)?),
        file("openapi.json", document.to_json()?),
    ])
}

/// The files below `root` that are not what a fresh run would write.
///
/// # Errors
/// The document cannot be read or is not supported.
pub fn stale(root: &Path) -> Result<Vec<Generated>> {
    let spec = std::fs::read_to_string(root.join("openapi.yaml")).context("read openapi.yaml")?;
    let fresh = generate(&spec)?;
    Ok(fresh
        .into_iter()
        .filter(|file| std::fs::read_to_string(root.join(&file.path)).map_or(true, |text| text != file.text))
        .collect())
}

/// Formats tokens under the header that every generated file has.
pub(crate) fn pretty(about: &str, tokens: TokenStream) -> Result<String> {
    let file = syn::parse2(tokens).context("generated code does not parse")?;
    Ok(format!("{}{}", header(about), prettyplease::unparse(&file)))
}

/// The opening lines of a generated file.
fn header(about: &str) -> String {
    let lints = "#![allow(clippy::all, clippy::too_many_lines, clippy::unwrap_used, unused_qualifications)]";
    format!("//! {about} Generated from `openapi.yaml` by `make generate`: do not edit.\n\n{lints}\n\n")
}
