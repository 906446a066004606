//! The cluster version goes up once every node supports a newer one.
//!
//! It cannot be taken back, so it is the last thing to happen: not while any node is away, because
//! one that comes back with an older program could not take part any more.

use crate::cluster::intent::Intent;
use crate::cluster::observed::Observed;

use super::Step;

pub(super) fn raise(intent: &Intent, observed: &Observed) -> Option<Step> {
    let view = observed.data.known().filter(|_| intent.raises_version)?;
    if view.nodes.values().any(|node| !node.alive) {
        return None;
    }
    let (from, to) = (view.cluster_version, view.nodes.values().map(|node| node.supports_version).min()?);
    (from < to).then_some(Step::RaiseVersion { from, to })
}
