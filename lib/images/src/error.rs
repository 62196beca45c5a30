//! What a caller of the manager may be told.

use dataplane_oci::ReferenceError;
use dataplane_store::StoreError;
use dataplane_types::ImageId;

use crate::view::ImageStatus;
use crate::{Failure, FailureCode};

/// Why a request was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The text is no image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// No image has this id, name or digest.
    #[error("there is no image {0:?}")]
    NotFound(String),
    /// The image cannot be used yet, or not any more.
    #[error("image {id} is {status}")]
    NotReady {
        /// The image.
        id: ImageId,
        /// What it is instead of ready.
        status: ImageStatus,
    },
    /// Something needs the image.
    #[error("image {id} is needed by {holder}")]
    InUse {
        /// The image.
        id: ImageId,
        /// Who needs it.
        holder: String,
    },
    /// The id stands for something else already.
    #[error("image {id} exists: {reason}")]
    Conflict {
        /// The id.
        id: ImageId,
        /// How it differs.
        reason: String,
    },
    /// The image could not be had.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// The data directory could not be read or changed.
    #[error("change the records of images")]
    Store(#[from] StoreError),
    /// A task of ours ended in a way that it never should.
    #[error("a task of the image manager ended without an answer")]
    TaskLost,
}

/// The kinds of answers, one for each way in which a client can react.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The request names no image that could exist.
    InvalidReference,
    /// No such image here.
    ImageNotFound,
    /// The image is not ready.
    ImageNotReady,
    /// The image is needed.
    ImageInUse,
    /// The id stands for something else.
    Conflict,
    /// The image itself is malformed, hostile, or beyond a limit.
    ImageInvalid,
    /// The registry wants other credentials.
    RegistryUnauthorized,
    /// The registry has no such image.
    ImageNotInRegistry,
    /// The registry could not be reached; later it may.
    RegistryUnavailable,
    /// The registry asks to come back later.
    RegistryRateLimited,
    /// The registry answered what no registry should, and would again.
    ImagePullFailed,
    /// There is no such image for the platform.
    PlatformNotAvailable,
    /// The disk is full, or down to its reserve.
    NoSpace,
    /// The work was cut short; it may be asked for again.
    Interrupted,
    /// A fault of ours.
    Internal,
}

impl ImagesError {
    /// Which kind of answer this is.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Reference(_) => ErrorCode::InvalidReference,
            Self::NotFound(_) => ErrorCode::ImageNotFound,
            Self::NotReady { .. } => ErrorCode::ImageNotReady,
            Self::InUse { .. } => ErrorCode::ImageInUse,
            Self::Conflict { .. } => ErrorCode::Conflict,
            Self::Failed(failure) => match failure.code {
                FailureCode::ImageInvalid => ErrorCode::ImageInvalid,
                FailureCode::RegistryUnauthorized => ErrorCode::RegistryUnauthorized,
                FailureCode::ImageNotInRegistry => ErrorCode::ImageNotInRegistry,
                FailureCode::RegistryUnavailable => ErrorCode::RegistryUnavailable,
                FailureCode::RegistryRateLimited => ErrorCode::RegistryRateLimited,
                FailureCode::ImagePullFailed => ErrorCode::ImagePullFailed,
                FailureCode::PlatformNotAvailable => ErrorCode::PlatformNotAvailable,
                FailureCode::NoSpace => ErrorCode::NoSpace,
                FailureCode::Interrupted => ErrorCode::Interrupted,
                FailureCode::Internal => ErrorCode::Internal,
            },
            Self::Store(error) if error.is_disk_full() => ErrorCode::NoSpace,
            Self::Store(_) | Self::TaskLost => ErrorCode::Internal,
        }
    }
}

impl From<Failure> for ImagesError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
