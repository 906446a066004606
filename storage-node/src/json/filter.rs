//! A small language that says which items of a scan are wanted, by what is in their values.
//!
//! ```text
//!   any      = all *( "or" all )
//!   all      = one *( "and" one )
//!   one      = "not" one / "(" any ")" / test
//!   test     = path ("==" / "!=" / "<" / "<=" / ">" / ">=") literal
//!            / path "in" "[" literal *( "," literal ) "]"
//!            / "exists" "(" path ")"
//!            / "starts_with" "(" path "," string ")"
//!            / "contains" "(" path "," literal ")"
//!   literal  = string / number / "true" / "false" / "null"
//! ```
//!
//! A test of a path that leads to several values holds if it holds for one of them, and of a path
//! that leads nowhere for none; `!=` is the opposite of `==`, whatever there is. Numbers are compared
//! by what they say, strings by their letters; values of different kinds are different, and neither
//! is less.

use std::borrow::Cow;
use std::cmp::Ordering;

use thiserror::Error;

use super::equal::equal;
use super::number;
use super::path::{Path, PathError};
use super::text::{Json, Kind};

/// The longest filter, in bytes.
pub const MOST_BYTES: usize = 4096;
/// How deep parentheses and `not` go.
const DEEPEST: usize = 32;

/// A filter that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    root: Expression,
    tests: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Any(Vec<Expression>),
    All(Vec<Expression>),
    Not(Box<Expression>),
    Compare(Path, Operator, Literal),
    In(Path, Vec<Literal>),
    Exists(Path),
    StartsWith(Path, String),
    Contains(Path, Literal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// A literal as JSON writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Literal(String);

/// Why a text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at character {at} of the filter: {why}")]
pub struct FilterError {
    /// Where, counted in characters from 1.
    pub at: usize,
    why: String,
}

impl Filter {
    /// Understands a filter.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut reader = Reader { text, at: 0, tests: 0 };
        if text.len() > MOST_BYTES {
            reader.at = MOST_BYTES;
            while !text.is_char_boundary(reader.at) {
                reader.at -= 1;
            }
            return Err(reader.error(format!("a filter has at most {MOST_BYTES} bytes")));
        }
        let root = reader.any(0)?;
        reader.skip_blanks();
        if reader.at < text.len() {
            return Err(reader.expected("`and`, `or` or the end"));
        }
        Ok(Self { root, tests: reader.tests })
    }

    /// Whether a value is JSON of which the filter holds.
    pub fn holds(&self, value: &[u8]) -> bool {
        Json::parse(value).is_ok_and(|json| self.root.holds(json))
    }

    /// How many bytes looking at a value of that length reads, at most.
    pub fn work(&self, length: usize) -> usize {
        length.saturating_mul(self.tests + 1)
    }
}

impl Expression {
    fn holds(&self, json: Json<'_>) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(json)),
            Self::All(parts) => parts.iter().all(|part| part.holds(json)),
            Self::Not(inner) => !inner.holds(json),
            Self::Compare(path, Operator::NotEqual, literal) => {
                !path.select(json).into_iter().any(|found| Operator::Equal.holds(found, literal.json()))
            }
            Self::Compare(path, operator, literal) => {
                path.select(json).into_iter().any(|found| operator.holds(found, literal.json()))
            }
            Self::In(path, literals) => path
                .select(json)
                .into_iter()
                .any(|found| literals.iter().any(|literal| Operator::Equal.holds(found, literal.json()))),
            Self::Exists(path) => !path.select(json).is_empty(),
            Self::StartsWith(path, start) => path
                .select(json)
                .into_iter()
                .any(|found| found.as_string().is_some_and(|said| said.starts_with(start.as_str()))),
            Self::Contains(path, literal) => {
                path.select(json).into_iter().any(|found| contains(found, literal.json()))
            }
        }
    }
}

