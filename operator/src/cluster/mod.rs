//! Clusters: a `KVCluster` and what is kept for it.
//!
//! ```text
//!   observe ──▶ validate ──▶ plan ──▶ apply ──▶ status
//!   objects,    types that   steps,   effects   conditions
//!   data plane  cannot be    pure     only      pure
//!               wrong
//! ```
//!
//! Start reading in [`controller`], which is the pipeline, then in [`plan`], which is the heart.
//! Nothing is remembered from one look to the next: what is under way is found out again from the
//! spec, the claims, the pods and the data plane, so an operator may end at any time.

pub mod apply;
pub mod context;
pub mod controller;
pub mod intent;
pub mod keep;
pub mod marks;
pub mod objects;
pub mod observe;
pub mod observed;
pub mod plan;
pub mod sets;
pub mod status;
pub mod validate;
