//! Where lines come from.

use std::io::BufRead;

/// A source of lines.
pub trait Lines {
    /// The next line, without its end.
    fn next_line(&mut self, prompt: &str) -> anyhow::Result<Line>;
    /// How many lines were taken.
    fn taken(&self) -> usize;
    /// A whole command was read: what a terminal gives back when somebody asks for what they
    /// typed before.
    fn remember(&mut self, _statement: &[u8]) {}
}

/// A line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line.
    Text(Vec<u8>),
    /// Somebody gave the line up.
    GivenUp,
    /// There are no more.
    End,
}

/// A script, where nobody is asked and prompts are not shown.
#[derive(Debug)]
pub struct Script<R> {
    input: R,
    taken: usize,
}

impl<R: BufRead> Script<R> {
    /// A script from there.
    pub fn new(input: R) -> Self {
        Self { input, taken: 0 }
    }
}

impl<R: BufRead> Lines for Script<R> {
    fn next_line(&mut self, _prompt: &str) -> anyhow::Result<Line> {
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(Line::End),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        self.taken += 1;
        for end in [b'\n', b'\r'] {
            if line.last() == Some(&end) {
                line.pop();
            }
        }
        Ok(Line::Text(line))
    }

    fn taken(&self) -> usize {
        self.taken
    }
}
