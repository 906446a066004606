//! What can be set, as flags or as `TRILITH_OPERATOR_*` variables.

#![expect(clippy::doc_markdown, reason = "these comments are the help text")]

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::faults::Fault;

/// Runs Trilith clusters on Kubernetes, as KVCluster and KVTable resources declare them.
#[derive(Debug, Parser)]
#[command(name = "trilith-operator", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do; without a word: run.
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    run: RunSettings,
}

/// What the operator is asked to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Keeps clusters and tables as they are declared.
    Run(Box<RunSettings>),
    /// The custom resource definitions.
    Crds {
        /// What to do with them.
        #[command(subcommand)]
        action: CrdsAction,
    },
}

/// What is done with the custom resource definitions.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum CrdsAction {
    /// Prints them as YAML.
    Print,
    /// Applies them, and returns once Kubernetes serves them.
    Apply,
}

/// How the operator runs.
#[derive(Debug, Clone, Args)]
pub struct RunSettings {
    /// The namespaces to watch. Empty: all of them.
    #[arg(long, env = "TRILITH_OPERATOR_NAMESPACES", value_name = "NAME,…", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// The image of storage nodes where a KVCluster names none.
    #[arg(long, env = "TRILITH_OPERATOR_NODE_IMAGE", value_name = "IMAGE", default_value = DEFAULT_NODE_IMAGE)]
    pub node_image: String,
    /// Where /metrics, /livez and /readyz are.
    #[arg(long, env = "TRILITH_OPERATOR_HTTP", value_name = "IP:PORT", default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,
    /// The Lease by which operators agree on the one that acts.
    #[arg(long, env = "TRILITH_OPERATOR_LEASE", value_name = "NAME", default_value = "trilith-operator")]
    pub lease: String,
    /// The operator's own namespace, where the Lease is.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = "default")]
    pub own_namespace: String,
    /// Who this operator is, among those that share the Lease. Unless given: the host's name.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
    /// How log lines look.
    #[arg(long, env = "TRILITH_OPERATOR_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, also by module.
    #[arg(long, env = "TRILITH_OPERATOR_LOG_LEVEL", value_name = "FILTER", default_value = "info")]
    pub log_level: String,
    /// Where to end, for tests: before:STEP or after:STEP.
    #[arg(long, env = "TRILITH_OPERATOR_FAULT", value_name = "FAULT", hide = true)]
    pub fault: Option<Fault>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

/// The image of storage nodes that this operator was built with.
const DEFAULT_NODE_IMAGE: &str = concat!("trilith-node:", env!("CARGO_PKG_VERSION"));

impl Arguments {
    /// What to do.
    pub fn command(self) -> Command {
        self.command.unwrap_or_else(|| Command::Run(Box::new(self.run)))
    }
}

impl RunSettings {
    /// The namespaces to watch; none: all.
    pub fn watched(&self) -> Vec<String> {
        let named = self.namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        let mut named: Vec<String> = named.map(str::to_owned).collect();
        named.sort();
        named.dedup();
        named
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_runs_without_a_word() {
        Arguments::command_for_update().debug_assert();
        let given = ["trilith-operator", "--namespaces", "b,a, b,"];
        let Command::Run(run) = Arguments::parse_from(given).command() else { panic!("it does not run") };
        assert_eq!(run.watched(), ["a", "b"]);
        let given = ["trilith-operator", "crds", "apply"];
        assert!(matches!(
            Arguments::parse_from(given).command(),
            Command::Crds { action: CrdsAction::Apply }
        ));
    }
}
