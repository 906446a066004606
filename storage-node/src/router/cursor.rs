//! Where a scan goes on: cluster, table, bounds, direction and last key, and nothing of
//! partitions or epochs, so that it survives leader changes, moves and splits.
//!
//! ```text
//! checksum u32 (CRC32C of what follows) │ a `Cursor` message
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use placement::{ClusterId, TableId};
use prost::Message;
use proto::v1::{Cursor, Failure, ScanRequest};

use super::failure;

const FORMAT: u32 = 1;

/// The cursor after a key.
pub fn after(
    cluster: ClusterId,
    table: TableId,
    request: &ScanRequest,
    last_key: Bytes,
    moment: Bytes,
) -> Bytes {
    let cursor = Cursor {
        format: FORMAT,
        cluster: cluster.to_bytes().to_vec().into(),
        table: table.0,
        start: request.start.clone(),
        end: request.end.clone(),
        prefix: request.prefix.clone(),
        reverse: request.reverse,
        last_key,
        moment,
    };
    let body = cursor.encode_to_vec();
    let mut out = BytesMut::with_capacity(4 + body.len());
    out.put_u32(crc32c::crc32c(&body));
    out.put_slice(&body);
    out.freeze()
}

/// Where a scan goes on.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// After this key.
    pub last_key: Bytes,
    /// At the moment that is held under this id; empty: at its own.
    pub moment: Bytes,
}

/// Where a scan goes on, if its cursor is one of this cluster, table and scan.
pub fn place(cluster: ClusterId, table: TableId, request: &ScanRequest) -> Result<Option<Place>, Failure> {
    if request.cursor.is_empty() {
        return Ok(None);
    }
    let mut bytes = request.cursor.clone();
    let checksum = bytes.try_get_u32().map_err(|_| failure::bad_cursor("it is cut short"))?;
    if crc32c::crc32c(&bytes) != checksum {
        return Err(failure::bad_cursor("it is damaged, or not a cursor"));
    }
    let cursor = Cursor::decode(bytes).map_err(|_| failure::bad_cursor("it is not a cursor"))?;
    if cursor.format != FORMAT {
        return Err(failure::bad_cursor(&format!(
            "its format is {}; this node knows {FORMAT}",
            cursor.format
        )));
    }
    if cursor.cluster[..] != cluster.to_bytes() {
        return Err(failure::bad_cursor("it is of another cluster"));
    }
    if cursor.table != table.0 {
        return Err(failure::bad_cursor("it is of another table"));
    }
    let same = cursor.start == request.start
        && cursor.end == request.end
        && cursor.prefix == request.prefix
        && cursor.reverse == request.reverse;
    if !same {
        return Err(failure::bad_cursor("the scan that gave it had other bounds or another direction"));
    }
    let moment = same_id(cursor.moment, request.snapshot_ms)?;
    Ok(Some(Place { last_key: cursor.last_key, moment }))
}

/// The id that a cursor goes on with, if the request still asks for a held moment.
pub fn same_id(cursor: Bytes, hold_ms: u64) -> Result<Bytes, Failure> {
    match (cursor.is_empty(), hold_ms == 0) {
        (true, true) | (false, false) => Ok(cursor),
        (true, false) => Err(failure::bad_cursor("the page that gave it held no snapshot")),
        (false, true) => Err(failure::bad_cursor("the page that gave it held a snapshot, so ask for one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterId {
        ClusterId(uuid::Uuid::from_u128(7))
    }

    fn request(cursor: Bytes) -> ScanRequest {
        ScanRequest { start: "a".into(), end: "m".into(), cursor, ..ScanRequest::default() }
    }

    #[test]
    fn a_cursor_goes_on_only_with_its_own_scan() {
        let cursor = after(cluster(), TableId(1), &request(Bytes::new()), "c".into(), Bytes::new());
        let found = place(cluster(), TableId(1), &request(cursor.clone())).unwrap().unwrap();
        assert_eq!(found, Place { last_key: "c".into(), moment: Bytes::new() });
        let why = |refused: Result<Option<Place>, Failure>| refused.unwrap_err().message;
        assert!(why(place(cluster(), TableId(2), &request(cursor.clone()))).contains("another table"));
        assert!(
            why(place(ClusterId::default(), TableId(1), &request(cursor.clone())))
                .contains("another cluster")
        );
        let other = ScanRequest { reverse: true, ..request(cursor.clone()) };
        assert!(why(place(cluster(), TableId(1), &other)).contains("other bounds"));
        let held = ScanRequest { snapshot_ms: 9, ..request(cursor.clone()) };
        assert!(why(place(cluster(), TableId(1), &held)).contains("held no snapshot"));
        let mut damaged = cursor.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(why(place(cluster(), TableId(1), &request(damaged.into()))).contains("damaged"));
        assert!(why(place(cluster(), TableId(1), &request("x".into()))).contains("cut short"));
    }
}
