//! The nodes as the planner sees them: numbered densely, with what they fail with.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Index, IndexMut};

use crate::id::NodeId;
use crate::map::{NodeState, PartitionMap};

/// A node's number within one plan. Only [`Nodes`] gives them out, below its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeIndex(usize);

/// One value for each node.
#[derive(Debug, Clone)]
pub(super) struct PerNode<T>(Vec<T>);

/// A set of nodes, a bit for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeSet(Vec<u64>);

/// All nodes that the map knows, or that a replica of it names, in the order of their ids.
#[derive(Debug)]
pub(super) struct Nodes {
    ids: Vec<NodeId>,
    zones: Domains,
    hosts: Domains,
    /// Serve and can be reached: they may be given something.
    pub taking: NodeSet,
    /// Do not serve (any more): what they hold is to go elsewhere.
    pub leaving: NodeSet,
    /// Cannot be reached now, whatever their state.
    pub unreachable: NodeSet,
}

/// Which nodes fail together.
#[derive(Debug)]
struct Domains(PerNode<NodeSet>);

/// How many pairs of copies share a host, and how many share a zone. The smaller the
/// better, hosts before zones; even counts over zones are the least when some must share.
pub(super) type Crowding = (usize, usize);

impl Nodes {
    pub(super) fn of(map: &PartitionMap, unreachable: &BTreeSet<NodeId>) -> Self {
        let held =
            map.partitions.values().flat_map(|partition| &partition.replicas).map(|replica| replica.node);
        let ids: Vec<NodeId> =
            map.nodes.keys().copied().chain(held).collect::<BTreeSet<_>>().into_iter().collect();
        let known = |id: &NodeId| map.nodes.get(id);
        let chosen = |wanted: &dyn Fn(&NodeId) -> bool| {
            let mut set = NodeSet::default();
            ids.iter().enumerate().filter(|(_, id)| wanted(id)).for_each(|(at, _)| set.insert(NodeIndex(at)));
            set
        };
        let serving = |id: &NodeId| known(id).is_some_and(|node| node.state == NodeState::Serving);
        Self {
            zones: Domains::of(ids.iter().map(|id| known(id).map_or("", |node| &node.zone))),
            hosts: Domains::of(ids.iter().map(|id| match known(id) {
                Some(node) if !node.host.is_empty() => (node.host.as_str(), None),
                _ => ("", Some(*id)),
            })),
            taking: chosen(&|id| serving(id) && !unreachable.contains(id)),
            leaving: chosen(&|id| !serving(id)),
            unreachable: chosen(&|id| unreachable.contains(id)),
            ids,
        }
    }

    pub(super) fn index(&self, id: NodeId) -> Option<NodeIndex> {
        self.ids.binary_search(&id).ok().map(NodeIndex)
    }

    pub(super) fn id(&self, node: NodeIndex) -> NodeId {
        self.ids[node.0]
    }

    pub(super) fn table<T: Clone>(&self, value: T) -> PerNode<T> {
        PerNode(vec![value; self.ids.len()])
    }

    /// How crowded it would be for a copy on `node` beside copies on `rest`.
    pub(super) fn crowding(&self, node: NodeIndex, rest: &[NodeIndex]) -> Crowding {
        let shared =
            |domains: &Domains| rest.iter().filter(|other| domains.mates(node).contains(**other)).count();
        (shared(&self.hosts), shared(&self.zones))
    }

    /// The nodes on which one more copy would be least crowded beside copies on `rest`.
    pub(super) fn roomiest(&self, rest: &[NodeIndex]) -> NodeSet {
        let mut free = self.taking.clone();
        rest.iter().for_each(|node| free.remove(*node));
        self.zones.roomiest(self.hosts.roomiest(free, rest), rest)
    }
}

impl Domains {
    fn of<K: Ord>(keys: impl Iterator<Item = K>) -> Self {
        let keys: Vec<K> = keys.collect();
        let mut members: BTreeMap<&K, NodeSet> = BTreeMap::new();
        for (at, key) in keys.iter().enumerate() {
            members.entry(key).or_default().insert(NodeIndex(at));
        }
        Self(PerNode(keys.iter().map(|key| members.get(key).cloned().unwrap_or_default()).collect()))
    }

    /// The nodes that fail with this one, itself among them.
    fn mates(&self, node: NodeIndex) -> &NodeSet {
        &self.0[node]
    }

    /// Those of `free` whose domain holds the fewest of `rest`.
    fn roomiest(&self, free: NodeSet, rest: &[NodeIndex]) -> NodeSet {
        let mut untouched = free.clone();
        rest.iter().for_each(|node| untouched.subtract(self.mates(*node)));
        if !untouched.is_empty() {
            return untouched;
        }
        for held in 1..=rest.len() {
            let mut found = NodeSet::default();
            for &node in rest {
                let mates = self.mates(node);
                if rest.iter().filter(|other| mates.contains(**other)).count() == held {
                    found.unite(mates);
                }
            }
            found.intersect(&free);
            if !found.is_empty() {
                return found;
            }
        }
        free
    }
}

impl NodeSet {
    pub(super) fn insert(&mut self, node: NodeIndex) {
        let word = node.0 / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (node.0 % 64);
    }

    pub(super) fn remove(&mut self, node: NodeIndex) {
        if let Some(word) = self.0.get_mut(node.0 / 64) {
            *word &= !(1 << (node.0 % 64));
        }
    }

    pub(super) fn contains(&self, node: NodeIndex) -> bool {
        self.0.get(node.0 / 64).is_some_and(|word| word & (1 << (node.0 % 64)) != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Whether nothing of `other` is missing here.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let mine = self.0.iter().chain(std::iter::repeat(&0));
        other.0.iter().zip(mine).all(|(theirs, mine)| theirs & !mine == 0)
    }

    pub(super) fn unite(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    pub(super) fn intersect(&mut self, other: &Self) {
        self.0.truncate(other.0.len());
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine &= theirs);
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine &= !theirs);
    }

    /// The nodes of the set, in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = NodeIndex> {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let rest = std::iter::successors(Some(word), |bits| Some(bits & bits.wrapping_sub(1)));
            rest.take_while(|bits| *bits != 0)
                .map(move |bits| NodeIndex(at * 64 + bits.trailing_zeros() as usize))
        })
    }
}

impl FromIterator<NodeIndex> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeIndex>>(nodes: I) -> Self {
        let mut set = Self::default();
        nodes.into_iter().for_each(|node| set.insert(node));
        set
    }
}

/// Cannot fail: a [`NodeIndex`] is below the length of its [`Nodes`], which sized the table,
/// and neither outlives the plan that both were made for.
impl<T> Index<NodeIndex> for PerNode<T> {
    type Output = T;

    fn index(&self, node: NodeIndex) -> &T {
        &self.0[node.0]
    }
}

impl<T> IndexMut<NodeIndex> for PerNode<T> {
    fn index_mut(&mut self, node: NodeIndex) -> &mut T {
        &mut self.0[node.0]
    }
}
