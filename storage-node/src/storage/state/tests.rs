//! Snapshots between databases on disk, and what a crash leaves of one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use placement::{Bucket, BucketRange, PartitionId, TableId};
use tempfile::TempDir;

use super::{Changes, MemoryState, RocksState, RocksStateOptions, StateEngine, StateView};
use crate::config::Compression;
use crate::storage::keys::{self, GroupRecord, KeyRange};

const GROUP: PartitionId = PartitionId(5);
const TABLE: TableId = TableId(2);

fn open(folder: &Path, export_file_bytes: u64) -> Arc<RocksState> {
    let sizes = RocksStateOptions { export_file_bytes, ..RocksStateOptions::default() };
    RocksState::open(&folder.join("state"), sizes).unwrap()
}

fn buckets(first: u16, last: u16) -> BucketRange {
    BucketRange { first: Bucket(first), last: Bucket(last) }
}

/// What the group owns: its records, and two of four buckets of a table.
fn ranges() -> [KeyRange; 2] {
    [keys::records_of(GROUP), keys::data_of(TABLE, buckets(1, 2))]
}

fn write(state: &dyn StateEngine, keys: impl IntoIterator<Item = Bytes>, value: &'static [u8]) {
    let mut changes = Changes::default();
    keys.into_iter().for_each(|key| changes.put(key, Bytes::from_static(value)));
    state.write(changes).unwrap();
}

fn all(state: &dyn StateView) -> BTreeMap<Bytes, Bytes> {
    let everything = KeyRange { start: Bytes::new(), end: Bytes::from_static(&[0xFF; 16]) };
    let mut walk = state.iterate(&everything, false).unwrap();
    let mut found = BTreeMap::new();
    while let Some((key, value)) = walk.current() {
        found.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        walk.advance().unwrap();
    }
    found
}

fn owned(key: &Bytes) -> bool {
    ranges().iter().any(|range| range.start <= *key && *key < range.end)
}

fn part(of: &BTreeMap<Bytes, Bytes>, inside: bool) -> BTreeMap<Bytes, Bytes> {
    of.iter()
        .filter(|(key, _)| owned(key) == inside)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Keys of the group and of its neighbours on all sides: other buckets of the table, other
/// tables, other groups' records and the first and last keys of each range.
fn some_of_everything(step: usize) -> Vec<Bytes> {
    let mut found = Vec::new();
    for table in [TableId(1), TABLE, TableId(3)] {
        for bucket in 0..4 {
            for number in (0..60).step_by(step) {
                found.push(keys::item(table, Bucket(bucket), format!("key-{number:03}").as_bytes()));
                found.push(keys::expiry(table, Bucket(bucket), number as u64, b"key"));
            }
        }
    }
    for group in [4, 5, 6] {
        found.push(keys::group_record(PartitionId(group), GroupRecord::Progress));
        found.push(keys::session(PartitionId(group), &[step as u8; 16]));
    }
    found.push(keys::item(TABLE, Bucket(0), &[0xFF; 40]));
    found.push(keys::item(TABLE, Bucket(3), b""));
    found.push(ranges()[1].start.clone());
    found
}

#[test]
fn a_snapshot_replaces_its_own_ranges_and_nothing_else() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    // The smallest files hold an item each; the largest hold all.
    for file_bytes in [1, 500, 64 << 20] {
        let (source, target) = (open(folders[0].path(), file_bytes), open(folders[1].path(), file_bytes));
        write(&*source, some_of_everything(2), b"new");
        write(&*target, some_of_everything(3), b"old");
        target.flush().unwrap();
        // Some of it is in memtables still, and somebody reads an older state meanwhile.
        write(&*target, some_of_everything(5), b"older");
        let reader = target.pin();
        let before = all(&*target);
        assert!(part(&before, true).len() > 10 && part(&before, false).len() > 10);

        let pinned = source.pin();
        write(&*source, some_of_everything(1), b"after the pin");
        let scratch = TempDir::new().unwrap();
        let files = pinned.export(&ranges(), scratch.path()).unwrap();
        assert!(if file_bytes > 1000 { files.len() == 2 } else { files.len() > 10 }, "{}", files.len());
        target.replace(&files).unwrap();

        let after = all(&*target);
        assert_eq!(part(&after, true), part(&all(&*pinned), true));
        assert_eq!(part(&after, false), part(&before, false));
        assert_eq!(all(&*reader), before, "whoever pinned the state before sees it as it was");
        // It was on disk at once, the neighbours included.
        for (key, value) in &after {
            assert_eq!(target.get_flushed(key).unwrap().as_ref(), Some(value));
        }
        // What is written later counts, inside the ranges too.
        let first = keys::item(TABLE, Bucket(1), b"key-000");
        write(&*target, [first.clone()], b"later");
        assert_eq!(target.get(&first).unwrap().unwrap(), "later");

        drop((reader, pinned, source, target));
        let target = open(folders[1].path(), file_bytes);
        let mut expected = after;
        expected.insert(first, Bytes::from_static(b"later"));
        assert_eq!(all(&*target), expected);
    }
}

