//! Tells the meta leader how this node is, and hears who leads what and what time it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use placement::{ClusterId, NodeId, PartitionId};
use proto::v1::{NodeLoad, ReportRequest, ReportResponse};
use tokio_util::sync::CancellationToken;

use super::SUPPORTED_CLUSTER_VERSION;
use super::clocks::Clocks;
use super::meta_leader::MetaLeader;
use super::meta_link::MetaLink;
use crate::disk::DiskWatch;
use crate::observability::metrics::{Metrics, process};
use crate::raft::Groups;
use crate::raft::network::connect;
use crate::router::Router;
use crate::seams::clock;

/// A report is due this often, and sooner when this node begins or ceases to lead something.
const EVERY: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(1);

/// Reports for a node.
pub struct Reporter {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// The way to the meta leader.
    pub link: Arc<MetaLink>,
    /// What this node is as meta leader.
    pub meta: Arc<MetaLeader>,
    /// The replicas of this node.
    pub groups: Arc<Groups>,
    /// Hears who leads what.
    pub router: Arc<Router>,
    /// How full the disk is.
    pub disk: Arc<DiskWatch>,
    /// What dates entries.
    pub clocks: Clocks,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Told when the cluster has removed this node.
    pub removed: CancellationToken,
}

impl Reporter {
    /// Reports until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let began = clock::now();
        let mut last = None::<tokio::time::Instant>;
        // What was told, and what was seen.
        let mut led = BTreeSet::new();
        let mut before = BTreeSet::new();
        let mut known = 0;
        loop {
            let leads: BTreeSet<PartitionId> =
                self.groups.all().iter().filter(|group| group.leads()).map(|group| group.group).collect();
            self.metrics.leaderships_won.add(leads.difference(&before).count() as u64);
            before.clone_from(&leads);
            let due = last.is_none_or(|last| last.elapsed() >= EVERY);
            if due || leads != led {
                let leaders = leads.iter().filter(|group| **group != PartitionId::META).count();
                let report = self.report(began.elapsed(), leaders, known);
                let sent = clock::now();
                if let Some(answer) = self.send(report).await {
                    known = self.hear(&answer, sent.elapsed()).await;
                    led = leads;
                }
                last = Some(clock::now());
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn report(&self, uptime: Duration, leaders: usize, leaders_known: u64) -> ReportRequest {
        let groups = self.groups.all();
        let mut expired_keys = 0;
        let reports = groups.iter().map(|group| {
            let mut report = group.report();
            report.expired_keys = group.expired_keys().unwrap_or_default();
            expired_keys += report.expired_keys;
            report.approximate_bytes = self.groups.engine().approximate_bytes(&group.applied().ranges());
            report
        });
        let reports = reports.collect();
        self.metrics.expired_keys.set(expired_keys);
        let load = NodeLoad {
            replicas: groups.iter().filter(|group| group.group != PartitionId::META).count() as u64,
            leaders: leaders as u64,
            disk_free_bytes: self.disk.free_bytes(),
            disk_total_bytes: self.disk.total_bytes(),
            disk_used_bytes: self.disk.used_bytes(),
            memory_bytes: process::resident_bytes().unwrap_or(0),
            disk_nearly_full: self.disk.is_nearly_full(),
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
        };
        ReportRequest {
            cluster: self.cluster.to_bytes().to_vec().into(),
            node: self.node.to_bytes().to_vec().into(),
            load: Some(load),
            groups: reports,
            clock_ms: self.clocks.wall_ms(),
            supports_version: SUPPORTED_CLUSTER_VERSION,
            leaders_known,
        }
    }

    async fn send(&self, report: ReportRequest) -> Option<ReportResponse> {
        if self.link.leads() {
            return Some(self.meta.hear(self.node, report));
        }
        let candidates = self.link.candidates();
        let address = candidates.first()?.clone();
        let channel = self.link.channel(&address).await.ok()?;
        let mut request = tonic::Request::new(report);
        request.set_timeout(PATIENCE);
        match connect::client(channel).report(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                if answer.not_leader {
                    self.link.forget_leader(&address);
                    self.link.note_leader(&answer.meta_leader_address);
                    return None;
                }
                Some(answer)
            }
            Err(_) => {
                self.link.forget_leader(&address);
                None
            }
        }
    }

    async fn hear(&self, answer: &ReportResponse, took: Duration) -> u64 {
        if answer.removed {
            self.removed.cancel();
        }
        for hint in &answer.leaders {
            if let Some(node) = NodeId::from_bytes(&hint.node) {
                self.router.note_leader(PartitionId(hint.partition), node);
            }
        }
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if self.clocks.compare(answer.median_clock_ms, took_ms) {
            self.groups.hand_over_all(&std::collections::HashSet::new(), Duration::from_millis(500)).await;
        }
        answer.leaders_known
    }
}
