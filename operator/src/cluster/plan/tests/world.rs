//! A small world that plans can be carried out in: what Kubernetes and the data plane would do,
//! as far as planning can see it. It also judges: whatever a plan does that must never be done
//! fails the test.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use placement::{ClusterId, Move, NodeId, NodeState, PartitionId};
use uuid::Uuid;

use crate::cluster::intent::{
    Intent, PoolIntent, RebalanceIntent, RebalanceMode, RepairIntent, Retention, UpdateIntent,
};
use crate::cluster::observed::{Claim, Identity, Machine, Observed, Pod, Seat, Set};
use crate::cluster::plan::{Gate, Plan, Step, plan};
use crate::dataplane::{ClusterView, DataPlane, NodeView, ProposedMove, TableView};

pub const GIB: u64 = 1 << 30;

/// What is wanted, in the usual form.
pub fn intent(replicas: u32) -> Intent {
    Intent {
        name: "kv".to_owned(),
        uid: ClusterId(Uuid::from_u128(0xc1)),
        pools: vec![pool("a", replicas)],
        paused: false,
        hibernate: false,
        update: UpdateIntent {
            paused: false,
            timeout: 600,
            proceed_with_leaders: false,
            allow_single_replica: false,
        },
        raises_version: true,
        repair: RepairIntent { on: true, delay: 300 },
        rebalance: RebalanceIntent { mode: RebalanceMode::Auto, concurrent: 4, approved: None },
        claims_when_scaled: Retention::Delete,
    }
}

pub fn pool(name: &str, replicas: u32) -> PoolIntent {
    PoolIntent { name: name.to_owned(), replicas, inputs: "one".to_owned(), storage: 10 * GIB }
}

pub fn seat(pool: &str, ordinal: u32) -> Seat {
    Seat { pool: pool.to_owned(), ordinal }
}

/// The node with that number.
pub fn id(number: u128) -> NodeId {
    NodeId(Uuid::from_u128(number))
}

pub struct World {
    pub intent: Intent,
    pub observed: Observed,
    /// Templates whose pods never become ready.
    pub broken: Vec<String>,
    /// Whether drains come to an end by themselves.
    pub drains_end: bool,
    /// What each identity is when its pod comes back: by claim.
    holds: BTreeMap<String, NodeId>,
    /// What the data plane answers again once a majority of its nodes is up.
    asleep: Option<Box<ClusterView>>,
    next: u128,
    made: u64,
    transcript: String,
}

impl World {
    pub fn new(intent: Intent) -> Self {
        let machines = (1..=9).map(|number| {
            let zone = format!("z{}", (number - 1) % 3 + 1);
            (format!("m{number}"), Machine { zone, ready: true })
        });
        Self {
            intent,
            observed: Observed { now: 1_000_000, machines: machines.collect(), ..Observed::default() },
            broken: Vec::new(),
            drains_end: true,
            holds: BTreeMap::new(),
            asleep: None,
            next: 1,
            made: 0,
            transcript: String::new(),
        }
    }

    /// A cluster of three that is as declared, with a table of three replicas.
    pub fn settled(replicas: u32) -> Self {
        let mut world = Self::new(intent(replicas));
        world.run(50);
        world.view_mut().tables.push(TableView {
            id: 1,
            name: "orders".to_owned(),
            replicas: 3.min(replicas),
            partitions: 8,
            wanted_partitions: 0,
            buckets: 64,
            default_ttl_ms: 0,
            history: proto::v1::HistorySettings::default(),
            values: proto::v1::ValueSettings::default(),
            touch_on_read_ms: 0,
            indexes: Vec::new(),
            split: proto::v1::SplitPolicy::default(),
            owner: String::new(),
        });
        for node in world.view_mut().nodes.values_mut() {
            (node.replicas, node.leaders) = (8, 2);
        }
        world.transcript.clear();
        assert!(world.plan().is_empty(), "a settled cluster has nothing to do: {}", world.plan());
        world
    }

    pub fn plan(&self) -> Plan {
        plan(&self.intent, &self.observed)
    }

    pub fn view(&self) -> &ClusterView {
        self.observed.data.known().expect("the data plane answers")
    }

    pub fn view_mut(&mut self) -> &mut ClusterView {
        match &mut self.observed.data {
            DataPlane::Known(view) => view,
            other => panic!("the data plane does not answer: {other:?}"),
        }
    }

    pub fn node_mut(&mut self, name: &str) -> &mut NodeView {
        self.view_mut().nodes.values_mut().find(|node| node.name == name).expect("such a node")
    }

    pub fn pod_mut(&mut self, name: &str) -> &mut Pod {
        self.observed.pods.iter_mut().find(|pod| pod.name == name).expect("such a pod")
    }

    pub fn propose(&mut self, order: Move, line: &str) {
        self.view_mut().proposal.push(ProposedMove { order, line: line.to_owned() });
    }

