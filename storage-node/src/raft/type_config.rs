//! The types that openraft is instantiated with.

use std::fmt;

use bytes::Bytes;
use placement::NodeId;

use crate::partition::Answer;
use crate::seams::runtime::NodeRuntime;

openraft::declare_raft_types!(
    /// One Raft group of this node.
    pub TypeConfig:
        D = EntryData,
        R = EntryAnswers,
        // A replica id: see `placement::ReplicaId`.
        NodeId = u64,
        Node = ReplicaPlace,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = NodeRuntime,
);

/// The position of an entry: its leader's term and its index.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// A term and who was voted for in it.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// A log entry.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// What an entry holds.
pub type Payload = openraft::EntryPayload<EntryData, u64, ReplicaPlace>;
/// The replicas of a group, in one or (while they change) two configurations.
pub type Membership = openraft::Membership<u64, ReplicaPlace>;
/// A membership and the entry that set it.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;

/// Commands that were gathered into one entry, encoded once by the leader and kept so
/// through log and network until they are applied.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryData(pub Bytes);

impl fmt::Debug for EntryData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for EntryData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of commands", self.0.len())
    }
}

/// One answer for each command of an entry, in their order.
#[derive(Debug, Clone, Default)]
pub struct EntryAnswers(pub Vec<Answer>);

/// Where a replica is: the node that holds it. Its address is looked up when it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplicaPlace {
    /// The node.
    pub node: NodeId,
}

impl fmt::Display for ReplicaPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)
    }
}
