//! Bytes as they arrive at the Redis door: whatever the pieces, the requests are the same, nothing
//! over the limits is held or given out, and a request that is written again is read as it was.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

#[path = "../../storage-node/src/doors/resp/parse.rs"]
mod parse;

use parse::{Parser, ProtocolError, Request};

const LONGEST_PART: usize = 200;
const LARGEST_REQUEST: usize = 1000;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, arrived) = input;
    let whole = read(arrived, arrived.len().max(1));
    assert_eq!(whole, read(arrived, usize::from(piece).max(1)));
    let (requests, error) = whole;
    for request in requests {
        assert!(!request.is_empty());
        let bytes: usize = request.iter().map(Bytes::len).sum();
        let fits = bytes + request.len() * size_of::<Bytes>() <= LARGEST_REQUEST
            && request.iter().all(|part| part.len() <= LONGEST_PART);
        // A line of words is bounded by its own length.
        assert!(fits || bytes <= arrived.len());
        if fits {
            let written = write(&request);
            assert_eq!(read(&written, written.len()), (vec![request], None));
        }
    }
    if let Some(error) = error {
        assert!(error.to_string().starts_with("Protocol error: "));
    }
});

/// All that is understood, and why the rest is not.
fn read(arrived: &[u8], piece: usize) -> (Vec<Request>, Option<ProtocolError>) {
    let mut parser = Parser::new(LONGEST_PART, LARGEST_REQUEST);
    let mut buffer = BytesMut::new();
    let mut requests = Vec::new();
    for piece in arrived.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
        assert!(parser.held() <= LARGEST_REQUEST);
    }
    (requests, None)
}

/// As clients write it.
fn write(request: &Request) -> Vec<u8> {
    let mut written = format!("*{}\r\n", request.len()).into_bytes();
    for part in request {
        written.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        written.extend_from_slice(part);
        written.extend_from_slice(b"\r\n");
    }
    written
}
