//! The committed output is current, and a small document gives exactly the code that is expected.

use std::path::Path;

const SMALL: &str = include_str!("small.yaml");

#[test]
fn the_committed_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let stale: Vec<_> = dataplane_codegen::stale(root).unwrap().into_iter().map(|file| file.path).collect();
    assert!(stale.is_empty(), "run `make generate`: {stale:?}");
}

#[test]
fn a_small_document_gives_the_golden_code() {
    let files = dataplane_codegen::generate(SMALL).unwrap();
    for name in ["server", "rules"] {
        let made = &files.iter().find(|file| file.path.file_stem().is_some_and(|stem| stem == name)).unwrap().text;
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/small.{name}.golden"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            #[expect(clippy::disallowed_methods, reason = "a golden file of the source tree")]
            std::fs::write(&golden, made).unwrap();
        }
        assert_eq!(*made, std::fs::read_to_string(golden).unwrap(), "UPDATE_GOLDEN=1 accepts the change");
    }
}

#[test]
fn null_is_not_absence() {
    let files = dataplane_codegen::generate(SMALL).unwrap();
    let types = &files.iter().find(|file| file.path.ends_with("types.rs")).unwrap().text;
    let start = types.find("pub struct ThingPatch {").unwrap();
    let made: String = types[start..].split_inclusive("\n}").next().unwrap().split_whitespace().collect();
    assert!(made.contains("present\")]pubname:::std::option::Option<::std::option::Option<"), "{made}");
    assert!(
        made.contains("pubtags:::std::collections::BTreeMap<::std::string::String,::std::option::Option<"),
        "{made}"
    );
}

/// What the generator cannot do it says, with the place.
#[test]
fn what_is_not_supported_is_refused() {
    for (old, new, expected) in [
        ("openapi: 3.1.0", "openapi: 3.0.3", "openapi must be 3.1.x"),
        ("maximum: 10,", "", "an integer needs its maximum"),
        ("maxLength: 8", "minLength: 0", "a string needs its maxLength"),
        ("additionalProperties: false", "additionalProperties: true", "an object of a request must be closed"),
        ("application/merge-patch+json", "text/plain", "several of JSON"),
        (
            "type: [string, 'null'], maxLength: 8 }\n        tags",
            "type: [string, integer, 'null'] }\n        tags",
            "one type beside null",
        ),
        ("meaning: A bug.", "", "internal has no meaning"),
        ("      x-first-message: Thing\n", "", "a WebSocket needs its x-first-message"),
        ("x-first-message: Thing", "x-first-message: Nothing", "schema Nothing is missing"),
        (
            "security: [{ bearerAuth: [watch, talk] }]",
            "security: [{ bearerAuth: [watch] }, { bearerAuth: [talk] }]",
            "several ways to be known are not supported",
        ),
        ("#/components/schemas/Thing'", "#/components/schemas/Nothing'", "schema Nothing is missing"),
    ] {
        assert!(SMALL.contains(old), "{old}");
        let error = dataplane_codegen::generate(&SMALL.replace(old, new)).unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#} lacks {expected}");
    }
}
