//! `trilith shell`, typed at a terminal and fed from a pipe.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::commands::trilith;
use e2e::{Cluster, Scenario, Shape, programs};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_is_typed_at_and_fed() -> anyhow::Result<()> {
    let scenario = Scenario::begin("shell").await?;
    let mut cluster = Cluster::form(Shape { nodes: 1, ..Shape::default() }).await?;
    cluster.create_table("orders", 1).await?;
    let endpoints = cluster.endpoints();

    feed(&endpoints).await?;
    scenario.say("a script runs without a prompt, stops where it must, and ends as the contract says");
    type_at(&endpoints).await?;
    scenario.say("prompt, history, TAB, tables, timing, several lines and Ctrl-C work at a terminal");
    outlive_a_restart(&mut cluster, &endpoints).await?;
    scenario.say("one session outlives a restart of the node");
    cluster.finish()
}

async fn feed(endpoints: &str) -> anyhow::Result<()> {
    let script = "# a comment\nput a 'one two'\nget a\nput poem <<END\nroses | are\n  red\nEND\nget poem\n\
                  use orders\nput o1 paid\nget o1\nget -t default a\nscan --keys-only\nexists o1\n";
    let (status, out, err) = run_script(endpoints, &[], script).await?;
    let out: Vec<_> = out.lines().filter(|line| !line.starts_with("version ")).collect();
    ensure!(status == 0, "{status}: {err}");
    ensure!(out == ["one two", "roses | are", "  red", "paid", "one two", "o1", "true"], "{out:?}");
    ensure!(!err.contains('>') && !err.contains("ms"), "it prompts nobody: {err}");

    let (status, out, err) = run_script(endpoints, &[], "get a\nget nobody\nget a\n").await?;
    ensure!(status == 3 && out == "one two\n" && err.contains("line 2"), "{status} {out} {err}");
    let (status, out, _) = run_script(endpoints, &["--keep-going"], "get nobody\nfly\nget a\n").await?;
    ensure!(status == 2 && out == "one two\n", "{status} {out}");
    let (status, _, err) = run_script(endpoints, &[], "use nowhere\nget a\n").await?;
    ensure!(status == 1 && err.contains("no table"), "{status} {err}");
    let (status, _, err) = run_script("127.0.0.1:1", &["--timeout", "1s"], "get a\n").await?;
    ensure!(status == 1 && err.contains("no node answers"), "{status} {err}");
    let (status, out, _) = run_script(endpoints, &["-o", "json"], "get a\ntable list\n").await?;
    let first: serde_json::Value = serde_json::from_str(out.lines().next().context("nothing")?)?;
    ensure!(status == 0 && first.get("value").is_some(), "{out}");
    Ok(())
}

async fn type_at(endpoints: &str) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut typed = Typed::start(endpoints, home.path())?;
    typed.awaits("default> ").await?;
    typed.types("put user:alice 'likes tea'\r").await?;
    typed.awaits("version ").await?;
    typed.awaits(" ms)").await?;
    // TAB: a command, a key, a table.
    typed.types("ge\tuser:al\t\r").await?;
    typed.awaits("likes tea").await?;
    typed.types("use or\t\r").await?;
    typed.awaits("orders> ").await?;
    typed.types("put note <<END\rfirst\rsecond\rEND\r").await?;
    typed.awaits("version ").await?;
    typed.types("get note\r").await?;
    typed.awaits("first\r\nsecond").await?;
    // What is typed ahead is not lost, and what is pasted at once is as good as typed.
    typed.pastes("put ahead <<END\rone\rtwo\rEND\rget ahead\r").await?;
    typed.awaits("one\r\ntwo").await?;
    typed.pastes("\u{1b}[200~put pasted <<END\rthree\rfour\rEND\rget pasted\u{1b}[201~\r").await?;
    typed.awaits("three\r\nfour").await?;
    // Coloured headings.
    typed.types("table list\r").await?;
    typed.awaits("\u{1b}[1;36mTABLE").await?;
    typed.types("help put\r").await?;
    typed.awaits("--if-absent").await?;
    typed.types("get nobody\r").await?;
    typed.awaits("status 3").await?;
    // Ctrl-C gives up a line, not the shell.
    typed.types("nonsense\u{3}get note\r").await?;
    typed.awaits("second").await?;
    typed.types("\u{4}").await?;
    typed.ends().await?;

    let mut typed = Typed::start(endpoints, home.path())?;
    typed.awaits("default> ").await?;
    // Arrow up: what was typed last, in the session before.
    typed.types("\u{1b}[A\r").await?;
    typed.awaits("not found").await?;
    typed.types("exit\r").await?;
    typed.ends().await
}

