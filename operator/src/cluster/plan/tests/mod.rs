//! Plans as readable text: each test tells what was wanted, and compares all that was done until
//! the cluster came to rest. The world that they happen in refuses whatever must never be done.

mod danger;
mod life;
mod world;
