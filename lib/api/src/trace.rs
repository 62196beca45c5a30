//! Request ids and W3C trace context.

use axum::http::HeaderMap;

/// The caller's `X-Request-Id` if it can be used, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let usable = |text: &&str| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok()).filter(usable);
    given.map_or_else(|| uuid::Uuid::now_v7().simple().to_string(), str::to_owned)
}

/// The `traceparent` of our own part of the trace: the caller's trace id and flags, or new ones, and a new span id.
pub(crate) fn traceparent(headers: &HeaderMap) -> String {
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(trace_of);
    let (trace_id, flags) = given.unwrap_or_else(|| (uuid::Uuid::new_v4().simple().to_string(), "00".to_owned()));
    // The variant bits of a version 4 UUID make sure that this half is never all zero.
    let (_, span_id) = uuid::Uuid::new_v4().as_u64_pair();
    format!("00-{trace_id}-{span_id:016x}-{flags}")
}

/// Trace id and flags of a valid `traceparent`; a higher version may have more behind them.
fn trace_of(text: &str) -> Option<(String, String)> {
    let mut parts = text.split('-');
    let (version, trace_id) = (parts.next()?, parts.next()?);
    let (parent_id, flags) = (parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let form = is_hex(version, 2) && is_hex(trace_id, 32) && is_hex(parent_id, 16) && is_hex(flags, 2);
    let known = version != "ff" && (version != "00" || parts.next().is_none());
    (form && known && !is_zero(trace_id) && !is_zero(parent_id)).then(|| (trace_id.to_owned(), flags.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(axum::http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_usable_request_id_is_kept() {
        assert_eq!(request_id(&headers("x-request-id", "abc-1.2_3")), "abc-1.2_3");
        for bad in ["", "a b", "a\tb", &"a".repeat(129)] {
            let id = request_id(&headers("x-request-id", bad));
            assert_eq!(id.len(), 32, "{bad:?} gave {id}");
        }
    }

    #[test]
    fn a_trace_goes_on_with_a_span_of_ours() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let ours = traceparent(&headers("traceparent", &format!("00-{trace}-b7ad6b7169203331-01")));
        assert!(ours.starts_with(&format!("00-{trace}-")) && ours.ends_with("-01") && !ours.contains("b7ad6b71"));
        for bad in [
            "",
            "00",
            &format!("ff-{trace}-b7ad6b7169203331-01"),
            &format!("00-{trace}-0000000000000000-01"),
            &format!("00-{trace}-b7ad6b7169203331-01-x"),
            &format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
        ] {
            let ours = traceparent(&headers("traceparent", bad));
            assert!(trace_of(&ours).is_some() && !ours.contains(trace), "{bad}");
        }
    }
}
