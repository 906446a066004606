//! What the address of a request names: table and key in the path, parameters in the query.
//! All of it is percent-decoded to bytes; a key need not be text.

use axum::extract::OriginalUri;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use percent_encoding::percent_decode_str;

use super::problem::Problem;

/// Base64 as it can stand in an address, with or without padding.
pub const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The path as it was asked for, whatever routers have taken off it.
pub fn path_of(parts: &Parts) -> &str {
    parts.extensions.get::<OriginalUri>().map_or_else(|| parts.uri.path(), |original| original.0.path())
}

/// The table that a path names; empty where it names none, which means `default`.
pub fn table_in(path: &str) -> Result<String, Problem> {
    let Some(rest) = path.strip_prefix("/api/v1/tables/") else { return Ok(String::new()) };
    segment_text(rest.split('/').next().unwrap_or_default(), "table")
}

/// The key that is the last segment of a path.
pub fn key_in(path: &str) -> Result<Bytes, Problem> {
    Ok(decoded(path.rsplit('/').next().unwrap_or_default(), "key")?.into())
}

/// A segment of a path that must be text, such as the name of a node.
pub fn segment_text(segment: &str, what: &str) -> Result<String, Problem> {
    String::from_utf8(decoded(segment, what)?)
        .map_err(|_| Problem::invalid(format!("the {what} in the path is not UTF-8")))
}

fn decoded(text: &str, what: &str) -> Result<Vec<u8>, Problem> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        let hexadecimal = |at: usize| after.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
        if !hexadecimal(0) || !hexadecimal(1) {
            return Err(Problem::invalid(format!(
                "the {what} has a % without two hexadecimal digits after it; a percent sign itself is %25"
            )));
        }
        rest = after;
    }
    Ok(percent_decode_str(text).collect())
}

/// The query of an address. A name that is not expected is refused, since a parameter that is
/// misspelt would otherwise silently not count.
#[derive(Debug, Default)]
pub struct Query {
    found: Vec<(String, Vec<u8>)>,
}

impl Query {
    /// Reads a query in which these names may stand, each once. As in forms, `+` is a space.
    pub fn of(parts: &Parts, expected: &[&str]) -> Result<Self, Problem> {
        Self::with_list(parts, expected, "")
    }

    /// The same where one of the names may stand several times.
    pub fn with_list(parts: &Parts, expected: &[&str], list: &str) -> Result<Self, Problem> {
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = segment_text(&name.replace('+', "%20"), "name of a parameter")?;
            if !expected.contains(&name.as_str()) {
                let known = if expected.is_empty() { "none".to_owned() } else { expected.join(", ") };
                return Err(Problem::invalid(format!("there is no parameter {name:?} here; known: {known}")));
            }
            if name != list && found.iter().any(|(other, _)| *other == name) {
                return Err(Problem::invalid(format!("the parameter {name:?} is given twice")));
            }
            let value = decoded(&value.replace('+', "%20"), &name)?;
            found.push((name, value));
        }
        Ok(Self { found })
    }

    /// A parameter as bytes.
    pub fn bytes(&self, name: &str) -> Option<Bytes> {
        let found = self.found.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| Bytes::copy_from_slice(value))
    }

    /// A parameter that must be text.
    pub fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        self.bytes(name)
            .map(|bytes| String::from_utf8(bytes.into()))
            .transpose()
            .map_err(|_| Problem::invalid(format!("the parameter {name:?} is not UTF-8")))
    }

    /// All that a parameter is given as, each of which must be text.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, Problem> {
        let text = |value: &Vec<u8>| {
            String::from_utf8(value.clone())
                .map_err(|_| Problem::invalid(format!("the parameter {name:?} is not UTF-8")))
        };
        self.found.iter().filter(|(other, _)| other == name).map(|(_, value)| text(value)).collect()
    }

    /// A parameter that must be of a type that is written as text.
    pub fn parsed<T: std::str::FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Problem::invalid(format!("the parameter {name:?} is not {what}")))
    }

    /// A parameter that is `true` or `false`, and false where it is missing.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        Ok(self.parsed(name, "true or false")?.unwrap_or(false))
    }

    /// Bytes in base64url.
    pub fn base64(&self, name: &str) -> Result<Option<Bytes>, Problem> {
        let Some(text) = self.bytes(name) else { return Ok(None) };
        let decoded = BASE64_URL.decode(text);
        decoded
            .map(|bytes| Some(bytes.into()))
            .map_err(|error| Problem::invalid(format!("the parameter {name:?} is not base64url: {error}")))
    }

    /// The key, as `key` or as `key64`.
    pub fn key(&self) -> Result<Bytes, Problem> {
        match (self.bytes("key"), self.base64("key64")?) {
            (Some(key), None) | (None, Some(key)) => Ok(key),
            (None, None) => Err(Problem::invalid("which key? give ?key=… or ?key64=… (base64url)")),
            (Some(_), Some(_)) => Err(Problem::invalid("give either key or key64, not both")),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn query(query: &str, expected: &[&str]) -> Result<Query, Problem> {
        let request = Request::get(format!("/api/v1/kv?{query}")).body(()).unwrap();
        Query::of(&request.into_parts().0, expected)
    }

    #[test]
    fn keys_are_bytes() {
        assert_eq!(key_in("/api/v1/kv/a%2Fb+c").unwrap(), "a/b+c");
        assert_eq!(&key_in("/api/v1/tables/t/kv/%FF%00").unwrap()[..], [255, 0]);
        for bad in ["%", "%2", "%zz", "%%41"] {
            assert!(key_in(&format!("/api/v1/kv/{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_table_is_the_default_unless_the_path_names_one() {
        assert_eq!(table_in("/api/v1/kv/tables").unwrap(), "");
        assert_eq!(table_in("/api/v1/tables/or%64ers/kv/k").unwrap(), "orders");
        assert!(table_in("/api/v1/tables/%FF/kv/k").is_err());
    }

    #[test]
    fn a_query_is_read_strictly() {
        let read = query("key=a%26b+c&stale=true", &["key", "stale"]).unwrap();
        assert_eq!(read.key().unwrap(), "a&b c");
        assert!(read.flag("stale").unwrap());
        let request = Request::get("/api/v1/kv?path=$.a&path=$.b").body(()).unwrap();
        let listed = Query::with_list(&request.into_parts().0, &["path"], "path").unwrap();
        assert_eq!(listed.texts("path").unwrap(), ["$.a", "$.b"]);
        assert!(query("path=1&path=2", &["path"]).is_err());
        assert!(query("kee=1", &["key"]).is_err());
        assert!(query("key=1&key=2", &["key"]).is_err());
        assert!(query("", &["key"]).unwrap().key().is_err());
        assert!(query("limit=x", &["limit"]).unwrap().parsed::<u64>("limit", "a number").is_err());
    }

    #[test]
    fn a_key_in_base64_needs_no_padding() {
        for text in ["_w", "_w=="] {
            let read = query(&format!("key64={text}"), &["key", "key64"]).unwrap();
            assert_eq!(&read.key().unwrap()[..], [255]);
        }
        assert!(query("key64=%2B%2B", &["key64"]).unwrap().key().is_err());
        assert!(query("key64=_w&key=a", &["key", "key64"]).unwrap().key().is_err());
    }
}
