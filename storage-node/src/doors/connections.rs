//! Connections of the doors that speak a protocol of their own over plain streams: how many
//! there are, and what they hold together.
//!
//! ```text
//!   listener ─▶ one too many? told so and closed
//!        │ a slot
//!        └────▶ conversation, which says what it holds; over the node's bound it is closed
//! ```

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::observability::metrics::Registry;
use crate::router::context::Door;

/// A listener that cannot accept, for want of file descriptors say, tries again after this.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the one connection too many may take to hear that it is.
const REFUSED_WITHIN: Duration = Duration::from_millis(100);

/// What arrives at a door.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// A listener of either kind.
#[derive(Debug)]
pub enum Listener {
    /// For other machines too.
    Tcp(TcpListener),
    /// For this machine.
    Unix(UnixListener),
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(at) => at.fmt(f),
                Err(_) => f.write_str("?:0"),
            },
            Self::Unix(listener) => match listener.local_addr() {
                Ok(at) => write!(f, "{}:0", at.as_pathname().unwrap_or(Path::new("?")).display()),
                Err(_) => f.write_str("?:0"),
            },
        }
    }
}

impl Listener {
    async fn accept(&self) -> std::io::Result<(Box<dyn Duplex>, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // Answers are whole; waiting to fill a packet would only delay them.
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), from.to_string()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), "unix:0".to_owned()))
            }
        }
    }
}

/// All connections of a node's plain doors.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    most_bytes: usize,
    open: AtomicUsize,
    bytes: AtomicUsize,
    next_id: AtomicU64,
    /// How many of each door are open.
    of_door: [AtomicUsize; Door::ALL.len()],
    accepted: AtomicU64,
    refused: AtomicU64,
    closed_for_bytes: AtomicU64,
}

/// One connection's place. It is given back when this is dropped.
#[derive(Debug)]
pub struct Slot {
    connections: Arc<Connections>,
    door: Door,
    held: usize,
    /// Unique as long as the process lives.
    pub id: u64,
    /// Where it came from.
    pub from: String,
}

/// The connections hold more than they may together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node's connections hold too much together")]
pub struct TooMuchHeld;

impl Connections {
    /// At most so many connections, which hold at most so much.
    pub fn new(most: usize, most_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_bytes,
            open: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
            of_door: Default::default(),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            closed_for_bytes: AtomicU64::new(0),
        })
    }

    /// Shows what is counted here. `of` says which doors these connections are of.
    pub fn register(self: &Arc<Self>, registry: &Registry, of: &'static [(&'static str, &'static str)]) {
        let gauge = |name, help, value: fn(&Self) -> usize| {
            let all = Arc::clone(self);
            registry.gauge_fn(name, help, of, move || value(&all) as f64);
        };
        gauge("kvstore_connections", "Connections that are open.", Self::open);
        gauge("kvstore_connections_max", "Connections that may be open.", Self::most);
        gauge("kvstore_connection_bytes", "What connections hold of requests and answers.", Self::held_bytes);
        gauge("kvstore_connection_bytes_max", "What they may hold together.", Self::most_bytes);
        let counter = |name, help, value: fn(&Self) -> u64| {
            let all = Arc::clone(self);
            registry.counter_fn(name, help, of, move || value(&all));
        };
        counter("kvstore_connections_accepted_total", "Connections that were accepted.", Self::accepted);
        counter("kvstore_connections_refused_total", "Connections that were one too many.", Self::refused);
        counter(
            "kvstore_connections_closed_for_bytes_total",
            "Connections that were closed because they held too much.",
            Self::closed_for_bytes,
        );
    }

    /// A place for one more; none when all are taken.
    pub fn admit(self: &Arc<Self>, door: Door, from: String) -> Option<Slot> {
        if self.open.fetch_add(1, Ordering::AcqRel) >= self.most {
            self.open.fetch_sub(1, Ordering::AcqRel);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.of_door[door as usize].fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        Some(Slot { connections: Arc::clone(self), door, held: 0, id, from })
    }

    /// How many may be open.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many of a door are open.
    pub fn open_at(&self, door: Door) -> usize {
        self.of_door[door as usize].load(Ordering::Relaxed)
    }

    /// How many were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many were one too many.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// What they hold together.
    pub fn held_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What they may hold together.
    pub fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    /// How many were closed because they asked for more than was left.
    pub fn closed_for_bytes(&self) -> u64 {
        self.closed_for_bytes.load(Ordering::Relaxed)
    }
}

impl Slot {
    /// Says that the connection holds so much from now on.
    pub fn hold(&mut self, bytes: usize) -> Result<(), TooMuchHeld> {
        let (all, before) = (&self.connections.bytes, self.held);
        if bytes <= before {
            all.fetch_sub(before - bytes, Ordering::AcqRel);
            self.held = bytes;
            return Ok(());
        }
        let more = bytes - before;
        if all.fetch_add(more, Ordering::AcqRel) + more > self.connections.most_bytes {
            all.fetch_sub(more, Ordering::AcqRel);
            self.connections.closed_for_bytes.fetch_add(1, Ordering::Relaxed);
            return Err(TooMuchHeld);
        }
        self.held = bytes;
        Ok(())
    }

    /// All the connections.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.bytes.fetch_sub(self.held, Ordering::AcqRel);
        self.connections.of_door[self.door as usize].fetch_sub(1, Ordering::Relaxed);
        self.connections.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Accepts connections and runs a conversation on each, until it is told to stop; then waits
/// until the conversations, which are told as well, have ended.
pub async fn serve<C, F>(
    listener: Listener,
    door: Door,
    connections: Arc<Connections>,
    refusal: &'static [u8],
    stop: CancellationToken,
    converse: C,
) where
    C: Fn(Box<dyn Duplex>, Slot) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = running.join_next() => continue,
        };
        let (mut stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, door = door.label(), "a connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match connections.admit(door, from) {
            Some(slot) => {
                running.spawn(converse(stream, slot));
            }
            None => {
                running.spawn(async move {
                    let _ = tokio::time::timeout(REFUSED_WITHIN, stream.write_all(refusal)).await;
                });
            }
        }
    }
    drop(listener);
    while running.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_is_refused_and_a_place_comes_back() {
        let all = Connections::new(1, 100);
        let first = all.admit(Door::Text, "a".to_owned()).unwrap();
        assert!(all.admit(Door::Text, "b".to_owned()).is_none());
        assert_eq!((all.open(), all.open_at(Door::Text), all.refused()), (1, 1, 1));
        drop(first);
        assert!(all.admit(Door::Redis, "c".to_owned()).is_some());
    }

    #[test]
    fn what_they_hold_is_bounded_together() {
        let all = Connections::new(10, 100);
        let mut one = all.admit(Door::Text, "a".to_owned()).unwrap();
        let mut two = all.admit(Door::Text, "b".to_owned()).unwrap();
        assert_eq!(one.hold(60), Ok(()));
        assert_eq!(two.hold(60), Err(TooMuchHeld));
        assert_eq!(two.hold(40), Ok(()));
        assert_eq!(one.hold(10), Ok(()));
        assert_eq!(two.hold(60), Ok(()));
        assert_eq!(all.held_bytes(), 70);
        drop((one, two));
        assert_eq!((all.held_bytes(), all.open()), (0, 0));
    }
}
