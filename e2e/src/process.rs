//! One process of a scenario, with its log.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::until;

/// How much of a log is shown when something went wrong.
const LOG_LINES: usize = 25;

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    /// Open for as long as the process shall run, where it ends with its standard input.
    _input: Option<ChildStdin>,
}

impl Process {
    /// Starts a program. What it says is added to `log`.
    pub fn start(name: &str, command: &[String], log: &Path) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().context("a command needs a program")?;
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C at the terminal is for the test, which ends its processes itself.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        let input = child.stdin.take();
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child, _input: input })
    }

    /// Sends it a signal, by its number.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.id()?, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Its number.
    pub fn id(&self) -> anyhow::Result<Pid> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.with_context(|| format!("{} has no process id", self.name))
    }

    /// What it takes of this machine's memory.
    pub fn memory_bytes(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kibibytes.with_context(|| format!("{} has no memory", self.name))? << 10)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("{} is lost", self.name))
    }

    /// Waits until it has ended by itself.
    pub async fn await_end(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        let found = until(&what, within, async || self.ended()?.context("it still runs")).await;
        found.with_context(|| self.log_tail())
    }

    /// Kills it at once, as `kill -9` does, and returns when it is gone.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait().with_context(|| format!("{} does not go", self.name))?;
        Ok(())
    }

    /// The end of its log, to be shown with what went wrong.
    pub fn log_tail(&self) -> String {
        log_tail(&self.name, &self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended before, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a log, with its name above it.
pub fn log_tail(name: &str, log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
    format!("---- the end of {name}'s log ----\n{}", tail.join("\n"))
}
