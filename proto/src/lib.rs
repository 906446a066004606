//! The contracts: what a client, an operator and another node may say to a node.
//!
//! The messages and services are generated from `trilith/v1/*.proto`. Start reading
//! there. This crate adds only what a contract needs to be used: the file descriptors
//! for reflection, [`convert`] to and from the types of `placement`, and [`failure`], the
//! one mapping between an [`v1::ErrorDetail`] and a gRPC status.

#[expect(clippy::all, clippy::pedantic, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("trilith.v1");
}

pub mod convert;
pub mod failure;

/// The compiled descriptors of every service, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/trilith.bin"));
