//! Blocks of items with checksums. All numbers are big-endian.
//!
//! ```text
//! file   magic "TRILITH\n" │ version u32 │ block … │ end
//! block  1 u8 │ length u32 │ items before u64 │ CRC32C u32 │ item …      (length bytes of items)
//! end    2 u8 │ 0 u32      │ all items u64    │ CRC32C u32
//! item   flags u8 │ key length u32 │ value length u32 │ [ttl in ms u64] │ key │ value
//! ```
//!
//! A checksum is of its block, what stands before the checksum included. The count before each block shows
//! one that is missing or twice, and without the end a file is not whole.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use bytes::{Buf as _, BufMut as _, Bytes};
use client::ContentKind;

use super::place::{Fault, Place, Spot};
use super::{FileItem, ItemReader, ItemWriter, LARGEST_ITEM};

const MAGIC: &[u8; 8] = b"TRILITH\n";
/// What this program writes and reads.
const VERSION: u32 = 1;
/// Magic and version.
const FILE_HEAD: usize = 12;
/// What stands before the items of a block.
const BLOCK_HEAD: usize = 17;
/// What of it the checksum covers.
const CHECKED_HEAD: usize = 13;
const BLOCK: u8 = 1;
const END: u8 = 2;
/// A block ends with the item that passes this.
const BLOCK_BYTES: usize = 128 << 10;
/// No block is longer: the largest item may be its last.
const LONGEST_BLOCK: usize = BLOCK_BYTES + LARGEST_ITEM + ITEM_HEAD;
/// The most that stands before an item's key.
const ITEM_HEAD: usize = 17;
/// Of the flags: the content kind, and whether there is a ttl.
const CONTENT: u8 = 0b011;
const HAS_TTL: u8 = 0b100;

/// Reads items.
#[derive(Debug)]
pub struct BlockReader<R> {
    input: R,
    /// What is left of the block.
    items: Bytes,
    /// The block, or the next one where nothing is left of it.
    block: Place,
    /// Where the next one begins.
    next: Place,
    /// Whether the count of the items before the next block is known.
    counted: bool,
    ended: bool,
}

/// Writes items.
#[derive(Debug)]
pub struct BlockWriter {
    items: Vec<u8>,
    /// How many are in it.
    count: u64,
    /// How many are before it.
    before: u64,
}

impl<R: BufRead> BlockReader<R> {
    /// From the beginning of an input.
    pub fn begin(mut input: R) -> Result<Self, Fault> {
        let mut head = [0; FILE_HEAD];
        let at = Spot::Block(0);
        read_exactly(&mut input, &mut head, at)?;
        let (magic, mut version) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Fault::File { at, why: "this is no binary file of `trilith export`".to_owned() });
        }
        let version = version.get_u32();
        if version != VERSION {
            let why = format!("the file has format version {version}; this program reads {VERSION}");
            return Err(Fault::File { at, why });
        }
        let first = Place { offset: FILE_HEAD as u64, number: 0 };
        Ok(Self { input, items: Bytes::new(), block: first, next: first, counted: true, ended: false })
    }

    /// Reads the next block; none at the end.
    fn read_block(&mut self) -> Result<Option<Bytes>, Fault> {
        let at = Spot::Block(self.next.offset);
        let wrong = |why: String| Fault::File { at, why };
        let mut head = [0; BLOCK_HEAD];
        read_exactly(&mut self.input, &mut head, at)?;
        let mut fields = &head[..];
        let (kind, length) = (fields.get_u8(), fields.get_u32() as usize);
        let (before, checksum) = (fields.get_u64(), fields.get_u32());
        if length > LONGEST_BLOCK {
            return Err(wrong(format!("it is damaged: its length of {length} bytes cannot be")));
        }
        let mut items = vec![0; length];
        read_exactly(&mut self.input, &mut items, at)?;
        let (checked, _) = head.split_at(CHECKED_HEAD);
        let actual = crc32c::crc32c_append(crc32c::crc32c(checked), &items);
        if actual != checksum {
            let why = format!("it is damaged: its checksum is {checksum:08x}, its bytes have {actual:08x}");
            return Err(wrong(why));
        }
        if self.counted && before != self.next.number {
            let count = self.next.number;
            return Err(wrong(format!(
                "blocks are missing or twice: {before} items should be before it, and {count} are"
            )));
        }
        (self.counted, self.next.number) = (true, before);
        match kind {
            BLOCK => {
                self.block = self.next;
                self.next.offset += (BLOCK_HEAD + length) as u64;
                Ok(Some(items.into()))
            }
            END if self.input.fill_buf()?.is_empty() => Ok(None),
            END => Err(wrong("the file ends here, and yet something follows".to_owned())),
            _ => Err(wrong(format!("a block of kind {kind} is none that this program knows"))),
        }
    }
}

