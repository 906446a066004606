//! Tables: a `KVTable` and the table that it declares, by the same steps as a cluster:
//! observe ▶ validate ▶ plan ▶ apply ▶ status.

pub mod apply;
pub mod controller;
pub mod indexes;
pub mod observe;
pub mod plan;
pub mod status;
pub mod validate;
