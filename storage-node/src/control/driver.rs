//! Carries out what was ordered, on the node that leads the meta group: moves, drains, and
//! the meta group's own voters. Every step is decided anew from the records and from what
//! the groups report, so that the next leader goes on wherever this one stopped.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use placement::{NodeId, NodeState, PartitionId, Policy, plan};
use proto::v1::change_replicas_request::Step as Asked;
use proto::v1::meta_command::Command;
use proto::v1::{
    ChangeReplicasRequest, ChangeReplicasResponse, GroupReport, GroupStatusRequest, MetaCommand, MoveStage,
    SetNodeState, StartMoves,
};
use tokio_util::sync::CancellationToken;

use super::meta_leader::{MAX_LAG, MetaLeader, Sight};
use super::meta_link::MetaLink;
use crate::meta::growth::{self, MetaObserved};
use crate::meta::moves::{self, MovePolicy, Observed, Step};
use crate::meta::{MetaState, MoveId, MoveRecord, drain};
use crate::raft::network::connect;
use crate::raft::{Group, GroupError, Groups};

const BUSY: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(5);
/// Silent for this long, a node is taken for gone: its meta vote is given to another.
const GONE_AFTER: Duration = Duration::from_secs(30);
const AT_ONCE: usize = 16;

mod splitting;

/// Drives a cluster.
pub struct Driver {
    meta: Arc<MetaLeader>,
    link: Arc<MetaLink>,
    groups: Arc<Groups>,
    policy: MovePolicy,
    /// How often the present step of a move was asked for, by this driver.
    asked: HashMap<(MoveId, MoveStage), u32>,
}

impl Driver {
    /// Drives whenever this node leads the meta group.
    pub fn new(meta: Arc<MetaLeader>, link: Arc<MetaLink>, groups: Arc<Groups>) -> Self {
        Self { meta, link, groups, policy: MovePolicy::default(), asked: HashMap::new() }
    }

