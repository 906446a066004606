//! Other people's programs, run to their end: what real users have.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::commands::Done;

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
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| {
            format!("cannot run `{line}`: `make test-prerequisites` installs what is missing")
        })?;
    let mut stdin = child.stdin.take().context("it has no input")?;
    let ended = async {
        // One that ends without reading its input says why itself.
        let write = async {
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        tokio::join!(write, child.wait_with_output()).1
    };
    let ended = tokio::time::timeout(WITHIN, ended).await.with_context(|| format!("`{line}` hangs"))??;
    Ok(Done {
        line,
        status: ended.status.code(),
        out: String::from_utf8_lossy(&ended.stdout).into_owned(),
        err: String::from_utf8_lossy(&ended.stderr).into_owned(),
    })
}