#[test]
fn an_empty_group_empties_its_ranges() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (source, target) = (open(folders[0].path(), 500), open(folders[1].path(), 500));
    write(&*target, some_of_everything(1), b"old");
    let before = all(&*target);
    let scratch = TempDir::new().unwrap();
    let files = source.pin().export(&ranges(), scratch.path()).unwrap();
    target.replace(&files).unwrap();
    assert_eq!(all(&*target), part(&before, false));
}

/// A file that cannot be taken in leaves all as it was: the ranges change in one step.
#[test]
fn files_are_taken_in_together_or_not_at_all() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (source, target) = (open(folders[0].path(), 200), open(folders[1].path(), 200));
    write(&*source, some_of_everything(1), b"new");
    write(&*target, some_of_everything(2), b"old");
    let before = all(&*target);
    let scratch = TempDir::new().unwrap();
    let files = source.pin().export(&ranges(), scratch.path()).unwrap();
    std::fs::write(files.last().unwrap(), b"no sorted file").unwrap();
    assert!(target.replace(&files).is_err());
    assert_eq!(all(&*target), before);
    drop(target);
    assert_eq!(all(&*open(folders[1].path(), 200)), before);
}

#[test]
fn what_is_not_flushed_does_not_count_as_it() {
    let folder = TempDir::new().unwrap();
    for state in [open(folder.path(), 500) as Arc<dyn StateEngine>, MemoryState::new()] {
        let key = keys::group_record(GROUP, GroupRecord::Progress);
        write(&*state, [key.clone()], b"1");
        assert_eq!(state.get_flushed(&key).unwrap(), None);
        state.flush().unwrap();
        assert_eq!(state.get_flushed(&key).unwrap().unwrap(), "1");
        write(&*state, [key.clone()], b"2");
        assert_eq!(state.get_flushed(&key).unwrap().unwrap(), "1");
        assert_eq!(state.get(&key).unwrap().unwrap(), "2");
        let mut changes = Changes::default();
        changes.delete_range(keys::records_of(GROUP));
        state.write(changes).unwrap();
        assert_eq!(state.get_flushed(&key).unwrap().unwrap(), "1", "nor does a deletion");
        state.flush().unwrap();
        assert_eq!(state.get_flushed(&key).unwrap(), None);
    }
}

#[test]
fn both_kinds_of_state_take_the_same_snapshot() {
    let (source, target) = (MemoryState::new(), MemoryState::new());
    write(&*source, some_of_everything(2), b"new");
    write(&*target, some_of_everything(3), b"old");
    let before = all(&*target);
    let scratch = TempDir::new().unwrap();
    let files = source.pin().export(&ranges(), scratch.path()).unwrap();
    target.replace(&files).unwrap();
    assert_eq!(part(&all(&*target), true), part(&all(&*source), true));
    assert_eq!(part(&all(&*target), false), part(&before, false));
    target.crash();
    assert_eq!(part(&all(&*target), true), part(&all(&*source), true), "it is on disk at once");
}

