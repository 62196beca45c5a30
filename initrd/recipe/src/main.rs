//! `mkinitramfs`: from an unpacked kernel package and an init program to what a VMM boots: `vmlinux` and an initramfs.
//!
//! Invariant: output files appear whole or not at all, and depend on the input files' bytes alone. Installs nothing,
//! needs no privilege, and does not know how the package or the program came to be.

mod bzimage;
mod compress;
mod cpio;
mod elf;
mod initramfs;
mod modules;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use crate::initramfs::Extra;

/// Builds a guest kernel and its initramfs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Directory into which a linux-image package was unpacked.
    #[arg(long)]
    kernel_package: PathBuf,
    /// Static program that becomes /init.
    #[arg(long, requires = "initrd")]
    init: Option<PathBuf>,
    /// Where to write the initramfs.
    #[arg(long, requires = "init")]
    initrd: Option<PathBuf>,
    /// Where to write the kernel, unpacked.
    #[arg(long)]
    vmlinux: Option<PathBuf>,
    /// Modules to load, instead of those that a guest needs; comma-separated.
    #[arg(long, value_delimiter = ',')]
    modules: Vec<String>,
    /// Further files, as /path/inside=/path/outside.
    #[arg(long = "file", value_parser = parse_extra)]
    files: Vec<Extra>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(out) = &arguments.vmlinux {
        let image = boot_image(&arguments.kernel_package)?;
        let content = fs::read(&image).with_context(|| format!("read {}", image.display()))?;
        let vmlinux =
            bzimage::extract_vmlinux(&content).with_context(|| format!("take vmlinux out of {}", image.display()))?;
        put(out, &vmlinux)?;
        report(&format!("{}: {} bytes", out.display(), vmlinux.len()))?;
    }
    if let (Some(init), Some(out)) = (&arguments.init, &arguments.initrd) {
        let index = modules::Index::open(&arguments.kernel_package)?;
        let modules = if arguments.modules.is_empty() {
            index.resolve(initramfs::GUEST_MODULES)?
        } else {
            index.resolve(&arguments.modules)?
        };
        let count = modules.len();
        let archive = initramfs::assemble(init, modules, &arguments.files)?;
        let packed = compress::lz4_legacy(&archive);
        put(out, &packed)?;
        let (size, unpacked) = (packed.len(), archive.len());
        report(&format!("{}: {size} bytes, {unpacked} unpacked, {count} modules", out.display()))?;
    }
    Ok(())
}

/// The only `boot/vmlinuz-*` of the package.
fn boot_image(package: &Path) -> Result<PathBuf> {
    let boot = package.join("boot");
    let entries = fs::read_dir(&boot).with_context(|| format!("list {}", boot.display()))?;
    let mut images = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")));
    match (images.next(), images.next()) {
        (Some(image), None) => Ok(image),
        (None, _) => bail!("find a boot image: {} holds no vmlinuz-*", boot.display()),
        (Some(_), Some(_)) => bail!("find the boot image: {} holds several vmlinuz-*", boot.display()),
    }
}

/// Writes beside the target and renames, so that nobody ever sees half a kernel.
fn put(path: &Path, content: &[u8]) -> Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file =
            tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o644)).tempfile_in(directory)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))
}

fn parse_extra(text: &str) -> Result<Extra, String> {
    let (to, from) = text.split_once('=').ok_or("expected /path/inside=/path/outside")?;
    Ok(Extra { to: to.to_owned(), from: PathBuf::from(from) })
}

fn report(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("write to standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An unpacked distribution kernel, if one was fetched for this checkout.
    fn real_package() -> Option<PathBuf> {
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/kernel");
        let entries = fs::read_dir(cache).ok()?;
        entries.flatten().map(|entry| entry.path()).find(|path| path.join("boot").is_dir())
    }

    #[test]
    fn the_distributions_kernel_gives_vmlinux_and_modules() {
        let package = real_package().expect("run scripts/build-initrd.sh first: it unpacks a kernel package");
        let image = fs::read(boot_image(&package).unwrap()).unwrap();
        let vmlinux = bzimage::extract_vmlinux(&image).unwrap();
        assert!(vmlinux.len() > 20 << 20);

        let modules = modules::Index::open(&package).unwrap().resolve(initramfs::GUEST_MODULES).unwrap();
        let names: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
        let at = |name: &str| names.iter().position(|found| *found == name);
        assert!(at("virtio") < at("virtio_pci") && at("virtio_pci") < at("virtio_blk"));
        assert!(at("failover") < at("net_failover") && at("net_failover") < at("virtio_net"));
        assert!(at("overlay") < at("virtio_net") && at("overlay").is_some());

        let init = tempfile::NamedTempFile::new().unwrap();
        let archive = initramfs::assemble(init.path(), modules, &[]).unwrap();
        assert!(compress::lz4_legacy(&archive).len() < 12 << 20);
    }

    #[test]
    fn output_appears_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmlinux");
        put(&path, b"first").unwrap();
        put(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }
}
