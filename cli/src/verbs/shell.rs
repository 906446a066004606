//! `trilith shell`: the verbs of the command line, typed one after the other.
//!
//! ```text
//!   lines (a terminal, or a script) ─▶ statement ─▶ words ─▶ the same arguments ─▶ the same verbs
//! ```
//!
//! One connection serves the whole session.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use proto::v1::ListTablesRequest;

use self::lines::{Lines, Script};
use self::statement::{Next, Statement, next_statement};
use self::terminal::Terminal;
use crate::arguments::{Global, Session, Verb};
use crate::exit::{Exit, Usage, report};
use crate::output::{Format, note};

mod completion;
mod grammar;
mod lines;
mod statement;
mod terminal;

const EXAMPLES: &str = "\
Examples:
  trilith shell
  trilith shell < script                   stops at the first command that does not end with 0
  trilith shell --keep-going < script      goes on, and ends with the gravest status of any

In the shell:
  put greeting 'hello world'               words are quoted as in other shells
  put poem <<END                           the lines up to END are the last word
  use orders                               the table of what follows
  help put                                 what a command takes
  exit                                     or Ctrl-D

TAB completes commands, tables and keys. Ctrl-C gives a line up, or a command that takes
too long. History is in $XDG_STATE_HOME/trilith/history (~/.local/state).";

/// Type commands at a prompt, or run a script of them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Shell {
    /// Go on with a script after a command that failed.
    #[arg(long)]
    keep_going: bool,
}

/// What a line did to the shell.
enum After {
    /// It ended so.
    Ended(Exit),
    /// The shell is to end.
    Leave,
}

impl Shell {
    /// Reads and runs until the end.
    pub async fn run(self, global: &Global) -> anyhow::Result<Exit> {
        let session = Session::new(global);
        let global = Global { session: Some(Arc::clone(&session)), ..global.clone() };
        if io::stdin().is_terminal() {
            let mut terminal = Terminal::new(&global)?;
            converse(&mut terminal, global).await
        } else {
            self.run_script(&mut Script::new(io::stdin().lock()), global).await
        }
    }

    /// Runs a script; nobody watches.
    async fn run_script(&self, lines: &mut impl Lines, mut global: Global) -> anyhow::Result<Exit> {
        let mut gravest = Exit::Done;
        loop {
            let (line, exit) = match next_statement(lines, &global.table)? {
                Next::End => return Ok(gravest),
                Next::GivenUp => continue,
                Next::Unfinished { line, why } => {
                    (line, report(&Err(Usage(why.to_owned()).into()), global.output))
                }
                Next::Statement(statement) => {
                    let line = statement.line;
                    match run_statement(statement, &mut global).await {
                        After::Leave => return Ok(gravest),
                        After::Ended(exit) => (line, exit),
                    }
                }
            };
            gravest = gravest.graver(exit);
            if exit != Exit::Done {
                let status = exit as u8;
                if !self.keep_going {
                    note(format_args!("stopped at line {line}, which ended with status {status}"));
                    return Ok(exit);
                }
                note(format_args!("line {line} ended with status {status}"));
            }
        }
    }
}

/// Runs what somebody types, until they leave.
async fn converse(terminal: &mut Terminal, mut global: Global) -> anyhow::Result<Exit> {
    note(format_args!("trilith {}: `help` lists the commands, Ctrl-D leaves", env!("CARGO_PKG_VERSION")));
    loop {
        // Reading blocks this thread, and completing a key asks the cluster meanwhile.
        let next = tokio::task::block_in_place(|| next_statement(terminal, &global.table))?;
        let statement = match next {
            Next::End => return Ok(Exit::Done),
            Next::GivenUp => continue,
            Next::Unfinished { why, .. } => {
                note(format_args!("error: {why}"));
                continue;
            }
            Next::Statement(statement) => statement,
        };
        let began = Instant::now();
        let after = tokio::select! {
            // A watch ends by itself when it is interrupted.
            biased;
            after = run_statement(statement, &mut global) => after,
            _ = tokio::signal::ctrl_c() => {
                note("\ninterrupted: what it was writing may or may not have been done");
                After::Ended(Exit::Unknown)
            }
        };
        match after {
            After::Leave => return Ok(Exit::Done),
            After::Ended(exit) => terminal.tell_time(began.elapsed(), exit),
        }
        terminal.follow(&global);
    }
}

/// Runs one command, and says what went wrong.
async fn run_statement(statement: Statement, global: &mut Global) -> After {
    let mut words = statement.words.iter().map(|word| word.to_str());
    match (words.next().flatten(), words.next().flatten(), words.next()) {
        (Some("exit" | "quit"), None, None) => After::Leave,
        (Some("help"), ..) => After::Ended(finished(grammar::help(&statement.words), global.output)),
        (Some("use"), Some(table), None) => {
            let chosen = use_table(table, global).await;
            After::Ended(finished(chosen, global.output))
        }
        (Some("use"), ..) => {
            let usage = Usage("write: use TABLE".to_owned());
            After::Ended(finished(Err(usage.into()), global.output))
        }
        _ => After::Ended(run_verb(statement.words, global).await),
    }
}

async fn run_verb(words: Vec<OsString>, global: &Global) -> Exit {
    let arguments = match grammar::parse(words, global) {
        Ok(arguments) => arguments,
        // Help that was asked for comes this way as well.
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let refused = match &arguments.verb {
        Verb::Shell(_) => Some("this is a shell already"),
        Verb::Dev(_) => Some("run `trilith dev` in a terminal of its own: it stays there"),
        Verb::Batch(batch) if batch.reads_standard_input() => {
            Some("the commands come from standard input: give a file")
        }
        Verb::Import(_) | Verb::Export(_) => {
            Some("run it outside of the shell: interrupted, it leaves something to go on with")
        }
        _ => None,
    };
    if let Some(why) = refused {
        return finished(Err(Usage(why.to_owned()).into()), global.output);
    }
    let format = arguments.global.output;
    // A verb that runs verbs would else be as large as itself.
    finished(Box::pin(super::run(arguments)).await, format)
}

/// Makes a table the one of what follows, if there is such a table.
async fn use_table(table: &str, global: &mut Global) -> anyhow::Result<Exit> {
    let tables = global.connect().await?.admin().list_tables(ListTablesRequest {}).await?.tables;
    if !tables.iter().any(|entry| entry.name == table) {
        return Err(client::Error::UnknownTable(table.to_owned()).into());
    }
    table.clone_into(&mut global.table);
    Ok(Exit::Done)
}

fn finished(ended: anyhow::Result<Exit>, format: Format) -> Exit {
    report(&ended, format)
}

#[cfg(test)]
mod tests;
