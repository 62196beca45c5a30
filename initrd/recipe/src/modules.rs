//! Chooses kernel modules by name and puts them, with what they depend on, in the order in which they load.
//!
//! Invariant: every module stands behind all of its dependencies, once. Modules that the kernel has built in are left
//! out. Reads an unpacked kernel package; knows nothing of archives or boot images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::elf::{Elf, ElfError};

/// Names that modules ask for softly and that are no files' names: the ones that can answer, best first.
const SOFT_PROVIDERS: &[(&str, &[&str])] = &[("crc32c", &["crc32c_generic", "crc32c_intel"])];
/// Directories below `kernel/` are nested far less deeply.
const MAX_DEPTH: usize = 16;

#[derive(Debug, Error)]
pub(crate) enum ModuleError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("find kernel modules below {}: no kernel version directory", path.display())]
    NoModules { path: PathBuf },
    #[error("find kernel module {name}, needed by {needed_by}")]
    NotFound { name: String, needed_by: String },
    #[error("read kernel module {}", path.display())]
    Elf { path: PathBuf, source: ElfError },
    #[error("order kernel modules: {name} depends on itself")]
    Cycle { name: String },
}

/// One module to load: its name with underscores, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// All modules of one kernel, by name.
#[derive(Debug)]
pub(crate) struct Index {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Index {
    /// Reads `lib/modules/<version>` (or `usr/lib/modules/<version>`) of an unpacked kernel package.
    pub(crate) fn open(package: &Path) -> Result<Self, ModuleError> {
        let root = ["lib/modules", "usr/lib/modules"]
            .iter()
            .filter_map(|place| fs::read_dir(package.join(place)).ok())
            .flat_map(|entries| entries.flatten())
            .map(|entry| entry.path())
            .find(|path| path.join("kernel").is_dir())
            .ok_or_else(|| ModuleError::NoModules { path: package.to_owned() })?;
        let list = root.join("modules.builtin");
        let text = fs::read_to_string(&list).map_err(|source| ModuleError::Read { path: list, source })?;
        let builtin = text.lines().filter_map(module_name).collect();
        let mut files = BTreeMap::new();
        collect(&root.join("kernel"), MAX_DEPTH, &mut files)?;
        Ok(Self { files, builtin })
    }

    /// The named modules and their dependencies, in load order; the order of `wanted` is kept where it can be.
    pub(crate) fn resolve<S: AsRef<str>>(&self, wanted: &[S]) -> Result<Vec<Module>, ModuleError> {
        let mut order = Resolution { index: self, modules: Vec::new(), open: Vec::new(), done: BTreeSet::new() };
        for name in wanted {
            order.add(&normal(name.as_ref()), "the list of modules")?;
        }
        Ok(order.modules)
    }

    fn has(&self, name: &str) -> bool {
        self.builtin.contains(name) || self.files.contains_key(name)
    }
}

/// A depth-first walk: `open` is the path from the wanted module down to the one being looked at.
struct Resolution<'a> {
    index: &'a Index,
    modules: Vec<Module>,
    open: Vec<String>,
    done: BTreeSet<String>,
}

impl Resolution<'_> {
    fn add(&mut self, name: &str, needed_by: &str) -> Result<(), ModuleError> {
        if self.index.builtin.contains(name) || self.done.contains(name) {
            return Ok(());
        }
        if self.open.iter().any(|above| above == name) {
            return Err(ModuleError::Cycle { name: name.to_owned() });
        }
        let path = self
            .index
            .files
            .get(name)
            .ok_or_else(|| ModuleError::NotFound { name: name.to_owned(), needed_by: needed_by.to_owned() })?;
        let content = fs::read(path).map_err(|source| ModuleError::Read { path: path.clone(), source })?;
        let needs = needs(&content, self.index).map_err(|source| ModuleError::Elf { path: path.clone(), source })?;
        self.open.push(name.to_owned());
        for need in needs {
            self.add(&need, name)?;
        }
        self.open.pop();
        self.done.insert(name.to_owned());
        self.modules.push(Module { name: name.to_owned(), content });
        Ok(())
    }
}

