//! The effects that a plan may have, as data. Tests compare them, Events show them, and the
//! fault points of tests are named after them.

use std::fmt;

use placement::{Move, NodeId};

use crate::cluster::observed::Seat;

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A claim is made, before the pod that uses it can be.
    CreateClaim {
        /// Whose it is.
        seat: Seat,
        /// Its name.
        claim: String,
        /// Whether it is the one that the cluster is created on.
        first: bool,
    },
    /// A claim is marked as the one that the cluster is created on.
    MarkClaim {
        /// Its name.
        claim: String,
    },
    /// A claim is labelled with the node whose data it now holds.
    LabelClaim {
        /// Its name.
        claim: String,
        /// The node.
        node: NodeId,
    },
    /// A claim asks for more.
    GrowClaim {
        /// Its name.
        claim: String,
        /// What it asked for, in bytes.
        from: u64,
        /// What it asks for now.
        to: u64,
    },
    /// A claim goes, and its data with it.
    DeleteClaim {
        /// Its name.
        claim: String,
        /// Its UID, so that a new claim of the same name is never meant.
        uid: String,
        /// The removed node whose data it holds; asked about once more just before.
        node: Option<NodeId>,
        /// Whether nobody is asked, because the whole cluster is being deleted.
        unasked: bool,
    },
    /// A pool's `StatefulSet` is told how many pods to have.
    ScaleSet {
        /// The pool.
        pool: String,
        /// What it had; none: there was no `StatefulSet`.
        from: Option<u32>,
        /// What it has now.
        to: u32,
    },
    /// A pool's `StatefulSet` makes pods of other inputs from now on. No pod restarts by it.
    SwitchTemplate {
        /// The pool.
        pool: String,
        /// The hash of the inputs.
        to: String,
    },
    /// A change is given up: the last good template is put back, and the change's hash kept so
    /// that it is not tried again.
    GiveUpTemplate {
        /// The pool.
        pool: String,
        /// The hash of the change.
        failed: String,
        /// The hash of what is put back.
        back_to: String,
    },
    /// The present template is remembered as the one to go back to.
    RecordGoodTemplate {
        /// The pool.
        pool: String,
        /// Its hash.
        inputs: String,
    },
    /// The `StatefulSet` of a pool that has no node left goes.
    DeleteSet {
        /// The pool.
        pool: String,
    },
    /// The cluster is created, on this pod.
    Init {
        /// The pod.
        pod: String,
    },
    /// A pod joins the cluster.
    Join {
        /// The pod.
        pod: String,
    },
    /// A node is emptied.
    Drain {
        /// The node.
        node: NodeId,
        /// Its name.
        name: String,
        /// Why.
        why: DrainReason,
    },
    /// A node is used again.
    Undrain {
        /// The node.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// An empty node is forgotten; its identity never returns.
    Remove {
        /// The node.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// The leaders of a node go elsewhere.
    TransferLeaders {
        /// The node.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// A pod is deleted, so that its `StatefulSet` makes it anew.
    RestartPod {
        /// The pod.
        pod: String,
        /// Its UID.
        uid: String,
        /// What is asked just before.
        gate: Gate,
    },
    /// A pod on a lost machine is forgotten by Kubernetes too.
    ForceDeletePod {
        /// The pod.
        pod: String,
        /// Its UID.
        uid: String,
        /// The removed node that lived in it; none: the whole cluster is being deleted.
        node: Option<NodeId>,
    },
    /// Moves are ordered.
    StartMoves {
        /// Which.
        orders: Vec<Move>,
        /// The same for a person.
        lines: Vec<String>,
        /// The revision of the map that they were planned on.
        revision: u64,
    },
    /// A move is cancelled.
    CancelMove {
        /// Its number.
        id: u64,
    },
    /// The nodes may write and say to each other what is new in a version.
    RaiseVersion {
        /// The cluster version as it was.
        from: u32,
        /// As it is now; it never goes down.
        to: u32,
    },
    /// The object may go: what the policy asks for was done.
    ReleaseFinalizer,
}

/// Why a node is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainReason {
    /// Fewer nodes are wanted.
    ScaleDown,
    /// It has been gone for too long.
    Gone,
    /// Its claim is gone and another identity lives in its pod.
    IdentityLost,
}

/// What is asked just before a pod is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Its container never ran: nobody can be asked, and nobody is hurt. Whether it still has not is
    /// looked at once more.
    NeverRan,
    /// It says that it belongs to no cluster, so it holds nothing; it is asked once more.
    BelongsToNobody,
    /// Every group keeps a caught-up quorum without it.
    CanRestart {
        /// The node.
        node: NodeId,
        /// Whether leaders may still be on it.
        with_leaders: bool,
        /// Whether partitions with one copy may be away meanwhile.
        single_replica: bool,
    },
}

