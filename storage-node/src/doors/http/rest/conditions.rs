//! Conditional requests (RFC 9110, section 13): the version of a key is its entity tag.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::v1::{Condition, condition};

use super::problem::{Kind, Problem};

/// What a header with entity tags says.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    /// `*`.
    Any,
    /// These, each with whether it is weak.
    These(Vec<(bool, String)>),
}

/// What a request demands before anything is done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// The entity tag of a version.
pub fn entity_tag(version: u64) -> HeaderValue {
    // Digits and quotes are allowed in any header.
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

impl Conditions {
    /// Reads the headers of a request.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            if_match: tags(headers, header::IF_MATCH)?,
            if_none_match: tags(headers, header::IF_NONE_MATCH)?,
        })
    }

    /// What a write demands of its key.
    pub fn of_write(&self) -> Result<Option<Condition>, Problem> {
        use condition::Is;
        let is = match (&self.if_match, &self.if_none_match) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(Problem::invalid("give either If-Match or If-None-Match, not both"));
            }
            (None, Some(Tags::Any)) => Is::Absent(true),
            (None, Some(Tags::These(_))) => {
                return Err(Problem::invalid(
                    "a write takes If-None-Match: * only, which demands that there is no such key",
                ));
            }
            (Some(Tags::Any), None) => Is::Exists(true),
            (Some(Tags::These(tags)), None) => Is::Version(one_version(tags)?),
        };
        Ok(Some(Condition { is: Some(is) }))
    }

    /// Whether what a read found is to be shown; the version is 0 where there is no such key.
    pub fn judge_read(&self, version: u64) -> Result<Shown, Problem> {
        let names = |tags: &[(bool, String)], weakly: bool| {
            let own = version.to_string();
            tags.iter().any(|(weak, tag)| (weakly || !weak) && *tag == own)
        };
        let exists = version != 0;
        let matched = match &self.if_match {
            None => true,
            Some(Tags::Any) => exists,
            Some(Tags::These(tags)) => exists && names(tags, false),
        };
        if !matched {
            return Err(Problem::condition_not_met(version));
        }
        let known = match &self.if_none_match {
            None => false,
            Some(Tags::Any) => exists,
            Some(Tags::These(tags)) => exists && names(tags, true),
        };
        Ok(if known { Shown::NotModified } else { Shown::Whole })
    }
}

/// How a read is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// As it is.
    Whole,
    /// The caller has it already.
    NotModified,
}

/// A write can be bound to one version. A tag that is weak, or that no version has, matches
/// nothing.
fn one_version(tags: &[(bool, String)]) -> Result<u64, Problem> {
    let [(weak, tag)] = tags else {
        return Err(Problem::invalid("a write takes one entity tag in If-Match, not several"));
    };
    // Written otherwise it is another tag.
    let version = tag.parse::<u64>().ok().filter(|version| *version > 0 && version.to_string() == *tag);
    version.filter(|_| !weak).ok_or_else(|| {
        Problem::new(Kind::ConditionNotMet, "the condition does not hold: no version has this entity tag")
    })
}

fn tags(headers: &HeaderMap, name: HeaderName) -> Result<Option<Tags>, Problem> {
    let malformed = || {
        Problem::invalid(format!("the header {name} is neither * nor a list of entity tags such as \"7\""))
    };
    let mut found = Vec::new();
    let mut any = false;
    let mut given = false;
    for value in headers.get_all(&name) {
        given = true;
        let mut rest = value.to_str().map_err(|_| malformed())?.trim();
        if rest == "*" {
            any = true;
            continue;
        }
        loop {
            let (weak, after) = rest.strip_prefix("W/").map_or((false, rest), |after| (true, after));
            let (tag, after) =
                after.strip_prefix('"').and_then(|after| after.split_once('"')).ok_or_else(malformed)?;
            found.push((weak, tag.to_owned()));
            rest = after.trim_start();
            if rest.is_empty() {
                break;
            }
            rest = rest.strip_prefix(',').ok_or_else(malformed)?.trim_start();
        }
    }
    match (given, any, found.is_empty()) {
        (false, ..) => Ok(None),
        (true, true, true) => Ok(Some(Tags::Any)),
        (true, false, false) => Ok(Some(Tags::These(found))),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use condition::Is;

    use super::*;

    fn conditions(name: &'static str, value: &str) -> Result<Conditions, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        Conditions::of(&headers)
    }

    fn write(name: &'static str, value: &str) -> Result<Is, Kind> {
        let condition = conditions(name, value).and_then(|conditions| conditions.of_write());
        condition.map(|condition| condition.unwrap().is.unwrap()).map_err(|problem| problem.kind)
    }

    #[test]
    fn a_write_is_bound_to_presence_absence_or_one_version() {
        assert_eq!(write("if-none-match", "*"), Ok(Is::Absent(true)));
        assert_eq!(write("if-match", "*"), Ok(Is::Exists(true)));
        assert_eq!(write("if-match", "\"7\""), Ok(Is::Version(7)));
        for never in ["W/\"7\"", "\"07\"", "\"x\"", "\"0\"", "\"\""] {
            assert_eq!(write("if-match", never), Err(Kind::ConditionNotMet), "{never}");
        }
        for bad in ["", "7", "\"7", "\"7\" \"8\"", "\"7\",", "*,\"7\"", "\"7\", \"8\""] {
            assert_eq!(write("if-match", bad), Err(Kind::InvalidRequest), "{bad}");
        }
        assert_eq!(write("if-none-match", "\"7\""), Err(Kind::InvalidRequest));
    }

    #[test]
    fn a_read_is_not_repeated_to_who_has_it() {
        let read = |name, value, version| {
            conditions(name, value).unwrap().judge_read(version).map_err(|problem| problem.kind)
        };
        assert_eq!(read("if-none-match", "\"7\"", 7), Ok(Shown::NotModified));
        assert_eq!(read("if-none-match", "W/\"7\"", 7), Ok(Shown::NotModified));
        assert_eq!(read("if-none-match", "\"5\", \"7\"", 7), Ok(Shown::NotModified));
        assert_eq!(read("if-none-match", "\"5\"", 7), Ok(Shown::Whole));
        assert_eq!(read("if-none-match", "*", 0), Ok(Shown::Whole));
        assert_eq!(read("if-match", "\"7\"", 7), Ok(Shown::Whole));
        assert_eq!(read("if-match", "W/\"7\"", 7), Err(Kind::ConditionNotMet));
        assert_eq!(read("if-match", "*", 0), Err(Kind::ConditionNotMet));
    }
}
