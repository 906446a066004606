//! What commands there are: one table, from which they are looked up, checked and shown.

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use proto::v1::operation::Operation as Kind;

use super::reply::Reply;
use super::shape::Shape;

pub mod glob;
#[expect(clippy::unnecessary_wraps, reason = "the table takes parsers of one form")]
mod keys;
mod options;
#[expect(clippy::unnecessary_wraps, reason = "the table takes parsers of one form")]
mod strings;
pub mod table;

/// What a command on keys does: operations, and how their results are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The operations; their table is left open.
    pub operations: Vec<Kind>,
    /// How their results are shown.
    pub shape: Shape,
    /// Its reply, where nothing is done: its arguments were wrong, in a transaction.
    pub refused: Option<Reply>,
}

impl Plan {
    fn new(operations: Vec<Kind>, shape: Shape) -> Self {
        Self { operations, shape, refused: None }
    }

    fn one(kind: Kind, shape: Shape) -> Self {
        Self::new(vec![kind], shape)
    }

    /// A command of a transaction that will be answered so.
    pub fn refused(reply: Reply) -> Self {
        Self { operations: Vec::new(), shape: Shape::AllOk, refused: Some(reply) }
    }
}

/// A command that could not be parsed: this is its reply.
pub type Parsed = Result<Plan, Reply>;

/// What is known of a command.
#[derive(Debug)]
pub struct Spec {
    /// Its name, in small letters.
    pub name: &'static str,
    /// How many words it has, its name included; negative: at least so many.
    pub arity: i32,
    /// What it is, in Redis' words.
    pub flags: &'static [&'static str],
    /// Where its keys are: the first, the last (negative: from the end), and their distance.
    pub keys: (i32, i32, i32),
    /// The group that Redis' documents have it in.
    pub group: &'static str,
    /// Since which Redis it is there; ours: `trilith`.
    pub since: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// How it is carried out.
    pub does: Does,
}

/// How a command is carried out.
#[derive(Debug, Clone, Copy)]
pub enum Does {
    /// As operations on keys. They may wait for each other's company, and be part of a transaction.
    Keys(fn(&[Bytes]) -> Parsed),
    /// By the connection, after all that came before is answered.
    Connection(Verb),
}

/// What a connection does itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Asking,
    Auth,
    Client,
    Cluster,
    Command,
    Config,
    DbSize,
    Debug,
    Discard,
    Echo,
    Exec,
    FlushAll,
    FlushDb,
    Hello,
    Info,
    Keys,
    Multi,
    PSubscribe,
    PUnsubscribe,
    Ping,
    Quit,
    RandomKey,
    ReadOnly,
    ReadWrite,
    Reset,
    Role,
    Scan,
    Select,
    Subscribe,
    Time,
    Unsubscribe,
    Unwatch,
    Wait,
    Watch,
}

static BY_NAME: LazyLock<HashMap<&'static [u8], &'static Spec>> =
    LazyLock::new(|| table::COMMANDS.iter().map(|spec| (spec.name.as_bytes(), spec)).collect());

/// The longest name, and more.
const NAME_ROOM: usize = 32;

/// The command of that name, however its letters are written.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut small = [0_u8; NAME_ROOM];
    let room = small.get_mut(..name.len())?;
    room.copy_from_slice(name);
    room.make_ascii_lowercase();
    BY_NAME.get(&*room).copied()
}

impl Spec {
    /// Whether so many words are as many as it takes.
    pub fn takes(&self, words: usize) -> bool {
        fits(self.arity, words)
    }

    /// The keys among its words.
    pub fn keys_of<'a>(&self, words: &'a [Bytes]) -> Vec<&'a Bytes> {
        let (first, last, step) = self.keys;
        let (Ok(first), Ok(step)) = (usize::try_from(first), usize::try_from(step)) else {
            return Vec::new();
        };
        if first == 0 || step == 0 {
            return Vec::new();
        }
        let last = match usize::try_from(last) {
            Ok(last) => last,
            Err(_) => words.len().saturating_sub(last.unsigned_abs() as usize),
        };
        words.iter().enumerate().take(last + 1).skip(first).step_by(step).map(|(_, word)| word).collect()
    }

    /// The error for a wrong number of words.
    pub fn wrong_arity(&self) -> Reply {
        Reply::err(format!("wrong number of arguments for '{}' command", self.name))
    }
}

fn fits(arity: i32, words: usize) -> bool {
    match usize::try_from(arity) {
        Ok(exactly) => words == exactly,
        Err(_) => words >= arity.unsigned_abs() as usize,
    }
}

