//! openraft's messages as the peer contract has them, and back.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use proto::v1::{self, append_answer, transfer_answer};

use crate::raft::entry::{BadEntry, decode_entry, decode_membership, encode_entry, encode_membership};
use crate::raft::type_config::{LogId, SnapshotMeta, StoredMembership, TypeConfig, Vote};

/// Why a message makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum BadMessage {
    /// A field that must be there is not.
    #[error("a peer's message lacks its {0}")]
    Missing(&'static str),
    /// An entry or a membership does not decode.
    #[error("a peer's message holds what does not decode")]
    Entry(#[from] BadEntry),
    /// The metadata of a snapshot does not decode.
    #[error("snapshot metadata of format {0}; this program knows format {META_FORMAT}: run a newer one")]
    MetaFormat(u8),
}

/// A vote for the wire.
pub fn vote_out(vote: &Vote) -> v1::Vote {
    let leader = vote.leader_id();
    v1::Vote {
        term: leader.term,
        replica: leader.voted_for,
        has_replica: true,
        committed: vote.is_committed(),
    }
}

/// A vote from the wire.
pub fn vote_in(vote: Option<v1::Vote>) -> Result<Vote, BadMessage> {
    let vote = vote.ok_or(BadMessage::Missing("vote"))?;
    if !vote.has_replica {
        return Err(BadMessage::Missing("voted-for replica"));
    }
    Ok(if vote.committed {
        Vote::new_committed(vote.term, vote.replica)
    } else {
        Vote::new(vote.term, vote.replica)
    })
}

/// A log id for the wire.
pub fn log_id_out(id: &LogId) -> v1::LogId {
    v1::LogId { term: **id.committed_leader_id(), index: id.index() }
}

/// A log id from the wire.
pub fn log_id_in(id: v1::LogId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

/// An append for the wire.
pub fn append_out(append: &AppendEntriesRequest<TypeConfig>, pipeline: u64, place: u64) -> v1::AppendRequest {
    v1::AppendRequest {
        vote: Some(vote_out(&append.vote)),
        previous: append.prev_log_id.as_ref().map(log_id_out),
        leader_commit: append.leader_commit.as_ref().map(log_id_out),
        entries: append.entries.iter().map(encode_entry).collect(),
        pipeline,
        place,
    }
}

/// An append from the wire.
pub fn append_in(append: v1::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, BadMessage> {
    Ok(AppendEntriesRequest {
        vote: vote_in(append.vote)?,
        prev_log_id: append.previous.map(log_id_in),
        entries: append.entries.into_iter().map(decode_entry).collect::<Result<_, _>>()?,
        leader_commit: append.leader_commit.map(log_id_in),
    })
}

/// What came of an append, for the wire. An error text means that the pipeline is broken.
pub fn append_result_out(
    pipeline: u64,
    result: Result<StreamAppendResult<TypeConfig>, String>,
) -> v1::AppendAnswer {
    use append_answer::Outcome;
    let outcome = match result {
        Ok(Ok(Some(flushed))) => Outcome::Flushed(log_id_out(&flushed)),
        Ok(Ok(None)) => Outcome::FlushedNothing(true),
        Ok(Err(StreamAppendError::Conflict(at))) => Outcome::Conflict(log_id_out(&at)),
        Ok(Err(StreamAppendError::HigherVote(vote))) => Outcome::HigherVote(vote_out(&vote)),
        Err(why) => Outcome::Broken(why),
    };
    v1::AppendAnswer { pipeline, outcome: Some(outcome) }
}

/// What came of an append, from the wire.
pub fn append_result_in(
    answer: v1::AppendAnswer,
) -> Result<Result<StreamAppendResult<TypeConfig>, String>, BadMessage> {
    use append_answer::Outcome;
    Ok(match answer.outcome.ok_or(BadMessage::Missing("outcome"))? {
        Outcome::Flushed(id) => Ok(Ok(Some(log_id_in(id)))),
        Outcome::FlushedNothing(_) => Ok(Ok(None)),
        Outcome::Conflict(id) => Ok(Err(StreamAppendError::Conflict(log_id_in(id)))),
        Outcome::HigherVote(vote) => Ok(Err(StreamAppendError::HigherVote(vote_in(Some(vote))?))),
        Outcome::Broken(why) => Err(why),
    })
}

/// A vote request for the wire.
pub fn vote_request_out(request: &VoteRequest<TypeConfig>) -> v1::VoteRequest {
    v1::VoteRequest {
        vote: Some(vote_out(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id_out),
        leadership_transfer: request.leadership_transfer,
    }
}

/// A vote request from the wire.
pub fn vote_request_in(request: v1::VoteRequest) -> Result<VoteRequest<TypeConfig>, BadMessage> {
    let mut decoded = VoteRequest::new(vote_in(request.vote)?, request.last.map(log_id_in));
    decoded.leadership_transfer = request.leadership_transfer;
    Ok(decoded)
}

/// A vote answer for the wire.
pub fn vote_answer_out(answer: &VoteResponse<TypeConfig>) -> v1::VoteAnswer {
    v1::VoteAnswer {
        vote: Some(vote_out(&answer.vote)),
        granted: answer.vote_granted,
        last: answer.last_log_id.as_ref().map(log_id_out),
    }
}

/// A vote answer from the wire.
pub fn vote_answer_in(answer: v1::VoteAnswer) -> Result<VoteResponse<TypeConfig>, BadMessage> {
    Ok(VoteResponse::new(vote_in(answer.vote)?, answer.last.map(log_id_in), answer.granted))
}

/// A transfer of leadership for the wire.
pub fn transfer_out(request: &TransferLeaderRequest<TypeConfig>) -> v1::TransferRequest {
    v1::TransferRequest {
        from_leader: Some(vote_out(request.from_leader())),
        to_replica: *request.to_node_id(),
        last: request.last_log_id().map(log_id_out),
    }
}

/// A transfer of leadership from the wire.
pub fn transfer_in(request: v1::TransferRequest) -> Result<TransferLeaderRequest<TypeConfig>, BadMessage> {
    let from = vote_in(request.from_leader)?;
    Ok(TransferLeaderRequest::new(from, request.to_replica, request.last.map(log_id_in)))
}

/// What came of a transfer, for the wire.
pub fn transfer_answer_out(answer: &TransferLeaderResponse<TypeConfig>) -> v1::TransferAnswer {
    use transfer_answer::Outcome;
    let outcome = match answer {
        Ok(()) => Outcome::Ok(true),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => Outcome::VoteChanged(vote_out(actual)),
        Err(TransferLeaderError::LogNotFlushed { actual: Some(id), .. }) => {
            Outcome::NotFlushed(log_id_out(id))
        }
        Err(TransferLeaderError::LogNotFlushed { actual: None, .. }) => Outcome::NothingFlushed(true),
    };
    v1::TransferAnswer { outcome: Some(outcome) }
}

/// What came of a transfer, from the wire; what was expected is taken from the request.
pub fn transfer_answer_in(
    answer: v1::TransferAnswer,
    request: &TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResponse<TypeConfig>, BadMessage> {
    use transfer_answer::Outcome;
    let not_flushed =
        |actual| TransferLeaderError::LogNotFlushed { expected: request.last_log_id().copied(), actual };
    Ok(match answer.outcome.ok_or(BadMessage::Missing("outcome"))? {
        Outcome::Ok(_) => Ok(()),
        Outcome::VoteChanged(vote) => Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: vote_in(Some(vote))?,
        }),
        Outcome::NotFlushed(id) => Err(not_flushed(Some(log_id_in(id)))),
        Outcome::NothingFlushed(_) => Err(not_flushed(None)),
    })
}

const META_FORMAT: u8 = 1;

/// What a snapshot covers, as bytes:
///
/// ```text
/// format u8 (1) │ last log id │ log id of the membership │ membership
/// log id: there u8 (0, 1) │ term u64 │ index u64, both only where it is there
/// ```
pub fn encode_snapshot_meta(meta: &SnapshotMeta) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(META_FORMAT);
    for id in [meta.last_log_id.as_ref(), meta.last_membership.log_id().as_ref()] {
        out.put_u8(u8::from(id.is_some()));
        if let Some(id) = id {
            out.put_u64(**id.committed_leader_id());
            out.put_u64(id.index());
        }
    }
    out.put_slice(&encode_membership(meta.last_membership.membership()));
    out.freeze()
}

/// What the snapshot covers that bytes describe.
pub fn decode_snapshot_meta(mut bytes: Bytes) -> Result<SnapshotMeta, BadMessage> {
    fn log_id(bytes: &mut Bytes) -> Result<Option<LogId>, BadMessage> {
        let cut = |_| BadMessage::Missing("log id in snapshot metadata");
        if bytes.try_get_u8().map_err(cut)? == 0 {
            return Ok(None);
        }
        let term = bytes.try_get_u64().map_err(cut)?;
        let index = bytes.try_get_u64().map_err(cut)?;
        Ok(Some(LogId::new_term_index(term, index)))
    }
    let format = bytes.try_get_u8().map_err(|_| BadMessage::Missing("snapshot metadata"))?;
    if format != META_FORMAT {
        return Err(BadMessage::MetaFormat(format));
    }
    let last_log_id = log_id(&mut bytes)?;
    let membership_log_id = log_id(&mut bytes)?;
    let membership = decode_membership(bytes)?;
    Ok(SnapshotMeta { last_log_id, last_membership: StoredMembership::new(membership_log_id, membership) })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use openraft::EntryPayload;
    use openraft::entry::RaftEntry;
    use placement::NodeId;

    use super::*;
    use crate::raft::type_config::{Entry, EntryData, Membership, ReplicaPlace};

    fn id(term: u64, index: u64) -> LogId {
        LogId::new_term_index(term, index)
    }

    #[test]
    fn appends_survive_the_wire() {
        let append = AppendEntriesRequest::<TypeConfig> {
            vote: Vote::new_committed(3, 9),
            prev_log_id: Some(id(2, 7)),
            entries: vec![
                Entry::new(id(3, 8), EntryPayload::Blank),
                Entry::new(id(3, 9), EntryPayload::Normal(EntryData(Bytes::from_static(b"x")))),
            ],
            leader_commit: None,
        };
        let back = append_in(append_out(&append, 4, 5)).unwrap();
        assert_eq!(format!("{back:?}"), format!("{append:?}"));
        let results = [
            Ok(Ok(Some(id(3, 9)))),
            Ok(Ok(None)),
            Ok(Err(StreamAppendError::Conflict(id(2, 7)))),
            Ok(Err(StreamAppendError::HigherVote(Vote::new(8, 1)))),
            Err("closed".to_owned()),
        ];
        for result in results {
            assert_eq!(append_result_in(append_result_out(1, result.clone())).unwrap(), result);
        }
    }

    #[test]
    fn votes_and_transfers_survive_the_wire() {
        let mut request = VoteRequest::<TypeConfig>::new(Vote::new(5, 2), Some(id(4, 1)));
        request.leadership_transfer = true;
        assert_eq!(vote_request_in(vote_request_out(&request)).unwrap(), request);
        let answer = VoteResponse::<TypeConfig>::new(Vote::new_committed(6, 1), None, true);
        assert_eq!(vote_answer_in(vote_answer_out(&answer)).unwrap(), answer);
        let transfer = TransferLeaderRequest::<TypeConfig>::new(Vote::new_committed(5, 1), 2, Some(id(5, 9)));
        assert_eq!(transfer_in(transfer_out(&transfer)).unwrap(), transfer);
        let not_flushed = Err(TransferLeaderError::LogNotFlushed { expected: Some(id(5, 9)), actual: None });
        for answer in [Ok(()), not_flushed] {
            assert_eq!(transfer_answer_in(transfer_answer_out(&answer), &transfer).unwrap(), answer);
        }
    }

    #[test]
    fn a_message_without_its_vote_is_refused() {
        assert!(matches!(append_in(v1::AppendRequest::default()), Err(BadMessage::Missing("vote"))));
        assert!(matches!(vote_in(Some(v1::Vote::default())), Err(BadMessage::Missing(_))));
    }

    #[test]
    fn snapshot_metadata_survives_its_bytes() {
        let place = ReplicaPlace { node: NodeId(uuid::Uuid::from_u128(7)) };
        let membership = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, place)])).unwrap();
        let full = SnapshotMeta {
            last_log_id: Some(id(2, 40)),
            last_membership: StoredMembership::new(Some(id(1, 3)), membership),
        };
        for meta in [SnapshotMeta::default(), full] {
            assert_eq!(decode_snapshot_meta(encode_snapshot_meta(&meta)).unwrap(), meta);
        }
        assert!(matches!(decode_snapshot_meta(Bytes::from_static(&[9])), Err(BadMessage::MetaFormat(9))));
        assert!(decode_snapshot_meta(Bytes::from_static(&[1, 1, 0])).is_err());
    }
}
