//! Labels, annotations and finalizers that the operator and its users agree on.

/// On a `KVCluster`: any value but `false` stops all action of the operator except telling how it is.
pub const PAUSED: &str = "kv.trilith.dev/paused";
/// On a `KVCluster` that rebalances manually: the id of the plan in its status that may be carried out.
pub const APPROVED_PLAN: &str = "kv.trilith.dev/approved-plan";
/// On a pod and its template: the hash of the declared inputs that need a restart when they change.
pub const INPUTS_HASH: &str = "kv.trilith.dev/inputs-hash";
/// On a claim: the id of the cluster whose data it holds, written before a pod ever uses it.
pub const CLUSTER_ID: &str = "kv.trilith.dev/cluster-id";
/// On a claim: the node whose data it holds, once that has joined.
pub const NODE_ID: &str = "kv.trilith.dev/node-id";
/// On the one claim that the cluster is created on: `true`.
pub const FIRST_CLAIM: &str = "kv.trilith.dev/first";
/// On everything that belongs to a pool: its name.
pub const POOL: &str = "kv.trilith.dev/pool";
/// Kept on a resource while its deletion has to delete data first.
pub const FINALIZER: &str = "kv.trilith.dev/data";
