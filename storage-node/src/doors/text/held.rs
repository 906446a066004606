//! What one connection holds, said to the node as it changes.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::doors::connections::{Slot, TooMuchHeld};

/// What a connection holds, all parts together. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Held {
    shared: Arc<Mutex<(Slot, usize)>>,
}

/// A part of it, given back when this is dropped.
#[derive(Debug)]
pub struct Portion {
    held: Held,
    bytes: usize,
}

impl Held {
    /// Of the connection with this place.
    pub fn new(slot: Slot) -> Self {
        Self { shared: Arc::new(Mutex::new((slot, 0))) }
    }

    /// Nothing yet.
    pub fn nothing(&self) -> Portion {
        Portion { held: self.clone(), bytes: 0 }
    }

    fn change(&self, from: usize, to: usize) -> Result<(), TooMuchHeld> {
        let mut shared = self.shared.lock();
        let all = shared.1.saturating_sub(from) + to;
        shared.0.hold(all)?;
        shared.1 = all;
        Ok(())
    }
}

impl Portion {
    /// Says that it is so much from now on; when that is too much, it stays what it was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), TooMuchHeld> {
        self.held.change(self.bytes, bytes)?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        // Less is never too much.
        let _ = self.held.change(self.bytes, 0);
    }
}
