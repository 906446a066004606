//! Other people's programs, run to their end: what real users have.

use std::ffi::OsStr;
use std::time::Duration;

use tokio::process::Command;

use crate::commands::Done;
use crate::programs::run_to_end;

/// How long one may take. One that hangs is a failure, not a wait.
const WITHIN: Duration = Duration::from_secs(120);

/// Runs a program that is found on the PATH, with that on its standard input.
pub async fn run<Word: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: &[Word],
    input: &[u8],
) -> anyhow::Result<Done> {
    let program = program.as_ref();
    let words = std::iter::once(program).chain(arguments.iter().map(AsRef::as_ref));
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let ended = run_to_end(&line, Command::new(program).args(arguments), input, WITHIN).await?;
    Ok(Done::of(line, &ended))
}
