//! What people type.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use e2e::redis::programs::run;

use crate::doors::Doors;

const KEYS: usize = 60;

/// redis-cli with one server.
pub async fn redis_cli(doors: &Doors) -> anyhow::Result<()> {
    let cli = async |words: &[&str], input: &str| cli(doors.plain()?, words, input).await;
    let prints = async |line: &str, wanted: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let out = cli(&words, "").await?;
        ensure!(out == wanted, "`redis-cli {line}` prints {out:?}, not {wanted:?}");
        anyhow::Ok(())
    };
    prints("DEL cli-a cli-n {cli}a {cli}b", "0\n").await?;
    prints("SET cli-a hello", "OK\n").await?;
    prints("GET cli-a", "hello\n").await?;
    prints("-3 GET cli-a", "hello\n").await?;
    prints("-3 GET cli-nothing", "\n").await?;
    prints("EXPIRE cli-a 100", "1\n").await?;
    prints("INCR cli-n", "1\n").await?;
    prints("INCRBY cli-n 41", "42\n").await?;
    prints("--no-raw GET cli-n", "\"42\"\n").await?;
    prints("MGET cli-a cli-n", "hello\n42\n").await?;
    prints("INCR cli-a", "ERR value is not an integer or out of range\n\n").await?;
    let out = cli(&[], "MULTI\nSET {cli}a 1\nINCR {cli}a\nEXEC\n").await?;
    ensure!(out == "OK\nQUEUED\nQUEUED\nOK\n2\n", "a transaction typed into redis-cli prints {out:?}");
    let out = cli(&["-x", "SET", "cli-x"], "from standard input").await?;
    ensure!(out == "OK\n", "`redis-cli -x` prints {out:?}");

    let many = typed(KEYS, |key| format!("SET cli-many-{key} {key}\r\n"));
    let out = cli(&["--pipe"], &many).await?;
    ensure!(out.contains(&format!("errors: 0, replies: {KEYS}")), "`redis-cli --pipe` prints {out}");
    let found = cli(&["--scan", "--pattern", "cli-many-*"], "").await?;
    ensure!(
        found.lines().count() == KEYS,
        "`redis-cli --scan` finds {} keys of {KEYS}",
        found.lines().count()
    );
    let out = cli(&["--bigkeys"], "").await?;
    ensure!(out.contains("strings with"), "`redis-cli --bigkeys` prints {out}");
    let out = cli(&["--memkeys"], "").await?;
    ensure!(out.contains("strings with"), "`redis-cli --memkeys` prints {out}");
    let out = cli(&["INFO"], "").await?;
    for line in ["redis_version:", "cluster_enabled:0", "connected_clients:"] {
        ensure!(out.contains(line), "INFO has no {line} in it:\n{out}");
    }
    let out = cli(&["CLIENT", "LIST"], "").await?;
    ensure!(out.contains("addr=127.0.0.1:") && out.contains("cmd=client"), "CLIENT LIST: {out}");
    // A server of few commands has fewer than Redis, and still some.
    let out = cli(&["COMMAND", "COUNT"], "").await?;
    ensure!(out.trim().parse().is_ok_and(|count: usize| count >= 60), "COMMAND COUNT: {out}");
    let out = cli(&["DEBUG", "SEGFAULT"], "").await?;
    ensure!(out.contains("ERR") && out.contains("DEBUG"), "DEBUG is not refused: {out}");
    prints("GET cli-n", "42\n").await
}

/// redis-cli where it is sent on.
pub async fn redis_cli_in_a_cluster(doors: &Doors) -> anyhow::Result<()> {
    let first = doors.cluster()?;
    let mut moved = 0;
    for key in 0..KEYS {
        let name = format!("clic-{key}");
        let out = cli(first, &["SET", &name, "without -c"], "").await?;
        moved += usize::from(out.starts_with("MOVED "));
        let out = cli(first, &["-c", "SET", &name, &key.to_string()], "").await?;
        ensure!(out == "OK\n", "`redis-cli -c SET {name}` prints {out:?}");
    }
    ensure!((10..KEYS).contains(&moved), "{moved} of {KEYS} keys are moved at one of three nodes");
    for (key, node) in (0..KEYS).zip(doors.redirecting.iter().cycle()) {
        let out = cli(*node, &["-c", "GET", &format!("clic-{key}")], "").await?;
        ensure!(out == format!("{key}\n"), "`redis-cli -c GET clic-{key}` prints {out:?}");
    }
    // One process, sent to and fro.
    let out = cli(first, &["-c"], &typed(KEYS, |key| format!("INCR clic-{key}\n"))).await?;
    let out: String = out.split_inclusive('\n').filter(|line| !line.starts_with("-> Redirected")).collect();
    let wanted = typed(KEYS, |key| format!("{}\n", key + 1));
    ensure!(out == wanted, "many lines typed into `redis-cli -c` print {out:?}");
    let crossing = cli(first, &["-c", "MSET", "a", "1", "b", "2"], "").await?;
    ensure!(crossing.starts_with("CROSSSLOT "), "MSET over slots: {crossing}");
    let out = cli(first, &["CLUSTER", "INFO"], "").await?;
    for line in ["cluster_state:ok", "cluster_slots_assigned:16384", "cluster_size:3"] {
        ensure!(out.contains(line), "CLUSTER INFO has no {line} in it:\n{out}");
    }
    let out = cli(first, &["INFO", "cluster"], "").await?;
    ensure!(out.contains("cluster_enabled:1"), "INFO cluster: {out}");
    let out = cli(first, &["CLUSTER", "KEYSLOT", "{user1000}.following"], "").await?;
    ensure!(out == "3443\n", "CLUSTER KEYSLOT: {out}");
    let out = cli(first, &["CLUSTER", "NODES"], "").await?;
    ensure!(out.lines().count() == 3 && out.contains("myself"), "CLUSTER NODES: {out}");
    let me = cli(first, &["CLUSTER", "MYID"], "").await?;
    let mine = out.lines().find(|line| line.contains("myself")).context("nobody is itself")?;
    ensure!(me.trim().len() == 40 && mine.starts_with(me.trim()), "CLUSTER MYID is {me}, and {mine}");
    Ok(())
}

