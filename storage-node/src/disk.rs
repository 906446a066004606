//! How full the disk is. Nearly full, the node refuses what would grow, while there is still
//! room for its own log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Watches the file system that holds the data folder.
#[derive(Debug)]
pub struct DiskWatch {
    path: PathBuf,
    percent: u8,
    nearly_full: AtomicBool,
    free_bytes: AtomicU64,
    total_bytes: AtomicU64,
    used_bytes: AtomicU64,
}

impl DiskWatch {
    /// Nearly full is: less than so many percent free. 0: never.
    pub fn new(path: &Path, percent: u8) -> io::Result<Self> {
        let watch = Self {
            path: path.to_owned(),
            percent,
            nearly_full: AtomicBool::new(false),
            free_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            used_bytes: AtomicU64::new(0),
        };
        watch.look()?;
        Ok(watch)
    }

    /// Looks again; returns whether it is nearly full.
    pub fn look(&self) -> io::Result<bool> {
        let disk = rustix::fs::statvfs(&self.path)?;
        let (free, total) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        self.free_bytes.store(free, Ordering::Relaxed);
        self.total_bytes.store(total, Ordering::Relaxed);
        let before = self.nearly_full.load(Ordering::Relaxed);
        // Once refused, a little more must be free before writes are taken again, or it would
        // flicker at the edge.
        let percent = u64::from(self.percent) + u64::from(before && self.percent > 0);
        let full = free < total / 100 * percent;
        if full != before {
            self.nearly_full.store(full, Ordering::Relaxed);
            if full {
                tracing::error!(
                    free,
                    total,
                    "the disk is nearly full: writes are refused, reads and deletes go on"
                );
            } else {
                tracing::info!(free, total, "the disk has room again: writes are taken");
            }
        }
        Ok(full)
    }

    /// Adds up what the data folder takes.
    pub fn measure(&self) {
        self.used_bytes.store(size_of(&self.path), Ordering::Relaxed);
    }

    /// Whether writes are to be refused.
    pub fn is_nearly_full(&self) -> bool {
        self.nearly_full.load(Ordering::Relaxed)
    }

    /// The limit that it goes by.
    pub fn percent(&self) -> u8 {
        self.percent
    }

    /// What is free.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// The size of the file system.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// What the data folder took when it was measured last.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }
}

fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| {
            let kind = entry.metadata().ok()?;
            Some(if kind.is_dir() { size_of(&entry.path()) } else { kind.len() })
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_decides() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!DiskWatch::new(folder.path(), 0).unwrap().is_nearly_full());
        let full = DiskWatch::new(folder.path(), 100).unwrap();
        assert!(full.is_nearly_full());
        assert!(full.free_bytes() > 0 && full.total_bytes() >= full.free_bytes());
        std::fs::write(folder.path().join("x"), [0; 1000]).unwrap();
        full.measure();
        assert_eq!(full.used_bytes(), 1000);
    }
}
