//! How far a group has come: written with every batch that it applies.
//!
//! ```text
//! format u8 (1) │ applied? u8 │ term u64 │ index u64 │ clock u64 │ counter u64 │ session watermark u64
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::raft::type_config::LogId;

const FORMAT: u8 = 1;
const LENGTH: usize = 2 + 5 * 8;

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
}

impl Progress {
    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let (term, index) = self.applied.map_or((0, 0), |id| (**id.committed_leader_id(), id.index()));
        let mut out = BytesMut::with_capacity(LENGTH);
        out.put_u8(FORMAT);
        out.put_u8(self.applied.is_some().into());
        out.put_u64(term);
        out.put_u64(index);
        out.put_u64(self.clock_ms);
        out.put_u64(self.counter);
        out.put_u64(self.session_watermark_ms);
        out.freeze()
    }

    /// What [`Progress::encode`] gave.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, String> {
        if bytes.first() != Some(&FORMAT) {
            return Err(format!("format {:?}; this program knows format {FORMAT}", bytes.first()));
        }
        if bytes.len() != LENGTH {
            return Err(format!("{} bytes instead of {LENGTH}", bytes.len()));
        }
        bytes.advance(1);
        let present = bytes.get_u8() != 0;
        let (term, index) = (bytes.get_u64(), bytes.get_u64());
        Ok(Self {
            applied: present.then(|| LogId::new_term_index(term, index)),
            clock_ms: bytes.get_u64(),
            counter: bytes.get_u64(),
            session_watermark_ms: bytes.get_u64(),
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
        };
        let bytes = progress.encode();
        assert_eq!(bytes.len(), LENGTH);
        assert_eq!(&bytes[..2], [1, 1]);
        assert_eq!([9, 17, 25, 33, 41].map(|last| bytes[last]), [2, 3, 4, 5, 6]);
        assert_eq!(Progress::decode(&bytes), Ok(progress));
        assert_eq!(Progress::decode(&Progress::default().encode()), Ok(Progress::default()));
        assert!(Progress::decode(&bytes[1..]).is_err());
    }
}
