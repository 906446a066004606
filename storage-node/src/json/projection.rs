//! What of a value is shown to somebody who asks for parts of it.

use super::path::Path;
use super::text::{Json, NotJson};
use super::tree::quoted;

/// The most paths of a request.
pub const MOST_PATHS: usize = 64;

/// Paths that were understood, with their texts as they were given.
#[derive(Debug, Clone)]
pub struct Projection {
    paths: Vec<(String, Path)>,
}

impl Projection {
    /// Understands the paths of a request; none: the whole value is wanted.
    pub fn parse(paths: &[String]) -> Result<Option<Self>, String> {
        if paths.len() > MOST_PATHS {
            return Err(format!("at most {MOST_PATHS} paths can be asked for at once"));
        }
        let parse = |text: &String| match Path::parse(text) {
            Ok(path) => Ok((text.clone(), path)),
            Err(error) => Err(format!("{text:?} is no path: {error}")),
        };
        let paths = paths.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        Ok((!paths.is_empty()).then_some(Self { paths }))
    }

    /// How many bytes looking at a value of that length reads, at most.
    pub fn work(&self, length: usize) -> usize {
        length.saturating_mul(self.paths.len() + 1)
    }

    /// What the paths lead to in a value. One path: what it leads to as it is written there, and
    /// nothing where it leads nowhere; a path that may lead to many: an array of all that it leads
    /// to. Several: an object that names those which lead somewhere.
    pub fn of(&self, value: &[u8]) -> Result<Vec<u8>, NotJson> {
        let json = Json::parse(value)?;
        let mut out = Vec::new();
        if let [(_, path)] = self.paths.as_slice() {
            select_into(path, json, &mut out);
            return Ok(out);
        }
        out.push(b'{');
        for (text, path) in &self.paths {
            let before = out.len();
            if before > 1 {
                out.push(b',');
            }
            out.extend_from_slice(quoted(text).as_bytes());
            out.push(b':');
            if !select_into(path, json, &mut out) {
                out.truncate(before);
            }
        }
        out.push(b'}');
        Ok(out)
    }
}

fn select_into(path: &Path, json: Json<'_>, out: &mut Vec<u8>) -> bool {
    let found = path.select(json);
    if !path.may_be_many() {
        found.first().inspect(|found| out.extend_from_slice(found.text().as_bytes()));
        return !found.is_empty();
    }
    out.push(b'[');
    for (at, found) in found.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(found.text().as_bytes());
    }
    out.push(b']');
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(paths: &[&str], value: &str) -> String {
        let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
        let projection = Projection::parse(&paths).unwrap().unwrap();
        String::from_utf8(projection.of(value.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn parts_are_shown_as_they_are_stored() {
        let value = r#"{"a": {"b" : 1.10}, "list":[ 1, [ 2 ] ], "e":"\u00e9", "n":null}"#;
        assert_eq!(shown(&["$.a"], value), r#"{"b" : 1.10}"#);
        assert_eq!(shown(&["$.e"], value), r#""\u00e9""#);
        assert_eq!(shown(&["$.n"], value), "null");
        assert_eq!(shown(&["$.absent"], value), "");
        assert_eq!(shown(&["$.list[*]"], value), "[1,[ 2 ]]");
        assert_eq!(shown(&["$.absent[*]"], value), "[]");
        let several = shown(&["$.absent", "$.a.b", "$['n']", "$.list[*]", "$.gone"], value);
        assert_eq!(several, r#"{"$.a.b":1.10,"$['n']":null,"$.list[*]":[1,[ 2 ]]}"#);
        assert_eq!(shown(&["$.x", "$.y"], value), "{}");
    }

    #[test]
    fn paths_are_checked_and_bounded() {
        assert!(Projection::parse(&[]).unwrap().is_none());
        assert!(
            Projection::parse(&["$.".to_owned()]).unwrap_err().contains("\"$.\" is no path: at character 3")
        );
        assert!(Projection::parse(&vec!["$".to_owned(); MOST_PATHS + 1]).is_err());
        let whole = Projection::parse(&["$".to_owned()]).unwrap().unwrap();
        assert!(whole.of(b"text").is_err());
    }
}
