//! Finds the programs under test, and runs programs to their end.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// A program by its name: in `TRILITH_BIN_DIR`, else where Cargo puts programs, which is one
/// folder above the test's own.
pub fn find(name: &str) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("TRILITH_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe().context("cannot tell where this test is")?;
            let above = own.parent().and_then(Path::parent);
            above.with_context(|| format!("{} is not in a target folder", own.display()))?.to_owned()
        }
    };
    let program = folder.join(name);
    anyhow::ensure!(
        program.is_file(),
        "there is no {}: build it with `cargo build -p storage-node -p cli`, or say in TRILITH_BIN_DIR where \
         it is",
        program.display()
    );
    Ok(program)
}

/// Runs a program to its end with that on its standard input, and gives what it printed and how it
/// ended. `line` is what it is called where it fails. One that takes longer is killed.
pub async fn run_to_end(
    line: &str,
    command: &mut Command,
    input: &[u8],
    within: Duration,
) -> anyhow::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| {
            format!("cannot run `{line}`: `make test-prerequisites` installs what is missing")
        })?;
    let mut stdin = child.stdin.take().context("it has no input")?;
    // Its output is read all the while: it may stop reading until somebody does.
    let write = async {
        // One that ends without reading its input says why itself.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let ended = async { tokio::join!(write, child.wait_with_output()).1 };
    let ended = tokio::time::timeout(within, ended).await.with_context(|| format!("`{line}` hangs"))?;
    Ok(ended?)
}
