//! Keeps the nodes' processes running, and ends them.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::layout::{Layout, NodePlace};
use crate::output::note;

/// How long a node that ended is left alone before it is started again.
const RESTART_AFTER: Duration = Duration::from_secs(2);
/// How long a node may take to end before it is killed.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How much of a log is shown when a node does not start.
const LOG_LINES: usize = 15;
/// What a node may take of the machine's memory.
const MEMORY: &str = "TRILITH_MEMORY";

/// The nodes' processes.
#[derive(Debug)]
pub struct Supervisor {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    ends: mpsc::Receiver<End>,
    restart: bool,
}

/// A node ended, or did not even start.
#[derive(Debug)]
struct End {
    node: NodePlace,
    how: String,
}

impl Supervisor {
    /// Starts every node.
    pub fn start(program: &Path, layout: &Layout, restart: bool) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (report, ends) = mpsc::channel(layout.nodes().len().max(1));
        let mut tasks = JoinSet::new();
        for node in layout.nodes() {
            let keeper = Keeper {
                program: program.to_owned(),
                node: node.clone(),
                restart,
                stopped: stopped.clone(),
                report: report.clone(),
            };
            tasks.spawn(keeper.keep());
        }
        Self { tasks, stop, ends, restart }
    }

    /// Waits until a node ends, and says why with the end of its log. While a cluster forms,
    /// a node that ends is an error: starting it again would only hide what is wrong.
    pub async fn first_end(&mut self) -> anyhow::Error {
        match self.ends.recv().await {
            Some(end) => {
                let log = end.node.folder.join("log");
                let tail = tail(&log);
                anyhow::anyhow!("{} {}; the end of {}:\n{tail}", end.node.name, end.how, log.display())
            }
            None => anyhow::anyhow!("no node is left"),
        }
    }

    /// Says which nodes end, for as long as there are any to keep.
    pub async fn report(&mut self) {
        while let Some(end) = self.ends.recv().await {
            let next = if self.restart { "; starting it again in 2 s" } else { "" };
            note(format_args!("{} {}{next}", end.node.name, end.how));
        }
        // Without restarts all nodes may be gone; a signal ends the rest.
        std::future::pending::<()>().await;
    }

    /// Ends every node: asks first, and kills what does not end in time.
    pub async fn stop(mut self) {
        // The tasks hold the other end for as long as they run.
        let _ = self.stop.send(true);
        self.ends.close();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Keeps one node running.
struct Keeper {
    program: PathBuf,
    node: NodePlace,
    restart: bool,
    stopped: watch::Receiver<bool>,
    report: mpsc::Sender<End>,
}

impl Keeper {
    async fn keep(mut self) {
        loop {
            let how = match self.spawn() {
                Err(error) => format!("cannot be started: {error:#}"),
                Ok(mut child) => {
                    // Waiting would close this pipe, which tells the node to end.
                    let pipe = child.stdin.take();
                    let ended = tokio::select! {
                        ended = child.wait() => Some(ended),
                        _ = self.stopped.wait_for(|stopped| *stopped) => None,
                    };
                    let Some(ended) = ended else {
                        end(&self.node.name, child).await;
                        self.forget_pid();
                        return;
                    };
                    drop(pipe);
                    self.forget_pid();
                    ended.map_or_else(|error| format!("is lost: {error}"), describe)
                }
            };
            // Nobody listens any more only while everything is being stopped.
            let _ = self.report.send(End { node: self.node.clone(), how }).await;
            if !self.restart {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(RESTART_AFTER) => {}
                _ = self.stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let node = &self.node;
        fs::create_dir_all(&node.folder).with_context(|| format!("cannot make {}", node.folder.display()))?;
        let log = open_log(&node.folder)?;
        let child = Command::new(&self.program)
            .args(arguments(node))
            // What limits the memory here is shared by all nodes, so none takes it for its own.
            .env(MEMORY, env::var_os(MEMORY).unwrap_or_else(|| "off".into()))
            // The node ends when this pipe does, which it does however this process ends.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C goes to this process alone, which then ends the nodes in its own way.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        if let Some(pid) = child.id() {
            fs::write(node.folder.join("pid"), format!("{pid}\n"))?;
        }
        Ok(child)
    }

    fn forget_pid(&self) {
        // A number that stays behind is recognised as stale at the next start.
        let _ = fs::remove_file(self.node.folder.join("pid"));
    }
}

/// The command line of a node.
fn arguments(node: &NodePlace) -> Vec<String> {
    let pairs = [
        ("--data", node.folder.display().to_string()),
        ("--name", node.name.clone()),
        ("--listen-grpc", node.grpc.to_string()),
        ("--listen-peer", node.peer.to_string()),
        ("--listen-http", node.http.to_string()),
        ("--listen-redis", node.redis.to_string()),
        ("--listen-redis-cluster", node.redis_cluster.to_string()),
        ("--listen-text", node.text.to_string()),
    ];
    let pairs = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    pairs.chain(["--exit-with-parent".to_owned()]).collect()
}

fn open_log(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("log");
    let log = OpenOptions::new().create(true).append(true).open(&path);
    log.with_context(|| format!("cannot open {}", path.display()))
}

/// Ends a process: asks, waits, and at last kills.
async fn end(name: &str, mut child: Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself just now.
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(END_WITHIN, child.wait()).await.is_err() {
        note(format_args!("{name} does not end: killing it"));
        let _ = child.kill().await;
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program in place of a node, which is a shell script.
    fn script(folder: &Path, text: &str) -> PathBuf {
        let program = folder.join("program");
        fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let patience = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), patience)
            .await
            .unwrap_or_else(|_| panic!("never: {what}"));
    }

    #[tokio::test]
    async fn a_node_that_ends_is_reported_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(folder.path(), "echo \"$@\"; echo no such luck >&2; exit 3");
        let layout = Layout::new(folder.path(), 1, 0).unwrap();
        let mut supervisor = Supervisor::start(&program, &layout, false);
        let why = supervisor.first_end().await.to_string();
        assert!(why.contains("node-1 ended with status 3") && why.contains("no such luck"), "{why}");
        assert!(why.contains("--name node-1 --listen-grpc 127.0.0.1:7400"), "{why}");
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn nodes_are_asked_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(folder.path(), "trap 'echo bye; exit 0' TERM; echo up; read line; echo eof");
        let layout = Layout::new(folder.path(), 2, 0).unwrap();
        let supervisor = Supervisor::start(&program, &layout, true);
        let log = |node: &str| fs::read_to_string(folder.path().join(node).join("log")).unwrap_or_default();
        until("both run", || log("node-1").contains("up") && log("node-2").contains("up")).await;
        assert!(folder.path().join("node-1/pid").exists());
        supervisor.stop().await;
        // By the signal: until then the pipe on standard input stays open.
        assert_eq!((log("node-1").as_str(), log("node-2").as_str()), ("up\nbye\n", "up\nbye\n"));
        assert!(!folder.path().join("node-1/pid").exists());
    }

    #[tokio::test]
    async fn a_node_that_ended_is_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(folder.path(), "echo up; exit 1");
        let layout = Layout::new(folder.path(), 1, 0).unwrap();
        let mut supervisor = Supervisor::start(&program, &layout, true);
        supervisor.first_end().await;
        supervisor.first_end().await;
        let log = fs::read_to_string(folder.path().join("node-1/log")).unwrap();
        assert_eq!(log.matches("up").count(), 2);
        supervisor.stop().await;
    }
}
