//! Waiting until a resource says so in its status.

use anyhow::{Context as _, ensure};
use crds::{KVCluster, KVTable};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

/// A resource with conditions.
pub trait Conditioned {
    /// What it is called in messages.
    const KIND: &'static str;
    /// Its conditions.
    fn conditions(&self) -> &[Condition];
    /// The generation of its spec.
    fn generation(&self) -> i64;
    /// The generation that its status speaks of.
    fn observed(&self) -> i64;

    /// The condition of a type, where the status speaks of the present spec.
    fn condition(&self, type_: &str) -> anyhow::Result<&Condition> {
        ensure!(
            self.observed() >= self.generation(),
            "the status speaks of generation {}, and the spec is of {}",
            self.observed(),
            self.generation()
        );
        let found = self.conditions().iter().find(|condition| condition.type_ == type_);
        found.with_context(|| format!("it has no condition {type_}"))
    }

    /// That a condition is as wanted.
    fn has(&self, type_: &str, status: &str) -> anyhow::Result<()> {
        let condition = self.condition(type_)?;
        ensure!(
            condition.status == status,
            "{type_} is {} ({}): {}",
            condition.status,
            condition.reason,
            condition.message
        );
        Ok(())
    }

    /// That a condition is as wanted for a reason, and says so.
    fn has_because(&self, type_: &str, status: &str, reason: &str, phrase: &str) -> anyhow::Result<()> {
        self.has(type_, status)?;
        let condition = self.condition(type_)?;
        ensure!(
            condition.reason == reason && condition.message.contains(phrase),
            "{type_} is {status}, but says {}: {}",
            condition.reason,
            condition.message
        );
        Ok(())
    }
}

impl Conditioned for KVCluster {
    const KIND: &'static str = "KVCluster";

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    fn observed(&self) -> i64 {
        self.status.as_ref().and_then(|status| status.observed_generation).unwrap_or_default()
    }
}

impl Conditioned for KVTable {
    const KIND: &'static str = "KVTable";

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    fn observed(&self) -> i64 {
        self.status.as_ref().and_then(|status| status.observed_generation).unwrap_or_default()
    }
}

/// That a cluster is as declared, and nothing is under way.
pub fn is_settled(cluster: &KVCluster) -> anyhow::Result<()> {
    cluster.has("Ready", "True")?;
    cluster.has("Progressing", "False")?;
    cluster.has("Degraded", "False")?;
    cluster.has("Balanced", "True")?;
    let status = cluster.status.as_ref().context("it has no status")?;
    let declared: i32 = cluster.spec.pools.iter().map(|pool| pool.replicas).sum();
    let there: i32 = status.pools.iter().map(|pool| pool.replicas).sum();
    let updated: i32 = status.pools.iter().map(|pool| pool.updated).sum();
    ensure!(
        (there, updated) == (declared, declared),
        "{} has {there} pods, {updated} of them as declared, and should have {declared}",
        cluster.name_any()
    );
    Ok(())
}
