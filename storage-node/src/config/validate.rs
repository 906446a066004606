//! From settings to a configuration that cannot be wrong.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use storage::{divided, storage};

use super::memory::LEAST_CONNECTIONS;
use super::memory_limit;
use super::{
    Address, ByteSize, ConfigError, CorsOrigins, Doors, Limits, Listen, ListenAddress, Logging, NodeConfig,
    Observability, OrOff, OtlpEndpoint, Ratio, Reached, Settings, TimeSpan, Timing, Tracing,
};

mod storage;

/// What a message between nodes may hold of one command, keys and values and all: such a
/// message is at most 20 MiB, and the rest of it needs room too.
const LARGEST_COMMAND: ByteSize = ByteSize::mib(18);
/// Every copy of a key is held in memory a few times over while it is worked on.
const LARGEST_KEY: ByteSize = ByteSize::kib(64);
/// As long as a name in DNS.
const LONGEST_NAME: usize = 253;

/// What a node has to learn from the machine that it runs on.
pub trait Machine {
    /// The host name, where there is one.
    fn host_name(&self) -> Option<String>;
    /// Whether a name leads to an address that other machines may reach.
    fn leads_here(&self, host: &str) -> bool;
    /// How many bytes of memory this process may use, where that is limited.
    fn memory_limit(&self) -> Option<u64>;
}

/// The machine that this process runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn host_name(&self) -> Option<String> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        let name = name.trim();
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn leads_here(&self, host: &str) -> bool {
        (host, 0).to_socket_addrs().is_ok_and(|mut found| found.any(|address| !address.ip().is_loopback()))
    }

    fn memory_limit(&self) -> Option<u64> {
        memory_limit::of_this_process()
    }
}

/// Checks what was given, and fills in what follows from it and from the machine.
pub fn validate(given: Settings, machine: &dyn Machine) -> Result<NodeConfig, ConfigError> {
    let (given, memory) = divided(given.or(Settings::defaults()), machine)?;
    let limits = limits(&given)?;
    let storage = storage(&given, memory)?;
    let listen = Listen {
        grpc: moved("listen_grpc", given.listen_grpc, given.port_offset)?,
        peer: moved("listen_peer", given.listen_peer, given.port_offset)?,
        http: moved("listen_http", given.listen_http, given.port_offset)?,
        redis: moved_door("listen_redis", given.listen_redis, given.port_offset)?,
        redis_cluster: moved_door("listen_redis_cluster", given.listen_redis_cluster, given.port_offset)?,
        text: moved_door("listen_text", given.listen_text, given.port_offset)?,
        resp_socket: given.resp_socket.filter(|path| !path.as_os_str().is_empty()),
    };
    each_its_own(&listen)?;
    let advertise = Reached {
        grpc: reached("advertise_grpc", given.advertise_grpc, listen.grpc, machine)?,
        peer: reached("advertise_peer", given.advertise_peer, listen.peer, machine)?,
        http: reached("advertise_http", given.advertise_http, listen.http, machine)?,
        redis_cluster: match listen.redis_cluster {
            None => None,
            Some(at) => Some(reached("advertise_redis_cluster", given.advertise_redis_cluster, at, machine)?),
        },
    };
    Ok(NodeConfig {
        data: given.data.filter(|folder| !folder.as_os_str().is_empty()).ok_or(ConfigError::NoDataFolder)?,
        name: name(given.name, machine)?,
        zone: required("zone", given.zone)?,
        host: required("host", given.host)?,
        listen,
        advertise,
        join: required("join", given.join)?,
        cors_origins: CorsOrigins::parse(&required("cors_origins", given.cors_origins)?)
            .map_err(|error| invalid("cors_origins", error.to_string()))?,
        timing: timing(
            given.heartbeat_interval,
            given.election_timeout_min,
            given.election_timeout_max,
            given.sleep_after,
        )?,
        limits,
        doors: Doors {
            max_connections: count("max_connections", given.max_connections)?,
            max_connection_bytes: at_least(
                "max_connection_bytes",
                given.max_connection_bytes,
                LEAST_CONNECTIONS,
                "one request of the largest size must fit",
            )?
            .as_usize(),
            connection_idle_timeout: required("connection_idle_timeout", given.connection_idle_timeout)?
                .duration(),
        },
        storage,
        logging: Logging {
            format: required("log_format", given.log_format)?,
            filter: filter(required("log_level", given.log_level)?)?,
        },
        observability: Observability {
            slow_operation: slow_operation(given.slow_operation)?,
            tracing: tracing(given.otlp_endpoint, given.otlp_sampling_ratio)?,
        },
        worker_threads: required("worker_threads", given.worker_threads)?,
        exit_with_parent: required("exit_with_parent", given.exit_with_parent)?,
    })
}

