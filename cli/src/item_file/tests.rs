//! What is written is read again, in every format.

use std::io::{Cursor, Write as _};

use proptest::prelude::*;

use super::*;

const FORMATS: [FileFormat; 3] = [FileFormat::Jsonl, FileFormat::Csv, FileFormat::Binary];

fn any_item() -> impl Strategy<Value = FileItem> {
    let bytes = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "[a-z,\"\r\n\\\\ä€\u{1}]{0,40}".prop_map(String::into_bytes),
        ]
    };
    let content = prop_oneof![Just(ContentKind::Bytes), Just(ContentKind::Text), Just(ContentKind::Json)];
    (bytes(), bytes(), content, prop::option::of(0..u64::from(u32::MAX))).prop_map(
        |(mut key, value, content, ttl_ms)| {
            key.push(b'k');
            FileItem { key: key.into(), value: value.into(), content, ttl_ms }
        },
    )
}

fn written(format: FileFormat, items: &[FileItem], pauses: usize) -> Vec<u8> {
    let (mut writer, mut out) = (format.writer(0), Vec::new());
    writer.begin(&mut out);
    for (at, item) in items.iter().enumerate() {
        writer.write(item, &mut out);
        if at % pauses == 0 {
            writer.pause(&mut out);
        }
    }
    writer.finish(&mut out);
    out
}

fn all_of(mut reader: Box<dyn ItemReader>) -> Vec<(Place, FileItem)> {
    let mut found = Vec::new();
    loop {
        let place = reader.place();
        match reader.next_item().unwrap() {
            Some(item) => found.push((place, item)),
            None => return found,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(items in prop::collection::vec(any_item(), 0..20), pauses in 1..9_usize) {
        for format in FORMATS {
            let file = written(format, &items, pauses);
            let found = all_of(format.read_stream(Cursor::new(file)).unwrap());
            let found: Vec<_> = found.into_iter().map(|(_, item)| item).collect();
            prop_assert_eq!(&found, &items, "{:?}", format);
        }
    }

    #[test]
    fn reading_goes_on_at_every_place(items in prop::collection::vec(any_item(), 1..12), pauses in 1..4_usize) {
        for format in FORMATS {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&written(format, &items, pauses)).unwrap();
            let read = |from| all_of(format.read_file(file.try_clone().unwrap(), from).unwrap());
            for (place, _) in read(None) {
                let rest = read(Some(place));
                let first = items.len() - rest.len();
                let rest: Vec<_> = rest.into_iter().map(|(_, item)| item).collect();
                prop_assert_eq!(&rest[..], &items[first..], "{:?} {:?}", format, place);
                prop_assert!(format != FileFormat::Binary || place.number == first as u64);
            }
        }
    }

    #[test]
    fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for format in FORMATS {
            let Ok(mut reader) = format.read_stream(Cursor::new(bytes.clone())) else { continue };
            for _ in 0..300 {
                match reader.next_item() {
                    Ok(None) | Err(Fault::File { .. } | Fault::Io(_)) => break,
                    Ok(Some(_)) | Err(Fault::Item { .. }) => {}
                }
            }
        }
    }
}

#[test]
fn names_tell_the_format() {
    for (name, format) in [
        ("a.jsonl", Some(FileFormat::Jsonl)),
        ("a.b.ndjson", Some(FileFormat::Jsonl)),
        ("/x/a.csv", Some(FileFormat::Csv)),
        ("a.trilith", Some(FileFormat::Binary)),
        ("a.txt", None),
        ("-", None),
    ] {
        assert_eq!(FileFormat::of_name(Path::new(name)), format, "{name}");
    }
}
