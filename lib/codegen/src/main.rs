//! `dataplane-codegen [--check]`: writes the generated files, or says which are stale.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

fn main() -> Result<ExitCode> {
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        other => bail!("usage: dataplane-codegen [--check], not {other:?}"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the crate lies two levels down")?;
    let stale = dataplane_codegen::stale(root)?;
    for file in &stale {
        if check {
            eprintln!("stale: {}", file.path.display());
        } else {
            write(&root.join(&file.path), &file.text)?;
            eprintln!("wrote {}", file.path.display());
        }
    }
    if check && !stale.is_empty() {
        eprintln!("run `make generate` and commit the result");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::disallowed_methods, reason = "source files of a developer's tree, not records of the daemon")]
fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("every generated file lies in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
