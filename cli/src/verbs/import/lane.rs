//! Lanes: a run of slots each, so that the items of one key stay in the order of the file, and
//! partitions are written side by side.

use std::sync::Arc;

use client::{Answer, Error, Operation, Table};
use placement::Slot;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::ledger::{Counts, Ledger, Trouble};
use crate::item_file::Place;
use crate::output::note;

/// A chunk is sent with the item that passes one of these: as much as a node takes into one entry
/// of its log.
pub const CHUNK_ITEMS: usize = 1000;
/// See [`CHUNK_ITEMS`].
pub const CHUNK_BYTES: usize = 512 << 10;

/// Items that are sent together.
#[derive(Debug)]
pub struct Chunk {
    /// Its number in the ledger.
    pub number: u64,
    /// Where each operation comes from.
    pub places: Vec<Place>,
    /// What to do.
    pub operations: Vec<Operation>,
    /// Its share of what may be under way, given back when it is dropped.
    pub room: Option<OwnedSemaphorePermit>,
}

/// What sends the chunks of some slots, one after the other.
#[derive(Debug)]
pub struct Lane {
    /// Where they are written.
    pub table: Table,
    /// Where it is said what came of them.
    pub ledger: Arc<Ledger>,
    /// Told when nothing more shall be sent.
    pub stop: watch::Sender<bool>,
    /// Whether items that the table cannot hold are left out.
    pub skip_bad: bool,
}

/// The lane of a key.
pub fn lane_of(key: &[u8], lanes: usize) -> usize {
    usize::from(Slot::of_key(key).number()) * lanes / usize::from(Slot::COUNT)
}

impl Lane {
    /// Sends what comes until there is no more, or nothing more shall be sent.
    pub async fn run(self, mut chunks: mpsc::Receiver<Chunk>) {
        let mut stopped = self.stop.subscribe();
        loop {
            let chunk = tokio::select! {
                biased;
                () = async { drop(stopped.wait_for(|stop| *stop).await) } => return,
                chunk = chunks.recv() => chunk,
            };
            let Some(chunk) = chunk else { return };
            self.send(chunk).await;
        }
    }

    async fn send(&self, chunk: Chunk) {
        let Chunk { number, places, operations, room } = chunk;
        let mut results = self.table.batch(operations.clone()).await.results;
        // One item that the table cannot hold refuses all that travel with it.
        if operations.len() > 1 && results.iter().any(is_of_the_item) {
            for (operation, result) in operations.iter().zip(&mut results) {
                if is_of_the_item(result) {
                    let alone = self.table.batch(vec![operation.clone()]).await.results.pop();
                    *result = alone.unwrap_or_else(|| Err(Error::Internal("no result".to_owned())));
                }
            }
        }
        let (mut counts, mut left) = (Counts::default(), None);
        for ((place, operation), result) in places.iter().zip(&operations).zip(results) {
            match result {
                Ok(Answer::Put(put)) if !put.applied => counts.present += 1,
                Ok(_) => {
                    counts.imported += 1;
                    counts.bytes += bytes_of(operation);
                }
                Err(error) => {
                    let trouble = match is_refusal(&error) {
                        true if self.skip_bad => {
                            note(format_args!("{}: {error}: left out", self.ledger.spot(*place)));
                            counts.skipped += 1;
                            continue;
                        }
                        true => Trouble::Item(self.ledger.spot(*place), error),
                        false => Trouble::Cluster(error),
                    };
                    counts.unknown += u64::from(trouble.is_unknown());
                    left.get_or_insert(*place);
                    self.ledger.fail(*place, trouble);
                }
            }
        }
        let failed = left.is_some();
        self.ledger.close_chunk(number, counts, left);
        if failed {
            self.stop.send_replace(true);
        }
        drop(room);
    }
}

/// The bytes of key and value.
fn bytes_of(operation: &Operation) -> u64 {
    match operation {
        Operation::Put { key, value, .. } => (key.len() + value.len()) as u64,
        _ => 0,
    }
}

fn is_of_the_item(result: &Result<Answer, Error>) -> bool {
    result.as_ref().is_err_and(is_refusal)
}

/// Whether the item itself is refused, whoever is asked and whenever.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::OverLimit { .. } | Error::InvalidArgument(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_lane_and_all_lanes_are_used() {
        let mut used = [0; 16];
        for n in 0..10_000 {
            used[lane_of(format!("key-{n}").as_bytes(), 16)] += 1;
        }
        assert!(used.iter().all(|count| *count > 400), "{used:?}");
        assert_eq!(lane_of(b"{tag}a", 16), lane_of(b"{tag}b", 16));
    }
}
