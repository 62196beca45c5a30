//! Every example of the document is valid by the document itself.

#![expect(clippy::unwrap_used, reason = "tests fail by it, helpers of tests too")]

use serde_json::{Value, json};

#[test]
fn examples_obey_their_schemas() {
    let document: Value = serde_json::from_str(dataplane_api::SPEC_JSON).unwrap();
    let mut checked = 0;
    walk(&document, &document, &mut checked);
    assert!(checked > 15, "only {checked} examples were found");
}

fn walk(document: &Value, value: &Value, checked: &mut usize) {
    if let Some(examples) = value["examples"].as_array() {
        examples.iter().for_each(|example| check(document, value, example, checked));
    }
    if let (Some(examples), Some(schema)) = (value["examples"].as_object(), value.get("schema")) {
        examples.values().for_each(|example| check(document, schema, &example["value"], checked));
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(document, item, checked)),
        Value::Object(entries) => entries.values().for_each(|entry| walk(document, entry, checked)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn check(document: &Value, schema: &Value, example: &Value, checked: &mut usize) {
    let mut whole = schema.clone();
    whole["components"] = document["components"].clone();
    whole["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    let validator = jsonschema::validator_for(&whole).unwrap();
    let errors: Vec<String> = validator.iter_errors(example).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{example}: {errors:?}");
    *checked += 1;
}
