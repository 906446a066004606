//! What reconcilers share.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use parking_lot::Mutex;

use crate::dataplane::{Links, Where};
use crate::faults::Fault;
use crate::runtime::backoff::Backoff;
use crate::runtime::caches::Caches;
use crate::runtime::events::Events;
use crate::runtime::metrics::Metrics;

/// What reconcilers share.
pub struct Context {
    /// The way to the API server.
    pub client: Client,
    /// What is known of it.
    pub caches: Caches,
    /// The ways to clusters.
    pub links: Links,
    /// What is told to people.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    /// The image of storage nodes where a cluster names none.
    pub node_image: String,
    /// Where to end, for tests.
    pub fault: Option<Fault>,
    /// Clusters whose monitoring was seen to. It is not watched, so this keeps it from being applied
    /// again and again.
    pub monitored: Mutex<BTreeMap<Where, Monitored>>,
    /// Clusters that fail.
    pub failing: Backoff<Where>,
    /// Tables that fail, by their own names.
    pub failing_tables: Backoff<Where>,
}

/// What was seen to of a cluster's monitoring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monitored {
    /// For which generation of the spec.
    pub generation: i64,
    /// Whether the kind exists.
    pub kind_exists: bool,
    /// When.
    pub at: Timestamp,
}

impl Context {
    /// A cluster is gone: nothing is kept of it.
    pub fn forget(&self, which: &Where) {
        self.links.forget(which);
        self.monitored.lock().remove(which);
        self.failing.forget(which);
    }
}
