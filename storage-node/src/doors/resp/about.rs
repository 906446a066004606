//! INFO: figures of this node, under the names by which tools of Redis look for them.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::commands::is;
use super::reply::Reply;
use super::{DEFAULT_TABLE, REDIS_VERSION, RespDoor};
use crate::observability::metrics::process;
use crate::router::context::Door;

/// How long counting the keys may take; without an answer the section leaves them out.
const COUNT_WITHIN: Duration = Duration::from_secs(2);

const SECTIONS: [&str; 8] =
    ["server", "clients", "memory", "persistence", "stats", "replication", "cluster", "keyspace"];

/// INFO [section …]
pub async fn info(door: &RespDoor, words: &[Bytes]) -> Reply {
    let asked = |section: &str| {
        let mut named = words.iter().skip(1).peekable();
        let all = |name: &Bytes| is(name, "all") || is(name, "everything") || is(name, "default");
        named.peek().is_none() || named.any(|name| all(name) || is(name, section))
    };
    let mut text = String::new();
    for section in SECTIONS.into_iter().filter(|section| asked(section)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let mut title = section.to_owned();
        title.get_mut(..1).into_iter().for_each(str::make_ascii_uppercase);
        let _ = write!(text, "# {title}\r\n");
        for (name, value) in figures(door, section).await {
            let _ = write!(text, "{name}:{value}\r\n");
        }
    }
    Reply::Text(text)
}

async fn figures(door: &RespDoor, section: &str) -> Vec<(&'static str, String)> {
    let node = door.operations.node();
    let connections = &door.shared.connections;
    let yes = |yes: bool| u8::from(yes).to_string();
    match section {
        "server" => vec![
            ("redis_version", REDIS_VERSION.to_owned()),
            ("trilith_version", env!("CARGO_PKG_VERSION").to_owned()),
            ("redis_mode", if door.redirects() { "cluster" } else { "standalone" }.to_owned()),
            ("os", std::env::consts::OS.to_owned()),
            ("arch_bits", usize::BITS.to_string()),
            ("process_id", std::process::id().to_string()),
            (
                "run_id",
                door.operations
                    .member()
                    .map_or_else(|_| String::new(), |member| member.node.0.simple().to_string()),
            ),
            ("tcp_port", door.at.rsplit(':').next().unwrap_or_default().to_owned()),
            ("uptime_in_seconds", node.began.elapsed().as_secs().to_string()),
            ("uptime_in_days", (node.began.elapsed().as_secs() / 86_400).to_string()),
        ],
        "clients" => vec![
            ("connected_clients", door.shared.clients.count().to_string()),
            ("maxclients", connections.most().to_string()),
            ("cluster_connections", connections.open_at(Door::RedisCluster).to_string()),
            ("blocked_clients", "0".to_owned()),
            ("connection_bytes", connections.held_bytes().to_string()),
            ("max_connection_bytes", connections.most_bytes().to_string()),
            ("connections_closed_for_bytes", connections.closed_for_bytes().to_string()),
        ],
        "memory" => {
            let resident = process::resident_bytes().unwrap_or(0);
            vec![
                ("used_memory", resident.to_string()),
                ("used_memory_rss", resident.to_string()),
                ("maxmemory", "0".to_owned()),
                ("maxmemory_policy", "noeviction".to_owned()),
                ("mem_fragmentation_ratio", "1.00".to_owned()),
            ]
        }
        "persistence" => vec![
            ("loading", "0".to_owned()),
            ("aof_enabled", "1".to_owned()),
            ("aof_last_write_status", "ok".to_owned()),
            ("rdb_bgsave_in_progress", "0".to_owned()),
            ("rdb_last_bgsave_status", "ok".to_owned()),
        ],
        "stats" => vec![
            ("total_connections_received", connections.accepted().to_string()),
            ("total_commands_processed", door.shared.clients.commands.load(Ordering::Relaxed).to_string()),
            ("rejected_connections", connections.refused().to_string()),
            ("forwarded_operations", node.metrics.forwarded.get().to_string()),
        ],
        "replication" => vec![
            ("role", "master".to_owned()),
            ("connected_slaves", "0".to_owned()),
            ("master_repl_offset", "0".to_owned()),
        ],
        "cluster" => vec![("cluster_enabled", yes(door.redirects()))],
        _ => keyspace(door).await,
    }
}

async fn keyspace(door: &RespDoor) -> Vec<(&'static str, String)> {
    let Ok(member) = door.operations.member() else { return Vec::new() };
    let context = door.operations.context(COUNT_WITHIN);
    match member.router.count(&context, DEFAULT_TABLE, door.redirects()).await {
        Ok(count) if count > 0 => vec![("db0", format!("keys={count},expires=0,avg_ttl=0"))],
        _ => Vec::new(),
    }
}