impl<R: BufRead + Seek> BlockReader<R> {
    /// Goes on at a block.
    pub fn go_on_at(&mut self, place: Place) -> io::Result<()> {
        if place.offset > 0 {
            self.input.seek(SeekFrom::Start(place.offset))?;
            (self.block, self.next) = (place, place);
            self.counted = false;
        }
        Ok(())
    }
}

impl<R: BufRead + Send> ItemReader for BlockReader<R> {
    fn next_item(&mut self) -> Result<Option<FileItem>, Fault> {
        while self.items.is_empty() {
            if self.ended {
                return Ok(None);
            }
            match self.read_block()? {
                Some(items) => self.items = items,
                None => self.ended = true,
            }
        }
        let item = take_item(&mut self.items).and_then(|item| item.checked());
        let at = Spot::Block(self.block.offset);
        let item = item.map_err(|why| Fault::File { at, why })?;
        self.next.number += 1;
        Ok(Some(item))
    }

    fn place(&self) -> Place {
        if self.items.is_empty() { self.next } else { self.block }
    }
}

impl BlockWriter {
    /// A writer of a file that has so many items already.
    pub fn after(items: u64) -> Self {
        Self { items: Vec::new(), count: 0, before: items }
    }

    fn write_block(&mut self, kind: u8, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u8(kind);
        out.put_u32(self.items.len() as u32);
        out.put_u64(self.before);
        let head = crc32c::crc32c(out.get(start..).unwrap_or_default());
        out.put_u32(crc32c::crc32c_append(head, &self.items));
        out.extend_from_slice(&self.items);
        self.before += self.count;
        self.count = 0;
        self.items.clear();
    }
}

impl ItemWriter for BlockWriter {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.put_slice(MAGIC);
        out.put_u32(VERSION);
    }

    fn write(&mut self, item: &FileItem, out: &mut Vec<u8>) {
        let ttl = if item.ttl_ms.is_some() { HAS_TTL } else { 0 };
        self.items.put_u8(item.content as u8 & CONTENT | ttl);
        self.items.put_u32(item.key.len() as u32);
        self.items.put_u32(item.value.len() as u32);
        if let Some(ttl) = item.ttl_ms {
            self.items.put_u64(ttl);
        }
        self.items.put_slice(&item.key);
        self.items.put_slice(&item.value);
        self.count += 1;
        if self.items.len() >= BLOCK_BYTES {
            self.pause(out);
        }
    }

    fn pause(&mut self, out: &mut Vec<u8>) {
        if self.count > 0 {
            self.write_block(BLOCK, out);
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.pause(out);
        self.write_block(END, out);
    }
}

/// Takes an item off a block whose checksum is right.
fn take_item(block: &mut Bytes) -> Result<FileItem, String> {
    let short = |_| "an item in it is cut short".to_owned();
    let flags = block.try_get_u8().map_err(short)?;
    let key = block.try_get_u32().map_err(short)? as usize;
    let value = block.try_get_u32().map_err(short)? as usize;
    let has_ttl = flags & HAS_TTL != 0;
    let ttl_ms = has_ttl.then(|| block.try_get_u64()).transpose().map_err(short)?;
    let content =
        ContentKind::try_from(i32::from(flags & CONTENT)).ok().filter(|_| flags <= CONTENT | HAS_TTL);
    let content = content.ok_or_else(|| format!("an item in it has flags {flags:#04x}, which are none"))?;
    if key.saturating_add(value) > block.len() {
        return Err("an item in it is cut short".to_owned());
    }
    Ok(FileItem { key: block.split_to(key), value: block.split_to(value), content, ttl_ms })
}