impl Operator {
    fn holds(self, found: Json<'_>, literal: Json<'_>) -> bool {
        let order = match (found.kind(), literal.kind()) {
            (Kind::Number, Kind::Number) => Some(number::compare(found.text(), literal.text())),
            (Kind::String, Kind::String) => match (found.as_string(), literal.as_string()) {
                (Some(found), Some(literal)) => Some(found.cmp(&literal)),
                _ => None,
            },
            _ => equal(found, literal).then_some(Ordering::Equal),
        };
        match self {
            Self::Equal => order.is_some_and(Ordering::is_eq),
            Self::NotEqual => !order.is_some_and(Ordering::is_eq),
            Self::Less => order.is_some_and(Ordering::is_lt),
            Self::AtMost => order.is_some_and(Ordering::is_le),
            Self::More => order.is_some_and(Ordering::is_gt),
            Self::AtLeast => order.is_some_and(Ordering::is_ge),
        }
    }
}

impl Literal {
    /// What was read by the reader is JSON.
    fn json(&self) -> Json<'_> {
        Json::literal(&self.0)
    }
}

/// Whether a string has another in it, or an array an element.
fn contains(found: Json<'_>, literal: Json<'_>) -> bool {
    match found.kind() {
        Kind::Array => found.elements().any(|element| Operator::Equal.holds(element, literal)),
        Kind::String => match (found.as_string(), literal.as_string()) {
            (Some(found), Some(part)) => found.contains(&*part),
            _ => false,
        },
        _ => false,
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    tests: usize,
}

impl Reader<'_> {
    fn any(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut parts = vec![self.all(depth)?];
        while self.word("or") {
            parts.push(self.all(depth)?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let mut parts = vec![self.one(depth)?];
        while self.word("and") {
            parts.push(self.one(depth)?);
        }
        Ok(one_or(parts, Expression::All))
    }

    fn one(&mut self, depth: usize) -> Result<Expression, FilterError> {
        self.skip_blanks();
        if depth > DEEPEST {
            return Err(self.error(format!("parentheses and `not` go at most {DEEPEST} deep")));
        }
        if self.word("not") {
            return Ok(Expression::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.any(depth + 1)?;
            self.must_take(")")?;
            return Ok(inner);
        }
        self.tests += 1;
        if self.rest().starts_with('$') {
            return self.comparison();
        }
        for (name, read) in TESTS {
            if self.word(name) {
                self.must_take("(")?;
                let path = self.path()?;
                let test = read(self, path)?;
                self.must_take(")")?;
                return Ok(test);
            }
        }
        Err(self.expected("a path (`$…`), `not`, `(`, exists(…), starts_with(…) or contains(…)"))
    }

    fn comparison(&mut self) -> Result<Expression, FilterError> {
        let path = self.path()?;
        if self.word("in") {
            self.must_take("[")?;
            let mut literals = Vec::new();
            loop {
                literals.push(self.literal()?);
                if !self.take(",") {
                    break;
                }
            }
            self.must_take("]")?;
            return Ok(Expression::In(path, literals));
        }
        // The longer ones first: `<=` begins as `<` does.
        let operators = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::AtMost),
            (">=", Operator::AtLeast),
            ("<", Operator::Less),
            (">", Operator::More),
        ];
        for (sign, operator) in operators {
            if self.take(sign) {
                return Ok(Expression::Compare(path, operator, self.literal()?));
            }
        }
        Err(self.expected("==, !=, <, <=, >, >= or `in` after the path"))
    }

    fn path(&mut self) -> Result<Path, FilterError> {
        self.skip_blanks();
        let begin = self.at;
        match Path::parse_front(self.rest()) {
            Ok((path, end)) => {
                self.at += end;
                Ok(path)
            }
            Err(PathError { at, expected }) => {
                let before = self.text.get(..begin).unwrap_or_default().chars().count();
                Err(FilterError { at: before + at, why: expected })
            }
        }
    }

    /// A literal of JSON; a string may also stand between single quotes.
    fn literal(&mut self) -> Result<Literal, FilterError> {
        self.skip_blanks();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''));
        let length = match quote {
            Some(quote) => end_of_string(rest, quote),
            None => rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"+-.".contains(letter)),
        };
        if quote.is_some() && length.is_none() {
            return Err(self.error("expected a string between quotes, and nothing ends this one".to_owned()));
        }
        let text = rest.get(..length.unwrap_or(rest.len())).unwrap_or_default();
        let json = match quote {
            Some('\'') => Cow::Owned(requoted(text)),
            _ => Cow::Borrowed(text),
        };
        match Json::parse(json.as_bytes()) {
            Ok(parsed) if !matches!(parsed.kind(), Kind::Array | Kind::Object) => {
                self.at += text.len();
                Ok(Literal(json.into_owned()))
            }
            _ => Err(self.expected("a string between quotes, a number, true, false or null")),
        }
    }

    fn string(&mut self) -> Result<String, FilterError> {
        let begin = self.at;
        let literal = self.literal()?;
        let said = literal.json().as_string().map(Cow::into_owned);
        said.ok_or_else(|| Self { at: begin, ..*self }.error("expected a string between quotes".to_owned()))
    }

    /// A word, unless it is only the beginning of a longer one.
    fn word(&mut self, word: &str) -> bool {
        self.skip_blanks();
        let Some(after) = self.rest().strip_prefix(word) else { return false };
        let goes_on = after.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        if !goes_on {
            self.at += word.len();
        }
        !goes_on
    }

    fn take(&mut self, sign: &str) -> bool {
        self.skip_blanks();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    fn must_take(&mut self, sign: &str) -> Result<(), FilterError> {
        if self.take(sign) { Ok(()) } else { Err(self.expected(&format!("`{sign}`"))) }
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn expected(&self, what: &str) -> FilterError {
        match self.rest().chars().next() {
            Some(found) => self.error(format!("expected {what}, found `{found}`")),
            None => self.error(format!("expected {what}, found the end")),
        }
    }

    fn error(&self, why: String) -> FilterError {
        FilterError { at: self.text.get(..self.at).unwrap_or_default().chars().count() + 1, why }
    }
}

type ReadTest = fn(&mut Reader<'_>, Path) -> Result<Expression, FilterError>;

/// The tests that look like calls, with what follows the path.
const TESTS: [(&str, ReadTest); 3] = [
    ("exists", |_, path| Ok(Expression::Exists(path))),
    ("starts_with", |reader, path| {
        reader.must_take(",")?;
        Ok(Expression::StartsWith(path, reader.string()?))
    }),
    ("contains", |reader, path| {
        reader.must_take(",")?;
        Ok(Expression::Contains(path, reader.literal()?))
    }),
];

fn one_or(mut parts: Vec<Expression>, several: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            several(parts)
        }
        None => several(parts),
    }
}

