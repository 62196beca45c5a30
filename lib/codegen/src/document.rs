//! The document as the generator sees it: references resolved, parts that it does not support refused.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

/// An OpenAPI 3.1 document.
pub(crate) struct Document {
    ordered: serde_yaml::Value,
    root: Value,
    /// All operations, by path and method.
    pub(crate) operations: Vec<Operation>,
}

/// One method of one path.
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) tag: String,
    pub(crate) summary: String,
    pub(crate) auth: bool,
    /// What the caller's token must allow.
    pub(crate) scopes: Vec<String>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<Body>,
    /// The media types that the body may have.
    pub(crate) consumes: Vec<String>,
    pub(crate) responses: Vec<Response>,
    /// For a WebSocket: the schema of the client's first message.
    pub(crate) first_message: Option<String>,
}

/// Where a parameter stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    Header,
}

pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) required: bool,
    pub(crate) about: String,
    pub(crate) schema: Value,
}

/// What an operation reads.
pub(crate) enum Body {
    /// JSON of this named schema.
    Json(String),
    /// The same, where no body means the schema's defaults.
    OptionalJson(String),
    /// Bytes, streamed.
    Stream,
}

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) about: String,
    pub(crate) headers: Vec<String>,
    /// Media type and schema; empty for an answer without a body.
    pub(crate) content: Vec<(String, Option<Value>)>,
}

impl Response {
    /// Whether it is rendered from a problem and not from a reply.
    pub(crate) fn is_problem(&self) -> bool {
        self.content.iter().any(|(media, _)| media == "application/problem+json")
    }
}

