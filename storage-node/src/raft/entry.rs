//! A log entry as bytes: in the log, and between peers.
//!
//! ```text
//! format u8 (1) │ kind u8 │ term u64 │ index u64 │ payload
//! ```
//!
//! Integers are big-endian. Kind 0 is blank, 1 carries commands, 2 a membership.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::entry::RaftEntry;
use openraft::{EntryPayload, RaftTypeConfig};
use placement::NodeId;

use super::type_config::{Entry, EntryData, LogId, Membership, ReplicaPlace, TypeConfig};

const FORMAT: u8 = 1;
const HEAD: usize = 1 + 1 + 8 + 8;
const BLANK: u8 = 0;
const COMMANDS: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Why bytes are not a log entry.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadEntry {
    /// Written by a newer program.
    #[error("log entry of format {0}; this program knows format {FORMAT}: run a newer one")]
    Format(u8),
    /// Cut short or damaged.
    #[error("damaged log entry: {0}")]
    Damaged(&'static str),
}

/// The entry as bytes.
pub fn encode_entry(entry: &Entry) -> Bytes {
    let data = match &entry.payload {
        EntryPayload::Blank => Bytes::new(),
        EntryPayload::Normal(data) => data.0.clone(),
        EntryPayload::Membership(membership) => encode_membership(membership),
    };
    let kind = match &entry.payload {
        EntryPayload::Blank => BLANK,
        EntryPayload::Normal(_) => COMMANDS,
        EntryPayload::Membership(_) => MEMBERSHIP,
    };
    let mut out = BytesMut::with_capacity(HEAD + data.len());
    out.put_u8(FORMAT);
    out.put_u8(kind);
    out.put_u64(**entry.log_id.committed_leader_id());
    out.put_u64(entry.log_id.index());
    out.extend_from_slice(&data);
    out.freeze()
}

/// The entry that bytes hold. Its commands share them.
pub fn decode_entry(mut bytes: Bytes) -> Result<Entry, BadEntry> {
    if bytes.len() < HEAD {
        return Err(BadEntry::Damaged("shorter than its head"));
    }
    let format = bytes.get_u8();
    if format != FORMAT {
        return Err(BadEntry::Format(format));
    }
    let kind = bytes.get_u8();
    let term = bytes.get_u64();
    let index = bytes.get_u64();
    let payload = match kind {
        BLANK => EntryPayload::Blank,
        COMMANDS => EntryPayload::Normal(EntryData(bytes)),
        MEMBERSHIP => EntryPayload::Membership(decode_membership(bytes)?),
        _ => return Err(BadEntry::Damaged("unknown kind")),
    };
    Ok(Entry::new(LogId::new_term_index(term, index), payload))
}

/// A membership as bytes: its configurations, then the nodes of all its replicas.
pub fn encode_membership(membership: &Membership) -> Bytes {
    let mut out = BytesMut::new();
    let configs = membership.get_joint_config();
    out.put_u8(configs.len() as u8);
    for config in configs {
        out.put_u16(config.len() as u16);
        config.iter().for_each(|replica| out.put_u64(*replica));
    }
    let places: Vec<_> = membership.nodes().collect();
    out.put_u16(places.len() as u16);
    for (replica, place) in places {
        out.put_u64(*replica);
        out.put_slice(&place.node.to_bytes());
    }
    out.freeze()
}

/// The membership that bytes hold.
pub fn decode_membership(mut bytes: Bytes) -> Result<Membership, BadEntry> {
    let cut = |_| BadEntry::Damaged("membership cut short");
    let mut configs = Vec::new();
    for _ in 0..bytes.try_get_u8().map_err(cut)? {
        let count = bytes.try_get_u16().map_err(cut)?;
        let config = (0..count).map(|_| bytes.try_get_u64().map_err(cut)).collect::<Result<_, _>>()?;
        configs.push(config);
    }
    let mut places = Vec::new();
    for _ in 0..bytes.try_get_u16().map_err(cut)? {
        let replica = bytes.try_get_u64().map_err(cut)?;
        let mut id = [0; 16];
        bytes.try_copy_to_slice(&mut id).map_err(cut)?;
        let node = NodeId::from_bytes(&id).ok_or(BadEntry::Damaged("node id"))?;
        places.push((replica, ReplicaPlace { node }));
    }
    let places: std::collections::BTreeMap<_, _> = places.into_iter().collect();
    if configs.is_empty() && places.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, places).map_err(|_| BadEntry::Damaged("membership names no node"))
}

/// The payload type that [`TypeConfig`] fixes, so that a change there is noticed here.
const _: fn() = || {
    fn same<T: RaftTypeConfig<Payload = super::type_config::Payload>>() {}
    same::<TypeConfig>();
};

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn entry(payload: super::super::type_config::Payload) -> Entry {
        Entry::new(LogId::new_term_index(7, 42), payload)
    }

    #[test]
    fn entries_survive_their_bytes() {
        let place = |n: u128| ReplicaPlace { node: NodeId(uuid::Uuid::from_u128(n)) };
        let places: BTreeMap<u64, ReplicaPlace> = [(1, place(11)), (2, place(12)), (3, place(13))].into();
        let joint = Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])], places).unwrap();
        for payload in [
            EntryPayload::Blank,
            EntryPayload::Normal(EntryData(Bytes::from_static(b"commands"))),
            EntryPayload::Membership(joint),
        ] {
            let before = entry(payload);
            assert_eq!(decode_entry(encode_entry(&before)).unwrap(), before);
        }
    }

    #[test]
    fn the_bytes_of_an_entry_are_pinned() {
        let bytes = encode_entry(&entry(EntryPayload::Normal(EntryData(Bytes::from_static(b"x")))));
        assert_eq!(&bytes[..], [1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 42, b'x']);
    }

    #[test]
    fn damaged_bytes_are_refused_by_name() {
        assert_eq!(
            decode_entry(Bytes::from_static(b"short")),
            Err(BadEntry::Damaged("shorter than its head"))
        );
        let mut newer = encode_entry(&entry(EntryPayload::Blank)).to_vec();
        newer[0] = 9;
        assert_eq!(decode_entry(newer.into()), Err(BadEntry::Format(9)));
    }
}
