//! The ways in. Each speaks a protocol and knows no other; what an operation does is the
//! router's business, which they reach by [`operations`].

pub mod connections;
pub mod grpc;
pub mod http;
pub mod operations;
pub mod resp;
pub mod text;

pub use operations::Operations;
