//! Lines of fields, read as they arrive and written.
//!
//! ```text
//!   PUT|a\|b|two\nlines⏎      fields  "PUT", "a|b", "two⏎lines"
//! ```
//!
//! A field is bytes. What would end it or its line is written with a backslash:
//!
//! | byte | written | |
//! |---|---|---|
//! | `\|` | `\\\|` | ends a field |
//! | newline | `\n` | ends a line; so does carriage return and newline |
//! | backslash | `\\` | |
//! | carriage return | `\r` | |
//! | other control bytes but tab | `\xHH` | |
//! | all others | as they are | UTF-8 or not |
//!
//! `\t` and any `\xHH` are understood too. A control byte that is not escaped is no text: what
//! follows it is not read.
//!
//! Bytes are decoded as they come, so a line is held once, and one that is too long is not held.

/// One line, split and decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// All fields, one after the other.
    pub bytes: Vec<u8>,
    /// Where in `bytes` each field ends.
    pub ends: Vec<usize>,
}

/// Why a line cannot be used. The next one can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is longer than a line may be.
    #[error("the line is longer than {0} bytes")]
    TooLong(usize),
    /// It has more fields than a line may have.
    #[error("the line has more than {0} fields")]
    TooManyFields(usize),
    /// A backslash before something that it does not go with.
    #[error("a backslash stands before one of | \\ n r t, or before x and two hexadecimal digits")]
    Escape,
}

/// What was found in what arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A line, which may be of no use.
    Line(Result<Line, Fault>),
    /// A byte that no line may hold: what arrives is no text.
    Junk(u8),
}

/// Reads lines out of whatever pieces they arrive in.
#[derive(Debug)]
pub struct LineReader {
    most_bytes: usize,
    most_fields: usize,
    line: Line,
    fault: Option<Fault>,
    state: State,
    /// Something of this line has arrived.
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    /// After a backslash.
    Escape,
    /// After `\x`.
    FirstDigit,
    /// After `\x` and a digit.
    SecondDigit(u8),
    /// After a carriage return, which only a newline may follow.
    Return,
    /// A byte came that no line may hold.
    Junk(u8),
}

impl LineReader {
    /// For lines of so many bytes, decoded, and so many fields.
    pub fn new(most_bytes: usize, most_fields: usize) -> Self {
        Self {
            most_bytes,
            most_fields,
            line: Line::default(),
            fault: None,
            state: State::Plain,
            begun: false,
        }
    }

    /// Reads up to the end of a line. Says how much of the input it took, and what it found;
    /// nothing: it took all, and the line goes on.
    pub fn feed(&mut self, input: &[u8]) -> (usize, Option<Event>) {
        let mut rest = input;
        while let Some((&byte, after)) = rest.split_first() {
            if self.state == State::Plain {
                // Most of a line is plain, and is copied at once.
                let plain = rest.iter().take_while(|byte| is_plain(**byte)).count();
                let (plain, after) = rest.split_at(plain);
                if !plain.is_empty() {
                    self.begun = true;
                    self.keep(plain);
                    rest = after;
                    continue;
                }
            }
            if let Some(event) = self.take(byte) {
                // Junk is not taken: it is found again by whoever reads on.
                let left = if matches!(event, Event::Junk(_)) { rest } else { after };
                return (input.len() - left.len(), Some(event));
            }
            rest = after;
        }
        (input.len(), None)
    }

    /// What it holds of a line that is not complete.
    pub fn held(&self) -> usize {
        self.line.bytes.capacity() + self.line.ends.capacity() * size_of::<usize>()
    }

    /// Whether a line has begun that is not complete.
    pub fn is_midway(&self) -> bool {
        self.begun
    }

