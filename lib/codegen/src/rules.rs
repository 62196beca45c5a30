//! The rules that request bodies and parameters must follow, as static tables that the runtime reads.
//!
//! The types alone cannot hold them: a type knows no bounds, and reports the first error only.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use serde_json::Value;

use crate::document::{Body, Document, Operation, Parameter, is_nullable};
use crate::naming;

/// The constant of a parameter's rule.
pub(crate) fn parameter_rule(operation: &Operation, parameter: &Parameter) -> proc_macro2::Ident {
    naming::constant(&format!("{}_{}", operation.id, parameter.name))
}

pub(crate) fn generate(document: &Document) -> Result<TokenStream> {
    let mut writer = Writer { document, patterns: BTreeMap::new(), named: BTreeMap::new(), own: Vec::new() };
    for operation in &document.operations {
        for parameter in &operation.parameters {
            let rule = writer.rule(&parameter.schema).with_context(|| format!("parameter {}", parameter.name))?;
            let name = parameter_rule(operation, parameter);
            writer.own.push(quote!(pub(super) static #name: Rule = #rule;));
        }
        if let Some(Body::Json(schema) | Body::OptionalJson(schema)) = &operation.body {
            writer.reach(schema)?;
        }
    }
    let patterns = writer.patterns.iter().map(|(source, index)| {
        let name = format_ident!("PATTERN_{index}");
        quote!(static #name: Pattern = Pattern::new(#source);)
    });
    let (named, own) = (writer.named.values(), &writer.own);
    Ok(quote! {
        use crate::rule::{Field, Pattern, Rule};

        #(#patterns)*
        #(#named)*
        #(#own)*
    })
}

struct Writer<'a> {
    document: &'a Document,
    patterns: BTreeMap<String, usize>,
    named: BTreeMap<String, TokenStream>,
    own: Vec<TokenStream>,
}

impl Writer<'_> {
    /// Makes sure that a named schema has its rule.
    fn reach(&mut self, name: &str) -> Result<()> {
        if self.named.contains_key(name) {
            return Ok(());
        }
        self.named.insert(name.to_owned(), TokenStream::new());
        let schema = self.document.schema(name)?;
        let rule = self.rule(schema).with_context(|| format!("schema {name}"))?;
        let constant = naming::constant(name);
        self.named.insert(name.to_owned(), quote!(pub(super) static #constant: Rule = #rule;));
        Ok(())
    }

    fn rule(&mut self, schema: &Value) -> Result<TokenStream> {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = naming::schema_of(reference).with_context(|| format!("{reference} is no schema"))?;
            self.reach(name)?;
            let constant = naming::constant(name);
            return Ok(quote!(Rule::Named(&#constant)));
        }
        if is_nullable(schema) {
            return self.nullable(schema);
        }
        match schema["type"].as_str() {
            Some("boolean") => Ok(quote!(Rule::Boolean)),
            Some("integer") => {
                let bound = |key: &str| schema[key].as_i64().with_context(|| format!("an integer needs its {key}"));
                let (min, max) = (bound("minimum")?, bound("maximum")?);
                Ok(quote!(Rule::Integer { min: #min, max: #max }))
            }
            Some("string") => self.string(schema),
            Some("array") => {
                let items = self.rule(&schema["items"])?;
                let (min, max) = (count(schema, "minItems")?.unwrap_or(0), count(schema, "maxItems")?);
                let max = max.context("an array needs its maxItems")?;
                Ok(quote!(Rule::Array { items: &#items, min: #min, max: #max }))
            }
            Some("object") => self.object(schema),
            other => bail!("type {other:?} is not supported in requests"),
        }
    }

    /// `type: [string, 'null']`
    fn nullable(&mut self, schema: &Value) -> Result<TokenStream> {
        let mut types = schema["type"].as_array().into_iter().flatten().filter(|it| *it != "null");
        let (Some(one), None) = (types.next(), types.next()) else { bail!("one type beside null, please") };
        let mut plain = schema.clone();
        plain["type"] = one.clone();
        let rule = self.rule(&plain)?;
        Ok(quote!(Rule::Nullable(&#rule)))
    }

    fn string(&mut self, schema: &Value) -> Result<TokenStream> {
        if let Some(values) = schema["enum"].as_array() {
            let values = values.iter().map(|value| value.as_str().context("only texts in an enum"));
            let values = values.collect::<Result<Vec<_>>>()?;
            return Ok(quote!(Rule::Choice(&[#(#values),*])));
        }
        let min = count(schema, "minLength")?.unwrap_or(0);
        let max = count(schema, "maxLength")?.context("a string needs its maxLength")?;
        let pattern = match schema["pattern"].as_str() {
            Some(source) => {
                let next = self.patterns.len();
                let index = *self.patterns.entry(source.to_owned()).or_insert(next);
                let name = format_ident!("PATTERN_{index}");
                quote!(Some(&#name))
            }
            None => quote!(None),
        };
        Ok(quote!(Rule::Text { min: #min, max: #max, pattern: #pattern }))
    }

    fn object(&mut self, schema: &Value) -> Result<TokenStream> {
        if schema["additionalProperties"].is_object() {
            let values = self.rule(&schema["additionalProperties"])?;
            let keys = self.rule(&schema["propertyNames"]).context("a map needs its propertyNames")?;
            let max = count(schema, "maxProperties")?.context("a map needs its maxProperties")?;
            return Ok(quote!(Rule::Map { keys: &#keys, values: &#values, max: #max }));
        }
        if schema["additionalProperties"] != Value::Bool(false) {
            bail!("an object of a request must be closed");
        }
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields = Vec::new();
        for (name, property) in schema["properties"].as_object().context("an object needs its properties")? {
            let rule = self.rule(property).with_context(|| format!("property {name}"))?;
            let required = required.contains(&name.as_str());
            fields.push(quote!(Field { name: #name, required: #required, rule: &#rule }));
        }
        Ok(quote!(Rule::Object(&[#(#fields),*])))
    }
}

fn count(schema: &Value, key: &str) -> Result<Option<usize>> {
    let Some(value) = schema.get(key) else { return Ok(None) };
    let value = value.as_u64().and_then(|value| usize::try_from(value).ok());
    value.map(Some).with_context(|| format!("{key} must be a count"))
}
