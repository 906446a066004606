//! Answers about the connection, the commands and the settings.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::clients::Client;
use super::commands::{self, Spec, glob, is, table::COMMANDS, word};
use super::reply::Reply;
use super::{REDIS_VERSION, RespDoor, refusal};

/// PING [message]
pub fn ping(words: &[Bytes]) -> Result<Reply, Reply> {
    match words {
        [_] => Ok(Reply::Status("PONG")),
        [_, message] => Ok(Reply::Bulk(message.clone())),
        _ => Err(Reply::err("wrong number of arguments for 'ping' command")),
    }
}

/// TIME
#[expect(clippy::disallowed_methods, reason = "what is asked for is the time of this machine's clock")]
pub fn time() -> Reply {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = |number: u64| Reply::bulk(number.to_string());
    Reply::Array(vec![text(now.as_secs()), text(now.subsec_micros().into())])
}

/// HELLO
pub fn hello(version: u8, id: u64, cluster: bool) -> Reply {
    let pair = |name: &'static str, value: Reply| (Reply::bulk(name), value);
    Reply::Map(vec![
        pair("server", Reply::bulk("redis")),
        pair("version", Reply::bulk(REDIS_VERSION)),
        pair("proto", Reply::Integer(version.into())),
        pair("id", Reply::Integer(i64::try_from(id).unwrap_or(i64::MAX))),
        pair("mode", Reply::bulk(if cluster { "cluster" } else { "standalone" })),
        pair("role", Reply::bulk("master")),
        pair("modules", Reply::Array(Vec::new())),
    ])
}

/// A name that a client may give itself.
pub fn client_name(name: &[u8]) -> Result<String, Reply> {
    let plain = name.iter().all(|byte| (b'!'..=b'~').contains(byte));
    match std::str::from_utf8(name) {
        Ok(name) if plain && name.len() <= 256 => Ok(name.to_owned()),
        _ => Err(Reply::err("Client names cannot contain spaces, newlines or special characters.")),
    }
}

/// CLIENT, but for REPLY.
pub fn client(door: &RespDoor, own: &Arc<Client>, words: &[Bytes]) -> Result<Reply, Reply> {
    let verb = &word(words, 1);
    match () {
        () if is(verb, "ID") => Ok(Reply::Integer(i64::try_from(own.id).unwrap_or(i64::MAX))),
        () if is(verb, "GETNAME") => {
            let name = own.now.lock().name.clone();
            Ok(if name.is_empty() { Reply::Null } else { Reply::bulk(name) })
        }
        () if is(verb, "SETNAME") => {
            own.now.lock().name = client_name(&word(words, 2))?;
            Ok(Reply::OK)
        }
        () if is(verb, "SETINFO") => {
            let value = client_name(&word(words, 3)).map_err(|_| {
                Reply::err("lib-name and lib-ver cannot contain spaces or special characters.")
            })?;
            let mut now = own.now.lock();
            match &word(words, 2) {
                name if is(name, "LIB-NAME") => now.library = value,
                name if is(name, "LIB-VER") => now.library_version = value,
                other => {
                    let other = String::from_utf8_lossy(other);
                    return Err(Reply::err(format!("Unrecognized option '{other}'")));
                }
            }
            Ok(Reply::OK)
        }
        () if is(verb, "INFO") => Ok(Reply::Text(own.line())),
        () if is(verb, "LIST") => list(door, words),
        () if is(verb, "KILL") => kill(door, words),
        () if is(verb, "NO-EVICT") || is(verb, "NO-TOUCH") => Ok(Reply::OK),
        () => Err(commands::unknown_part("client", verb)),
    }
}

fn list(door: &RespDoor, words: &[Bytes]) -> Result<Reply, Reply> {
    let all = door.shared.clients.all();
    let wanted: Vec<u64> = match words.get(2) {
        None => all.iter().map(|client| client.id).collect(),
        Some(option) if is(option, "ID") && words.len() > 3 => {
            words.iter().skip(3).filter_map(|id| std::str::from_utf8(id).ok()?.parse().ok()).collect()
        }
        Some(option) if is(option, "TYPE") && words.len() == 4 => match &word(words, 3) {
            kind if is(kind, "normal") => all.iter().map(|client| client.id).collect(),
            _ => Vec::new(),
        },
        Some(_) => return Err(commands::syntax_error()),
    };
    let shown = all.iter().filter(|client| wanted.contains(&client.id));
    Ok(Reply::Text(shown.map(|client| client.line()).collect()))
}

fn kill(door: &RespDoor, words: &[Bytes]) -> Result<Reply, Reply> {
    let all = door.shared.clients.all();
    let old_form = words.len() == 3;
    let chosen: Vec<_> = if old_form {
        let from = word(words, 2);
        all.into_iter().filter(|client| client.from.as_bytes() == from).collect()
    } else {
        let (options, rest) = words.get(2..).unwrap_or_default().as_chunks::<2>();
        if !rest.is_empty() {
            return Err(commands::syntax_error());
        }
        let mut chosen = all;
        for [option, value] in options {
            match () {
                () if is(option, "ID") => {
                    let id = commands::integer(value)?;
                    chosen.retain(|client| i64::try_from(client.id) == Ok(id));
                }
                () if is(option, "ADDR") => chosen.retain(|client| client.from.as_bytes() == &value[..]),
                () if is(option, "LADDR") => chosen.retain(|client| client.to.as_bytes() == &value[..]),
                () => return Err(commands::syntax_error()),
            }
        }
        chosen
    };
    chosen.iter().for_each(|client| client.kill.cancel());
    match (old_form, chosen.len()) {
        (true, 0) => Err(Reply::err("No such client")),
        (true, _) => Ok(Reply::OK),
        (false, count) => Ok(Reply::count(count)),
    }
}

