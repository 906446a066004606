//! Where the outside world comes in: time, randomness and threads.
//!
//! Everything else in the node takes these from here (clippy's `disallowed-methods` sees
//! to it), so that a whole cluster can run in one process under a seed.

pub mod clock;
pub mod fatal;
pub mod runtime;
pub mod threads;
