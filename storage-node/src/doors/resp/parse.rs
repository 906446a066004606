//! Requests of the Redis protocol, from whatever has arrived.
//!
//! ```text
//!   *2\r\n$3\r\nGET\r\n$1\r\nk\r\n        an array of strings with their lengths: what clients send
//!   GET k\r\n                            a line of words: what people type into netcat
//! ```
//!
//! It is pure: bytes go in, requests come out, and what is incomplete is gone on with when
//! more has come, without looking at any byte twice.

use bytes::{Buf, Bytes, BytesMut};

/// A line of words is at most so long, and so is the line that announces a length.
const LONGEST_LINE: usize = 64 << 10;
/// A request has at most so many parts.
const MOST_PARTS: usize = 1 << 20;
/// What a part takes besides its bytes.
const PART_COST: usize = std::mem::size_of::<Bytes>();

/// A request: the command's name and its arguments.
pub type Request = Vec<Bytes>;

/// Why a connection cannot go on: nobody knows where the next request would begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number of parts makes no sense.
    #[error("Protocol error: invalid multibulk length")]
    Parts,
    /// The length of a part makes no sense, or is more than is allowed.
    #[error("Protocol error: invalid bulk length")]
    Length,
    /// A part does not begin as it must.
    #[error("Protocol error: expected '$', got '{0}'")]
    NoLength(char),
    /// A line of words does not end.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// The line that announces the number of parts does not end.
    #[error("Protocol error: too big mbulk count string")]
    PartsTooLong,
    /// The line that announces a length does not end.
    #[error("Protocol error: too big bulk count string")]
    LengthTooLong,
    /// A quote is not closed.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    /// The whole is more than is allowed.
    #[error("Protocol error: the request is larger than this node allows")]
    TooLarge,
}

/// Takes requests out of a buffer.
#[derive(Debug)]
pub struct Parser {
    longest_part: usize,
    largest_request: usize,
    /// Parts of the request under way that are still to come.
    missing: usize,
    parts: Vec<Bytes>,
    /// What the parts hold.
    held: usize,
    /// The announced length of the part under way.
    length: Option<usize>,
    /// How far the line under way was searched for its end.
    searched: usize,
}

impl Parser {
    /// A parser that allows parts and requests of so many bytes.
    pub fn new(longest_part: usize, largest_request: usize) -> Self {
        Self {
            longest_part,
            largest_request,
            missing: 0,
            parts: Vec::new(),
            held: 0,
            length: None,
            searched: 0,
        }
    }

    /// What the request under way holds outside the buffer.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The next request, if it has come whole. Empty ones are passed over.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        loop {
            if self.missing == 0 {
                match buffer.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        let Some(line) = self.line(buffer, ProtocolError::PartsTooLong)? else {
                            return Ok(None);
                        };
                        let count = number(line.get(1..).unwrap_or_default()).ok_or(ProtocolError::Parts)?;
                        if count > MOST_PARTS as i64 {
                            return Err(ProtocolError::Parts);
                        }
                        // None or fewer is an empty request.
                        self.missing = usize::try_from(count).unwrap_or(0);
                        self.held = 0;
                        self.parts = Vec::with_capacity(self.missing.min(64));
                    }
                    Some(_) => {
                        let Some(line) = self.line(buffer, ProtocolError::InlineTooLong)? else {
                            return Ok(None);
                        };
                        let words = words(&line)?;
                        if !words.is_empty() {
                            return Ok(Some(words));
                        }
                    }
                }
                continue;
            }
            let Some(part) = self.part(buffer)? else { return Ok(None) };
            self.held += part.len() + PART_COST;
            if self.held > self.largest_request {
                return Err(ProtocolError::TooLarge);
            }
            self.parts.push(part);
            self.missing -= 1;
            if self.missing == 0 {
                self.held = 0;
                return Ok(Some(std::mem::take(&mut self.parts)));
            }
        }
    }

    fn part(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, ProtocolError> {
        let length = match self.length {
            Some(length) => length,
            None => {
                match buffer.first() {
                    None => return Ok(None),
                    Some(b'$') => {}
                    Some(other) => return Err(ProtocolError::NoLength(char::from(*other))),
                }
                let Some(line) = self.line(buffer, ProtocolError::LengthTooLong)? else { return Ok(None) };
                let length = number(line.get(1..).unwrap_or_default())
                    .and_then(|length| usize::try_from(length).ok())
                    .filter(|length| *length <= self.longest_part)
                    .ok_or(ProtocolError::Length)?;
                if self.held + length > self.largest_request {
                    return Err(ProtocolError::TooLarge);
                }
                self.length = Some(length);
                length
            }
        };
        // What follows the bytes is taken for the end of the line without a look, as Redis does.
        if buffer.len() < length + 2 {
            // Room for the rest, so that it is not copied again and again while it arrives.
            buffer.reserve(length + 2 - buffer.len());
            return Ok(None);
        }
        self.length = None;
        let part = buffer.split_to(length).freeze();
        buffer.advance(2);
        Ok(Some(part))
    }

    /// The line that the buffer begins with, without its end.
    fn line(
        &mut self,
        buffer: &mut BytesMut,
        too_long: ProtocolError,
    ) -> Result<Option<BytesMut>, ProtocolError> {
        let rest = buffer.get(self.searched..).unwrap_or_default();
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(at) if self.searched + at <= LONGEST_LINE => {
                let mut line = buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                line.truncate(line.len() - 1);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                Ok(Some(line))
            }
            None if buffer.len() <= LONGEST_LINE => {
                self.searched = buffer.len();
                Ok(None)
            }
            _ => Err(too_long),
        }
    }
}

