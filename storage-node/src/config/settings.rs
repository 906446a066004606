//! The settings as people give them: each may be left out wherever it can be given.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::byte_size::ByteSize;
use super::listen_address::ListenAddress;
use super::or_off::OrOff;
use super::otlp_endpoint::OtlpEndpoint;
use super::ratio::Ratio;
use super::switch::Switch;
use super::time_span::TimeSpan;

/// Every setting, once: its flag, its `TRILITH_*` variable and its name in a file all follow
/// from the field, and `--help` shows the field's comment.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The folder that holds everything this node keeps. It is created where it is missing,
    /// and belongs to one node for good.
    #[arg(long, env = "TRILITH_DATA", value_name = "DIR", help_heading = "Identity")]
    pub data: Option<PathBuf>,
    /// What people call this node; unique in its cluster. Unless given: the machine's
    /// host name.
    #[arg(long, env = "TRILITH_NAME", value_name = "NAME", help_heading = "Identity")]
    pub name: Option<String>,
    /// The zone that this node fails with. Copies of a partition are spread over zones.
    #[arg(long, env = "TRILITH_ZONE", value_name = "ZONE", help_heading = "Identity")]
    pub zone: Option<String>,
    /// The machine that this node fails with, where several nodes share one. Empty: a
    /// machine of its own.
    #[arg(long, env = "TRILITH_HOST", value_name = "HOST", help_heading = "Identity")]
    pub host: Option<String>,

    /// Where applications and `trilith` connect. Nobody is asked who they are, so it is the
    /// machine itself only, unless told otherwise: 0.0.0.0:7400 listens on every address.
    #[arg(long, env = "TRILITH_LISTEN_GRPC", value_name = "IP:PORT", help_heading = "Network")]
    pub listen_grpc: Option<ListenAddress>,
    /// Where the other nodes connect. They must be able to reach it.
    #[arg(long, env = "TRILITH_LISTEN_PEER", value_name = "IP:PORT", help_heading = "Network")]
    pub listen_peer: Option<ListenAddress>,
    /// Where REST, /livez, /readyz and /metrics are.
    #[arg(long, env = "TRILITH_LISTEN_HTTP", value_name = "IP:PORT", help_heading = "Network")]
    pub listen_http: Option<ListenAddress>,
    /// Where Redis clients connect that know of no cluster: any key is answered here.
    #[arg(long, env = "TRILITH_LISTEN_REDIS", value_name = "IP:PORT|off", help_heading = "Network")]
    pub listen_redis: Option<OrOff<ListenAddress>>,
    /// Where Redis clients in cluster mode connect: they are sent to the node that leads a
    /// key's partition, and see the table `default` only.
    #[arg(long, env = "TRILITH_LISTEN_REDIS_CLUSTER", value_name = "IP:PORT|off", help_heading = "Network")]
    pub listen_redis_cluster: Option<OrOff<ListenAddress>>,
    /// Where lines of text are understood (`PUT|key|value`).
    #[arg(long, env = "TRILITH_LISTEN_TEXT", value_name = "IP:PORT|off", help_heading = "Network")]
    pub listen_text: Option<OrOff<ListenAddress>>,
    /// A Unix socket for Redis clients on this machine. Only this user may use it.
    #[arg(long, env = "TRILITH_RESP_SOCKET", value_name = "PATH", help_heading = "Network")]
    pub resp_socket: Option<PathBuf>,
    /// Where others reach the gRPC door. Unless given: where it listens or, where it listens
    /// on every address, the machine's host name.
    #[arg(long, env = "TRILITH_ADVERTISE_GRPC", value_name = "HOST:PORT", help_heading = "Network")]
    pub advertise_grpc: Option<Address>,
    /// Where other nodes reach this one. Unless given: as for the gRPC door.
    #[arg(long, env = "TRILITH_ADVERTISE_PEER", value_name = "HOST:PORT", help_heading = "Network")]
    pub advertise_peer: Option<Address>,
    /// Where others reach the HTTP door. Unless given: as for the gRPC door.
    #[arg(long, env = "TRILITH_ADVERTISE_HTTP", value_name = "HOST:PORT", help_heading = "Network")]
    pub advertise_http: Option<Address>,
    /// Where Redis clients in cluster mode are sent to reach this node. Unless given: as for
    /// the gRPC door.
    #[arg(long, env = "TRILITH_ADVERTISE_REDIS_CLUSTER", value_name = "HOST:PORT", help_heading = "Network")]
    pub advertise_redis_cluster: Option<Address>,
    /// Is added to every port that is listened on, so that several nodes share a machine.
    #[arg(long, env = "TRILITH_PORT_OFFSET", value_name = "N", help_heading = "Network")]
    pub port_offset: Option<u16>,
    /// gRPC addresses of nodes of a cluster to join at start, tried in turn. A node that is
    /// in a cluster already needs none.
    #[arg(
        long,
        env = "TRILITH_JOIN",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        help_heading = "Network"
    )]
    pub join: Option<Vec<Address>>,
    /// Origins of pages whose scripts may use REST, such as `https://shop.example`; `*`: any.
    /// Unless given: none but the node's own.
    #[arg(
        long,
        env = "TRILITH_CORS_ORIGINS",
        value_name = "ORIGIN,…",
        value_delimiter = ',',
        help_heading = "Network"
    )]
    pub cors_origins: Option<Vec<String>>,

    /// How often a leader tells its followers that it is there.
    #[arg(long, env = "TRILITH_HEARTBEAT_INTERVAL", value_name = "TIME", help_heading = "Timing")]
    pub heartbeat_interval: Option<TimeSpan>,
    /// A follower stands for election once the leader's lease, which is `election_timeout_max`,
    /// has run out and then a time has passed that is drawn between this and that. At least
    /// twice the heartbeat interval, so that one lost heartbeat elects nobody.
    #[arg(long, env = "TRILITH_ELECTION_TIMEOUT_MIN", value_name = "TIME", help_heading = "Timing")]
    pub election_timeout_min: Option<TimeSpan>,
    /// The longest such time and a leader's lease; also how long a restarted node keeps out of
    /// elections.
    #[arg(long, env = "TRILITH_ELECTION_TIMEOUT_MAX", value_name = "TIME", help_heading = "Timing")]
    pub election_timeout_max: Option<TimeSpan>,
    /// A partition that nobody has used for so long sleeps: it sends no heartbeats until it
    /// is used again, or the node that leads it is gone.
    #[arg(long, env = "TRILITH_SLEEP_AFTER", value_name = "TIME", help_heading = "Timing")]
    pub sleep_after: Option<TimeSpan>,

    /// The longest key.
    #[arg(long, env = "TRILITH_MAX_KEY_BYTES", value_name = "SIZE", help_heading = "Limits")]
    pub max_key_bytes: Option<ByteSize>,
    /// The longest value.
    #[arg(long, env = "TRILITH_MAX_VALUE_BYTES", value_name = "SIZE", help_heading = "Limits")]
    pub max_value_bytes: Option<ByteSize>,
    /// The most operations of one batch or transaction.
    #[arg(long, env = "TRILITH_MAX_BATCH_OPERATIONS", value_name = "N", help_heading = "Limits")]
    pub max_batch_operations: Option<u32>,
    /// The most bytes of one batch or transaction.
    #[arg(long, env = "TRILITH_MAX_BATCH_BYTES", value_name = "SIZE", help_heading = "Limits")]
    pub max_batch_bytes: Option<ByteSize>,
    /// The most bytes of writes that wait on this node; more are refused at once, and their
    /// senders told to come again. Unless given: a part of `memory`, or 64MiB.
    #[arg(long, env = "TRILITH_MAX_WAITING_WRITE_BYTES", value_name = "SIZE", help_heading = "Limits")]
    pub max_waiting_write_bytes: Option<ByteSize>,
    /// The most items of one page of a scan.
    #[arg(long, env = "TRILITH_SCAN_PAGE_ITEMS", value_name = "N", help_heading = "Limits")]
    pub scan_page_items: Option<u32>,
    /// A page of a scan ends with the item that takes it over this size.
    #[arg(long, env = "TRILITH_SCAN_PAGE_BYTES", value_name = "SIZE", help_heading = "Limits")]
    pub scan_page_bytes: Option<ByteSize>,

    /// Connections of Redis clients and of the text door at once; one more is told so and
    /// closed. HTTP has as many of its own, so that probes are answered whoever else comes.
    #[arg(long, env = "TRILITH_MAX_CONNECTIONS", value_name = "N", help_heading = "Limits")]
    pub max_connections: Option<u32>,
    /// What those connections may hold together of requests that are not complete and answers
    /// that are not fetched; over it the connection that asks for more is closed. HTTP has as
    /// much of its own. Unless given: a part of `memory`, or 256MiB.
    #[arg(long, env = "TRILITH_MAX_CONNECTION_BYTES", value_name = "SIZE", help_heading = "Limits")]
    pub max_connection_bytes: Option<ByteSize>,
    /// Such a connection that says nothing for so long is closed. 0s: never.
    #[arg(long, env = "TRILITH_CONNECTION_IDLE_TIMEOUT", value_name = "TIME", help_heading = "Limits")]
    pub connection_idle_timeout: Option<TimeSpan>,

    /// What this node may take of the machine's memory. Whatever is bounded by bytes gets a part
    /// of it, unless it is set by itself. Unless given: the limit of the container or control
    /// group that the node runs in. off, or where there is none: each has a size of its own.
    #[arg(long, env = "TRILITH_MEMORY", value_name = "SIZE|off", help_heading = "Storage")]
    pub memory: Option<OrOff<ByteSize>>,
    /// With less of the disk free than this, in percent, writes are refused while reads and
    /// deletes go on. 0: never.
    #[arg(long, env = "TRILITH_DISK_NEARLY_FULL_PERCENT", value_name = "PERCENT", help_heading = "Storage")]
    pub disk_nearly_full_percent: Option<u8>,
    /// Memory for blocks that were read from disk. Unless given: what the other parts leave of
    /// `memory`, or 256MiB.
    #[arg(long, env = "TRILITH_BLOCK_CACHE_BYTES", value_name = "SIZE", help_heading = "Storage")]
    pub block_cache_bytes: Option<ByteSize>,
    /// One buffer of writes that are not in files yet, of all partitions together; there are up
    /// to four, one that is filled and three that wait to be written. Unless given: a part of
    /// `memory`, or 128MiB.
    #[arg(long, env = "TRILITH_WRITE_BUFFER_BYTES", value_name = "SIZE", help_heading = "Storage")]
    pub write_buffer_bytes: Option<ByteSize>,
    /// The same of the log, which has up to four of its own. Unless given: a part of `memory`, or
    /// 64MiB.
    #[arg(long, env = "TRILITH_LOG_BUFFER_BYTES", value_name = "SIZE", help_heading = "Storage")]
    pub log_buffer_bytes: Option<ByteSize>,
    /// Memory for recent entries of the log, of all partitions together. Unless given: a part of
    /// `memory`, or 256MiB.
    #[arg(long, env = "TRILITH_RECENT_ENTRIES_BYTES", value_name = "SIZE", help_heading = "Storage")]
    pub recent_entries_bytes: Option<ByteSize>,
    /// How files of the state are compressed once they have left the two uppermost levels: not at
    /// all, quickly, or well. It counts for files that are written from now on.
    #[arg(long, env = "TRILITH_COMPRESSION", value_enum, value_name = "HOW", help_heading = "Storage")]
    pub compression: Option<Compression>,
    /// Bits for each key in the filters that tell which files do not hold it. 0: no filters. It
    /// counts for files that are written from now on.
    #[arg(long, env = "TRILITH_BLOOM_BITS", value_name = "N", help_heading = "Storage")]
    pub bloom_bits: Option<u8>,
    /// Whether files of the state are mapped into memory and read there, in place of being read
    /// piece by piece.
    #[arg(long, env = "TRILITH_MEMORY_MAPPED_READS", value_name = "on|off", help_heading = "Storage")]
    pub memory_mapped_reads: Option<Switch>,
    /// How fast files of the state are written in the background, when buffers are emptied and
    /// files merged, per second. 0: as fast as it can.
    #[arg(long, env = "TRILITH_BACKGROUND_BYTES_PER_SECOND", value_name = "SIZE", help_heading = "Storage")]
    pub background_bytes_per_second: Option<ByteSize>,
    /// How fast this node sends copies of partitions to others, per second. 0: as fast as it
    /// can.
    #[arg(long, env = "TRILITH_SNAPSHOT_BYTES_PER_SECOND", value_name = "SIZE", help_heading = "Storage")]
    pub snapshot_bytes_per_second: Option<ByteSize>,

    /// How log lines look on standard error. `auto` is for people on a terminal and JSON
    /// elsewhere.
    #[arg(long, env = "TRILITH_LOG_FORMAT", value_enum, value_name = "FORMAT", help_heading = "Process")]
    pub log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug or trace, also by module, such as
    /// `info,storage_node::raft=debug`.
    #[arg(long, env = "TRILITH_LOG_LEVEL", value_name = "FILTER", help_heading = "Process")]
    pub log_level: Option<String>,
    /// Operations that take so long are logged, with where the time went.
    #[arg(long, env = "TRILITH_SLOW_OPERATION", value_name = "TIME|off", help_heading = "Process")]
    pub slow_operation: Option<OrOff<TimeSpan>>,
    /// Where traces of operations are sent: an OpenTelemetry collector that takes OTLP over gRPC.
    #[arg(
        long,
        env = "TRILITH_OTLP_ENDPOINT",
        value_name = "http://HOST:PORT|off",
        help_heading = "Process"
    )]
    pub otlp_endpoint: Option<OrOff<OtlpEndpoint>>,
    /// How many of the operations are recorded whose callers name no trace, from 0 to 1. For the
    /// others their callers decide.
    #[arg(long, env = "TRILITH_OTLP_SAMPLING_RATIO", value_name = "RATIO", help_heading = "Process")]
    pub otlp_sampling_ratio: Option<Ratio>,
    /// Threads that serve. 0: one for each core.
    #[arg(long, env = "TRILITH_WORKER_THREADS", value_name = "N", help_heading = "Process")]
    pub worker_threads: Option<u16>,
    /// End when standard input ends, so that a node never outlives who started it.
    #[arg(
        long,
        env = "TRILITH_EXIT_WITH_PARENT",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "Process"
    )]
    pub exit_with_parent: Option<bool>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people where standard error is a terminal, JSON where it is not.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// How files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Quickly.
    Lz4,
    /// Well: the last level, which holds most of the data, is made as small as can be.
    Zstd,
}

