//! Why a registry did not give an image.

use std::time::Duration;

use crate::ContentError;

/// Why a registry did not give an image.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It gave one, and something is wrong with it.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// It wants other credentials, or any.
    #[error("{registry} refuses access to {repository}: {detail}")]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// What it answered.
        detail: String,
    },
    /// It has no such thing.
    #[error("{registry} has no {what}")]
    NotFound {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// It could not be reached, or went on failing.
    #[error("{registry} is unavailable after {attempts} attempts: {detail}")]
    Unavailable {
        /// The registry.
        registry: String,
        /// How often it was tried.
        attempts: u32,
        /// What happened the last time.
        detail: String,
    },
    /// It asks to be left alone for longer than is waited, or goes on answering that it is asked too often.
    #[error("{registry} asks to come back {}", pause(.retry_after))]
    Busy {
        /// The registry.
        registry: String,
        /// How long it wants to be left alone, where it says so.
        retry_after: Option<Duration>,
    },
    /// It answered something that the protocol does not know.
    #[error("{registry} answered against the protocol: {detail}")]
    Protocol {
        /// The registry.
        registry: String,
        /// What it answered.
        detail: String,
    },
    /// This host cannot make such connections.
    #[error("set up connections to registries: {0}")]
    Setup(String),
}

fn pause(retry_after: &Option<Duration>) -> String {
    retry_after.map_or_else(|| "later".to_owned(), |pause| format!("in {} s", pause.as_secs()))
}

/// An error and its causes in one line, without the address, which may hold a signature.
pub(crate) fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
