//! Reads what a decision about a table rests on.

use std::collections::BTreeSet;

use crds::KVTable;
use crds::conditions::{ConditionType, Reason};
use kube::ResourceExt;
use placement::NodeId;
use proto::v1::{IndexStatus, PartitionStatus};

use crate::cluster::context::Context;
use crate::cluster::validate::is_paused;
use crate::dataplane::{TableView, Where, told};

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Its cluster.
    pub cluster: Cluster,
    /// The table of that name, where its cluster answered and has one.
    pub table: Option<TableView>,
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
    /// How far it is with its indexes.
    pub indexes: Vec<IndexStatus>,
    /// The nodes of the cluster that are heard of, where it matters because a partition is not well.
    pub alive: BTreeSet<NodeId>,
    /// The resources that claim a table of this name in this cluster, the oldest first.
    pub claimants: Vec<String>,
    /// Whether somebody told the operator to keep its hands off the table or its cluster.
    pub paused: bool,
}

/// How the cluster of a table is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cluster {
    /// There is no such `KVCluster`.
    #[default]
    Missing,
    /// It is being deleted.
    Going,
    /// It does not answer, and why.
    Silent(String),
    /// It answers.
    Answers,
}

/// Reads all of it.
pub async fn observe(context: &Context, table: &KVTable) -> Observed {
    let which = Where { namespace: table.namespace().unwrap_or_default(), name: table.spec.cluster.clone() };
    let mut observed = Observed {
        claimants: claimants(context, table),
        paused: is_paused(&table.metadata),
        ..Observed::default()
    };
    let Some(cluster) = context.caches.cluster(&which) else { return observed };
    observed.paused |= is_paused(&cluster.metadata);
    if cluster.metadata.deletion_timestamp.is_some() {
        observed.cluster = Cluster::Going;
        return observed;
    }
    let mut conditions = cluster.status.iter().flat_map(|status| &status.conditions);
    let unready = conditions
        .find(|condition| condition.type_ == ConditionType::Ready.as_str() && condition.status != "True");
    let why = match unready {
        Some(unready) => unready.message.clone(),
        None if cluster.status.is_none() => "it has not been looked at yet".to_owned(),
        None => "it was ready a moment ago".to_owned(),
    };
    // While the first nodes come there is no room for a table yet.
    let forming =
        cluster.status.is_none() || unready.is_some_and(|unready| unready.reason == Reason::Forming.as_str());
    let link = context.links.open_to(&which).filter(|_| !forming);
    let Some(link) = link else {
        observed.cluster = Cluster::Silent(why);
        return observed;
    };
    match link.tables().await {
        Ok(tables) => {
            observed.cluster = Cluster::Answers;
            observed.table = tables.into_iter().find(|found| found.name == table.table_name());
        }
        Err(error) => {
            tracing::debug!(table = table.name_any(), %error, "the cluster does not say which tables it has");
            observed.cluster = Cluster::Silent(format!("{why}; {}", told(&error)));
            return observed;
        }
    }
    if let Some(found) = &observed.table {
        match link.describe_table(&found.name).await {
            Ok(Some(described)) => {
                observed.partitions = described.partitions;
                observed.indexes = described.indexes;
            }
            Ok(None) => observed.table = None,
            Err(error) => observed.cluster = Cluster::Silent(told(&error)),
        }
    }
    if observed.partitions.iter().any(|partition| !partition.trouble.is_empty()) {
        // It is a figure for people, and nothing rests on it.
        observed.alive = link.alive().await.unwrap_or_default();
    }
    observed
}

/// The resources that claim the same table. A resource that is going claims it still, or its
/// successor would be given a table that is about to be dropped.
fn claimants(context: &Context, table: &KVTable) -> Vec<String> {
    let mut rivals: Vec<_> = context
        .caches
        .tables
        .state()
        .into_iter()
        .filter(|other| {
            other.namespace() == table.namespace()
                && other.spec.cluster == table.spec.cluster
                && other.table_name() == table.table_name()
        })
        .map(|other| (other.creation_timestamp().map(|time| time.0), other.uid().unwrap_or_default()))
        .collect();
    rivals.sort();
    rivals.into_iter().map(|(_, uid)| uid).collect()
}