    /// Drives until it is told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let busy = match self.meta.group() {
                Some(group) => self.round(&group).await,
                None => {
                    self.asked.clear();
                    false
                }
            };
            tokio::select! {
                () = tokio::time::sleep(if busy { BUSY } else { IDLE }) => {}
                () = self.meta.ordered.notified(), if !busy => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One look at everything; returns whether there is more to do soon.
    async fn round(&mut self, group: &Arc<Group>) -> bool {
        let Ok(state) = self.meta.state().await else { return false };
        if state.cluster().is_none() {
            return false;
        }
        let sight = self.meta.sight();
        let grew = self.grow(group, &state, &sight).await;
        let moved = self.drive_moves(&state, &sight).await;
        let split = self.split(&state, &sight).await;
        let drained = self.drain(&state, &sight).await;
        self.tidy(&state, &sight).await;
        grew || moved || split || drained
    }

    /// The meta group's own voters.
    async fn grow(&self, group: &Arc<Group>, state: &MetaState, sight: &Sight) -> bool {
        let report = group.report();
        let (alive, gone) = (sight.alive(), sight.gone(state, GONE_AFTER));
        let observed = MetaObserved { group: &report, alive: &alive, gone: &gone, max_lag: MAX_LAG };
        let Some(change) = growth::next_change(state, &observed) else { return false };
        if let Some(command) = change.to_command(state) {
            if let Err(refused) = self.meta.propose(command).await {
                tracing::debug!(why = refused.message, "the meta group does not change yet");
            }
        } else if let Some(request) = change.to_request() {
            let answer = change_replicas(group, request).await;
            tracing::info!(?change, refused = answer.refused, "the meta group changes");
        }
        true
    }

    async fn drive_moves(&mut self, state: &Arc<MetaState>, sight: &Sight) -> bool {
        let (alive, gone) = (sight.alive(), sight.gone(state, GONE_AFTER));
        let run = moves::runnable(state, &self.policy);
        let records: Vec<MoveRecord> = run.iter().filter_map(|id| state.order(*id).cloned()).collect();
        self.asked
            .retain(|(id, stage), _| records.iter().any(|record| record.id == *id && record.stage == *stage));
        let known = sight.reports().groups(&alive);
        let mut steps = Vec::new();
        for record in &records {
            steps.push(self.drive(state, record, known.leader(record.partition()), &alive, &gone));
        }
        let done: Vec<_> = stream::iter(steps).buffer_unordered(AT_ONCE).collect().await;
        for (record, was_asked) in done {
            if was_asked {
                *self.asked.entry((record.id, record.stage)).or_default() += 1;
            }
        }
        !records.is_empty()
    }

    /// Decides and does the next step of a move.
    async fn drive<'a>(
        &self,
        state: &MetaState,
        record: &'a MoveRecord,
        leader: Option<NodeId>,
        alive: &BTreeSet<NodeId>,
        gone: &BTreeSet<NodeId>,
    ) -> (&'a MoveRecord, bool) {
        let group = match leader {
            Some(leader) => self.observe(leader, record.partition()).await,
            None => None,
        };
        let asked = self.asked.get(&(record.id, record.stage)).copied().unwrap_or(0);
        let observed = Observed { group: group.as_ref(), alive, gone, asked };
        let step = moves::next_step(state, record, &observed, &self.policy);
        (record, self.carry_out(record, &step, leader).await)
    }

    /// Does one step; returns whether the partition's leader was asked for something.
    async fn carry_out(&self, record: &MoveRecord, step: &Step, leader: Option<NodeId>) -> bool {
        if let Some(command) = step.to_command(record) {
            tracing::info!(id = %record.id, order = %record.order, %step, "a move goes on");
            if let Err(refused) = self.meta.propose(command).await {
                tracing::warn!(id = %record.id, %step, why = refused.message, "a step of a move was refused");
            }
            return false;
        }
        let (Some(request), Some(leader)) = (step.to_request(record), leader) else {
            tracing::debug!(id = %record.id, %step, "a move waits");
            return false;
        };
        tracing::info!(id = %record.id, order = %record.order, %step, "a move goes on");
        match self.ask(leader, request).await {
            Some(answer) if answer.refused.is_empty() => {}
            Some(answer) => {
                tracing::info!(id = %record.id, %step, why = answer.refused, "the partition's leader did not do it");
            }
            None => tracing::info!(id = %record.id, %step, "the partition's leader did not answer"),
        }
        true
    }

    /// What the leader of a partition says now.
    async fn observe(&self, leader: NodeId, partition: PartitionId) -> Option<GroupReport> {
        if leader == self.groups.node() {
            return Some(self.groups.get(partition)?.report()).filter(|report| report.leads);
        }
        let channel = self.link.channel(&self.link.peer_address(leader)?).await.ok()?;
        let mut request = tonic::Request::new(GroupStatusRequest { group: partition.0 });
        request.set_timeout(PATIENCE);
        let answer = connect::client(channel).group_status(request).await.ok()?.into_inner();
        answer.group.filter(|report| report.leads)
    }

    async fn ask(&self, leader: NodeId, request: ChangeReplicasRequest) -> Option<ChangeReplicasResponse> {
        if leader == self.groups.node() {
            let group = self.groups.get(PartitionId(request.group))?;
            return Some(change_replicas(&group, request).await);
        }
        let channel = self.link.channel(&self.link.peer_address(leader)?).await.ok()?;
        let mut call = tonic::Request::new(request);
        call.set_timeout(PATIENCE);
        Some(connect::client(channel).change_replicas(call).await.ok()?.into_inner())
    }

    /// Orders what empties the nodes that are to be drained, and notes those that are empty.
    async fn drain(&self, state: &MetaState, sight: &Sight) -> bool {
        let draining: Vec<NodeId> = state
            .map()
            .nodes
            .values()
            .filter(|node| node.state == NodeState::Draining)
            .map(|node| node.id)
            .collect();
        for node in &draining {
            if drain::is_empty(state, *node) {
                let to = proto::v1::NodeState::Drained.into();
                let node = proto::convert::node_bytes(*node);
                let command = SetNodeState { node, state: to, presumed_dead: false };
                self.record(Command::SetNodeState(command)).await;
            }
        }
        if draining.is_empty() {
            return false;
        }
        let alive = sight.alive();
        let unreachable = state.map().nodes.keys().filter(|node| !alive.contains(node)).copied().collect();
        let policy = Policy { unreachable, ..Policy::default() };
        let leaders = sight.reports().groups(&alive).leaders();
        let under_way: Vec<PartitionId> = state.moves_under_way().map(MoveRecord::partition).collect();
        let mut orders = plan(state.map(), &leaders, &policy);
        orders.retain(|order| order.from().is_some_and(|from| draining.contains(&from)));
        orders.retain(|order| {
            !under_way.contains(&order.partition()) && !state.is_splitting(order.partition())
        });
        if !orders.is_empty() {
            let moves = orders.iter().map(Into::into).collect();
            self.record(Command::StartMoves(StartMoves { moves, expected_revision: 0 })).await;
        }
        true
    }

    async fn record(&self, command: Command) {
        if let Err(refused) = self.meta.propose(MetaCommand { command: Some(command) }).await {
            tracing::debug!(why = refused.message, "the meta group refused what the driver asked");
        }
    }

    /// Brings groups back to what the map says, where a late request of an earlier driver
    /// has changed them.
    async fn tidy(&self, state: &MetaState, sight: &Sight) {
        let (alive, gone) = (sight.alive(), sight.gone(state, GONE_AFTER));
        let known = sight.reports().groups(&alive);
        for partition in state.map().partitions.values() {
            let observed =
                Observed { group: known.group(partition.id), alive: &alive, gone: &gone, asked: 0 };
            let Some(step) = moves::tidy(state, partition, &observed, &self.policy) else { continue };
            let Some(leader) = known.leader(partition.id) else { continue };
            // The report may be older than the last move's end: what the leader says now counts.
            let Some(now) = self.observe(leader, partition.id).await else { continue };
            let observed = Observed { group: Some(&now), ..observed };
            if moves::tidy(state, partition, &observed, &self.policy).as_ref() == Some(&step) {
                tracing::info!(partition = %partition.id, ?step, "a group is brought back to what the map says");
                self.ask(leader, step.to_request(partition.id)).await;
            }
        }
    }
}

