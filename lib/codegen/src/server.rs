//! Request structs, reply enums, one trait per tag, the table of operations, and the router.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use heck::ToUpperCamelCase as _;
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use serde_json::Value;

use crate::document::{Body, Document, Operation, Parameter, Place, Response};
use crate::{naming, rules};

/// The status of an answer that becomes a WebSocket.
const SWITCHING: u16 = 101;

pub(crate) fn generate(document: &Document) -> Result<TokenStream> {
    let mut parts = Vec::new();
    for operation in &document.operations {
        parts.push(requests(document, operation).with_context(|| operation.id.clone())?);
        parts.push(replies(operation).with_context(|| operation.id.clone())?);
    }
    let (traits, router) = (traits(document), router(document));
    let table = table(document);
    Ok(quote! {
        use std::future::Future;
        use std::sync::Arc;

        use super::{rules, types};
        use crate::input::FromInput;
        use crate::reply::IntoReply;
        use crate::router::Routes;
        use crate::{Cx, Input, Operation, Problem, Reply, Runtime};

        #table
        #traits
        #router
        #(#parts)*
    })
}

/// The success answers in the order of the document, each with one media type or none.
fn successes(operation: &Operation) -> impl Iterator<Item = (&Response, Option<(&str, Option<&Value>)>)> {
    operation.responses.iter().filter(|response| !response.is_problem()).flat_map(|response| {
        let content = response.content.iter().map(|(media, schema)| Some((media.as_str(), schema.as_ref())));
        let empty = response.content.is_empty().then_some(None);
        content.chain(empty).map(move |content| (response, content))
    })
}

/// The media types that a caller may choose between.
fn produced(operation: &Operation) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for (_, content) in successes(operation) {
        if let Some((media, _)) = content
            && !all.contains(&media)
        {
            all.push(media);
        }
    }
    all
}

