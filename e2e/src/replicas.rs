//! Whether every copy of a table holds the same.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use proto::v1::{Item, ScanRequest};

use crate::{Cluster, until};

/// How long replicas may take to apply what was written last.
const EQUAL_WITHIN: Duration = Duration::from_secs(20);

/// Waits until all running nodes have applied the same entries, and then says whether they
/// hold the same items. Nobody may write meanwhile. Each running node must hold a replica of
/// every partition, so that a stale scan at its door is answered from its own copies.
///
/// Copies that differ although they have applied the same are an error at once.
pub async fn all_equal(cluster: &Cluster, table: &str) -> anyhow::Result<BTreeMap<Vec<u8>, Item>> {
    let partitions = cluster.partitions(table).await?;
    let applied = until("all replicas have applied the same", EQUAL_WITHIN, async || {
        let first = applied(cluster, &partitions).await?;
        ensure!(first.windows(2).all(|pair| pair.first() == pair.last()), "applied: {first:?}");
        Ok(first)
    })
    .await?;
    let mut copies = Vec::new();
    for node in cluster.running() {
        copies.push((node, scan_here(cluster, node, table).await?));
    }
    let (first, rest) = copies.split_first().context("no node runs")?;
    for (node, items) in rest {
        ensure!(*items == first.1, "{}", difference((first.0, &first.1), (*node, items)));
    }
    let (_, items) = copies.swap_remove(0);
    let after = self::applied(cluster, &partitions).await?;
    ensure!(after == applied, "something was applied while the copies were compared");
    Ok(items)
}

/// What a node's own copies hold.
pub async fn scan_here(
    cluster: &Cluster,
    node: usize,
    table: &str,
) -> anyhow::Result<BTreeMap<Vec<u8>, Item>> {
    let request = ScanRequest { table: table.to_owned(), stale: true, ..ScanRequest::default() };
    let mut pages = cluster.kv_at(node)?.scan(request).await?.into_inner();
    let mut items = BTreeMap::new();
    while let Some(page) = pages.message().await? {
        items.extend(page.items.into_iter().map(|item| (item.key.to_vec(), item)));
    }
    Ok(items)
}

/// Of each running node: how far its replica of each partition is.
async fn applied(cluster: &Cluster, partitions: &[u64]) -> anyhow::Result<Vec<Vec<u64>>> {
    let mut nodes = Vec::new();
    for node in cluster.running() {
        let mut replicas = Vec::new();
        for partition in partitions {
            let group = cluster.group_at(node, *partition).await?;
            let group = group.with_context(|| format!("node {node} has no replica of {partition}"))?;
            replicas.push(group.applied_index);
        }
        nodes.push(replicas);
    }
    Ok(nodes)
}

fn difference(
    (one, ours): (usize, &BTreeMap<Vec<u8>, Item>),
    (other, theirs): (usize, &BTreeMap<Vec<u8>, Item>),
) -> String {
    let keys = ours.keys().chain(theirs.keys()).filter(|key| ours.get(*key) != theirs.get(*key));
    let lines = keys.take(10).map(|key| {
        let shown = String::from_utf8_lossy(key);
        format!("\n{shown}: {:?} on node {one}, {:?} on node {other}", ours.get(key), theirs.get(key))
    });
    format!("replicas that have applied the same differ:{}", lines.collect::<String>())
}
