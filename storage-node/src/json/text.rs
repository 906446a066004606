//! JSON as it is written: a text is checked once, and then walked through without being copied,
//! so that whatever is shown of it, or left as it is, keeps its bytes.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::path::{Follow, place_of};

/// The most levels of a value. Whoever reads one follows it by recursion somewhere.
pub const DEEPEST: usize = 128;

/// A value of JSON that was checked, as it is written, without blanks around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Json<'a> {
    text: &'a str,
}

/// What kinds of values there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// Why bytes are not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{why} at byte {at}")]
pub struct NotJson {
    /// Where, counted from 0.
    pub at: usize,
    why: &'static str,
}

impl<'a> Json<'a> {
    /// Checks bytes from the first to the last.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotJson> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| NotJson { at: error.valid_up_to(), why: "not UTF-8" })?;
        let mut check = Check { bytes, at: 0 };
        check.skip_blanks();
        let begin = check.at;
        check.value()?;
        let end = check.at;
        check.skip_blanks();
        if check.at < bytes.len() {
            return Err(check.wrong("more than one value"));
        }
        Ok(Self { text: text.get(begin..end).unwrap_or_default() })
    }

    /// A text that was checked before.
    pub(super) fn literal(text: &'a str) -> Self {
        Self { text }
    }

    /// As it is written.
    pub fn text(self) -> &'a str {
        self.text
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        match self.text.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't') => Kind::Bool(true),
            Some(b'f') => Kind::Bool(false),
            Some(b'n') => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// The elements of an array; nothing else has any.
    pub fn elements(self) -> impl Iterator<Item = Json<'a>> {
        let mut walk = Walk::into(self.text, b'[');
        std::iter::from_fn(move || walk.next_value())
    }

    /// The members of an object, in the order in which they are written, with each name as a string
    /// of JSON.
    pub fn members(self) -> impl Iterator<Item = (Json<'a>, Json<'a>)> {
        let mut walk = Walk::into(self.text, b'{');
        std::iter::from_fn(move || Some((walk.next_value()?, walk.next_value()?)))
    }

    /// What a string says.
    pub fn as_string(self) -> Option<Cow<'a, str>> {
        let inner = self.text.strip_prefix('"')?.strip_suffix('"')?;
        if !inner.contains('\\') {
            return Some(Cow::Borrowed(inner));
        }
        serde_json::from_str(self.text).ok().map(Cow::Owned)
    }

    /// How many levels it has; a value with nothing in it has none.
    pub fn depth(self) -> usize {
        let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
        for byte in self.text.bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'[' | b'{' if !in_string => {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        deepest
    }

    /// Whether a string of JSON says that.
    pub fn says(self, wanted: &str) -> bool {
        let Some(inner) = self.text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
            return false;
        };
        if inner.contains('\\') {
            self.as_string().is_some_and(|said| said == wanted)
        } else {
            inner == wanted
        }
    }
}

impl fmt::Debug for Json<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.text)
    }
}

/// Where a name stands twice in an object the last counts, as in most readers of JSON.
impl Follow for Json<'_> {
    fn member(self, name: &str) -> Option<Self> {
        self.members().filter(|(found, _)| found.says(name)).last().map(|(_, value)| value)
    }

    fn element(self, number: i64) -> Option<Self> {
        if let Ok(place) = usize::try_from(number) {
            return self.elements().nth(place);
        }
        self.elements().nth(place_of(number, self.elements().count())?)
    }

    fn all_into(self, found: &mut Vec<Self>) {
        match self.kind() {
            Kind::Array => found.extend(self.elements()),
            Kind::Object => {
                let begin = found.len();
                let mut named: std::collections::HashMap<Cow<'_, str>, usize> =
                    std::collections::HashMap::new();
                for (name, value) in self.members() {
                    let at = *named.entry(name.as_string().unwrap_or_default()).or_insert(found.len());
                    match found.get_mut(at).filter(|_| at >= begin) {
                        Some(earlier) => *earlier = value,
                        None => found.push(value),
                    }
                }
            }
            _ => {}
        }
    }
}

