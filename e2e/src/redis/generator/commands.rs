//! One command with its options, mostly right.

use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use super::words::pick;
use super::{Answer, Command, Generator, Spread};

/// What a command is followed by.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Nothing,
    Key,
    Keys,
    KeyValue,
    KeyNumber,
    KeyFloat,
    KeysValues,
    TwoKeys,
    Set,
    GetEx,
    /// A time from now before a value, in seconds times this.
    TimeValue(u64),
    /// A time from now and conditions.
    ExpireIn(u64),
    /// A time since 1970 and conditions.
    ExpireAt(u64),
    Range,
    PlaceValue,
    Copy,
    Message,
    MaybeMessage,
    Words(&'static [&'static str]),
}

/// How often each is played, with what, and how its reply is compared. All of these may have
/// keys of several slots.
const COMMANDS: &[(u32, &str, Takes, Answer)] = &[
    (40, "SET", Takes::Set, Answer::Bytes),
    (20, "GET", Takes::Key, Answer::Bytes),
    (6, "GETDEL", Takes::Key, Answer::Bytes),
    (10, "GETEX", Takes::GetEx, Answer::Bytes),
    (6, "GETSET", Takes::KeyValue, Answer::Bytes),
    (6, "SETNX", Takes::KeyValue, Answer::Bytes),
    (6, "SETEX", Takes::TimeValue(1), Answer::Bytes),
    (6, "PSETEX", Takes::TimeValue(1_000), Answer::Bytes),
    (8, "MGET", Takes::Keys, Answer::Bytes),
    (8, "MSET", Takes::KeysValues, Answer::Bytes),
    (8, "DEL", Takes::Keys, Answer::Bytes),
    (4, "UNLINK", Takes::Keys, Answer::Bytes),
    (6, "EXISTS", Takes::Keys, Answer::Bytes),
    (4, "TOUCH", Takes::Keys, Answer::Bytes),
    (8, "EXPIRE", Takes::ExpireIn(1), Answer::Bytes),
    (8, "PEXPIRE", Takes::ExpireIn(1_000), Answer::Bytes),
    (8, "EXPIREAT", Takes::ExpireAt(1), Answer::Bytes),
    (8, "PEXPIREAT", Takes::ExpireAt(1_000), Answer::Bytes),
    (8, "TTL", Takes::Key, Answer::Seconds),
    (8, "PTTL", Takes::Key, Answer::Milliseconds),
    (6, "EXPIRETIME", Takes::Key, Answer::Seconds),
    (6, "PEXPIRETIME", Takes::Key, Answer::Milliseconds),
    (6, "PERSIST", Takes::Key, Answer::Bytes),
    (4, "TYPE", Takes::Key, Answer::Bytes),
    (10, "INCR", Takes::Key, Answer::Bytes),
    (8, "DECR", Takes::Key, Answer::Bytes),
    (12, "INCRBY", Takes::KeyNumber, Answer::Bytes),
    (10, "DECRBY", Takes::KeyNumber, Answer::Bytes),
    (14, "INCRBYFLOAT", Takes::KeyFloat, Answer::Bytes),
    (12, "APPEND", Takes::KeyValue, Answer::Bytes),
    (6, "STRLEN", Takes::Key, Answer::Bytes),
    (10, "GETRANGE", Takes::Range, Answer::Bytes),
    (4, "SUBSTR", Takes::Range, Answer::Bytes),
    (12, "SETRANGE", Takes::PlaceValue, Answer::Bytes),
    (4, "ECHO", Takes::Message, Answer::Bytes),
    (4, "PING", Takes::MaybeMessage, Answer::Bytes),
    (2, "EXEC", Takes::Nothing, Answer::Bytes),
    (2, "DISCARD", Takes::Nothing, Answer::Bytes),
    (2, "UNWATCH", Takes::Nothing, Answer::Bytes),
    (1, "RESET", Takes::Nothing, Answer::Bytes),
    (1, "SELECT", Takes::Words(&["0"]), Answer::Bytes),
    (1, "CLIENT", Takes::Words(&["SETNAME", "somebody"]), Answer::Bytes),
    (1, "CLIENT", Takes::Words(&["SETNAME", "some body"]), Answer::Bytes),
    (1, "CLIENT", Takes::Words(&["GETNAME"]), Answer::Bytes),
    (1, "CLIENT", Takes::Words(&["NONSENSE"]), Answer::Bytes),
    (1, "FLUSHDB", Takes::Nothing, Answer::Bytes),
];

/// Those that need all their keys in one slot.
const ONE_SLOT: &[(u32, &str, Takes, Answer)] = &[
    (8, "MSETNX", Takes::KeysValues, Answer::Bytes),
    (8, "COPY", Takes::Copy, Answer::Bytes),
    (8, "RENAME", Takes::TwoKeys, Answer::Bytes),
    (8, "RENAMENX", Takes::TwoKeys, Answer::Bytes),
];

/// They concern more than one slot, and so have no place in a transaction of ours.
const NEVER_QUEUED: &[&str] = &["SELECT", "FLUSHDB"];
/// They end a transaction.
const ENDINGS: &[&str] = &["EXEC", "DISCARD", "RESET"];

impl Generator {
    /// The next command of no transaction in particular.
    pub(super) fn command(&mut self) -> Command {
        if self.random.random_bool(0.01) {
            return self.unknown();
        }
        let one_slot = if self.spread == Spread::OneSlot { ONE_SLOT } else { &[] };
        let all: Vec<_> = COMMANDS.iter().chain(one_slot).collect();
        let Ok((_, name, takes, answer)) = all.choose_weighted(&mut self.random, |command| command.0) else {
            return self.unknown();
        };
        let mut words = vec![self.cased(name)];
        words.extend(self.arguments(*takes));
        if self.random.random_bool(0.02) {
            self.spoil(&mut words);
        }
        let inline = self.random.random_bool(0.05);
        Command { words, answer: *answer, inline }
    }