fn limits(given: &Settings) -> Result<Limits, ConfigError> {
    let key = at_least("max_key_bytes", given.max_key_bytes, ByteSize(1), "an empty table needs no limit")?;
    if key > LARGEST_KEY {
        return Err(invalid(
            "max_key_bytes",
            format!("{key} is more than {LARGEST_KEY}, the longest that is served"),
        ));
    }
    let value = required("max_value_bytes", given.max_value_bytes)?;
    let item = ByteSize(key.0.saturating_add(value.0));
    let batch = at_least(
        "max_batch_bytes",
        given.max_batch_bytes,
        item,
        "one write of the longest key and value must fit into a batch",
    )?;
    if batch > LARGEST_COMMAND {
        let reason = format!("{batch} is more than the {LARGEST_COMMAND} that nodes send each other at once");
        return Err(invalid("max_batch_bytes", reason));
    }
    let page =
        at_least("scan_page_bytes", given.scan_page_bytes, ByteSize(1), "a page holds an item at least")?;
    if page.0.saturating_add(item.0) > LARGEST_COMMAND.0 {
        let reason =
            format!("{page} and an item of {item} are more than the {LARGEST_COMMAND} of one answer");
        return Err(invalid("scan_page_bytes", reason));
    }
    Ok(Limits {
        max_key_bytes: key.as_usize(),
        max_value_bytes: value.as_usize(),
        max_batch_operations: count("max_batch_operations", given.max_batch_operations)?,
        max_batch_bytes: batch.as_usize(),
        max_waiting_write_bytes: at_least(
            "max_waiting_write_bytes",
            given.max_waiting_write_bytes,
            batch,
            "the largest batch must be able to wait",
        )?
        .as_usize(),
        scan_page_items: count("scan_page_items", given.scan_page_items)?,
        scan_page_bytes: page.as_usize(),
    })
}

fn timing(
    heartbeat: Option<TimeSpan>,
    shortest: Option<TimeSpan>,
    longest: Option<TimeSpan>,
    sleep_after: Option<TimeSpan>,
) -> Result<Timing, ConfigError> {
    let heartbeat = required("heartbeat_interval", heartbeat)?;
    let shortest = required("election_timeout_min", shortest)?;
    let longest = required("election_timeout_max", longest)?;
    let least = TimeSpan::from_millis(10);
    if heartbeat < least {
        return Err(invalid("heartbeat_interval", format!("{heartbeat} is less than {least}")));
    }
    if shortest.duration() < heartbeat.duration().saturating_mul(2) {
        let reason = format!("{shortest} is less than twice the heartbeat interval of {heartbeat}");
        return Err(invalid("election_timeout_min", reason));
    }
    if longest <= shortest {
        let reason =
            format!("{longest} is not more than election_timeout_min, {shortest}: votes would be split");
        return Err(invalid("election_timeout_max", reason));
    }
    let sleep_after = required("sleep_after", sleep_after)?;
    if sleep_after <= longest {
        let reason = format!("{sleep_after} is not more than election_timeout_max, {longest}");
        return Err(invalid("sleep_after", reason));
    }
    Ok(Timing {
        sleep_after: sleep_after.duration(),
        heartbeat_interval: heartbeat.duration(),
        election_timeout_min: shortest.duration(),
        election_timeout_max: longest.duration(),
    })
}

fn moved(
    name: &'static str,
    listen: Option<ListenAddress>,
    offset: Option<u16>,
) -> Result<SocketAddr, ConfigError> {
    let ListenAddress(mut listen) = required(name, listen)?;
    let offset = required("port_offset", offset)?;
    // Port 0 asks for any that is free, and stays that.
    if listen.port() != 0 {
        let port = listen.port().checked_add(offset).ok_or_else(|| {
            invalid(
                "port_offset",
                format!("port {} of {name} and {offset} are more than 65535", listen.port()),
            )
        })?;
        listen.set_port(port);
    }
    Ok(listen)
}

fn moved_door(
    name: &'static str,
    listen: Option<OrOff<ListenAddress>>,
    offset: Option<u16>,
) -> Result<Option<SocketAddr>, ConfigError> {
    required(name, listen)?.on().map(|at| moved(name, Some(at), offset)).transpose()
}

