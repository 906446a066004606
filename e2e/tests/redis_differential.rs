//! The same commands, played on a real Redis and on us, are answered alike, byte for byte.
//!
//! `TRILITH_DIFFERENTIAL_STEPS` commands (100,000) are played in all, a sequence for each seed
//! of `TRILITH_DIFFERENTIAL_SEEDS` (numbers with commas; four that follow from the scenario's).
//! Where we differ on purpose is in [`DELIBERATE`], and nowhere else.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use e2e::redis::{Connection, Contest, Generator, RedisServer, Spread, inspection};
use e2e::{Cluster, Scenario, Shape};
use rand::RngExt as _;

const STEPS: u64 = 100_000;
const SEEDS: usize = 4;
/// Of each sequence, between two looks at all that the servers hold.
const INSPECTED_EVERY: u64 = 5_000;

/// So many kinds of difference are gathered before a sequence is given up.
const DIFFERENCES: usize = 60;

/// A difference from Redis that is meant.
struct Deliberate {
    why: &'static str,
    /// Commands on the first connection; the last one's answer differs.
    commands: fn() -> Vec<Vec<Vec<u8>>>,
    /// What Redis answers the last one.
    redis: &'static str,
    /// What our answer begins with.
    ours: &'static str,
}

/// All of them. A sequence holds none of these, and each is shown to be as it says.
const DELIBERATE: &[Deliberate] = &[
    Deliberate {
        why: "a key has 4 KiB at most",
        commands: || vec![words(&["SET", &"k".repeat(4_097), "v"])],
        redis: "OK",
        ours: "ERR",
    },
    Deliberate {
        why: "a key is not empty",
        commands: || vec![words(&["SET", "", "v"])],
        redis: "OK",
        ours: "ERR",
    },
    Deliberate {
        why: "there is one database; tables stand in their place",
        commands: || vec![words(&["SET", "{tag}a", "v"]), words(&["COPY", "{tag}a", "{tag}b", "DB", "1"])],
        redis: "1",
        ours: "ERR",
    },
    Deliberate {
        why: "the commands of a transaction have keys of one slot, so that a later split breaks nobody",
        commands: || {
            let mut commands = vec![words(&["MULTI"]), words(&["SET", "a", "1"]), words(&["SET", "b", "1"])];
            commands.push(words(&["EXEC"]));
            commands
        },
        redis: "[Simple(\"OK\"), Simple(\"OK\")]",
        ours: "CROSSSLOT",
    },
    Deliberate {
        why: "RENAME, as every command that is atomic over several keys, has them in one slot",
        commands: || vec![words(&["SET", "a", "v"]), words(&["RENAME", "a", "b"])],
        redis: "OK",
        ours: "CROSSSLOT",
    },
    Deliberate {
        why: "a watched key that was absent, came, and went again has not changed",
        commands: || {
            ["DEL {t}k", "WATCH {t}k", "SET {t}k v", "DEL {t}k", "MULTI", "EXEC"]
                .map(|line| words(&line.split(' ').collect::<Vec<_>>()))
                .to_vec()
        },
        redis: "(nil array)",
        ours: "[]",
    },
];

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn trilith_answers_as_redis_does() -> anyhow::Result<()> {
    let scenario = Scenario::begin("redis differential").await?;
    let redis = RedisServer::start(&[]).await?;
    let cluster = Cluster::form(Shape::default()).await?;
    let (theirs, ours) = (redis.address(), cluster.redis_address(0)?);

    let seeds = seeds(&scenario)?;
    let steps = steps()? / seeds.len() as u64;
    // One that differs does not keep the others from being played.
    let mut failed = Vec::new();
    let mut note = |what: String, outcome: anyhow::Result<()>| {
        scenario.say(outcome.as_ref().map_or_else(|error| format!("{what}: {error:#}"), |()| what.clone()));
        failed.extend(outcome.err().map(|_| what));
    };
    for seed in seeds {
        for (spread, steps) in [(Spread::OneSlot, steps * 4 / 5), (Spread::ManySlots, steps / 5)] {
            let played = play(theirs, ours, seed, spread, steps).await;
            note(format!("seed {seed}, {steps} commands, {spread:?}"), played.map(|_| ()));
        }
    }
    note("keys expire".to_owned(), inspection::keys_expire(ours).await);
    note("SCAN finds what stays".to_owned(), inspection::scan_keeps_its_promise(ours).await);
    for deliberate in DELIBERATE {
        note(format!("meant: {}", deliberate.why), check(deliberate, theirs, ours).await);
    }
    ensure!(failed.is_empty(), "as told above: {failed:#?}");
    cluster.finish()
}

/// Nothing of what is played depends on when, or on which server: two of Redis agree.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_of_redis_agree() -> anyhow::Result<()> {
    let scenario = Scenario::begin("redis beside redis").await?;
    let (one, other) = (RedisServer::start(&[]).await?, RedisServer::start(&[]).await?);
    let steps = steps()? / 5;
    for seed in seeds(&scenario)? {
        for spread in [Spread::OneSlot, Spread::ManySlots] {
            let keys = play(one.address(), other.address(), seed, spread, steps).await?;
            scenario.say(format_args!("seed {seed}: {steps} commands, {spread:?}, {keys} keys in the end"));
        }
    }
    inspection::keys_expire(one.address()).await?;
    inspection::scan_keeps_its_promise(one.address()).await
}

