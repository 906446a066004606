//! What an import says when it ends, and how it can be gone on with.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::ledger::{Counts, Ledger, Trouble};
use crate::exit::Exit;
use crate::item_file::Spot;
use crate::output::note;
use crate::quantity::{show_bytes, show_count};

/// Says that all is done.
pub fn say_done(counts: Counts, took: Duration) {
    let seconds = took.as_secs_f64();
    let rate = show_count(((counts.imported + counts.present) as f64 / seconds.max(0.001)) as u64);
    note(format_args!("{}, {} in {seconds:.1} s ({rate}/s)", describe(counts), show_bytes(counts.bytes)));
}

/// Says why it stopped, what is done, and how to go on.
pub fn say_stopped(file: &Path, ledger: &Ledger, can_resume: bool, interrupted: bool) -> Exit {
    let (counts, name) = (ledger.counts(), file.display());
    match ledger.take_trouble() {
        Some(Trouble::File(fault)) => note(format_args!("error: {name}: {fault}")),
        Some(Trouble::Item(spot, error)) => note(format_args!("error: {name}: {spot}: {error}")),
        Some(Trouble::Cluster(error)) => note(format_args!("error: {error}")),
        None if interrupted => note("interrupted"),
        None => note("error: the reader of the file has failed"),
    }
    note(describe(counts));
    let to = ledger.done_to();
    let before = match ledger.spot(to) {
        Spot::Line(line) => format!("every item before line {line} is in the table"),
        Spot::Block(byte) => format!("every item before byte {byte} is in the table"),
    };
    note(match (can_resume, ledger.spot(to)) {
        (true, _) => format!("{before}; to go on: the same command with --resume"),
        (false, Spot::Line(line)) => format!("{before}; to go on: the same command with --from-line {line}"),
        (false, Spot::Block(_)) => format!("{before}; to go on, import it from a file"),
    });
    if counts.unknown > 0 { Exit::Unknown } else { Exit::Failed }
}

/// The counts for programs.
pub fn counts_json(counts: Counts, took: Duration) -> Value {
    json!({
        "imported": counts.imported,
        "present": counts.present,
        "skipped": counts.skipped,
        "unknown": counts.unknown,
        "bytes": counts.bytes,
        "seconds": took.as_secs_f64(),
    })
}

fn describe(counts: Counts) -> String {
    let others = [
        (counts.present, "were there already"),
        (counts.skipped, "left out"),
        (counts.unknown, "may be in the table or not"),
    ];
    let others = others.into_iter().filter(|(count, _)| *count > 0);
    let others = others.map(|(count, what)| format!(", {} {what}", show_count(count)));
    std::iter::once(format!("{} imported", show_count(counts.imported))).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_not_counted_as_imported() {
        let counts = Counts { imported: 1_200, unknown: 3, skipped: 1, ..Counts::default() };
        assert_eq!(describe(counts), "1,200 imported, 1 left out, 3 may be in the table or not");
        assert_eq!(describe(Counts::default()), "0 imported");
    }
}