    /// The machine of a pod is lost.
    pub fn lose(&mut self, name: &str, silent_for: u64) {
        let pod = self.pod_mut(name);
        pod.ready = false;
        pod.created = 0;
        pod.identity = Identity::Unknown;
        let machine = pod.machine.clone().expect("a machine");
        self.observed.machines.get_mut(&machine).expect("the machine").ready = false;
        let node = self.node_mut(name);
        (node.alive, node.silent_for) = (false, silent_for);
    }

    /// Nobody answers for the cluster until a majority of its nodes is up.
    pub fn lose_quorum(&mut self) {
        if let DataPlane::Known(view) = std::mem::take(&mut self.observed.data) {
            self.asleep = Some(view);
        }
    }

    /// Plans and carries out, until nothing is left to do or nothing moves any more.
    pub fn run(&mut self, most: usize) -> String {
        self.run_until(most, |_| false)
    }

    /// The same, and ends after the step that `stop` names; the rest of its plan is not done,
    /// as when the operator is killed.
    pub fn run_until(&mut self, most: usize, mut stop: impl FnMut(&Step) -> bool) -> String {
        for _ in 0..most {
            let plan = self.plan();
            if plan.is_empty() && !self.settle() {
                let _ = write!(self.transcript, "{plan}");
                return std::mem::take(&mut self.transcript);
            }
            if plan.is_empty() {
                continue;
            }
            let _ = write!(self.transcript, "{plan}");
            for step in &plan.steps {
                self.judge(step);
                self.carry_out(step);
                if stop(step) {
                    self.transcript.push_str("  (ends here)\n");
                    return std::mem::take(&mut self.transcript);
                }
            }
            self.settle();
        }
        panic!("it never comes to rest:\n{}", self.transcript)
    }

