//! Connections to nodes: made when first used, kept, and shared by all calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tonic::transport::{Channel, Endpoint};

use crate::error::Error;
use crate::options::Options;
use crate::route::Address;

/// The largest message either way: a batch of 16 MiB and what surrounds it.
pub(crate) const MAX_MESSAGE: usize = 20 * 1024 * 1024;
/// A silent connection is asked for a sign of life this often, and given up after
/// [`KEEPALIVE_TIMEOUT`], so that a machine that vanished is noticed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// How long a node that did not answer is asked only when nobody else is left: the first time,
/// and at most. It doubles until the node answers.
const SUSPICION: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));

/// The connections to every node that was ever asked. Their number is bounded by the
/// number of addresses that the cluster's nodes have had.
#[derive(Debug)]
pub(crate) struct Channels {
    connect_timeout: Duration,
    per_node: usize,
    nodes: RwLock<HashMap<Address, Arc<Node>>>,
}

#[derive(Debug)]
struct Node {
    channels: Vec<Channel>,
    next: AtomicUsize,
    suspicion: RwLock<Option<Suspicion>>,
}

#[derive(Debug, Clone, Copy)]
struct Suspicion {
    lasts: Duration,
    until: Instant,
}

impl Channels {
    /// No connections yet.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            connect_timeout: options.connect_timeout,
            per_node: options.connections_per_node.clamp(1, 4),
            nodes: RwLock::default(),
        }
    }

    /// A connection to a node, opened when it is first used and again after it broke.
    pub(crate) fn get(&self, address: &Address) -> Result<Channel, Error> {
        let node = self.node(address)?;
        let turn = node.next.fetch_add(1, Ordering::Relaxed) % node.channels.len().max(1);
        node.channels.get(turn).cloned().ok_or_else(|| bad(address, &"no connection"))
    }

    /// Opens a connection now, to learn whether anybody answers there.
    pub(crate) async fn try_connect(&self, address: &Address) -> Result<(), String> {
        let endpoint = self.endpoint(address).map_err(|error| error.to_string())?;
        match endpoint.connect().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let mut cause: &dyn std::error::Error = &error;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                Err(cause.to_string())
            }
        }
    }

    /// Whether an address can be one at all.
    pub(crate) fn check(&self, address: &Address) -> Result<(), Error> {
        self.endpoint(address).map(|_| ())
    }

    /// Asks this node last for a while, because it did not answer.
    pub(crate) fn suspect(&self, address: &Address) {
        if let Some(node) = self.nodes.read().get(address) {
            let mut suspicion = node.suspicion.write();
            *suspicion = Some(Suspicion::after(*suspicion, Instant::now()));
        }
    }

    /// The node has answered.
    pub(crate) fn trust(&self, address: &Address) {
        if let Some(node) = self.nodes.read().get(address)
            && node.suspicion.read().is_some()
        {
            *node.suspicion.write() = None;
        }
    }

    /// Whether the node failed to answer a moment ago.
    pub(crate) fn is_suspect(&self, address: &Address) -> bool {
        let nodes = self.nodes.read();
        let suspicion = nodes.get(address).and_then(|node| *node.suspicion.read());
        suspicion.is_some_and(|suspicion| Instant::now() < suspicion.until)
    }

    fn node(&self, address: &Address) -> Result<Arc<Node>, Error> {
        if let Some(node) = self.nodes.read().get(address) {
            return Ok(Arc::clone(node));
        }
        let endpoint = self.endpoint(address)?;
        let mut nodes = self.nodes.write();
        let node = nodes.entry(Arc::clone(address)).or_insert_with(|| {
            let channels = (0..self.per_node).map(|_| endpoint.connect_lazy()).collect();
            Arc::new(Node { channels, next: AtomicUsize::new(0), suspicion: RwLock::default() })
        });
        Ok(Arc::clone(node))
    }

    fn endpoint(&self, address: &Address) -> Result<Endpoint, Error> {
        let url = if address.contains("://") { address.to_string() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(url).map_err(|error| bad(address, &error))?;
        if endpoint.uri().port().is_none() {
            return Err(bad(address, &"the port is missing"));
        }
        Ok(endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW))
    }
}

impl Suspicion {
    /// Calls that were under way together and failed together are one failure.
    fn after(earlier: Option<Self>, now: Instant) -> Self {
        let lasts = match earlier {
            Some(earlier) if now < earlier.until => earlier.lasts,
            Some(earlier) => (earlier.lasts * 2).min(SUSPICION.1),
            None => SUSPICION.0,
        };
        Self { lasts, until: now + lasts }
    }
}

fn bad(address: &Address, why: &dyn std::fmt::Display) -> Error {
    Error::BadEndpoint { endpoint: address.to_string(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_grows_with_each_failure_of_its_own_and_is_bounded() {
        let now = Instant::now();
        let first = Suspicion::after(None, now);
        assert_eq!(first.lasts, SUSPICION.0);
        let together = Suspicion::after(Some(first), now + SUSPICION.0 / 2);
        assert_eq!(together.lasts, SUSPICION.0);
        let mut last = first;
        for _ in 0..10 {
            let next = Suspicion::after(Some(last), last.until);
            assert!(next.lasts > last.lasts || next.lasts == SUSPICION.1);
            last = next;
        }
        assert_eq!(last.lasts, SUSPICION.1);
    }
}