/// redis-benchmark with one server.
pub async fn redis_benchmark(doors: &Doors) -> anyhow::Result<()> {
    let rest = ["-t", "ping,set,get,incr,mset", "-n", "4000", "-c", "20", "-r", "1000", "-d", "256", "-q"];
    benchmark(doors.plain()?, &rest, &["PING_INLINE", "SET", "GET", "INCR", "MSET"]).await?;
    benchmark(doors.plain()?, &[&rest[..], &["-P", "16"]].concat(), &["SET", "GET"]).await
}

/// redis-benchmark with a connection to each node.
pub async fn redis_benchmark_in_a_cluster(doors: &Doors) -> anyhow::Result<()> {
    let rest = ["--cluster", "-t", "set,get,incr", "-n", "3000", "-c", "20", "-r", "1000", "-q"];
    benchmark(doors.cluster()?, &rest, &["SET", "GET", "INCR"]).await?;
    benchmark(doors.cluster()?, &[&rest[..], &["-P", "8"]].concat(), &["SET", "GET"]).await
}

async fn benchmark(server: SocketAddr, rest: &[&str], tests: &[&str]) -> anyhow::Result<()> {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let words = [&["-h", &host, "-p", &port][..], rest].concat();
    let done = run("redis-benchmark", &words, b"").await?;
    let line = done.line.clone();
    // What goes wrong with its commands it says, and ends well nevertheless.
    let said = format!("{}{}", done.out, done.err);
    ensure!(!said.contains("rror") && !said.contains("WARNING"), "`{line}` says:\n{said}");
    let out = done.output()?;
    for test in tests {
        let measured = |line: &str| line.contains(test) && line.contains("requests per second");
        ensure!(out.split(['\r', '\n']).any(measured), "`{line}` does not measure {test}:\n{out}");
    }
    Ok(())
}

/// Lines typed into netcat.
pub async fn netcat(doors: &Doors) -> anyhow::Result<()> {
    let server = doors.plain()?;
    let typed = "SET netcat-a \"two words\"\r\n\r\nget netcat-a\nNONSENSE\r\nQUIT\r\n";
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let out = run("nc", &["-N", &host, &port], typed.as_bytes()).await?.output()?;
    let wanted =
        "+OK\r\n$9\r\ntwo words\r\n-ERR unknown command 'NONSENSE', with args beginning with: \r\n+OK\r\n";
    ensure!(out == wanted, "netcat prints {out:?}, not {wanted:?}");
    Ok(())
}

/// Commands through the Unix socket.
pub async fn socat(doors: &Doors) -> anyhow::Result<()> {
    let typed = "SET socat-a 1\r\nINCR socat-a\r\n*2\r\n$3\r\nGET\r\n$7\r\nsocat-a\r\nQUIT\r\n";
    let place = format!("UNIX-CONNECT:{}", doors.socket.display());
    let out = run("socat", &["-", &place], typed.as_bytes()).await?.output()?;
    let wanted = "+OK\r\n:2\r\n$1\r\n2\r\n+OK\r\n";
    ensure!(out == wanted, "socat prints {out:?}, not {wanted:?}");
    let socket = doors.socket.display().to_string();
    let out = run("redis-cli", &["-s", &socket, "GET", "socat-a"], b"").await?.output()?;
    ensure!(out == "2\n", "`redis-cli -s` prints {out:?}");
    Ok(())
}

/// The one command that is ours.
pub async fn update(doors: &Doors) -> anyhow::Result<()> {
    let plain = doors.plain()?;
    cli(plain, &["DEL", "update-a"], "").await?;
    cli(plain, &["UPDATE", "update-a", "1"], "").await?;
    let out = cli(plain, &["EXISTS", "update-a"], "").await?;
    ensure!(out == "0\n", "UPDATE made a key");
    cli(plain, &["SET", "update-a", "1"], "").await?;
    cli(plain, &["UPDATE", "update-a", "2"], "").await?;
    let out = cli(plain, &["GET", "update-a"], "").await?;
    ensure!(out == "2\n", "UPDATE over 1 leaves {out:?}");
    Ok(())
}

fn typed(many: usize, line: impl Fn(usize) -> String) -> String {
    (0..many).map(line).collect::<Vec<_>>().concat()
}

async fn cli(server: SocketAddr, words: &[&str], input: &str) -> anyhow::Result<String> {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    let words = [&["-h", &host, "-p", &port][..], words].concat();
    let done = run("redis-cli", &words, input.as_bytes()).await?;
    // An error that the server answers is printed, and its status is 0 or 1 by version.
    ensure!(done.status.is_some_and(|status| status <= 1), "`{}` failed: {}", done.line, done.err);
    ensure!(!done.err.contains("Could not connect"), "`{}`: {}", done.line, done.err);
    Ok(done.out)
}
