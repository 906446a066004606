//! Paths into JSON values: the part of `JSONPath` (RFC 9535) whose cost is known beforehand.
//!
//! ```text
//!   $                  the whole value
//!   $.name  $['name']  a member of an object
//!   $[0]  $[-1]        an element of an array, from its beginning or its end
//!   $[*]  $.*          all elements of an array, or all values of an object's members
//! ```
//!
//! Where a path leads nowhere it selects nothing, which is no error. A path visits no part of a
//! value twice; descents (`..`), which could, filters, slices and unions are left out.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use thiserror::Error;

/// The longest path, in bytes.
pub const MOST_BYTES: usize = 1024;
/// The most steps of a path.
pub const MOST_STEPS: usize = 32;
/// RFC 9535 keeps to whole numbers that every implementation of JSON can hold.
const FURTHEST: i64 = (1 << 53) - 1;

/// A path that was understood.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    steps: Vec<Step>,
}

/// One step from a value to values in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// The member of an object with this name.
    Member(String),
    /// The element of an array with this number; -1 is the last.
    Element(i64),
    /// All elements, or all members' values.
    All,
}

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at character {at} of the path: {expected}")]
pub struct PathError {
    /// Where, counted in characters from 1.
    pub at: usize,
    /// What was expected there, and what was found.
    pub expected: String,
}

/// Something that a path can be followed in.
pub trait Follow: Copy {
    /// The member with this name, where this is an object that has it.
    fn member(self, name: &str) -> Option<Self>;
    /// The element with this number, where this is an array that has it; -1 is the last.
    fn element(self, number: i64) -> Option<Self>;
    /// All elements or members' values, added to those.
    fn all_into(self, found: &mut Vec<Self>);
}

impl Path {
    /// Understands a path, from its `$` to its end.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let (path, end) = Self::parse_front(text)?;
        if end < text.len() {
            return Err(Reader { text, at: end }.expected("`.name`, `[...]` or the end of the path"));
        }
        Ok(path)
    }

    /// Understands the path with which a text begins, and says how many bytes it takes.
    pub fn parse_front(text: &str) -> Result<(Self, usize), PathError> {
        let mut reader = Reader { text, at: 0 };
        let mut steps = Vec::new();
        if !reader.take('$') {
            return Err(reader.expected("`$`, with which a path begins"));
        }
        let mut end = reader.at;
        while let Some(step) = reader.step()? {
            if steps.len() == MOST_STEPS {
                return Err(reader.error(format!("a path has at most {MOST_STEPS} steps")));
            }
            steps.push(step);
            end = reader.at;
            if end > MOST_BYTES {
                return Err(reader.error(format!("a path has at most {MOST_BYTES} bytes")));
            }
        }
        Ok((Self { steps }, end))
    }

    /// Everything that the path leads to in a value, in the value's order.
    pub fn select<F: Follow>(&self, value: F) -> Vec<F> {
        let mut found = vec![value];
        for step in &self.steps {
            found = match step {
                Step::Member(name) => found.into_iter().filter_map(|value| value.member(name)).collect(),
                Step::Element(at) => found.into_iter().filter_map(|value| value.element(*at)).collect(),
                Step::All => {
                    let mut inner = Vec::new();
                    found.into_iter().for_each(|value| value.all_into(&mut inner));
                    inner
                }
            };
        }
        found
    }

    /// Whether the path may lead to more than one value.
    pub fn may_be_many(&self) -> bool {
        self.steps.contains(&Step::All)
    }

    /// The steps, from the whole value inwards.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

