//! Reading a partition's items, outside the log.

use bytes::Bytes;
use placement::Bucket;
use proto::v1::{ScanPage, ScanPageRequest};

use super::descriptor::Descriptor;
use super::overlay::{damaged, read_item};
use super::selection::Selection;
use crate::storage::item::{self, StoredItem};
use crate::storage::keys::{self, KeyRange};
use crate::storage::state::{StateIterator, StateResult, StateView};

/// What a read found, by the clock of the partition.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// The item.
    Item(StoredItem),
    /// Nothing.
    Nothing,
    /// An item that has ended by the leader's clock, though the partition's has not come so
    /// far: it must, before this may be called nothing.
    Ending,
}

/// Reads a key by two clocks: the partition's, and the leader's, which may be ahead. A stale
/// read gives the partition's for both.
pub fn read_key(
    state: &dyn StateView,
    descriptor: &Descriptor,
    key: &[u8],
    clock_ms: u64,
    leader_ms: u64,
) -> StateResult<Found> {
    let Some(bucket) = descriptor.bucket_of(key) else { return Ok(Found::Nothing) };
    Ok(match read_item(state, descriptor.table, bucket, key)? {
        None => Found::Nothing,
        Some(item) if item.is_due(clock_ms) => Found::Nothing,
        Some(item) if item.is_due(leader_ms) => Found::Ending,
        Some(item) => Found::Item(item),
    })
}

/// One page of a scan over the partition's part of the table, in key order. Items that have
/// ended by the clock are passed over.
pub fn scan_page(
    state: &dyn StateView,
    descriptor: &Descriptor,
    request: &ScanPageRequest,
    clock_ms: u64,
) -> StateResult<ScanPage> {
    let only = request.bucket.and_then(|bucket| u16::try_from(bucket).ok()).map(Bucket);
    let mut runs = Vec::new();
    for bucket in descriptor.buckets.iter().filter(|bucket| only.is_none_or(|only| only == *bucket)) {
        let mut run = state.iterate(&run_of(descriptor, bucket, request), request.reverse)?;
        if let Some(hash) = request.after_hash.filter(|_| only.is_some()) {
            run = after_hash(state, descriptor, bucket, request, run, hash)?;
        }
        if run.current().is_some() {
            runs.push(run);
        }
    }
    let mut page = ScanPage::default();
    let mut selection = match Selection::of_page(request) {
        Ok(selection) => selection,
        Err(refused) => return Ok(ScanPage { failure: Some(refused), ..page }),
    };
    let (mut bytes, mut looked_at) = (0, Vec::new());
    if request.count_only {
        for mut run in runs {
            while let Some((key, value)) = run.current() {
                let head = StoredItem::decode_head(value)
                    .map_err(|why| damaged(descriptor.table, keys::user_key(key), &why))?;
                page.count += u64::from(!item::is_due(head.1, clock_ms));
                run.advance()?;
            }
        }
        return Ok(page);
    }
    while let Some(next) = front(&runs, request.reverse) {
        let Some(run) = runs.get_mut(next) else { break };
        if let Some((key, value)) = run.current() {
            let key = keys::user_key(key);
            let head = StoredItem::decode_head(value).map_err(|why| damaged(descriptor.table, key, &why))?;
            if !item::is_due(head.1, clock_ms) {
                let full = page.items.len() as u64 == request.limit || bytes >= request.max_bytes;
                if full || selection.has_done_enough() {
                    page.more = true;
                    page.looked_at = looked_at.into();
                    return Ok(page);
                }
                let stored = StoredItem::decode(Bytes::copy_from_slice(value))
                    .map_err(|why| damaged(descriptor.table, key, &why))?;
                let picked = if selection.is_on() {
                    looked_at.clear();
                    looked_at.extend_from_slice(key);
                    selection.pick(stored)
                } else {
                    Some(stored)
                };
                if let Some(picked) = picked {
                    let key = Bytes::copy_from_slice(key);
                    let shown = match request.keys_only {
                        true => picked.outline(key, clock_ms),
                        false => picked.show(key, clock_ms),
                    };
                    bytes += (shown.key.len() + shown.value.len()) as u64 + 32;
                    page.items.push(shown);
                }
            }
        }
        run.advance()?;
        if run.current().is_none() {
            runs.swap_remove(next);
        }
    }
    Ok(page)
}

/// The length of the hash by which a scan remembers a key that it cannot name. With a bucket it
/// fits into the whole numbers that every language has.
pub const HASH_BITS: u32 = 42;

/// The hash of a key, never 0.
pub fn key_hash(key: &[u8]) -> u64 {
    // FNV-1a; its high bits, which depend on every byte, are folded onto the low ones.
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ((hash ^ hash >> HASH_BITS) & ((1 << HASH_BITS) - 1)).max(1)
}

/// A walk that begins after the first key with that hash, or at the beginning if there is none:
/// then the key was removed meanwhile, and showing others again is better than leaving some out.
fn after_hash<'a>(
    state: &'a dyn StateView,
    descriptor: &Descriptor,
    bucket: Bucket,
    request: &ScanPageRequest,
    mut run: Box<dyn StateIterator + 'a>,
    hash: u64,
) -> StateResult<Box<dyn StateIterator + 'a>> {
    while let Some((key, _)) = run.current() {
        let found = key_hash(keys::user_key(key)) == hash;
        run.advance()?;
        if found {
            return Ok(run);
        }
    }
    state.iterate(&run_of(descriptor, bucket, request), request.reverse)
}

/// The part of a bucket that a scan asks for.
fn run_of(descriptor: &Descriptor, bucket: Bucket, request: &ScanPageRequest) -> KeyRange {
    let whole = keys::items_of(descriptor.table, bucket);
    let start = keys::item(descriptor.table, bucket, &request.start);
    let end = match request.end.is_empty() {
        true => whole.end,
        false => keys::item(descriptor.table, bucket, &request.end),
    };
    // Bounds the wrong way round hold nothing; RocksDB must not be asked for them.
    if start > end { KeyRange { start: end.clone(), end } } else { KeyRange { start, end } }
}

/// The run whose key comes next.
fn front(runs: &[Box<dyn StateIterator + '_>], reverse: bool) -> Option<usize> {
    let keyed = runs.iter().enumerate().filter_map(|(at, run)| Some((keys::user_key(run.current()?.0), at)));
    if reverse { keyed.max().map(|(_, at)| at) } else { keyed.min().map(|(_, at)| at) }
}
