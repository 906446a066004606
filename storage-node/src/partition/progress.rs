//! How far a group has come: written with every batch that it applies.
//!
//! ```text
//! format u8 (1 or 2) │ applied? u8 │ term u64 │ index u64 │ clock u64 │ counter u64 │ session watermark u64
//!                    │ history from u64 │ history bytes u64          in format 2
//! ```
//!
//! Format 1 is written for as long as there has been no history, so that a cluster whose nodes are
//! being replaced by newer ones can be read by the older.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use placement::PartitionId;

use crate::raft::type_config::LogId;
use crate::storage::keys::{self, GroupRecord};
use crate::storage::state::{StateError, StateResult, StateView};

const FORMAT: u8 = 1;
const WITH_HISTORY: u8 = 2;
const LENGTH: usize = 2 + 5 * 8;
const LENGTH_WITH_HISTORY: usize = LENGTH + 2 * 8;

/// How far a group has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The last entry that was applied.
    pub applied: Option<LogId>,
    /// The partition's clock: the latest that an entry brought.
    pub clock_ms: u64,
    /// Versions and revisions come from it, one step for each change.
    pub counter: u64,
    /// When the latest session was used that had to be forgotten early.
    pub session_watermark_ms: u64,
    /// Changes up to this revision are not kept; those after it are, where any are.
    pub history_from: u64,
    /// How much history was ever written: grows only, and what is kept is told by marks.
    pub history_bytes: u64,
}

impl Progress {
    /// How far a group is in a state.
    pub fn read(view: &dyn StateView, group: PartitionId) -> StateResult<Self> {
        let Some(bytes) = view.get(&keys::group_record(group, GroupRecord::Progress))? else {
            return Ok(Self::default());
        };
        Self::decode(&bytes)
            .map_err(|why| StateError::Damaged { what: format!("the progress of partition {group}"), why })
    }

    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let (term, index) = self.applied.map_or((0, 0), |id| (**id.committed_leader_id(), id.index()));
        let with_history = (self.history_from, self.history_bytes) != (0, 0);
        let mut out = BytesMut::with_capacity(LENGTH_WITH_HISTORY);
        out.put_u8(if with_history { WITH_HISTORY } else { FORMAT });
        out.put_u8(self.applied.is_some().into());
        out.put_u64(term);
        out.put_u64(index);
        out.put_u64(self.clock_ms);
        out.put_u64(self.counter);
        out.put_u64(self.session_watermark_ms);
        if with_history {
            out.put_u64(self.history_from);
            out.put_u64(self.history_bytes);
        }
        out.freeze()
    }

    /// What [`Progress::encode`] gave.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, String> {
        let length = match bytes.first() {
            Some(&FORMAT) => LENGTH,
            Some(&WITH_HISTORY) => LENGTH_WITH_HISTORY,
            other => return Err(format!("format {other:?}; this program knows up to {WITH_HISTORY}")),
        };
        if bytes.len() != length {
            return Err(format!("{} bytes instead of {length}", bytes.len()));
        }
        bytes.advance(1);
        let present = bytes.get_u8() != 0;
        let (term, index) = (bytes.get_u64(), bytes.get_u64());
        Ok(Self {
            applied: present.then(|| LogId::new_term_index(term, index)),
            clock_ms: bytes.get_u64(),
            counter: bytes.get_u64(),
            session_watermark_ms: bytes.get_u64(),
            history_from: bytes.try_get_u64().unwrap_or(0),
            history_bytes: bytes.try_get_u64().unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_pinned_and_read_back() {
        let progress = Progress {
            applied: Some(LogId::new_term_index(2, 3)),
            clock_ms: 4,
            counter: 5,
            session_watermark_ms: 6,
            ..Progress::default()
        };
        let bytes = progress.encode();
        assert_eq!(bytes.len(), LENGTH);
        assert_eq!(&bytes[..2], [1, 1]);
        assert_eq!([9, 17, 25, 33, 41].map(|last| bytes[last]), [2, 3, 4, 5, 6]);
        assert_eq!(Progress::decode(&bytes), Ok(progress));
        assert_eq!(Progress::decode(&Progress::default().encode()), Ok(Progress::default()));
        assert!(Progress::decode(&bytes[1..]).is_err());
        let with_history = Progress { history_from: 7, history_bytes: 8, ..progress };
        let bytes = with_history.encode();
        assert_eq!((bytes.len(), bytes[0], bytes[49], bytes[57]), (LENGTH_WITH_HISTORY, 2, 7, 8));
        assert_eq!(Progress::decode(&bytes), Ok(with_history));
        assert!(Progress::decode(&bytes[..LENGTH]).is_err());
    }
}