/// No two doors listen at the same address.
fn each_its_own(listen: &Listen) -> Result<(), ConfigError> {
    let all = [
        ("listen_grpc", Some(listen.grpc)),
        ("listen_peer", Some(listen.peer)),
        ("listen_http", Some(listen.http)),
        ("listen_redis", listen.redis),
        ("listen_redis_cluster", listen.redis_cluster),
        ("listen_text", listen.text),
    ];
    for (at, (name, address)) in all.iter().enumerate() {
        let same = |other: &&(&'static str, Option<SocketAddr>)| other.1.is_some() && other.1 == *address;
        if let Some((other, Some(address))) = all.iter().take(at).find(same)
            && address.port() != 0
        {
            return Err(invalid(name, format!("{address} is where {other} is already")));
        }
    }
    Ok(())
}

fn reached(
    name: &'static str,
    given: Option<Address>,
    listen: SocketAddr,
    machine: &dyn Machine,
) -> Result<Address, ConfigError> {
    if let Some(address) = given {
        return Ok(address);
    }
    let host = if listen.ip().is_unspecified() {
        machine.host_name().filter(|host| machine.leads_here(host)).ok_or_else(|| {
            let reason = format!(
                "the node listens on every address ({listen}) and this machine's host name leads to none that \
                 others can reach: say which address they dial"
            );
            invalid(name, reason)
        })?
    } else {
        listen.ip().to_string()
    };
    Address::new(&host, listen.port()).map_err(|error| invalid(name, error.to_string()))
}

fn name(given: Option<String>, machine: &dyn Machine) -> Result<String, ConfigError> {
    let Some(name) = given.or_else(|| machine.host_name()) else {
        return Err(invalid("name", "this machine has no host name to take it from: give one".to_owned()));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
        let reason =
            format!("{name:?} is not 1 to {LONGEST_NAME} characters of a-z, A-Z, 0-9, '.', '-' and '_'");
        return Err(invalid("name", reason));
    }
    // Whoever names a node by either must mean one of the two.
    if uuid::Uuid::parse_str(&name).is_ok() {
        return Err(invalid("name", format!("{name} reads as the id of a node; choose another")));
    }
    Ok(name)
}

fn slow_operation(given: Option<OrOff<TimeSpan>>) -> Result<Option<Duration>, ConfigError> {
    let after = required("slow_operation", given)?.on().map(TimeSpan::duration);
    if after == Some(Duration::ZERO) {
        let reason = "every operation takes longer than 0ms; to log none, write off".to_owned();
        return Err(invalid("slow_operation", reason));
    }
    Ok(after)
}

fn tracing(
    endpoint: Option<OrOff<OtlpEndpoint>>,
    sampling: Option<Ratio>,
) -> Result<Option<Tracing>, ConfigError> {
    let sampling = required("otlp_sampling_ratio", sampling)?;
    let endpoint = required("otlp_endpoint", endpoint)?.on();
    Ok(endpoint.map(|endpoint| Tracing { endpoint, sampling }))
}

fn filter(text: String) -> Result<String, ConfigError> {
    match EnvFilter::builder().parse(&text) {
        Ok(_) if !text.trim().is_empty() => Ok(text),
        Ok(_) => Err(invalid("log_level", "it is empty: write a level, such as info".to_owned())),
        Err(error) => Err(invalid("log_level", format!("{text:?} is not a filter: {error}"))),
    }
}

fn at_least(
    name: &'static str,
    given: Option<ByteSize>,
    least: ByteSize,
    why: &str,
) -> Result<ByteSize, ConfigError> {
    let size = required(name, given)?;
    if size < least {
        return Err(invalid(name, format!("{size} is less than {least}: {why}")));
    }
    Ok(size)
}

fn count(name: &'static str, given: Option<u32>) -> Result<usize, ConfigError> {
    match required(name, given)? {
        0 => Err(invalid(name, "it is 0, so nothing would ever be served".to_owned())),
        count => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
    }
}

/// What [`Settings::defaults`] covers is always there; the message is for whoever adds a
/// setting and forgets its default.
fn required<T>(name: &'static str, given: Option<T>) -> Result<T, ConfigError> {
    given.ok_or_else(|| invalid(name, "it was not given and has no default".to_owned()))
}

fn invalid(name: &'static str, reason: String) -> ConfigError {
    ConfigError::Invalid { name, reason }
}
