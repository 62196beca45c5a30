//! What each problem code means. Generated from `openapi.yaml` by `make generate`: do not edit.

#![allow(clippy::all, clippy::too_many_lines, clippy::unwrap_used, unused_qualifications)]

use super::types::ProblemCode;
impl ProblemCode {
    /// The HTTP status that always goes with this code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400u16,
            Self::InvalidField => 400u16,
            Self::UnknownField => 400u16,
            Self::Unauthorized => 401u16,
            Self::Forbidden => 403u16,
            Self::InsufficientScope => 403u16,
            Self::RouteNotFound => 404u16,
            Self::ImageNotFound => 404u16,
            Self::InstanceNotFound => 404u16,
            Self::ProcessNotFound => 404u16,
            Self::PathNotFound => 404u16,
            Self::MethodNotAllowed => 405u16,
            Self::NotAcceptable => 406u16,
            Self::RequestTimeout => 408u16,
            Self::AlreadyExists => 409u16,
            Self::Busy => 409u16,
            Self::InvalidState => 409u16,
            Self::HasSnapshot => 409u16,
            Self::NoSnapshot => 409u16,
            Self::HypervisorMismatch => 409u16,
            Self::ImageInUse => 409u16,
            Self::ImageNotReady => 409u16,
            Self::AddressInUse => 409u16,
            Self::PortInUse => 409u16,
            Self::NetworkFull => 409u16,
            Self::Interrupted => 409u16,
            Self::PreconditionFailed => 412u16,
            Self::PayloadTooLarge => 413u16,
            Self::UnsupportedMediaType => 415u16,
            Self::UpgradeRequired => 426u16,
            Self::InsufficientHost => 422u16,
            Self::AddressOutOfRange => 422u16,
            Self::NotSupported => 422u16,
            Self::ImageInvalid => 422u16,
            Self::ImageUnsupported => 422u16,
            Self::ImagePullFailed => 422u16,
            Self::RegistryUnauthorized => 422u16,
            Self::RegistryNotFound => 422u16,
            Self::GuestRefused => 422u16,
            Self::TooManyRequests => 429u16,
            Self::Internal => 500u16,
            Self::Unavailable => 503u16,
            Self::VmmFailed => 503u16,
            Self::GuestUnreachable => 503u16,
            Self::NetworkFailed => 503u16,
            Self::RegistryUnavailable => 503u16,
            Self::RegistryRateLimited => 503u16,
            Self::NoSpace => 507u16,
        }
    }
    /// A short title for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "Malformed request",
            Self::InvalidField => "Invalid field",
            Self::UnknownField => "Unknown field",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::InsufficientScope => "Insufficient scope",
            Self::RouteNotFound => "No such route",
            Self::ImageNotFound => "No such image",
            Self::InstanceNotFound => "No such instance",
            Self::ProcessNotFound => "No such process",
            Self::PathNotFound => "No such path",
            Self::MethodNotAllowed => "Method not allowed",
            Self::NotAcceptable => "Not acceptable",
            Self::RequestTimeout => "Request timeout",
            Self::AlreadyExists => "Already exists",
            Self::Busy => "Busy",
            Self::InvalidState => "Invalid state",
            Self::HasSnapshot => "Has a snapshot",
            Self::NoSnapshot => "No snapshot",
            Self::HypervisorMismatch => "Hypervisor mismatch",
            Self::ImageInUse => "Image in use",
            Self::ImageNotReady => "Image not ready",
            Self::AddressInUse => "Address in use",
            Self::PortInUse => "Port in use",
            Self::NetworkFull => "Network full",
            Self::Interrupted => "Interrupted",
            Self::PreconditionFailed => "Precondition failed",
            Self::PayloadTooLarge => "Payload too large",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::UpgradeRequired => "Upgrade required",
            Self::InsufficientHost => "Insufficient host",
            Self::AddressOutOfRange => "Address out of range",
            Self::NotSupported => "Not supported",
            Self::ImageInvalid => "Invalid image",
            Self::ImageUnsupported => "Unsupported image",
            Self::ImagePullFailed => "Pull failed",
            Self::RegistryUnauthorized => "Registry refused",
            Self::RegistryNotFound => "Not in the registry",
            Self::GuestRefused => "Refused by the guest",
            Self::TooManyRequests => "Too many requests",
            Self::Internal => "Internal error",
            Self::Unavailable => "Unavailable",
            Self::VmmFailed => "VMM failed",
            Self::GuestUnreachable => "Guest out of reach",
            Self::NetworkFailed => "Network failed",
            Self::RegistryUnavailable => "Registry unavailable",
            Self::RegistryRateLimited => "Registry rate limit",
            Self::NoSpace => "No space",
        }
    }
    /// Whether the same request may succeed later without a change.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(
            self, Self::RequestTimeout | Self::Busy | Self::ImageNotReady |
            Self::NetworkFull | Self::TooManyRequests | Self::Unavailable |
            Self::VmmFailed | Self::GuestUnreachable | Self::NetworkFailed |
            Self::RegistryUnavailable | Self::RegistryRateLimited | Self::NoSpace
        )
    }
}
