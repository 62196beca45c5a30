//! The wire types, made by typify.
//!
//! Bounds and patterns are taken out first: the runtime checks them by the rules, all at once and by field, before a
//! type is built. So a text stays a `String`, unless a newtype of ours says more about it.

use anyhow::{Context as _, Result};
use quote::ToTokens as _;
use schemars::schema::Schema;
use serde_json::{Map, Value, json};
use typify::{TypeSpace, TypeSpaceSettings};

use crate::document::Document;
use crate::naming;

pub(crate) fn generate(document: &Document) -> Result<String> {
    let mut settings = TypeSpaceSettings::default();
    settings.with_derive("PartialEq".to_owned()).with_map_type("::std::collections::BTreeMap");
    for name in document.schemas()?.keys() {
        if let Some(path) = naming::hand_written(name) {
            settings.with_replacement(name, path, std::iter::empty());
        }
    }
    let mut definitions = Vec::new();
    for (name, schema) in document.schemas()? {
        if naming::hand_written(name).is_none() && is_named(schema) {
            let plain = Plainer { document }.schema(schema).with_context(|| format!("schema {name}"))?;
            definitions.push((name.clone(), serde_json::from_value::<Schema>(plain)?));
        }
    }
    // A replaced type must still be known by name.
    for name in document.schemas()?.keys().filter(|name| naming::hand_written(name).is_some()) {
        definitions.push((name.clone(), serde_json::from_value::<Schema>(json!({ "type": "string" }))?));
    }
    let mut space = TypeSpace::new(&settings);
    space.add_ref_types(definitions).context("typify")?;
    let mut file: syn::File = syn::parse2(space.to_stream()).context("typify's output does not parse")?;
    tidy(document, &mut file.items);
    let about = "The wire types.";
    crate::pretty(about, file.into_token_stream())
}

/// Whether a schema becomes a Rust type of its own name: structs and enums do.
fn is_named(schema: &Value) -> bool {
    schema.get("properties").is_some() || schema.get("enum").is_some()
}

struct Plainer<'a> {
    document: &'a Document,
}

impl Plainer<'_> {
    /// The schema without what the rules check.
    fn schema(&self, schema: &Value) -> Result<Value> {
        if let Some(reference) = schema["$ref"].as_str() {
            let mut target = self.reference(reference)?;
            if let (Some(about), true) = (schema.get("description"), target.get("type").is_some()) {
                target["description"] = about.clone();
            }
            return Ok(target);
        }
        let mut plain = Map::new();
        for key in ["type", "format", "enum", "default", "required", "description"] {
            if let Some(value) = schema.get(key) {
                plain.insert(key.to_owned(), value.clone());
            }
        }
        if let Some(items) = schema.get("items") {
            plain.insert("items".to_owned(), self.schema(items)?);
        }
        if let Some(additional) = schema.get("additionalProperties") {
            let additional = if additional.is_object() { self.schema(additional)? } else { additional.clone() };
            plain.insert("additionalProperties".to_owned(), additional);
        }
        if let Some(properties) = schema["properties"].as_object() {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let mut plain_properties = Map::new();
            for (name, property) in properties {
                let mut property = self.schema(property).with_context(|| format!("property {name}"))?;
                // An absent list is not an empty one: `entrypoint: []` drops the image's.
                if property["type"] == "array" && !required.contains(&Value::String(name.clone())) {
                    property["type"] = json!(["array", "null"]);
                }
                plain_properties.insert(name.clone(), property);
            }
            plain.insert("properties".to_owned(), Value::Object(plain_properties));
        }
        Ok(Value::Object(plain))
    }

    /// Structs, enums and types of ours stay references; all else is put in place.
    fn reference(&self, reference: &str) -> Result<Value> {
        let name = naming::schema_of(reference).with_context(|| format!("{reference} is no schema"))?;
        let target = self.document.schema(name)?;
        if naming::hand_written(name).is_none() && !is_named(target) {
            return self.schema(target);
        }
        let reference = json!({ "$ref": format!("#/definitions/{name}") });
        Ok(match target.get("default") {
            Some(default) => json!({ "allOf": [reference], "default": default }),
            None => reference,
        })
    }
}

/// Brings fields back into the document's order and drops what nobody reads.
fn tidy(document: &Document, items: &mut Vec<syn::Item>) {
    items.retain(|item| !is_reference_conversion(item));
    for item in items {
        if let syn::Item::Struct(item) = item {
            drop_schema_text(&mut item.attrs);
            let name = item.ident.to_string();
            reorder(&document.property_order(&name), &mut item.fields);
            tell_null_from_absence(&document.nullable(&name), &mut item.fields);
        } else if let syn::Item::Enum(item) = item {
            drop_schema_text(&mut item.attrs);
        }
    }
}

fn reorder(order: &[String], fields: &mut syn::Fields) {
    let syn::Fields::Named(fields) = fields else { return };
    let mut all: Vec<syn::Field> = std::mem::take(&mut fields.named).into_iter().collect();
    all.sort_by_key(|field| {
        let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
        order.iter().position(|it| *it == name.trim_end_matches('_'))
    });
    fields.named = all.into_iter().collect();
}

/// An absent field is `None`, `null` is `Some(None)`.
fn tell_null_from_absence(nullable: &[String], fields: &mut syn::Fields) {
    for field in fields {
        if field.ident.as_ref().is_some_and(|name| nullable.iter().any(|it| name == it)) {
            let kind = &field.ty;
            field.ty = syn::parse_quote!(::std::option::Option<#kind>);
            field.attrs.push(syn::parse_quote!(#[serde(default, deserialize_with = "crate::json::present")]));
        }
    }
}

/// `impl From<&T> for T`, which is `clone` by another name.
fn is_reference_conversion(item: &syn::Item) -> bool {
    let syn::Item::Impl(item) = item else { return false };
    let Some((_, path, _)) = &item.trait_ else { return false };
    let text = path.to_token_stream().to_string().replace(' ', "");
    text.starts_with("::std::convert::From<&")
}

/// typify repeats each schema in its type's documentation.
fn drop_schema_text(attributes: &mut Vec<syn::Attribute>) {
    attributes.retain_mut(|attribute| {
        let syn::Meta::NameValue(meta) = &mut attribute.meta else { return true };
        let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &mut meta.value else { return true };
        !(meta.path.is_ident("doc") && (text.value().contains("<details>") || is_schema_line(&text.value())))
    });
}

fn is_schema_line(text: &str) -> bool {
    let text = text.trim();
    text.starts_with("```") || text.starts_with("</details>") || text.starts_with('{') && text.ends_with('}')
}