/// What differs is found, and told with what it takes to see it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_otherwise_is_found() -> anyhow::Result<()> {
    let scenario = Scenario::begin("redis beside a wrong redis").await?;
    let right = RedisServer::start(&[]).await?;
    // Arguments of --rename-command are two words each.
    let wrong: [(&str, &[&str]); 4] = [
        ("a command is missing", &["--rename-command", "SUBSTR", "ELSEWHERE"]),
        (
            "INCR and DECR are exchanged",
            &[
                "--rename-command",
                "INCR",
                "THIRD",
                "--rename-command",
                "DECR",
                "INCR",
                "--rename-command",
                "THIRD",
                "DECR",
            ],
        ),
        (
            "PERSIST takes a key for its deletion",
            &["--rename-command", "PERSIST", "THIRD", "--rename-command", "GETDEL", "PERSIST"],
        ),
        ("values have a limit", &["--proto-max-bulk-len", "32mb"]),
    ];
    for (what, arguments) in wrong {
        let wrong = RedisServer::start(arguments).await?;
        let played = play(right.address(), wrong.address(), 1, Spread::OneSlot, 20_000).await;
        let told = played.err().with_context(|| format!("not found: {what}"))?.to_string();
        for part in ["seed 1", "step ", "Redis: ", "ours: "] {
            ensure!(told.contains(part), "{part:?} is not told: {told}");
        }
        scenario.say(format_args!("{what}:\n{told}"));
    }
    let wrong = RedisServer::start(&[]).await?;
    Connection::open(wrong.address()).await?.ask(&["SET", "more", "1"]).await?;
    let told = inspection::same_keys(right.address(), wrong.address()).await;
    let told = told.err().context("a key too many is not found")?.to_string();
    ensure!(told.contains("too many [\"more\"]"), "{told}");
    Ok(())
}

/// A sequence, with a look at everything now and then and at the end. Gives how many keys
/// there were in the end. What differs is gathered, so that one run tells all of it.
async fn play(
    redis: SocketAddr,
    ours: SocketAddr,
    seed: u64,
    spread: Spread,
    steps: u64,
) -> anyhow::Result<usize> {
    let mut generator = Generator::new(seed, spread)?;
    let mut contest = Contest::begin(redis, ours, seed).await?;
    let mut differences = BTreeMap::new();
    let (mut inspected, mut keys) = (0, 0);
    while contest.played() < steps && differences.len() < DIFFERENCES {
        for pipeline in generator.scene() {
            if let Some(difference) = contest.play(&pipeline).await? {
                differences.entry(difference.kind).or_insert(difference.told);
                contest.begin_again().await?;
                break;
            }
        }
        if contest.played() - inspected >= INSPECTED_EVERY || contest.played() >= steps {
            inspected = contest.played();
            match inspection::same_keys(redis, ours).await {
                Ok(found) => keys = found,
                Err(error) => {
                    let told = format!("seed {seed}, after step {inspected}: {error:#}");
                    differences.insert(format!("{error:.40}"), told);
                    contest.begin_again().await?;
                }
            }
        }
    }
    let told: Vec<_> = differences.values().map(String::as_str).collect();
    ensure!(told.is_empty(), "{} kinds of difference\n\n{}", told.len(), told.join("\n\n"));
    Ok(keys)
}

async fn check(deliberate: &Deliberate, redis: SocketAddr, ours: SocketAddr) -> anyhow::Result<()> {
    for (who, server, wanted) in [("Redis", redis, deliberate.redis), ("ours", ours, deliberate.ours)] {
        let mut connection = Connection::open(server).await?;
        connection.ask(&["FLUSHDB"]).await?;
        let mut last = None;
        for command in (deliberate.commands)() {
            last = Some(connection.ask_words(&command).await?);
        }
        let last = last.context("no command")?;
        let told = last.to_string();
        ensure!(told.starts_with(wanted), "{who} answers {told:?}, not {wanted:?}");
    }
    Ok(())
}

fn steps() -> anyhow::Result<u64> {
    match std::env::var("TRILITH_DIFFERENTIAL_STEPS") {
        Ok(text) => text.parse().with_context(|| format!("TRILITH_DIFFERENTIAL_STEPS is {text:?}")),
        Err(_) => Ok(STEPS),
    }
}

fn seeds(scenario: &Scenario) -> anyhow::Result<Vec<u64>> {
    match std::env::var("TRILITH_DIFFERENTIAL_SEEDS") {
        Ok(text) => {
            let seeds = text.split(',').map(|seed| seed.trim().parse());
            seeds.collect::<Result<_, _>>().with_context(|| format!("TRILITH_DIFFERENTIAL_SEEDS is {text:?}"))
        }
        Err(_) => {
            let mut random = scenario.random(1);
            Ok((0..SEEDS).map(|_| random.random_range(0..1_000_000)).collect())
        }
    }
}
