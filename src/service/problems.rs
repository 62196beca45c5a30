//! The one table from domain errors to problems. The code decides the status; internal detail goes to the log, where
//! [`Problem::internal`] puts it.

use dataplane_api::types::{ProblemDetail, ProblemPlace};
use dataplane_api::{Problem, ProblemCode};
use dataplane_images::{Failure, FailureCode, ImagesError};
use dataplane_instances::{ActionError, CreateError, DeleteError, GuestError, LinkError, RootDiskError};
use dataplane_store::StoreError;

pub(super) fn of_create(error: &CreateError) -> Problem {
    let problem = |code| Problem::new(code, error.to_string());
    match error {
        CreateError::Conflict(_) => problem(ProblemCode::AlreadyExists),
        CreateError::Impossible { field, message } => impossible(field, message),
        CreateError::Contradiction { field, message } => Problem::invalid_field(field, message),
        CreateError::NoCommand(_) => problem(ProblemCode::ImageUnsupported),
        CreateError::NoHypervisor(_) | CreateError::NotSupported(_) => problem(ProblemCode::NotSupported),
        CreateError::Disk(error) => of_root_disk(error),
        CreateError::Link(error) => of_link(error),
        CreateError::Uid(_) => problem(ProblemCode::Unavailable),
        CreateError::NoSpace { .. } => problem(ProblemCode::NoSpace),
        CreateError::Vmm(_) | CreateError::Unruly(_) => {
            Problem::new(ProblemCode::VmmFailed, "the virtual machine could not be started")
                .with_inner(None, &crate::chain(error))
        }
        CreateError::Store(error) => of_store(error),
        CreateError::Config(_) => Problem::new(ProblemCode::PayloadTooLarge, crate::chain(error)),
        CreateError::Deleted(_) => problem(ProblemCode::InvalidState),
        CreateError::Stopping => problem(ProblemCode::Unavailable),
    }
}

pub(super) fn of_delete(error: &DeleteError) -> Problem {
    let code = match error {
        DeleteError::NotFound(_) => ProblemCode::InstanceNotFound,
        DeleteError::Stale(_) => ProblemCode::PreconditionFailed,
        DeleteError::Busy(_) => ProblemCode::Busy,
        DeleteError::Failed(..) => ProblemCode::VmmFailed,
    };
    Problem::new(code, error.to_string())
}

pub(super) fn of_action(error: &ActionError) -> Problem {
    let code = match error {
        ActionError::Impossible { field, message } => return impossible(field, message),
        ActionError::Link(error) => return of_link(error),
        ActionError::NotFound(_) => ProblemCode::InstanceNotFound,
        ActionError::Stale(_) => ProblemCode::PreconditionFailed,
        ActionError::Busy { .. } | ActionError::Unfinished { .. } => ProblemCode::Busy,
        ActionError::InvalidState { .. } => ProblemCode::InvalidState,
        ActionError::HasSnapshot { .. } => ProblemCode::HasSnapshot,
        ActionError::NoSnapshot(_) => ProblemCode::NoSnapshot,
        ActionError::Mismatch { .. } => ProblemCode::HypervisorMismatch,
        ActionError::NotSupported { .. } => ProblemCode::NotSupported,
        ActionError::NoSpace { .. } => ProblemCode::NoSpace,
        ActionError::Full(_) => ProblemCode::TooManyRequests,
        ActionError::Failed(..) => ProblemCode::VmmFailed,
    };
    Problem::new(code, error.to_string())
}

pub(super) fn of_guest(error: &GuestError) -> Problem {
    let code = match error {
        GuestError::NotFound(_) => ProblemCode::InstanceNotFound,
        GuestError::NotRunning { .. } => ProblemCode::InvalidState,
        GuestError::Busy { .. } => ProblemCode::Busy,
        GuestError::Unreachable(_) => ProblemCode::GuestUnreachable,
        GuestError::TooOld { .. } => ProblemCode::NotSupported,
        GuestError::Full(_) => ProblemCode::TooManyRequests,
        GuestError::TooLarge => ProblemCode::PayloadTooLarge,
        GuestError::Refused(_) => ProblemCode::GuestRefused,
        GuestError::NoProcess { .. } => ProblemCode::ProcessNotFound,
        GuestError::NoPath(_) => ProblemCode::PathNotFound,
        GuestError::NoSpace(_) => ProblemCode::NoSpace,
        GuestError::Interrupted { .. } | GuestError::HungUp => ProblemCode::Interrupted,
    };
    Problem::new(code, error.to_string())
}

/// Well formed, and never possible: by the field that would have to be another.
fn impossible(field: &str, message: &str) -> Problem {
    let detail = ProblemDetail { in_: ProblemPlace::Body, field: field.to_owned(), message: message.to_owned() };
    Problem::new(ProblemCode::InsufficientHost, format!("{field}: {message}")).with_detail(detail)
}

