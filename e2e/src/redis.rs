//! Redis and what speaks its protocol: a client of bytes, a real server beside ours, and what
//! is played on both.
//!
//! ```text
//!   server       a real redis-server, alone or three as a cluster
//!   connection   sends bytes, and gives replies as the bytes that came
//!   reply        what such bytes say
//!
//!   generator    sequences of commands that a seed decides
//!   contest      plays them on two servers and compares every reply
//!   inspection   compares what both hold, where order and choice are the server's own
//!
//!   programs     other people's clients, run to their end
//! ```

pub mod connection;
pub mod contest;
pub mod generator;
pub mod inspection;
pub mod programs;
pub mod reply;
pub mod server;

pub use connection::{Connection, encode};
pub use contest::Contest;
pub use generator::{Generator, Spread};
pub use reply::Reply;
pub use server::{RedisCluster, RedisServer};
