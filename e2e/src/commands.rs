//! The command lines of the product, run to their end.

use std::process::Output;
use std::time::Duration;

use tokio::process::Command;

use crate::programs;

/// How long a command may take. One that hangs is a failure, not a wait.
const WITHIN: Duration = Duration::from_secs(40);

/// What a command did.
#[derive(Debug)]
pub struct Done {
    /// The line, to be shown.
    pub line: String,
    /// Its exit status; none where a signal ended it.
    pub status: Option<i32>,
    /// What it printed on standard output.
    pub out: String,
    /// What it printed on standard error.
    pub err: String,
}

/// Runs `trilith` against these nodes.
pub async fn trilith(endpoints: &str, arguments: &[&str]) -> anyhow::Result<Done> {
    run("trilith", arguments, &[("TRILITH_ENDPOINT", endpoints)]).await
}

/// Runs one of the product's programs.
pub async fn run(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<Done> {
    let line = format!("{program} {}", arguments.join(" "));
    let mut command = Command::new(programs::find(program)?);
    command.args(arguments).envs(variables.iter().copied());
    let ended = programs::run_to_end(&line, &mut command, b"", WITHIN).await?;
    Ok(Done::of(line, &ended))
}

impl Done {
    /// What a program left that has ended, as text.
    pub fn of(line: String, ended: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { line, status: ended.status.code(), out: text(&ended.stdout), err: text(&ended.stderr) }
    }

    /// Its output, where it ended with status 0.
    pub fn output(self) -> anyhow::Result<String> {
        self.ended_with(0)?;
        Ok(self.out)
    }

    /// That it ended with this status, and did not panic.
    pub fn ended_with(&self, status: i32) -> anyhow::Result<()> {
        let Self { line, out, err, .. } = self;
        anyhow::ensure!(
            self.status == Some(status) && !err.contains("panicked"),
            "`{line}` ended with {:?}, not {status}\n{out}\n{err}",
            self.status
        );
        Ok(())
    }

    /// That it ended with this status and said this on standard error.
    pub fn refused(&self, status: i32, phrase: &str) -> anyhow::Result<()> {
        self.ended_with(status)?;
        anyhow::ensure!(self.err.contains(phrase), "`{}` does not say {phrase:?}:\n{}", self.line, self.err);
        Ok(())
    }
}
