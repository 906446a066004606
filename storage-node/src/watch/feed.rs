//! What a group changed lately, sorted by who follows it.
//!
//! Whoever applies entries only leaves them here. A task that runs while anybody follows looks
//! each change up among the interests, once however many have the same one, and puts it into the
//! queues of those that it meets. A queue that grows too long forgets its beginning: who has not
//! read it finds it in history.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use placement::{Bucket, PartitionId};
use tokio::sync::Notify;

use super::interest::Interest;
use super::signal::Signal;
use crate::partition::history::Fresh;
use crate::storage::change::{ChangeSet, StoredChange};

/// What waits to be sorted, at most.
const INBOX_BYTES: usize = 8 << 20;
/// What one interest's queue holds, at most.
const QUEUE_BYTES: usize = 256 << 10;
/// What all queues of the node hold, at most. Over it, those that are met forget everything.
const QUEUES_BYTES: usize = 32 << 20;

/// What all queues of the node hold.
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// A change in its place.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The bucket of the key.
    pub bucket: Bucket,
    set: Arc<ChangeSet>,
    at: usize,
}

impl Seen {
    /// One of a set.
    pub fn new(bucket: Bucket, set: Arc<ChangeSet>, at: usize) -> Option<Self> {
        (at < set.changes.len()).then_some(Self { bucket, set, at })
    }

    /// The change.
    pub fn change(&self) -> Option<&StoredChange> {
        self.set.changes.get(self.at)
    }

    /// Its revision.
    pub fn revision(&self) -> u64 {
        self.change().map_or(0, |change| change.revision)
    }

    /// Its place among all changes of the partition.
    pub fn place(&self) -> (u64, Bucket, usize) {
        (self.revision(), self.bucket, self.at)
    }

    /// The partition's clock when it happened.
    pub fn clock_ms(&self) -> u64 {
        self.set.clock_ms
    }

    fn size(&self) -> usize {
        self.change().map_or(0, StoredChange::size)
    }
}

/// What a group changed lately.
#[derive(Debug, Default)]
pub struct Feed {
    inbox: Mutex<Inbox>,
    arrived: Notify,
    /// Everything up to here is in the queues that it belongs to.
    sorted: AtomicU64,
    index: Mutex<Index>,
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct Inbox {
    /// Whether anybody follows; nothing is left here else.
    followed: bool,
    fresh: Vec<Fresh>,
    bytes: usize,
    /// The counter after what lies here.
    counter: u64,
    /// Something is missing: it was too much, or came with a snapshot.
    gap: bool,
}

/// Interests by what they look at.
#[derive(Debug, Default)]
struct Index {
    keys: HashMap<Bytes, Arc<Queue>>,
    /// By length, so that a key is looked up once for each length that there is.
    prefixes: BTreeMap<usize, HashMap<Bytes, Arc<Queue>>>,
    ranges: Vec<Arc<Queue>>,
    running: bool,
}

/// What one interest met.
#[derive(Debug)]
struct Queue {
    interest: Interest,
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    /// All that was met after this revision is here.
    since: u64,
    seen: VecDeque<Seen>,
    bytes: usize,
    to_wake: bool,
    followers: HashMap<u64, (PartitionId, Arc<Signal>)>,
    next_follower: u64,
}

/// Somebody's place at a queue, until it is dropped.
#[derive(Debug)]
pub struct Followed {
    feed: Arc<Feed>,
    queue: Arc<Queue>,
    follower: u64,
}

impl Feed {
    /// Leaves what entries changed, and the counter after them. Never waits.
    pub fn offer(&self, fresh: Vec<Fresh>, counter: u64) {
        let mut inbox = self.inbox.lock();
        inbox.counter = counter;
        if !inbox.followed {
            self.sorted.store(counter, Ordering::Release);
            return;
        }
        inbox.bytes += fresh.iter().map(Fresh::size).sum::<usize>();
        if inbox.bytes > INBOX_BYTES {
            inbox.fresh.clear();
            inbox.gap = true;
        }
        if !inbox.gap {
            inbox.fresh.extend(fresh);
        }
        drop(inbox);
        self.arrived.notify_one();
    }

