//! What a log on disk does after crashes and damage.

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use placement::ReplicaId;
use tempfile::TempDir;

use super::engine::{LogEngine, Record};
use super::error::LogError;
use super::keys;
use super::rocks::RocksEngine;
use super::wal;
use super::{Log, LogOptions};
use crate::raft::type_config::{Entry, EntryData, LogId};

const REPLICA: ReplicaId = ReplicaId(7);
const MEMTABLE: usize = 1 << 20;
/// Set for the child that is to abort.
const CHILD: &str = "TRILITH_TEST_FAILING_DISK";

fn entry(index: u64, size: usize) -> Entry {
    // Bytes that differ, so that damage anywhere in them would be seen.
    let data: Vec<u8> = (0..size).map(|at| (at as u64 ^ index) as u8).collect();
    Entry::new(LogId::new_term_index(3, index), EntryPayload::Normal(EntryData(Bytes::from(data))))
}

fn append(engine: &RocksEngine, index: u64, size: usize) {
    engine.write(&[Record::Append { replica: REPLICA, entries: vec![entry(index, size)] }]).unwrap();
}

fn open(folder: &Path) -> Result<RocksEngine, LogError> {
    RocksEngine::open(folder, MEMTABLE)
}

/// A log with synced entries of the given sizes, closed without a flush.
fn written(sizes: impl IntoIterator<Item = usize>) -> (TempDir, PathBuf, u64) {
    let folder = TempDir::new().unwrap();
    let engine = open(folder.path()).unwrap();
    let mut count = 0;
    for size in sizes {
        append(&engine, count, size);
        count += 1;
    }
    drop(engine);
    let files = wal::write_ahead_files(folder.path()).unwrap();
    let [file] = &files[..] else { panic!("one write-ahead file, not {files:?}") };
    let file = file.clone();
    (folder, file, count)
}

fn flip(file: &Path, at: u64, bits: u8) {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ bits], at).unwrap();
}

fn indexes(engine: &RocksEngine) -> Vec<u64> {
    let entries = engine.read_entries(REPLICA, 0..u64::MAX, usize::MAX).unwrap();
    for (at, read) in entries.iter().enumerate() {
        assert_eq!(read.payload, entry(at as u64, payload_size(read)).payload);
    }
    entries.iter().map(|entry| entry.log_id.index()).collect()
}

fn payload_size(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(data) => data.0.len(),
        _ => 0,
    }
}

/// Where each record's header begins, found by its distance: all records are of one size.
fn headers(file: &Path, count: u64, size: usize) -> Vec<u64> {
    let bytes = fs::read(file).unwrap();
    // Each batch holds its entry's key, which nothing else does.
    let found = (0..count).map(|index| {
        let key = keys::entry_key(REPLICA, index);
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
        // Header 7, sequence 8, count 4, tag 1, length of the key 1.
        (at - 21) as u64
    });
    let found: Vec<u64> = found.collect();
    assert!(found.windows(2).all(|pair| pair[1] - pair[0] > size as u64));
    found
}

#[test]
fn a_flipped_byte_in_the_middle_refuses_and_names_the_file() {
    let (folder, file, _) = written((0..400).map(|_| 300));
    let length = fs::metadata(&file).unwrap().len();
    flip(&file, length / 2, 0x40);
    let before = fs::read(&file).unwrap();
    let Err(error) = open(folder.path()) else { panic!("opened a damaged log") };
    assert!(matches!(&error, LogError::Damaged { file: named, .. } if *named == file), "{error}");
    assert!(error.to_string().contains(file.to_str().unwrap()));
    assert!(error.to_string().contains("join"), "says what to do: {error}");
    assert_eq!(fs::read(&file).unwrap(), before, "nothing was cut");
}

/// Why the files are judged before RocksDB reads them: by itself it opens this log, without
/// entries that were synced.
#[test]
fn rocksdb_alone_loses_synced_records_behind_a_changed_length_or_zeros() {
    let tolerant = |damage: &dyn Fn(&Path, u64)| {
        let (folder, file, count) = written((0..30).map(|_| 100));
        damage(&file, headers(&file, count, 100)[15]);
        let mut options = rocksdb::Options::default();
        options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::TolerateCorruptedTailRecords);
        let database = rocksdb::DB::open(&options, folder.path()).unwrap();
        let held =
            (0..count).filter(|index| database.get(keys::entry_key(REPLICA, *index)).unwrap().is_some());
        held.count()
    };
    // The high byte of the length: the record seems to go on beyond the file.
    assert_eq!(tolerant(&|file, record| flip(file, record + 5, 0x80)), 15);
    let zeros = |file: &Path, record| {
        fs::OpenOptions::new().write(true).open(file).unwrap().write_all_at(&[0; 100], record).unwrap();
    };
    assert_eq!(tolerant(&zeros), 15);
}

