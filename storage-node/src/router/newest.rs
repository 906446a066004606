//! Asks for the newest map: whoever must not answer from an old one waits for what the meta
//! leader says after it asked.

use std::cmp;

use tokio::sync::watch;

/// Between those who ask and the one who follows the map.
///
/// Questions are numbered; one answer of the meta leader is for all that were asked before
/// the leader was.
pub struct NewestMap {
    asked: watch::Sender<u64>,
    heard: watch::Sender<u64>,
}

impl Default for NewestMap {
    fn default() -> Self {
        Self { asked: watch::channel(0).0, heard: watch::channel(0).0 }
    }
}

impl NewestMap {
    /// Somebody met a sign that the map is old; returns the number of its question.
    pub fn ask(&self) -> u64 {
        let mut number = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        number
    }

    /// Returns once the followed map is what it was at this call, or newer.
    pub async fn reached(&self) {
        let number = self.ask();
        let mut heard = self.heard.subscribe();
        // It cannot end: the sender is in here.
        let _ = heard.wait_for(|heard| *heard >= number).await;
    }

    /// The questions so far, for the one who follows.
    pub fn questions(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    /// The map has become what the meta leader knew after that many had been asked.
    pub fn hear(&self, asked: u64) {
        self.heard.send_modify(|heard| *heard = cmp::max(*heard, asked));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn only_what_was_asked_after_counts() {
        let newest = Arc::new(NewestMap::default());
        assert_eq!(newest.ask(), 1);
        let mut waits = Box::pin(newest.reached());
        assert!(waits.as_mut().now_or_never().is_none());
        newest.hear(1);
        assert!(waits.as_mut().now_or_never().is_none(), "the answer to an older question");
        assert_eq!(*newest.questions().borrow(), 2);
        newest.hear(2);
        waits.await;
    }
}
