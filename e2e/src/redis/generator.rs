//! Sequences of commands that a seed decides, with the answer that each has.
//!
//! ```text
//!   generator    scenes: pipelines, transactions, watched keys with somebody who interferes
//!   commands     one command with its options, right or wrong
//!   words        keys, values, numbers and times
//! ```
//!
//! No answer depends on when it is asked. A time to live is either over at once, or so long,
//! and so far from every other of its sequence, that some seconds between two servers change
//! no comparison of two of them.

use std::time::SystemTime;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

mod commands;
mod words;

use words::Times;

/// The longest pipeline.
const PIPELINE: usize = 48;
const CONNECTIONS: usize = 2;

/// Whether all keys of a sequence share a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// One slot for all, so that every command and every transaction may take any of them.
    OneSlot,
    /// A slot for each, for the commands that may take keys of several.
    ManySlots,
}

/// How a reply is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Byte for byte.
    Bytes,
    /// A time in seconds: within a tolerance where it is positive.
    Seconds,
    /// The same in milliseconds.
    Milliseconds,
}

/// A command with its answer.
#[derive(Debug, Clone)]
pub struct Command {
    /// Its name and arguments.
    pub words: Vec<Vec<u8>>,
    /// How its reply is compared.
    pub answer: Answer,
    /// Whether it is sent as a line that a person could type.
    pub inline: bool,
}

/// Commands that are sent at once on one of the connections. The next pipeline is sent when
/// all are answered.
#[derive(Debug)]
pub struct Pipeline {
    /// Which connection, from 0.
    pub connection: usize,
    /// What is sent.
    pub commands: Vec<Command>,
}

/// Makes a sequence. One with the same seed, spread and beginning makes the same one.
#[derive(Debug)]
pub struct Generator {
    random: StdRng,
    spread: Spread,
    keys: Vec<Vec<u8>>,
    times: Times,
}

impl Generator {
    /// How many connections the pipelines are for.
    pub const CONNECTIONS: usize = CONNECTIONS;

