//! The commands of the shell: the verbs of the command line, and a few of its own.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::arguments::{Arguments, Global};
use crate::exit::{Exit, Usage};
use crate::output::Output;

/// What the shell understands itself, and what it is for.
pub const OWN: [(&str, &str); 4] = [
    ("use", "Choose the table of what follows: use TABLE"),
    ("help", "List the commands, or explain one: help COMMAND"),
    ("exit", "Leave; so does Ctrl-D"),
    ("quit", "The same"),
];
/// Verbs that make no sense in a shell.
pub const ELSEWHERE: [&str; 5] = ["shell", "dev", "completions", "import", "export"];

/// The command line without the program's name.
pub fn command() -> clap::Command {
    Arguments::command().no_binary_name(true)
}

/// What a line asks for. Where it does not say itself, what the session says counts, and no
/// variable.
pub fn parse(words: Vec<OsString>, session: &Global) -> Result<Arguments, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    let mut arguments = Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    let said = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
    let (global, session) = (&mut arguments.global, session.clone());
    if !said("endpoint") {
        global.endpoint = session.endpoint;
    }
    if !said("table") {
        global.table = session.table;
    }
    if !said("output") {
        global.output = session.output;
    }
    if !said("timeout") {
        global.timeout = session.timeout;
    }
    global.session = session.session;
    Ok(arguments)
}

/// `help`, `help COMMAND`, `help table create`.
pub fn help(words: &[OsString]) -> anyhow::Result<Exit> {
    let mut out = Output::new(crate::output::Format::Text);
    let path = words.get(1..).unwrap_or_default();
    let mut command = Arguments::command().disable_help_flag(true);
    command.build();
    if path.is_empty() {
        for (name, about) in list(&command) {
            out.line(format!("{name:<12} {about}"))?;
        }
        out.line("\nFlags such as -t TABLE and -o json work with all of them: help put")?;
    } else {
        let mut found = &mut command;
        for word in path {
            let name = word.to_string_lossy().into_owned();
            if let Some((_, about)) = OWN.iter().find(|(own, _)| *own == name && path.len() == 1) {
                out.line(about)?;
                out.flush()?;
                return Ok(Exit::Done);
            }
            found = found
                .find_subcommand_mut(&name)
                .ok_or_else(|| Usage(format!("there is no command {name:?}: `help` lists them")))?;
        }
        out.line(found.render_help().to_string().trim_end())?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn list(command: &clap::Command) -> impl Iterator<Item = (String, String)> {
    let verbs = command.get_subcommands().filter(|verb| !ELSEWHERE.contains(&verb.get_name()));
    let verbs = verbs.map(|verb| {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        (verb.get_name().to_owned(), about)
    });
    verbs.chain(OWN.map(|(name, about)| (name.to_owned(), about.to_owned())))
}