/// The one way in which a path is written whatever way it came: names behind a dot where they can
/// be, else between single quotes. Parsing it gives the same path again.
impl fmt::Display for Path {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("$")?;
        for step in &self.steps {
            match step {
                Step::Member(name) if is_plain(name) => write!(to, ".{name}")?,
                Step::Member(name) => write_quoted(to, name)?,
                Step::Element(at) => write!(to, "[{at}]")?,
                Step::All => to.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

impl<'v> Follow for &'v Value {
    fn member(self, name: &str) -> Option<Self> {
        self.as_object()?.get(name)
    }

    fn element(self, number: i64) -> Option<Self> {
        let elements = self.as_array()?;
        elements.get(place_of(number, elements.len())?)
    }

    fn all_into(self, found: &mut Vec<&'v Value>) {
        match self {
            Value::Array(elements) => found.extend(elements),
            Value::Object(members) => found.extend(members.values()),
            _ => {}
        }
    }
}

/// The place of an element counted from the beginning, or with a negative number from the end.
pub fn place_of(number: i64, count: usize) -> Option<usize> {
    match usize::try_from(number) {
        Ok(place) => (place < count).then_some(place),
        Err(_) => count.checked_sub(usize::try_from(number.unsigned_abs()).ok()?),
    }
}

/// What has been read of a path.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn step(&mut self) -> Result<Option<Step>, PathError> {
        self.skip_blanks();
        match self.peek() {
            Some('.') => {
                self.at += 1;
                self.after_dot().map(Some)
            }
            Some('[') => {
                self.at += 1;
                self.in_brackets().map(Some)
            }
            _ => Ok(None),
        }
    }

    fn after_dot(&mut self) -> Result<Step, PathError> {
        match self.peek() {
            Some('*') => {
                self.at += 1;
                Ok(Step::All)
            }
            Some('.') => Err(self.error("`..` is not among the steps that are offered here".to_owned())),
            Some(first) if begins_name(first) => {
                let rest = self.rest();
                let end = rest.find(|letter| !is_in_name(letter)).unwrap_or(rest.len());
                let name = rest.get(..end).unwrap_or_default().to_owned();
                self.at += end;
                Ok(Step::Member(name))
            }
            _ => Err(self.expected("a name (any other than letters, digits and _ goes as ['name']) or `*`")),
        }
    }

    fn in_brackets(&mut self) -> Result<Step, PathError> {
        self.skip_blanks();
        let step = match self.peek() {
            Some('*') => {
                self.at += 1;
                Step::All
            }
            Some(quote @ ('\'' | '"')) => {
                self.at += 1;
                Step::Member(self.quoted(quote)?)
            }
            Some('-' | '0'..='9') => Step::Element(self.number()?),
            Some('?') => {
                return Err(self.error("a filter is not among the steps that are offered here".into()));
            }
            _ => return Err(self.expected("a name between quotes, a whole number or `*`")),
        };
        self.skip_blanks();
        match self.peek() {
            Some(']') => {
                self.at += 1;
                Ok(step)
            }
            Some(':') => Err(self.error("slices are not among the steps that are offered here".to_owned())),
            Some(',') => Err(self.error("a step has one name or number: ask by several paths".to_owned())),
            _ => Err(self.expected("`]`")),
        }
    }

    fn number(&mut self) -> Result<i64, PathError> {
        let begin = self.at;
        self.take('-');
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += digits;
        let text = self.text.get(begin..self.at).unwrap_or_default();
        let number = text.parse::<i64>().ok().filter(|number| number.abs() <= FURTHEST);
        number.filter(|number| number.to_string() == text).ok_or_else(|| {
            Self { at: begin, ..*self }
                .error("the number must be whole, as it is written shortest".to_owned())
        })
    }

    /// A name up to the quote that ends it, with the escapes of JSON.
    fn quoted(&mut self, quote: char) -> Result<String, PathError> {
        let mut name = String::new();
        loop {
            let Some(letter) = self.peek() else { return Err(self.expected("the quote that ends the name")) };
            match letter {
                letter if letter == quote => {
                    self.at += 1;
                    return Ok(name);
                }
                '\\' => {
                    self.at += 1;
                    name.push(self.escaped(quote)?);
                }
                letter if letter < ' ' => {
                    return Err(self.expected("a control character as an escape, as \\n"));
                }
                letter => {
                    self.at += letter.len_utf8();
                    name.push(letter);
                }
            }
        }
    }

    fn escaped(&mut self, quote: char) -> Result<char, PathError> {
        let letter = match self.peek() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(plain @ ('/' | '\\')) => plain,
            Some(other) if other == quote => quote,
            Some('u') => {
                self.at += 1;
                return self.by_number();
            }
            _ => return Err(self.expected("one of b f n r t / \\ u or the quote after a \\")),
        };
        self.at += 1;
        Ok(letter)
    }

