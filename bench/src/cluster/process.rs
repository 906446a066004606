//! A process under test, and what the kernel knows of any process.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

use super::ClusterError;

/// Clock ticks per second in `/proc`: the kernel's interface has it at 100 on every
/// architecture that Rust's standard library supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// How long a process may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(20);

/// A child process with a log file. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a program whose standard error goes to `log`. Its standard output goes there as
    /// well, unless `piped` asks for it.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        log: PathBuf,
        piped: bool,
    ) -> Result<Self, ClusterError> {
        let cannot_log = || ClusterError::io(format!("cannot write {}", log.display()));
        let file = File::create(&log).map_err(cannot_log())?;
        let out = if piped { Stdio::piped() } else { file.try_clone().map_err(cannot_log())?.into() };
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ClusterError::Spawn { program: program.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), log, child })
    }

    /// Its standard output, once, when it was asked for.
    pub fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// An error with the end of the log when the process has ended.
    pub fn check(&mut self) -> Result<(), ClusterError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(&status.to_string())),
            Err(error) => Err(self.ended(&error.to_string())),
        }
    }

    /// Kills it at once, as a power failure would, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<(), ClusterError> {
        self.child.kill().await.map_err(ClusterError::io(format!("cannot kill {}", self.name)))
    }

    /// Asks it to end; kills it when it does not.
    pub async fn stop(&mut self) -> Result<(), ClusterError> {
        if let Some(id) = self.id() {
            send_signal(id, Signal::TERM)?;
            if timeout(GRACE, self.child.wait()).await.is_err() {
                self.kill().await?;
            }
        }
        Ok(())
    }

    fn ended(&self, status: &str) -> ClusterError {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n");
        ClusterError::Ended { name: self.name.clone(), status: status.to_owned(), log: tail }
    }
}

/// Sends a signal to a process that need not be a child.
pub fn send_signal(id: u32, signal: Signal) -> Result<(), ClusterError> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| ClusterError::Unreadable(format!("{id} is no process id")))?;
    kill_process(pid, signal)
        .map_err(|error| ClusterError::io(format!("cannot signal process {id}"))(error.into()))
}

/// What some processes have used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor time since their start.
    pub cpu_seconds: f64,
    /// Memory that is resident now.
    pub resident_bytes: u64,
}

impl Usage {
    /// Of all these processes together.
    pub fn of(ids: &[u32]) -> Result<Self, ClusterError> {
        let mut sum = Self::default();
        for id in ids {
            let read = |file: &str| {
                let path = format!("/proc/{id}/{file}");
                fs::read_to_string(&path).map_err(ClusterError::io(format!("cannot read {path}")))
            };
            let unreadable = || ClusterError::Unreadable(format!("cannot understand /proc/{id}"));
            sum.cpu_seconds += cpu_ticks(&read("stat")?).ok_or_else(unreadable)? / TICKS_PER_SECOND;
            sum.resident_bytes += resident_bytes(&read("status")?).ok_or_else(unreadable)?;
        }
        Ok(sum)
    }
}

/// The processors that these processes keep busy over a time: 0.5 is half of one.
pub async fn cpu_share(ids: &[u32], over: Duration) -> Result<f64, ClusterError> {
    let begin = Instant::now();
    let before = Usage::of(ids)?;
    sleep(over).await;
    let after = Usage::of(ids)?;
    Ok((after.cpu_seconds - before.cpu_seconds) / begin.elapsed().as_secs_f64())
}

/// Waits until these processes have finished what they do behind the last load, such as
/// compacting; at most `patience`, since a system may never be that quiet.
pub async fn until_quiet(ids: &[u32], patience: Duration) -> Result<f64, ClusterError> {
    const QUIET: f64 = 0.15;
    let deadline = Instant::now() + patience;
    loop {
        let share = cpu_share(ids, Duration::from_millis(300)).await?;
        if share < QUIET || Instant::now() >= deadline {
            return Ok(share);
        }
    }
}

/// User and system time out of `/proc/PID/stat`. The second field is the program's name in
/// brackets and may itself hold brackets and blanks, so counting starts behind the last one.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_name_with_brackets() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 9 0 77 1 2";
        assert_eq!(cpu_ticks(stat), Some(200.0));
        assert_eq!(cpu_ticks("42 (cut off"), None);
    }

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn this_very_process_uses_something() {
        let usage = Usage::of(&[std::process::id()]).unwrap();
        assert!(usage.resident_bytes > 0);
    }

    #[tokio::test]
    async fn a_process_that_ends_tells_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start(
            "sh",
            Path::new("/bin/sh"),
            ["-c", "echo no room left >&2; exit 3"],
            folder.path().join("log"),
            false,
        )
        .unwrap();
        process.child.wait().await.unwrap();
        let error = process.check().unwrap_err().to_string();
        assert!(error.contains("no room left") && error.contains('3'), "{error}");
    }

    #[tokio::test]
    async fn a_process_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut process = Process::start("sleep", Path::new("/bin/sleep"), ["600"], log, false).unwrap();
        process.check().unwrap();
        process.stop().await.unwrap();
        assert_eq!(process.id(), None);
    }
}
