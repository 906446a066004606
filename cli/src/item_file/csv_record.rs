//! The fields of one record, by RFC 4180 and no more leniently: what other readers would guess
//! at is refused, so that a broken file is noticed where it breaks.

/// A record that is being read, line by line.
#[derive(Debug, Default)]
pub struct CsvRecord {
    /// All fields, one after the other.
    text: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    /// Whether the last line ended within quotes.
    quoted: bool,
}

/// What a line made of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Fed {
    /// It is whole.
    Whole,
    /// It goes on in the next line.
    More,
}

impl CsvRecord {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.quoted = false;
    }

    /// How much there is of it.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether it goes on in the next line.
    pub fn is_open(&self) -> bool {
        self.quoted
    }

    /// How many fields it has.
    pub fn fields(&self) -> usize {
        self.ends.len()
    }

    /// A field; none where there are not so many.
    pub fn field(&self, at: usize) -> Option<&[u8]> {
        let start = match at.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..*self.ends.get(at)?)
    }

    /// Takes a line, with what ends it.
    pub fn feed(&mut self, line: &[u8]) -> Result<Fed, &'static str> {
        let mut rest = line;
        if !self.quoted {
            rest = self.begin_field(rest);
        }
        loop {
            if self.quoted {
                let Some(at) = rest.iter().position(|byte| *byte == b'"') else {
                    self.text.extend_from_slice(rest);
                    return Ok(Fed::More);
                };
                let (before, after) = rest.split_at(at);
                self.text.extend_from_slice(before);
                match after {
                    [_, b'"', after @ ..] => {
                        self.text.push(b'"');
                        rest = after;
                    }
                    [_, b',', after @ ..] => {
                        self.quoted = false;
                        self.ends.push(self.text.len());
                        rest = self.begin_field(after);
                    }
                    [_] | [_, b'\n'] | [_, b'\r', b'\n'] => {
                        self.quoted = false;
                        self.ends.push(self.text.len());
                        return Ok(Fed::Whole);
                    }
                    _ => return Err("something follows the quote that closes a field"),
                }
            } else {
                let at = rest.iter().position(|byte| matches!(byte, b',' | b'"'));
                match at.map(|at| rest.split_at(at)) {
                    Some((before, [b',', after @ ..])) => {
                        self.text.extend_from_slice(before);
                        self.ends.push(self.text.len());
                        rest = self.begin_field(after);
                    }
                    Some(_) => return Err("a field has a quote in it and is not quoted"),
                    None => {
                        self.text.extend_from_slice(without_end(rest));
                        self.ends.push(self.text.len());
                        return Ok(Fed::Whole);
                    }
                }
            }
        }
    }

    /// Passes over the quote that a field begins with.
    fn begin_field<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        match rest {
            [b'"', inner @ ..] => {
                self.quoted = true;
                inner
            }
            _ => rest,
        }
    }
}

/// Adds a field, in quotes where it needs them.
pub fn write_field(field: &[u8], out: &mut Vec<u8>) {
    if !field.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        out.extend_from_slice(field);
        return;
    }
    out.push(b'"');
    for byte in field {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[&str]) -> Result<Vec<String>, &'static str> {
        let mut record = CsvRecord::default();
        let (last, before) = lines.split_last().unwrap();
        for line in before {
            assert_eq!(record.feed(line.as_bytes())?, Fed::More);
        }
        assert_eq!(record.feed(last.as_bytes())?, Fed::Whole);
        let text = |at| String::from_utf8(record.field(at).unwrap().to_vec()).unwrap();
        Ok((0..record.fields()).map(text).collect())
    }

    #[test]
    fn records_are_as_in_rfc_4180() {
        assert_eq!(fields(&["a,b\r\n"]), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(fields(&["a,"]), Ok(vec!["a".into(), String::new()]));
        assert_eq!(fields(&["\"\",\"x\"\n"]), Ok(vec![String::new(), "x".into()]));
        assert_eq!(fields(&["\"a\"\"b,\",c\n"]), Ok(vec!["a\"b,".into(), "c".into()]));
        assert_eq!(fields(&["k,\"1\r\n", "\n", "3\"\n"]), Ok(vec!["k".into(), "1\r\n\n3".into()]));
    }

    #[test]
    fn what_is_not_of_rfc_4180_is_refused() {
        assert!(fields(&["a\"b\n"]).unwrap_err().contains("not quoted"));
        assert!(fields(&["\"a\"b\n"]).unwrap_err().contains("follows the quote"));
        assert!(fields(&["\"a\" ,b\n"]).unwrap_err().contains("follows the quote"));
    }
}