    fn take(&mut self, byte: u8) -> Option<Event> {
        if let State::Junk(junk) = self.state {
            return Some(Event::Junk(junk));
        }
        // A line ends here however it went on before, so that one bad escape spoils one line.
        if byte == b'\n' {
            return Some(Event::Line(self.end()));
        }
        self.begun = true;
        if self.state == State::Return || is_junk(byte) {
            self.state = State::Junk(if self.state == State::Return { b'\r' } else { byte });
            self.line = Line::default();
            return self.take(byte);
        }
        if byte == b'\r' {
            if self.state != State::Plain {
                self.fail(Fault::Escape);
            }
            self.state = State::Return;
            return None;
        }
        let (next, decoded) = match (self.state, byte) {
            (State::Plain, b'\\') => (State::Escape, None),
            (State::Plain, b'|') => {
                self.end_field();
                (State::Plain, None)
            }
            (State::Escape, b'|' | b'\\') => (State::Plain, Some(byte)),
            (State::Escape, b'n') => (State::Plain, Some(b'\n')),
            (State::Escape, b'r') => (State::Plain, Some(b'\r')),
            (State::Escape, b't') => (State::Plain, Some(b'\t')),
            (State::Escape, b'x') => (State::FirstDigit, None),
            (State::FirstDigit, digit) if digit.is_ascii_hexdigit() => {
                (State::SecondDigit(hexadecimal(digit)), None)
            }
            (State::SecondDigit(first), digit) if digit.is_ascii_hexdigit() => {
                (State::Plain, Some(first << 4 | hexadecimal(digit)))
            }
            (State::Plain, other) => (State::Plain, Some(other)),
            _ => {
                self.fail(Fault::Escape);
                (State::Plain, None)
            }
        };
        self.state = next;
        if let Some(decoded) = decoded {
            self.keep(&[decoded]);
        }
        None
    }

    fn keep(&mut self, decoded: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if self.line.bytes.len() + self.line.ends.len() + decoded.len() > self.most_bytes {
            self.fail(Fault::TooLong(self.most_bytes));
            return;
        }
        self.line.bytes.extend_from_slice(decoded);
    }

    fn end_field(&mut self) {
        if self.fault.is_some() {
            return;
        }
        if self.line.ends.len() + 1 >= self.most_fields {
            self.fail(Fault::TooManyFields(self.most_fields));
            return;
        }
        self.line.ends.push(self.line.bytes.len());
    }

    /// The rest of the line is passed over, and what was held of it is let go.
    fn fail(&mut self, fault: Fault) {
        if self.fault.is_none() {
            self.fault = Some(fault);
            self.line = Line::default();
        }
    }

    fn end(&mut self) -> Result<Line, Fault> {
        if !matches!(self.state, State::Plain | State::Return) {
            self.fail(Fault::Escape);
        }
        self.state = State::Plain;
        self.begun = false;
        let mut line = std::mem::take(&mut self.line);
        match self.fault.take() {
            Some(fault) => Err(fault),
            None => {
                line.ends.push(line.bytes.len());
                Ok(line)
            }
        }
    }
}

impl Line {
    /// Its fields; there is always one.
    pub fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |end| {
            let field = self.bytes.get(from..*end).unwrap_or_default();
            from = *end;
            field
        })
    }
}

/// Writes a field so that it can be read back, whatever its bytes.
pub fn escape(field: &[u8], out: &mut Vec<u8>) {
    let mut rest = field;
    while !rest.is_empty() {
        let (plain, after) = rest.split_at(rest.iter().take_while(|byte| is_plain(**byte)).count());
        out.extend_from_slice(plain);
        let Some((&byte, after)) = after.split_first() else { return };
        match byte {
            b'|' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            other => out.extend_from_slice(format!("\\x{other:02x}").as_bytes()),
        }
        rest = after;
    }
}

/// Bytes that stand for themselves.
fn is_plain(byte: u8) -> bool {
    !matches!(byte, b'|' | b'\\') && (byte >= b' ' || byte == b'\t')
}

/// Bytes that are never in text.
fn is_junk(byte: u8) -> bool {
    byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')
}

