//! Bytes as they arrive at the text door: whatever the pieces, the lines are the same, nothing
//! over the limits is held, and what was understood is written and read back.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../storage-node/src/doors/text/command.rs"]
mod command;
#[path = "../../storage-node/src/doors/text/line.rs"]
mod line;

use command::Command;
use line::{Event, LineReader, escape};

const LINE_BYTES: usize = 256;
const LINE_FIELDS: usize = 9;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, arrived) = input;
    let whole = read(arrived, arrived.len().max(1));
    assert_eq!(whole, read(arrived, usize::from(piece).max(1)));
    for event in whole {
        let Event::Line(Ok(line)) = event else { continue };
        assert!(line.bytes.len() <= LINE_BYTES && line.ends.len() <= LINE_FIELDS);
        let mut written = Vec::new();
        for (at, field) in line.fields().enumerate() {
            if at > 0 {
                written.push(b'|');
            }
            escape(field, &mut written);
        }
        written.push(b'\n');
        assert_eq!(read(&written, written.len()), [Event::Line(Ok(line.clone()))]);
        match Command::of(line) {
            Ok(Command::Batch(pairs)) => assert!(!pairs.is_empty()),
            Ok(_) => {}
            Err(none) => assert!(!none.to_string().is_empty()),
        }
    }
});

fn read(arrived: &[u8], piece: usize) -> Vec<Event> {
    let mut reader = LineReader::new(LINE_BYTES, LINE_FIELDS);
    let mut events = Vec::new();
    for mut rest in arrived.chunks(piece) {
        while !rest.is_empty() {
            let (taken, event) = reader.feed(rest);
            assert!(taken > 0 || matches!(event, Some(Event::Junk(_))));
            assert!(reader.held() <= 4 * (LINE_BYTES + 8 * LINE_FIELDS));
            rest = rest.get(taken..).expect("it takes no more than there is");
            events.extend(event);
            if matches!(events.last(), Some(Event::Junk(_))) {
                return events;
            }
        }
    }
    events
}
