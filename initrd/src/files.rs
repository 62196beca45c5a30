//! Work on the guest's files, in a process of its own: init's own program, started anew under another name.
//!
//! Invariant: paths are looked up inside of the root and, unless asked otherwise, never through a link; nothing outside
//! of the directory that a stream is unpacked in is touched; memory does not grow with files. It may wait for disks and
//! be killed at any time, and process 1 does neither. Its working directory is init's own /proc.

mod attributes;
mod look;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::process::ExitCode;

use dataplane_agent::{Files, files_code};
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;

/// The name under which this is started.
pub(crate) const NAME: &str = "dataplane-files";

/// Why it was not done: the exit code, and a line for the host.
#[derive(Debug)]
pub(crate) struct Failed(u8, String);

impl Failed {
    fn refused(why: impl Into<String>) -> Self {
        Self(files_code::REFUSED, why.into())
    }

    fn of(act: &str, subject: &str, error: &io::Error) -> Self {
        let code = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => files_code::NOT_FOUND,
            Some(Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV | Errno::EISDIR | Errno::EROFS) => files_code::REFUSED,
            Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => files_code::NO_SPACE,
            Some(_) | None => 1,
        };
        Self(code, format!("{act} {subject}: {error}"))
    }
}

/// The words that start it.
pub(crate) fn argv(work: &Files) -> Result<Vec<CString>, String> {
    let json = serde_json::to_string(work).map_err(|error| error.to_string())?;
    [NAME, &json].into_iter().map(|word| CString::new(word).map_err(|error| error.to_string())).collect()
}

/// Does the work that the first argument tells of.
pub(crate) fn main(argument: Option<OsString>) -> ExitCode {
    let work = argument.and_then(|json| serde_json::from_slice::<Files>(json.as_encoded_bytes()).ok());
    let done = match work {
        None => Err(Failed::refused("this is no work on files")),
        Some(Files::Read { path, follow }) => read::tree(&Place { path, follow }, io::stdout()),
        Some(Files::Write { path, follow }) => write::tree(&Place { path, follow }, io::stdin()),
        Some(Files::Look { path, follow, list }) => look::tell(&Place { path, follow }, list),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed(code, why)) => {
            // A host that is gone does not need it.
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::from(code)
        }
    }
}

/// An absolute path in the root.
#[derive(Debug)]
struct Place {
    path: String,
    follow: bool,
}

impl Place {
    /// Opens what lies there. A link at its end is itself what is meant, where none is followed.
    fn open(&self, flags: OFlag) -> Result<File, Failed> {
        let path = &self.path;
        if !path.starts_with('/') || path.split('/').any(|name| name == "..") {
            return Err(Failed::refused(format!("{path} is no absolute path without `..`")));
        }
        let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let root = root.map_err(|errno| Failed::of("open", "/", &errno.into()))?;
        let inside = path.trim_start_matches('/');
        let inside = if inside.is_empty() { "." } else { inside };
        let mut flags = flags | OFlag::O_CLOEXEC;
        let mut resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        if !self.follow {
            flags |= OFlag::O_NOFOLLOW;
            resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS;
        }
        let found = openat2(&root, inside, OpenHow::new().flags(flags).resolve(resolve));
        found.map(File::from).map_err(|errno| Failed::of("open", path, &errno.into()))
    }

    /// The last name of the path.
    fn name(&self) -> &str {
        self.path.split('/').rfind(|name| !name.is_empty() && *name != ".").unwrap_or(".")
    }
}

/// What has this name in a directory, never through a link.
fn open_at(directory: BorrowedFd<'_>, name: &(impl NixPath + ?Sized), flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?.into())
}
