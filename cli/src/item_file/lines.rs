//! Lines of bounded length, and where they stand.

use std::io::{self, BufRead, Read as _};

use super::LONGEST_TEXT;
use super::place::Place;

/// Gives the lines of an input one after the other.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    text: Vec<u8>,
    place: Place,
}

/// The next line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// It, with what ends it.
    Text(&'a [u8]),
    /// It is longer than any item can be. It was passed over and not held.
    TooLong,
    /// There are no more.
    End,
}

impl<R: BufRead> Lines<R> {
    /// The lines of an input that stands at this place.
    pub fn at(input: R, place: Place) -> Self {
        Self { input, text: Vec::new(), place }
    }

    /// Where the next line begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The input, and the lines from another place in it on.
    pub fn moved(&mut self, place: Place) -> &mut R {
        self.place = place;
        &mut self.input
    }

    /// The next line.
    pub fn next_line(&mut self) -> io::Result<Line<'_>> {
        self.text.clear();
        let mut taken = self.read_on()?;
        let too_long = taken > LONGEST_TEXT as u64;
        let mut length = taken;
        while taken > LONGEST_TEXT as u64 && !self.text.ends_with(b"\n") {
            self.text.clear();
            taken = self.read_on()?;
            length += taken;
        }
        if length == 0 {
            return Ok(Line::End);
        }
        self.place.offset += length;
        self.place.number += 1;
        if too_long {
            // The room that it took is not kept for the lines after it.
            self.text = Vec::new();
            return Ok(Line::TooLong);
        }
        Ok(Line::Text(&self.text))
    }

    /// Takes a line, or one byte more than a line may have.
    fn read_on(&mut self) -> io::Result<u64> {
        let mut bounded = (&mut self.input).take(LONGEST_TEXT as u64 + 1);
        Ok(bounded.read_until(b'\n', &mut self.text)? as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_places_and_may_lack_their_end() {
        let mut lines = Lines::at(&b"a\n\nbcd"[..], Place::FIRST);
        assert_eq!(lines.next_line().unwrap(), Line::Text(b"a\n"));
        assert_eq!(lines.next_line().unwrap(), Line::Text(b"\n"));
        assert_eq!(lines.place(), Place { offset: 3, number: 3 });
        assert_eq!(lines.next_line().unwrap(), Line::Text(b"bcd"));
        assert_eq!(lines.next_line().unwrap(), Line::End);
        assert_eq!(lines.place(), Place { offset: 6, number: 4 });
    }

    #[test]
    fn a_line_without_end_is_passed_over() {
        let long = vec![b'x'; 2 * LONGEST_TEXT + 5];
        let input = [&long[..], b"\nnext\n"].concat();
        let mut lines = Lines::at(&input[..], Place::FIRST);
        assert_eq!(lines.next_line().unwrap(), Line::TooLong);
        assert_eq!(lines.place(), Place { offset: long.len() as u64 + 1, number: 2 });
        assert_eq!(lines.next_line().unwrap(), Line::Text(b"next\n"));
    }
}
