//! Every way that a move can go: all states that driver, crashes, elections, cancelling
//! and lost nodes can lead to are visited, and from each the move must still end well.

use std::collections::{BTreeSet, HashSet, VecDeque};

use placement::PartitionId;
use proto::v1::{AlterTable, CancelMove, FollowerReport, NodeState};

use super::*;
use crate::meta::testing::{apply, cluster, must, node, node_state, order, replicas, table};

const PARTITION: PartitionId = PartitionId(1);

/// The partition's group: what its leader would report, and who has caught up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    /// One configuration, or two while they change.
    configs: Vec<BTreeSet<ReplicaId>>,
    learners: BTreeSet<ReplicaId>,
    leader: ReplicaId,
    caught_up: BTreeSet<ReplicaId>,
}

/// Everything, at one moment.
#[derive(Debug, Clone)]
struct World {
    state: MetaState,
    id: MoveId,
    group: Group,
    /// What a driver that has been replaced asked for, and that may still arrive.
    in_flight: Option<LeaderStep>,
}

impl Group {
    fn voters(&self) -> BTreeSet<ReplicaId> {
        self.configs.iter().flatten().copied().collect()
    }

    fn report(&self) -> GroupReport {
        let matched = |replica: &ReplicaId| if self.caught_up.contains(replica) { 5_000 } else { 1 };
        let others = self.voters().into_iter().chain(self.learners.iter().copied());
        let follower =
            |replica: ReplicaId| FollowerReport { replica: replica.0, matched_index: matched(&replica) };
        GroupReport {
            partition: PARTITION.0,
            replica: self.leader.0,
            leads: true,
            last_index: 5_000,
            followers: others.filter(|replica| *replica != self.leader).map(follower).collect(),
            voters: self.voters().iter().map(|voter| voter.0).collect(),
            learners: self.learners.iter().map(|learner| learner.0).collect(),
            joint: self.configs.len() > 1,
            ..GroupReport::default()
        }
    }

    /// All that can come of asking the leader: nothing, half of it, or all.
    fn ask(&self, step: &LeaderStep) -> Vec<Self> {
        let mut done = self.clone();
        match step {
            LeaderStep::AddLearner { replica, .. } => {
                if !self.voters().contains(replica) {
                    done.learners.insert(*replica);
                }
                vec![done]
            }
            LeaderStep::TransferTo(heir) => {
                if self.voters().contains(heir) && self.caught_up.contains(heir) {
                    done.leader = *heir;
                }
                vec![done]
            }
            LeaderStep::SetVoters(voters) => {
                let known = self.voters().union(&self.learners).copied().collect::<BTreeSet<_>>();
                // A leader refuses to demote itself, and to promote whom it does not know.
                if !voters.contains(&self.leader) || !voters.is_subset(&known) {
                    return Vec::new();
                }
                done.configs = vec![voters.clone()];
                done.learners.clear();
                let mut half = self.clone();
                half.configs = match self.configs.last() {
                    Some(last) if last != voters && !self.configs.contains(voters) => {
                        vec![last.clone(), voters.clone()]
                    }
                    _ => return vec![done],
                };
                half.learners.retain(|learner| !voters.contains(learner));
                vec![done, half]
            }
        }
    }

    /// How many caught-up voters the configuration has that it is on the way to.
    fn healthy(&self) -> usize {
        self.configs.last().map_or(0, |config| config.intersection(&self.caught_up).count())
    }
}

impl World {
    /// A partition with voters on nodes 1…n (replicas 2…n+1, as replica 1 is the meta
    /// group's), led by `leader`, with a move ordered.
    fn new(voters: u8, leader: u64, lagging: &[u64], mv: Move) -> Self {
        let mut state = cluster(6);
        let nodes: Vec<u8> = (1..=voters).collect();
        must(&mut state, table("t", &[&nodes]));
        if matches!(mv, Move::Remove { .. }) {
            let fewer = AlterTable { name: "t".to_owned(), replicas: Some(1), ..AlterTable::default() };
            must(&mut state, Command::AlterTable(fewer));
        }
        let id = order(&mut state, mv);
        let all: BTreeSet<ReplicaId> = state.voters_of(PARTITION);
        let caught_up = all.iter().copied().filter(|replica| !lagging.contains(&replica.0)).collect();
        let group =
            Group { configs: vec![all], learners: BTreeSet::new(), leader: ReplicaId(leader), caught_up };
        Self { state, id, group, in_flight: None }
    }

    fn record(&self) -> &MoveRecord {
        self.state.order(self.id).unwrap()
    }

    fn step(&self) -> Step {
        self.observe(|observed| next_step(&self.state, self.record(), observed, &MovePolicy::default()))
    }