    /// A command for the inside of a transaction: rarely one that stops or ends it.
    pub(super) fn queued(&mut self) -> Command {
        loop {
            let command = self.command();
            let name = command.words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
            let is = |one: &&str| one.as_bytes() == name;
            let known = COMMANDS.iter().chain(ONE_SLOT).any(|(_, known, _, _)| is(known));
            let rare = !known || ENDINGS.iter().any(is);
            if !NEVER_QUEUED.iter().any(is) && (!rare || self.random.random_bool(0.1)) {
                return command;
            }
        }
    }

    /// A command that there is not. No zero byte is in it: Redis takes that for its end.
    fn unknown(&mut self) -> Command {
        let names = ["NONSENSE", "GETT", "set-", "lpish", "two\r\nlines", "", "%s", &"long".repeat(50)];
        let mut words = vec![pick(&mut self.random, &names)];
        for _ in 0..self.random.random_range(0..4) {
            words.push(pick(&mut self.random, &["a", "", "two words", "line\r\n", &"argument".repeat(20)]));
        }
        Command { words, answer: Answer::Bytes, inline: false }
    }

    /// One argument too few, one too many, or one that is something else.
    fn spoil(&mut self, words: &mut Vec<Vec<u8>>) {
        match self.random.random_range(0..3) {
            0 if words.len() > 1 => drop(words.pop()),
            1 => words.truncate(1),
            _ => {
                // Where Redis repeats a word in an error, a zero byte is the word's end.
                let word = self.key();
                words.push(if word.contains(&0) { b"too much".to_vec() } else { word });
            }
        }
    }

    fn arguments(&mut self, takes: Takes) -> Vec<Vec<u8>> {
        match takes {
            Takes::Nothing => Vec::new(),
            Takes::Key => vec![self.key()],
            Takes::Keys => self.keys(5),
            Takes::KeyValue => vec![self.key(), self.value()],
            Takes::KeyNumber => vec![self.key(), self.number()],
            Takes::KeyFloat => vec![self.key(), self.float()],
            Takes::KeysValues => {
                let keys = self.keys(4);
                keys.into_iter().flat_map(|key| [key, self.value()]).collect()
            }
            Takes::TwoKeys => vec![self.key(), self.key()],
            Takes::Set => {
                let mut words = vec![self.key(), self.value()];
                words.extend(self.options(&["NX", "XX", "GET", "KEEPTTL", "PERSIST"]));
                words
            }
            Takes::GetEx => {
                let mut words = vec![self.key()];
                words.extend(self.options(&["PERSIST", "PERSIST", "KEEPTTL"]));
                words
            }
            Takes::TimeValue(scale) => vec![self.key(), self.how_long(scale), self.value()],
            Takes::ExpireIn(scale) => {
                let mut words = vec![self.key(), self.how_long(scale)];
                words.extend(self.conditions());
                words
            }
            Takes::ExpireAt(scale) => {
                let mut words = vec![self.key(), self.until_when(scale)];
                words.extend(self.conditions());
                words
            }
            Takes::Range => vec![self.key(), self.place(), self.place()],
            Takes::PlaceValue => vec![self.key(), self.place(), self.value()],
            Takes::Copy => {
                let mut words = vec![self.key(), self.key()];
                if self.random.random_bool(0.5) {
                    words.push(self.cased("REPLACE"));
                }
                words
            }
            Takes::Message => vec![self.value()],
            Takes::MaybeMessage => {
                if self.random.random_bool(0.5) {
                    vec![self.value()]
                } else {
                    Vec::new()
                }
            }
            Takes::Words(words) => words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        }
    }

    /// Options of SET and GETEX: mostly one or none, sometimes several that may not be
    /// together, or one that is none.
    fn options(&mut self, flags: &[&str]) -> Vec<Vec<u8>> {
        let many = match self.random.random_range(0..10) {
            0..4 => 0,
            4..8 => 1,
            8 => 2,
            _ => self.random.random_range(2..5),
        };
        let mut words = Vec::new();
        for _ in 0..many {
            match self.random.random_range(0..11) {
                0 => words.extend([self.cased("EX"), self.how_long(1)]),
                1 => words.extend([self.cased("PX"), self.how_long(1_000)]),
                2 => words.extend([self.cased("EXAT"), self.until_when(1)]),
                3 => words.extend([self.cased("PXAT"), self.until_when(1_000)]),
                4 if self.random.random_bool(0.3) => {
                    words.push(pick(&mut self.random, &["EX", "PXAT", "nonsense", "", "REPLACE", "100"]));
                }
                _ => {
                    let flag = flags.choose(&mut self.random).copied().unwrap_or_default();
                    words.push(self.cased(flag));
                }
            }
        }
        words
    }

    /// Conditions of EXPIRE and its family.
    fn conditions(&mut self) -> Vec<Vec<u8>> {
        let many = match self.random.random_range(0..10) {
            0..4 => 0,
            4..9 => 1,
            _ => 2,
        };
        let mut words = Vec::new();
        for _ in 0..many {
            let odd = self.random.random_bool(0.05);
            let condition = if odd { &["nonsense", "", "EX"][..] } else { &["NX", "XX", "GT", "LT"] };
            let condition = condition.choose(&mut self.random).copied().unwrap_or_default();
            words.push(self.cased(condition));
        }
        words
    }
}
