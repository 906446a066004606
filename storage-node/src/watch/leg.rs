//! What one partition, of which this node holds a replica, has for one watch.
//!
//! As long as a leg keeps up it reads the queues of the group's feed. Where it has fallen behind,
//! or begins earlier, it reads history, until it has caught up. Which of the two it was cannot be
//! told from what it gives.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use placement::{BucketCount, BucketRange, PartitionId, TableId};
use proto::v1::event::Kind;
use proto::v1::{Event, Failure, Interest as Wire, WatchPartitionRequest};

use super::away::run_in;
use super::feed::{Followed, Seen};
use super::history::{self, Missing, Page};
use super::interest::Interest;
use super::signal::Signal;
use super::token::Run;
use crate::partition::{Descriptor, Progress};
use crate::raft::Group;
use crate::router::{Router, failure};
use crate::storage::change::Happened;
use crate::storage::item::StoredItem;
use crate::storage::keys::{self, GroupRecord};
use crate::storage::state::{PinnedState, StateError, StateView};

/// All that runs are about; none: there are none.
fn span_of(runs: &[Run]) -> Option<BucketRange> {
    let first = runs.iter().map(|run| run.buckets.first).min()?;
    let last = runs.iter().map(|run| run.buckets.last).max()?;
    Some(BucketRange { first, last })
}

/// About how much is given at once.
const PAGE_BYTES: usize = 256 << 10;

/// An interest, and what its events are to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which keys.
    pub interest: Interest,
    /// With values.
    pub values: bool,
    /// With what was there before.
    pub before: bool,
}

impl Wanted {
    /// What a client asked for.
    pub fn parse(wire: &Wire, longest_key: usize) -> Result<Self, Failure> {
        let interest = Interest::parse(wire, longest_key)?;
        Ok(Self { interest, values: !wire.without_values, before: wire.before })
    }
}

/// What a partition is to a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: PartitionId,
    /// Its table.
    pub table: TableId,
    /// How many buckets that has.
    pub bucket_count: BucketCount,
    /// The partition's.
    pub buckets: BucketRange,
}

/// What a leg gives at once.
#[derive(Debug, Default)]
pub struct Given {
    /// In their order.
    pub events: Vec<Event>,
    /// All items that there were at the beginning have been given.
    pub items_given: bool,
    /// When to ask again.
    pub next: Next,
    /// It was read from disk.
    pub from_history: bool,
}

/// When a leg is to be asked again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Next {
    /// When the signal is raised.
    #[default]
    Signalled,
    /// There may be more at once.
    AtOnce,
    /// A little later: the replica is not far enough yet, and nothing will tell when it is.
    Later,
}

/// What one partition has for one watch.
pub struct Leg {
    place: Place,
    group: Arc<Group>,
    signal: Arc<Signal>,
    /// Where it stands.
    runs: Vec<Run>,
    wanted: BTreeMap<u64, Wanted>,
    followed: BTreeMap<u64, Followed>,
    /// Items that are given before any change.
    items: Items,
}

/// Whether a leg gives items first, and how far it is with them.
enum Items {
    /// It gives none, or has given all.
    None,
    /// They are those of a moment at which the replica has come to this revision.
    From(u64),
    /// It gives them.
    At(Moment),
}

/// The items of a moment, and where their reading stands.
struct Moment {
    pinned: Arc<dyn PinnedState>,
    clock_ms: u64,
    /// The counter of that moment.
    counter: u64,
    /// The key from which reading goes on in the bucket that is the first of the rest.
    rest: BucketRange,
    from: Bytes,
}

/// Why a leg gives nothing any more.
#[derive(Debug)]
pub enum Over {
    /// The replica is no longer here.
    Gone,
    /// Nobody else has it either.
    Failed(Failure),
}

impl From<StateError> for Over {
    fn from(error: StateError) -> Self {
        Self::Failed(failure::internal(error.to_string()))
    }
}

