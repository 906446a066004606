//! What a load is aimed at.
//!
//! A [`Target`] gives each client a [`Connection`], and that is all the load generator knows
//! of any system. [`etcd`] and [`trilith`] make unary calls through the same [`unary`]
//! connection; [`stream`] keeps many operations in flight on Trilith's stream.
//!
//! All of them use tonic with the same settings ([`channel`]) and the same number of
//! connections, so that what differs between two figures is the server.

pub mod channel;
pub mod etcd;
pub mod routes;
pub mod stream;
pub mod trilith;
pub mod unary;

use std::future::Future;

use thiserror::Error;
use tokio::time::Instant;

use crate::load::workload::Operation;

pub use channel::ChannelPool;
pub use etcd::Etcd;
pub use routes::Routing;
pub use stream::TrilithStream;
pub use trilith::Trilith;

/// Why a target could not be reached or did not answer as it should.
#[derive(Debug, Error)]
pub enum TargetError {
    /// An address that is none.
    #[error("{0:?} is no address: give HOST:PORT or http://HOST:PORT")]
    BadEndpoint(String),
    /// No endpoint was given.
    #[error("no endpoint was given")]
    NoEndpoint,
    /// The connection could not be made.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// Where to.
        endpoint: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// The server refused or broke off.
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] tonic::Status),
    /// The table is not in the cluster's map.
    #[error("there is no table {0:?}: create it first")]
    UnknownTable(String),
    /// The stream ended while operations were in flight.
    #[error("the stream ended")]
    StreamEnded,
    /// The server answered something that was not asked.
    #[error("unexpected answer: {0}")]
    Unexpected(&'static str),
}

/// Goes with an operation and comes back with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// From when the operation's latency counts.
    pub start: Instant,
}

/// An operation on its way.
#[derive(Debug, Clone)]
pub struct Issued {
    /// What is asked for.
    pub operation: Operation,
    /// Its ticket.
    pub ticket: Ticket,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was done, and the key that it read does not exist.
    Missing,
    /// It was refused, or nobody knows; why.
    Failed(String),
}

/// An operation's ticket with how it ended.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The ticket it was sent with.
    pub ticket: Ticket,
    /// How it ended.
    pub outcome: Outcome,
}

/// One client's way to the servers.
pub trait Connection: Send {
    /// Sends all of `batch` and leaves it empty. An error means that the connection is of no
    /// more use and that whatever was in flight is lost.
    fn send(&mut self, batch: &mut Vec<Issued>) -> impl Future<Output = Result<(), TargetError>> + Send;

    /// Waits for answers and adds them, at least one. An error means the same as in `send`.
    ///
    /// Given up half-way it loses no answer where more than one operation may be in flight.
    fn receive(&mut self, answers: &mut Vec<Answer>) -> impl Future<Output = Result<(), TargetError>> + Send;
}

/// A system under load.
pub trait Target: Send + Sync + 'static {
    /// What one client holds.
    type Connection: Connection;

    /// Gives the client of that number its connection, also when it has lost one.
    fn connect(&self, client: usize) -> impl Future<Output = Result<Self::Connection, TargetError>> + Send;
}
