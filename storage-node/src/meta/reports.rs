//! What the nodes last said of themselves: soft state of the meta leader, lost when
//! another node becomes it, and back within a second.

use std::collections::{BTreeMap, BTreeSet};

use placement::{Leaders, NodeId, PartitionId};
use proto::v1::{GroupReport, ReportRequest};

/// The last report of each node. Times are milliseconds of the caller's monotonic clock.
#[derive(Debug, Clone, Default)]
pub struct Reports {
    /// Since when reports are gathered. Before that nobody could be heard.
    since_ms: u64,
    nodes: BTreeMap<NodeId, NodeReport>,
    /// Of each node the groups that it leads, and since when.
    writes: BTreeMap<NodeId, BTreeMap<PartitionId, Writes>>,
}

/// How much is written to a group, by the versions that it gives out.
#[derive(Debug, Clone, Copy)]
struct Writes {
    begun_ms: u64,
    last_ms: u64,
    versions: u64,
    /// Over about [`OVER_MS`].
    per_second: f64,
}

/// Over how long writes are counted. For as long they must have been observed.
const OVER_MS: u64 = 30_000;

/// A node's last report.
#[derive(Debug, Clone)]
pub struct NodeReport {
    /// What it said.
    pub report: ReportRequest,
    /// When that was heard.
    pub heard_at_ms: u64,
}

/// The groups as their leaders report them, one leader for each.
#[derive(Debug, Clone, Default)]
pub struct Groups<'a> {
    leaders: BTreeMap<PartitionId, (NodeId, &'a GroupReport)>,
}

impl Reports {
    /// Begins to gather.
    pub fn since(now_ms: u64) -> Self {
        Self { since_ms: now_ms, ..Self::default() }
    }

    /// Takes a node's report in place of its last one.
    pub fn hear(&mut self, node: NodeId, report: ReportRequest, now_ms: u64) {
        let mut before = self.writes.remove(&node).unwrap_or_default();
        let led = report.groups.iter().filter(|group| group.leads);
        let writes = led.map(|group| {
            let id = PartitionId(group.partition);
            let known = before.remove(&id).filter(|known| known.versions <= group.versions);
            let fresh =
                Writes { begun_ms: now_ms, last_ms: now_ms, versions: group.versions, per_second: 0.0 };
            (id, known.map_or(fresh, |known| known.and(group.versions, now_ms)))
        });
        self.writes.insert(node, writes.collect());
        self.nodes.insert(node, NodeReport { report, heard_at_ms: now_ms });
    }

    /// Forgets a node that was removed.
    pub fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.writes.remove(&node);
    }

    /// How many writes a second a group takes that this node leads; none: it has not led it for long.
    pub fn writes_per_second(&self, node: NodeId, partition: PartitionId) -> Option<f64> {
        let writes = self.writes.get(&node)?.get(&partition)?;
        (writes.last_ms - writes.begun_ms >= OVER_MS).then_some(writes.per_second)
    }

    /// A node's last report.
    pub fn of(&self, node: NodeId) -> Option<&NodeReport> {
        self.nodes.get(&node)
    }

    /// For how long a node was not heard of; for one that never was, since gathering began.
    pub fn silence_ms(&self, node: NodeId, now_ms: u64) -> u64 {
        let last = self.nodes.get(&node).map_or(self.since_ms, |node| node.heard_at_ms);
        now_ms.saturating_sub(last)
    }

    /// The nodes heard of within that time.
    pub fn alive(&self, now_ms: u64, within_ms: u64) -> BTreeSet<NodeId> {
        let fresh = |report: &NodeReport| now_ms.saturating_sub(report.heard_at_ms) <= within_ms;
        self.nodes.iter().filter(|(_, report)| fresh(report)).map(|(node, _)| *node).collect()
    }

    /// The nodes among these that were not heard of for longer than that.
    pub fn gone(
        &self,
        among: impl IntoIterator<Item = NodeId>,
        now_ms: u64,
        longer_than_ms: u64,
    ) -> BTreeSet<NodeId> {
        among.into_iter().filter(|node| self.silence_ms(*node, now_ms) > longer_than_ms).collect()
    }

    /// The groups by what these nodes say. Of two that say they lead one, the one with the
    /// higher term does.
    pub fn groups(&self, alive: &BTreeSet<NodeId>) -> Groups<'_> {
        let mut leaders: BTreeMap<PartitionId, (NodeId, &GroupReport)> = BTreeMap::new();
        for (node, heard) in self.nodes.iter().filter(|(node, _)| alive.contains(node)) {
            for group in heard.report.groups.iter().filter(|group| group.leads) {
                let known = leaders.entry(PartitionId(group.partition)).or_insert((*node, group));
                if group.term > known.1.term {
                    *known = (*node, group);
                }
            }
        }
        Groups { leaders }
    }

    /// The median of these nodes' wall clocks, carried on to now; none: nobody was heard.
    pub fn median_clock_ms(&self, alive: &BTreeSet<NodeId>, now_ms: u64) -> Option<u64> {
        let heard = self.nodes.iter().filter(|(node, _)| alive.contains(node)).map(|(_, heard)| heard);
        let mut clocks: Vec<u64> = heard
            .map(|heard| heard.report.clock_ms.saturating_add(now_ms.saturating_sub(heard.heard_at_ms)))
            .collect();
        clocks.sort_unstable();
        clocks.get(clocks.len().saturating_sub(1) / 2).copied()
    }
}

