//! What is under way on a node, so that it can end without breaking anything off: first it
//! lets nothing more in, then it waits until all that is inside has left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts what is inside. Clones are the same doorway.
#[derive(Debug, Clone, Default)]
pub struct Doorway {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    inside: AtomicUsize,
    shut: AtomicBool,
    left: Notify,
}

/// Something that is inside until this is dropped.
#[derive(Debug)]
pub struct Inside {
    shared: Arc<Shared>,
}

impl Doorway {
    /// Counts something as inside. Whoever calls it asks [`Doorway::is_shut`] only then: what
    /// finds the doorway open is waited for.
    pub fn enter(&self) -> Inside {
        self.shared.inside.fetch_add(1, Ordering::SeqCst);
        Inside { shared: Arc::clone(&self.shared) }
    }

    /// Whether nothing more is let in.
    pub fn is_shut(&self) -> bool {
        self.shared.shut.load(Ordering::SeqCst)
    }

    /// Lets nothing more in.
    pub fn shut(&self) {
        self.shared.shut.store(true, Ordering::SeqCst);
    }

    /// Returns once nothing is inside. After [`Doorway::shut`] what still enters leaves at once.
    pub async fn empty(&self) {
        loop {
            let left = self.shared.left.notified();
            if self.shared.inside.load(Ordering::SeqCst) == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let last = self.shared.inside.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.shared.shut.load(Ordering::SeqCst) {
            self.shared.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_doorway_that_is_shut_is_empty_when_the_last_has_left() {
        let doorway = Doorway::default();
        let (first, second) = (doorway.enter(), doorway.enter());
        assert!(!doorway.is_shut());
        doorway.shut();
        let mut empty = Box::pin(doorway.empty());
        drop(first);
        assert!((&mut empty).now_or_never().is_none());
        // Somebody who is turned away again.
        drop(doorway.enter());
        assert!((&mut empty).now_or_never().is_none());
        drop(second);
        empty.await;
    }
}