impl Compression {
    /// Its name, as it is given.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl Settings {
    /// What holds where nobody says otherwise. A setting without a default here depends on
    /// the machine or on others, or must be given.
    pub fn defaults() -> Self {
        let loopback = |port: u16| Some(ListenAddress::loopback(port));
        let door = |port: u16| Some(OrOff::On(ListenAddress::loopback(port)));
        Self {
            zone: Some(String::new()),
            host: Some(String::new()),
            listen_grpc: loopback(7400),
            listen_peer: loopback(7401),
            listen_http: loopback(7402),
            listen_redis: door(6379),
            listen_redis_cluster: door(6380),
            listen_text: door(7403),
            port_offset: Some(0),
            join: Some(Vec::new()),
            cors_origins: Some(Vec::new()),
            heartbeat_interval: Some(TimeSpan::from_millis(100)),
            election_timeout_min: Some(TimeSpan::from_millis(250)),
            election_timeout_max: Some(TimeSpan::from_millis(400)),
            sleep_after: Some(TimeSpan::from_millis(5_000)),
            max_key_bytes: Some(ByteSize::kib(4)),
            max_value_bytes: Some(ByteSize::mib(8)),
            max_batch_operations: Some(1_000),
            max_batch_bytes: Some(ByteSize::mib(16)),
            scan_page_items: Some(10_000),
            scan_page_bytes: Some(ByteSize::mib(4)),
            max_connections: Some(10_000),
            connection_idle_timeout: Some(TimeSpan::from_millis(0)),
            disk_nearly_full_percent: Some(5),
            compression: Some(Compression::Lz4),
            bloom_bits: Some(10),
            memory_mapped_reads: Some(Switch::Off),
            background_bytes_per_second: Some(ByteSize(0)),
            snapshot_bytes_per_second: Some(ByteSize::mib(200)),
            log_format: Some(LogFormat::Auto),
            // openraft tells of every step it takes, and warns of every question that a peer did
            // not answer, also where the peer has only not made its replica yet.
            log_level: Some("info,openraft=error".to_owned()),
            slow_operation: Some(OrOff::On(TimeSpan::from_millis(500))),
            otlp_endpoint: Some(OrOff::Off),
            otlp_sampling_ratio: Some(Ratio::percent(1)),
            worker_threads: Some(0),
            exit_with_parent: Some(false),
            data: None,
            name: None,
            advertise_grpc: None,
            advertise_peer: None,
            advertise_http: None,
            advertise_redis_cluster: None,
            resp_socket: None,
            // These follow from the memory.
            memory: None,
            max_waiting_write_bytes: None,
            max_connection_bytes: None,
            block_cache_bytes: None,
            write_buffer_bytes: None,
            log_buffer_bytes: None,
            recent_entries_bytes: None,
        }
    }

