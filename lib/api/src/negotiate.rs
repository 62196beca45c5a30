//! Media types: what the caller takes (`Accept`) and what it sends (`Content-Type`).

use axum::http::{HeaderMap, HeaderValue, header};

use crate::{Operation, Problem, ProblemCode};

/// The media type of the answer, chosen by `Accept`; the operation's first where the caller does not care.
pub(crate) fn accepted(operation: &Operation, headers: &HeaderMap) -> Result<&'static str, Problem> {
    let Some(first) = operation.produces.first() else { return Ok("") };
    let mut ranges = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        let text = value.to_str().map_err(|_| Problem::new(ProblemCode::BadRequest, "Accept cannot be read"))?;
        ranges.extend(text.split(',').map(str::trim).filter(|range| !range.is_empty()).map(Range::parse));
    }
    if ranges.is_empty() {
        return Ok(first);
    }
    let mut best: Option<(&'static str, u16)> = None;
    for media in operation.produces {
        let quality = quality(media, &ranges);
        if quality > best.map_or(0, |(_, quality)| quality) {
            best = Some((media, quality));
        }
    }
    let offer = || format!("this answers with {}", operation.produces.join(" or "));
    best.map(|(media, _)| media).ok_or_else(|| Problem::new(ProblemCode::NotAcceptable, offer()))
}

/// The quality of a media type is that of the most specific range that it matches (RFC 9110, 12.5.1).
fn quality(media: &str, ranges: &[Range<'_>]) -> u16 {
    let matching = ranges.iter().filter_map(|range| Some((range.specificity(media)?, range.quality)));
    matching.max_by_key(|(specificity, _)| *specificity).map_or(0, |(_, quality)| quality)
}

struct Range<'a> {
    media: &'a str,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Self { media, quality: quality.map_or(1000, thousandths) }
    }

    fn specificity(&self, media: &str) -> Option<u8> {
        let kind = media.split('/').next().unwrap_or_default();
        let any_of_kind = self.media.strip_suffix("/*").is_some_and(|it| it.eq_ignore_ascii_case(kind));
        match () {
            () if self.media.eq_ignore_ascii_case(media) => Some(2),
            () if any_of_kind => Some(1),
            () if self.media == "*/*" => Some(0),
            () => None,
        }
    }
}

/// `0.5` → 500; what is no quality counts as 0.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = if digits { format!("{fraction:0<3}").parse().unwrap_or(0) } else { 0 };
    match whole {
        "0" => fraction,
        "1" => 1000,
        _ => 0,
    }
}

/// Refuses a body that is not of the operation's media types, or is compressed.
pub(crate) fn check_content(operation: &Operation, headers: &HeaderMap) -> Result<(), Problem> {
    let wanted = operation.consumes;
    if wanted.is_empty() || !operation.needs_body && has_no_body(headers) {
        return Ok(());
    }
    let refuse = |what: String| Err(Problem::new(ProblemCode::UnsupportedMediaType, what));
    let mut given = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return refuse(format!("Content-Type must be {}", wanted.join(" or ")));
    };
    let mut parts = value.to_str().unwrap_or_default().split(';').map(str::trim);
    let given = parts.next().unwrap_or_default();
    let same = wanted.iter().any(|media| media.eq_ignore_ascii_case(given));
    let charset = |part: &str| !part.to_ascii_lowercase().starts_with("charset=") || is_utf8(part);
    if !same || !parts.all(charset) {
        return refuse(format!("Content-Type must be {}", wanted.join(" or ")));
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            refuse("Content-Encoding is not supported".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

fn has_no_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
    matches!(length, None | Some(b"0")) && !headers.contains_key(header::TRANSFER_ENCODING)
}

fn is_utf8(part: &str) -> bool {
    let charset = part.get("charset=".len()..).unwrap_or_default();
    charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGS: Operation = Operation {
        id: "logs",
        method: "GET",
        path: "/logs",
        auth: true,
        scopes: &[],
        query: &[],
        produces: &["text/event-stream", "text/plain"],
        consumes: &["application/merge-patch+json", "application/json"],
        needs_body: true,
        statuses: &[200],
    };

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_best_quality_wins_and_the_first_is_the_default() {
        for (accept, expected) in [
            ("*/*", Some("text/event-stream")),
            ("", Some("text/event-stream")),
            ("text/plain", Some("text/plain")),
            ("text/event-stream;q=0.4, text/plain;q=0.5", Some("text/plain")),
            ("text/*;q=0.1, text/plain;q=0", Some("text/event-stream")),
            ("Text/Plain; q=0.001", Some("text/plain")),
            ("*/*;q=0", None),
            ("application/json", None),
            ("text/plain;q=2", None),
        ] {
            let found = accepted(&LOGS, &headers(header::ACCEPT, accept)).ok();
            assert_eq!(found, expected, "{accept}");
        }
    }

    #[test]
    fn a_body_must_have_its_declared_type() {
        for (content_type, good) in [
            ("application/json", true),
            ("Application/JSON; charset=\"UTF-8\"", true),
            ("application/json; charset=latin1", false),
            ("application/merge-patch+json", true),
            ("application/json-patch+json", false),
            ("application/json5", false),
            ("text/plain", false),
            ("", false),
        ] {
            let result = check_content(&LOGS, &headers(header::CONTENT_TYPE, content_type));
            assert_eq!(result.is_ok(), good, "{content_type}");
        }
        assert!(check_content(&LOGS, &HeaderMap::new()).is_err());
        let mut twice = headers(header::CONTENT_TYPE, "application/json");
        twice.append(header::CONTENT_TYPE, "text/plain".parse().unwrap());
        assert!(check_content(&LOGS, &twice).is_err());
        let mut packed = headers(header::CONTENT_TYPE, "application/json");
        packed.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(check_content(&LOGS, &packed).is_err());
    }
}
