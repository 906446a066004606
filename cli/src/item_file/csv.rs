//! Comma-separated values: a header that names the columns, then a record an item.

use std::borrow::Cow;
use std::io::{self, BufRead, Seek, SeekFrom};

use super::csv_record::{CsvRecord, Fed, write_field};
use super::lines::{Line, Lines};
use super::place::{Fault, Place, Spot};
use super::{FileItem, ItemReader, ItemWriter, LONGEST_TEXT};
use crate::duration::parse_duration;
use crate::json::{self, Encoding};

const HEADER: &[u8] = b"key,value,ttl,content,key_encoding,value_encoding\r\n";
/// What some programs put before a file in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads items.
#[derive(Debug)]
pub struct CsvReader<R> {
    lines: Lines<R>,
    columns: Columns,
    record: CsvRecord,
}

/// Writes items.
#[derive(Debug)]
pub struct CsvWriter;

/// Which field of a record is what.
#[derive(Debug, Default)]
struct Columns {
    key: Option<usize>,
    value: Option<usize>,
    ttl: Option<usize>,
    content: Option<usize>,
    key_encoding: Option<usize>,
    value_encoding: Option<usize>,
    count: usize,
}

impl<R: BufRead> CsvReader<R> {
    /// From the beginning of an input, where its header is.
    pub fn begin(input: R) -> Result<Self, Fault> {
        let lines = Lines::at(input, Place::FIRST);
        let mut reader = Self { lines, columns: Columns::default(), record: CsvRecord::default() };
        let at = Spot::Line(1);
        let unlike = |why: String| Fault::File { at, why };
        match reader.read_record() {
            Ok(Some(_)) => reader.columns = Columns::of(&reader.record).map_err(unlike)?,
            Ok(None) => return Err(unlike("there is no header, such as: key,value".to_owned())),
            Err(Fault::Item { why, .. }) => return Err(unlike(format!("the header is broken: {why}"))),
            Err(fault) => return Err(fault),
        }
        Ok(reader)
    }

    /// Reads the next record that is not an empty line, and says where it is; none at the end.
    fn read_record(&mut self) -> Result<Option<Spot>, Fault> {
        self.record.clear();
        let mut at = None;
        loop {
            let spot = *at.get_or_insert(Spot::Line(self.lines.place().number));
            let bad = |why: &str| Fault::Item { at: spot, why: why.to_owned() };
            let first = self.lines.place().offset == 0;
            match self.lines.next_line()? {
                Line::End if self.record.is_open() => return Err(bad("a quoted field is not closed")),
                Line::End => return Ok(None),
                Line::TooLong => return Err(bad("the record is longer than any item")),
                Line::Text(b"\n" | b"\r\n") if !self.record.is_open() => at = None,
                Line::Text(text) => {
                    let text = if first { text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text) } else { text };
                    if self.record.feed(text).map_err(bad)? == Fed::Whole {
                        return Ok(Some(spot));
                    }
                    if self.record.len() > LONGEST_TEXT {
                        return Err(bad("the record is longer than any item: is a quote not closed?"));
                    }
                }
            }
        }
    }
}

impl<R: BufRead + Seek> CsvReader<R> {
    /// Goes on at another place than after the header.
    pub fn go_on_at(&mut self, place: Place) -> io::Result<()> {
        if place.offset > 0 {
            self.lines.moved(place).seek(SeekFrom::Start(place.offset))?;
        }
        Ok(())
    }
}

impl<R: BufRead + Send> ItemReader for CsvReader<R> {
    fn next_item(&mut self) -> Result<Option<FileItem>, Fault> {
        let Some(at) = self.read_record()? else { return Ok(None) };
        self.columns.item(&self.record).map(Some).map_err(|why| Fault::Item { at, why })
    }

    fn place(&self) -> Place {
        self.lines.place()
    }
}

impl Columns {
    fn of(header: &CsvRecord) -> Result<Self, String> {
        let mut columns = Self { count: header.fields(), ..Self::default() };
        for at in 0..header.fields() {
            let name = String::from_utf8_lossy(header.field(at).unwrap_or_default());
            let column = match name.as_ref() {
                "key" => &mut columns.key,
                "value" => &mut columns.value,
                "ttl" => &mut columns.ttl,
                "content" => &mut columns.content,
                "key_encoding" => &mut columns.key_encoding,
                "value_encoding" => &mut columns.value_encoding,
                _ => {
                    return Err(format!(
                        "the header has a column {name:?}: there are key, value, ttl, content, \
                         key_encoding and value_encoding"
                    ));
                }
            };
            if column.replace(at).is_some() {
                return Err(format!("the header has the column {name:?} twice"));
            }
        }
        if columns.key.is_none() || columns.value.is_none() {
            return Err("the header needs a column `key` and a column `value`".to_owned());
        }
        Ok(columns)
    }

