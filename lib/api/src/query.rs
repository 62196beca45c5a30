//! The query string, decoded strictly.

use percent_encoding::percent_decode_str;

/// The pairs of a query in their order, or why it cannot be read. `+` is a blank, as forms write it.
pub(crate) fn parse(query: &str) -> Result<Vec<(String, String)>, &'static str> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Result<String, &'static str> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8().map_err(|_| "the query is not UTF-8")?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_repeat_and_keep_their_order() {
        let pairs = parse("label=a%3D1&label=b+c&&follow").unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("label", "a=1"), ("label", "b c"), ("follow", "")]);
        assert!(parse("a=%ff").is_err());
    }
}
