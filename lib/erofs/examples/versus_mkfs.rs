//! The writer beside `mkfs.erofs`, without compression, over the same tree: some large files, and many small ones.
//!
//! ```text
//! cargo run --release -p dataplane-erofs --example versus_mkfs -- [DIRECTORY [MEBIBYTES [FILES]]]
//! ```
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dataplane_erofs::{Attributes, Directory, Epoch, ImageWriter, Options, Summary};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const LARGE: usize = 4;
const PER_DIRECTORY: usize = 100;
const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mebibytes: usize = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let files: usize = arguments.next().map_or(Ok(50_000), |text| text.parse())?;
    let place = tempfile::tempdir_in(place)?;
    let (large, small) = (place.path().join("large"), place.path().join("small"));
    make_large(&large, mebibytes)?;
    make_small(&small, files)?;
    let gibibytes = mebibytes as f64 / 1024.0;
    let (ours, theirs) = compare("large files", &large, place.path())?;
    println!("large files: {:.2} GiB/s, mkfs.erofs {:.2} GiB/s", gibibytes / ours, gibibytes / theirs);
    let before = memory("VmRSS")?;
    let (ours, theirs) = compare("small files", &small, place.path())?;
    println!("small files: {:.0} a second, mkfs.erofs {:.0}", files as f64 / ours, files as f64 / theirs);
    println!("memory: {} KiB at most, {before} KiB before the small files", memory("VmHWM")?);
    Ok(())
}

fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut out: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    out.truncate(length);
    out
}

fn make_large(place: &Path, mebibytes: usize) -> Result<()> {
    std::fs::create_dir(place)?;
    for number in 0..LARGE {
        let mut file = File::create(place.join(format!("large{number}")))?;
        let piece = bytes(1 << 20, number as u64 + 9);
        for _ in 0..mebibytes / LARGE {
            file.write_all(&piece)?;
        }
    }
    Ok(())
}

/// Sizes as in a system's tree: most below a block, some of many.
fn make_small(place: &Path, files: usize) -> Result<()> {
    std::fs::create_dir(place)?;
    for number in 0..files {
        let directory = place.join(format!("dir{}", number / PER_DIRECTORY));
        if number % PER_DIRECTORY == 0 {
            std::fs::create_dir(&directory)?;
        }
        let length = match number % 10 {
            0..6 => number * 7919 % 4000,
            6..9 => number * 7919 % 16_000,
            _ => number * 7919 % 60_000,
        };
        File::create(directory.join(format!("file{number}")))?.write_all(&bytes(length, number as u64))?;
    }
    Ok(())
}

/// The best of some rounds each, in seconds.
fn compare(what: &str, tree: &Path, place: &Path) -> Result<(f64, f64)> {
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    let (image, other) = (place.join("ours.erofs"), place.join("theirs.erofs"));
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let summary = write(tree, &image, place)?;
        ours = ours.min(began.elapsed());
        let began = Instant::now();
        let mut mkfs = Command::new("mkfs.erofs");
        let status = mkfs.args([&other, tree]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        theirs = theirs.min(began.elapsed());
        if !status.success() {
            return Err("mkfs.erofs failed".into());
        }
        let sizes = (summary.bytes >> 10, std::fs::metadata(&other)?.len() >> 10);
        println!("{what}: {ours:.3?} and {theirs:.3?}, images of {} and {} KiB", sizes.0, sizes.1);
        std::fs::remove_file(&image)?;
        std::fs::remove_file(&other)?;
    }
    let (ours, theirs) = (ours.as_secs_f64(), theirs.as_secs_f64());
    println!("{what}: {:.2} of the time of mkfs.erofs", ours / theirs);
    Ok((ours, theirs))
}

fn write(tree: &Path, image: &Path, scratch: &Path) -> Result<Summary> {
    let options = Options { uuid: [1; 16], epoch: Epoch::default(), scratch };
    let mut writer = ImageWriter::new(File::create_new(image)?, &options)?;
    let root = writer.root();
    add(&mut writer, root, tree)?;
    Ok(writer.finish()?.1)
}

fn add(image: &mut ImageWriter, directory: Directory, path: &Path) -> Result<()> {
    for entry in std::fs::read_dir(path)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let metadata = path.symlink_metadata()?;
        let attributes = Attributes {
            mode: u16::try_from(metadata.mode() & 0o7777)?,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: (metadata.mtime(), u32::try_from(metadata.mtime_nsec())?),
            xattrs: &[],
        };
        if metadata.is_dir() {
            let made = image.directory(directory, name.as_bytes(), &attributes)?;
            add(image, made, &path)?;
        } else {
            image.file(directory, name.as_bytes(), &attributes, metadata.len())?.fill(File::open(&path)?)?;
        }
    }
    Ok(())
}

fn memory(what: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
