//! Every way in which an operation is refused, in words that say what to do. Doors only
//! translate what is made here.

use placement::{NodeId, PartitionId};
use proto::v1::{
    BadCursor, BadToken, Compacted, CrossSlot, Failure, IndexNotReady, NotLeader, OutcomeUnknown, OverLimit,
    RetryAfter, SnapshotExpired, UnknownIndex, UnknownTable, WrongEpoch, error_detail::Detail,
};
use tonic::Code;

/// The request makes no sense.
pub fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidArgument, message, None)
}

/// Something is larger than it may be.
pub fn over_limit(what: &str, limit: u64, actual: u64) -> Failure {
    let message = format!("the {what} is {actual}; the limit is {limit}");
    Failure::new(
        Code::InvalidArgument,
        message,
        Some(Detail::OverLimit(OverLimit { what: what.to_owned(), limit, actual })),
    )
}

/// There is no such table.
pub fn unknown_table(table: &str) -> Failure {
    let message = format!(
        "there is no table {table:?}: `trilith table create {table}` makes one, `trilith table list` shows all"
    );
    Failure::new(
        Code::NotFound,
        message,
        Some(Detail::UnknownTable(UnknownTable { table: table.to_owned() })),
    )
}

/// Whether there is such a table could not be found out.
pub fn table_in_doubt(table: &str) -> Failure {
    let message = format!(
        "whether there is a table {table:?} could not be asked of the meta leader in time; nothing was done"
    );
    retry_after(message, 200)
}

/// There is no such index.
pub fn unknown_index(table: &str, index: &str) -> Failure {
    let message =
        format!("table {table:?} has no index {index:?}: `trilith table describe {table}` shows its indexes");
    let detail = UnknownIndex { index: index.to_owned() };
    Failure::new(Code::NotFound, message, Some(Detail::UnknownIndex(detail)))
}

/// There was one when the query began.
pub fn index_was_dropped() -> Failure {
    let detail = UnknownIndex::default();
    Failure::new(Code::NotFound, "the index was dropped meanwhile", Some(Detail::UnknownIndex(detail)))
}

/// An index that cannot be asked yet, or never.
pub fn index_not_ready(index: &str, percent: u32, failed: String) -> Failure {
    let message = match failed.as_str() {
        "" => format!("index {index} is being built: {percent} %"),
        why => format!("index {index} could not be built: {why}; drop it, mend that and add it again"),
    };
    let detail = IndexNotReady { index: index.to_owned(), percent, failed };
    Failure::new(Code::FailedPrecondition, message, Some(Detail::IndexNotReady(detail)))
}

/// What nodes of an older cluster version would not understand.
pub fn needs_version(what: &str, version: u32) -> Failure {
    let message = format!(
        "{what} from cluster version {version} on: once every node runs a program that supports it, raise the version"
    );
    Failure::new(Code::FailedPrecondition, message, None)
}

/// An atomic operation reaches over slots.
pub fn cross_slot() -> Failure {
    let message = "an atomic batch or transaction needs keys of one slot: give them a common {tag}, \
                   as in {user7}.name and {user7}.email";
    Failure::new(Code::InvalidArgument, message, Some(Detail::CrossSlot(CrossSlot {})))
}

/// Refused at once; nothing was done.
pub fn retry_after(message: impl Into<String>, milliseconds: u64) -> Failure {
    Failure::new(Code::Unavailable, message, Some(Detail::RetryAfter(RetryAfter { milliseconds })))
}

/// So many bytes of writes wait on this node that it takes no more; nothing was done.
pub fn too_much_waits() -> Failure {
    retry_after("too many writes are waiting on this node", 20)
}

/// The disk is nearly full.
pub fn disk_nearly_full(free_percent: u8) -> Failure {
    let message = format!(
        "writes are refused: less than {free_percent} % of this node's disk is free; delete data, enlarge the disk \
         or add nodes (reads and deletes go on)"
    );
    Failure::new(
        Code::ResourceExhausted,
        message,
        Some(Detail::RetryAfter(RetryAfter { milliseconds: 5_000 })),
    )
}

/// It may have been done, or may yet be, or not.
pub fn outcome_unknown(why: &str) -> Failure {
    let message = format!("the outcome of this write is unknown: {why}; read the key to see");
    Failure::new(Code::Unknown, message, Some(Detail::OutcomeUnknown(OutcomeUnknown { why: why.to_owned() })))
}

/// This node does not lead the partition; nothing was done.
pub fn not_leader(partition: PartitionId, leader: Option<NodeId>, leader_address: String) -> Failure {
    let message = format!("this node does not lead partition {partition}");
    let detail = NotLeader {
        partition: partition.0,
        leader_node: leader.map(|node| node.to_bytes().to_vec().into()).unwrap_or_default(),
        leader_address,
    };
    Failure::new(Code::Unavailable, message, Some(Detail::NotLeader(detail)))
}

/// The asker's map is older than the cluster's, or this node's is; nothing was done.
pub fn wrong_epoch(detail: WrongEpoch) -> Failure {
    Failure::new(Code::Aborted, "the partition map has changed", Some(Detail::WrongEpoch(detail)))
}

/// The deadline passed and nothing was done.
pub fn no_leader_in_time(partition: PartitionId) -> Failure {
    let message =
        format!("partition {partition} had no leader that could be reached in time; nothing was done");
    retry_after(message, 200)
}

/// The moment that a cursor is of is held no more.
pub fn moment_is_gone() -> Failure {
    let message = "the snapshot of this cursor is held no more: its time was over, or the nodes that held it ended or \
                   lost the partition; begin again without the cursor";
    Failure::new(Code::FailedPrecondition, message, Some(Detail::SnapshotExpired(SnapshotExpired {})))
}

/// A node holds as many moments as it may.
pub fn too_many_held(most: usize) -> Failure {
    retry_after(format!("{most} scans and queries hold snapshots on a node already, and more may not"), 1000)
}

/// A cursor that is none of this scan's.
pub fn bad_cursor(why: &str) -> Failure {
    let message = format!("this cursor cannot be used: {why}; begin the scan again without it");
    Failure::new(Code::InvalidArgument, message, Some(Detail::BadCursor(BadCursor { why: why.to_owned() })))
}

/// A token that is none of this watch's.
pub fn bad_token(why: &str) -> Failure {
    let message = format!("this token cannot be used: {why}; begin the watch again without it");
    Failure::new(Code::InvalidArgument, message, Some(Detail::BadToken(BadToken { why: why.to_owned() })))
}

/// What a watch should go on with is no longer kept.
pub fn compacted(partition: PartitionId, wanted: u64, oldest: u64) -> Failure {
    let message = format!(
        "changes of partition {partition} after revision {wanted} are no longer kept, only those after {oldest}: \
         begin the watch again with the items that there are"
    );
    let detail = Compacted { partition: partition.0, wanted, oldest };
    Failure::new(Code::OutOfRange, message, Some(Detail::Compacted(detail)))
}

/// A table that keeps no changes cannot be followed.
pub fn no_history(table: &str) -> Failure {
    let message = format!(
        "table {table:?} keeps no history, so it cannot be watched: `trilith table alter {table} --history default` \
         changes that"
    );
    Failure::new(Code::FailedPrecondition, message, None)
}

/// Something here does not work as it should.
pub fn internal(message: impl Into<String>) -> Failure {
    Failure::new(Code::Internal, message, None)
}