fn read_exactly(input: &mut impl Read, to: &mut [u8], at: Spot) -> Result<(), Fault> {
    input.read_exact(to).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::File {
            at,
            why: "the file is cut short here: its end is missing, which says that it is whole".to_owned(),
        },
        _ => Fault::Io(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<FileItem> {
        let large =
            FileItem { key: "large".into(), value: vec![7; BLOCK_BYTES].into(), ..FileItem::default() };
        let small = |n: u8| FileItem {
            key: vec![n, 0xff].into(),
            value: vec![n; usize::from(n)].into(),
            content: ContentKind::Json,
            ttl_ms: n.is_multiple_of(2).then_some(u64::from(n)),
        };
        (1..4).map(small).chain([large]).chain((4..6).map(small)).collect()
    }

    fn file() -> Vec<u8> {
        let (mut writer, mut out) = (BlockWriter::after(0), Vec::new());
        writer.begin(&mut out);
        items().iter().for_each(|item| writer.write(item, &mut out));
        writer.finish(&mut out);
        out
    }

    fn read(file: &[u8]) -> Result<Vec<FileItem>, String> {
        let mut reader = BlockReader::begin(file).map_err(|fault| fault.to_string())?;
        let next = std::iter::from_fn(move || reader.next_item().transpose());
        next.map(|item| item.map_err(|fault| fault.to_string())).collect()
    }

    #[test]
    fn the_layout_is_this_one() {
        let (mut writer, mut out) = (BlockWriter::after(0), Vec::new());
        writer.begin(&mut out);
        writer.write(
            &FileItem { key: "k".into(), value: "v".into(), ttl_ms: Some(5), ..FileItem::default() },
            &mut out,
        );
        writer.finish(&mut out);
        let (head, rest) = out.split_at(FILE_HEAD);
        assert_eq!(head, b"TRILITH\n\0\0\0\x01");
        let (block, rest) = rest.split_at(CHECKED_HEAD);
        assert_eq!(block, [1, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rest[4..23], *b"\x04\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\x05kv");
        assert_eq!(rest[23..36], [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(rest.len(), 40);
    }

    #[test]
    fn every_truncation_is_noticed() {
        let file = file();
        assert_eq!(read(&file), Ok(items()));
        // All of them where something begins or ends, and some within the large value.
        for length in
            (0..400).chain((400..file.len() - 400).step_by(4099)).chain(file.len() - 400..file.len())
        {
            let why = read(&file[..length]).unwrap_err();
            assert!(why.contains("cut short"), "{length}: {why}");
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let file = file();
        for at in (0..400).chain((400..file.len() - 400).step_by(4099)).chain(file.len() - 400..file.len()) {
            for bits in [0x01, 0x80, 0xff] {
                let mut damaged = file.clone();
                damaged[at] ^= bits;
                assert!(read(&damaged).is_err(), "byte {at} with {bits:02x}");
            }
        }
    }

    #[test]
    fn blocks_that_are_missing_or_too_many_are_noticed() {
        let file = file();
        let first =
            FILE_HEAD..FILE_HEAD + BLOCK_HEAD + u32::from_be_bytes(file[13..17].try_into().unwrap()) as usize;
        let without = [&file[..first.start], &file[first.end..]].concat();
        assert!(read(&without).unwrap_err().contains("missing or twice"));
        let twice = [&file[..first.end], &file[first.start..]].concat();
        assert!(read(&twice).unwrap_err().contains("missing or twice"));
        assert!(read(&[&file[..], b"\0"].concat()).unwrap_err().contains("something follows"));
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_number() {
        let mut newer = file();
        newer[11] = 9;
        assert!(read(&newer).unwrap_err().contains("version 9; this program reads 1"));
        assert!(read(b"{\"key\":\"k\",\"value\":\"v\"}").unwrap_err().contains("no binary file"));
    }

    #[test]
    fn a_block_is_gone_on_with() {
        let file = file();
        let mut reader = BlockReader::begin(io::Cursor::new(file.clone())).unwrap();
        while reader.next_item().unwrap().unwrap().key != "large" {}
        let place = reader.place();
        assert_eq!(place.number, 4);
        let mut again = BlockReader::begin(io::Cursor::new(file)).unwrap();
        again.go_on_at(place).unwrap();
        let rest: Vec<_> = std::iter::from_fn(|| again.next_item().unwrap()).collect();
        assert_eq!(rest, items()[4..]);
    }
}