impl Leg {
    /// A leg that stands there. Its signal is raised when it has something.
    pub fn new(place: Place, group: Arc<Group>, signal: &Arc<Signal>, runs: Vec<Run>) -> Self {
        let (wanted, followed) = (BTreeMap::new(), BTreeMap::new());
        Self { place, group, signal: Arc::clone(signal), runs, wanted, followed, items: Items::None }
    }

    /// A leg for a watch at another node.
    pub fn for_another(
        router: &Router,
        asked: &WatchPartitionRequest,
        signal: &Arc<Signal>,
    ) -> Result<Self, Failure> {
        let partition = PartitionId(asked.partition);
        let not_here = || failure::not_leader(partition, router.leader_of(partition), String::new());
        let group = router.groups().get(partition).ok_or_else(not_here)?;
        let applied = Arc::clone(group.applied());
        if applied.feed().has_ended() || applied.settings().is_none() {
            return Err(not_here());
        }
        let owned = applied.descriptor().ok_or_else(not_here)?;
        let Descriptor { table, bucket_count, .. } = owned;
        let runs: Option<Vec<Run>> = asked.runs.iter().map(run_in).collect();
        let runs = runs.ok_or_else(not_here)?;
        // What the watch takes for the partition's: a replica that is behind may own more.
        let buckets = span_of(&runs).filter(|buckets| owned.covers(*buckets)).ok_or_else(not_here)?;
        let place = Place { partition, table, bucket_count, buckets };
        let mut leg = Self::new(place, group, signal, runs);
        if asked.with_items {
            leg = leg.with_items(asked.items_from);
        }
        for wire in &asked.interests {
            leg.add(wire.id, Wanted::parse(wire, router.limits().key_bytes)?);
        }
        Ok(leg)
    }

    /// Begins with all items, as they are once the replica has come to that revision.
    #[must_use]
    pub fn with_items(mut self, at_least: u64) -> Self {
        self.items = Items::From(at_least);
        self
    }

    /// The group, as this node has it.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Follows an interest from where the leg stands.
    pub fn add(&mut self, id: u64, wanted: Wanted) {
        let feed = self.group.applied().feed();
        self.followed.insert(id, feed.follow(&wanted.interest, self.place.partition, &self.signal));
        self.wanted.insert(id, wanted);
        self.signal.raise(self.place.partition);
    }

    /// Follows it no longer.
    pub fn remove(&mut self, id: u64) {
        self.followed.remove(&id);
        self.wanted.remove(&id);
    }

    /// Where it stands.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// What there is now; nothing: the signal will be raised, or it is to be asked again a little
    /// later.
    pub fn take(&mut self) -> Result<Given, Over> {
        match std::mem::replace(&mut self.items, Items::None) {
            Items::None => self.take_changes(),
            Items::From(at_least) => match self.moment(at_least)? {
                Some(moment) => self.take_items(moment),
                None => {
                    self.items = Items::From(at_least);
                    Ok(Given { next: Next::Later, ..Given::default() })
                }
            },
            Items::At(moment) => self.take_items(moment),
        }
    }

    fn moment(&self, at_least: u64) -> Result<Option<Moment>, Over> {
        let pinned = self.group.pin();
        self.must_own_in(&*pinned)?;
        let progress = Progress::read(&*pinned, self.place.partition)?;
        let (clock_ms, counter) = (progress.clock_ms, progress.counter);
        let moment = Moment { pinned, clock_ms, counter, rest: self.place.buckets, from: Bytes::new() };
        Ok((counter >= at_least).then_some(moment))
    }

