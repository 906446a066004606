//! Every type of problem that is answered. A type, once given out, keeps its name.

use axum::http::StatusCode;

/// A type of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A parameter, header or body does not say what it must.
    InvalidRequest,
    /// The body is no JSON, or not the JSON that belongs here.
    InvalidJson,
    /// The JSON has more levels than are read.
    JsonTooDeep,
    /// The cursor is none of this scan.
    BadCursor,
    /// The snapshot of the cursor is held no more.
    SnapshotExpired,
    /// A token of another watch.
    BadToken,
    /// What is to be atomic reaches over slots.
    CrossSlot,
    /// A page of another origin asks for a change.
    OriginNotAllowed,
    /// No such table.
    NoSuchTable,
    /// No such key.
    NoSuchKey,
    /// No such index.
    NoSuchIndex,
    /// No such node, move or path.
    NotFound,
    /// The path knows other methods.
    MethodNotAllowed,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// There is something of that name.
    AlreadyExists,
    /// Another key has the value that only one may have.
    NotUnique,
    /// The index is being built, or could not be.
    IndexNotReady,
    /// The state of the cluster does not allow it.
    NotPossibleNow,
    /// A condition of the request does not hold.
    ConditionNotMet,
    /// What is stored is no JSON, so no path leads anywhere in it.
    ValueNotJson,
    /// What a patch wants to change is not there, or is another.
    PatchFailed,
    /// The value is not what the table demands.
    NotAsDemanded,
    /// Another operation of its atomic batch could not be done.
    NotApplied,
    /// The changes that were to follow are no longer kept.
    Compacted,
    /// The key is too long.
    KeyTooLong,
    /// The value is too large.
    ValueTooLarge,
    /// The batch has too many operations.
    TooManyOperations,
    /// The batch has too many bytes.
    BatchTooLarge,
    /// The body has too many bytes, whatever is in it.
    BodyTooLarge,
    /// Something else is over its limit.
    OverLimit,
    /// The body is of a type that is not read here.
    UnsupportedMediaType,
    /// The idempotency key came with another request before.
    IdempotencyKeyReused,
    /// Too much waits, or the disk is nearly full.
    NoRoomNow,
    /// Something here does not work as it should.
    Internal,
    /// The meta leader runs an older program.
    NotSupported,
    /// Nobody could do it in time.
    Unavailable,
    /// This node is leaving, and somebody else leads.
    NotLeader,
    /// The node belongs to no cluster.
    NoCluster,
    /// The partition map changed in the middle.
    MapChanged,
    /// Connections hold too much together.
    Overloaded,
    /// The deadline passed, and nothing was done.
    TooLate,
    /// Nobody knows whether it was done.
    OutcomeUnknown,
}

