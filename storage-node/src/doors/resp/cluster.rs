//! Redis Cluster, as its clients want to see it: which node has which slots.
//!
//! A node is shown as a master of the slots whose partitions it leads. Followers are not shown as
//! replicas, because a node is both here, and clients take a node for one of the two.

use std::fmt::Write;

use bytes::Bytes;
use placement::{NodeId, Slot};
use proto::v1::Failure;

use super::commands::{integer, is, unknown_part, word};
use super::reply::Reply;
use super::{DEFAULT_TABLE, RespDoor, refusal, walk};
use crate::node::Member;

const SLOTS: u32 = Slot::COUNT as u32;

/// A run of slots, both ends included, and who leads it.
struct Run {
    first: u32,
    last: u32,
    leader: Option<NodeId>,
}

/// A node as clients reach it.
struct Shown {
    node: NodeId,
    name: String,
    host: String,
    port: u16,
}

/// Where a client is sent for a slot; none where it is right here.
pub fn elsewhere(door: &RespDoor, slot: Slot) -> Option<Reply> {
    match leader_of(door, slot) {
        Err(failure) => Some(refusal::of(&failure)),
        Ok(None) => {
            Some(Reply::Error("CLUSTERDOWN nobody leads that slot at the moment: try again".to_owned()))
        }
        Ok(Some((member, node))) if node == member.node => None,
        Ok(Some((member, node))) => match shown(&member, node) {
            Some(shown) => {
                Some(Reply::Error(format!("MOVED {} {}:{}", slot.number(), shown.host, shown.port)))
            }
            None => {
                let message =
                    "CLUSTERDOWN the node that leads that slot has no door for clients in cluster mode";
                Some(Reply::Error(message.to_owned()))
            }
        },
    }
}

type Leader = Option<(std::sync::Arc<Member>, NodeId)>;

fn leader_of(door: &RespDoor, slot: Slot) -> Result<Leader, Failure> {
    let member = door.operations.member()?;
    let table = member.router.table(DEFAULT_TABLE)?;
    let map = member.router.map();
    let partition = map.owner_of(table.id, table.buckets.bucket_of(slot)).map(|partition| partition.id);
    let leader = partition.and_then(|partition| member.router.leader_of(partition));
    Ok(leader.map(|leader| (member, leader)))
}

/// CLUSTER and its parts.
pub async fn answer(door: &RespDoor, words: &[Bytes]) -> Result<Reply, Reply> {
    let verb = &word(words, 1);
    if is(verb, "KEYSLOT") {
        return Ok(Reply::Integer(Slot::of_key(&word(words, 2)).number().into()));
    }
    if !door.redirects() {
        return Err(Reply::err("This instance has cluster support disabled"));
    }
    let refused = |failure: Failure| refusal::of(&failure);
    let member = door.operations.member().map_err(refused)?;
    match () {
        () if is(verb, "MYID") => Ok(Reply::bulk(id(member.node))),
        () if is(verb, "SLOTS") => slots(&member).map_err(refused),
        () if is(verb, "SHARDS") => shards(&member).map_err(refused),
        () if is(verb, "NODES") => nodes(&member).map_err(refused),
        () if is(verb, "INFO") => info(&member).map_err(refused),
        () if is(verb, "COUNTKEYSINSLOT") => {
            let number = u16::try_from(integer(&word(words, 2))?).ok();
            let slot = number.and_then(Slot::new).ok_or_else(|| Reply::err("Invalid slot"))?;
            let count = walk::count_of_slot(door, DEFAULT_TABLE, slot).await.map_err(refused)?;
            Ok(Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX)))
        }
        () => Err(unknown_part("cluster", verb)),
    }
}

/// Redis names nodes by forty hexadecimal digits.
fn id(node: NodeId) -> String {
    let digits = node.0.simple().to_string();
    let more = digits.get(..8).unwrap_or_default().to_owned();
    digits + &more
}

fn shown(member: &Member, node: NodeId) -> Option<Shown> {
    let map = member.router.map();
    let details = map.node_details(node)?;
    let (host, port) = details.addresses.redis_cluster.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = map.map().nodes.get(&node)?.name.clone();
    Some(Shown { node, name, host, port: port.parse().ok()? })
}

/// All nodes that clients can be sent to, in the order of their ids.
fn all_shown(member: &Member) -> Vec<Shown> {
    let map = member.router.map();
    let present = map.map().nodes.values().filter(|node| node.state != placement::NodeState::Removed);
    present.filter_map(|node| shown(member, node.id)).collect()
}

