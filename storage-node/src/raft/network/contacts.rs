//! When each follower was last known to follow: what a leader's lease and its reads rest on.
//!
//! A follower that answers an append or a heartbeat has promised to elect nobody else for a
//! while, counted from when it took the message in; so a leader may count from when it *sent*
//! the very message that was answered. openraft keeps such a time too, but takes it from the
//! newest message that an answer could belong to: after a process was paused, an old answer
//! may then count as a fresh promise. Here each answer counts for its own message only.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::raft::type_config::Membership;

/// The contacts of one replica, as a leader, with the others of its group.
#[derive(Debug, Default)]
pub struct Contacts {
    last: Mutex<HashMap<u64, Contact>>,
    noted: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Contact {
    term: u64,
    sent: Instant,
}

impl Contacts {
    /// A replica has answered, as a follower of that term's leader, what was sent then.
    pub fn note(&self, replica: u64, term: u64, sent: Instant) {
        let contact = Contact { term, sent };
        let mut last = self.last.lock();
        let known = last.entry(replica).or_insert(contact);
        *known = contact.max(*known);
        drop(last);
        self.noted.notify_waiters();
    }

    /// Whether a quorum, this leader included, has answered what was sent at that time or
    /// later; while voters change, a quorum of both configurations.
    pub fn quorum_since(&self, since: Instant, term: u64, own: u64, membership: &Membership) -> bool {
        let last = self.last.lock();
        let follows = |replica: &u64| {
            *replica == own
                || last.get(replica).is_some_and(|known| known.term == term && known.sent >= since)
        };
        let configs = membership.get_joint_config();
        !configs.is_empty()
            && configs
                .iter()
                .all(|voters| voters.iter().filter(|voter| follows(voter)).count() > voters.len() / 2)
    }

    /// Returns at the next contact after the call was first polled.
    pub async fn next(&self) {
        self.noted.notified().await;
    }

    /// The next contact after this call.
    pub fn listen(&self) -> tokio::sync::futures::Notified<'_> {
        self.noted.notified()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::*;
    use crate::raft::type_config::ReplicaPlace;
    use crate::seams::clock;

    fn voters(configs: &[&[u64]]) -> Membership {
        let sets: Vec<BTreeSet<u64>> = configs.iter().map(|set| set.iter().copied().collect()).collect();
        let places: BTreeMap<u64, ReplicaPlace> =
            sets.iter().flatten().map(|replica| (*replica, ReplicaPlace::default())).collect();
        Membership::new(sets, places).unwrap()
    }

    #[tokio::test]
    async fn a_quorum_counts_what_was_sent_not_what_was_answered() {
        let contacts = Contacts::default();
        let now = clock::now();
        let three = voters(&[&[1, 2, 3]]);
        assert!(!contacts.quorum_since(now, 5, 1, &three));
        contacts.note(2, 5, now - Duration::from_secs(5));
        assert!(!contacts.quorum_since(now - Duration::from_secs(1), 5, 1, &three));
        contacts.note(3, 5, now);
        assert!(contacts.quorum_since(now, 5, 1, &three));
        assert!(!contacts.quorum_since(now, 6, 1, &three), "another term's promise counts for nothing");
        contacts.note(3, 5, now - Duration::from_secs(9));
        assert!(contacts.quorum_since(now, 5, 1, &three), "a late answer takes nothing back");
    }

    #[tokio::test]
    async fn while_voters_change_both_quorums_count() {
        let contacts = Contacts::default();
        let now = clock::now();
        contacts.note(2, 1, now);
        let joint = voters(&[&[1, 2, 3], &[1, 4, 5]]);
        assert!(!contacts.quorum_since(now, 1, 1, &joint));
        contacts.note(5, 1, now);
        assert!(contacts.quorum_since(now, 1, 1, &joint));
        assert!(contacts.quorum_since(now, 1, 1, &voters(&[&[1]])), "a sole voter is a quorum");
    }
}
