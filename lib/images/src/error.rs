//! What a caller of the manager may be told.

use dataplane_oci::ReferenceError;
use dataplane_store::StoreError;
use dataplane_types::ImageId;

use crate::Failure;
use crate::view::ImageStatus;

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

impl From<Failure> for ImagesError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