    fn take_changes(&mut self) -> Result<Given, Over> {
        let feed = self.group.applied().feed();
        if feed.has_ended() {
            return Err(Over::Gone);
        }
        let up_to = feed.sorted();
        let Some(first) = self.runs.first().map(|run| run.after) else { return Ok(Given::default()) };
        let even = self.runs.iter().all(|run| run.after == first);
        if even && up_to <= first {
            return Ok(Given::default());
        }
        // What is shown as owned is never ahead of what was given to the feed.
        let owned = self.group.applied().descriptor();
        if !owned.is_some_and(|owned| owned.covers(self.place.buckets)) {
            return Err(Over::Gone);
        }
        let queued = even.then(|| self.queued(first, up_to)).flatten();
        let from_history = queued.is_none();
        let page = match queued {
            Some(page) => page,
            None => self.recorded()?,
        };
        // A replica that is behind may own more than the watch takes for its.
        let wanted = page.seen.iter().filter(|seen| self.place.buckets.contains(seen.bucket));
        let events = wanted.filter_map(|seen| self.event_of(seen)).collect();
        // Where the watch was further already, as on a replica that is behind, it stays so.
        for run in &mut self.runs {
            run.after = run.after.max(page.up_to);
        }
        if self.runs.iter().all(|run| run.after == page.up_to) {
            self.stand_at(page.up_to);
        }
        let more = page.up_to < self.group.applied().feed().sorted();
        let next = if more { Next::AtOnce } else { Next::Signalled };
        Ok(Given { events, next, from_history, ..Given::default() })
    }

    /// Once the partition was split, another one's revisions count for a part of what this leg
    /// follows: it ends where it stands, and the watch goes on by two.
    fn must_own_in(&self, view: &dyn StateView) -> Result<(), Over> {
        let record = keys::group_record(self.place.partition, GroupRecord::Descriptor);
        let Some(bytes) = view.get(&record)? else { return Ok(()) };
        match Descriptor::decode(&bytes) {
            Ok(owned) if owned.covers(self.place.buckets) => Ok(()),
            Ok(_) => Err(Over::Gone),
            Err(why) => {
                let what = format!("the descriptor of partition {}", self.place.partition);
                Err(StateError::Damaged { what, why }.into())
            }
        }
    }

    fn stand_at(&mut self, revision: u64) {
        self.runs = vec![Run { buckets: self.place.buckets, after: revision }];
    }

    /// What all interests met in between, once each; none: some of it is only in history.
    fn queued(&self, after: u64, up_to: u64) -> Option<Page> {
        let mut seen = Vec::new();
        for followed in self.followed.values() {
            seen.extend(followed.between(after, up_to)?);
        }
        if self.followed.len() > 1 {
            seen.sort_by_key(Seen::place);
            seen.dedup_by_key(|seen| seen.place());
        }
        Some(Page { seen, up_to })
    }

    fn recorded(&self) -> Result<Page, Over> {
        let Place { partition, table, .. } = self.place;
        let interests: Vec<&Interest> = self.wanted.values().map(|wanted| &wanted.interest).collect();
        let pinned = self.group.pin();
        self.must_own_in(&*pinned)?;
        history::read(&*pinned, partition, table, &self.runs, &interests, PAGE_BYTES).map_err(|missing| {
            match missing {
                Missing::Compacted { wanted, oldest } => {
                    Over::Failed(failure::compacted(partition, wanted, oldest))
                }
                Missing::State(error) => error.into(),
            }
        })
    }

    fn take_items(&mut self, mut items: Moment) -> Result<Given, Over> {
        let bounds = self.bounds();
        let (mut events, mut bytes) = (Vec::new(), 0);
        loop {
            let bucket = items.rest.first;
            let whole = keys::items_of(self.place.table, bucket);
            let from = items.from.clone().max(bounds.0.clone());
            let start = keys::item(self.place.table, bucket, &from);
            let end = match bounds.1.is_empty() {
                true => whole.end,
                false => keys::item(self.place.table, bucket, &bounds.1).min(whole.end),
            };
            let range = keys::KeyRange { start: start.min(end.clone()), end };
            let pinned = Arc::clone(&items.pinned);
            let mut walk = pinned.iterate(&range, false)?;
            while let Some((key, value)) = walk.current() {
                let key = keys::user_key(key);
                if bytes >= PAGE_BYTES {
                    items.from = Bytes::copy_from_slice(key);
                    self.items = Items::At(items);
                    return Ok(Given { events, next: Next::AtOnce, ..Given::default() });
                }
                let met = self.met_by(key);
                if met.is_empty() {
                    bytes += 16;
                } else {
                    let item = StoredItem::decode(Bytes::copy_from_slice(value)).map_err(|why| {
                        let what = format!("the item {:?}", String::from_utf8_lossy(key));
                        StateError::Damaged { what, why: why.to_string() }
                    })?;
                    if !item.is_due(items.clock_ms) {
                        bytes += key.len() + item.value.len() + 64;
                        events.push(self.item_event(key, item, &met, items.clock_ms));
                    }
                }
                walk.advance()?;
            }
            items.from = Bytes::new();
            if items.rest.first == items.rest.last {
                self.stand_at(items.counter);
                return Ok(Given { events, items_given: true, next: Next::AtOnce, ..Given::default() });
            }
            items.rest.first.0 += 1;
        }
    }

