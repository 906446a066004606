//! A file per verb. Each has its arguments and a `run`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use bytes::Bytes;

use crate::arguments::{Arguments, Verb};
use crate::exit::Exit;
use crate::output::Output;

pub mod batch;
pub mod cluster;
pub mod completions;
pub mod delete;
pub mod dev;
pub mod exists;
pub mod export;
pub mod get;
pub mod import;
pub mod node;
pub mod patch;
pub mod ping;
pub mod put;
pub mod query;
pub mod rebalance;
pub mod scan;
pub mod shell;
pub mod table;
pub mod version;
pub mod watch;

/// Does what was asked for.
pub async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let global = arguments.global;
    let mut out = Output::new(global.output);
    let exit = match arguments.verb {
        Verb::Dev(dev) => dev.run(&global, &mut out).await,
        Verb::Put(put) => put.run(&global, &mut out).await,
        Verb::Get(get) => get.run(&global, &mut out).await,
        Verb::Patch(patch) => patch.run(&global, &mut out).await,
        Verb::Delete(delete) => delete.run(&global, &mut out).await,
        Verb::Exists(exists) => exists.run(&global, &mut out).await,
        Verb::Scan(scan) => scan.run(&global, &mut out).await,
        Verb::Query(query) => query.run(&global, &mut out).await,
        Verb::Watch(watch) => watch.run(&global, &mut out).await,
        Verb::Batch(batch) => batch.run(&global, &mut out).await,
        Verb::Export(export) => export.run(&global, &mut out).await,
        Verb::Import(import) => import.run(&global, &mut out).await,
        Verb::Table(table) => table.run(&global, &mut out).await,
        Verb::Cluster(cluster) => cluster.run(&global, &mut out).await,
        Verb::Node(node) => node.run(&global, &mut out).await,
        Verb::Rebalance(rebalance) => rebalance.run(&global, &mut out).await,
        Verb::Ping(ping) => ping.run(&global, &mut out).await,
        Verb::Completions(completions) => completions.run(&mut out),
        Verb::Shell(shell) => shell.run(&global).await,
        Verb::Version(_) => version::Version::run(&mut out),
    }?;
    out.flush()?;
    Ok(exit)
}

/// The bytes of an argument: those that were typed, whatever their encoding.
fn bytes(argument: OsString) -> Bytes {
    Bytes::from(argument.into_vec())
}