/// Goes over the values in a container that was checked.
struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    /// Where the text is no such container there is nothing in it.
    fn into(text: &'a str, open: u8) -> Self {
        let at = if text.as_bytes().first() == Some(&open) { 1 } else { text.len() };
        Self { text, at }
    }

    fn next_value(&mut self) -> Option<Json<'a>> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t' | b',' | b':')) {
            self.at += 1;
        }
        let begin = self.at;
        match bytes.get(begin)? {
            b']' | b'}' => return None,
            b'"' => self.skip_string(bytes),
            b'[' | b'{' => self.skip_container(bytes),
            _ => {
                while matches!(
                    bytes.get(self.at),
                    Some(b'+' | b'-' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E')
                ) {
                    self.at += 1;
                }
            }
        }
        // What was checked goes forward; whatever did not would never end.
        if self.at == begin {
            self.at = bytes.len();
        }
        Some(Json { text: self.text.get(begin..self.at)? })
    }

    fn skip_string(&mut self, bytes: &[u8]) {
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' => self.at += 1,
                b'"' => return,
                _ => {}
            }
        }
    }

    fn skip_container(&mut self, bytes: &[u8]) {
        let mut depth = 0_usize;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.skip_string(bytes);
                    continue;
                }
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }
}

/// Checks a text from its beginning on (RFC 8259), with a stack of its own.
struct Check<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What may come next.
enum Next {
    Value,
    /// After a value: what ends or goes on with what it is in.
    After,
}