    /// A letter by its number; those beyond 16 bits are two numbers.
    fn by_number(&mut self) -> Result<char, PathError> {
        let begin = self.at;
        let high = self.four_digits()?;
        let mut units = vec![high];
        if (0xd800..0xdc00).contains(&high) && self.rest().starts_with("\\u") {
            self.at += 2;
            units.push(self.four_digits()?);
        }
        let mut letters = char::decode_utf16(units);
        match (letters.next(), letters.next()) {
            (Some(Ok(letter)), None) => Ok(letter),
            _ => Err(Self { at: begin, ..*self }.error("half of a surrogate pair is no letter".to_owned())),
        }
    }

    fn four_digits(&mut self) -> Result<u16, PathError> {
        let digits =
            self.rest().get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let number = number.ok_or_else(|| self.expected("four hexadecimal digits"))?;
        self.at += 4;
        Ok(number)
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn expected(&self, what: &str) -> PathError {
        self.error(match self.peek() {
            Some(found) => format!("expected {what}, found `{found}`"),
            None => format!("expected {what}, found the end"),
        })
    }

    fn error(&self, expected: String) -> PathError {
        let at = self.text.get(..self.at).unwrap_or_default().chars().count() + 1;
        PathError { at, expected }
    }
}

fn begins_name(letter: char) -> bool {
    letter.is_ascii_alphabetic() || letter == '_' || !letter.is_ascii()
}

fn is_in_name(letter: char) -> bool {
    begins_name(letter) || letter.is_ascii_digit()
}

fn is_plain(name: &str) -> bool {
    name.starts_with(begins_name) && name.chars().all(is_in_name)
}

fn write_quoted(to: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    to.write_str("['")?;
    for letter in name.chars() {
        match letter {
            '\'' => to.write_str("\\'")?,
            '\\' => to.write_str("\\\\")?,
            '\u{8}' => to.write_str("\\b")?,
            '\u{c}' => to.write_str("\\f")?,
            '\n' => to.write_str("\\n")?,
            '\r' => to.write_str("\\r")?,
            '\t' => to.write_str("\\t")?,
            letter if letter < ' ' => write!(to, "\\u{:04x}", u32::from(letter))?,
            letter => write!(to, "{letter}")?,
        }
    }
    to.write_str("']")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn selected(path: &str, value: &Value) -> Vec<Value> {
        Path::parse(path).unwrap().select(value).into_iter().cloned().collect()
    }

    #[test]
    fn a_path_leads_to_what_it_names() {
        let value = json!({
            "name": "Ann", "o'clock": 1, "größe": 2,
            "tags": ["a", "b", "c"],
            "stops": [{"city": "Bern"}, {"town": "x"}, {"city": "Genf"}],
            "by": {"x": 1, "y": 2},
        });
        let all = [
            ("$", vec![value.clone()]),
            ("$.name", vec![json!("Ann")]),
            ("$['name']", vec![json!("Ann")]),
            ("$[ \"name\" ]", vec![json!("Ann")]),
            ("$['o\\'clock']", vec![json!(1)]),
            ("$.größe", vec![json!(2)]),
            ("$['gr\\u00f6ße']", vec![json!(2)]),
            ("$.tags[0]", vec![json!("a")]),
            ("$.tags[-1]", vec![json!("c")]),
            ("$.tags[-3]", vec![json!("a")]),
            ("$.tags[-4]", vec![]),
            ("$.tags[3]", vec![]),
            ("$.tags[*]", vec![json!("a"), json!("b"), json!("c")]),
            ("$.stops[*].city", vec![json!("Bern"), json!("Genf")]),
            ("$.stops.*.city", vec![json!("Bern"), json!("Genf")]),
            ("$ .stops [1] .town", vec![json!("x")]),
            ("$.by[*]", vec![json!(1), json!(2)]),
            ("$.name[0]", vec![]),
            ("$.tags.name", vec![]),
            ("$.tags['0']", vec![]),
            ("$.absent.deeper", vec![]),
        ];
        for (path, expected) in all {
            assert_eq!(selected(path, &value), expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_a_path_is_refused_where_it_is_wrong() {
        let all = [
            ("", 1, "`$`, with which"),
            ("name", 1, "found `n`"),
            ("$name", 2, "`.name`, `[...]` or the end"),
            ("$.", 3, "found the end"),
            ("$.1a", 3, "a name"),
            ("$.a-b", 4, "the end of the path"),
            ("$..a", 3, "`..` is not among"),
            ("$.ä[x]", 5, "whole number or `*`"),
            ("$[", 3, "found the end"),
            ("$[]", 3, "found `]`"),
            ("$[1", 4, "`]`"),
            ("$[01]", 3, "written shortest"),
            ("$[-0]", 3, "written shortest"),
            ("$[-]", 3, "written shortest"),
            ("$[9007199254740992]", 3, "written shortest"),
            ("$[99999999999999999999]", 3, "written shortest"),
            ("$[0:2]", 4, "slices"),
            ("$[0,1]", 4, "several paths"),
            ("$[?@.a]", 3, "a filter"),
            ("$['a", 5, "the quote that ends"),
            ("$['a\\x']", 6, "after a \\"),
            ("$['\\ud800']", 6, "surrogate"),
            ("$['\\u12']", 6, "four hexadecimal"),
            ("$['a\nb']", 5, "as an escape"),
            ("$.a ", 4, "found ` `"),
        ];
        for (path, at, part) in all {
            let error = Path::parse(path).expect_err(path);
            assert_eq!(error.at, at, "{path}: {error}");
            assert!(error.to_string().contains(part), "{path}: {error}");
        }
    }

    #[test]
    fn a_path_is_bounded() {
        assert!(Path::parse(&format!("${}", ".a".repeat(MOST_STEPS))).is_ok());
        let error = Path::parse(&format!("${}", ".a".repeat(MOST_STEPS + 1))).unwrap_err();
        assert!(error.to_string().contains("at most 32 steps"), "{error}");
        assert!(Path::parse(&format!("$.{}", "a".repeat(MOST_BYTES - 2))).is_ok());
        let error = Path::parse(&format!("$.{}", "a".repeat(MOST_BYTES))).unwrap_err();
        assert!(error.to_string().contains("at most 1024 bytes"), "{error}");
    }

    #[test]
    fn there_is_one_way_to_write_a_path() {
        let all = [
            ("$", "$"),
            ("$['name'][\"x\"]", "$.name.x"),
            ("$.*", "$[*]"),
            ("$['a b']['']", "$['a b']['']"),
            ("$[\"it's\"]", "$['it\\'s']"),
            ("$['\\u0001\\n\\\\']", "$['\\u0001\\n\\\\']"),
            ("$ [ 1 ] .x", "$[1].x"),
        ];
        for (path, canonical) in all {
            assert_eq!(Path::parse(path).unwrap().to_string(), canonical, "{path}");
        }
    }

    #[test]
    fn the_front_of_a_text_may_be_a_path() {
        let (path, end) = Path::parse_front("$.a[0] == 1").unwrap();
        assert_eq!((path.to_string().as_str(), end), ("$.a[0]", 6));
        assert!(!path.may_be_many());
        assert!(Path::parse("$.a[*].b").unwrap().may_be_many());
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            ".{0,8}".prop_map(Step::Member),
            (-FURTHEST..=FURTHEST).prop_map(Step::Element),
            Just(Step::All),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(steps in prop::collection::vec(any_step(), 0..8)) {
            let path = Path { steps };
            prop_assert_eq!(Path::parse(&path.to_string()).unwrap(), path);
        }

        #[test]
        fn no_text_makes_the_reader_fall(text in "[$.\\[\\]'\"*a0\\-\\\\u ä]{0,24}") {
            let _ = Path::parse(&text);
        }
    }
}