/// A group without a quorum does not hold up all the others: the step is asked for again.
async fn in_time(change: impl Future<Output = Result<(), GroupError>>) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, change).await {
        Ok(changed) => changed.map_err(|error| error.to_string()),
        Err(_) => Err("the change is not committed yet".to_owned()),
    }
}

/// Does one step of a move on a group that this node should lead.
pub async fn change_replicas(group: &Arc<Group>, request: ChangeReplicasRequest) -> ChangeReplicasResponse {
    let done = match request.step {
        Some(Asked::AddLearner(entry)) => match placement::Replica::try_from(&entry) {
            Ok(replica) => in_time(group.add_learner(replica.id, replica.node)).await,
            Err(error) => Err(error.to_string()),
        },
        Some(Asked::Voters(voters)) => in_time(group.set_voters(voters.replicas.into_iter().collect())).await,
        Some(Asked::TransferTo(to)) => {
            group.transfer_leader(placement::ReplicaId(to)).await.map_err(|error| error.to_string())
        }
        Some(Asked::Split(split)) => in_time(group.split(split)).await,
        Some(Asked::Flush(_)) => in_time(group.flush()).await,
        None => Err("this node does not know the step".to_owned()),
    };
    ChangeReplicasResponse {
        group: Some(group.report()),
        refused: done.err().unwrap_or_default(),
        not_leader: None,
    }
}
