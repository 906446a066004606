//! Judges RocksDB's write-ahead files before RocksDB reads them.
//!
//! RocksDB must cut a record that a crash tore, and must not cut one that was acknowledged.
//! Left alone it cannot tell them apart in every case. With `TolerateCorruptedTailRecords` a
//! changed length in the last 32 KiB of a file ends recovery in silence, zeros drop the rest
//! of their block in silence, and a changed type can end recovery or turn it round for ever.
//! With `AbsoluteConsistency` a torn record is an error.
//!
//! So the files are read here first, by a rule that follows from how the log is written: each
//! batch is synced before the next one begins. Only the last record of the last file can be
//! torn, and it is cut off; damage with the beginning of a later record behind it, or in an
//! earlier file, refuses. What is left is then clean, and RocksDB opens it with
//! `AbsoluteConsistency`, as a second judge. The one thing that no reader can know is whether
//! a damaged *very last* record had been synced.
//!
//! A file is blocks of 32 KiB, which records do not cross; a batch that needs more room is
//! split into fragments:
//!
//! ```text
//! masked crc32c u32 │ length u16 │ type u8 (1 full, 2 first, 3 middle, 4 last) │ payload
//! ```
//!
//! Integers are little-endian; the checksum covers type and payload. A batch begins with its
//! sequence number (u64), by which a later batch is known from a chance pattern in a value.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::LogError;

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Checks every write-ahead file of a database that nobody has open, and cuts a torn record
/// off the last one.
pub fn check_and_cut(folder: &Path) -> Result<(), LogError> {
    let files = write_ahead_files(folder)?;
    let count = files.len();
    for (at, file) in files.into_iter().enumerate() {
        let failed = |source| LogError::File { path: file.clone(), source };
        let Some(damage) = examine(&mut File::open(&file).map_err(failed)?).map_err(failed)? else {
            continue;
        };
        if damage.later_record || at + 1 < count {
            return Err(LogError::Damaged { file, offset: damage.offset, what: damage.what });
        }
        tracing::warn!(
            file = %file.display(), offset = damage.record_start, what = damage.what,
            "cutting off the last record of the log, which a crash left unfinished"
        );
        let open = OpenOptions::new().write(true).open(&file).map_err(failed)?;
        open.set_len(damage.record_start).and_then(|()| open.sync_all()).map_err(failed)?;
    }
    Ok(())
}

/// The write-ahead files of a database, oldest first.
pub fn write_ahead_files(folder: &Path) -> Result<Vec<PathBuf>, LogError> {
    let failed = |source| LogError::File { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for item in fs::read_dir(folder).map_err(failed)? {
        let path = item.map_err(failed)?.path();
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (Some(number), Some("log")) = (number, path.extension().and_then(|end| end.to_str())) {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// The first thing wrong in a file.
#[derive(Debug, PartialEq, Eq)]
struct Damage {
    /// Where.
    offset: u64,
    /// Where the record begins that it is in: a file cut here is whole.
    record_start: u64,
    what: &'static str,
    /// Whether a record follows that was written after this one had been synced.
    later_record: bool,
}

/// Reads a file to its end.
fn examine(file: &mut impl Read) -> io::Result<Option<Damage>> {
    let mut block = vec![0; BLOCK];
    let mut block_start = 0;
    // Where the fragmented record began whose end has not come yet.
    let mut unfinished = None;
    let mut sequence = None;
    let mut damage: Option<Damage> = None;
    loop {
        let filled = fill(file, &mut block)?;
        let bytes = block.get(..filled).unwrap_or_default();
        let mut at = 0;
        while damage.is_none() && at < bytes.len() {
            let offset = block_start + at as u64;
            let rest = bytes.get(at..).unwrap_or_default();
            if filled == BLOCK && rest.len() < HEADER {
                // Too short for a header: filled up with zeros.
                break;
            }
            let wrong = match (Fragment::parse(rest), unfinished) {
                (Err(what), _) => Some(what),
                (Ok(fragment), None) if matches!(fragment.kind, MIDDLE | LAST) => {
                    Some("a record without its beginning")
                }
                (Ok(fragment), Some(_)) if !matches!(fragment.kind, MIDDLE | LAST) => {
                    Some("a record without its end")
                }
                (Ok(fragment), _) => {
                    match fragment.kind {
                        FIRST => unfinished = Some(offset),
                        LAST => unfinished = None,
                        _ => {}
                    }
                    sequence = fragment.sequence().or(sequence);
                    at += HEADER + fragment.payload.len();
                    None
                }
            };
            if let Some(what) = wrong {
                let record_start = unfinished.unwrap_or(offset);
                damage = Some(Damage { offset, record_start, what, later_record: false });
                // A beginning where an end was due is itself the later record, so the
                // search starts with the damaged bytes.
            }
        }
        if let Some(damage) = &mut damage {
            damage.later_record |= holds_later_record(bytes.get(at..).unwrap_or_default(), sequence);
        }
        if filled < BLOCK || damage.as_ref().is_some_and(|damage| damage.later_record) {
            break;
        }
        block_start += filled as u64;
    }
    Ok(damage.or(unfinished.map(|offset| Damage {
        offset,
        record_start: offset,
        what: "a record without its end",
        later_record: false,
    })))
}

/// Whether a batch with a greater sequence number begins anywhere in the bytes. They are
/// tried one by one, because behind damage no length can be trusted.
fn holds_later_record(bytes: &[u8], sequence: Option<u64>) -> bool {
    (0..bytes.len()).any(|at| {
        let Some(rest) = bytes.get(at..) else { return false };
        // The type is looked at first, which spares nearly every checksum.
        matches!(rest.get(6), Some(&(FULL | FIRST)))
            && Fragment::parse(rest).is_ok_and(|fragment| fragment.sequence() > sequence)
    })
}

/// One record of a block.
struct Fragment<'a> {
    kind: u8,
    payload: &'a [u8],
}

impl<'a> Fragment<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let &[a, b, c, d, low, high, kind, ref rest @ ..] = bytes else { return Err("a header cut short") };
        let payload =
            rest.get(..usize::from(u16::from_le_bytes([low, high]))).ok_or("a length beyond its block")?;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
        if u32::from_le_bytes([a, b, c, d]) != masked(checksum) {
            return Err("a checksum that does not match");
        }
        Ok(Self { kind, payload })
    }

    /// The sequence number of the batch that begins here.
    fn sequence(&self) -> Option<u64> {
        let number = self.payload.first_chunk::<8>()?;
        matches!(self.kind, FULL | FIRST).then(|| u64::from_le_bytes(*number))
    }
}

/// How RocksDB stores a checksum, so that the checksum of checksums is a good one too.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn fill(file: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = block.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
