//! The witness: a program inside the Kubernetes cluster that uses Trilith as applications do, and
//! says afterwards whether everything it was told was true.
//!
//! ```text
//!   run      waits for the first write, then writes and reads until it is told to end
//!   door     how a scenario asks it, over HTTP
//!   report   what it says
//!   many     what it writes and finds beside that, when it is asked to
//!   lonely   a reader on a machine that is cut off: what does it still get to see?
//! ```

pub mod door;
pub mod lonely;
pub mod many;
pub mod report;
pub mod run;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

/// Writes and reads a table without pause, and judges what it saw.
#[derive(Debug, Clone, Parser)]
#[command(name = "e2e-witness")]
pub struct Settings {
    /// The cluster: the DNS name of its Service, with the port.
    #[arg(long, value_name = "HOST:PORT")]
    pub endpoint: String,
    /// The table.
    #[arg(long, default_value = "default")]
    pub table: String,
    /// How many write as fast as they are answered, with a short rest.
    #[arg(long, default_value_t = 2)]
    pub writers: u32,
    /// How many read so.
    #[arg(long, default_value_t = 2)]
    pub readers: u32,
    /// How many keys they share.
    #[arg(long, default_value_t = 200)]
    pub keys: u32,
    /// The rest after each call, in milliseconds.
    #[arg(long, default_value_t = 15)]
    pub rest: u64,
    /// Besides, a write begins each time so many milliseconds have passed.
    #[arg(long, default_value_t = 10)]
    pub pace: u64,
    /// How long one call may take, in seconds: the client's own default.
    #[arg(long, default_value_t = 10)]
    pub deadline: u64,
    /// The seed of what is written and read.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only read: one node, asked directly, on a machine that will be cut off.
    #[arg(long)]
    pub lonely: bool,
    /// Where it is asked.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,
}

impl Settings {
    /// How long one call may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline)
    }
}