impl Document {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let ordered: serde_yaml::Value = serde_yaml::from_str(text)?;
        let root: Value = serde_json::to_value(&ordered)?;
        if !root["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")) {
            bail!("openapi must be 3.1.x");
        }
        let mut document = Self { ordered, root, operations: Vec::new() };
        document.operations = document.read_operations()?;
        Ok(document)
    }

    /// The document as JSON, in the order in which it was written.
    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(&self.ordered)? + "\n")
    }

    pub(crate) fn schemas(&self) -> Result<&Map<String, Value>> {
        self.root["components"]["schemas"].as_object().context("components.schemas is missing")
    }

    pub(crate) fn schema(&self, name: &str) -> Result<&Value> {
        self.schemas()?.get(name).with_context(|| format!("schema {name} is missing"))
    }

    /// The names of a schema's properties in the order in which they were written.
    pub(crate) fn property_order(&self, schema: &str) -> Vec<String> {
        let properties = &self.ordered["components"]["schemas"][schema]["properties"];
        let keys = properties.as_mapping().into_iter().flat_map(serde_yaml::Mapping::keys);
        keys.filter_map(|key| key.as_str().map(str::to_owned)).collect()
    }

    /// The properties of a schema that may be absent, and may be `null`, which means something else.
    pub(crate) fn nullable(&self, schema: &str) -> Vec<String> {
        let schema = &self.root["components"]["schemas"][schema];
        let required =
            |name: &String| schema["required"].as_array().is_some_and(|list| list.iter().any(|it| it == name));
        let properties = schema["properties"].as_object().into_iter().flatten();
        let nullable = properties.filter(|(name, property)| is_nullable(property) && !required(name));
        nullable.map(|(name, _)| name.clone()).collect()
    }

    /// Follows a `$ref`, once: the document has no chains outside of schemas.
    pub(crate) fn resolve<'a>(&'a self, value: &'a Value) -> Result<&'a Value> {
        let Some(reference) = value["$ref"].as_str() else { return Ok(value) };
        let pointer = reference.strip_prefix('#').with_context(|| format!("{reference} points outside"))?;
        self.root.pointer(pointer).with_context(|| format!("{reference} points nowhere"))
    }

    fn read_operations(&self) -> Result<Vec<Operation>> {
        let paths = self.root["paths"].as_object().context("paths is missing")?;
        let mut operations = Vec::new();
        for (path, item) in paths {
            for (method, operation) in item.as_object().with_context(|| format!("{path} is no object"))? {
                if method == "parameters" {
                    continue;
                }
                let read = self.read_operation(path, method, item, operation);
                operations.push(read.with_context(|| format!("{method} {path}"))?);
            }
        }
        Ok(operations)
    }

    fn read_operation(&self, path: &str, method: &str, item: &Value, operation: &Value) -> Result<Operation> {
        if !["get", "post", "put", "patch", "delete"].contains(&method) {
            bail!("{method} is not supported");
        }
        let text = |key: &str| operation[key].as_str().map(str::to_owned).with_context(|| format!("{key} is missing"));
        let parameters = [&item["parameters"], &operation["parameters"]]
            .into_iter()
            .flat_map(|list| list.as_array().into_iter().flatten())
            .map(|parameter| self.read_parameter(parameter))
            .collect::<Result<Vec<_>>>()?;
        let responses = operation["responses"].as_object().context("responses is missing")?;
        let (body, consumes) = self.read_body(&operation["requestBody"])?;
        let security = operation["security"].as_array().or_else(|| self.root["security"].as_array());
        Ok(Operation {
            id: text("operationId")?,
            method: method.to_uppercase(),
            path: path.to_owned(),
            tag: operation["tags"][0].as_str().context("a tag is missing")?.to_owned(),
            summary: text("summary")?,
            auth: security.is_some_and(|list| !list.is_empty()),
            scopes: read_scopes(security.map_or(&[], Vec::as_slice))?,
            first_message: operation["x-first-message"].as_str().map(str::to_owned),
            parameters,
            body,
            consumes,
            responses: responses.iter().map(|(status, it)| self.read_response(status, it)).collect::<Result<_>>()?,
        })
    }

    fn read_parameter(&self, value: &Value) -> Result<Parameter> {
        let value = self.resolve(value)?;
        let name = value["name"].as_str().context("a parameter has no name")?.to_owned();
        let place = match value["in"].as_str() {
            Some("path") => Place::Path,
            Some("query") => Place::Query,
            Some("header") => Place::Header,
            other => bail!("parameter {name} in {other:?} is not supported"),
        };
        Ok(Parameter {
            place,
            required: value["required"].as_bool().unwrap_or(false),
            about: value["description"].as_str().unwrap_or_default().to_owned(),
            schema: value["schema"].clone(),
            name,
        })
    }

    /// What a body is, and the media types that it may have.
    fn read_body(&self, value: &Value) -> Result<(Option<Body>, Vec<String>)> {
        if value.is_null() {
            return Ok((None, Vec::new()));
        }
        let value = self.resolve(value)?;
        let content = value["content"].as_object().context("requestBody has no content")?;
        let consumes: Vec<String> = content.keys().cloned().collect();
        let is_json = |media: &String| media == "application/json" || media.ends_with("+json");
        if let ([media], false) = (consumes.as_slice(), consumes.iter().any(is_json)) {
            return Ok((Some(Body::Stream), vec![media.clone()]));
        }
        if !consumes.iter().all(is_json) {
            bail!("one media type, or several of JSON, please");
        }
        let mut names = content.values().map(|it| it["schema"]["$ref"].as_str().and_then(crate::naming::schema_of));
        let name = names.next().flatten().context("a JSON body must name its schema")?;
        if names.any(|other| other != Some(name)) {
            bail!("all media types of a body must have one schema");
        }
        let is_required = value["required"].as_bool().unwrap_or(false);
        let name = name.to_owned();
        Ok((Some(if is_required { Body::Json(name) } else { Body::OptionalJson(name) }), consumes))
    }

    fn read_response(&self, status: &str, value: &Value) -> Result<Response> {
        let value = self.resolve(value)?;
        let content = value["content"].as_object().cloned().unwrap_or_default();
        let headers = value["headers"].as_object().cloned().unwrap_or_default();
        Ok(Response {
            status: status.parse().with_context(|| format!("status {status} is no number"))?,
            about: value["description"].as_str().unwrap_or_default().to_owned(),
            headers: headers.keys().cloned().collect(),
            content: content.into_iter().map(|(media, it)| (media, it.get("schema").cloned())).collect(),
        })
    }
}

/// The scopes of the one way to be known.
fn read_scopes(security: &[Value]) -> Result<Vec<String>> {
    let ways: Vec<&Value> = security.iter().filter_map(Value::as_object).flat_map(Map::values).collect();
    match ways.as_slice() {
        [] => Ok(Vec::new()),
        [scopes] => Ok(scopes.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()),
        _ => bail!("several ways to be known are not supported"),
    }
}

/// Whether `null` is one of a schema's types.
pub(crate) fn is_nullable(schema: &Value) -> bool {
    schema["type"].as_array().is_some_and(|types| types.iter().any(|it| it == "null"))
}