    /// The next changes do not follow on the last: the state was replaced.
    pub fn skip(&self) {
        let mut inbox = self.inbox.lock();
        inbox.fresh.clear();
        inbox.gap = inbox.followed;
    }

    /// Nothing more will come.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.arrived.notify_one();
        self.index.lock().queues().for_each(|queue| queue.wake());
    }

    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Everything up to this revision is in the queues that it belongs to.
    pub fn sorted(&self) -> u64 {
        self.sorted.load(Ordering::Acquire)
    }

    /// Follows an interest: from here on the signal is raised when it is met.
    pub fn follow(
        self: &Arc<Self>,
        interest: &Interest,
        partition: PartitionId,
        signal: &Arc<Signal>,
    ) -> Followed {
        let mut index = self.index.lock();
        // What was applied before is on disk; what is applied from here on comes by the inbox.
        self.inbox.lock().followed = true;
        let queue = index.queue_of(interest, self.sorted());
        let follower = {
            let mut state = queue.state.lock();
            state.next_follower += 1;
            let follower = state.next_follower;
            state.followers.insert(follower, (partition, Arc::clone(signal)));
            follower
        };
        if !std::mem::replace(&mut index.running, true) {
            tokio::spawn(Arc::clone(self).dispatch());
        }
        Followed { feed: Arc::clone(self), queue, follower }
    }

    /// Sorts what arrives, for as long as anybody follows.
    async fn dispatch(self: Arc<Self>) {
        while !self.has_ended() {
            self.arrived.notified().await;
            let mut met: Vec<Arc<Queue>> = Vec::new();
            let mut index = self.index.lock();
            let (fresh, counter, gap) = {
                let mut inbox = self.inbox.lock();
                inbox.followed = !index.is_empty();
                inbox.bytes = 0;
                (std::mem::take(&mut inbox.fresh), inbox.counter, std::mem::take(&mut inbox.gap))
            };
            if index.is_empty() {
                self.sorted.store(counter, Ordering::Release);
                index.running = false;
                return;
            }
            if gap {
                index.queues().for_each(|queue| queue.forget(counter));
                met.extend(index.queues().cloned());
            } else {
                for seen in in_order(fresh) {
                    index.each_that_has(&seen, |queue| {
                        if queue.push(seen.clone()) {
                            met.push(Arc::clone(queue));
                        }
                    });
                }
            }
            self.sorted.store(counter, Ordering::Release);
            drop(index);
            met.iter().for_each(|queue| queue.wake());
        }
    }

    fn unfollow(&self, queue: &Arc<Queue>, follower: u64) {
        let mut index = self.index.lock();
        let mut state = queue.state.lock();
        state.followers.remove(&follower);
        if state.followers.is_empty() {
            state.clear();
            drop(state);
            index.remove(&queue.interest);
            if index.is_empty() {
                self.arrived.notify_one();
            }
        }
    }
}

/// Changes of several entries and buckets in the order of their revisions.
fn in_order(fresh: Vec<Fresh>) -> Vec<Seen> {
    let mut all: Vec<Seen> = fresh
        .into_iter()
        .flat_map(|Fresh { bucket, set }| {
            (0..set.changes.len()).filter_map(move |at| Seen::new(bucket, Arc::clone(&set), at))
        })
        .collect();
    all.sort_by_key(Seen::place);
    all
}