/// Where a string ends, its quotes included.
fn end_of_string(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            letter if letter == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// A string between single quotes as JSON writes it.
fn requoted(text: &str) -> String {
    let inner = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).unwrap_or(text);
    let mut json = String::from("\"");
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => json.push_str("\\\""),
            '\\' => match letters.next() {
                Some('\'') => json.push('\''),
                Some(other) => json.extend(['\\', other]),
                None => json.push('\\'),
            },
            letter => json.push(letter),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERSON: &str = r#"{"name":"Ann","age":42,"email":null,"big":9007199254740993,
        "tags":["a","b"],"stops":[{"city":"Bern","km":3.50},{"city":"Genf","km":12}],"o'k":true}"#;

    fn holds(filter: &str) -> bool {
        Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}")).holds(PERSON.as_bytes())
    }

    #[test]
    fn a_filter_holds_of_what_it_says() {
        for filter in [
            "$.name == \"Ann\"",
            "$.name == 'Ann'",
            "$.name=='Ann'",
            "$['o\\'k'] == true",
            "$.age >= 42 and $.age <= 42.0 and $.age < 4.3e1 and $.age > -1",
            "$.big == 9007199254740993",
            "$.big > 9007199254740992",
            "$.email == null",
            "exists($.email)",
            "not exists($.left)",
            "$.left != 1",
            "$.name != 42",
            "$.tags[*] == 'b'",
            "$.tags[-1] == 'b'",
            "$.tags[*] != 'c'",
            "$.stops[*].km > 10",
            "$.stops[*].city in ['Zug', \"Genf\"]",
            "$.age in [1, 42]",
            "starts_with($.name, 'A')",
            "starts_with($.stops[*].city, 'Ge')",
            "contains($.name, 'nn')",
            "contains($.tags, 'a')",
            "$.name < 'B'",
            "$.age == 1 or $.age == 42",
            "$.age == 1 and $.age == 2 or $.age == 42",
            "not ($.age == 1 or $.name == 'x')",
            "not not $.age == 42",
            "(($.age == 42))",
        ] {
            assert!(holds(filter), "{filter}");
        }
        for filter in [
            "$.name == 'ann'",
            "$.age == '42'",
            "$.age < 'x'",
            "$.age > 'x'",
            "$.left == null",
            "$.left < 1",
            "$.left in [null]",
            "$.name != 'Ann'",
            "$.tags[*] != 'b'",
            "$.tags == 'a'",
            "starts_with($.age, '4')",
            "contains($.age, 4)",
            "contains($.tags, 'ab')",
            "exists($.stops[2])",
            "$.age == 42 and ($.age == 1 or $.age == 2)",
        ] {
            assert!(!holds(filter), "{filter}");
        }
    }

    #[test]
    fn what_is_not_json_never_matches() {
        let filter = Filter::parse("not exists($.x)").unwrap();
        assert!(filter.holds(b"{}") && filter.holds(b"1"));
        for value in [&b""[..], b"text", b"{", b"\xff"] {
            assert!(!filter.holds(value));
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_where_it_is_wrong() {
        for (filter, at, why) in [
            ("", 1, "found the end"),
            ("$.a", 4, "==, !="),
            ("$.a = 1", 5, "==, !="),
            ("$.a == ", 8, "found the end"),
            ("$.a == x", 8, "between quotes"),
            ("$.a == [1]", 8, "between quotes"),
            ("$.a == 'x", 8, "nothing ends this one"),
            ("$.a == \"x", 8, "nothing ends this one"),
            ("$.a == 01", 8, "a number"),
            ("$.a == 1 2", 10, "`and`, `or` or the end"),
            ("$.a == 1 and", 13, "a path"),
            ("$.a == 1 && $.b == 2", 10, "found `&`"),
            ("($.a == 1", 10, "`)`"),
            ("$.a == 1)", 9, "found `)`"),
            ("$..a == 1", 3, "`..` is not among"),
            ("not $.x[ == 1", 10, "whole number"),
            ("exists $.a", 8, "`(`"),
            ("exists($.a == 1)", 12, "`)`"),
            ("starts_with($.a, 1)", 17, "a string"),
            ("starts_with($.a)", 16, "`,`"),
            ("$.a in []", 9, "between quotes"),
            ("$.a in [1,]", 11, "between quotes"),
            ("$.a in 1", 8, "`[`"),
            ("name == 1", 1, "a path"),
            ("1 == $.a", 1, "a path"),
        ] {
            let error = Filter::parse(filter).expect_err(filter);
            assert_eq!(error.at, at, "{filter}: {error}");
            assert!(error.to_string().contains(why), "{filter}: {error}");
        }
    }

    #[test]
    fn a_filter_is_bounded() {
        let nested = |depth: usize| format!("{}$.a == 1{}", "(".repeat(depth), ")".repeat(depth));
        assert!(Filter::parse(&nested(DEEPEST)).is_ok());
        assert!(Filter::parse(&nested(DEEPEST + 1)).unwrap_err().to_string().contains("at most 32 deep"));
        assert!(Filter::parse(&"not ".repeat(DEEPEST + 2)).unwrap_err().to_string().contains("32 deep"));
        let long = format!("$.a == '{}'", "é".repeat(MOST_BYTES));
        assert!(Filter::parse(&long).unwrap_err().to_string().contains("at most 4096 bytes"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_fall(text in "[$.a\\[\\]()'\"\\\\=!<>, 0-9éinotdrexs]{0,40}") {
            if let Ok(filter) = Filter::parse(&text) {
                filter.holds(PERSON.as_bytes());
            }
        }
    }
}
