//! Clients of other languages, by the programs in `e2e/clients`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use e2e::redis::programs::run;

use crate::doors::Doors;

/// redis-py with RESP2 and RESP3.
pub async fn redis_py(doors: &Doors) -> anyhow::Result<()> {
    rounds(&Language::python().await?, "plain", &doors.forwarding).await
}

/// redis-py with asyncio, plain and in a cluster.
pub async fn redis_py_asyncio(doors: &Doors) -> anyhow::Result<()> {
    let plain = doors.plain()?;
    let addresses: Vec<_> = std::iter::once(plain).chain(doors.redirecting.iter().copied()).collect();
    rounds(&Language::python().await?, "asyncio", &addresses).await
}

/// redis-py's client for clusters.
pub async fn redis_py_in_a_cluster(doors: &Doors) -> anyhow::Result<()> {
    rounds(&Language::python().await?, "cluster", &doors.redirecting).await
}

/// Jedis, pooled.
pub async fn jedis(doors: &Doors) -> anyhow::Result<()> {
    rounds(&Language::java().await?, "plain", &doors.forwarding).await
}

/// Jedis' client for clusters.
pub async fn jedis_in_a_cluster(doors: &Doors) -> anyhow::Result<()> {
    rounds(&Language::java().await?, "cluster", &doors.redirecting).await
}

/// How a program of another language is run.
#[derive(Debug)]
pub struct Language {
    /// What runs it.
    pub program: String,
    /// What comes before its own arguments.
    pub arguments: Vec<String>,
}

impl Language {
    /// Python with redis-py.
    pub async fn python() -> anyhow::Result<Self> {
        let (python, _) = prepared().await?;
        Ok(Self { program: python, arguments: vec![clients("python/rounds.py")] })
    }

    /// Java with Jedis.
    pub async fn java() -> anyhow::Result<Self> {
        let (_, jedis) = prepared().await?;
        let arguments = ["-cp".to_owned(), format!("{jedis}/*"), clients("jedis/Rounds.java")];
        Ok(Self { program: "java".to_owned(), arguments: arguments.to_vec() })
    }
}

async fn rounds(language: &Language, kind: &str, addresses: &[SocketAddr]) -> anyhow::Result<()> {
    let mut words = language.arguments.clone();
    words.push(kind.to_owned());
    words.extend(addresses.iter().map(SocketAddr::to_string));
    let out = run(&language.program, &words, b"").await?.output()?;
    ensure!(out.trim_end().ends_with("done"), "it prints {out}");
    Ok(())
}

/// Where redis-py and Jedis are. They are fetched where they are not there yet.
async fn prepared() -> anyhow::Result<(String, String)> {
    let nothing: [&str; 0] = [];
    let out = run(clients("prepare.sh"), &nothing, b"").await?.output()?;
    let (python, jedis) = out.trim_end().split_once('\n').context("prepare.sh prints two lines")?;
    // Maven says at its end how to give the terminal its colour back.
    let plain =
        |line: &str| line.rsplit('\u{1b}').next().unwrap_or_default().trim_start_matches("[0m").to_owned();
    Ok((plain(python), plain(jedis)))
}

fn clients(file: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients");
    folder.join(file).display().to_string()
}
