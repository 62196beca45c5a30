//! Extended headers of the pax format: `length key=value\n`, the length counting the whole record.
//!
//! Values are binary: an attribute may hold a line end, so records are cut by their length, never by lines.

/// The records that matter, in the order in which they stand; later ones win.
pub(crate) fn records(mut data: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    std::iter::from_fn(move || {
        // Some writers pad with zeros.
        if data.is_empty() || data.iter().all(|byte| *byte == 0) {
            return None;
        }
        let Some((key, value, rest)) = split(data) else {
            data = &[];
            return Some(None);
        };
        data = rest;
        Some(Some((key, value)))
    })
}

fn split(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().take(10).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&data[..blank])?).ok()?;
    let record = data.get(blank + 1..length)?;
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &data[length..]))
}

/// A decimal number without sign.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A time: seconds, perhaps negative, perhaps with a fraction; rounded down to nanoseconds.
pub(crate) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = i64::try_from(number(seconds.as_bytes())?).ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    match (negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_line_ends() {
        let data = b"15 path=a/b\nc\xff\n11 size=12\n\0\0";
        let found: Vec<_> = records(data).collect();
        assert_eq!(found, [Some((&b"path"[..], &b"a/b\nc\xff"[..])), Some((&b"size"[..], &b"12"[..]))]);
    }

    #[test]
    fn nonsense_is_told_once() {
        for bad in [&b"x"[..], b"5 a=b", b"99 a=b\n", b"0 a=b\n", b"6 a=bb\n", b"5 ab\n", b"-1 a=b\n", b" \n"] {
            assert_eq!(records(bad).collect::<Vec<_>>(), [None], "{bad:?}");
        }
    }

    #[test]
    fn times_keep_their_fraction() {
        for (text, expected) in [
            ("12", Some((12, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("", None),
            ("1.x", None),
            ("1e5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }
}
