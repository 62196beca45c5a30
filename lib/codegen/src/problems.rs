//! `ProblemCode`: status, title and retryability of each code, from `x-problems`.

use anyhow::{Context as _, Result, bail};
use proc_macro2::TokenStream;
use quote::quote;
use serde_json::Value;

use crate::document::Document;
use crate::naming;

pub(crate) fn generate(document: &Document) -> Result<TokenStream> {
    let schema = document.schema("ProblemCode")?;
    let table = schema["x-problems"].as_object().context("ProblemCode has no x-problems")?;
    let codes: Vec<&str> = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if codes.len() != table.len() {
        bail!("ProblemCode lists {} codes, x-problems {}", codes.len(), table.len());
    }
    let (mut statuses, mut titles, mut retryables) = (Vec::new(), Vec::new(), Vec::new());
    for code in codes {
        let entry = table.get(code).with_context(|| format!("x-problems lacks {code}"))?;
        let variant = naming::type_name(code);
        let status = entry["status"].as_u64().with_context(|| format!("{code} has no status"))?;
        let status = u16::try_from(status).with_context(|| format!("{code} has a wrong status"))?;
        let title = entry["title"].as_str().with_context(|| format!("{code} has no title"))?;
        entry["meaning"].as_str().with_context(|| format!("{code} has no meaning"))?;
        statuses.push(quote!(Self::#variant => #status,));
        titles.push(quote!(Self::#variant => #title,));
        if entry["retryable"].as_bool().unwrap_or(false) {
            retryables.push(quote!(Self::#variant));
        }
    }
    Ok(quote! {
        use super::types::ProblemCode;

        impl ProblemCode {
            /// The HTTP status that always goes with this code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { #(#statuses)* }
            }
            /// A short title for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { #(#titles)* }
            }
            /// Whether the same request may succeed later without a change.
            #[must_use]
            pub const fn retryable(self) -> bool {
                matches!(self, #(#retryables)|*)
            }
        }
    })
}
