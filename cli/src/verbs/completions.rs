//! `trilith completions`

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::exit::Exit;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  source <(trilith completions bash)
  trilith completions zsh > ~/.zfunc/_trilith
  trilith completions fish > ~/.config/fish/completions/trilith.fish";

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    /// Prints it.
    pub fn run(self, out: &mut Output) -> anyhow::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "trilith", &mut script);
        out.raw(&script)?;
        Ok(Exit::Done)
    }
}
