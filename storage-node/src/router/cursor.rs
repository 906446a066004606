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
pub fn after(cluster: ClusterId, table: TableId, request: &ScanRequest, last_key: Bytes) -> Bytes {
    let cursor = Cursor {
        format: FORMAT,
        cluster: cluster.to_bytes().to_vec().into(),
        table: table.0,
        start: request.start.clone(),
        end: request.end.clone(),
        prefix: request.prefix.clone(),
        reverse: request.reverse,
        last_key,
    };
    let body = cursor.encode_to_vec();
    let mut out = BytesMut::with_capacity(4 + body.len());
    out.put_u32(crc32c::crc32c(&body));
    out.put_slice(&body);
    out.freeze()
}

/// The key after which a scan goes on, if its cursor is one of this cluster, table and scan.
pub fn last_key(cluster: ClusterId, table: TableId, request: &ScanRequest) -> Result<Option<Bytes>, Failure> {
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
    Ok(Some(cursor.last_key))
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
        let cursor = after(cluster(), TableId(1), &request(Bytes::new()), "c".into());
        assert_eq!(last_key(cluster(), TableId(1), &request(cursor.clone())).unwrap().unwrap(), "c");
        let why = |refused: Result<Option<Bytes>, Failure>| refused.unwrap_err().message;
        assert!(why(last_key(cluster(), TableId(2), &request(cursor.clone()))).contains("another table"));
        assert!(
            why(last_key(ClusterId::default(), TableId(1), &request(cursor.clone())))
                .contains("another cluster")
        );
        let other = ScanRequest { reverse: true, ..request(cursor.clone()) };
        assert!(why(last_key(cluster(), TableId(1), &other)).contains("other bounds"));
        let mut damaged = cursor.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(why(last_key(cluster(), TableId(1), &request(damaged.into()))).contains("damaged"));
        assert!(why(last_key(cluster(), TableId(1), &request("x".into()))).contains("cut short"));
    }
}
