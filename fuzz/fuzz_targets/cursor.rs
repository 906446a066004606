//! Cursors as clients give them back: none makes the parser panic, also where the checksum is
//! right, and those that are made here lead on.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use placement::{ClusterId, TableId};
use proto::v1::ScanRequest;

#[path = "../../storage-node/src/router/cursor.rs"]
mod cursor;
#[expect(dead_code, reason = "of all failures the cursor has one")]
#[path = "../../storage-node/src/router/failure.rs"]
mod failure;

fuzz_target!(|input: (u32, bool, &[u8], &[u8], &[u8])| {
    let (table, reverse, start, key, given) = input;
    let (cluster, table) = (ClusterId::default(), TableId(table));
    let request = |cursor: Bytes| ScanRequest {
        start: Bytes::copy_from_slice(start),
        reverse,
        cursor,
        ..ScanRequest::default()
    };
    let read = |cursor| {
        cursor::place(cluster, table, &request(cursor)).map(|place| place.map(|place| place.last_key))
    };

    let _ = read(Bytes::copy_from_slice(given));
    // Past the checksum, which a fuzzer would hardly guess.
    let summed = [&crc32c::crc32c(given).to_be_bytes(), given].concat();
    let _ = read(Bytes::from(summed));

    let key = Bytes::copy_from_slice(key);
    let made = cursor::after(cluster, table, &request(Bytes::new()), key.clone(), Bytes::new());
    assert_eq!(read(made.clone()).expect("it is this scan's"), Some(key));
    assert!(cursor::place(cluster, TableId(table.0.wrapping_add(1)), &request(made)).is_err());
});
