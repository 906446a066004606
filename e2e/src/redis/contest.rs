//! Plays the same on two servers, and compares every reply.

use std::collections::VecDeque;
use std::net::SocketAddr;

use anyhow::Context as _;

use super::connection::{Connection, encode, encode_inline, line};
use super::generator::{Answer, Command, Generator, Pipeline};
use super::reply::{Reply, shown};

/// How far two times to live may be from each other: two servers are not asked at once.
const TOLERANCE_MILLISECONDS: i64 = 5_000;
/// How many commands are shown before one that is answered differently.
const SHOWN_COMMANDS: usize = 20;

/// Two servers, from an empty database on.
#[derive(Debug)]
pub struct Contest {
    redis: SocketAddr,
    ours: SocketAddr,
    seed: u64,
    players: Vec<Player>,
    played: u64,
    last: VecDeque<String>,
}

/// A command that the two answer differently.
#[derive(Debug)]
pub struct Difference {
    /// The command's name with both answers, numbers left out: others like it are no news.
    pub kind: String,
    /// What it takes to see it again.
    pub told: String,
}

/// One of the connections, to both servers.
#[derive(Debug)]
struct Player {
    redis: Connection,
    ours: Connection,
    /// Of an open transaction: how the commands that it has queued are compared.
    queued: Option<Vec<Answer>>,
}

impl Contest {
    /// Begins with empty databases. The seed is for the reader of a difference.
    pub async fn begin(redis: SocketAddr, ours: SocketAddr, seed: u64) -> anyhow::Result<Self> {
        let mut contest = Self { redis, ours, seed, players: Vec::new(), played: 0, last: VecDeque::new() };
        contest.begin_again().await?;
        Ok(contest)
    }

    /// Empties both and connects anew: after a difference they hold different things.
    pub async fn begin_again(&mut self) -> anyhow::Result<()> {
        self.last.clear();
        self.players.clear();
        for address in [self.redis, self.ours] {
            let done = Connection::open(address).await?.ask(&["FLUSHDB"]).await?;
            anyhow::ensure!(done == Reply::Simple("OK".to_owned()), "FLUSHDB: {done}");
        }
        for _ in 0..Generator::CONNECTIONS {
            let (redis, ours) = (Connection::open(self.redis).await?, Connection::open(self.ours).await?);
            self.players.push(Player { redis, ours, queued: None });
        }
        Ok(())
    }

    /// How many commands were played.
    pub fn played(&self) -> u64 {
        self.played
    }

    /// Plays a pipeline as far as the answers agree.
    pub async fn play(&mut self, pipeline: &Pipeline) -> anyhow::Result<Option<Difference>> {
        let Self { seed, players, played, last, .. } = self;
        let number = pipeline.connection;
        let player = players.get_mut(number).with_context(|| format!("nobody plays {number}"))?;
        let bytes: Vec<u8> = pipeline.commands.iter().flat_map(sent).collect();
        let many = pipeline.commands.len();
        let (redis, ours) =
            tokio::join!(player.redis.pipeline(&bytes, many), player.ours.pipeline(&bytes, many));
        let commands = || pipeline.commands.iter().map(|command| line(&command.words)).collect::<Vec<_>>();
        let context = |who: &str| format!("{who}, seed {seed}, step {played}, {:#?}", commands());
        let (redis, ours) =
            (redis.with_context(|| context("Redis"))?, ours.with_context(|| context("ours"))?);
        for ((command, redis), ours) in pipeline.commands.iter().zip(redis).zip(ours) {
            if last.len() == SHOWN_COMMANDS {
                last.pop_front();
            }
            last.push_back(format!("{number}> {}", line(&command.words)));
            if !player.agree(command, &redis, &ours)? {
                let last = last.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
                let kind = kind(command, &redis, &ours);
                let (redis, ours) = (shown(&redis), shown(&ours));
                let told = format!(
                    "different answers: seed {seed}, step {played}\n{last}\n\nRedis: {redis}\nours:  {ours}"
                );
                return Ok(Some(Difference { kind, told }));
            }
            *played += 1;
        }
        Ok(None)
    }
}

impl Player {
    /// Whether the replies are the same, as far as this command determines them.
    fn agree(&mut self, command: &Command, redis: &[u8], ours: &[u8]) -> anyhow::Result<bool> {
        let name = command.words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        if redis == b"+QUEUED\r\n" {
            if let Some(queued) = &mut self.queued {
                queued.push(command.answer);
            }
            return Ok(redis == ours);
        }
        let simple = redis.starts_with(b"+");
        match name.as_slice() {
            b"MULTI" if simple => self.queued = Some(Vec::new()),
            b"DISCARD" | b"RESET" if simple => self.queued = None,
            b"EXEC" if redis.starts_with(b"*") || redis.starts_with(b"-EXECABORT") => {
                let queued = self.queued.take().unwrap_or_default();
                return transactions_agree(&queued, redis, ours);
            }
            _ => {}
        }
        Ok(redis == ours || times_agree(command.answer, &parsed(redis)?, &parsed(ours)?))
    }
}

