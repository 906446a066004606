//! Moves as they travel.

use placement::{Move, PartitionId, ReplicaId};

use super::{BadMessage, node_bytes, node_id};
use crate::v1;

impl From<&Move> for v1::Move {
    fn from(order: &Move) -> Self {
        use v1::r#move::Kind;
        let (partition, kind) = match *order {
            Move::Replace { partition, replica, from, to } => (
                partition,
                Kind::Replace(v1::ReplaceReplica {
                    replica: replica.0,
                    from: node_bytes(from),
                    to: node_bytes(to),
                }),
            ),
            Move::Add { partition, to } => (partition, Kind::Add(v1::AddReplica { to: node_bytes(to) })),
            Move::Remove { partition, replica, from } => {
                (partition, Kind::Remove(v1::RemoveReplica { replica: replica.0, from: node_bytes(from) }))
            }
            Move::TransferLeader { partition, from, to } => {
                (partition, Kind::Transfer(v1::TransferLeader { from: node_bytes(from), to: node_bytes(to) }))
            }
        };
        Self { partition: partition.0, kind: Some(kind) }
    }
}

impl TryFrom<&v1::Move> for Move {
    type Error = BadMessage;

    fn try_from(order: &v1::Move) -> Result<Self, BadMessage> {
        use v1::r#move::Kind;
        let partition = PartitionId(order.partition);
        let kind = order.kind.as_ref();
        match kind.ok_or_else(|| BadMessage::new("a move of a kind that is not known"))? {
            Kind::Replace(replace) => Ok(Self::Replace {
                partition,
                replica: ReplicaId(replace.replica),
                from: node_id(&replace.from)?,
                to: node_id(&replace.to)?,
            }),
            Kind::Add(add) => Ok(Self::Add { partition, to: node_id(&add.to)? }),
            Kind::Remove(remove) => Ok(Self::Remove {
                partition,
                replica: ReplicaId(remove.replica),
                from: node_id(&remove.from)?,
            }),
            Kind::Transfer(transfer) => Ok(Self::TransferLeader {
                partition,
                from: node_id(&transfer.from)?,
                to: node_id(&transfer.to)?,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> placement::NodeId {
        placement::NodeId::from_bytes(&[number; 16]).unwrap()
    }

    #[test]
    fn moves_survive_their_messages() {
        let partition = PartitionId(7);
        for before in [
            Move::Replace { partition, replica: ReplicaId(3), from: node(1), to: node(2) },
            Move::Add { partition, to: node(2) },
            Move::Remove { partition, replica: ReplicaId(3), from: node(1) },
            Move::TransferLeader { partition, from: node(1), to: node(2) },
        ] {
            assert_eq!(Move::try_from(&v1::Move::from(&before)), Ok(before));
        }
        assert!(Move::try_from(&v1::Move::default()).is_err());
    }
}