/// What a module's own description asks for: hard dependencies, and soft ones that this kernel can serve.
fn needs(content: &[u8], index: &Index) -> Result<Vec<String>, ElfError> {
    let info = Elf::parse(content)?.section(".modinfo")?.unwrap_or_default();
    let mut needs = Vec::new();
    for line in info.split(|byte| *byte == 0).filter_map(|line| str::from_utf8(line).ok()) {
        if let Some(list) = line.strip_prefix("depends=") {
            needs.extend(list.split(',').filter(|name| !name.is_empty()).map(normal));
        } else if let Some(list) = line.strip_prefix("softdep=pre:") {
            let before = list.split("post:").next().unwrap_or_default();
            needs.extend(before.split_whitespace().filter_map(|name| soft_provider(&normal(name), index)));
        }
    }
    Ok(needs)
}

fn soft_provider(name: &str, index: &Index) -> Option<String> {
    if index.has(name) {
        return Some(name.to_owned());
    }
    let (_, providers) = SOFT_PROVIDERS.iter().find(|(soft, _)| *soft == name)?;
    providers.iter().find(|provider| index.has(provider)).map(|provider| (*provider).to_owned())
}

fn collect(directory: &Path, depth: usize, files: &mut BTreeMap<String, PathBuf>) -> Result<(), ModuleError> {
    let failed = |source| ModuleError::Read { path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            if depth > 0 {
                collect(&path, depth - 1, files)?;
            }
        } else if let Some(name) = path.to_str().and_then(module_name) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `kernel/drivers/char/virtio-rng.ko` is the module `virtio_rng`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.strip_suffix(".ko").map(normal)
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::synthetic;

    /// A package with modules `name: modinfo` and a list of built-in ones.
    fn package(modules: &[(&str, &str)], builtin: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("lib/modules/6.1.0-test");
        fs::create_dir_all(root.join("kernel/drivers")).unwrap();
        store(&root.join("modules.builtin"), builtin.as_bytes());
        for (name, info) in modules {
            store(&root.join(format!("kernel/drivers/{name}.ko")), &synthetic(0, ".modinfo", info.as_bytes()));
        }
        directory
    }

    fn store(path: &Path, content: &[u8]) {
        use std::io::Write as _;
        fs::File::create(path).unwrap().write_all(content).unwrap();
    }

    fn names(modules: &[Module]) -> Vec<&str> {
        modules.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let package = package(
            &[
                ("virtio", "license=GPL\0depends=virtio_ring\0"),
                ("virtio_ring", "depends=\0"),
                ("virtio-rng", "depends=virtio,rng-core\0"),
                ("virtio_blk", "depends=virtio_ring,virtio\0"),
            ],
            "kernel/drivers/char/rng-core.ko\n",
        );
        let index = Index::open(package.path()).unwrap();
        let order = index.resolve(&["virtio_blk", "virtio_rng", "rng_core"]).unwrap();
        assert_eq!(names(&order), ["virtio_ring", "virtio", "virtio_blk", "virtio_rng"]);
    }

    #[test]
    fn soft_dependencies_are_served_when_they_can_be() {
        let libcrc = ("libcrc32c", "depends=\0softdep=pre: crc32c unknown post: later\0");
        let with = package(&[libcrc, ("crc32c-intel", "depends=\0")], "");
        let order = Index::open(with.path()).unwrap().resolve(&["libcrc32c"]).unwrap();
        assert_eq!(names(&order), ["crc32c_intel", "libcrc32c"]);
        let built_in = package(&[libcrc, ("crc32c-intel", "depends=\0")], "kernel/crypto/crc32c_generic.ko\n");
        let order = Index::open(built_in.path()).unwrap().resolve(&["libcrc32c"]).unwrap();
        assert_eq!(names(&order), ["libcrc32c"]);
    }

    #[test]
    fn missing_modules_and_cycles_are_named() {
        let package = package(&[("a", "depends=b\0"), ("b", "depends=a\0"), ("c", "depends=gone\0")], "");
        let index = Index::open(package.path()).unwrap();
        assert!(matches!(index.resolve(&["a"]), Err(ModuleError::Cycle { name }) if name == "a"));
        assert!(matches!(
            index.resolve(&["c"]),
            Err(ModuleError::NotFound { name, needed_by }) if name == "gone" && needed_by == "c"
        ));
        assert!(matches!(Index::open(Path::new("/nonexistent")), Err(ModuleError::NoModules { .. })));
    }
}