impl Writes {
    /// With what was reported since. It is smoothed, so that a short burst splits nothing.
    fn and(self, versions: u64, now_ms: u64) -> Self {
        let passed_ms = now_ms.saturating_sub(self.last_ms);
        if passed_ms == 0 {
            return self;
        }
        let since = (versions - self.versions) as f64 * 1_000.0 / passed_ms as f64;
        let old = (-(passed_ms as f64) / OVER_MS as f64).exp();
        Self {
            last_ms: now_ms,
            versions,
            per_second: since.mul_add(1.0 - old, self.per_second * old),
            ..self
        }
    }
}

impl<'a> Groups<'a> {
    /// A group as its leader reports it.
    pub fn group(&self, partition: PartitionId) -> Option<&'a GroupReport> {
        self.leaders.get(&partition).map(|(_, group)| *group)
    }

    /// The node that leads a group.
    pub fn leader(&self, partition: PartitionId) -> Option<NodeId> {
        self.leaders.get(&partition).map(|(node, _)| *node)
    }

    /// How many partitions a node leads; the meta group is not counted.
    pub fn led_by(&self, node: NodeId) -> usize {
        let leads = |(partition, (leader, _)): &(&PartitionId, &(NodeId, &GroupReport))| {
            **partition != PartitionId::META && *leader == node
        };
        self.leaders.iter().filter(leads).count()
    }

    /// Who leads what, as the planner wants it.
    pub fn leaders(&self) -> Leaders {
        let partitions = self.leaders.iter().filter(|(partition, _)| **partition != PartitionId::META);
        partitions.map(|(partition, (node, _))| (*partition, *node)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::testing::{group, node};

    fn report(clock_ms: u64, groups: Vec<GroupReport>) -> ReportRequest {
        ReportRequest { clock_ms, groups, ..ReportRequest::default() }
    }

    #[test]
    fn silence_counts_from_the_last_report_or_from_when_gathering_began() {
        let mut reports = Reports::since(1_000);
        reports.hear(node(1), report(0, Vec::new()), 5_000);
        assert_eq!(reports.alive(5_500, 1_000), [node(1)].into());
        assert!(reports.alive(6_001, 1_000).is_empty());
        assert_eq!(reports.gone([node(1), node(2)], 5_500, 4_000), [node(2)].into());
        assert!(reports.gone([node(2)], 4_500, 4_000).is_empty());
    }

    #[test]
    fn the_newest_leader_counts_and_only_while_its_node_is_alive() {
        let mut reports = Reports::since(0);
        let old = group(7, 1, &[1, 2, 3], &[]);
        let new = GroupReport { term: 2, ..group(7, 2, &[1, 2, 3], &[]) };
        reports.hear(node(1), report(0, vec![old]), 0);
        reports.hear(node(2), report(0, vec![new]), 0);
        let partition = PartitionId(7);
        assert_eq!(reports.groups(&[node(1), node(2)].into()).leader(partition), Some(node(2)));
        assert_eq!(reports.groups(&[node(1)].into()).leader(partition), Some(node(1)));
        assert_eq!(reports.groups(&BTreeSet::new()).leader(partition), None);
    }

    #[test]
    fn one_wild_clock_does_not_move_the_median() {
        let mut reports = Reports::since(0);
        for (number, clock) in [(1, 1_000), (2, 1_020), (3, 9_000_000)] {
            reports.hear(node(number), report(clock, Vec::new()), 10);
        }
        let alive = (1..=3).map(node).collect();
        assert_eq!(reports.median_clock_ms(&alive, 15), Some(1_025));
        assert_eq!(reports.median_clock_ms(&BTreeSet::new(), 15), None);
    }

    #[test]
    fn writes_count_once_they_were_observed_for_long() {
        let mut reports = Reports::since(0);
        let mut told = |second: u64, versions: u64, leads: bool| {
            let led = GroupReport { leads, versions, ..group(7, 1, &[1, 2, 3], &[]) };
            reports.hear(node(1), report(0, vec![led]), second * 1_000);
            reports.writes_per_second(node(1), PartitionId(7))
        };
        for second in 0..30 {
            assert_eq!(told(second, second * 500, true), None, "{second}");
        }
        let rate = told(30, 15_000, true).unwrap();
        assert!(rate > 250.0 && rate <= 500.0, "{rate}");
        for second in 31..200 {
            told(second, second * 500, true);
        }
        let rate = told(200, 100_000, true).unwrap();
        assert!((490.0..=500.0).contains(&rate), "{rate}");
        // A burst is no load.
        let burst = told(201, 104_000, true).unwrap();
        assert!(burst < 650.0, "{burst}");
        assert_eq!(told(202, 104_000, false), None, "it leads no more");
        assert_eq!(told(203, 104_000, true), None, "what was before does not count");
    }
}