#[test]
fn no_flipped_bit_before_the_last_record_is_taken_for_a_torn_tail() {
    let (folder, file, count) = written((0..30).map(|_| 100));
    let headers = headers(&file, count, 100);
    let clean = fs::read(&file).unwrap();
    let last = headers[headers.len() - 1];
    // Every byte of a header and of the payload's beginning, at three places of the block.
    for record in [headers[0], headers[15], headers[28]] {
        for at in record..record + 24 {
            for bit in 0..8 {
                flip(&file, at, 1 << bit);
                let refused = matches!(wal::check_and_cut(folder.path()), Err(LogError::Damaged { .. }));
                assert!(refused, "bit {bit} of byte {} of a record", at - record);
                flip(&file, at, 1 << bit);
            }
        }
    }
    // A page of zeros, which a disk may make of one that it lost.
    let zeros = vec![0; 300];
    let damaged = fs::OpenOptions::new().write(true).open(&file).unwrap();
    damaged.write_all_at(&zeros, headers[10]).unwrap();
    assert!(matches!(wal::check_and_cut(folder.path()), Err(LogError::Damaged { .. })));
    damaged.write_all_at(&clean, 0).unwrap();
    wal::check_and_cut(folder.path()).unwrap();
    assert!(fs::metadata(&file).unwrap().len() > last);
}

#[test]
fn a_torn_last_record_is_cut_wherever_it_was_torn() {
    // The last entry spans several blocks.
    let sizes = || (0..20).map(|_| 300).chain([100_000]);
    let (_folder, file, _) = written(sizes());
    let length = fs::metadata(&file).unwrap().len();
    for lost in [1, 5, 40_000, 99_990] {
        let (folder, file, count) = written(sizes());
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length - lost).unwrap();
        let engine = open(folder.path()).unwrap();
        assert_eq!(indexes(&engine), (0..count - 1).collect::<Vec<_>>(), "{lost} bytes lost");
        // The next run goes on where the cut was made.
        append(&engine, count - 1, 50);
        drop(engine);
        assert_eq!(indexes(&open(folder.path()).unwrap()), (0..count).collect::<Vec<_>>());
    }
}

#[test]
fn a_last_record_with_pages_missing_in_its_middle_is_cut() {
    let (folder, file, count) = written((0..20).map(|_| 300).chain([100_000]));
    let damaged = fs::OpenOptions::new().write(true).open(&file).unwrap();
    damaged.write_all_at(&[0; 4096], 40_960).unwrap();
    assert_eq!(indexes(&open(folder.path()).unwrap()), (0..count - 1).collect::<Vec<_>>());
}

#[test]
fn zeros_behind_the_last_record_are_cut() {
    let (folder, file, count) = written((0..20).map(|_| 300));
    let length = fs::metadata(&file).unwrap().len();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length + 50_000).unwrap();
    assert_eq!(indexes(&open(folder.path()).unwrap()), (0..count).collect::<Vec<_>>());
}

#[test]
fn damage_at_the_end_of_an_earlier_file_refuses() {
    let folder = TempDir::new().unwrap();
    let engine = open(folder.path()).unwrap();
    // Two files: the first buffer is full, and waits for a second one to be merged with.
    for index in 0..14 {
        append(&engine, index, 100_000);
    }
    drop(engine);
    let files = wal::write_ahead_files(folder.path()).unwrap();
    assert!(files.len() > 1, "{files:?}");
    let length = fs::metadata(&files[0]).unwrap().len();
    flip(&files[0], length - 1, 1);
    let Err(error) = open(folder.path()) else { panic!("opened a damaged log") };
    assert!(matches!(&error, LogError::Damaged { file, .. } if *file == files[0]), "{error}");
    flip(&files[0], length - 1, 1);
    assert_eq!(indexes(&open(folder.path()).unwrap()).len(), 14);
}

