//! The ways in. Each speaks a protocol and knows no other; what an operation does is the
//! router's business.

pub mod grpc;
pub mod http;