impl Step {
    /// Whether the steps after it may be taken although it could not be. What others rest on is not.
    pub fn stands_alone(&self) -> bool {
        matches!(
            self,
            Self::GrowClaim { .. }
                | Self::GiveUpTemplate { .. }
                | Self::Join { .. }
                | Self::ForceDeletePod { .. }
        )
    }

    /// The step's name, by which tests make the operator end at it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateClaim { .. } => "create-claim",
            Self::MarkClaim { .. } => "mark-claim",
            Self::LabelClaim { .. } => "label-claim",
            Self::GrowClaim { .. } => "grow-claim",
            Self::DeleteClaim { .. } => "delete-claim",
            Self::ScaleSet { .. } => "scale-set",
            Self::SwitchTemplate { .. } => "switch-template",
            Self::GiveUpTemplate { .. } => "give-up-template",
            Self::RecordGoodTemplate { .. } => "record-good-template",
            Self::DeleteSet { .. } => "delete-set",
            Self::Init { .. } => "init",
            Self::Join { .. } => "join",
            Self::Drain { .. } => "drain",
            Self::Undrain { .. } => "undrain",
            Self::Remove { .. } => "remove",
            Self::TransferLeaders { .. } => "transfer-leaders",
            Self::RestartPod { .. } => "restart-pod",
            Self::ForceDeletePod { .. } => "force-delete-pod",
            Self::StartMoves { .. } => "start-moves",
            Self::CancelMove { .. } => "cancel-move",
            Self::RaiseVersion { .. } => "raise-version",
            Self::ReleaseFinalizer => "release-finalizer",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateClaim { claim, first: false, .. } => write!(f, "create claim {claim}"),
            Self::CreateClaim { claim, first: true, .. } => {
                write!(f, "create claim {claim}, the one that the cluster begins on")
            }
            Self::MarkClaim { claim } => write!(f, "let the cluster begin on claim {claim}"),
            Self::LabelClaim { claim, node } => write!(f, "label claim {claim} with node {node}"),
            Self::GrowClaim { claim, from, to } => write!(f, "grow claim {claim} from {from} to {to} bytes"),
            Self::DeleteClaim { claim, unasked: true, .. } => {
                write!(f, "delete claim {claim} with its cluster")
            }
            Self::DeleteClaim { claim, node: Some(node), .. } => {
                write!(f, "delete claim {claim} of the removed node {node}")
            }
            Self::DeleteClaim { claim, node: None, .. } => {
                write!(f, "delete claim {claim}, which no node has used")
            }
            Self::ScaleSet { pool, from: None, to } => write!(f, "start pool {pool} with {to} pods"),
            Self::ScaleSet { pool, from: Some(from), to } => {
                write!(f, "scale pool {pool} from {from} to {to} pods")
            }
            Self::SwitchTemplate { pool, to } => write!(f, "new pods of pool {pool} are made of {to}"),
            Self::GiveUpTemplate { pool, failed, back_to } => {
                write!(f, "give up {failed} in pool {pool} and put {back_to} back")
            }
            Self::RecordGoodTemplate { pool, inputs } => {
                write!(f, "remember {inputs} as good in pool {pool}")
            }
            Self::DeleteSet { pool } => write!(f, "delete the empty pool {pool}"),
            Self::Init { pod } => write!(f, "create the cluster on {pod}"),
            Self::Join { pod } => write!(f, "let {pod} join"),
            Self::Drain { name, why, .. } => write!(f, "drain {name}: {why}"),
            Self::Undrain { name, .. } => write!(f, "use {name} again"),
            Self::Remove { node, name } => write!(f, "remove {name} ({node})"),
            Self::TransferLeaders { name, .. } => write!(f, "move leaders away from {name}"),
            Self::RestartPod { pod, gate, .. } => write!(f, "restart {pod}: {gate}"),
            Self::ForceDeletePod { pod, node: Some(node), .. } => {
                write!(f, "forget pod {pod} on a lost machine; its node {node} is removed")
            }
            Self::ForceDeletePod { pod, node: None, .. } => {
                write!(f, "forget pod {pod} on a lost machine, with its cluster")
            }
            Self::StartMoves { lines, .. } => {
                write!(f, "start {} moves: {}", lines.len(), lines.join("; "))
            }
            Self::CancelMove { id } => write!(f, "cancel move {id}"),
            Self::RaiseVersion { from, to } => write!(f, "raise the cluster version from {from} to {to}"),
            Self::ReleaseFinalizer => write!(f, "let the object go"),
        }
    }
}

impl fmt::Display for DrainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ScaleDown => "fewer nodes are wanted",
            Self::Gone => "it has been gone for too long",
            Self::IdentityLost => "its claim is gone",
        })
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverRan => f.write_str("it never ran"),
            Self::BelongsToNobody => f.write_str("it belongs to no cluster"),
            Self::CanRestart { with_leaders: false, .. } => f.write_str("when it leads nothing and may"),
            Self::CanRestart { with_leaders: true, .. } => f.write_str("when it may"),
        }
    }
}