    /// What must never be done, whoever wants it.
    fn judge(&self, step: &Step) {
        match step {
            Step::DeleteClaim { claim, unasked: false, .. } => {
                let held = self.holds.get(claim);
                let removed = held.is_none_or(|node| self.view().tombstones.contains(node));
                assert!(removed, "{step}, but its node was not removed");
            }
            Step::ScaleSet { pool, from: Some(from), to } if to < from && !self.intent.hibernate => {
                assert_eq!(from - to, 1, "one pod at a time: {step}");
                let claim = self.intent.claim_name(&seat(pool, *to));
                let removed = self.holds.get(&claim).is_none_or(|node| {
                    self.observed.data.known().is_some_and(|view| view.tombstones.contains(node))
                });
                assert!(removed, "{step}, but the node on {claim} was not removed");
            }
            Step::DeleteSet { pool } => {
                let needed = self.holds.iter().find(|(claim, node)| {
                    claim.starts_with(&format!("data-kv-{pool}-")) && !self.view().tombstones.contains(node)
                });
                assert!(needed.is_none(), "{step}, but {needed:?} was not removed");
            }
            Step::Init { .. } => assert!(self.holds.is_empty(), "{step}, over existing data"),
            Step::RestartPod { pod, gate, .. } => {
                let pod = self.observed.pods.iter().find(|other| other.name == *pod).expect("such a pod");
                let runs = pod.ready || !pod.never_ran;
                assert!(!runs || *gate != Gate::NeverRan, "{step}, but it runs and nobody is asked");
                let down = self.observed.pods.iter().filter(|other| !other.ready && other.name != pod.name);
                let node = |name: &str| self.observed.data.known().and_then(|view| view.named(name));
                let down = down.filter(|other| node(&other.name).is_some());
                assert!(!pod.ready || down.count() == 0, "{step}, but another one is down");
            }
            _ => {}
        }
    }

    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::CreateClaim { seat, claim, first } => {
                self.made += 1;
                self.observed.claims.push(Claim {
                    name: claim.clone(),
                    uid: format!("claim-{}", self.made),
                    seat: seat.clone(),
                    cluster: Some(self.intent.uid),
                    first: *first,
                    requested: self.intent.pool(&seat.pool).map_or(0, |pool| pool.storage),
                    ..Claim::default()
                });
            }
            Step::MarkClaim { claim } => self.claim_mut(claim).first = true,
            Step::LabelClaim { claim, node } => self.claim_mut(claim).node = Some(*node),
            Step::GrowClaim { claim, to, .. } => self.claim_mut(claim).requested = *to,
            Step::DeleteClaim { claim, .. } => {
                self.observed.claims.retain(|other| other.name != *claim);
                self.holds.remove(claim);
            }
            Step::ScaleSet { pool, from, to } => {
                let inputs = self.intent.pool(pool).map(|pool| pool.inputs.clone()).unwrap_or_default();
                let set = self
                    .observed
                    .sets
                    .entry(pool.clone())
                    .or_insert_with(|| Set { inputs, ..Set::default() });
                assert_eq!(from.unwrap_or(0), set.replicas);
                set.replicas = *to;
            }
            Step::SwitchTemplate { pool, to } => {
                self.observed.sets.get_mut(pool).expect("a set").inputs.clone_from(to);
            }
            Step::GiveUpTemplate { pool, failed, back_to } => {
                let set = self.observed.sets.get_mut(pool).expect("a set");
                set.inputs.clone_from(back_to);
                set.failed_inputs = Some(failed.clone());
            }
            Step::RecordGoodTemplate { pool, inputs } => {
                self.observed.sets.get_mut(pool).expect("a set").good_inputs = Some(inputs.clone());
            }
            Step::DeleteSet { pool } => {
                self.observed.sets.remove(pool);
                self.observed.pods.retain(|pod| pod.seat.pool != *pool);
            }
            Step::Init { pod } => {
                let view = ClusterView {
                    cluster: self.intent.uid,
                    cluster_version: 1,
                    balanced: true,
                    ..ClusterView::default()
                };
                self.observed.data = DataPlane::Known(Box::new(view));
                let node = self.join(pod);
                self.view_mut().meta_leader = Some(node);
            }
            Step::Join { pod } => {
                self.join(pod);
            }
            Step::Drain { node, .. } => self.state(*node, NodeState::Draining),
            Step::Undrain { node, .. } => self.state(*node, NodeState::Serving),
            Step::Remove { node, .. } => {
                let removed = self.view_mut().nodes.remove(node).expect("a node");
                assert_eq!(removed.state, NodeState::Drained, "only a drained node is removed");
                self.view_mut().tombstones.insert(*node);
                if self.view().meta_leader == Some(*node) {
                    self.view_mut().meta_leader = self.view().nodes.keys().next().copied();
                }
                // A node that learns that it was removed begins anew in an empty folder.
                for pod in self.observed.pods.iter_mut().filter(|pod| pod.identity == Identity::Node(*node)) {
                    pod.identity = Identity::Nobody;
                    pod.ready = false;
                }
            }
            Step::TransferLeaders { node, .. } => {
                self.view_mut().nodes.get_mut(node).expect("a node").leaders = 0;
            }
            Step::RestartPod { pod, .. } | Step::ForceDeletePod { pod, .. } => {
                self.observed.pods.retain(|other| other.name != *pod);
                for node in
                    self.observed.data.clone().known().into_iter().flat_map(|view| view.nodes.values())
                {
                    if node.name == *pod {
                        self.node_mut(pod).alive = false;
                    }
                }
            }
            Step::StartMoves { orders, .. } => {
                self.view_mut().proposal.retain(|proposed| !orders.contains(&proposed.order));
                for order in orders {
                    if let Some(to) = order.to() {
                        self.view_mut().nodes.get_mut(&to).expect("a node").leaders += 1;
                    }
                }
            }
            Step::CancelMove { id } => self.view_mut().moves.retain(|moving| moving.id != *id),
            Step::RaiseVersion { from, to } => {
                let view = self.view_mut();
                assert_eq!(view.cluster_version, *from);
                assert!(view.nodes.values().all(|node| node.supports_version >= *to), "all support it");
                view.cluster_version = *to;
            }
            Step::ReleaseFinalizer => {}
        }
    }

    fn state(&mut self, node: NodeId, state: NodeState) {
        self.view_mut().nodes.get_mut(&node).expect("a node").state = state;
    }

    fn claim_mut(&mut self, name: &str) -> &mut Claim {
        self.observed.claims.iter_mut().find(|claim| claim.name == name).expect("such a claim")
    }

    fn join(&mut self, name: &str) -> NodeId {
        let node = id(self.next);
        self.next += 1;
        let pod = self.pod_mut(name);
        pod.identity = Identity::Node(node);
        let claim = format!("data-{name}");
        self.holds.insert(claim, node);
        // A name that a leaving node had is the newcomer's from now on.
        for other in self.view_mut().nodes.values_mut().filter(|other| other.name == name) {
            other.name = format!("{name}~{}", other.id.0.as_u128());
        }
        let holds_meta = self.view().nodes.values().filter(|node| node.holds_meta).count() < 3;
        let view = NodeView {
            id: node,
            name: name.to_owned(),
            supports_version: 1,
            state: NodeState::Serving,
            alive: true,
            silent_for: 0,
            zone: String::new(),
            host: String::new(),
            leaders: 0,
            replicas: 0,
            holds_meta,
            disk_used: 0,
            disk_total: 0,
            disk_nearly_full: false,
        };
        self.view_mut().nodes.insert(node, view);
        node
    }

    /// What happens by itself; whether anything did.
    fn settle(&mut self) -> bool {
        let before = self.observed.clone();
        self.observed.now += 5;
        let now = self.observed.now;
        let sets = self.observed.sets.clone();
        self.observed
            .pods
            .retain(|pod| sets.get(&pod.seat.pool).is_some_and(|set| pod.seat.ordinal < set.replicas));
        for (pool, set) in &sets {
            for ordinal in 0..set.replicas {
                self.start(&seat(pool, ordinal), set, now);
            }
        }
        for pod in &mut self.observed.pods {
            if self.broken.contains(&pod.inputs) {
                pod.never_ran = true;
                pod.trouble = "ImagePullBackOff".to_owned();
                // A pod that does not come up is late, sooner or later.
                pod.created = pod.created.max(1_000_000) - 700;
                continue;
            }
            if let Identity::Node(_) = pod.identity {
                pod.ready = true;
            }
        }
        if self.observed.data == DataPlane::Unknown && !self.observed.pods.is_empty() && self.holds.is_empty()
        {
            let answers = self.observed.pods.iter().any(|pod| pod.identity == Identity::Nobody);
            if answers {
                self.observed.data = DataPlane::Uninitialised;
            }
        }
        self.wake();
        let up: Vec<NodeId> = self
            .observed
            .pods
            .iter()
            .filter(|pod| pod.ready)
            .filter_map(|pod| if let Identity::Node(node) = pod.identity { Some(node) } else { None })
            .collect();
        let drains_end = self.drains_end;
        if let DataPlane::Known(view) = &mut self.observed.data {
            for node in view.nodes.values_mut().filter(|node| up.contains(&node.id)) {
                (node.alive, node.silent_for) = (true, 0);
            }
            // What a node holds goes nowhere while there are too few others.
            let room = view.serving_alive().count() as u32 >= view.most_replicas();
            for node in view.nodes.values_mut() {
                if node.state == NodeState::Draining && drains_end && room {
                    (node.state, node.replicas, node.leaders, node.holds_meta) =
                        (NodeState::Drained, 0, 0, false);
                }
            }
            let ids: Vec<NodeId> = view.nodes.keys().copied().collect();
            for node in ids {
                let voters = view.nodes.values().filter(|node| node.holds_meta).count();
                let node = view.nodes.get_mut(&node).expect("a node");
                node.holds_meta |= voters < 3 && node.state == NodeState::Serving && node.alive;
            }
        }
        let mut after = self.observed.clone();
        after.now = before.now;
        after != before
    }

    /// The data plane answers once a majority of its nodes is up.
    fn wake(&mut self) {
        let Some(mut view) = self.asleep.take() else { return };
        let up = |node: &NodeId| {
            let pods = &self.observed.pods;
            pods.iter().any(|pod| pod.ready && pod.identity == Identity::Node(*node))
        };
        if view.nodes.keys().filter(|node| up(node)).count() * 2 <= view.nodes.len() {
            self.asleep = Some(view);
            return;
        }
        for node in view.nodes.values_mut() {
            (node.alive, node.silent_for) = (up(&node.id), 1);
        }
        self.observed.data = DataPlane::Known(view);
    }

    fn start(&mut self, seat: &Seat, set: &Set, now: i64) {
        if self.observed.pod(seat).is_some() || self.observed.claim(seat).is_none() {
            return;
        }
        self.made += 1;
        let name = self.intent.pod_name(seat);
        let broken = self.broken.contains(&set.inputs);
        let held = self.holds.get(&format!("data-{name}")).copied();
        let removed = held.is_some_and(|node| {
            self.observed.data.known().is_some_and(|view| view.tombstones.contains(&node))
        });
        let identity = match held {
            _ if broken => Identity::Unknown,
            Some(node) if !removed => Identity::Node(node),
            _ => Identity::Nobody,
        };
        self.observed.pods.push(Pod {
            uid: format!("pod-{}", self.made),
            machine: Some(format!("m{}", seat.ordinal + 1)),
            inputs: set.inputs.clone(),
            created: now,
            seat: seat.clone(),
            identity,
            name,
            ..Pod::default()
        });
    }

    /// The claim of a pod is deleted, and the pod with it.
    pub fn delete_claim_and_pod(&mut self, name: &str) {
        let claim = format!("data-{name}");
        let uid =
            self.observed.claims.iter().find(|other| other.name == claim).map(|claim| claim.uid.clone());
        self.observed.claims.retain(|other| Some(&other.uid) != uid.as_ref());
        self.holds.remove(&claim);
        self.observed.pods.retain(|pod| pod.name != name);
        let node = self.node_mut(name);
        (node.alive, node.silent_for) = (false, 1);
    }
}

/// An order to move the copy of a partition.
pub fn replace(partition: u64, from: NodeId, to: NodeId) -> Move {
    Move::Replace { partition: PartitionId(partition), replica: placement::ReplicaId(partition), from, to }
}
