//! What a node is told at its start.
//!
//! ```text
//!     flags ──▶ TRILITH_* variables ──▶ YAML file ──▶ defaults        (settings.rs, file.rs)
//!                        │ the first that says something counts
//!                        ▼
//!                    validate.rs ──▶ NodeConfig, which cannot be wrong
//! ```
//!
//! A setting is a field of [`Settings`] and nothing else: flag, variable, name in the file
//! and help all follow from it. The rest of the node sees only [`NodeConfig`].

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as _, CommandFactory, FromArgMatches, Parser};

pub use address::{Address, BadAddress};
pub use byte_size::{BadByteSize, ByteSize};
pub use cors_origins::{BadOrigin, CorsOrigins};
pub use listen_address::{BadListenAddress, ListenAddress};
pub use memory::{BUFFERS, Parts};
pub use or_off::{BadOrOff, OrOff};
pub use otlp_endpoint::{BadOtlpEndpoint, OtlpEndpoint};
pub use ratio::{BadRatio, Ratio};
pub use settings::{Compression, LogFormat, Settings};
pub use switch::{BadSwitch, Switch};
pub use time_span::{BadTimeSpan, TimeSpan};
pub use validate::{Machine, ThisMachine, validate};

mod address;
mod byte_size;
mod cors_origins;
mod file;
mod listen_address;
mod memory;
mod memory_limit;
mod or_off;
mod otlp_endpoint;
mod ratio;
mod settings;
mod switch;
mod time_span;
mod validate;
mod written;

#[cfg(test)]
mod tests;

/// A storage node of a Trilith cluster.
///
/// Started with an empty data folder, it waits until it is told to create a cluster
/// (`trilith cluster init`) or to join one (`--join`, `trilith cluster join`). Started
/// again, it goes on where it was. `trilith dev` starts several of them on one machine.
#[derive(Debug, Parser)]
#[command(name = "trilith-node", version, after_help = PRECEDENCE)]
pub struct CommandLine {
    /// A YAML file with settings: the names of the flags, with `_` for `-`.
    #[arg(long, env = "TRILITH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints the settings that would be in force, as such a file, and ends.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    settings: Settings,
}

const PRECEDENCE: &str = "A flag counts before its variable, a variable before the file, and the file \
before the default.\n\nSizes are whole bytes or have a unit (64KiB, 8MiB, 1GB); times always have one \
(250ms, 10s, 5m).";

/// What a command line asks for.
#[derive(Debug)]
pub enum Start {
    /// To serve.
    Serve(Box<NodeConfig>),
    /// To print this and end.
    Print(String),
}

/// All that a node was told, checked and complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The folder that holds everything the node keeps.
    pub data: PathBuf,
    /// What people call it.
    pub name: String,
    /// The zone that it fails with; empty: not known.
    pub zone: String,
    /// The machine that it fails with; empty: one of its own.
    pub host: String,
    /// Where it listens.
    pub listen: Listen,
    /// Where others reach it.
    pub advertise: Reached,
    /// gRPC addresses of nodes of the cluster that it should join.
    pub join: Vec<Address>,
    /// Pages that may use REST.
    pub cors_origins: CorsOrigins,
    /// How soon a silent leader is replaced.
    pub timing: Timing,
    /// What is refused for its size.
    pub limits: Limits,
    /// What the doors may take.
    pub doors: Doors,
    /// How disk and memory are used.
    pub storage: Storage,
    /// What is logged, and how.
    pub logging: Logging,
    /// What is told of operations.
    pub observability: Observability,
    /// Threads that serve; 0: one for each core.
    pub worker_threads: u16,
    /// Whether the node ends when its standard input does.
    pub exit_with_parent: bool,
}

/// Where a node listens. Port 0 asks for any that is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// For applications.
    pub grpc: SocketAddr,
    /// For the other nodes.
    pub peer: SocketAddr,
    /// For REST, probes and metrics.
    pub http: SocketAddr,
    /// For Redis clients, whatever they ask for, if any.
    pub redis: Option<SocketAddr>,
    /// For Redis clients that know of a cluster, if any.
    pub redis_cluster: Option<SocketAddr>,
    /// For lines of text, if any.
    pub text: Option<SocketAddr>,
    /// For Redis clients on this machine.
    pub resp_socket: Option<PathBuf>,
}

/// Where others reach a node. A port that is 0 is known once it is bound: see
/// [`Address::bound_to`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// For applications.
    pub grpc: Address,
    /// For the other nodes.
    pub peer: Address,
    /// For REST, probes and metrics.
    pub http: Address,
    /// For Redis clients that know of a cluster; none where that door is closed.
    pub redis_cluster: Option<Address>,
}

/// How soon a silent leader is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader is heard.
    pub heartbeat_interval: Duration,
    /// The shortest time from the end of a lease until a follower stands; at least two heartbeats.
    pub election_timeout_min: Duration,
    /// The longest such time, and a leader's lease.
    pub election_timeout_max: Duration,
    /// A partition that nobody used for so long sleeps.
    pub sleep_after: Duration,
}