fn of_root_disk(error: &RootDiskError) -> Problem {
    let code = match error {
        RootDiskError::NotFound(_) => ProblemCode::ImageNotFound,
        RootDiskError::NotReady(..) => ProblemCode::ImageNotReady,
        RootDiskError::NoSpace => ProblemCode::NoSpace,
        RootDiskError::Make(_) => return Problem::internal(error),
    };
    Problem::new(code, error.to_string())
}

fn of_link(error: &LinkError) -> Problem {
    let code = match error {
        LinkError::Full(_) => ProblemCode::NetworkFull,
        LinkError::InUse(_) => ProblemCode::AddressInUse,
        LinkError::PortInUse(_) => ProblemCode::PortInUse,
        LinkError::Impossible(_) => ProblemCode::AddressOutOfRange,
        LinkError::Host(_) => ProblemCode::NetworkFailed,
    };
    Problem::new(code, error.to_string())
}

fn of_store(error: &StoreError) -> Problem {
    match error {
        error if error.is_disk_full() => Problem::new(ProblemCode::NoSpace, "the disk is full"),
        StoreError::Stopped => Problem::new(ProblemCode::Unavailable, error.to_string()),
        // A directory that the daemon left alone when it started, since it holds no record.
        StoreError::Exists(_) => Problem::new(ProblemCode::AlreadyExists, error.to_string()),
        StoreError::Io { .. } | StoreError::Parse { .. } => Problem::internal(error),
    }
}

pub(super) fn of_images(error: &ImagesError) -> Problem {
    let code = match error {
        ImagesError::Reference(_) => return Problem::invalid_field("name", &error.to_string()),
        ImagesError::NotFound(_) => ProblemCode::ImageNotFound,
        ImagesError::NotReady { .. } => ProblemCode::ImageNotReady,
        ImagesError::InUse { .. } => ProblemCode::ImageInUse,
        ImagesError::Conflict { .. } => ProblemCode::AlreadyExists,
        ImagesError::Failed(failure) => return of_failure(failure, error),
        ImagesError::Store(error) => return of_store(error),
        ImagesError::TaskLost => return Problem::internal(error),
    };
    Problem::new(code, error.to_string())
}

fn of_failure(failure: &Failure, error: &ImagesError) -> Problem {
    let code = match failure.code {
        FailureCode::ImageInvalid => ProblemCode::ImageInvalid,
        FailureCode::ImageUnsupported => ProblemCode::ImageUnsupported,
        FailureCode::ImagePullFailed => ProblemCode::ImagePullFailed,
        FailureCode::RegistryUnauthorized => ProblemCode::RegistryUnauthorized,
        FailureCode::RegistryNotFound => ProblemCode::RegistryNotFound,
        FailureCode::RegistryUnavailable => ProblemCode::RegistryUnavailable,
        FailureCode::RegistryRateLimited => ProblemCode::RegistryRateLimited,
        FailureCode::NoSpace => ProblemCode::NoSpace,
        FailureCode::Unavailable => ProblemCode::Unavailable,
        FailureCode::Internal => return Problem::internal(error),
    };
    let problem = Problem::new(code, &*failure.message);
    match failure.retry_after {
        Some(wait) => problem.with_retry_after(wait),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn failed(code: FailureCode, retry_after: Option<Duration>) -> Problem {
        of_images(&ImagesError::Failed(Failure { code, message: "it failed".to_owned(), retry_after }))
    }

    #[test]
    fn a_busy_registry_says_when_and_a_broken_one_that_it_is_of_no_use() {
        let wait = Duration::from_secs(1234);
        let busy = failed(FailureCode::RegistryRateLimited, Some(wait));
        assert_eq!(busy, Problem::new(ProblemCode::RegistryRateLimited, "it failed").with_retry_after(wait));
        let broken = failed(FailureCode::ImagePullFailed, None);
        assert_eq!(broken, Problem::new(ProblemCode::ImagePullFailed, "it failed"));
    }

    #[test]
    fn what_is_impossible_names_its_field() {
        let error = ActionError::Impossible { field: "memory_mb", message: "4096 MiB are the most".to_owned() };
        let detail = ProblemDetail {
            in_: ProblemPlace::Body,
            field: "memory_mb".to_owned(),
            message: "4096 MiB are the most".to_owned(),
        };
        let expected = Problem::new(ProblemCode::InsufficientHost, "memory_mb: 4096 MiB are the most");
        assert_eq!(of_action(&error), expected.with_detail(detail));
    }

    #[test]
    fn a_failed_image_and_the_problem_have_the_same_word() {
        for code in FailureCode::ALL {
            assert_eq!(failed(code, None).code().to_string(), code.to_string());
        }
    }
}
