//! What a node knows and may do while it leads the meta group.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use placement::{Leaders, NodeId, NodeState, PartitionId};
use prost::Message;
use proto::v1::{
    Failure, LeaderHint, MetaAnswer, MetaCommand, ReportRequest, ReportResponse, command,
    meta_answer::Outcome,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::meta::status::Seen;
use crate::meta::{MetaState, Reports};
use crate::partition::Answer;
use crate::raft::{Group, GroupError, Groups};
use crate::router::failure;
use crate::seams::clock;

/// A node that was not heard of for this long is not alive.
pub const ALIVE_WITHIN: Duration = Duration::from_millis(3_000);
/// A command that the meta group has not committed by then is given up, and may yet be done.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);
/// A replica that is further behind than this has not caught up.
pub const MAX_LAG: u64 = 1_000;

/// The meta leader's soft state, gathered anew by whoever becomes it.
pub struct MetaLeader {
    groups: Arc<Groups>,
    began: Instant,
    reports: Mutex<Gathered>,
    /// Something was reported.
    pub heard: Notify,
    /// Something was ordered that the driver should look at.
    pub ordered: Notify,
}

#[derive(Default)]
struct Gathered {
    reports: Reports,
    term: u64,
}

/// The reports at one moment.
pub struct Sight {
    reports: Reports,
    now_ms: u64,
}

impl Sight {
    /// As the deciding functions take it.
    pub fn seen(&self) -> Seen<'_> {
        let alive_within_ms = u64::try_from(ALIVE_WITHIN.as_millis()).unwrap_or(u64::MAX);
        Seen { reports: &self.reports, now_ms: self.now_ms, alive_within_ms, max_lag: MAX_LAG }
    }

    /// The nodes that are alive.
    pub fn alive(&self) -> BTreeSet<NodeId> {
        self.seen().alive()
    }

    /// What was reported.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// The nodes that were silent for longer.
    pub fn gone(&self, state: &MetaState, longer_than: Duration) -> BTreeSet<NodeId> {
        let longer_than_ms = u64::try_from(longer_than.as_millis()).unwrap_or(u64::MAX);
        let nodes = state.map().nodes.values().filter(|node| node.state != NodeState::Removed);
        self.reports.gone(nodes.map(|node| node.id), self.now_ms, longer_than_ms)
    }
}

impl MetaLeader {
    /// Of a node that does not lead anything yet.
    pub fn new(groups: Arc<Groups>) -> Arc<Self> {
        Arc::new(Self {
            groups,
            began: clock::now(),
            reports: Mutex::default(),
            heard: Notify::new(),
            ordered: Notify::new(),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The meta group, if this node leads it.
    pub fn group(&self) -> Option<Arc<Group>> {
        self.groups.get(PartitionId::META).filter(|group| group.leads())
    }

    /// The state, read linearizably.
    pub async fn state(&self) -> Result<Arc<MetaState>, Failure> {
        let group = self.group().ok_or_else(not_leader)?;
        group.read_barrier().await.map_err(|error| of_group(&error))?;
        let state = group.applied().meta().borrow().clone();
        state.ok_or_else(not_leader)
    }

    /// The state as it is applied, which may be a moment old.
    pub fn applied_state(&self) -> Option<Arc<MetaState>> {
        self.group()?.applied().meta().borrow().clone()
    }

    /// What was reported, as of now.
    pub fn sight(&self) -> Sight {
        let term = self.group().map_or(0, |group| group.report().term);
        let now_ms = self.now_ms();
        let mut gathered = self.reports.lock();
        if gathered.term != term {
            // What was heard when this node led before is forgotten.
            *gathered = Gathered { reports: Reports::since(now_ms), term };
        }
        Sight { reports: gathered.reports.clone(), now_ms }
    }

    /// Who leads what, as reported.
    pub fn leaders(&self) -> Leaders {
        let sight = self.sight();
        sight.reports.groups(&sight.alive()).leaders()
    }

    /// Takes a node's report.
    pub fn hear(&self, node: NodeId, report: ReportRequest) -> ReportResponse {
        let Some(state) = self.applied_state() else {
            return ReportResponse { not_leader: true, ..ReportResponse::default() };
        };
        let removed = state.map().nodes.get(&node).is_some_and(|node| node.state == NodeState::Removed);
        let known = report.leaders_known;
        let sight = self.sight();
        self.reports.lock().reports.hear(node, report, self.now_ms());
        self.heard.notify_waiters();
        let alive = sight.alive();
        let leaders = sight.reports.groups(&alive).leaders();
        let leaders_known = fingerprint(&leaders);
        let hint = |(partition, node): (&PartitionId, &NodeId)| LeaderHint {
            partition: partition.0,
            node: node.to_bytes().to_vec().into(),
        };
        ReportResponse {
            median_clock_ms: sight.reports.median_clock_ms(&alive, sight.now_ms).unwrap_or(0),
            removed,
            leaders: if leaders_known == known { Vec::new() } else { leaders.iter().map(hint).collect() },
            leaders_known,
            ..ReportResponse::default()
        }
    }

    /// Has a command applied.
    pub async fn propose(&self, command: MetaCommand) -> Result<MetaAnswer, Failure> {
        let group = self.group().ok_or_else(not_leader)?;
        let answer = group.propose(command::Command::Meta(command.encode_to_vec().into()), None);
        let Ok(answer) = tokio::time::timeout(COMMIT_PATIENCE, answer).await else {
            return Err(failure::outcome_unknown("the meta group has not committed it in time"));
        };
        let Answer::Meta(bytes) = answer.map_err(|error| of_group(&error))? else {
            return Err(failure::internal("a meta command had another command's answer"));
        };
        let answer = MetaAnswer::decode(bytes).map_err(|error| failure::internal(error.to_string()))?;
        self.ordered.notify_one();
        match answer.outcome {
            Some(Outcome::Refused(refused)) => {
                Err(refused.failure.unwrap_or_else(|| failure::internal("refused without a reason")))
            }
            _ => Ok(answer),
        }
    }
}

fn fingerprint(leaders: &Leaders) -> u64 {
    let mut hasher = DefaultHasher::new();
    leaders.hash(&mut hasher);
    hasher.finish().max(1)
}

/// The sign that the meta leader is elsewhere: whoever asked looks for it again.
pub fn not_leader() -> Failure {
    failure::not_leader(PartitionId::META, None, String::new())
}

fn of_group(error: &GroupError) -> Failure {
    match error {
        GroupError::NotLeader(_) | GroupError::NotNow => not_leader(),
        GroupError::Unknown(why) => failure::outcome_unknown(why),
        GroupError::Refused(why) => failure::internal(*why),
        GroupError::State(error) => failure::internal(error.to_string()),
    }
}