fn hexadecimal(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => (digit | 0x20).saturating_sub(b'a') + 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(input: &[u8]) -> Vec<Event> {
        let mut reader = LineReader::new(64, 5);
        read_with(&mut reader, input)
    }

    fn read_with(reader: &mut LineReader, mut input: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !input.is_empty() {
            let (taken, event) = reader.feed(input);
            input = &input[taken..];
            let junk = matches!(event, Some(Event::Junk(_)));
            events.extend(event);
            if junk {
                break;
            }
        }
        events
    }

    fn line(fields: &[&[u8]]) -> Event {
        let mut line = Line::default();
        for field in fields {
            line.bytes.extend_from_slice(field);
            line.ends.push(line.bytes.len());
        }
        Event::Line(Ok(line))
    }

    #[test]
    fn fields_are_split_and_decoded() {
        assert_eq!(read(b"PUT|k|v\n"), [line(&[b"PUT", b"k", b"v"])]);
        assert_eq!(read(b"PUT|a\\|b|two\\nlines\\\\\r\n"), [line(&[b"PUT", b"a|b", b"two\nlines\\"])]);
        assert_eq!(read(b"\\x00\\xfF\\r\\t\t|\xff\xc3\xa9\n"), [line(&[b"\x00\xff\r\t\t", b"\xff\xc3\xa9"])]);
        assert_eq!(read(b"\n||\n"), [line(&[b""]), line(&[b"", b"", b""])]);
        let Event::Line(Ok(found)) = line(&[b"", b"ab", b"c"]) else { panic!() };
        assert_eq!(found.fields().collect::<Vec<_>>(), [&b""[..], b"ab", b"c"]);
    }

    #[test]
    fn a_bad_line_leaves_the_next_one_alone() {
        let next = || line(&[b"PING"]);
        for (input, fault) in [
            (&b"a\\q"[..], Fault::Escape),
            (b"a\\", Fault::Escape),
            (b"a\\x", Fault::Escape),
            (b"a\\x4", Fault::Escape),
            (b"a\\xg0", Fault::Escape),
            (b"a\\x4g", Fault::Escape),
            (b"a\\\r", Fault::Escape),
            (b"1|2|3|4|5|6", Fault::TooManyFields(5)),
            (&[b'a'; 65], Fault::TooLong(64)),
            (&[b'|'; 65], Fault::TooManyFields(5)),
        ] {
            let input = [input, b"\nPING\n"].concat();
            assert_eq!(read(&input), [Event::Line(Err(fault)), next()], "{}", input.escape_ascii());
        }
        assert_eq!(read(&[&[b'a'; 64][..], b"\n"].concat()), [line(&[&[b'a'; 64]])]);
    }

    #[test]
    fn a_line_that_is_too_long_is_not_held() {
        let mut reader = LineReader::new(64, 5);
        for _ in 0..100 {
            assert_eq!(reader.feed(&[b'x'; 1000]), (1000, None));
            assert!(reader.held() < 1000 && reader.is_midway());
        }
        assert_eq!(reader.feed(b"\nrest"), (1, Some(Event::Line(Err(Fault::TooLong(64))))));
        assert!(!reader.is_midway());
        // What is written with an escape counts as what it stands for.
        assert_eq!(read(&[b"\\x00".repeat(64), b"\n".to_vec()].concat()), [line(&[&[0; 64]])]);
    }

    #[test]
    fn what_is_no_text_is_found_and_not_passed() {
        for (input, junk) in [
            (&b"GET|a\0b\n"[..], 0),
            (b"\x16\x03\x01", 0x16),
            (b"a\rb\n", b'\r'),
            (b"a\r\r\n", b'\r'),
            (b"a\x1b[A\n", 0x1b),
        ] {
            let mut reader = LineReader::new(64, 5);
            let (taken, event) = reader.feed(input);
            assert_eq!(event, Some(Event::Junk(junk)), "{}", input.escape_ascii());
            assert!(taken < input.len());
            assert_eq!(reader.feed(b"PING\n"), (0, Some(Event::Junk(junk))));
            assert_eq!(reader.held(), 0);
        }
        // Also in a line that is passed over.
        let long = [&[b'a'; 100][..], b"\0"].concat();
        assert_eq!(read(&long), [Event::Junk(0)]);
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6)
        ) {
            let mut written = Vec::new();
            for (at, field) in fields.iter().enumerate() {
                if at > 0 {
                    written.push(b'|');
                }
                escape(field, &mut written);
            }
            prop_assert!(!written.iter().any(|byte| *byte == b'\n' || is_junk(*byte)));
            written.push(b'\n');
            let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(read_with(&mut LineReader::new(1000, 6), &written), [line(&fields)]);
        }

        #[test]
        fn it_does_not_matter_in_what_pieces_a_line_arrives(
            input in prop::collection::vec(
                prop_oneof![5 => any::<u8>(), 5 => prop::sample::select(&b"a|\\nx0\r\n"[..])],
                0..200,
            ),
            piece in 1..7_usize,
        ) {
            let whole = read(&input);
            let mut reader = LineReader::new(64, 5);
            let mut pieces = Vec::new();
            for piece in input.chunks(piece) {
                pieces.extend(read_with(&mut reader, piece));
                if matches!(pieces.last(), Some(Event::Junk(_))) {
                    break;
                }
            }
            prop_assert_eq!(whole, pieces);
        }
    }
}
