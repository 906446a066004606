//! Where a query goes on: as a scan's cursor, but by the last entry of the index.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use placement::{ClusterId, TableId};
use prost::Message;
use proto::v1::{Failure, IndexPlace, QueryCursor, QueryRequest};

use super::cursor::same_id;
use super::failure;

const FORMAT: u32 = 1;

/// The cursor after an entry.
pub fn after(cluster: ClusterId, table: TableId, index: u32, request: &QueryRequest, place: Place) -> Bytes {
    let cursor = QueryCursor {
        format: FORMAT,
        cluster: cluster.to_bytes().to_vec().into(),
        table: table.0,
        index,
        query: fingerprint(request),
        value: place.after.value,
        key: place.after.key,
        moment: place.moment,
    };
    let body = cursor.encode_to_vec();
    let mut out = BytesMut::with_capacity(4 + body.len());
    out.put_u32(crc32c::crc32c(&body));
    out.put_slice(&body);
    out.freeze()
}

/// Where a query goes on.
#[derive(Debug, PartialEq)]
pub struct Place {
    /// After this entry.
    pub after: IndexPlace,
    /// At the moment that is held under this id; empty: at its own.
    pub moment: Bytes,
}

/// Where a query goes on, if its cursor is one of this cluster, table, index and query.
pub fn place(
    cluster: ClusterId,
    table: TableId,
    index: u32,
    request: &QueryRequest,
) -> Result<Option<Place>, Failure> {
    if request.cursor.is_empty() {
        return Ok(None);
    }
    let mut bytes = request.cursor.clone();
    let checksum = bytes.try_get_u32().map_err(|_| failure::bad_cursor("it is cut short"))?;
    if crc32c::crc32c(&bytes) != checksum {
        return Err(failure::bad_cursor("it is damaged, or not a cursor"));
    }
    let cursor = QueryCursor::decode(bytes).map_err(|_| failure::bad_cursor("it is not a query's"))?;
    if cursor.format != FORMAT {
        let why = format!("its format is {}; this node knows {FORMAT}", cursor.format);
        return Err(failure::bad_cursor(&why));
    }
    if cursor.cluster[..] != cluster.to_bytes() {
        return Err(failure::bad_cursor("it is of another cluster"));
    }
    if (cursor.table, cursor.index) != (table.0, index) {
        return Err(failure::bad_cursor("it is of another table or index, or of one that was dropped"));
    }
    if cursor.query != fingerprint(request) {
        return Err(failure::bad_cursor("the query that gave it asked for something else"));
    }
    let moment = same_id(cursor.moment, request.snapshot_ms)?;
    Ok(Some(Place { after: IndexPlace { value: cursor.value, key: cursor.key }, moment }))
}

/// What a query must have in common with the one that it goes on with.
fn fingerprint(request: &QueryRequest) -> u32 {
    let same =
        QueryRequest { which: request.which.clone(), reverse: request.reverse, ..QueryRequest::default() };
    crc32c::crc32c(&same.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use proto::v1::query_request::Which;

    use super::*;

    fn request(equals: &str, cursor: Bytes) -> QueryRequest {
        QueryRequest { which: Some(Which::Equals(equals.to_owned())), cursor, ..QueryRequest::default() }
    }

    #[test]
    fn a_cursor_goes_on_only_with_its_own_query() {
        let cluster = ClusterId(uuid::Uuid::from_u128(7));
        let last = IndexPlace { value: "v".into(), key: "k".into() };
        let cursor = after(
            cluster,
            TableId(1),
            2,
            &request("a", Bytes::new()),
            Place { after: last.clone(), moment: Bytes::new() },
        );
        let go_on = |cluster, table, index, request: &QueryRequest| place(cluster, table, index, request);
        assert_eq!(
            go_on(cluster, TableId(1), 2, &request("a", cursor.clone())).unwrap().map(|place| place.after),
            Some(last)
        );
        let limited = QueryRequest { limit: 5, keys_only: true, ..request("a", cursor.clone()) };
        assert!(go_on(cluster, TableId(1), 2, &limited).unwrap().is_some());
        let why = |refused: Result<Option<Place>, Failure>| refused.unwrap_err().message;
        assert!(why(go_on(cluster, TableId(1), 2, &request("b", cursor.clone()))).contains("something else"));
        assert!(why(go_on(cluster, TableId(1), 3, &request("a", cursor.clone()))).contains("dropped"));
        let other = ClusterId::default();
        assert!(why(go_on(other, TableId(1), 2, &request("a", cursor.clone()))).contains("another cluster"));
        let mut damaged = cursor.to_vec();
        damaged[6] ^= 1;
        assert!(why(go_on(cluster, TableId(1), 2, &request("a", damaged.into()))).contains("damaged"));
        assert!(why(go_on(cluster, TableId(1), 2, &request("a", "x".into()))).contains("cut short"));
    }
}
