//! Why a command was not carried out. Nothing was changed then.

use placement::{ClusterId, NodeId, PartitionId, TableName};
use proto::convert::BadMessage;
use proto::v1::error_detail::Detail;
use proto::v1::{AlreadyExists, Failure, MetaRefusal, OverLimit, RefusalKind, UnknownTable, WrongCluster};
use tonic::Code;

/// Why a command was not carried out; each says what is wrong and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The command does not say what it must.
    #[error("{0}")]
    Invalid(String),
    /// There is no cluster yet.
    #[error("there is no cluster here yet: create it with `trilith cluster init`")]
    NotInitialised,
    /// There is a cluster, and it is not the one that was named.
    #[error("this is cluster {actual}, not {expected}: a cluster is created only once")]
    OtherCluster {
        /// Which the command named.
        expected: ClusterId,
        /// Which this is.
        actual: ClusterId,
    },
    /// No such node.
    #[error("there is no node {0} in this cluster: `trilith cluster nodes` lists them")]
    UnknownNode(NodeId),
    /// That identity is gone for good.
    #[error("node {0} was removed from this cluster and never comes back: let it join with a new identity")]
    NodeRemoved(NodeId),
    /// Two nodes cannot have one name.
    #[error(
        "the name {name} belongs to node {holder}: give this node another name, or remove that one first"
    )]
    NodeNameTaken {
        /// The name.
        name: String,
        /// Who has it.
        holder: NodeId,
    },
    /// It holds something that would be lost.
    #[error("{name} still holds {what}: drain it first and wait until it is empty")]
    NodeNotEmpty {
        /// The node's name.
        name: String,
        /// What it holds, for a person.
        what: String,
    },
    /// A node's life does not go that way.
    #[error("{0}")]
    NodeState(String),
    /// There is a table of that name, of another shape or without an owner to compare.
    #[error("there is a table {name} already{difference}: choose another name, or drop it first")]
    TableExists {
        /// The name.
        name: TableName,
        /// How it differs from what was asked for, beginning with a comma; or nothing.
        difference: String,
    },
    /// The table belongs to somebody else.
    #[error("the table {name} belongs to {owner}: choose another name")]
    NameTaken {
        /// The name.
        name: TableName,
        /// Who declared it.
        owner: String,
    },
    /// No such table.
    #[error("there is no table {0}: `trilith table list` lists them")]
    UnknownTable(TableName),
    /// Replicas of a partition never share a node.
    #[error(
        "{wanted} replicas need as many serving nodes, and there are {serving}: add nodes, or ask for fewer replicas"
    )]
    TooFewNodes {
        /// How many replicas were asked for.
        wanted: u32,
        /// How many nodes serve.
        serving: u32,
    },
    /// Everything is bounded.
    #[error("{actual} {what} are more than the {limit} that a cluster may have")]
    OverBound {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: u64,
        /// How many there would have been.
        actual: u64,
    },
    /// No such partition.
    #[error("there is no partition {0}: look at the map again")]
    UnknownPartition(PartitionId),
    /// It was decided on a map that is no longer the map.
    #[error("{0}: look at the map again and plan anew")]
    MapChanged(String),
    /// The map does not allow that move.
    #[error("{0}")]
    MoveRefused(String),
    /// The partition cannot be cut so now.
    #[error("{0}")]
    SplitRefused(String),
    /// No such move, or it ended so long ago that it is forgotten.
    #[error("there is no move {0}: `trilith rebalance` shows those that there are")]
    UnknownMove(u64),
    /// The move is not where the command takes it from.
    #[error("{0}")]
    MoveStage(String),
    /// The meta group's own replicas are not what the command was decided on.
    #[error("{0}")]
    MetaChanged(String),
    /// That cluster version cannot become active.
    #[error("{0}")]
    VersionRefused(String),
}

