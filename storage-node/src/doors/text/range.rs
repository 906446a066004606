//! `RANGE`: read page by page, answered as a whole, because the answer begins with its count.

use bytes::Bytes;
use proto::v1::ScanRequest;

use super::answer::{self, Code, put_line};
use super::held::Portion;
use super::line::escape;
use super::store::Store;

/// The most items of an answer.
pub const MOST_ITEMS: usize = 100_000;
/// The most bytes of an answer, as they are written. A single item may be more.
pub const MOST_BYTES: usize = 16 << 20;

/// `OK|n` with its newline.
const HEAD_BYTES: usize = 16;

/// Reads a range. What is read so far is held in `portion`.
pub async fn range<S: Store>(store: &S, first: Bytes, end: Bytes, portion: &mut Portion) -> Vec<u8> {
    // With room for what goes before the lines once their number is known.
    let (mut items, mut lines) = (0, Vec::with_capacity(HEAD_BYTES));
    let mut request = ScanRequest { start: first, end, ..ScanRequest::default() };
    loop {
        let page = match store.scan(request.clone()).await {
            Ok(page) => page,
            Err(failure) => return answer::failed(&failure),
        };
        for item in &page.items {
            let before = lines.len();
            put_line(&mut lines, [&item.key, &item.value]);
            items += 1;
            if items > 1 && (items > MOST_ITEMS || lines.len() > MOST_BYTES) {
                lines.truncate(before);
                return too_large(items - 1, &item.key);
            }
        }
        if portion.resize(lines.capacity()).is_err() {
            return answer::error(
                Code::Busy,
                "the node's connections hold too much together: try again later",
            );
        }
        if page.cursor.is_empty() {
            break;
        }
        request.cursor = page.cursor;
    }
    // In place: the answer may be as large as an answer can be, and is there once.
    lines.splice(0..0, answer::count(items));
    lines
}

/// Names the key at which the range is to be cut in two.
fn too_large(before: usize, key: &[u8]) -> Vec<u8> {
    let mut cut = Vec::new();
    escape(key, &mut cut);
    let message = format!(
        "an answer holds {MOST_ITEMS} items and {} MiB: ask for the {before} items before the key that follows, then \
         from it on: ",
        MOST_BYTES >> 20
    );
    let mut answer = format!("ERROR|{}|{message}", Code::RangeTooLarge.word()).into_bytes();
    answer.extend_from_slice(&cut);
    answer.push(b'\n');
    answer
}
