//! Pointers into JSON values (RFC 6901), by which the operations of a JSON patch say where.

use std::fmt;

/// The longest pointer, in bytes.
const MOST_BYTES: usize = 4096;

/// A pointer that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    tokens: Vec<Token>,
}

/// One step: a member's name, or the number of an element where it comes to an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    text: String,
}

impl Pointer {
    /// Understands a pointer.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("a pointer has at most {MOST_BYTES} bytes"));
        }
        let Some(rest) = text.strip_prefix('/') else {
            return match text {
                "" => Ok(Self { tokens: Vec::new() }),
                _ => Err(format!("{text:?} is no pointer: one is empty or begins with /")),
            };
        };
        let tokens = rest.split('/').map(Token::parse).collect::<Result<_, _>>()?;
        Ok(Self { tokens })
    }

    /// How many steps it has.
    pub fn steps(&self) -> usize {
        self.tokens.len()
    }

    /// The last step and those before it; none: it points to the whole value.
    pub fn split_last(&self) -> Option<(&Token, &[Token])> {
        self.tokens.split_last()
    }

    /// Whether the other points to something inside of what this one points to.
    pub fn is_before(&self, other: &Self) -> bool {
        other.tokens.len() > self.tokens.len() && other.tokens.starts_with(&self.tokens)
    }
}

impl Token {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split('~');
        let mut said = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (letter, rest) = match (part.strip_prefix('0'), part.strip_prefix('1')) {
                (Some(rest), _) => ('~', rest),
                (_, Some(rest)) => ('/', rest),
                _ => return Err(format!("in {text:?} a ~ is followed by neither 0 nor 1")),
            };
            said.push(letter);
            said.push_str(rest);
        }
        Ok(Self { text: said })
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The number that it is, written shortest.
    pub fn number(&self) -> Option<u64> {
        let number: u64 = self.text.parse().ok()?;
        (number.to_string() == self.text).then_some(number)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tokens.is_empty() {
            return to.write_str("the whole value");
        }
        self.tokens
            .iter()
            .try_for_each(|token| write!(to, "/{}", token.text.replace('~', "~0").replace('/', "~1")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_and_written() {
        for text in ["/", "/a/b", "/a~1b/m~0n", "/0/-", "/ /é", "//"] {
            assert_eq!(Pointer::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Pointer::parse("").unwrap().steps(), 0);
        assert_eq!(Pointer::parse("/~01").unwrap().tokens[0].text(), "~1");
        for bad in ["a", "#/a", "/~", "/~2", "/a~"] {
            assert!(Pointer::parse(bad).is_err(), "{bad}");
        }
        assert!(Pointer::parse(&"/a".repeat(MOST_BYTES)).is_err());
    }

    #[test]
    fn a_number_is_one_only_as_it_is_written_shortest() {
        let number = |text: &str| Pointer::parse(text).unwrap().tokens[0].number();
        assert_eq!(number("/10"), Some(10));
        for text in ["/01", "/-1", "/+1", "/1e0", "/", "/-", "/99999999999999999999"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
