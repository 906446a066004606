//! What a line asks for. Nothing is known here of tables, limits or the cluster.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;

use super::line::Line;

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `PING`
    Ping,
    /// `PUT|key|value`
    Put(Bytes, Bytes),
    /// `GET|key`
    Get(Bytes),
    /// `DELETE|key`
    Delete(Bytes),
    /// `RANGE|first|end`: keys from the first up to but without the end; empty: open.
    Range(Bytes, Bytes),
    /// `BATCH|key|value|key|value…`: each key once, with the value that it is left with.
    Batch(Vec<(Bytes, Bytes)>),
    /// `CLUSTER_STATUS`
    ClusterStatus,
    /// `CLUSTER_NODES`
    ClusterNodes,
    /// `CLUSTER_LEADER`
    ClusterLeader,
}

/// A line that is none of the commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCommand {
    /// No such command.
    Unknown,
    /// Too few fields or too many for this command; how it is written.
    Fields(&'static str),
}

impl Command {
    /// The command of a line.
    pub fn of(line: Line) -> Result<Self, NoCommand> {
        let Line { bytes, ends } = line;
        let bytes = Bytes::from(bytes);
        let mut from = 0;
        let mut fields = ends.iter().map(|end| {
            let end = (*end).min(bytes.len());
            let field = bytes.slice(from.min(end)..end);
            from = end;
            field
        });
        let name = fields.next().unwrap_or_default().to_ascii_uppercase();
        let fields: Vec<Bytes> = fields.collect();
        match name.as_slice() {
            b"PING" => exactly(fields, "PING").map(|[]| Self::Ping),
            b"PUT" => exactly(fields, "PUT|key|value").map(|[key, value]| Self::Put(key, value)),
            b"GET" => exactly(fields, "GET|key").map(|[key]| Self::Get(key)),
            b"DELETE" => exactly(fields, "DELETE|key").map(|[key]| Self::Delete(key)),
            b"RANGE" => exactly(fields, "RANGE|first key|end").map(|[first, end]| Self::Range(first, end)),
            b"BATCH" => batch(&fields),
            b"CLUSTER_STATUS" => exactly(fields, "CLUSTER_STATUS").map(|[]| Self::ClusterStatus),
            b"CLUSTER_NODES" => exactly(fields, "CLUSTER_NODES").map(|[]| Self::ClusterNodes),
            b"CLUSTER_LEADER" => exactly(fields, "CLUSTER_LEADER").map(|[]| Self::ClusterLeader),
            _ => Err(NoCommand::Unknown),
        }
    }
}

fn exactly<const N: usize>(fields: Vec<Bytes>, written: &'static str) -> Result<[Bytes; N], NoCommand> {
    fields.try_into().map_err(|_| NoCommand::Fields(written))
}

/// The pairs of a batch are written side by side, so of a key that is there twice only the
/// last value goes in: what would be left if they were written one after the other.
fn batch(fields: &[Bytes]) -> Result<Command, NoCommand> {
    let (pairs, rest) = fields.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return Err(NoCommand::Fields("BATCH|key|value|key|value…"));
    }
    let mut places: HashMap<&Bytes, usize> = HashMap::with_capacity(pairs.len());
    let mut kept: Vec<(Bytes, Bytes)> = Vec::with_capacity(pairs.len());
    for [key, value] in pairs {
        match places.get(key).and_then(|place| kept.get_mut(*place)) {
            Some(pair) => pair.1 = value.clone(),
            None => {
                places.insert(key, kept.len());
                kept.push((key.clone(), value.clone()));
            }
        }
    }
    Ok(Command::Batch(kept))
}

impl fmt::Display for NoCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str(
                "no such command: there are PUT, GET, DELETE, RANGE, BATCH, PING, CLUSTER_STATUS, \
                 CLUSTER_NODES and CLUSTER_LEADER",
            ),
            Self::Fields(written) => write!(f, "write {written}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::{Event, LineReader};
    use super::*;

    fn parse(text: &str) -> Result<Command, NoCommand> {
        let text = format!("{text}\n");
        match LineReader::new(1000, 100).feed(text.as_bytes()) {
            (taken, Some(Event::Line(Ok(line)))) if taken == text.len() => Command::of(line),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_command_is_understood_in_any_case() {
        for (text, command) in [
            ("PING", Command::Ping),
            ("PUT|k|v", Command::Put("k".into(), "v".into())),
            ("put|k|", Command::Put("k".into(), "".into())),
            ("PUT|a\\|b|\\n", Command::Put("a|b".into(), "\n".into())),
            ("Get|k", Command::Get("k".into())),
            ("DELETE|k", Command::Delete("k".into())),
            ("RANGE|a|b", Command::Range("a".into(), "b".into())),
            ("RANGE||", Command::Range("".into(), "".into())),
            ("cluster_status", Command::ClusterStatus),
            ("CLUSTER_NODES", Command::ClusterNodes),
            ("CLUSTER_LEADER", Command::ClusterLeader),
        ] {
            assert_eq!(parse(text), Ok(command), "{text}");
        }
    }

    #[test]
    fn of_a_key_that_is_in_a_batch_twice_the_last_value_counts() {
        let pairs = vec![("a".into(), "3".into()), ("b".into(), "2".into())];
        assert_eq!(parse("BATCH|a|1|b|2|a|3"), Ok(Command::Batch(pairs)));
    }

    #[test]
    fn what_is_no_command_says_how_to_write_one() {
        for (text, part) in [
            ("", "no such command"),
            ("SET|a|b", "no such command"),
            ("GET", "write GET|key"),
            ("GET|a|b", "write GET|key"),
            ("PING|x", "write PING"),
            ("PUT|a", "write PUT|key|value"),
            ("RANGE|a", "write RANGE"),
            ("BATCH", "write BATCH"),
            ("BATCH|a", "write BATCH"),
            ("BATCH|a|1|b", "write BATCH"),
        ] {
            let why = parse(text).unwrap_err().to_string();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