/// What is refused for its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest key.
    pub max_key_bytes: usize,
    /// The longest value.
    pub max_value_bytes: usize,
    /// The most operations of one batch or transaction.
    pub max_batch_operations: usize,
    /// The most bytes of one batch or transaction; holds any single write.
    pub max_batch_bytes: usize,
    /// The most bytes of writes that wait on the node; holds any single batch.
    pub max_waiting_write_bytes: usize,
    /// The most items of one page of a scan.
    pub scan_page_items: usize,
    /// A page of a scan ends with the item that takes it over this.
    pub scan_page_bytes: usize,
}

/// What the doors for Redis clients and for text may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doors {
    /// Connections at once, of all these doors together.
    pub max_connections: usize,
    /// What the connections may hold of requests and answers, together.
    pub max_connection_bytes: usize,
    /// A connection that says nothing for so long is closed; 0: never.
    pub connection_idle_timeout: Duration,
}

/// How disk and memory are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// The memory that the sizes here and among the limits are parts of; none: they were set by
    /// themselves, or do not go into what there is.
    pub memory: Option<usize>,
    /// With less of the disk free than this, writes are refused; 0: never.
    pub disk_nearly_full_percent: u8,
    /// Memory for blocks that were read.
    pub block_cache_bytes: usize,
    /// One of up to four buffers of writes that are not in files yet.
    pub write_buffer_bytes: usize,
    /// The same of the log.
    pub log_buffer_bytes: usize,
    /// Memory for recent entries of the log.
    pub recent_entries_bytes: usize,
    /// How files of the state are compressed.
    pub compression: Compression,
    /// Bits for each key in their filters; 0: none.
    pub bloom_bits: u8,
    /// Whether they are mapped into memory to be read.
    pub memory_mapped_reads: bool,
    /// How fast they are written in the background; 0: as fast as can be.
    pub background_bytes_per_second: u64,
    /// How fast snapshots are sent; 0: as fast as can be.
    pub snapshot_bytes_per_second: u64,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// How a line looks.
    pub format: LogFormat,
    /// Levels by module, in the syntax of tracing's `EnvFilter`.
    pub filter: String,
}

/// What is told of operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observability {
    /// Operations that take so long are logged, if any.
    pub slow_operation: Option<Duration>,
    /// Where traces go, if anywhere.
    pub tracing: Option<Tracing>,
}

/// Where traces go, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracing {
    /// The collector.
    pub endpoint: OtlpEndpoint,
    /// How many of the operations are recorded that belong to no trace yet.
    pub sampling: Ratio,
}

/// Why a node cannot start with what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}", path = path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not YAML.
    #[error("{path}: {source}", path = path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where in the file.
        source: serde_yaml::Error,
    },
    /// A value in the file is not what its setting takes.
    #[error("{path}: {name}: {source}", path = path.display())]
    BadValue {
        /// Which file.
        path: PathBuf,
        /// The setting.
        name: String,
        /// What is wrong with its value.
        source: serde_yaml::Error,
    },
    /// The file is YAML but no list of settings.
    #[error("{path} does not hold settings: write one `name: value` a line, such as `name: node-1`", path = path.display())]
    NotSettings {
        /// Which file.
        path: PathBuf,
    },
    /// The file names a setting that does not exist.
    #[error("{path}: there is no setting {name:?}{hint}", path = path.display(), hint = did_you_mean(nearest.as_deref()))]
    UnknownName {
        /// Which file.
        path: PathBuf,
        /// What it names.
        name: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// There is nowhere to keep anything.
    #[error("no data folder was given: use --data DIR, TRILITH_DATA, or `data:` in the configuration file")]
    NoDataFolder,
    /// A setting is not possible, alone or beside the others.
    #[error("{name}: {reason}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration cannot be written as YAML, because of a path that is not text.
    #[error("cannot print the configuration: {0}")]
    Unprintable(serde_yaml::Error),
}