    /// These settings and, where they leave something out, the others.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            data: self.data.or(others.data),
            name: self.name.or(others.name),
            zone: self.zone.or(others.zone),
            host: self.host.or(others.host),
            listen_grpc: self.listen_grpc.or(others.listen_grpc),
            listen_peer: self.listen_peer.or(others.listen_peer),
            listen_http: self.listen_http.or(others.listen_http),
            listen_redis: self.listen_redis.or(others.listen_redis),
            listen_redis_cluster: self.listen_redis_cluster.or(others.listen_redis_cluster),
            listen_text: self.listen_text.or(others.listen_text),
            resp_socket: self.resp_socket.or(others.resp_socket),
            advertise_grpc: self.advertise_grpc.or(others.advertise_grpc),
            advertise_peer: self.advertise_peer.or(others.advertise_peer),
            advertise_http: self.advertise_http.or(others.advertise_http),
            advertise_redis_cluster: self.advertise_redis_cluster.or(others.advertise_redis_cluster),
            port_offset: self.port_offset.or(others.port_offset),
            join: self.join.or(others.join),
            cors_origins: self.cors_origins.or(others.cors_origins),
            heartbeat_interval: self.heartbeat_interval.or(others.heartbeat_interval),
            election_timeout_min: self.election_timeout_min.or(others.election_timeout_min),
            election_timeout_max: self.election_timeout_max.or(others.election_timeout_max),
            sleep_after: self.sleep_after.or(others.sleep_after),
            max_key_bytes: self.max_key_bytes.or(others.max_key_bytes),
            max_value_bytes: self.max_value_bytes.or(others.max_value_bytes),
            max_batch_operations: self.max_batch_operations.or(others.max_batch_operations),
            max_batch_bytes: self.max_batch_bytes.or(others.max_batch_bytes),
            max_waiting_write_bytes: self.max_waiting_write_bytes.or(others.max_waiting_write_bytes),
            scan_page_items: self.scan_page_items.or(others.scan_page_items),
            scan_page_bytes: self.scan_page_bytes.or(others.scan_page_bytes),
            max_connections: self.max_connections.or(others.max_connections),
            max_connection_bytes: self.max_connection_bytes.or(others.max_connection_bytes),
            connection_idle_timeout: self.connection_idle_timeout.or(others.connection_idle_timeout),
            memory: self.memory.or(others.memory),
            disk_nearly_full_percent: self.disk_nearly_full_percent.or(others.disk_nearly_full_percent),
            block_cache_bytes: self.block_cache_bytes.or(others.block_cache_bytes),
            write_buffer_bytes: self.write_buffer_bytes.or(others.write_buffer_bytes),
            log_buffer_bytes: self.log_buffer_bytes.or(others.log_buffer_bytes),
            recent_entries_bytes: self.recent_entries_bytes.or(others.recent_entries_bytes),
            compression: self.compression.or(others.compression),
            bloom_bits: self.bloom_bits.or(others.bloom_bits),
            memory_mapped_reads: self.memory_mapped_reads.or(others.memory_mapped_reads),
            background_bytes_per_second: self
                .background_bytes_per_second
                .or(others.background_bytes_per_second),
            snapshot_bytes_per_second: self.snapshot_bytes_per_second.or(others.snapshot_bytes_per_second),
            log_format: self.log_format.or(others.log_format),
            log_level: self.log_level.or(others.log_level),
            slow_operation: self.slow_operation.or(others.slow_operation),
            otlp_endpoint: self.otlp_endpoint.or(others.otlp_endpoint),
            otlp_sampling_ratio: self.otlp_sampling_ratio.or(others.otlp_sampling_ratio),
            worker_threads: self.worker_threads.or(others.worker_threads),
            exit_with_parent: self.exit_with_parent.or(others.exit_with_parent),
        }
    }
}
