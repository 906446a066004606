//! How far replicas are behind.
//!
//! A node may hold ten thousand partitions, and figures of each would be more than anybody looks
//! at and more than Prometheus should keep. So there are the largest and the sum of all, and by
//! partition only the worst [`MOST_SHOWN`] that are behind at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::RwLock;
use placement::{NodeId, PartitionId};

use super::registry::{Labelled, Registry};

/// Partitions that are shown by name.
pub const MOST_SHOWN: usize = 20;

/// Entries that something is behind: the worst by name, and all of them together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind<K> {
    worst: BTreeSet<(u64, K)>,
    sum: u64,
}

/// How far the replicas of a node were behind when they were last looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lag {
    /// What followers of the groups that this node leads do not have yet.
    pub followers: Behind<(PartitionId, NodeId)>,
    /// What is committed and not applied yet on this node.
    pub apply: Behind<PartitionId>,
}

/// The lag that is shown.
#[derive(Debug, Clone, Default)]
pub struct ShownLag {
    shown: Arc<RwLock<Shown>>,
}

#[derive(Debug, Default)]
struct Shown {
    followers: Summary,
    apply: Summary,
}

#[derive(Debug, Default)]
struct Summary {
    worst: Vec<Labelled>,
    max: u64,
    sum: u64,
}

impl<K> Default for Behind<K> {
    fn default() -> Self {
        Self { worst: BTreeSet::new(), sum: 0 }
    }
}

impl<K: Ord + Copy> Behind<K> {
    /// Counts something that is so many entries behind.
    pub fn count(&mut self, what: K, entries: u64) {
        self.sum = self.sum.saturating_add(entries);
        if entries == 0 {
            return;
        }
        self.worst.insert((entries, what));
        if self.worst.len() > MOST_SHOWN {
            self.worst.pop_first();
        }
    }

    fn summary(&self, labels: impl Fn(K) -> Vec<(&'static str, String)>) -> Summary {
        let worst = self.worst.iter().map(|&(entries, what)| (labels(what), entries as f64));
        Summary {
            worst: worst.collect(),
            max: self.worst.last().map_or(0, |&(entries, _)| entries),
            sum: self.sum,
        }
    }
}

impl ShownLag {
    /// Adds the figures.
    pub(super) fn register(registry: &Registry) -> Self {
        let lag = Self::default();
        let shown = Arc::clone(&lag.shown);
        registry.gauges_fn(
            "kvstore_follower_lag_entries",
            "Entries that a follower does not have yet, of the worst in partitions that this node leads.",
            move || shown.read().followers.worst.clone(),
        );
        let shown = Arc::clone(&lag.shown);
        registry.gauges_fn(
            "kvstore_apply_lag_entries",
            "Entries that are committed and not applied here yet, of the worst partitions.",
            move || shown.read().apply.worst.clone(),
        );
        let figure = |name, help, read: fn(&Shown) -> u64| {
            let shown = Arc::clone(&lag.shown);
            registry.gauge_fn(name, help, &[], move || read(&shown.read()) as f64);
        };
        figure(
            "kvstore_follower_lag_max_entries",
            "Entries that the slowest follower of all partitions that this node leads does not have yet.",
            |shown| shown.followers.max,
        );
        figure("kvstore_follower_lag_all_entries", "The same of all followers together.", |shown| {
            shown.followers.sum
        });
        figure(
            "kvstore_apply_lag_max_entries",
            "Entries that are committed and not applied yet, of the slowest replica here.",
            |shown| shown.apply.max,
        );
        figure("kvstore_apply_lag_all_entries", "The same of all replicas here together.", |shown| {
            shown.apply.sum
        });
        lag
    }

    /// Shows what was found; `name` says what people call a node.
    pub fn show(&self, lag: &Lag, name: impl Fn(NodeId) -> String) {
        let shown = Shown {
            followers: lag.followers.summary(|(partition, node)| {
                vec![("node", name(node)), ("partition", partition.to_string())]
            }),
            apply: lag.apply.summary(|partition| vec![("partition", partition.to_string())]),
        };
        *self.shown.write() = shown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_are_shown_and_all_are_summed() {
        let registry = Registry::default();
        let shown = ShownLag::register(&registry);
        assert!(registry.text().contains("# TYPE kvstore_apply_lag_entries gauge\n"), "the name is known");
        let mut lag = Lag::default();
        let node = NodeId::default();
        for partition in 0..10_000 {
            lag.followers.count((PartitionId(partition), node), partition);
        }
        shown.show(&lag, |_| "node-2".to_owned());
        let text = registry.text();
        let by_name = text.lines().filter(|line| line.starts_with("kvstore_follower_lag_entries{"));
        assert_eq!(by_name.count(), MOST_SHOWN);
        for line in [
            "kvstore_follower_lag_entries{node=\"node-2\",partition=\"9999\"} 9999",
            "kvstore_follower_lag_entries{node=\"node-2\",partition=\"9980\"} 9980",
            "kvstore_follower_lag_max_entries 9999",
            "kvstore_follower_lag_all_entries 49995000",
            "kvstore_apply_lag_max_entries 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn who_is_not_behind_is_not_shown() {
        let mut apply = Behind::default();
        apply.count(PartitionId(1), 0);
        assert_eq!(apply, Behind::default());
    }
}