const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

/// Writes what can be compressed, as files of a snapshot: other files are not compressed as long as
/// there are few of them.
fn take_in_files(state: &RocksState) {
    let text = b"{\"name\":\"a name\",\"note\":\"a note\"}".repeat(100);
    let mut changes = Changes::default();
    some_of_everything(1).into_iter().for_each(|key| changes.put(key, text.clone().into()));
    state.write(changes).unwrap();
    let scratch = TempDir::new().unwrap();
    let files = state.pin().export(&ranges(), scratch.path()).unwrap();
    state.replace(&files).unwrap();
}

#[test]
fn every_choice_opens_and_keeps_what_it_is_given() {
    for compression in COMPRESSIONS {
        for choice in 0..16_u64 {
            let chosen = RocksStateOptions {
                compression,
                bloom_bits: if choice & 1 == 0 { 0 } else { 10 },
                memory_mapped_reads: choice & 2 == 0,
                lends_write_buffers: choice & 4 == 0,
                background_bytes_per_second: (choice & 8) << 27,
                ..RocksStateOptions::default()
            };
            let folder = TempDir::new().unwrap();
            let before = {
                let state = RocksState::open(folder.path(), chosen).unwrap();
                take_in_files(&state);
                write(&*state, some_of_everything(3), b"new");
                all(&*state)
            };
            let state = RocksState::open(folder.path(), chosen).unwrap();
            assert_eq!(all(&*state), before, "{chosen:?}");
            for (key, value) in &before {
                assert_eq!(state.get(key).unwrap().as_ref(), Some(value), "{chosen:?}");
            }
            assert_eq!(state.get(b"no such key").unwrap(), None, "{chosen:?}");
        }
    }
}

#[test]
fn files_are_read_however_they_were_compressed() {
    for first in COMPRESSIONS {
        for second in COMPRESSIONS {
            let folder = TempDir::new().unwrap();
            let open = |compression| {
                let chosen = RocksStateOptions { compression, ..RocksStateOptions::default() };
                RocksState::open(folder.path(), chosen).unwrap()
            };
            let before = {
                let state = open(first);
                take_in_files(&state);
                all(&*state)
            };
            let state = open(second);
            assert_eq!(all(&*state), before, "{first:?}, then {second:?}");
            write(&*state, some_of_everything(2), b"new");
            state.flush().unwrap();
            drop(state);
            let mut expected = before;
            expected.extend(some_of_everything(2).into_iter().map(|key| (key, Bytes::from_static(b"new"))));
            assert_eq!(all(&*open(first)), expected);
        }
    }
}

#[test]
fn files_are_as_small_as_was_chosen() {
    let bytes = COMPRESSIONS.map(|compression| {
        let folder = TempDir::new().unwrap();
        let chosen = RocksStateOptions { compression, ..RocksStateOptions::default() };
        let state = RocksState::open(folder.path(), chosen).unwrap();
        for _ in 0..3 {
            take_in_files(&state);
        }
        state.compact();
        state.file_bytes()
    });
    // So little data is only compressed where everything is.
    assert!(bytes[0].abs_diff(bytes[1]) * 100 < bytes[0], "{bytes:?}");
    assert!(bytes[2] * 5 < bytes[0], "{bytes:?}");
}

/// A cache that lends the memtables' room counts them as its own.
#[test]
fn memtables_are_counted_into_a_cache_that_lends_their_room() {
    for lends_write_buffers in [false, true] {
        let folder = TempDir::new().unwrap();
        let chosen = RocksStateOptions { lends_write_buffers, ..RocksStateOptions::default() };
        let state = RocksState::open(folder.path(), chosen).unwrap();
        let mut changes = Changes::default();
        changes.put(Bytes::from_static(b"key"), vec![7; 8 << 20].into());
        state.write(changes).unwrap();
        assert_eq!(state.block_cache_bytes() > 8 << 20, lends_write_buffers);
        state.flush().unwrap();
        assert!(state.memtable_bytes() < 8 << 20);
    }
}
