//! Lines that somebody types: with history, and with TAB.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use tokio::runtime::Handle;

use super::completion::Completion;
use super::lines::{Line, Lines};
use crate::arguments::Global;
use crate::exit::Exit;
use crate::output::note;

/// Commands that are remembered.
const REMEMBERED: usize = 10_000;

/// A terminal with somebody in front of it.
pub struct Terminal {
    editor: Editor<Tab, FileHistory>,
    history: Option<PathBuf>,
    /// What was pasted comes at once, and may be several lines.
    pasted: VecDeque<String>,
    taken: usize,
    coloured: bool,
}

/// What TAB does.
struct Tab {
    completion: Completion,
    runtime: Handle,
}

impl Terminal {
    /// The terminal of this process. Without a folder for it there is no history.
    pub fn new(global: &Global) -> anyhow::Result<Self> {
        let config = Config::builder()
            .max_history_size(REMEMBERED)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Tab { completion: Completion::new(global), runtime: Handle::current() }));
        let history = history_file();
        if let Some(history) = &history {
            // There is none yet, the first time.
            let _ = editor.load_history(history);
        }
        let coloured = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
        Ok(Self { editor, history, pasted: VecDeque::new(), taken: 0, coloured })
    }

    /// Says how long a command took, and how it ended where it did not go well.
    pub fn tell_time(&self, took: Duration, exit: Exit) {
        let milliseconds = took.as_secs_f64() * 1000.0;
        let status = if exit == Exit::Done { String::new() } else { format!(", status {}", exit as u8) };
        let (dim, plain) = if self.coloured { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        note(format_args!("{dim}({milliseconds:.1} ms{status}){plain}"));
    }

    /// Completes with what the session says now.
    pub fn follow(&mut self, global: &Global) {
        if let Some(tab) = self.editor.helper_mut() {
            tab.completion = Completion::new(global);
        }
    }
}

impl Lines for Terminal {
    fn next_line(&mut self, prompt: &str) -> anyhow::Result<Line> {
        if self.pasted.is_empty() {
            match self.editor.readline(prompt) {
                Ok(text) => self.pasted.extend(text.split('\n').map(str::to_owned)),
                Err(ReadlineError::Interrupted) => return Ok(Line::GivenUp),
                Err(ReadlineError::Eof) => return Ok(Line::End),
                Err(error) => return Err(error.into()),
            }
        }
        self.taken += 1;
        Ok(Line::Text(self.pasted.pop_front().unwrap_or_default().into_bytes()))
    }

    fn taken(&self) -> usize {
        self.taken
    }

    fn remember(&mut self, statement: &[u8]) {
        let statement = String::from_utf8_lossy(statement);
        // A shell without a history is still a shell.
        let _ = self.editor.add_history_entry(statement.as_ref());
        if let Some(history) = &self.history {
            let _ = self.editor.append_history(history);
        }
    }
}

/// `trilith/history` in the user's state folder, which is made where it is missing.
fn history_file() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    let folder = state.join("trilith");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

impl Completer for Tab {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..position).unwrap_or_default();
        let (from, found) = self.runtime.block_on(self.completion.of(typed));
        let pair = |(display, replacement)| Pair { display, replacement };
        Ok((from, found.into_iter().map(pair).collect()))
    }
}

impl Helper for Tab {}
impl Highlighter for Tab {}
impl Validator for Tab {}
impl Hinter for Tab {
    type Hint = String;
}