impl Refusal {
    /// Its kind, for programs.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Invalid(_) => RefusalKind::Invalid,
            Self::NotInitialised => RefusalKind::NotInitialised,
            Self::OtherCluster { .. } => RefusalKind::OtherCluster,
            Self::UnknownNode(_) => RefusalKind::UnknownNode,
            Self::NodeRemoved(_) => RefusalKind::NodeRemoved,
            Self::NodeNameTaken { .. } => RefusalKind::NodeNameTaken,
            Self::NodeNotEmpty { .. } => RefusalKind::NodeNotEmpty,
            Self::NodeState(_) => RefusalKind::NodeState,
            Self::TableExists { .. } => RefusalKind::TableExists,
            Self::NameTaken { .. } => RefusalKind::NameTaken,
            Self::UnknownTable(_) => RefusalKind::UnknownTable,
            Self::TooFewNodes { .. } => RefusalKind::TooFewNodes,
            Self::OverBound { .. } => RefusalKind::OverBound,
            Self::UnknownPartition(_) => RefusalKind::UnknownPartition,
            Self::MapChanged(_) => RefusalKind::MapChanged,
            Self::MoveRefused(_) => RefusalKind::MoveRefused,
            Self::SplitRefused(_) => RefusalKind::SplitRefused,
            Self::UnknownMove(_) => RefusalKind::UnknownMove,
            Self::MoveStage(_) => RefusalKind::MoveStage,
            Self::MetaChanged(_) => RefusalKind::MetaChanged,
            Self::VersionRefused(_) => RefusalKind::VersionRefused,
        }
    }

    /// The gRPC code that fits it.
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::UnknownNode(_)
            | Self::UnknownTable(_)
            | Self::UnknownPartition(_)
            | Self::UnknownMove(_) => Code::NotFound,
            Self::NodeNameTaken { .. } | Self::TableExists { .. } | Self::NameTaken { .. } => {
                Code::AlreadyExists
            }
            Self::OverBound { .. } => Code::ResourceExhausted,
            Self::MapChanged(_) | Self::MetaChanged(_) => Code::Aborted,
            Self::NotInitialised
            | Self::OtherCluster { .. }
            | Self::NodeRemoved(_)
            | Self::NodeNotEmpty { .. }
            | Self::NodeState(_)
            | Self::TooFewNodes { .. }
            | Self::MoveRefused(_)
            | Self::SplitRefused(_)
            | Self::MoveStage(_)
            | Self::VersionRefused(_) => Code::FailedPrecondition,
        }
    }

    /// The typed reason that an answer carries.
    fn detail(&self) -> Option<Detail> {
        match self {
            Self::OtherCluster { expected, actual } => Some(Detail::WrongCluster(WrongCluster {
                expected: actual.to_bytes().to_vec().into(),
                actual: expected.to_bytes().to_vec().into(),
            })),
            Self::NodeNameTaken { name, .. } => {
                Some(Detail::AlreadyExists(AlreadyExists { what: format!("node {name}") }))
            }
            Self::TableExists { name, .. } | Self::NameTaken { name, .. } => {
                Some(Detail::AlreadyExists(AlreadyExists { what: format!("table {name}") }))
            }
            Self::UnknownTable(name) => Some(Detail::UnknownTable(UnknownTable { table: name.to_string() })),
            Self::OverBound { what, limit, actual } => Some(Detail::OverLimit(OverLimit {
                what: (*what).to_owned(),
                limit: *limit,
                actual: *actual,
            })),
            _ => None,
        }
    }

    /// The same as an outcome on the wire.
    pub fn to_failure(&self) -> Failure {
        Failure::new(self.code(), self.to_string(), self.detail())
    }

    /// The same as part of an answer.
    pub fn to_message(&self) -> MetaRefusal {
        MetaRefusal { kind: self.kind().into(), failure: Some(self.to_failure()) }
    }
}

impl From<BadMessage> for Refusal {
    fn from(bad: BadMessage) -> Self {
        Self::Invalid(bad.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_kind_its_code_and_its_reason() {
        let name = TableName::parse("orders").unwrap();
        let message = Refusal::UnknownTable(name.clone()).to_message();
        assert_eq!(message.kind(), RefusalKind::UnknownTable);
        let failure = message.failure.unwrap();
        assert_eq!(failure.code, Code::NotFound as i32);
        assert!(matches!(failure.reason(), Some(Detail::UnknownTable(unknown)) if unknown.table == "orders"));

        let taken = Refusal::NameTaken { name, owner: "uid-1".to_owned() };
        assert_eq!(taken.to_message().kind(), RefusalKind::NameTaken);
        assert_eq!(taken.to_string(), "the table orders belongs to uid-1: choose another name");
    }
}
