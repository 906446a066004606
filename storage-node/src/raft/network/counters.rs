//! What went over the wires, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the process started. One for all peers of a node.
#[derive(Debug, Default)]
pub struct Counters {
    frames_sent: AtomicU64,
    messages_sent: AtomicU64,
    bytes_sent: AtomicU64,
    frames_received: AtomicU64,
    messages_received: AtomicU64,
    sessions_opened: AtomicU64,
    sessions_broken: AtomicU64,
    snapshot_bytes_sent: AtomicU64,
    snapshot_bytes_received: AtomicU64,
}

/// What [`Counters`] held at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames handed to connections.
    pub frames_sent: u64,
    /// Messages in them. Divided by the frames it says how well frames are filled.
    pub messages_sent: u64,
    /// Encoded bytes of those messages.
    pub bytes_sent: u64,
    /// Frames that came in.
    pub frames_received: u64,
    /// Messages in them.
    pub messages_received: u64,
    /// Streams that another node accepted from this one.
    pub sessions_opened: u64,
    /// Streams of this node that ended, whatever the reason.
    pub sessions_broken: u64,
    /// Bytes of files in snapshots sent.
    pub snapshot_bytes_sent: u64,
    /// Bytes of files in snapshots received.
    pub snapshot_bytes_received: u64,
}

impl Counters {
    /// The counts now.
    pub fn read(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            frames_sent: get(&self.frames_sent),
            messages_sent: get(&self.messages_sent),
            bytes_sent: get(&self.bytes_sent),
            frames_received: get(&self.frames_received),
            messages_received: get(&self.messages_received),
            sessions_opened: get(&self.sessions_opened),
            sessions_broken: get(&self.sessions_broken),
            snapshot_bytes_sent: get(&self.snapshot_bytes_sent),
            snapshot_bytes_received: get(&self.snapshot_bytes_received),
        }
    }

    pub(super) fn frame_sent(&self, messages: usize, bytes: usize) {
        self.frames_sent.fetch_add(1, Ordering::Relaxed);
        self.messages_sent.fetch_add(messages as u64, Ordering::Relaxed);
        self.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn frame_received(&self, messages: usize) {
        self.frames_received.fetch_add(1, Ordering::Relaxed);
        self.messages_received.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(super) fn session_opened(&self) {
        self.sessions_opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn session_broken(&self) {
        self.sessions_broken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot_sent(&self, bytes: usize) {
        self.snapshot_bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn snapshot_received(&self, bytes: usize) {
        self.snapshot_bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
