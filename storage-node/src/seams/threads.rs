//! Threads that are not tokio's.

use std::io;
use std::thread::JoinHandle;

/// Starts a named thread for work that blocks for the node's whole life.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Runs something that blocks (a disk, a flush) without holding up the runtime.
///
/// A panic inside is a bug, and is passed on as one.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down; whoever waits is being dropped with it.
            Err(_) => std::future::pending().await,
        },
    }
}