/// The connection is the session's, and is made again when it broke.
async fn outlive_a_restart(cluster: &mut Cluster, endpoints: &str) -> anyhow::Result<()> {
    let mut shell = shell(endpoints, &[]).spawn()?;
    let mut input = shell.stdin.take().context("no input")?;
    let mut output = shell.stdout.take().context("no output")?;
    input.write_all(b"get a\n").await?;
    heard_until(&mut output, &mut Vec::new(), "one two\n").await?;
    cluster.kill9(0)?;
    cluster.start(0).await?;
    cluster.await_healthy().await?;
    input.write_all(b"put a three\nget a\n").await?;
    heard_until(&mut output, &mut Vec::new(), "three\n").await?;
    drop(input);
    let status = tokio::time::timeout(WITHIN, shell.wait()).await??;
    ensure!(status.success(), "it ends with {status}");
    trilith(endpoints, &["get", "a"]).await?.ended_with(0)
}

fn shell(endpoints: &str, arguments: &[&str]) -> Command {
    let program = programs::find("trilith").unwrap_or_default();
    let mut command = Command::new(program);
    command.arg("shell").args(arguments).env("TRILITH_ENDPOINT", endpoints).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

async fn run_script(
    endpoints: &str,
    arguments: &[&str],
    script: &str,
) -> anyhow::Result<(i32, String, String)> {
    let mut shell = shell(endpoints, arguments);
    let ended = programs::run_to_end("trilith shell", &mut shell, script.as_bytes(), WITHIN).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((ended.status.code().context("a signal ended it")?, text(&ended.stdout), text(&ended.stderr)))
}

/// A shell at a terminal of its own, which `script` of util-linux makes.
struct Typed {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    heard: Vec<u8>,
}

impl Typed {
    fn start(endpoints: &str, home: &std::path::Path) -> anyhow::Result<Self> {
        let program = programs::find("trilith")?;
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &format!("{} shell", program.display()), "/dev/null"])
            .env("TRILITH_ENDPOINT", endpoints)
            .env("XDG_STATE_HOME", home)
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("`script` of util-linux is missing")?;
        let input = child.stdin.take().context("no input")?;
        let output = child.stdout.take().context("no output")?;
        Ok(Self { child, input, output, heard: Vec::new() })
    }

    async fn types(&mut self, keys: &str) -> anyhow::Result<()> {
        // A key after the other: what is pasted is taken otherwise, and TAB in it is a blank.
        for key in keys.chars() {
            self.input.write_all(key.to_string().as_bytes()).await?;
            self.input.flush().await?;
            tokio::time::sleep(Duration::from_millis(if key == '\t' || key == '\r' { 150 } else { 5 })).await;
        }
        Ok(())
    }

    async fn pastes(&mut self, text: &str) -> anyhow::Result<()> {
        self.input.write_all(text.as_bytes()).await?;
        Ok(self.input.flush().await?)
    }

    async fn awaits(&mut self, text: &str) -> anyhow::Result<()> {
        heard_until(&mut self.output, &mut self.heard, text).await
    }

    async fn ends(mut self) -> anyhow::Result<()> {
        let status = tokio::time::timeout(WITHIN, self.child.wait()).await.context("it does not end")??;
        ensure!(status.success(), "it ends with {status}");
        Ok(())
    }
}

/// Reads until there is what is looked for, and keeps what came after it.
async fn heard_until(output: &mut ChildStdout, heard: &mut Vec<u8>, text: &str) -> anyhow::Result<()> {
    let reading = async {
        loop {
            let found = heard.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                heard.drain(..at + text.len());
                return anyhow::Ok(());
            }
            let mut piece = [0; 4096];
            let count = output.read(&mut piece).await?;
            ensure!(count > 0, "it ended before it said {text:?}");
            heard.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    };
    let found = tokio::time::timeout(WITHIN, reading).await;
    let found = found.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not say {text:?}")));
    found.with_context(|| format!("heard: {}", String::from_utf8_lossy(heard)))
}