fn table(document: &Document) -> TokenStream {
    let mut constants = Vec::new();
    let mut names = Vec::new();
    for operation in &document.operations {
        let name = naming::constant(&operation.id);
        let (id, method, path, auth) = (&operation.id, &operation.method, &operation.path, operation.auth);
        let query = operation.parameters.iter().filter(|it| it.place == Place::Query).map(|it| &it.name);
        let produces = produced(operation);
        let consumes = &operation.consumes;
        let needs_body = !matches!(operation.body, None | Some(Body::OptionalJson(_)));
        let scopes = &operation.scopes;
        let statuses = operation.responses.iter().map(|response| response.status);
        constants.push(quote! {
            pub(super) const #name: Operation = Operation {
                id: #id, method: #method, path: #path, auth: #auth, scopes: &[#(#scopes),*], query: &[#(#query),*],
                produces: &[#(#produces),*], consumes: &[#(#consumes),*], needs_body: #needs_body,
                statuses: &[#(#statuses),*],
            };
        });
        names.push(quote!(operations::#name));
    }
    quote! {
        mod operations {
            use crate::Operation;
            #(#constants)*
        }
        /// Every operation of the document; the router answers nothing else.
        pub const OPERATIONS: &[Operation] = &[#(#names),*];
    }
}

fn traits(document: &Document) -> TokenStream {
    let mut by_tag: BTreeMap<&str, Vec<TokenStream>> = BTreeMap::new();
    for operation in &document.operations {
        let name = naming::field(&operation.id);
        let (request, reply) = (naming::type_name(&operation.id), reply_name(operation));
        let about = format!(" `{} {}`: {}", operation.method, operation.path, operation.summary);
        by_tag.entry(&operation.tag).or_default().push(quote! {
            #[doc = #about]
            fn #name(&self, cx: Cx, request: #request) -> impl Future<Output = Result<#reply, Problem>> + Send;
        });
    }
    let names: Vec<Ident> = by_tag.keys().map(|tag| trait_name(tag)).collect();
    let traits = by_tag.iter().map(|(tag, methods)| {
        let (name, about) = (trait_name(tag), format!(" The operations of `{tag}`."));
        quote! {
            #[doc = #about]
            pub trait #name: Send + Sync + 'static { #(#methods)* }
        }
    });
    quote! {
        #(#traits)*
        /// All operations.
        pub trait Api: #(#names)+* {}
        impl<T: #(#names)+*> Api for T {}
    }
}

fn trait_name(tag: &str) -> Ident {
    format_ident!("{}Api", tag.to_upper_camel_case())
}

fn router(document: &Document) -> TokenStream {
    let routes = document.operations.iter().map(|operation| {
        let (constant, method) = (naming::constant(&operation.id), naming::field(&operation.id));
        let request = naming::type_name(&operation.id);
        quote! {
            .add(&operations::#constant, |api: Arc<A>, cx: Cx, request: #request| async move {
                api.#method(cx, request).await
            })
        }
    });
    quote! {
        /// The routes of the document, and nothing else.
        pub fn router<A: Api>(api: Arc<A>, runtime: Runtime) -> axum::Router {
            Routes::new(api, runtime) #(#routes)* .build()
        }
    }
}

/// The Rust type of a parameter's value, without its absence.
fn value_type(document: &Document, schema: &Value) -> Result<TokenStream> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = naming::schema_of(reference).with_context(|| format!("{reference} is no schema"))?;
        if let Some(path) = naming::hand_written(name) {
            let path: syn::Path = syn::parse_str(path)?;
            return Ok(quote!(#path));
        }
        let target = document.schema(name)?;
        if target.get("enum").is_some() {
            let name = naming::type_name(name);
            return Ok(quote!(types::#name));
        }
        return value_type(document, target);
    }
    Ok(match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("boolean"), _) => quote!(bool),
        (Some("string"), None) => quote!(String),
        (Some("integer"), Some("uint32")) => quote!(u32),
        (Some("integer"), Some("uint64")) => quote!(u64),
        (kind, format) => bail!("a parameter of type {kind:?}, format {format:?} is not supported"),
    })
}

fn parameter(document: &Document, operation: &Operation, it: &Parameter) -> Result<(TokenStream, TokenStream)> {
    let (field, name, about) = (naming::field(&it.name), &it.name, format!(" {}", it.about));
    let rule = rules::parameter_rule(operation, it);
    let read = match it.place {
        Place::Path => quote!(input.path(#name, &rules::#rule)?),
        Place::Query if it.schema["type"] == "array" => quote!(input.query_all(#name, &rules::#rule)?),
        Place::Query => quote!(input.query(#name, &rules::#rule)?),
        Place::Header => quote!(input.header(#name, &rules::#rule)?),
    };
    let declare = |kind: TokenStream| quote!(#[doc = #about] pub #field: #kind,);
    if it.schema["type"] == "array" {
        let kind = value_type(document, &it.schema["items"])?;
        return Ok((declare(quote!(Vec<#kind>)), quote!(#field: #read,)));
    }
    let kind = value_type(document, &it.schema)?;
    let default = match &it.schema["default"] {
        Value::Null => None,
        Value::Bool(value) => Some(quote!(#value)),
        Value::Number(number) => {
            let number = proc_macro2::Literal::u64_unsuffixed(number.as_u64().context("a default must be a count")?);
            Some(quote!(#number))
        }
        other @ (Value::String(_) | Value::Array(_) | Value::Object(_)) => bail!("default {other} is not supported"),
    };
    Ok(match default {
        Some(default) => (declare(kind), quote!(#field: #read.unwrap_or(#default),)),
        None if it.place == Place::Path => (declare(kind), quote!(#field: #read,)),
        None if it.required => bail!("a required {name} outside of the path is not supported"),
        None => (declare(quote!(Option<#kind>)), quote!(#field: #read,)),
    })
}

fn requests(document: &Document, operation: &Operation) -> Result<TokenStream> {
    let name = naming::type_name(&operation.id);
    let (mut declared, mut read) = (Vec::new(), Vec::new());
    for it in &operation.parameters {
        let (declare, take) = parameter(document, operation, it)?;
        declared.push(declare);
        read.push(take);
    }
    let media = produced(operation);
    let choice = if media.len() > 1 { Some(choice(operation, &media)?) } else { None };
    if choice.is_some() {
        let kind = choice_name(operation);
        declared.push(quote!(#[doc = " What `Accept` asks for."] pub accept: #kind,));
        read.push(quote!(accept: #kind::of(input.accepted()),));
    }
    if operation.responses.iter().any(|response| response.status == SWITCHING) {
        let first = operation.first_message.as_ref().context("a WebSocket needs its x-first-message")?;
        document.schema(first)?;
        let rule = naming::constant(first);
        declared.push(quote!(#[doc = " The connection, to be taken over."] pub upgrade: crate::Upgrade,));
        read.push(quote!(upgrade: input.upgrade(&rules::#rule).await?,));
    }
    match &operation.body {
        None => {}
        Some(Body::Json(schema)) => {
            let (kind, rule) = (naming::type_name(schema), naming::constant(schema));
            declared.push(quote!(#[doc = " The body."] pub body: types::#kind,));
            read.push(quote!(body: input.json(&rules::#rule).await?,));
        }
        Some(Body::OptionalJson(schema)) => {
            let (kind, rule) = (naming::type_name(schema), naming::constant(schema));
            declared.push(quote!(#[doc = " The body; its defaults where there is none."] pub body: types::#kind,));
            read.push(quote!(body: input.json_or_default(&rules::#rule).await?,));
        }
        Some(Body::Stream) => {
            declared.push(quote!(#[doc = " The body, as it arrives."] pub body: crate::BodyStream,));
            read.push(quote!(body: input.stream(),));
        }
    }
    let about = format!(" What `{} {}` is asked.", operation.method, operation.path);
    let path = path_of(document, operation)?;
    let input = if read.is_empty() { quote!(_input) } else { quote!(input) };
    Ok(quote! {
        #[doc = #about]
        #[derive(Debug)]
        pub struct #name { #(#declared)* }

        impl FromInput for #name {
            async fn from_input(#input: &mut Input) -> Result<Self, Problem> {
                Ok(Self { #(#read)* })
            }
        }
        #path
        #choice
    })
}

/// `GetInstance::location(&id)`, for `Location`.
fn path_of(document: &Document, operation: &Operation) -> Result<Option<TokenStream>> {
    let parameters: Vec<_> = operation.parameters.iter().filter(|it| it.place == Place::Path).collect();
    if operation.method != "GET" || parameters.is_empty() {
        return Ok(None);
    }
    let name = naming::type_name(&operation.id);
    let mut arguments = Vec::new();
    for it in parameters {
        let (field, kind) = (naming::field(&it.name), value_type(document, &it.schema)?);
        arguments.push(quote!(#field: &#kind));
    }
    let (path, about) = (&operation.path, format!(" The path `{}`.", operation.path));
    Ok(Some(quote! {
        impl #name {
            #[doc = #about]
            #[must_use]
            pub fn location(#(#arguments),*) -> String { format!(#path) }
        }
    }))
}

fn choice_name(operation: &Operation) -> Ident {
    format_ident!("{}Accept", operation.id.to_upper_camel_case())
}

fn choice(operation: &Operation, media: &[&str]) -> Result<TokenStream> {
    let name = choice_name(operation);
    let about = format!(" The media types of `{} {}`, the default first.", operation.method, operation.path);
    let variants: Vec<Ident> = media.iter().map(|media| media_name(media)).collect();
    let abouts = media.iter().map(|media| format!(" `{media}`"));
    let (Some(first), Some(rest)) = (variants.first(), variants.get(1..)) else { bail!("no media type") };
    let rest = rest.iter().zip(media.iter().skip(1)).map(|(variant, media)| quote!(#media => Self::#variant,));
    Ok(quote! {
        #[doc = #about]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum #name { #(#[doc = #abouts] #variants,)* }
        impl #name {
            fn of(media: &str) -> Self {
                match media { #(#rest)* _ => Self::#first }
            }
        }
    })
}

/// `text/event-stream` → `EventStream`.
fn media_name(media: &str) -> Ident {
    let (_, subtype) = media.split_once('/').unwrap_or(("", media));
    format_ident!("{}", subtype.to_upper_camel_case())
}

fn reply_name(operation: &Operation) -> Ident {
    format_ident!("{}Reply", operation.id.to_upper_camel_case())
}

fn status_name(status: u16) -> Result<&'static str> {
    Ok(match status {
        SWITCHING => "Switching",
        200 => "Ok",
        201 => "Created",
        202 => "Accepted",
        204 => "NoContent",
        503 => "ServiceUnavailable",
        other => bail!("status {other} without a problem is not supported"),
    })
}

fn replies(operation: &Operation) -> Result<TokenStream> {
    let name = reply_name(operation);
    let (mut variants, mut arms) = (Vec::new(), Vec::new());
    for (response, content) in successes(operation) {
        let status = response.status;
        let several = response.content.len() > 1;
        let mut variant = status_name(status)?.to_owned();
        if let (true, Some((media, _))) = (several, content) {
            variant += &media_name(media).to_string();
        }
        let (variant, about) = (format_ident!("{variant}"), format!(" {status}: {}", response.about));
        let (mut declared, mut bound, mut headers) = (Vec::new(), Vec::new(), Vec::new());
        for header in &response.headers {
            match header.as_str() {
                "X-Request-Id" => {}
                "ETag" => {
                    declared.push(quote!(#[doc = " The version of the resource."] etag: crate::ETag,));
                    bound.push(quote!(etag));
                    headers.push(quote!(.header("etag", etag.as_str())));
                }
                "Location" => {
                    declared.push(quote!(#[doc = " The path of the resource."] location: String,));
                    bound.push(quote!(location));
                    headers.push(quote!(.header("location", &location)));
                }
                "Preference-Applied" => headers.push(quote!(.header("preference-applied", "respond-async"))),
                other => bail!("header {other} is not supported"),
            }
        }
        let make = match content {
            None if status == SWITCHING => {
                declared.push(quote!(#[doc = " What is said on the WebSocket."] body: crate::SocketReply,));
                bound.push(quote!(body));
                quote!(Reply::socket(body))
            }
            None => quote!(Reply::empty(#status)),
            Some((media, schema)) => {
                let (kind, make) = body_of(status, media, schema)?;
                declared.push(quote!(#[doc = " The body."] body: #kind,));
                bound.push(quote!(body));
                make
            }
        };
        if declared.is_empty() {
            variants.push(quote!(#[doc = #about] #variant,));
            arms.push(quote!(Self::#variant => #make,));
        } else {
            variants.push(quote!(#[doc = #about] #variant { #(#declared)* },));
            arms.push(quote!(Self::#variant { #(#bound),* } => #make #(#headers)*,));
        }
    }
    let about = format!(" What `{} {}` answers, when nothing is wrong.", operation.method, operation.path);
    Ok(quote! {
        #[doc = #about]
        #[derive(Debug)]
        pub enum #name { #(#variants)* }
        impl IntoReply for #name {
            fn into_reply(self) -> Reply { match self { #(#arms)* } }
        }
    })
}

fn body_of(status: u16, media: &str, schema: Option<&Value>) -> Result<(TokenStream, TokenStream)> {
    let reference = schema.and_then(|schema| schema["$ref"].as_str()).and_then(naming::schema_of);
    Ok(match (media, reference) {
        ("application/json", Some(schema)) => {
            let kind = naming::type_name(schema);
            (quote!(types::#kind), quote!(Reply::json(#status, &body)))
        }
        ("text/event-stream", None) => (quote!(crate::SseStream), quote!(Reply::events(#status, body))),
        ("text/plain" | "application/x-tar", None) => {
            (quote!(crate::ByteStream), quote!(Reply::stream(#status, #media, body)))
        }
        ("application/json" | "application/yaml", None) => {
            (quote!(bytes::Bytes), quote!(Reply::bytes(#status, #media, body)))
        }
        other => bail!("answer {other:?} is not supported"),
    })
}