    /// The run of keys that all interests lie in.
    fn bounds(&self) -> (Bytes, Bytes) {
        let bounds = self.wanted.values().map(|wanted| wanted.interest.bounds());
        let wider = |all: (Bytes, Bytes), one: (Bytes, Bytes)| {
            let end = if all.1.is_empty() || one.1.is_empty() { Bytes::new() } else { all.1.max(one.1) };
            (all.0.min(one.0), end)
        };
        bounds.reduce(wider).unwrap_or_default()
    }

    fn met_by(&self, key: &[u8]) -> Vec<(u64, &Wanted)> {
        let met = self.wanted.iter().filter(|(_, wanted)| wanted.interest.has(key));
        met.map(|(id, wanted)| (*id, wanted)).collect()
    }

    fn item_event(&self, key: &[u8], item: StoredItem, met: &[(u64, &Wanted)], clock_ms: u64) -> Event {
        let values = met.iter().any(|(_, wanted)| wanted.values);
        let key = Bytes::copy_from_slice(key);
        let revision = item.version;
        let item =
            if values { item.show(key.clone(), clock_ms) } else { item.outline(key.clone(), clock_ms) };
        Event {
            kind: Kind::Item.into(),
            key,
            item: Some(item),
            revision,
            partition: self.place.partition.0,
            clock_ms,
            interests: met.iter().map(|(id, _)| *id).collect(),
            ..Event::default()
        }
    }

    fn event_of(&self, seen: &Seen) -> Option<Event> {
        let change = seen.change()?;
        let clock_ms = seen.clock_ms();
        let event = Event {
            revision: change.revision,
            partition: self.place.partition.0,
            clock_ms,
            ..Event::default()
        };
        let Some(key) = change.key().cloned() else {
            let slots = self.place.bucket_count.slots_of(seen.bucket);
            return Some(Event {
                kind: Kind::Clear.into(),
                interests: self.wanted.keys().copied().collect(),
                first_slot: u32::from(*slots.start()),
                last_slot: u32::from(*slots.end()),
                ..event
            });
        };
        let met = self.met_by(&key);
        if met.is_empty() {
            return None;
        }
        let values = met.iter().any(|(_, wanted)| wanted.values);
        let wants_before = met.iter().any(|(_, wanted)| wanted.before);
        let interests = met.iter().map(|(id, _)| *id).collect();
        let show = |item: &StoredItem| match values {
            true => item.clone().show(key.clone(), clock_ms),
            false => item.clone().outline(key.clone(), clock_ms),
        };
        let (kind, item, before) = match &change.what {
            Happened::Put { item, before, .. } => (Kind::Put, Some(show(item)), before),
            Happened::Gone { expired: true, before, .. } => (Kind::Expire, None, before),
            Happened::Gone { expired: false, before, .. } => (Kind::Delete, None, before),
            Happened::Cleared => return None,
        };
        let before = before.as_ref().filter(|_| wants_before).map(show);
        Some(Event { kind: kind.into(), key, item, before, interests, ..event })
    }
}