impl Kind {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 42] = [
        Self::InvalidRequest,
        Self::InvalidJson,
        Self::JsonTooDeep,
        Self::BadCursor,
        Self::SnapshotExpired,
        Self::BadToken,
        Self::CrossSlot,
        Self::OriginNotAllowed,
        Self::NoSuchTable,
        Self::NoSuchKey,
        Self::NoSuchIndex,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::BodyTooSlow,
        Self::AlreadyExists,
        Self::NotUnique,
        Self::IndexNotReady,
        Self::NotPossibleNow,
        Self::ConditionNotMet,
        Self::ValueNotJson,
        Self::PatchFailed,
        Self::NotAsDemanded,
        Self::NotApplied,
        Self::Compacted,
        Self::KeyTooLong,
        Self::ValueTooLarge,
        Self::TooManyOperations,
        Self::BatchTooLarge,
        Self::BodyTooLarge,
        Self::OverLimit,
        Self::UnsupportedMediaType,
        Self::IdempotencyKeyReused,
        Self::NoRoomNow,
        Self::Internal,
        Self::NotSupported,
        Self::Unavailable,
        Self::NotLeader,
        Self::NoCluster,
        Self::MapChanged,
        Self::Overloaded,
        Self::TooLate,
        Self::OutcomeUnknown,
    ];

    /// The name in its URI.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The URI reference that names it for programs.
    pub fn type_uri(self) -> String {
        format!("/problems/{}", self.name())
    }

    /// The status that it is answered with.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().1).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The same sentence for each occurrence.
    pub const fn title(self) -> &'static str {
        self.row().2
    }

    const fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::InvalidRequest => ("invalid-request", 400, "The request does not say what it must"),
            Self::InvalidJson => ("invalid-json", 400, "The body is not the JSON that belongs here"),
            Self::JsonTooDeep => ("json-too-deep", 400, "The JSON has too many levels"),
            Self::BadCursor => ("bad-cursor", 400, "The cursor is none of this scan"),
            Self::SnapshotExpired => {
                ("snapshot-expired", 410, "The snapshot that the cursor is of is held no more")
            }
            Self::BadToken => ("bad-token", 400, "The token is of no watch of this table"),
            Self::CrossSlot => ("cross-slot", 400, "The keys of an atomic batch are of several slots"),
            Self::OriginNotAllowed => {
                ("origin-not-allowed", 403, "Pages of this origin may not ask for changes")
            }
            Self::NoSuchTable => ("no-such-table", 404, "There is no such table"),
            Self::NoSuchKey => ("no-such-key", 404, "There is no such key"),
            Self::NoSuchIndex => ("no-such-index", 404, "The table has no such index"),
            Self::NotFound => ("not-found", 404, "There is no such thing"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "The path knows other methods"),
            Self::BodyTooSlow => ("body-too-slow", 408, "The body did not arrive in time"),
            Self::AlreadyExists => ("already-exists", 409, "There is something of that name already"),
            Self::NotUnique => ("not-unique", 409, "Another key has the value that only one may have"),
            Self::IndexNotReady => ("index-not-ready", 409, "The index cannot be asked yet, or never"),
            Self::NotPossibleNow => ("not-possible-now", 409, "The state of the cluster does not allow it"),
            Self::ValueNotJson => ("value-not-json", 409, "The value that is stored is not JSON"),
            Self::PatchFailed => ("patch-failed", 409, "The patch does not fit the value that is stored"),
            Self::NotAsDemanded => ("value-not-as-demanded", 422, "The value is not what the table demands"),
            Self::ConditionNotMet => {
                ("condition-not-met", 412, "The condition does not hold; nothing was done")
            }
            Self::NotApplied => {
                ("not-applied", 424, "Another operation of the atomic batch could not be done")
            }
            Self::Compacted => ("compacted", 410, "The changes that follow the token are no longer kept"),
            Self::KeyTooLong => ("key-too-long", 413, "The key is too long"),
            Self::ValueTooLarge => ("value-too-large", 413, "The value is too large"),
            Self::TooManyOperations => ("too-many-operations", 413, "The batch has too many operations"),
            Self::BatchTooLarge => ("batch-too-large", 413, "The batch has too many bytes"),
            Self::BodyTooLarge => ("body-too-large", 413, "The body has too many bytes"),
            Self::OverLimit => ("over-limit", 413, "Something is over its limit"),
            Self::UnsupportedMediaType => {
                ("unsupported-media-type", 415, "The body is of a type that is not read here")
            }
            Self::IdempotencyKeyReused => {
                ("idempotency-key-reused", 422, "The idempotency key came with another request before")
            }
            Self::NoRoomNow => ("no-room-now", 429, "There is no room for it now; nothing was done"),
            Self::Internal => ("internal", 500, "Something here does not work as it should"),
            Self::NotSupported => ("not-supported", 501, "The meta leader runs an older program"),
            Self::Unavailable => ("unavailable", 503, "It cannot be done now; nothing was done"),
            Self::NotLeader => ("not-leader", 503, "This node does not lead it; nothing was done"),
            Self::NoCluster => ("no-cluster", 503, "This node belongs to no cluster yet"),
            Self::MapChanged => ("map-changed", 503, "The partition map has changed; nothing was done"),
            Self::Overloaded => ("overloaded", 503, "The connections hold too much together"),
            Self::TooLate => ("too-late", 504, "The deadline passed before there was an answer"),
            Self::OutcomeUnknown => ("outcome-unknown", 504, "Nobody knows whether it was done"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_type_has_its_own_name() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        assert!(Kind::ALL.is_sorted());
        assert!(
            names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-')),
            "{names:?}"
        );
    }
}