impl CommandLine {
    /// The command line of this process and its variables. Help, the version and wrong usage
    /// end the process, as usual.
    pub fn of_this_process() -> Self {
        let matches = command().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// What it asks for.
    pub fn start(self, machine: &dyn Machine) -> Result<Start, ConfigError> {
        let file = match &self.config {
            Some(path) => file::read(path)?,
            None => Settings::default(),
        };
        let config = validate(self.settings.or(file), machine)?;
        if self.print_config {
            let yaml = serde_yaml::to_string(&Settings::from(&config)).map_err(ConfigError::Unprintable)?;
            return Ok(Start::Print(yaml));
        }
        Ok(Start::Serve(Box::new(config)))
    }
}

impl From<&NodeConfig> for Parts {
    /// What each part of the memory may take.
    fn from(config: &NodeConfig) -> Self {
        let size = |bytes: usize| ByteSize(bytes as u64);
        Self {
            block_cache: size(config.storage.block_cache_bytes),
            write_buffer: size(config.storage.write_buffer_bytes),
            log_buffer: size(config.storage.log_buffer_bytes),
            recent_entries: size(config.storage.recent_entries_bytes),
            waiting_writes: size(config.limits.max_waiting_write_bytes),
            connections: size(config.doors.max_connection_bytes),
        }
    }
}

impl From<&NodeConfig> for Settings {
    /// The settings that lead to exactly this configuration, on any machine.
    fn from(config: &NodeConfig) -> Self {
        let size = |bytes: usize| Some(ByteSize(bytes as u64));
        let count = |count: usize| Some(u32::try_from(count).unwrap_or(u32::MAX));
        let door = |listen: Option<SocketAddr>| Some(listen.map(ListenAddress).into());
        let tracing = config.observability.tracing.as_ref();
        Self {
            data: Some(config.data.clone()),
            name: Some(config.name.clone()),
            zone: Some(config.zone.clone()),
            host: Some(config.host.clone()),
            listen_grpc: Some(ListenAddress(config.listen.grpc)),
            listen_peer: Some(ListenAddress(config.listen.peer)),
            listen_http: Some(ListenAddress(config.listen.http)),
            listen_redis: door(config.listen.redis),
            listen_redis_cluster: door(config.listen.redis_cluster),
            listen_text: door(config.listen.text),
            resp_socket: config.listen.resp_socket.clone(),
            advertise_grpc: Some(config.advertise.grpc.clone()),
            advertise_peer: Some(config.advertise.peer.clone()),
            advertise_http: Some(config.advertise.http.clone()),
            advertise_redis_cluster: config.advertise.redis_cluster.clone(),
            // The ports above are moved already.
            port_offset: Some(0),
            join: Some(config.join.clone()),
            cors_origins: Some(config.cors_origins.names()),
            heartbeat_interval: Some(config.timing.heartbeat_interval.into()),
            election_timeout_min: Some(config.timing.election_timeout_min.into()),
            election_timeout_max: Some(config.timing.election_timeout_max.into()),
            sleep_after: Some(config.timing.sleep_after.into()),
            max_key_bytes: size(config.limits.max_key_bytes),
            max_value_bytes: size(config.limits.max_value_bytes),
            max_batch_operations: count(config.limits.max_batch_operations),
            max_batch_bytes: size(config.limits.max_batch_bytes),
            max_waiting_write_bytes: size(config.limits.max_waiting_write_bytes),
            scan_page_items: count(config.limits.scan_page_items),
            scan_page_bytes: size(config.limits.scan_page_bytes),
            max_connections: count(config.doors.max_connections),
            max_connection_bytes: size(config.doors.max_connection_bytes),
            connection_idle_timeout: Some(config.doors.connection_idle_timeout.into()),
            memory: Some(config.storage.memory.map(|memory| ByteSize(memory as u64)).into()),
            disk_nearly_full_percent: Some(config.storage.disk_nearly_full_percent),
            block_cache_bytes: size(config.storage.block_cache_bytes),
            write_buffer_bytes: size(config.storage.write_buffer_bytes),
            log_buffer_bytes: size(config.storage.log_buffer_bytes),
            recent_entries_bytes: size(config.storage.recent_entries_bytes),
            compression: Some(config.storage.compression),
            bloom_bits: Some(config.storage.bloom_bits),
            memory_mapped_reads: Some(config.storage.memory_mapped_reads.into()),
            background_bytes_per_second: Some(ByteSize(config.storage.background_bytes_per_second)),
            snapshot_bytes_per_second: Some(ByteSize(config.storage.snapshot_bytes_per_second)),
            log_format: Some(config.logging.format),
            log_level: Some(config.logging.filter.clone()),
            slow_operation: Some(config.observability.slow_operation.map(TimeSpan::from).into()),
            otlp_endpoint: Some(tracing.map(|tracing| tracing.endpoint.clone()).into()),
            otlp_sampling_ratio: tracing
                .map(|tracing| tracing.sampling)
                .or(Self::defaults().otlp_sampling_ratio),
            worker_threads: Some(config.worker_threads),
            exit_with_parent: Some(config.exit_with_parent),
        }
    }
}

/// The command with its defaults in its help. They stand in [`Settings::defaults`] alone and
/// not in clap, which would take them for something that the user said.
fn command() -> clap::Command {
    let defaults = serde_yaml::to_value(Settings::defaults()).unwrap_or_default();
    CommandLine::command().mut_args(|arg| {
        let default = defaults.get(arg.get_id().as_str()).and_then(shown);
        match (default, arg.get_help().map(ToString::to_string)) {
            (Some(default), Some(help)) => arg.help(format!("{help} [default: {default}]")),
            _ => arg,
        }
    })
}

fn shown(default: &serde_yaml::Value) -> Option<String> {
    use serde_yaml::Value;
    match default {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The names that a file may use.
fn known_names() -> Vec<String> {
    let command = Settings::augment_args(clap::Command::new("settings"));
    command.get_arguments().map(|arg| arg.get_id().to_string()).collect()
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}
