//! The facts that a figure is worth nothing without.

use std::{
    fmt, fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// The machine and the programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// The day, UTC, as YYYY-MM-DD.
    pub date: String,
    /// Processors that may be used.
    pub cores: usize,
    /// What the processor calls itself.
    pub processor: String,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// The kernel's release.
    pub kernel: String,
    /// The median time of writing 512 bytes at the end of a file and syncing it, on the disk
    /// that holds the data. No durable write can be faster.
    pub fsync_us: u64,
    /// The command that measured.
    pub command: String,
    /// The version of each program, as far as it is known.
    pub versions: Vec<String>,
}

impl Machine {
    /// Looks at this machine, and at the disk that holds `work`.
    pub fn look(work: &Path) -> Self {
        let line_after = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_start_matches([':', ' ', '\t']).to_owned()
        };
        let memory = line_after("/proc/meminfo", "MemTotal");
        let kibibytes: f64 =
            memory.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut arguments = std::env::args();
        let program = arguments.next().unwrap_or_default();
        let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            date: date(since_epoch.as_secs() / 86_400),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: line_after("/proc/cpuinfo", "model name"),
            memory_gib: kibibytes / f64::from(1 << 20),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            fsync_us: fsync_median(work).map_or(0, |time| time.as_micros() as u64),
            command: std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" "),
            versions: Vec::new(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{}: {} cores ({}), {:.0} GiB, Linux {}",
            self.date, self.cores, self.processor, self.memory_gib, self.kernel
        )?;
        writeln!(
            out,
            "fdatasync of 512 appended bytes on the disk of the data: {} µs (median)",
            self.fsync_us
        )?;
        writeln!(out, "{}", self.versions.join(", "))?;
        write!(out, "`{}`", self.command)
    }
}

/// What a sync costs here, over some short writes.
fn fsync_median(folder: &Path) -> std::io::Result<Duration> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::tempfile_in(folder)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let begin = Instant::now();
        file.write_all(&[7; 512])?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

/// The civil date of a day counted from 1970-01-01, by Howard Hinnant's method: years begin in
/// March there, so that the leap day comes last.
fn date(days: u64) -> String {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(19_783), "2024-03-01");
        assert_eq!(date(20_819), "2027-01-01");
    }

    #[test]
    fn the_machine_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::look(folder.path());
        assert!(machine.cores > 0 && machine.memory_gib > 0.0 && machine.fsync_us > 0, "{machine}");
        assert!(!machine.kernel.is_empty());
    }
}
