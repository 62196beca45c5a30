//! Why the guest cannot go on: one error type for every step of the boot, since all of them end the same way.
//!
//! Invariant: the chain of an error, joined by colons, is one line that names the act and its subject.

use std::error::Error;
use std::fmt::Display;
use std::io;

use dataplane_agent::ConfigDiskError;
use thiserror::Error;

use crate::user::UserError;

/// The exit code of a program that could not be started because the guest could not be made ready.
pub(crate) const CODE_NOT_READY: u8 = 125;
/// The exit code of a program that exists and cannot be executed.
pub(crate) const CODE_NOT_EXECUTABLE: u8 = 126;
/// The exit code of a program that does not exist.
pub(crate) const CODE_NOT_FOUND: u8 = 127;

#[derive(Debug, Error)]
pub(crate) enum InitError {
    #[error("{act} {subject}")]
    Step { act: &'static str, subject: String, source: io::Error },
    #[error("find the disk with the serial `{serial}` within {seconds} s: there are {found}")]
    NoDisk { serial: String, seconds: u64, found: String },
    #[error("find the network device with the address {mac} within {seconds} s: there are {found}")]
    NoNic { mac: String, seconds: u64, found: String },
    #[error("read the configuration disk")]
    Config(#[source] ConfigDiskError),
    #[error("use the configuration: {0}")]
    BadConfig(String),
    #[error("find the user `{user}` in the image")]
    User { user: String, source: UserError },
    #[error("start `{program}`: {why}")]
    Program { program: String, why: String, code: u8 },
    #[error("init panicked: {0}")]
    Panic(String),
}

impl InitError {
    /// The exit code that the host is told.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Program { code, .. } => *code,
            Self::Step { .. }
            | Self::NoDisk { .. }
            | Self::NoNic { .. }
            | Self::Config(_)
            | Self::BadConfig(_)
            | Self::User { .. }
            | Self::Panic(_) => CODE_NOT_READY,
        }
    }

    /// The error and its causes on one line.
    pub(crate) fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line.replace(['\n', '\r'], " ")
    }
}

/// Gives a system error its act and subject.
pub(crate) trait During<T> {
    fn during(self, act: &'static str, subject: impl Display) -> Result<T, InitError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, act: &'static str, subject: impl Display) -> Result<T, InitError> {
        self.map_err(|error| InitError::Step { act, subject: subject.to_string(), source: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_one_line() {
        let failed: Result<(), _> = Err(nix::errno::Errno::ENODEV);
        let error = failed.during("mount", "/dev/vda\n").unwrap_err();
        assert_eq!(error.chain(), "mount /dev/vda : No such device (os error 19)");
        assert_eq!(error.code(), CODE_NOT_READY);
    }
}