impl Index {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.prefixes.is_empty() && self.ranges.is_empty()
    }

    fn queues(&self) -> impl Iterator<Item = &Arc<Queue>> {
        let prefixes = self.prefixes.values().flat_map(HashMap::values);
        self.keys.values().chain(prefixes).chain(&self.ranges)
    }

    fn queue_of(&mut self, interest: &Interest, since: u64) -> Arc<Queue> {
        let make = || {
            let state = Mutex::new(QueueState { since, ..QueueState::default() });
            Arc::new(Queue { interest: interest.clone(), state })
        };
        match interest {
            Interest::Key(key) => Arc::clone(self.keys.entry(key.clone()).or_insert_with(make)),
            Interest::Prefix(prefix) => {
                let of_length = self.prefixes.entry(prefix.len()).or_default();
                Arc::clone(of_length.entry(prefix.clone()).or_insert_with(make))
            }
            Interest::Range(..) => match self.ranges.iter().find(|queue| queue.interest == *interest) {
                Some(queue) => Arc::clone(queue),
                None => {
                    let queue = make();
                    self.ranges.push(Arc::clone(&queue));
                    queue
                }
            },
        }
    }

    fn remove(&mut self, interest: &Interest) {
        match interest {
            Interest::Key(key) => drop(self.keys.remove(key)),
            Interest::Prefix(prefix) => {
                if let Some(of_length) = self.prefixes.get_mut(&prefix.len()) {
                    of_length.remove(prefix);
                    if of_length.is_empty() {
                        self.prefixes.remove(&prefix.len());
                    }
                }
            }
            Interest::Range(..) => self.ranges.retain(|queue| queue.interest != *interest),
        }
    }

    fn each_that_has(&self, seen: &Seen, mut met: impl FnMut(&Arc<Queue>)) {
        let Some(key) = seen.change().map(StoredChange::key) else { return };
        // A bucket that was cleared is everybody's business.
        let Some(key) = key else {
            self.queues().for_each(met);
            return;
        };
        if let Some(queue) = self.keys.get(key) {
            met(queue);
        }
        for (length, of_length) in self.prefixes.range(..=key.len()) {
            if let Some(queue) = key.get(..*length).and_then(|prefix| of_length.get(prefix)) {
                met(queue);
            }
        }
        self.ranges.iter().filter(|queue| queue.interest.has(key)).for_each(met);
    }
}

impl Queue {
    /// Whether this is the first since those who follow were woken.
    fn push(&self, seen: Seen) -> bool {
        let mut state = self.state.lock();
        let size = seen.size();
        state.bytes += size;
        QUEUED.fetch_add(size, Ordering::Relaxed);
        state.seen.push_back(seen);
        if QUEUED.load(Ordering::Relaxed) > QUEUES_BYTES {
            state.forget_before(usize::MAX);
        } else if state.bytes > QUEUE_BYTES {
            state.forget_before(QUEUE_BYTES / 2);
        }
        !std::mem::replace(&mut state.to_wake, true)
    }

    fn forget(&self, counter: u64) {
        let mut state = self.state.lock();
        state.clear();
        state.since = counter;
    }

    fn wake(&self) {
        let mut state = self.state.lock();
        state.to_wake = false;
        state.followers.values().for_each(|(partition, signal)| signal.raise(*partition));
    }
}

impl QueueState {
    fn clear(&mut self) {
        QUEUED.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        self.seen.clear();
    }