/// The replies of a transaction's commands, each compared as its command determines.
fn transactions_agree(queued: &[Answer], redis: &[u8], ours: &[u8]) -> anyhow::Result<bool> {
    if redis == ours {
        return Ok(true);
    }
    let (Reply::Array(Some(redis)), Reply::Array(Some(ours))) = (parsed(redis)?, parsed(ours)?) else {
        return Ok(false);
    };
    let same = redis.len() == ours.len() && redis.len() == queued.len();
    let mut pairs = redis.iter().zip(&ours).zip(queued);
    Ok(same && pairs.all(|((redis, ours), answer)| redis == ours || times_agree(*answer, redis, ours)))
}

fn times_agree(answer: Answer, redis: &Reply, ours: &Reply) -> bool {
    let tolerance = match answer {
        Answer::Bytes => return false,
        Answer::Seconds => TOLERANCE_MILLISECONDS / 1_000,
        Answer::Milliseconds => TOLERANCE_MILLISECONDS,
    };
    // Zero and less are no times but answers of their own.
    matches!((redis, ours), (Reply::Integer(redis @ 1..), Reply::Integer(ours @ 1..))
        if redis.abs_diff(*ours) <= tolerance.unsigned_abs())
}

fn parsed(raw: &[u8]) -> anyhow::Result<Reply> {
    Ok(Reply::parse(raw)?.context("half a reply")?.0)
}

/// Values make no kind of their own: of an answer only its type, and of an error its text.
fn kind(command: &Command, redis: &[u8], ours: &[u8]) -> String {
    let name = command.words.first().map(|name| shown(&name.to_ascii_uppercase())).unwrap_or_default();
    let answer = |raw: &[u8]| match raw {
        [b'-', text @ ..] => {
            let text = String::from_utf8_lossy(text).to_ascii_uppercase();
            text.chars().filter(|letter| !letter.is_ascii_digit()).take(50).collect::<String>()
        }
        other => shown(other.get(..1).unwrap_or_default()),
    };
    format!("{name}: {} / {}", answer(redis), answer(ours))
}

/// The bytes of a command. Empty lines and commands of no words are for nobody: they have no
/// answer, and some come before lines.
fn sent(command: &Command) -> Vec<u8> {
    if command.inline {
        [b"\r\n*0\r\n".to_vec(), encode_inline(&command.words)].concat()
    } else {
        encode(&command.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_make_no_kind_of_difference() {
        let command = |name: &str| Command {
            words: vec![name.as_bytes().to_vec()],
            answer: Answer::Bytes,
            inline: false,
        };
        let get = |redis: &str, ours: &str| kind(&command("get"), redis.as_bytes(), ours.as_bytes());
        assert_eq!(get("$1\r\na\r\n", "-ERR 1\r\n"), get("$2\r\nbc\r\n", "-ERR 22\r\n"));
        assert_ne!(get("$1\r\na\r\n", "-ERR one\r\n"), get("$1\r\na\r\n", "-ERR other\r\n"));
        assert_ne!(get(":1\r\n", "$-1\r\n"), kind(&command("SET"), b":1\r\n", b"$-1\r\n"));
    }

    #[test]
    fn only_times_are_compared_with_tolerance() {
        let agree = |answer, redis, ours| times_agree(answer, &Reply::Integer(redis), &Reply::Integer(ours));
        assert!(agree(Answer::Seconds, 1_000, 1_005));
        assert!(!agree(Answer::Seconds, 1_000, 1_006));
        assert!(agree(Answer::Milliseconds, 1_000, 6_000));
        assert!(!agree(Answer::Milliseconds, 1, -1));
        assert!(!agree(Answer::Seconds, -1, -2));
        assert!(!agree(Answer::Bytes, 1, 2));
    }

    #[test]
    fn replies_of_a_transaction_are_compared_one_by_one() {
        let agree = |queued: &[Answer], redis: &str, ours: &str| {
            transactions_agree(queued, redis.as_bytes(), ours.as_bytes()).unwrap()
        };
        let both = [Answer::Seconds, Answer::Bytes];
        assert!(agree(&both, "*2\r\n:100\r\n:1\r\n", "*2\r\n:101\r\n:1\r\n"));
        assert!(!agree(&both, "*2\r\n:100\r\n:1\r\n", "*2\r\n:100\r\n:2\r\n"));
        assert!(!agree(&both, "*2\r\n:100\r\n:1\r\n", "*1\r\n:100\r\n"));
        assert!(!agree(&both, "*-1\r\n", "*0\r\n"));
    }
}