    /// Begins a sequence.
    pub fn new(seed: u64, spread: Spread) -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.context("the clock stands before 1970")?.as_secs();
        let tag = if spread == Spread::OneSlot { "{tag}" } else { "" };
        let mut keys: Vec<_> = (0..12).map(|number| format!("{tag}key-{number}").into_bytes()).collect();
        // Bytes that patterns, lines and text take for something else.
        keys.extend(["[a]*?\\", "ü \r\n", "{}"].map(|odd| format!("{tag}{odd}").into_bytes()));
        keys.push([tag.as_bytes(), &[0, 0xff, 0x80]].concat());
        keys.push(format!("{tag}{}", "long".repeat(60)).into_bytes());
        Ok(Self { random: StdRng::seed_from_u64(seed), spread, keys, times: Times::new(now) })
    }

    /// The next pipelines, which belong together.
    pub fn scene(&mut self) -> Vec<Pipeline> {
        let connection = self.random.random_range(0..CONNECTIONS);
        match self.random.random_range(0..100) {
            0..12 if self.spread == Spread::OneSlot => self.watched(connection),
            12..24 if self.spread == Spread::OneSlot => {
                let commands = self.transaction();
                self.cut_up(connection, commands)
            }
            _ => {
                let many = self.random.random_range(1..=PIPELINE);
                vec![Pipeline { connection, commands: self.several(many) }]
            }
        }
    }

    /// A watched key, somebody who may interfere on the other connection, and a transaction
    /// that is stopped by it or not.
    ///
    /// An absent key is written at most once meanwhile: whether it may come and go unseen is
    /// where we differ from Redis.
    fn watched(&mut self, connection: usize) -> Vec<Pipeline> {
        let other = CONNECTIONS - 1 - connection;
        let (key, second) = (self.key(), self.key());
        let mut watch = Vec::new();
        let present = self.random.random_bool(0.7);
        if present {
            let value = self.value();
            watch.push(plain([b"MSET".to_vec(), key.clone(), value, second.clone(), b"1".to_vec()]));
        } else {
            watch.push(plain([b"DEL".to_vec(), key.clone(), second.clone()]));
        }
        watch.push(plain([b"WATCH".to_vec(), key.clone(), second.clone()]));
        let mut scene = vec![Pipeline { connection, commands: watch }];
        let interferes = self.random.random_range(0..4);
        if present && interferes > 0 {
            let by = if self.random.random_bool(0.7) { other } else { connection };
            let many = self.random.random_range(1..=3);
            scene.push(Pipeline { connection: by, commands: self.several(many) });
        } else if interferes == 3 {
            let value = self.value();
            let set = plain([b"SET".to_vec(), key, value]);
            scene.push(Pipeline { connection: other, commands: vec![set] });
        }
        let mut rest = match self.random.random_range(0..8) {
            0 => vec![plain([b"UNWATCH".to_vec()])],
            1 => vec![plain([b"MULTI".to_vec()]), plain([b"DISCARD".to_vec()])],
            _ => Vec::new(),
        };
        rest.extend(self.transaction());
        scene.extend(self.cut_up(connection, rest));
        scene
    }

    fn transaction(&mut self) -> Vec<Command> {
        let mut commands = vec![plain([b"MULTI".to_vec()])];
        for _ in 0..self.random.random_range(0..8) {
            commands.push(self.queued());
            if self.random.random_bool(0.02) {
                let odd: &[&str] =
                    [&["MULTI"][..], &["WATCH", "{tag}key-1"], &["EXEC", "1"], &["UNWATCH"], &["RESET"]]
                        .choose(&mut self.random)
                        .copied()
                        .unwrap_or_default();
                let words: Vec<_> = odd.iter().map(|word| word.as_bytes().to_vec()).collect();
                let command = plain(words);
                commands.push(command);
            }
        }
        let end = if self.random.random_bool(0.9) { "EXEC" } else { "DISCARD" };
        commands.push(plain([end.as_bytes().to_vec()]));
        commands
    }

    fn several(&mut self, many: usize) -> Vec<Command> {
        (0..many).map(|_| self.command()).collect()
    }

    /// Now and then a pipeline ends in the middle, and the rest is a pipeline of its own.
    fn cut_up(&mut self, connection: usize, mut commands: Vec<Command>) -> Vec<Pipeline> {
        if self.random.random_bool(0.3) {
            let rest = commands.split_off(self.random.random_range(0..commands.len()));
            return [commands, rest]
                .into_iter()
                .filter(|commands| !commands.is_empty())
                .map(|commands| Pipeline { connection, commands })
                .collect();
        }
        vec![Pipeline { connection, commands }]
    }
}

fn plain(words: impl Into<Vec<Vec<u8>>>) -> Command {
    Command { words: words.into(), answer: Answer::Bytes, inline: false }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(seed: u64, scenes: usize) -> Vec<String> {
        let mut generator = Generator::new(seed, Spread::OneSlot).unwrap();
        let commands = (0..scenes).flat_map(|_| generator.scene()).flat_map(|pipeline| pipeline.commands);
        commands.map(|command| String::from_utf8_lossy(&command.words[0]).to_uppercase()).collect()
    }

    #[test]
    fn a_seed_decides() {
        assert_eq!(names(7, 50), names(7, 50));
        assert_ne!(names(7, 50), names(8, 50));
    }

    #[test]
    fn every_command_comes_up() {
        let found: BTreeSet<_> = names(1, 3_000).into_iter().collect();
        let wanted = "SET GET GETDEL GETEX GETSET SETNX SETEX PSETEX MGET MSET MSETNX DEL UNLINK EXISTS EXPIRE \
                      PEXPIRE EXPIREAT PEXPIREAT TTL PTTL EXPIRETIME PEXPIRETIME PERSIST TYPE INCR DECR INCRBY \
                      DECRBY INCRBYFLOAT APPEND STRLEN GETRANGE SUBSTR SETRANGE COPY RENAME RENAMENX TOUCH \
                      MULTI EXEC DISCARD WATCH UNWATCH ECHO PING RESET SELECT FLUSHDB CLIENT";
        for name in wanted.split_whitespace() {
            assert!(found.contains(name), "{name} never comes up");
        }
    }
}