    /// Forgets the beginning, at least so many bytes of it, and never a part of a revision.
    fn forget_before(&mut self, bytes: usize) {
        let wanted = self.bytes.saturating_sub(bytes.min(self.bytes));
        while let Some(front) = self.seen.front() {
            if self.bytes <= wanted && front.revision() > self.since {
                return;
            }
            self.since = self.since.max(front.revision());
            self.bytes -= front.size();
            QUEUED.fetch_sub(front.size(), Ordering::Relaxed);
            self.seen.pop_front();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.state.get_mut().clear();
    }
}

impl Followed {
    /// What the interest met after one revision, up to another that is sorted; none: its beginning
    /// is only in history.
    pub fn between(&self, after: u64, up_to: u64) -> Option<Vec<Seen>> {
        let state = self.queue.state.lock();
        if state.since > after {
            return None;
        }
        let from = state.seen.partition_point(|seen| seen.revision() <= after);
        let wanted = state.seen.range(from..).take_while(|seen| seen.revision() <= up_to);
        Some(wanted.cloned().collect())
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.feed.unfollow(&self.queue, self.follower);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::storage::change::Happened;

    const PARTITION: PartitionId = PartitionId(7);

    fn fresh(revision: u64, key: &'static str) -> Vec<Fresh> {
        let what = Happened::Gone { key: key.into(), expired: false, before: None };
        let set = ChangeSet { clock_ms: 1, changes: vec![StoredChange { revision, what }] };
        vec![Fresh { bucket: Bucket(0), set: Arc::new(set) }]
    }

    fn revisions(followed: &Followed, after: u64, up_to: u64) -> Option<Vec<u64>> {
        Some(followed.between(after, up_to)?.iter().map(Seen::revision).collect())
    }

    async fn sorted(feed: &Feed, revision: u64) {
        let sorted = async {
            while feed.sorted() < revision {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), sorted).await.expect("it is sorted");
    }

    #[tokio::test]
    async fn whoever_follows_is_told_what_it_meets_and_nothing_else() {
        let (feed, signal) = (Arc::new(Feed::default()), Arc::new(Signal::default()));
        feed.offer(fresh(1, "before"), 1);
        let follow = |interest| feed.follow(&interest, PARTITION, &signal);
        let of_a = follow(Interest::Prefix("a".into()));
        let also_of_a = follow(Interest::Prefix("a".into()));
        let all = follow(Interest::Prefix(Bytes::new()));
        let key = follow(Interest::Key("b".into()));
        let range = follow(Interest::Range("b".into(), "c".into()));
        for (revision, name) in [(2, "a"), (3, "ab"), (4, "b"), (5, "c")] {
            feed.offer(fresh(revision, name), revision);
        }
        sorted(&feed, 5).await;
        assert_eq!(signal.take().await.into_iter().collect::<Vec<_>>(), [PARTITION]);
        assert_eq!(revisions(&of_a, 1, 5), Some(vec![2, 3]));
        assert_eq!(revisions(&also_of_a, 2, 5), Some(vec![3]));
        assert_eq!(revisions(&all, 1, 4), Some(vec![2, 3, 4]));
        assert_eq!(revisions(&key, 1, 5), Some(vec![4]));
        assert_eq!(revisions(&range, 1, 5), Some(vec![4]));
        assert_eq!(revisions(&all, 0, 5), None, "what was before is only in history");
    }

    #[tokio::test]
    async fn a_queue_that_grows_too_long_forgets_its_beginning_and_says_so() {
        let (feed, signal) = (Arc::new(Feed::default()), Arc::new(Signal::default()));
        let all = feed.follow(&Interest::Prefix(Bytes::new()), PARTITION, &signal);
        let many = 10_000;
        for revision in 1..=many {
            feed.offer(fresh(revision, "key"), revision);
            if revision % 100 == 0 {
                sorted(&feed, revision).await;
            }
        }
        sorted(&feed, many).await;
        assert_eq!(all.between(0, many).map(|seen| seen.len()), None);
        assert_eq!(revisions(&all, many - 2, many), Some(vec![many - 1, many]));
        assert!(QUEUED.load(Ordering::Relaxed) <= 2 * QUEUE_BYTES);
    }

    #[tokio::test]
    async fn a_gap_sends_everybody_to_history() {
        let (feed, signal) = (Arc::new(Feed::default()), Arc::new(Signal::default()));
        let all = feed.follow(&Interest::Prefix(Bytes::new()), PARTITION, &signal);
        feed.offer(fresh(1, "a"), 1);
        sorted(&feed, 1).await;
        feed.skip();
        feed.offer(Vec::new(), 50);
        sorted(&feed, 50).await;
        assert_eq!(revisions(&all, 1, 50), None);
        feed.offer(fresh(51, "a"), 51);
        sorted(&feed, 51).await;
        assert_eq!(revisions(&all, 50, 51), Some(vec![51]));
    }

    #[tokio::test]
    async fn nothing_is_kept_once_nobody_follows_and_following_can_begin_again() {
        let (feed, signal) = (Arc::new(Feed::default()), Arc::new(Signal::default()));
        for round in 0..3_u64 {
            let base = round * 10;
            let all = feed.follow(&Interest::Prefix(Bytes::new()), PARTITION, &signal);
            let since = feed.sorted();
            feed.offer(fresh(base + 1, "a"), base + 1);
            sorted(&feed, base + 1).await;
            assert_eq!(revisions(&all, since, base + 1), Some(vec![base + 1]));
            drop(all);
            feed.offer(fresh(base + 2, "a"), base + 2);
            sorted(&feed, base + 2).await;
        }
        assert!(feed.index.lock().is_empty());
    }
}