/// The parts of commands that have some, with the number of their words as in [`Spec::arity`]. A
/// request is held against it before it is carried out or queued, so nobody counts words after that.
const SUBCOMMANDS: &[(&str, &[(&str, i32)])] = &[
    (
        "client",
        &[
            ("getname", 2),
            ("id", 2),
            ("info", 2),
            ("kill", -3),
            ("list", -2),
            ("no-evict", 3),
            ("no-touch", 3),
            ("reply", 3),
            ("setinfo", 4),
            ("setname", 3),
        ],
    ),
    (
        "cluster",
        &[
            ("countkeysinslot", 3),
            ("info", 2),
            ("keyslot", 3),
            ("myid", 2),
            ("nodes", 2),
            ("shards", 2),
            ("slots", 2),
        ],
    ),
    ("command", &[("count", 2), ("docs", -2), ("getkeys", -3), ("info", -2), ("list", -2)]),
    ("config", &[("get", -3), ("resetstat", 2), ("rewrite", 2), ("set", -4)]),
    ("memory", &[("usage", -3)]),
    ("object", &[("encoding", 3), ("freq", 3), ("idletime", 3), ("refcount", 3)]),
];

/// The error for a part of a command that there is none of, or that has another number of words.
pub fn subcommand_error(spec: &Spec, words: &[Bytes]) -> Option<Reply> {
    let (_, parts) = SUBCOMMANDS.iter().find(|(name, _)| *name == spec.name)?;
    let asked = words.get(1)?;
    let Some((name, arity)) = parts.iter().find(|(name, _)| is(asked, name)) else {
        return Some(unknown_part(spec.name, asked));
    };
    (!fits(*arity, words.len()))
        .then(|| Reply::err(format!("wrong number of arguments for '{}|{name}' command", spec.name)))
}

/// The error for a part of a command that there is none of.
pub fn unknown_part(command: &str, asked: &[u8]) -> Reply {
    let asked: String = String::from_utf8_lossy(asked).chars().take(128).collect();
    let command = command.to_uppercase();
    Reply::err(format!("unknown subcommand '{asked}'. Try {command} HELP."))
}

/// The error for a command that there is none of.
pub fn unknown(words: &[Bytes]) -> Reply {
    let shown = |word: &Bytes, most: usize| {
        String::from_utf8_lossy(word.get(..word.len().min(most)).unwrap_or_default()).into_owned()
    };
    let name = words.first().map(|name| shown(name, 128)).unwrap_or_default();
    let mut arguments = String::new();
    for word in words.iter().skip(1) {
        if arguments.len() >= 128 {
            break;
        }
        let rest = 128 - arguments.len();
        arguments.extend(["'", &shown(word, rest), "' "]);
    }
    Reply::err(format!("unknown command '{name}', with args beginning with: {arguments}"))
}

/// The common errors.
pub fn syntax_error() -> Reply {
    Reply::err("syntax error")
}

/// A word of a request; empty where there is none.
pub fn word(words: &[Bytes], at: usize) -> Bytes {
    words.get(at).cloned().unwrap_or_default()
}

/// Whether a word is that one, however its letters are written.
pub fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// A word that must be a whole number.
pub fn integer(word: &[u8]) -> Result<i64, Reply> {
    crate::partition::modify::whole_number(word)
        .ok_or_else(|| Reply::err("value is not an integer or out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_however_they_are_written() {
        assert_eq!(find(b"GeT").map(|spec| spec.name), Some("get"));
        assert!(find(b"nothing").is_none() && find(&[b'a'; 100]).is_none());
    }

    #[test]
    fn the_table_is_in_order_and_complete() {
        let names: Vec<_> = table::COMMANDS.iter().map(|spec| spec.name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
        for spec in table::COMMANDS {
            assert!(!spec.summary.is_empty() && spec.name.len() <= NAME_ROOM, "{}", spec.name);
        }
    }

    #[test]
    fn keys_are_found_where_the_table_says() {
        let words = |line: &str| line.split(' ').map(|word| Bytes::from(word.to_owned())).collect::<Vec<_>>();
        let keys = |line: &str| {
            let words = words(line);
            let spec = find(&words[0]).unwrap();
            spec.keys_of(&words)
                .into_iter()
                .map(|key| String::from_utf8_lossy(key).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(keys("mset a 1 b 2"), ["a", "b"]);
        assert_eq!(keys("del a b c"), ["a", "b", "c"]);
        assert_eq!(keys("copy a b REPLACE"), ["a", "b"]);
        assert!(keys("ping").is_empty());
    }

    #[test]
    fn what_is_unknown_is_said_as_redis_says_it() {
        let words: Vec<Bytes> = ["FOO", "a", "b"].map(Bytes::from).to_vec();
        assert_eq!(
            unknown(&words),
            Reply::Error("ERR unknown command 'FOO', with args beginning with: 'a' 'b' ".to_owned())
        );
    }
}
