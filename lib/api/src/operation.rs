//! One operation of the document, as the router needs it.

/// One method of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The document's `operationId`.
    pub id: &'static str,
    /// Upper case.
    pub method: &'static str,
    /// With `{name}` for parameters.
    pub path: &'static str,
    /// Whether the caller must be known.
    pub auth: bool,
    /// What the caller's token must allow, where there is one.
    pub scopes: &'static [&'static str],
    /// The query parameters that it has; any other is refused.
    pub query: &'static [&'static str],
    /// The media types of its answers, the default first.
    pub produces: &'static [&'static str],
    /// The media types that its body may have; none where it has no body.
    pub consumes: &'static [&'static str],
    /// Whether there must be a body.
    pub needs_body: bool,
    /// Every status that it may answer.
    pub statuses: &'static [u16],
}

impl Operation {
    /// Whether it changes something.
    #[must_use]
    pub fn is_mutation(&self) -> bool {
        self.method != "GET"
    }
}