impl Check<'_> {
    fn value(&mut self) -> Result<(), NotJson> {
        let mut open: Vec<u8> = Vec::new();
        let mut next = Next::Value;
        loop {
            self.skip_blanks();
            match next {
                Next::Value => match self.peek() {
                    Some(b'[') => {
                        self.open(&mut open, b']')?;
                        if self.take(b']') {
                            open.pop();
                            next = Next::After;
                        }
                    }
                    Some(b'{') => {
                        self.open(&mut open, b'}')?;
                        if self.take(b'}') {
                            open.pop();
                            next = Next::After;
                        } else {
                            self.name()?;
                        }
                    }
                    _ => {
                        self.scalar()?;
                        next = Next::After;
                    }
                },
                Next::After => match (open.last().copied(), self.peek()) {
                    (None, _) => return Ok(()),
                    (Some(end), Some(found)) if end == found => {
                        self.at += 1;
                        open.pop();
                    }
                    (Some(end), Some(b',')) => {
                        self.at += 1;
                        if end == b'}' {
                            self.skip_blanks();
                            self.name()?;
                        }
                        next = Next::Value;
                    }
                    (Some(b'}'), _) => return Err(self.wrong("expected `,` or `}`")),
                    (Some(_), _) => return Err(self.wrong("expected `,` or `]`")),
                },
            }
            // The way out for a value that is in nothing.
            if open.is_empty() && matches!(next, Next::After) {
                return Ok(());
            }
        }
    }

    fn open(&mut self, open: &mut Vec<u8>, end: u8) -> Result<(), NotJson> {
        if open.len() == DEEPEST {
            return Err(self.wrong("more than 128 levels"));
        }
        open.push(end);
        self.at += 1;
        self.skip_blanks();
        Ok(())
    }

    fn name(&mut self) -> Result<(), NotJson> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("expected a name between double quotes"));
        }
        self.string()?;
        self.skip_blanks();
        if self.take(b':') { Ok(()) } else { Err(self.wrong("expected `:`")) }
    }

    fn scalar(&mut self) -> Result<(), NotJson> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.wrong("expected a value")),
            None => Err(self.wrong("the end in the middle of a value")),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotJson> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.wrong("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let begin = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == begin { Err(self.wrong("expected a digit")) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<(), NotJson> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(self.wrong("the end in the middle of a string")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(0..0x20) => return Err(self.wrong("a control character in a string")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                let half = self.unit()?;
                match half {
                    0xd800..0xdc00 => {
                        let second = self.peek() == Some(b'\\') && {
                            self.at += 1;
                            self.peek() == Some(b'u')
                        };
                        if second && (0xdc00..0xe000).contains(&self.unit()?) {
                            return Ok(());
                        }
                        Err(self.wrong("half of a surrogate pair"))
                    }
                    0xdc00..0xe000 => Err(self.wrong("half of a surrogate pair")),
                    _ => Ok(()),
                }
            }
            _ => Err(self.wrong("an escape that JSON does not have")),
        }
    }

    /// The `u` of an escape and its four digits.
    fn unit(&mut self) -> Result<u16, NotJson> {
        let digits =
            self.bytes.get(self.at + 1..self.at + 5).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.wrong("expected four hexadecimal digits"))?;
        self.at += 5;
        Ok(unit)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn wrong(&self, why: &'static str) -> NotJson {
        NotJson { at: self.at, why }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::path::Path;
    use super::*;

    fn selected(path: &str, text: &str) -> Vec<String> {
        let json = Json::parse(text.as_bytes()).unwrap();
        Path::parse(path).unwrap().select(json).into_iter().map(|found| found.text().to_owned()).collect()
    }

    #[test]
    fn what_is_selected_keeps_its_bytes() {
        let text = r#" { "a" : [ 1.10, 1e400 ,{"b": "\u00e9" } ], "c":-0, "a b":[[] , {}] } "#;
        assert_eq!(selected("$.a", text), ["[ 1.10, 1e400 ,{\"b\": \"\\u00e9\" } ]"]);
        assert_eq!(selected("$.a[0]", text), ["1.10"]);
        assert_eq!(selected("$.a[-2]", text), ["1e400"]);
        assert_eq!(selected("$.a[2].b", text), ["\"\\u00e9\""]);
        assert_eq!(selected("$.c", text), ["-0"]);
        assert_eq!(selected("$['a b'][*]", text), ["[]", "{}"]);
        assert_eq!(selected("$", text), [text.trim()]);
        assert!(selected("$.a[3]", text).is_empty());
    }

    #[test]
    fn of_a_name_that_stands_twice_the_last_counts() {
        let text = r#"{"a":1,"b":2,"\u0061":3}"#;
        assert_eq!(selected("$.a", text), ["3"]);
        assert_eq!(selected("$[*]", text), ["3", "2"]);
    }

    #[test]
    fn what_is_not_json_is_refused_where_it_is_wrong() {
        let all: &[(&[u8], usize, &str)] = &[
            (b"", 0, "the end in the middle of a value"),
            (b" ", 1, "the end"),
            (b"nul", 0, "a value"),
            (b"1 2", 2, "more than one value"),
            (b"[1,]", 3, "a value"),
            (b"[1 2]", 3, "`,` or `]`"),
            (b"{\"a\":1,}", 7, "a name"),
            (b"{a:1}", 1, "a name"),
            (b"{\"a\" 1}", 5, "`:`"),
            (b"{\"a\":1]", 6, "`,` or `}`"),
            (b"[1}", 2, "`,` or `]`"),
            (b"01", 1, "more than one value"),
            (b"-", 1, "a digit"),
            (b"1.", 2, "a digit"),
            (b"1e+", 3, "a digit"),
            (b"\"a", 2, "in the middle of a string"),
            (b"\"\n\"", 1, "control character"),
            (b"\"\\x\"", 2, "an escape"),
            (b"\"\\u12g4\"", 2, "four hexadecimal"),
            (b"\"\\ud800\"", 7, "half of a surrogate"),
            (b"\"\\udc00\"", 7, "half of a surrogate"),
            (b"\"\xff\"", 1, "not UTF-8"),
            (b"\xef\xbb\xbf1", 0, "a value"),
        ];
        for (text, at, why) in all {
            let error = Json::parse(text).expect_err(&String::from_utf8_lossy(text));
            assert_eq!(error.at, *at, "{}: {error}", String::from_utf8_lossy(text));
            assert!(error.to_string().contains(why), "{}: {error}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn levels_are_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let deepest = nested(DEEPEST);
        assert_eq!(Json::parse(deepest.as_bytes()).unwrap().depth(), DEEPEST);
        assert!(Json::parse(nested(DEEPEST + 1).as_bytes()).is_err());
        assert!(Json::parse("[".repeat(10_000_000).as_bytes()).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,3}", inner, 0..5).prop_map(Value::from_iter),
            ]
        })
    }

    /// Puts it together again out of its parts.
    fn rebuilt(json: Json<'_>) -> Value {
        match json.kind() {
            Kind::Array => json.elements().map(rebuilt).collect(),
            Kind::Object => json
                .members()
                .map(|(name, value)| (name.as_string().unwrap().into_owned(), rebuilt(value)))
                .collect(),
            _ => serde_json::from_str(json.text()).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn every_part_is_found(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            prop_assert_eq!(rebuilt(Json::parse(text.as_bytes()).unwrap()), value);
        }

        #[test]
        fn it_judges_as_serde_json_does(text in "[\\[\\]{}:,\"\\\\a0-9eE.+\\- tnu]{0,16}") {
            let theirs = match serde_json::from_str::<Value>(&text) {
                Ok(_) => true,
                // A number may be beyond what a float holds; here it is only text.
                Err(error) if error.to_string().contains("out of range") => return Ok(()),
                Err(_) => false,
            };
            prop_assert_eq!(Json::parse(text.as_bytes()).is_ok(), theirs, "{}", text);
        }
    }
}
