//! From lines to the words of a command. Words are quoted as in other shells; a command goes on
//! over the end of a line inside quotes, after a backslash, and in the text after `<<END`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use super::lines::{Line, Lines};

/// Shown where a command goes on.
const MORE: &str = "> ";

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its words; there is at least one.
    pub words: Vec<OsString>,
    /// The number of its first line, from 1, counted by the words' reader.
    pub line: usize,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A command.
    Statement(Statement),
    /// Somebody gave it up, or there is nothing on the line.
    GivenUp,
    /// It was the last, and does not end.
    Unfinished {
        /// Where it begins.
        line: usize,
        /// What it lacks.
        why: &'static str,
    },
    /// There are no more.
    End,
}

/// Reads a command: as many lines as it takes.
pub fn next_statement(lines: &mut impl Lines, table: &str) -> anyhow::Result<Next> {
    let mut text = match lines.next_line(&format!("{table}> "))? {
        Line::Text(text) => text,
        Line::GivenUp => return Ok(Next::GivenUp),
        Line::End => return Ok(Next::End),
    };
    let line = lines.taken();
    let (words, why) = loop {
        // Outside quotes the backslash and the end of its line are nothing at all.
        let mut joined = false;
        let why = if let Some((before, end)) = here_document(&text) {
            match read_until(lines, end)? {
                Line::Text(document) => break (words_of(before).map(|words| with(words, document)), ""),
                Line::GivenUp => return Ok(Next::GivenUp),
                Line::End => break (None, "the text after << has no end"),
            }
        } else if ends_with_backslash(&text) {
            joined = text.get(..text.len() - 1).is_some_and(|before| words_of(before).is_some());
            "the last line ends with a backslash"
        } else {
            match words_of(&text) {
                Some(words) => break (Some(words), ""),
                None => "a quote is not closed",
            }
        };
        match lines.next_line(MORE)? {
            Line::Text(more) => {
                if joined {
                    text.pop();
                } else {
                    text.push(b'\n');
                }
                text.extend_from_slice(&more);
            }
            Line::GivenUp => return Ok(Next::GivenUp),
            Line::End => break (None, why),
        }
    };
    lines.remember(&text);
    Ok(match words {
        None => Next::Unfinished { line, why },
        Some(words) if words.is_empty() => Next::GivenUp,
        Some(words) => Next::Statement(Statement { words, line }),
    })
}

fn words_of(text: &[u8]) -> Option<Vec<OsString>> {
    let words = shlex::bytes::split(text)?;
    Some(words.into_iter().map(OsString::from_vec).collect())
}

fn with(mut words: Vec<OsString>, document: Vec<u8>) -> Vec<OsString> {
    words.push(OsString::from_vec(document));
    words
}

/// What stands before `<<END`, and the word that ends the text; none where the line does not end
/// so, or where it does so in quotes.
fn here_document(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.windows(2).rposition(|pair| pair == b"<<")?;
    let (before, end) = (text.get(..at)?, text.get(at + 2..)?);
    let is_word = !end.is_empty() && end.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let apart = before.last().is_some_and(|byte| byte.is_ascii_whitespace());
    (is_word && apart && words_of(before).is_some()).then_some((before, end))
}

/// The lines up to the one that is `end`, without the last newline.
fn read_until(lines: &mut impl Lines, end: &[u8]) -> anyhow::Result<Line> {
    let mut document: Vec<Vec<u8>> = Vec::new();
    loop {
        match lines.next_line(MORE)? {
            Line::Text(line) if line == end => return Ok(Line::Text(document.join(&b'\n'))),
            Line::Text(line) => document.push(line),
            other => return Ok(other),
        }
    }
}

/// An even number of them stands for half as many.
fn ends_with_backslash(text: &[u8]) -> bool {
    text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::super::lines::Script;
    use super::*;

    fn read(script: &str) -> Vec<Next> {
        let mut lines = Script::new(script.as_bytes());
        let mut found = Vec::new();
        loop {
            match next_statement(&mut lines, "t").unwrap() {
                Next::End => return found,
                Next::GivenUp => {}
                next => found.push(next),
            }
        }
    }

    fn statement(line: usize, words: &[&str]) -> Next {
        Next::Statement(Statement { words: words.iter().map(OsString::from).collect(), line })
    }

    #[test]
    fn words_are_quoted_as_in_other_shells() {
        assert_eq!(
            read("put 'a b' \"c\\\"d\" e\\ f ''\n\n# nothing\nget k # why\r\n"),
            [statement(1, &["put", "a b", "c\"d", "e f", ""]), statement(4, &["get", "k"])]
        );
    }

    #[test]
    fn a_command_goes_on_over_lines() {
        assert_eq!(
            read("put k 'two\nlines'\nping\n"),
            [statement(1, &["put", "k", "two\nlines"]), statement(3, &["ping"])]
        );
        assert_eq!(read("put \\\n k \\\nv\n"), [statement(1, &["put", "k", "v"])]);
        assert_eq!(read("put k v\\\\\nping"), [statement(1, &["put", "k", "v\\"]), statement(2, &["ping"])]);
        assert_eq!(
            read("put k <<END\n a 'b\n\nEND \nEND\nping\n"),
            [statement(1, &["put", "k", " a 'b\n\nEND "]), statement(6, &["ping"])]
        );
        assert_eq!(read("put k <<E\nE\n"), [statement(1, &["put", "k", ""])]);
        assert_eq!(
            read("put k '<<E'\nput k a<<E\n"),
            [statement(1, &["put", "k", "<<E"]), statement(2, &["put", "k", "a<<E"])]
        );
    }

    #[test]
    fn what_has_no_end_is_not_run() {
        for (script, part) in
            [("ping\nput k 'v", "quote"), ("ping\nput k v\\", "backslash"), ("ping\nput k <<END\nv\n", "<<")]
        {
            let found = read(script);
            let Some(Next::Unfinished { line: 2, why }) = found.last() else { panic!("{script}: {found:?}") };
            assert!(why.contains(part), "{script}: {why}");
        }
    }
}
