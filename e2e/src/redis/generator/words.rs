//! What commands are made of.

use std::collections::BTreeSet;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::Generator;

/// Between any two times of a sequence; longer than the whole of it takes.
const APART_SECONDS: u64 = 1_000;
/// How many such times there are. The last is three hundred years away.
const TIMES: u64 = 10_000_000;
/// Some are not numbers to Redis, some are at the ends, and none is a short time to live.
const ODD_NUMBERS: &[&str] = &[
    "",
    "abc",
    " 1",
    "1 ",
    "+1",
    "01",
    "-0",
    "0x10",
    "1.0",
    "1e3",
    "0",
    "-1",
    "-7",
    "9223372036854775807",
    "9223372036854775806",
    "9223372036854775808",
    "-9223372036854775807",
    "-9223372036854775808",
    "-9223372036854775809",
    "99999999999999999999",
    "1\0",
    "१",
];
/// As times since 1970 they are right or just too far. They are never counted from now: two
/// such would be too close to each other.
const FAR_TIMES: &[&str] = &["9223372036854775", "9223372036854776", "922337203685477"];
const ODD_FLOATS: &[&str] = &[
    "0.1",
    "-0.1",
    "0.2",
    "3.0e3",
    "5.0e-2",
    "1.5",
    "-2.25",
    "10.50",
    "0.0001",
    "1e15",
    "1e17",
    "-1e17",
    "123456789.123",
    "0.3333",
    "1e-10",
    "nan",
    "inf",
    "-inf",
    "+inf",
    "infinity",
    "1e400",
    "-1e5000",
    "",
    "abc",
    "1.5abc",
    " 1.5",
    "1.5 ",
    "+1.5",
    ".5",
    "5.",
    "1e",
    "--1",
    "1,5",
    "0",
    "-0",
    "-0.0",
    "00.5",
];

/// Times that are never close to each other.
#[derive(Debug)]
pub struct Times {
    /// When the sequence began, in seconds since 1970.
    began: u64,
    given: BTreeSet<u64>,
}

impl Times {
    pub fn new(began: u64) -> Self {
        Self { began, given: BTreeSet::new() }
    }

    /// Seconds from now that no other time of this sequence is near.
    fn seconds(&mut self, random: &mut StdRng) -> u64 {
        loop {
            let number = random.random_range(1..TIMES);
            if self.given.insert(number) {
                return number * APART_SECONDS;
            }
        }
    }
}

impl Generator {
    pub(super) fn key(&mut self) -> Vec<u8> {
        // Some keys are hot, so that commands meet what others left.
        let hot = if self.random.random_bool(0.6) { 4 } else { self.keys.len() };
        self.keys.get(self.random.random_range(0..hot)).cloned().unwrap_or_default()
    }

    pub(super) fn keys(&mut self, most: usize) -> Vec<Vec<u8>> {
        (0..self.random.random_range(1..=most)).map(|_| self.key()).collect()
    }

    pub(super) fn value(&mut self) -> Vec<u8> {
        match self.random.random_range(0..20) {
            0..7 => self.random.random_range(-1_000..1_000_i64).to_string().into_bytes(),
            7 | 8 => pick(&mut self.random, ODD_NUMBERS),
            9 | 10 => pick(&mut self.random, ODD_FLOATS),
            11 => Vec::new(),
            12 | 13 => {
                let length = self.random.random_range(1..40);
                (0..length).map(|_| self.random.random()).collect()
            }
            14 => {
                let length = self.random.random_range(1_000..5_000);
                vec![self.random.random(); length]
            }
            _ => format!("value {}", self.random.random_range(0..1_000)).into_bytes(),
        }
    }

    /// A whole number, sometimes none.
    pub(super) fn number(&mut self) -> Vec<u8> {
        match self.random.random_range(0..10) {
            0..3 => pick(&mut self.random, ODD_NUMBERS),
            3 => self.random.random::<i64>().to_string().into_bytes(),
            _ => self.random.random_range(-100..100_i64).to_string().into_bytes(),
        }
    }

    /// What INCRBYFLOAT takes, and does not take.
    pub(super) fn float(&mut self) -> Vec<u8> {
        match self.random.random_range(0..10) {
            0..5 => pick(&mut self.random, ODD_FLOATS),
            5 => self.number(),
            6 => format!("{}", self.random.random_range(-1.0e6..1.0e6_f64)).into_bytes(),
            _ => {
                let (whole, part) =
                    (self.random.random_range(-999..999_i32), self.random.random_range(0..1_000));
                format!("{whole}.{part}").into_bytes()
            }
        }
    }

    /// A place in a value: mostly within it, sometimes far behind it or none.
    pub(super) fn place(&mut self) -> Vec<u8> {
        match self.random.random_range(0..12) {
            // Above our limit of 8 MiB, which the Redis beside us is given too.
            0 => pick(&mut self.random, &["8388608", "16777216", "536870911", "536870912", "4294967296"]),
            1 | 2 => pick(&mut self.random, ODD_NUMBERS),
            3 => self.random.random_range(0..3_000).to_string().into_bytes(),
            4..6 => self.random.random_range(-30..0).to_string().into_bytes(),
            _ => self.random.random_range(0..30).to_string().into_bytes(),
        }
    }

    /// How long from now, in seconds times `scale`.
    pub(super) fn how_long(&mut self, scale: u64) -> Vec<u8> {
        if self.random.random_bool(0.15) {
            return pick(&mut self.random, ODD_NUMBERS);
        }
        (self.times.seconds(&mut self.random) * scale).to_string().into_bytes()
    }

    /// Until when, in seconds since 1970 times `scale`.
    pub(super) fn until_when(&mut self, scale: u64) -> Vec<u8> {
        match self.random.random_range(0..20) {
            0 => pick(&mut self.random, ODD_NUMBERS),
            1 => pick(&mut self.random, FAR_TIMES),
            2 => ((self.times.began - 5_000) * scale).to_string().into_bytes(),
            // The same for all, so that some of two are equal to the millisecond.
            3..6 => ((self.times.began + 3_600 + APART_SECONDS / 2) * scale).to_string().into_bytes(),
            _ => {
                // Between those that are counted from now.
                let seconds = self.times.seconds(&mut self.random) + APART_SECONDS / 2;
                ((self.times.began + seconds) * scale).to_string().into_bytes()
            }
        }
    }

    /// A name or an option as it is, or as somebody may write it.
    pub(super) fn cased(&mut self, word: &str) -> Vec<u8> {
        match self.random.random_range(0..12) {
            0 => word.to_lowercase().into_bytes(),
            1 => {
                let either = |letter: u8| {
                    if self.random.random_bool(0.5) { letter.to_ascii_lowercase() } else { letter }
                };
                word.bytes().map(either).collect()
            }
            _ => word.as_bytes().to_vec(),
        }
    }
}

pub(super) fn pick(random: &mut StdRng, words: &[&str]) -> Vec<u8> {
    words.choose(random).map(|word| word.as_bytes().to_vec()).unwrap_or_default()
}