/// The slots in runs of the same leader.
fn runs(member: &Member) -> Result<Vec<Run>, Failure> {
    let table = member.router.table(DEFAULT_TABLE)?;
    let map = member.router.map();
    let width = SLOTS / u32::from(table.buckets.get());
    let mut runs: Vec<Run> = Vec::new();
    let mut partitions = map.map().partitions_of(table.id);
    partitions.sort_by_key(|partition| partition.buckets.first);
    for partition in partitions {
        let first = u32::from(partition.buckets.first.0) * width;
        let last = (u32::from(partition.buckets.last.0) + 1) * width - 1;
        let leader = member.router.leader_of(partition.id);
        match runs.last_mut() {
            Some(run) if run.leader == leader && run.last + 1 == first => run.last = last,
            _ => runs.push(Run { first, last, leader }),
        }
    }
    Ok(runs)
}

fn slots(member: &Member) -> Result<Reply, Failure> {
    let mut shown_runs = Vec::new();
    for run in runs(member)? {
        let Some(leader) = run.leader.and_then(|leader| shown(member, leader)) else { continue };
        shown_runs.push(Reply::Array(vec![
            Reply::Integer(run.first.into()),
            Reply::Integer(run.last.into()),
            Reply::Array(vec![
                Reply::bulk(leader.host),
                Reply::Integer(leader.port.into()),
                Reply::bulk(id(leader.node)),
                Reply::Array(Vec::new()),
            ]),
        ]));
    }
    Ok(Reply::Array(shown_runs))
}

fn shards(member: &Member) -> Result<Reply, Failure> {
    let runs = runs(member)?;
    let pair = |name: &'static str, value: Reply| (Reply::bulk(name), value);
    let mut shards = Vec::new();
    for shown in all_shown(member) {
        let own = runs.iter().filter(|run| run.leader == Some(shown.node));
        let ranges = own.flat_map(|run| [Reply::Integer(run.first.into()), Reply::Integer(run.last.into())]);
        let node = Reply::Map(vec![
            pair("id", Reply::bulk(id(shown.node))),
            pair("port", Reply::Integer(shown.port.into())),
            pair("ip", Reply::bulk(shown.host.clone())),
            pair("endpoint", Reply::bulk(shown.host)),
            pair("role", Reply::bulk("master")),
            pair("replication-offset", Reply::Integer(0)),
            pair("health", Reply::bulk("online")),
        ]);
        shards.push(Reply::Map(vec![
            pair("slots", Reply::Array(ranges.collect())),
            pair("nodes", Reply::Array(vec![node])),
        ]));
    }
    Ok(Reply::Array(shards))
}

fn nodes(member: &Member) -> Result<Reply, Failure> {
    let runs = runs(member)?;
    let mut text = String::new();
    for (at, shown) in all_shown(member).into_iter().enumerate() {
        let myself = if shown.node == member.node { "myself," } else { "" };
        let own = runs.iter().filter(|run| run.leader == Some(shown.node));
        let slots: String = own
            .map(|run| match run.first == run.last {
                true => format!(" {}", run.first),
                false => format!(" {}-{}", run.first, run.last),
            })
            .collect();
        // The port of Redis' own cluster bus is one that clients do not use.
        let _ = writeln!(
            text,
            "{} {}:{}@{},{} {myself}master - 0 0 {} connected{slots}",
            id(shown.node),
            shown.host,
            shown.port,
            u32::from(shown.port) + 10_000,
            shown.name,
            at + 1,
        );
    }
    Ok(Reply::Text(text))
}

fn info(member: &Member) -> Result<Reply, Failure> {
    let runs = runs(member)?;
    let led: u32 = runs.iter().filter(|run| run.leader.is_some()).map(|run| run.last - run.first + 1).sum();
    let known = all_shown(member).len();
    let mut leaders: Vec<NodeId> = runs.iter().filter_map(|run| run.leader).collect();
    leaders.sort_unstable();
    leaders.dedup();
    let state = if led == SLOTS { "ok" } else { "fail" };
    Ok(Reply::Text(format!(
        "cluster_enabled:1\r\ncluster_state:{state}\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{led}\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:{}\r\ncluster_known_nodes:{known}\r\ncluster_size:{}\r\n\
         cluster_current_epoch:{}\r\ncluster_my_epoch:1\r\n",
        SLOTS - led,
        leaders.len(),
        member.router.map().revision().0,
    )))
}
