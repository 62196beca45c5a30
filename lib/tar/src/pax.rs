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

/// What the key of an extended attribute begins with.
pub(crate) const XATTR: &[u8] = b"SCHILY.xattr.";

/// The two characters that the name of an attribute cannot hold as the key of a record, as GNU tar writes them.
const ESCAPES: [(u8, &[u8]); 2] = [(b'%', b"%25"), (b'=', b"%3D")];

/// An attribute's name as it stands in a key.
pub(crate) fn key_name(name: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| ESCAPES.iter().find(|(plain, _)| plain == byte).map_or(vec![*byte], |(_, it)| it.to_vec());
    name.iter().flat_map(escape).collect()
}

/// An attribute's name out of a key.
pub(crate) fn plain_name(mut key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len());
    while let Some((first, rest)) = key.split_first() {
        let escape = ESCAPES.iter().find_map(|(plain, it)| Some((*plain, key.strip_prefix(*it)?)));
        let (byte, rest) = escape.unwrap_or((*first, rest));
        name.push(byte);
        key = rest;
    }
    name
}

/// Adds a record.
pub(crate) fn write(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length += 1;
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// A time: seconds, perhaps negative, perhaps with a fraction; rounded down to nanoseconds.
pub(crate) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = number(seconds.as_bytes())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    match (negative, nanos) {
        (false, _) => Some((i64::try_from(seconds).ok()?, nanos)),
        (true, 0) => Some((0i64.checked_sub_unsigned(seconds)?, 0)),
        (true, _) => Some(((-1i64).checked_sub_unsigned(seconds)?, 1_000_000_000 - nanos)),
    }
}

/// The same as a text.
pub(crate) fn time_text((seconds, nanos): (i64, u32)) -> String {
    let (sign, seconds, nanos) = match (seconds < 0, nanos) {
        (true, 1..) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos.min(1_000_000_000)),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (false, nanos) => ("", seconds.unsigned_abs(), nanos),
    };
    format!("{sign}{seconds}.{nanos:09}")
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
    fn what_is_written_is_read() {
        for length in 0..1200 {
            let (mut data, value) = (Vec::new(), vec![b'\n'; length]);
            write(&mut data, b"key", &value);
            write(&mut data, b"after", b"");
            let found: Vec<_> = records(&data).collect();
            assert_eq!(found, [Some((&b"key"[..], &value[..])), Some((&b"after"[..], &b""[..]))], "{length}");
        }
        for name in [&b"user.a=b"[..], b"user.%3D", b"%25=", b"%", b"\xff"] {
            assert_eq!(plain_name(&key_name(name)), name);
            assert!(!key_name(name).contains(&b'='));
        }
        assert_eq!(plain_name(b"user.100%"), b"user.100%");
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
            ("-9223372036854775808", Some((i64::MIN, 0))),
            ("-9223372036854775807.5", Some((i64::MIN, 500_000_000))),
            ("-9223372036854775808.5", None),
            ("1.x", None),
            ("1e5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
            if let Some(found) = expected {
                assert_eq!(time(time_text(found).as_bytes()), expected, "{text}");
            }
        }
    }
}
