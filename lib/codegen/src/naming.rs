//! Names: from the document's to Rust's.

use heck::{ToShoutySnakeCase as _, ToSnakeCase as _, ToUpperCamelCase as _};
use proc_macro2::Ident;
use quote::format_ident;

/// `Last-Event-ID` → `last_event_id`.
pub(crate) fn field(name: &str) -> Ident {
    format_ident!("{}", name.to_snake_case())
}

/// `create_instance` → `CreateInstance`.
pub(crate) fn type_name(name: &str) -> Ident {
    format_ident!("{}", name.to_upper_camel_case())
}

/// `CreateInstanceRequest` → `CREATE_INSTANCE_REQUEST`.
pub(crate) fn constant(name: &str) -> Ident {
    format_ident!("{}", name.to_shouty_snake_case())
}

/// The schema that a `$ref` names.
pub(crate) fn schema_of(reference: &str) -> Option<&str> {
    reference.strip_prefix("#/components/schemas/")
}

/// Schemas whose Rust type is written by hand, because it holds more than the document can say.
pub(crate) fn hand_written(schema: &str) -> Option<&'static str> {
    Some(match schema {
        "InstanceId" => "dataplane_types::InstanceId",
        "ImageId" => "dataplane_types::ImageId",
        "Digest" => "dataplane_types::Digest",
        "Mac" => "dataplane_types::Mac",
        "Secret" => "crate::Secret",
        "Cursor" => "crate::Cursor",
        "LabelFilter" => "crate::LabelFilter",
        "IfMatch" => "crate::IfMatch",
        "Prefer" => "crate::Prefer",
        _ => return None,
    })
}
