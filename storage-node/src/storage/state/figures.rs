//! The figures of `docs/tuning.md`, which says how to get them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use placement::{Bucket, TableId};
use tempfile::TempDir;

use super::{Changes, RocksState, RocksStateOptions, StateEngine, StateView};
use crate::config::Compression;
use crate::seams::clock;
use crate::storage::keys;

const ITEMS: u64 = 1_000_000;
const READ_FOR: Duration = Duration::from_secs(4);
/// A tenth of the data.
const CACHE_BYTES: usize = 64 << 20;

/// Numbers that are spread evenly and are the same in each run.
fn spread(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn key(number: u64) -> Bytes {
    keys::item(TableId(1), Bucket((number % 64) as u16), format!("order:{:016x}", spread(number)).as_bytes())
}

/// An order as shops keep them: names that repeat, numbers that do not.
fn value(number: u64) -> Bytes {
    let pick = |salt: u64, among: &[&'static str]| {
        among[(spread(number ^ (salt << 40)) % among.len() as u64) as usize]
    };
    let lines: Vec<String> = (0..4)
        .map(|line| {
            let random = spread(number * 8 + line);
            let what = pick(line, &["bolt M6", "hinge, brass", "drawer slide 400", "wood screw", "felt pad"]);
            format!(
                r#"{{"sku":"{:08x}","name":"{what}","quantity":{},"cents":{}}}"#,
                random as u32,
                random % 9 + 1,
                random % 20_000
            )
        })
        .collect();
    let city = pick(7, &["Hamburg", "Lyon", "Porto", "Gdańsk", "Aarhus", "Turin", "Graz"]);
    let state = pick(8, &["paid", "packed", "shipped", "returned"]);
    format!(
        r#"{{"order":"{:016x}","customer":{},"city":"{city}","state":"{state}","placed":"2025-{:02}-{:02}T{:02}:{:02}:00Z","lines":[{}]}}"#,
        spread(number),
        spread(number ^ 1) % 500_000,
        number % 12 + 1,
        number % 28 + 1,
        number % 24,
        number % 60,
        lines.join(",")
    )
    .into()
}

fn filled(folder: &TempDir, chosen: RocksStateOptions) -> (Arc<RocksState>, u64) {
    let state = RocksState::open(folder.path(), chosen).unwrap();
    let mut given = 0;
    for first in (0..ITEMS).step_by(1_000) {
        let mut changes = Changes::default();
        for number in first..first + 1_000 {
            changes.put(key(number), value(number));
        }
        given += changes.bytes() as u64;
        state.write(changes).unwrap();
    }
    state.flush().unwrap();
    (state, given)
}

/// Reads keys in a random order, and says how many in a second.
fn reads_per_second(state: &RocksState, key: impl Fn(u64) -> Bytes, there: bool) -> u64 {
    let (began, mut count) = (clock::now(), 0);
    while began.elapsed() < READ_FOR {
        for _ in 0..1_000 {
            count += 1;
            assert_eq!(state.get(&key(spread(count) % ITEMS)).unwrap().is_some(), there);
        }
    }
    (count as f64 / began.elapsed().as_secs_f64()) as u64
}

#[test]
#[ignore = "it measures, for two minutes"]
fn figures_of_compression_and_mapped_reads() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let chosen =
            RocksStateOptions { compression, block_cache_bytes: CACHE_BYTES, ..RocksStateOptions::default() };
        let folder = TempDir::new().unwrap();
        let began = clock::now();
        let (state, given) = filled(&folder, chosen);
        state.compact();
        let (took, files) = (began.elapsed().as_secs_f64(), state.file_bytes());
        drop(state);
        let name = compression.name();
        let ratio = given as f64 / files as f64;
        println!(
            "{name}: {} MB became {} MB, {ratio:.2} to 1, in {took:.1} s",
            given / 1_000_000,
            files / 1_000_000
        );
        // Twice, so that what the machine does meanwhile shows.
        for memory_mapped_reads in [false, true, false, true] {
            let chosen = RocksStateOptions { memory_mapped_reads, ..chosen };
            let state = RocksState::open(folder.path(), chosen).unwrap();
            let reads = reads_per_second(&state, key, true);
            println!("{name}, mapped {memory_mapped_reads}: {reads} reads/s");
        }
    }
}

#[test]
#[ignore = "it measures, for a minute"]
fn figures_of_filters() {
    for bloom_bits in [0, 10, 16] {
        let chosen = RocksStateOptions {
            bloom_bits,
            block_cache_bytes: CACHE_BYTES,
            write_buffer_bytes: 16 << 20,
            ..RocksStateOptions::default()
        };
        let folder = TempDir::new().unwrap();
        let (state, _) = filled(&folder, chosen);
        let missing = |number| {
            let there = key(number);
            [&there[..], b"?"].concat().into()
        };
        let misses = reads_per_second(&state, missing, false);
        let hits = reads_per_second(&state, key, true);
        println!("{bloom_bits} bits: {misses} reads/s of keys that are not there, {hits} of keys that are");
    }
}