    fn item(&self, record: &CsvRecord) -> Result<FileItem, String> {
        if record.fields() != self.count {
            return Err(format!("it has {} fields where the header has {}", record.fields(), self.count));
        }
        let field = |column: Option<usize>| column.and_then(|at| record.field(at)).unwrap_or_default();
        let word = |column: Option<usize>, what: &str| {
            std::str::from_utf8(field(column)).map_err(|_| format!("the {what} is not UTF-8"))
        };
        let text = |column: Option<usize>, encoding: Option<usize>, what: &str| {
            match Encoding::named(word(encoding, "encoding")?)? {
                // Fields that say nothing may hold any bytes, as they may in other programs.
                Encoding::Text => Ok(bytes::Bytes::copy_from_slice(field(column))),
                encoding @ Encoding::Base64 => encoding.decode(what, Cow::Borrowed(word(column, what)?)),
            }
        };
        let key = text(self.key, self.key_encoding, "key")?;
        let value = text(self.value, self.value_encoding, "value")?;
        let ttl_ms = match word(self.ttl, "ttl")? {
            "" => None,
            "0ms" => Some(0),
            ttl => Some(parse_duration(ttl)?.as_millis() as u64),
        };
        let content = match word(self.content, "content")? {
            "" => client::ContentKind::Bytes,
            name => json::content_named(name)?,
        };
        FileItem { key, value, content, ttl_ms }.checked()
    }
}

impl ItemWriter for CsvWriter {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(HEADER);
    }

    fn write(&mut self, item: &FileItem, out: &mut Vec<u8>) {
        let (key, key_encoding) = Encoding::encode(&item.key);
        let (value, value_encoding) = Encoding::encode(&item.value);
        let ttl = item.ttl_ms.map(|ttl| format!("{ttl}ms")).unwrap_or_default();
        let content = json::content_unless_bytes(item.content).unwrap_or_default();
        write_field(key.as_bytes(), out);
        out.push(b',');
        write_field(value.as_bytes(), out);
        for word in [&ttl, content, key_encoding.name_unless_text(), value_encoding.name_unless_text()] {
            out.push(b',');
            out.extend_from_slice(word.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    fn pause(&mut self, _out: &mut Vec<u8>) {}

    fn finish(&mut self, _out: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use client::ContentKind;

    use super::*;

    fn read(text: &str) -> Result<Vec<Result<FileItem, String>>, String> {
        let mut reader =
            CsvReader::begin(io::Cursor::new(text.as_bytes().to_vec())).map_err(|fault| fault.to_string())?;
        let next = std::iter::from_fn(move || reader.next_item().transpose());
        Ok(next.map(|item| item.map_err(|fault| fault.to_string())).collect())
    }

    #[test]
    fn columns_come_in_any_order() {
        let found = read("\u{feff}value,ttl,key,content\n\"a\nb\",1h,k,json\n\nplain,,l,\n").unwrap();
        let first = FileItem {
            key: "k".into(),
            value: "a\nb".into(),
            content: ContentKind::Json,
            ttl_ms: Some(3_600_000),
        };
        let second = FileItem { key: "l".into(), value: "plain".into(), ..FileItem::default() };
        assert_eq!(found, [Ok(first), Ok(second)]);
    }

    #[test]
    fn a_wrong_header_is_refused() {
        for (header, part) in [
            ("", "no header"),
            ("key\n", "needs a column"),
            ("key,value,vlaue\n", "\"vlaue\""),
            ("key,value,key\n", "twice"),
            ("key,va\"lue\n", "header is broken"),
        ] {
            let why = read(header).unwrap_err();
            assert!(why.contains(part), "{header}: {why}");
        }
    }

    #[test]
    fn a_wrong_record_is_named_and_the_next_is_read() {
        for (record, part) in [
            ("k", "line 2: it has 1 fields"),
            ("k,v,", "3 fields"),
            (",v", "key is empty"),
            ("k,v\"", "line 2: a field has a quote"),
        ] {
            let found = read(&format!("key,value\n{record}\nk,v\n")).unwrap();
            assert!(found[0].clone().unwrap_err().contains(part), "{record}: {found:?}");
            assert!(found[1].is_ok() && found.len() == 2, "{record}: {found:?}");
        }
        let found = read("key,value\na,\"1\n2\"\nk,\"v\nk,v\n").unwrap();
        assert!(found[0].is_ok(), "{found:?}");
        assert!(found[1].clone().unwrap_err().contains("line 4: a quoted field is not closed"), "{found:?}");
    }

    #[test]
    fn a_place_is_gone_on_with() {
        let text = "key,value\na,\"1\n2\"\nb,2\n";
        let mut reader = CsvReader::begin(io::Cursor::new(text)).unwrap();
        reader.next_item().unwrap();
        let place = reader.place();
        assert_eq!(place, Place { offset: 18, number: 4 });
        let mut again = CsvReader::begin(io::Cursor::new(text)).unwrap();
        again.go_on_at(place).unwrap();
        assert_eq!(again.next_item().unwrap().unwrap().key, "b");
    }
}