/// A whole number, written as Redis writes it.
fn number(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!text.starts_with(b"+")).then_some(number)
}

/// The words of a line. Words in double quotes may hold `\n`, `\xHH` and their like; in single
/// quotes only `\'` means something.
fn words(line: &[u8]) -> Result<Request, ProtocolError> {
    let mut words = Vec::new();
    let mut rest = line.iter().copied().peekable();
    loop {
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
        if rest.peek().is_none() {
            return Ok(words);
        }
        let mut word = Vec::new();
        loop {
            match rest.next() {
                None => break,
                Some(quote @ (b'"' | b'\'')) => {
                    quoted(&mut rest, quote, &mut word)?;
                    // A closing quote ends the word.
                    if rest.peek().is_some_and(|next| !next.is_ascii_whitespace()) {
                        return Err(ProtocolError::Quotes);
                    }
                    break;
                }
                Some(byte) if byte.is_ascii_whitespace() || byte == 0 => break,
                Some(byte) => word.push(byte),
            }
        }
        words.push(word.into());
    }
}

fn quoted(
    rest: &mut std::iter::Peekable<impl Iterator<Item = u8> + Clone>,
    quote: u8,
    word: &mut Vec<u8>,
) -> Result<(), ProtocolError> {
    loop {
        match rest.next().ok_or(ProtocolError::Quotes)? {
            byte if byte == quote => return Ok(()),
            b'\\' if quote == b'\'' => {
                if rest.next_if_eq(&b'\'').is_some() {
                    word.push(b'\'');
                } else {
                    word.push(b'\\');
                }
            }
            b'\\' => {
                let escaped = rest.next().ok_or(ProtocolError::Quotes)?;
                match escaped {
                    b'n' => word.push(b'\n'),
                    b'r' => word.push(b'\r'),
                    b't' => word.push(b'\t'),
                    b'b' => word.push(8),
                    b'a' => word.push(7),
                    b'x' => {
                        let mut ahead = rest.clone();
                        let digits = ahead.next().and_then(hex).zip(ahead.next().and_then(hex));
                        match digits {
                            Some((high, low)) => {
                                word.push(high << 4 | low);
                                *rest = ahead;
                            }
                            None => word.push(b'x'),
                        }
                    }
                    other => word.push(other),
                }
            }
            byte => word.push(byte),
        }
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Result<Vec<Vec<String>>, ProtocolError> {
        let mut parser = Parser::new(100, 1000);
        let mut buffer = BytesMut::from(input);
        let mut requests = Vec::new();
        while let Some(request) = parser.next(&mut buffer)? {
            requests.push(request.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect());
        }
        Ok(requests)
    }

    #[test]
    fn requests_come_out_whatever_the_pieces_they_come_in() {
        let input = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*0\r\n*-1\r\nSET  a 'b c'\r\n\r\n*1\r\n$4\r\nPING\r\n";
        let wanted = all(input).unwrap();
        assert_eq!(wanted, [vec!["GET", "k"], vec!["SET", "a", "b c"], vec!["PING"]]);
        for cut in 1..input.len() {
            let mut parser = Parser::new(100, 1000);
            let mut buffer = BytesMut::new();
            let mut requests = Vec::new();
            for piece in [&input[..cut], &input[cut..]] {
                buffer.extend_from_slice(piece);
                while let Some(request) = parser.next(&mut buffer).unwrap() {
                    requests.push(request.len());
                }
            }
            assert_eq!(requests, [2, 3, 1], "cut at {cut}");
        }
    }

    #[test]
    fn what_cannot_be_gone_on_with_has_redis_own_words() {
        let said = |input: &[u8]| all(input).unwrap_err().to_string();
        assert_eq!(said(b"*x\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(said(b"*1000000000\r\n"), "Protocol error: invalid multibulk length");
        assert_eq!(said(b"*1\r\n:1\r\n"), "Protocol error: expected '$', got ':'");
        assert_eq!(said(b"*1\r\n$-1\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(said(b"*1\r\n$2147483648\r\n"), "Protocol error: invalid bulk length");
        assert_eq!(said(b"*1\r\n*1\r\n"), "Protocol error: expected '$', got '*'");
        assert_eq!(said(b"GET \"k\r\n"), "Protocol error: unbalanced quotes in request");
        assert_eq!(said(b"GET \"k\"x\r\n"), "Protocol error: unbalanced quotes in request");
        assert_eq!(said(&vec![b'a'; 70_000]), "Protocol error: too big inline request");
        assert_eq!(
            said(&[&b"*"[..], &vec![b'1'; 70_000]].concat()),
            "Protocol error: too big mbulk count string"
        );
    }

    #[test]
    fn a_request_is_bounded_as_a_whole() {
        let mut input = b"*100\r\n".to_vec();
        for _ in 0..100 {
            input.extend_from_slice(b"$50\r\n");
            input.extend_from_slice(&[b'v'; 50]);
            input.extend_from_slice(b"\r\n");
        }
        assert_eq!(all(&input), Err(ProtocolError::TooLarge));
    }

    #[test]
    fn words_are_quoted_as_redis_cli_quotes_them() {
        let line = br#"SET "a\x41\n\"b" 'it\'s' plain"#;
        let request = words(line).unwrap();
        assert_eq!(request, ["SET", "aA\n\"b", "it's", "plain"]);
    }
}