#[test]
fn a_missing_or_shortened_earlier_file_refuses() {
    let folder = TempDir::new().unwrap();
    let engine = open(folder.path()).unwrap();
    for index in 0..14 {
        append(&engine, index, 100_000);
    }
    drop(engine);
    let files = wal::write_ahead_files(folder.path()).unwrap();
    assert!(files.len() > 1, "{files:?}");
    let away = folder.path().join("kept-aside");
    fs::rename(&files[0], &away).unwrap();
    let Err(error) = open(folder.path()) else { panic!("opened a log without its oldest file") };
    assert!(matches!(error, LogError::Open { .. }), "{error}");
    fs::rename(&away, &files[0]).unwrap();
    assert_eq!(indexes(&open(folder.path()).unwrap()).len(), 14);
}

#[test]
fn a_flipped_byte_in_a_sorted_file_is_refused_and_named() {
    let (folder, ..) = written((0..200).map(|_| 1000));
    // Opening flushes what the write-ahead file held.
    drop(open(folder.path()).unwrap());
    let sorted = fs::read_dir(folder.path()).unwrap().map(|item| item.unwrap().path());
    let sorted: Vec<_> = sorted.filter(|path| path.extension().is_some_and(|end| end == "sst")).collect();
    let [file] = &sorted[..] else { panic!("one sorted file, not {sorted:?}") };
    flip(file, fs::metadata(file).unwrap().len() / 2, 0x10);
    let read = open(folder.path()).and_then(|engine| engine.read_entries(REPLICA, 0..u64::MAX, usize::MAX));
    let error = read.unwrap_err();
    let text = format!("{error} {:?}", std::error::Error::source(&error));
    assert!(text.contains(file.file_name().unwrap().to_str().unwrap()), "{text}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (folder, ..) = written([10]);
    let database = rocksdb::DB::open_default(folder.path()).unwrap();
    database.put(keys::FORMAT_KEY, 9u32.to_be_bytes()).unwrap();
    drop(database);
    let Err(error) = open(folder.path()) else { panic!("opened a newer format") };
    assert!(matches!(error, LogError::Format { found: 9, known: 1, .. }), "{error}");
}

#[test]
fn another_database_is_not_taken_for_a_log() {
    let folder = TempDir::new().unwrap();
    let database = rocksdb::DB::open_default(folder.path()).unwrap();
    database.put(b"something", b"else").unwrap();
    drop(database);
    assert!(matches!(open(folder.path()), Err(LogError::NotALog { .. })));
}

#[test]
fn a_folder_has_one_owner() {
    let folder = TempDir::new().unwrap();
    let first = open(folder.path()).unwrap();
    let Err(error) = open(folder.path()) else { panic!("opened twice") };
    assert!(matches!(error, LogError::InUse { .. }), "{error}");
    drop(first);
    open(folder.path()).unwrap();
}

/// A disk that fails.
struct FailingEngine;

impl LogEngine for FailingEngine {
    fn write(&self, _: &[Record]) -> Result<(), LogError> {
        Err(LogError::Closed)
    }

    fn read_entries(&self, _: ReplicaId, _: std::ops::Range<u64>, _: usize) -> Result<Vec<Entry>, LogError> {
        Ok(Vec::new())
    }

    fn positions(&self, _: ReplicaId) -> Result<super::engine::Positions, LogError> {
        Ok(super::engine::Positions::default())
    }

    fn replica_records(&self) -> Result<Vec<super::engine::ReplicaRecord>, LogError> {
        Ok(Vec::new())
    }

    fn replicas(&self) -> Result<Vec<ReplicaId>, LogError> {
        Ok(Vec::new())
    }

    fn reads_block(&self) -> bool {
        false
    }
}

/// The child runs this test again, with a disk that fails.
#[tokio::test]
async fn a_failed_write_stops_the_process() {
    if std::env::var_os(CHILD).is_some() {
        let log = Log::with_engine(std::sync::Arc::new(FailingEngine), &LogOptions::default()).unwrap();
        let answer = log.put_replica_record(super::tests::record(1)).await;
        panic!("went on with {answer:?}");
    }
    let this = "storage::log::crash_tests::a_failed_write_stops_the_process";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    // SIGABRT
    assert_eq!(child.status.signal(), Some(6), "{}", String::from_utf8_lossy(&child.stdout));
}