/// CONFIG GET
pub fn config(door: &RespDoor, words: &[Bytes]) -> Result<Reply, Reply> {
    if !is(&word(words, 1), "GET") {
        let message = "only CONFIG GET is allowed here: settings are given to the node when it starts";
        return Err(Reply::err(message));
    }
    let config = &door.operations.node().config;
    let settings = [
        ("appendfsync", "always".to_owned()),
        ("appendonly", "yes".to_owned()),
        ("bind", door.at.clone()),
        ("cluster-enabled", if door.redirects() { "yes" } else { "no" }.to_owned()),
        ("databases", "1".to_owned()),
        ("maxclients", config.doors.max_connections.to_string()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("notify-keyspace-events", "g$xKE".to_owned()),
        ("proto-max-bulk-len", config.limits.max_value_bytes.to_string()),
        ("save", String::new()),
        ("timeout", config.doors.connection_idle_timeout.as_secs().to_string()),
    ];
    let asked = |name: &str| {
        let patterns = words.iter().skip(2);
        patterns
            .map(|pattern| pattern.to_ascii_lowercase())
            .any(|pattern| glob::matches(&pattern, name.as_bytes()))
    };
    let shown = settings.into_iter().filter(|(name, _)| asked(name));
    Ok(Reply::Map(shown.map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect()))
}

/// WAIT replicas timeout: what was acknowledged is on a quorum already, and nobody counts more.
pub fn wait(door: &RespDoor, table: &str, words: &[Bytes]) -> Result<Reply, Reply> {
    commands::integer(&word(words, 1))?;
    if commands::integer(&word(words, 2))? < 0 {
        return Err(Reply::err("timeout is negative"));
    }
    let found = door.operations.member().and_then(|member| member.router.table(table));
    let table = found.map_err(|failure| refusal::of(&failure))?;
    Ok(Reply::Integer((table.replicas / 2).into()))
}

/// COMMAND and its parts.
pub fn command(words: &[Bytes]) -> Result<Reply, Reply> {
    let named = || words.iter().skip(2);
    let verb = &word(words, 1);
    match () {
        () if words.len() == 1 => Ok(Reply::Array(COMMANDS.iter().map(described).collect())),
        () if is(verb, "COUNT") => Ok(Reply::count(COMMANDS.len())),
        () if is(verb, "LIST") => {
            Ok(Reply::Array(COMMANDS.iter().map(|spec| Reply::bulk(spec.name)).collect()))
        }
        () if is(verb, "INFO") && words.len() == 2 => {
            Ok(Reply::Array(COMMANDS.iter().map(described).collect()))
        }
        () if is(verb, "INFO") => {
            let of = |name: &Bytes| commands::find(name).map_or(Reply::NullArray, described);
            Ok(Reply::Array(named().map(of).collect()))
        }
        () if is(verb, "DOCS") => {
            let asked: Vec<&Spec> = if words.len() == 2 {
                COMMANDS.iter().collect()
            } else {
                named().filter_map(|name| commands::find(name)).collect()
            };
            Ok(Reply::Map(asked.into_iter().map(documented).collect()))
        }
        () if is(verb, "GETKEYS") => {
            let words = words.get(2..).unwrap_or_default();
            let spec = words.first().and_then(|name| commands::find(name));
            let spec = spec.ok_or_else(|| Reply::err("Invalid command specified"))?;
            if !spec.takes(words.len()) {
                return Err(Reply::err("Invalid number of arguments specified for command"));
            }
            let keys = spec.keys_of(words);
            if keys.is_empty() {
                return Err(Reply::err("The command has no key arguments"));
            }
            Ok(Reply::Array(keys.into_iter().cloned().map(Reply::Bulk).collect()))
        }
        () => Err(commands::unknown_part("command", verb)),
    }
}

fn described(spec: &Spec) -> Reply {
    let (first, last, step) = spec.keys;
    Reply::Array(vec![
        Reply::bulk(spec.name),
        Reply::Integer(spec.arity.into()),
        Reply::Set(spec.flags.iter().map(|flag| Reply::Status(flag)).collect()),
        Reply::Integer(first.into()),
        Reply::Integer(last.into()),
        Reply::Integer(step.into()),
        Reply::Set(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

fn documented(spec: &Spec) -> (Reply, Reply) {
    let pair = |name: &'static str, value: &'static str| (Reply::bulk(name), Reply::bulk(value));
    let docs = vec![pair("summary", spec.summary), pair("since", spec.since), pair("group", spec.group)];
    (Reply::bulk(spec.name), Reply::Map(docs))
}
