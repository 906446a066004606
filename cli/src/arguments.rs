//! The flags that every verb understands, and the verbs.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use client::{Client, Options, Table};
use tokio::sync::OnceCell;

use crate::duration::parse_duration;
use crate::output::Format;
use crate::verbs;

const EXAMPLES: &str = "\
Examples:
  trilith dev                              a cluster on this machine
  trilith put greeting hello --ttl 1h
  trilith get greeting
  trilith -t orders scan --prefix 2026-
  trilith cluster status

Exit status:
  0 done   1 failed   2 wrong usage   3 not found, or a condition was not met
  4 the outcome is unknown: the write may or may not have been done";

/// Trilith, a replicated key-value store.
#[derive(Debug, Parser)]
#[command(name = "trilith", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags that work before and after every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Nodes to ask, tried in turn; repeatable, or separated by commas.
    #[arg(
        short,
        long,
        global = true,
        env = "TRILITH_ENDPOINT",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420"
    )]
    pub endpoint: Vec<String>,
    /// The table.
    #[arg(short, long, global = true, value_name = "NAME", default_value = "default")]
    pub table: String,
    /// How to print what is found.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text)]
    pub output: Format,
    /// How long to try, for example 500ms or 1m.
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
    /// A connection that several verbs share.
    #[arg(skip)]
    pub session: Option<Arc<Session>>,
}

/// A connection that outlives a verb, made when it is first used.
#[derive(Debug)]
pub struct Session {
    endpoint: Vec<String>,
    timeout: Duration,
    client: OnceCell<Client>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a cluster of real processes on this machine.
    Dev(verbs::dev::Dev),
    /// Write a key.
    Put(verbs::put::Put),
    Patch(verbs::patch::Patch),
    /// Print the value of a key.
    Get(verbs::get::Get),
    /// Delete a key.
    Delete(verbs::delete::Delete),
    /// Ask whether there is a key.
    Exists(verbs::exists::Exists),
    /// Print items in key order.
    Scan(verbs::scan::Scan),
    /// Print items by what an index says of them.
    Query(verbs::query::Query),
    /// Print changes as they happen.
    Watch(verbs::watch::Watch),
    /// Do many operations, one JSON object a line.
    Batch(verbs::batch::Batch),
    /// Write a table into a file.
    Export(verbs::export::Export),
    /// Write the items of a file into a table.
    Import(verbs::import::Import),
    /// Create, list, describe, alter and drop tables.
    #[command(subcommand)]
    Table(verbs::table::TableVerb),
    /// Create a cluster, join it, and see how it is.
    #[command(subcommand)]
    Cluster(verbs::cluster::ClusterVerb),
    /// Empty a node, take it out, or ask whether it may restart.
    #[command(subcommand)]
    Node(verbs::node::NodeVerb),
    /// Show what would bring the cluster into balance, or do it.
    Rebalance(verbs::rebalance::Rebalance),
    /// See which nodes answer, and how fast.
    Ping(verbs::ping::Ping),
    /// Print a completion script for a shell.
    Completions(verbs::completions::Completions),
    /// Type commands at a prompt, or run a script of them.
    Shell(verbs::shell::Shell),
    /// Print the version.
    Version(verbs::version::Version),
}

impl Global {
    /// A client of the cluster that is asked for.
    pub async fn connect(&self) -> Result<Client, client::Error> {
        match self.shared() {
            Some(session) => session.client().await,
            None => Client::connect(self.endpoint.clone(), self.options(false)).await,
        }
    }

    /// A client that also follows the map, for a verb that makes many calls.
    pub async fn connect_and_follow(&self) -> Result<Client, client::Error> {
        match self.shared() {
            Some(session) => session.client().await,
            None => Client::connect(self.endpoint.clone(), self.options(true)).await,
        }
    }

    /// A client that connects when it is used.
    pub fn connect_lazy(&self) -> Result<Client, client::Error> {
        match self.shared().and_then(|session| session.client.get()) {
            Some(client) => Ok(client.clone()),
            None => Client::connect_lazy(self.endpoint.clone(), self.options(false)),
        }
    }

    /// The table that is asked for.
    pub async fn open_table(&self) -> Result<Table, client::Error> {
        Ok(self.connect().await?.table(&self.table))
    }

    /// The session, where it is with the cluster that is asked for.
    fn shared(&self) -> Option<&Session> {
        let same = |session: &&Session| session.endpoint == self.endpoint && session.timeout == self.timeout;
        self.session.as_deref().filter(same)
    }

    fn options(&self, follow_map: bool) -> Options {
        Options { deadline: self.timeout, follow_map, ..Options::default() }
    }
}

impl Session {
    /// For what these flags say.
    pub fn new(global: &Global) -> Arc<Self> {
        let (endpoint, timeout) = (global.endpoint.clone(), global.timeout);
        Arc::new(Self { endpoint, timeout, client: OnceCell::new() })
    }

    /// The client. When no node can be reached, the next call tries again.
    async fn client(&self) -> Result<Client, client::Error> {
        let options = Options { deadline: self.timeout, ..Options::default() };
        let client = self.client.get_or_try_init(|| Client::connect(self.endpoint.clone(), options)).await?;
        Ok(client.clone())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("trilith").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_flags_work_before_and_after_the_verb() {
        for line in [
            "-e a:1,b:2 -t orders -o json get k",
            "get k -e a:1 -e b:2 -t orders -o json",
            "get -t orders k --output json --endpoint a:1,b:2",
        ] {
            let global = parse(line).unwrap().global;
            assert_eq!(global.endpoint, ["a:1", "b:2"], "{line}");
            assert_eq!((global.table.as_str(), global.output), ("orders", Format::Json), "{line}");
        }
        assert_eq!(parse("get k").unwrap().global.endpoint.len(), 3);
    }

    #[test]
    fn every_verb_of_the_contract_is_understood() {
        for line in [
            "dev --nodes 5 --data d --partitions 4 --port-offset 100 --no-restart",
            "put k v --ttl 10s --if-absent",
            "put k -5 --if-version 7",
            "get k --stale",
            "delete k",
            "exists k",
            "scan a z --limit 5 --reverse --keys-only",
            "scan --prefix p --cursor abc",
            "batch -",
            "export orders.jsonl -t orders --prefix p --progress never",
            "export - --format csv",
            "export all.trilith --resume",
            "import orders.jsonl -t orders --if-absent --skip-bad",
            "import orders.txt --format csv --from-line 7",
            "import all.trilith --resume --progress always",
            "table create t --partitions 8 --replicas 3 --ttl 1h",
            "table list",
            "table describe t",
            "table alter t --ttl 1d",
            "table drop t",
            "cluster init",
            "cluster status",
            "cluster nodes",
            "cluster leader",
            "cluster partitions",
            "cluster join a:1",
            "node drain node-1",
            "node undrain node-1",
            "node remove node-1",
            "node can-restart node-1",
            "rebalance --apply",
            "ping",
            "completions bash",
            "shell",
            "shell --keep-going",
            "version",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn wrong_usage_ends_with_status_two() {
        for line in [
            "",
            "get",
            "put k",
            "put k v --if-absent --if-exists",
            "put k v --ttl soon",
            "dev --nodes 0",
            "import f --resume --from-line 7",
            "import f --from-line 0",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn every_verb_gives_an_example() {
        fn check(command: &clap::Command) {
            if command.has_subcommands() {
                command.get_subcommands().for_each(check);
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("trilith "), "{} has no example", command.get_name());
            }
        }
        Arguments::command().get_subcommands().for_each(check);
    }
}