    fn observe<T>(&self, decide: impl FnOnce(&Observed<'_>) -> T) -> T {
        let alive = (1..=6).map(node).collect();
        let report = self.group.report();
        let observed = Observed { group: Some(&report), alive: &alive, gone: &BTreeSet::new(), asked: 0 };
        decide(&observed)
    }

    fn asked(&self) -> Option<LeaderStep> {
        match self.step() {
            Step::AskLeader(step) => Some(step),
            Step::TransferLeadershipFirst(heir) => Some(LeaderStep::TransferTo(heir)),
            _ => None,
        }
    }

    /// What the driver's next step can lead to.
    fn driven(&self) -> Vec<Self> {
        if let Some(command) = self.step().to_command(self.record()) {
            let mut next = self.clone();
            must(&mut next.state, command.command.unwrap());
            return vec![next];
        }
        let Some(step) = self.asked() else { return Vec::new() };
        let voted = &self.record().voters_before;
        let before = voted.intersection(&self.group.caught_up).count();
        let outcomes = self.group.ask(&step);
        let with = |group: Group| {
            let removes = matches!(self.record().order, Move::Remove { .. });
            // A late request of another driver may have weakened it already; no step does.
            let changes = matches!(step, LeaderStep::SetVoters(_));
            assert!(removes || !changes || group.healthy() >= before, "{step:?} weakens {}", self.key());
            Self { group, ..self.clone() }
        };
        let mut next: Vec<Self> = outcomes.into_iter().map(with).collect();
        if self.in_flight.is_none() {
            next.push(Self { in_flight: Some(step), ..self.clone() });
        }
        next
    }

    /// What can happen without the driver.
    fn happens(&self, cancel: bool, drain: Option<u8>) -> Vec<Self> {
        let mut next = Vec::new();
        for leader in self.group.voters().intersection(&self.group.caught_up) {
            next.push(Self { group: Group { leader: *leader, ..self.group.clone() }, ..self.clone() });
        }
        if let Some(new) = self.record().new_replica {
            let mut caught = self.clone();
            if self.group.learners.contains(&new) {
                caught.group.caught_up.insert(new);
                next.push(caught);
            }
            if self.group.leader != new {
                let mut behind = self.clone();
                behind.group.caught_up.remove(&new);
                next.push(behind);
            }
        }
        if let Some(step) = &self.in_flight {
            let late = |group| Self { group, in_flight: None, ..self.clone() };
            next.extend(self.group.ask(step).into_iter().map(late));
        }
        if cancel {
            let mut cancelled = self.clone();
            apply(&mut cancelled.state, Command::CancelMove(CancelMove { id: self.id.0 }));
            next.push(cancelled);
        }
        if let Some(number) = drain {
            let mut drained = self.clone();
            must(&mut drained.state, node_state(number, NodeState::Draining));
            next.push(drained);
        }
        next
    }

    fn key(&self) -> String {
        let partition = &self.state.map().partitions[&PARTITION];
        let nodes: Vec<_> = self.state.map().nodes.values().map(|node| node.state).collect();
        format!("{:?} {:?} {:?} {:?} {nodes:?}", self.record(), partition, self.group, self.in_flight)
    }

    /// Drives the move to its end with nothing more going wrong, then tidies up after what
    /// was still in flight.
    fn finish(&self) -> Self {
        let mut world = self.clone();
        for _ in 0..40 {
            if world.record().ended.is_some() {
                break;
            }
            world.group.caught_up.extend(world.group.learners.iter().copied());
            if let Some(new) = world.record().new_replica.filter(|new| world.group.voters().contains(new)) {
                world.group.caught_up.insert(new);
            }
            if let Some(next) = world.driven().into_iter().next() {
                world = next;
            }
        }
        assert!(
            world.record().ended.is_some(),
            "stuck at {}: {} from {}",
            world.step(),
            world.key(),
            self.key()
        );
        let voters = world.state.voters_of(PARTITION);
        assert_eq!(world.group.configs, [voters], "{} from {}", world.key(), self.key());
        assert!(world.group.learners.is_empty(), "{} from {}", world.key(), self.key());
        if let Some(late) = world.in_flight.take()
            && let Some(group) = world.group.ask(&late).pop()
        {
            world.group = group;
        }
        for _ in 0..10 {
            let partition = &world.state.map().partitions[&PARTITION];
            let step =
                world.observe(|observed| tidy(&world.state, partition, observed, &MovePolicy::default()));
            let Some(step) = step else { break };
            world.group = world.group.ask(&step).into_iter().next().unwrap();
        }
        world
    }
}

/// Visits all that can happen, and says how many states there are and how the move ends.
fn explore(start: World, cancel: bool, drain: Option<u8>, wanted: &[u8]) -> (usize, BTreeSet<MoveStage>) {
    let before = start.state.voters_of(PARTITION);
    let wanted: BTreeSet<NodeId> = wanted.iter().map(|number| node(*number)).collect();
    let mut seen = HashSet::from([start.key()]);
    let mut queue = VecDeque::from([start]);
    let mut ends = BTreeSet::new();
    while let Some(world) = queue.pop_front() {
        let end = world.finish();
        let record = end.record();
        ends.insert(record.stage);
        let partition = &end.state.map().partitions[&PARTITION];
        let voters = end.state.voters_of(PARTITION);
        assert_eq!(partition.replicas.len(), voters.len(), "no learner is left in the map");
        assert_eq!(end.group.configs, std::slice::from_ref(&voters), "from {} to {}", world.key(), end.key());
        assert!(end.group.learners.is_empty() && voters.contains(&end.group.leader));
        if record.stage == MoveStage::Done {
            assert_eq!(partition.voters().map(|voter| voter.node).collect::<BTreeSet<_>>(), wanted);
        } else {
            assert_eq!(voters, before);
        }
        if world.record().ended.is_some() {
            continue;
        }
        for next in world.driven().into_iter().chain(world.happens(cancel, drain)) {
            if seen.insert(next.key()) {
                queue.push_back(next);
            }
        }
    }
    (seen.len(), ends)
}

fn replace(from: u8, replica: u64, to: u8) -> Move {
    Move::Replace { partition: PARTITION, replica: ReplicaId(replica), from: node(from), to: node(to) }
}

#[test]
fn a_replacement_ends_with_the_wanted_replicas_wherever_it_is_interrupted() {
    for leader in [2, 3] {
        let (states, ends) = explore(World::new(3, leader, &[], replace(1, 2, 4)), false, None, &[2, 3, 4]);
        assert_eq!(ends, [MoveStage::Done].into());
        assert!(states > 100, "{states}");
    }
    // A voter that stays lags behind: it is not made leader and counts for nothing.
    let (_, ends) = explore(World::new(3, 2, &[4], replace(1, 2, 4)), false, None, &[2, 3, 4]);
    assert_eq!(ends, [MoveStage::Done].into());
    // The voter that is replaced lags, or the table has one replica, or five.
    explore(World::new(3, 3, &[2], replace(1, 2, 4)), false, None, &[2, 3, 4]);
    explore(World::new(1, 2, &[], replace(1, 2, 4)), false, None, &[4]);
    explore(World::new(5, 2, &[], replace(1, 2, 6)), false, None, &[2, 3, 4, 5, 6]);
}

#[test]
fn a_move_that_is_cancelled_or_loses_its_target_goes_back_cleanly_or_was_done() {
    let (_, ends) = explore(World::new(3, 2, &[], replace(1, 2, 4)), true, None, &[2, 3, 4]);
    assert_eq!(ends, [MoveStage::Done, MoveStage::Cancelled].into());
    let (_, ends) = explore(World::new(3, 2, &[], replace(1, 2, 4)), false, Some(4), &[2, 3, 4]);
    assert_eq!(ends, [MoveStage::Done, MoveStage::Failed].into());
    let (_, ends) = explore(World::new(1, 2, &[], replace(1, 2, 4)), false, Some(4), &[4]);
    assert_eq!(ends, [MoveStage::Done, MoveStage::Failed].into());
}

#[test]
fn replicas_are_added_and_removed_wherever_it_is_interrupted() {
    let add = Move::Add { partition: PARTITION, to: node(4) };
    let (_, ends) = explore(World::new(3, 3, &[], add), true, Some(4), &[1, 2, 3, 4]);
    assert_eq!(ends, [MoveStage::Done, MoveStage::Failed, MoveStage::Cancelled].into());
    explore(World::new(1, 2, &[], Move::Add { partition: PARTITION, to: node(4) }), false, None, &[1, 4]);
    let remove = Move::Remove { partition: PARTITION, replica: ReplicaId(2), from: node(1) };
    let (_, ends) = explore(World::new(3, 2, &[], remove), true, None, &[2, 3]);
    assert_eq!(ends, [MoveStage::Done, MoveStage::Cancelled].into());
}

#[test]
fn the_steps_of_a_replacement_read_like_the_protocol() {
    let mut world = World::new(3, 2, &[], replace(1, 2, 4));
    let mut told = Vec::new();
    while world.record().ended.is_none() {
        told.push(world.step().to_string());
        if matches!(world.step(), Step::WaitCatchUp { .. }) {
            world.group.caught_up.extend(world.group.learners.iter().copied());
        } else {
            world = world.driven().remove(0);
        }
    }
    assert_eq!(
        told,
        [
            "give the partition a new replica",
            "add learner 5",
            "the new replica is 4999 entries behind",
            "begin to switch",
            "first hand leadership to replica 3",
            "make 3, 4, 5 the voters",
            "record the new voters",
            "done",
        ]
    );
}

#[test]
fn a_transfer_ends_when_the_leader_is_there_or_elsewhere_and_gives_up_in_the_end() {
    let mv = Move::TransferLeader { partition: PARTITION, from: node(1), to: node(2) };
    let mut world = World::new(3, 2, &[], mv);
    assert_eq!(world.step(), Step::BeginSwitch);
    world = world.driven().remove(0);
    assert_eq!(world.step(), Step::AskLeader(LeaderStep::TransferTo(ReplicaId(3))));
    let ask = |world: &World, asked: u32, gone: &BTreeSet<NodeId>, known: bool| {
        let (alive, report) = ((1..=6).map(node).collect(), world.group.report());
        let observed = Observed { group: known.then_some(&report), alive: &alive, gone, asked };
        next_step(&world.state, world.record(), &observed, &MovePolicy::default())
    };
    let nobody = BTreeSet::new();
    assert!(matches!(ask(&world, 20, &nobody, true), Step::Fail(_)));
    assert!(matches!(ask(&world, 0, &[node(2)].into(), true), Step::Fail(_)));
    assert!(matches!(ask(&world, 0, &nobody, false), Step::Wait(_)));
    world.group.leader = ReplicaId(4);
    assert_eq!(world.step(), Step::Done("node-1 no longer led it".to_owned()));
    world.group.leader = ReplicaId(3);
    world = world.driven().remove(0);
    assert_eq!(world.record().stage, MoveStage::Done);
}

#[test]
fn nothing_is_done_without_a_leader_and_a_target_that_is_gone_for_long_is_given_up() {
    let mut world = World::new(3, 2, &[], replace(1, 2, 4));
    world = world.driven().remove(0);
    let (alive, report) = ((1..=6).map(node).collect(), world.group.report());
    let mut observed = Observed { group: None, alive: &alive, gone: &BTreeSet::new(), asked: 0 };
    let policy = MovePolicy::default();
    assert!(matches!(next_step(&world.state, world.record(), &observed, &policy), Step::Wait(_)));
    let gone = [node(4)].into();
    observed = Observed { group: Some(&report), gone: &gone, ..observed };
    assert!(matches!(next_step(&world.state, world.record(), &observed, &policy), Step::Fail(_)));
}

#[test]
fn a_node_takes_part_in_a_bounded_number_of_moves() {
    let mut state = cluster(5);
    must(&mut state, table("t", &[&[1], &[1], &[1], &[2], &[1]]));
    let mv = |partition: u64, from: u8, to: u8| Move::Replace {
        partition: PartitionId(partition),
        replica: ReplicaId(partition + 1),
        from: node(from),
        to: node(to),
    };
    let first = order(&mut state, mv(1, 1, 3));
    let second = order(&mut state, mv(2, 1, 4));
    let waits = order(&mut state, mv(3, 1, 5));
    let other = order(&mut state, mv(4, 2, 3));
    let transfer =
        order(&mut state, Move::TransferLeader { partition: PartitionId(5), from: node(1), to: node(1) });
    let policy = MovePolicy::default();
    assert_eq!(runnable(&state, &policy), [first, second, other, transfer]);
    // One that has begun keeps its place, whatever its age.
    let begin = Step::AllocateReplica.to_command(state.order(waits).unwrap()).unwrap();
    must(&mut state, begin.command.unwrap());
    assert_eq!(runnable(&state, &policy), [first, waits, other, transfer]);
}

#[test]
fn what_a_replaced_driver_left_behind_is_tidied_up_only_without_a_move() {
    let mut state = cluster(4);
    must(&mut state, table("t", &[&[1, 2, 3]]));
    let partition = state.map().partitions[&PARTITION].clone();
    let alive = (1..=4).map(node).collect();
    let policy = MovePolicy::default();
    let left = |state: &MetaState, report: &GroupReport| {
        let observed = Observed { group: Some(report), alive: &alive, gone: &BTreeSet::new(), asked: 0 };
        tidy(state, &partition, &observed, &policy)
    };
    let clean = crate::meta::testing::group(1, 2, &[2, 3, 4], &[]);
    let learner = crate::meta::testing::group(1, 2, &[2, 3, 4], &[9]);
    assert_eq!(left(&state, &clean), None);
    assert_eq!(left(&state, &learner), Some(LeaderStep::SetVoters(replicas(&[2, 3, 4]))));
    order(&mut state, replace(1, 2, 4));
    assert_eq!(left(&state, &learner), None);
}
