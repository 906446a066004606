//! A watch of a table: its interests, and a leg for each of the table's partitions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use placement::{Partition, PartitionId, Role, Table};
use proto::v1::{BeginWatch, Event, Failure, Interest as Wire, WatchResponse};
use tokio::time::Instant;
use tonic::Code;

use super::away::{Asked, Away};
use super::leg::{Given, Leg, Next, Over, Place, Wanted};
use super::signal::Signal;
use super::token::{self, Run};
use crate::meta::FollowedMap;
use crate::observability::metrics::Metrics;
use crate::partition::history::retention_of;
use crate::router::{Context, Router, failure};
use crate::seams::clock;

/// Interests of one watch, at most.
const MOST_INTERESTS: usize = 10_000;
/// How often it is said how far a watch is, unless it says otherwise.
const PROGRESS: Duration = Duration::from_secs(5);
const PROGRESS_BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(300));
/// A leg that has no replica to read is looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// So often is it looked whether a replica of this node knows what its table is like.
const WAITS_FOR_OWN: usize = 10;
/// Partitions that are asked at once where the watch begins.
const ASKED_AT_ONCE: usize = 8;
/// The first cluster version in which groups keep history.
pub const SINCE_VERSION: u32 = 2;

/// A watch of a table.
pub struct Watch {
    router: Arc<Router>,
    table: Table,
    map: tokio::sync::watch::Receiver<Arc<FollowedMap>>,
    wanted: BTreeMap<u64, (Wire, Wanted)>,
    keeps_before: bool,
    legs: BTreeMap<PartitionId, Standing>,
    signal: Arc<Signal>,
    /// Legs that may have something.
    ready: VecDeque<PartitionId>,
    /// Legs that are looked at again a little later.
    later: BTreeSet<PartitionId>,
    /// Legs that have yet to give all items.
    items: BTreeMap<PartitionId, Pending>,
    /// What was read and is too much for one response.
    rest: Option<Rest>,
    /// Events in a response, at most.
    most_events: usize,
    /// Interests that were added and are not told yet.
    added: Vec<u64>,
    progress: Duration,
    next_mark: Instant,
    /// A mark is due once every leg was looked at.
    marking: bool,
    /// Legs that were out of touch at the last mark.
    out_of_touch: BTreeSet<PartitionId>,
    counted: UnderWay,
}

/// What a leg gave, as far as it was not passed on.
struct Rest {
    partition: PartitionId,
    /// Where the leg stood before it gave this.
    before: Vec<Run>,
    events: VecDeque<Event>,
    /// All items that there were at the beginning are sent with the last of it.
    items_sent: bool,
}

/// Counts a watch for as long as it is there.
struct UnderWay(Arc<Metrics>);

/// A leg, and where it stands while it has none.
struct Standing {
    place: Place,
    source: Source,
    /// How often somewhere to read from was looked for since something was read.
    tried: usize,
}

enum Source {
    Here(Leg),
    Away(Away),
    /// Not yet.
    Nowhere(Vec<Run>),
}

/// The items that a leg has yet to give.
#[derive(Clone, Copy)]
struct Pending {
    /// As they are at this revision or later.
    from: u64,
    /// It has given some already.
    begun: bool,
}

impl Watch {
    /// Begins a watch.
    pub async fn begin(router: &Arc<Router>, context: &Context, begin: BeginWatch) -> Result<Self, Failure> {
        let table = router.known_table(context, &begin.table).await?;
        let map = router.watch_map();
        let followed = Arc::clone(&map.borrow());
        if followed.cluster_version() < SINCE_VERSION {
            return Err(failure::needs_version("tables can be watched", SINCE_VERSION));
        }
        let settings = followed.settings(table.id);
        let retention = retention_of(settings.history.as_ref())
            .ok_or_else(|| failure::no_history(table.name.as_str()))?;
        if begin.with_items && !begin.token.is_empty() {
            return Err(failure::invalid("a watch begins with items, or goes on with a token: not both"));
        }
        let progress = match begin.progress_ms {
            0 => PROGRESS,
            ms => Duration::from_millis(ms).clamp(PROGRESS_BOUNDS.0, PROGRESS_BOUNDS.1),
        };
        let mut watch = Self {
            router: Arc::clone(router),
            map,
            wanted: BTreeMap::new(),
            keeps_before: retention.before,
            legs: BTreeMap::new(),
            signal: Arc::default(),
            ready: VecDeque::new(),
            later: BTreeSet::new(),
            items: BTreeMap::new(),
            rest: None,
            most_events: match begin.most_events {
                0 => usize::MAX,
                most => most as usize,
            },
            added: Vec::new(),
            progress,
            next_mark: clock::now() + progress,
            marking: false,
            out_of_touch: BTreeSet::new(),
            counted: UnderWay::begin(router.metrics()),
            table,
        };
        for interest in begin.interests {
            watch.note(interest)?;
        }
        watch.stand(context, &begin.token, begin.with_items).await?;
        Ok(watch)
    }

    /// Finds where it begins in each partition.
    async fn stand(&mut self, context: &Context, token: &[u8], with_items: bool) -> Result<(), Failure> {
        loop {
            self.table = self.router.table(self.table.name.as_str())?;
            let map = self.router.map();
            let partitions = map.map().partitions_of(self.table.id);
            let places: Vec<_> =
                partitions.iter().map(|partition| (partition.id, partition.buckets)).collect();
            let asked = stream::iter(places.into_iter().map(|(id, buckets)| {
                let (router, context) = (Arc::clone(&self.router), context.clone());
                async move { router.revision_of(&context, id, buckets).await }
            }));
            let revisions: Vec<Option<u64>> = asked.buffered(ASKED_AT_ONCE).try_collect().await?;
            let Some(revisions) = revisions.into_iter().collect::<Option<Vec<u64>>>() else {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            let known = match token.is_empty() {
                true => None,
                false => {
                    Some(token::decode(token, self.router.cluster(), self.table.id, self.table.buckets)?)
                }
            };
            for (partition, revision) in partitions.into_iter().zip(revisions) {
                let runs = match &known {
                    Some(after) => token::runs_of(partition.buckets, after),
                    None => vec![Run { buckets: partition.buckets, after: revision }],
                };
                if runs.iter().any(|run| run.after > revision) {
                    return Err(failure::bad_token(
                        "it is ahead of the table, which was restored or made anew",
                    ));
                }
                if with_items {
                    self.items.insert(partition.id, Pending { from: revision, begun: false });
                }
                let place = place_of(&self.table, partition);
                self.legs.insert(partition.id, Standing { place, source: Source::Nowhere(runs), tried: 0 });
                self.later.insert(partition.id);
            }
            return Ok(());
        }
    }

    /// Follows one more interest, from here on.
    pub fn add(&mut self, wire: Wire) -> Result<(), Failure> {
        let id = wire.id;
        let wanted = self.note(wire)?;
        for (partition, standing) in &mut self.legs {
            match &mut standing.source {
                Source::Here(leg) => leg.add(id, wanted.clone()),
                Source::Away(away) => {
                    standing.source = Source::Nowhere(away.runs().to_vec());
                    self.later.insert(*partition);
                }
                Source::Nowhere(..) => {}
            }
        }
        Ok(())
    }

    fn note(&mut self, wire: Wire) -> Result<Wanted, Failure> {
        if self.wanted.len() >= MOST_INTERESTS {
            let (limit, actual) = (MOST_INTERESTS as u64, self.wanted.len() as u64 + 1);
            return Err(failure::over_limit("number of interests of a watch", limit, actual));
        }
        if wire.before && !self.keeps_before {
            let message = format!(
                "table {:?} does not keep what was there before a change: `trilith table alter {} --history-before` \
                 changes that",
                self.table.name.as_str(),
                self.table.name
            );
            return Err(Failure::new(Code::FailedPrecondition, message, None));
        }
        let wanted = Wanted::parse(&wire, self.router.limits().key_bytes)?;
        if self.wanted.contains_key(&wire.id) {
            return Err(failure::invalid(format!("interest {} is followed already", wire.id)));
        }
        self.added.push(wire.id);
        self.wanted.insert(wire.id, (wire, wanted.clone()));
        Ok(wanted)
    }

    /// Follows an interest no longer.
    pub fn remove(&mut self, id: u64) -> Result<(), Failure> {
        if self.wanted.remove(&id).is_none() {
            return Err(failure::invalid(format!("interest {id} is not followed")));
        }
        self.added.retain(|added| *added != id);
        for (partition, standing) in &mut self.legs {
            match &mut standing.source {
                Source::Here(leg) => leg.remove(id),
                Source::Away(away) => {
                    standing.source = Source::Nowhere(away.runs().to_vec());
                    self.later.insert(*partition);
                }
                Source::Nowhere(..) => {}
            }
        }
        Ok(())
    }

    /// Where it stands. What was read of a partition and not passed on does not count.
    fn token(&self) -> Bytes {
        let runs = self.legs.iter().flat_map(|(id, standing)| match &self.rest {
            Some(rest) if rest.partition == *id => rest.runs(),
            _ => standing.source.runs().to_vec(),
        });
        token::encode(self.router.cluster(), self.table.id, runs)
    }

    /// The next response. Nothing is lost when this is dropped before it is there.
    pub async fn next(&mut self) -> Result<WatchResponse, Failure> {
        loop {
            if !self.added.is_empty() {
                let added = std::mem::take(&mut self.added);
                return Ok(self.response(WatchResponse { added, ..WatchResponse::default() }));
            }
            if let Some(response) = self.next_of_rest() {
                return Ok(response);
            }
            while let Some(partition) = self.ready.pop_front() {
                self.look_at(partition)?;
                if let Some(response) = self.next_of_rest() {
                    return Ok(response);
                }
            }
            if std::mem::take(&mut self.marking) {
                self.check_touch()?;
                self.next_mark = clock::now() + self.progress;
                return Ok(self.response(WatchResponse::default()));
            }
            let look_again = (!self.later.is_empty()).then(|| clock::now() + LOOK_AGAIN);
            tokio::select! {
                ready = self.signal.take() => self.ready.extend(ready),
                changed = self.map.changed() => {
                    if changed.is_err() {
                        return Err(ending());
                    }
                    self.go_by_new_map()?;
                }
                () = sleep_until(look_again) => self.ready.extend(std::mem::take(&mut self.later)),
                () = tokio::time::sleep_until(self.next_mark) => {
                    self.marking = true;
                    self.ready = self.legs.keys().copied().collect();
                }
            }
        }
    }

    fn response(&self, response: WatchResponse) -> WatchResponse {
        // In the middle of items there is nowhere to go on from.
        let more_items = !self.items.is_empty() || self.rest.as_ref().is_some_and(|rest| rest.items_sent);
        let token = if more_items { Bytes::new() } else { self.token() };
        WatchResponse { token, ..response }
    }

    /// Takes what a leg has.
    fn look_at(&mut self, partition: PartitionId) -> Result<(), Failure> {
        if !self.attach(partition) {
            return Ok(());
        }
        let Some(standing) = self.legs.get_mut(&partition) else { return Ok(()) };
        let before = standing.source.runs().to_vec();
        let taken = match &mut standing.source {
            Source::Here(leg) => leg.take(),
            Source::Away(away) => away.take(),
            Source::Nowhere(..) => return Ok(()),
        };
        let given = match taken {
            Ok(given) => given,
            Err(Over::Failed(failure)) => return Err(failure),
            Err(Over::Gone) => {
                standing.source = Source::Nowhere(standing.source.runs().to_vec());
                self.later.insert(partition);
                return match self.items.get(&partition) {
                    Some(pending) if pending.begun => Err(begin_again()),
                    _ => Ok(()),
                };
            }
        };
        if !given.events.is_empty() {
            standing.tried = 0;
        }
        let metrics = &self.counted.0;
        metrics.watch_events.add(given.events.len() as u64);
        metrics.watch_history_reads.add(u64::from(given.from_history));
        match given.next {
            Next::Signalled => {}
            Next::AtOnce => self.ready.push_back(partition),
            Next::Later => drop(self.later.insert(partition)),
        }
        let Given { events, items_given, .. } = given;
        if let Some(pending) = self.items.get_mut(&partition) {
            pending.begun |= !events.is_empty();
        }
        let items_sent = items_given && self.items.remove(&partition).is_some() && self.items.is_empty();
        if !events.is_empty() || items_sent {
            self.rest = Some(Rest { partition, before, events: events.into(), items_sent });
        }
        Ok(())
    }

    /// Of what was read as much as a response may have.
    fn next_of_rest(&mut self) -> Option<WatchResponse> {
        let rest = self.rest.as_mut()?;
        let events = rest.take(self.most_events);
        let items_sent = rest.items_sent && rest.events.is_empty();
        if rest.events.is_empty() {
            self.rest = None;
        }
        Some(self.response(WatchResponse { events, items_sent, ..WatchResponse::default() }))
    }

    /// Whether a leg has somewhere to read from; finds it one, if there is one.
    fn attach(&mut self, partition: PartitionId) -> bool {
        let Some(standing) = self.legs.get_mut(&partition) else { return false };
        let Source::Nowhere(runs) = &standing.source else { return true };
        let (runs, tried, place) = (runs.clone(), standing.tried, standing.place);
        standing.tried += 1;
        let items_from = self.items.get(&partition).map(|pending| pending.from);
        let map = self.router.map();
        let own = self.router.groups().node();
        let entry = map.partition(partition);
        let votes = entry.and_then(|entry| entry.replica_on(own)).is_some_and(|own| own.role == Role::Voter);
        let here = self.router.groups().get(partition);
        let here = here.filter(|group| votes && !group.applied().feed().has_ended());
        let owns = |group: &Arc<crate::raft::Group>| {
            group.applied().descriptor().is_some_and(|owned| owned.covers(place.buckets))
        };
        if here.as_ref().is_some_and(|group| !owns(group)) {
            // The partition was split, and the map that says so is on its way. A leg would end as soon
            // as it began, and raise the signal each time.
            self.later.insert(partition);
            return false;
        }
        if let Some(group) = here.as_ref().filter(|group| group.applied().settings().is_none())
            && tried < WAITS_FOR_OWN
            && !group.leads()
        {
            // It is told in a moment what its table is like: its leader was.
            self.later.insert(partition);
            return false;
        }
        if let Some(group) = here.filter(|group| group.applied().settings().is_some()) {
            let mut leg = Leg::new(place, group, &self.signal, runs);
            if let Some(from) = items_from {
                leg = leg.with_items(from);
            }
            for (id, (_, wanted)) in &self.wanted {
                leg.add(*id, wanted.clone());
            }
            standing.source = Source::Here(leg);
            return true;
        }
        let leader = self.router.leader_of(partition).filter(|node| *node != own && tried % 3 != 2);
        let others: Vec<_> = entry
            .into_iter()
            .flat_map(Partition::voters)
            .map(|replica| replica.node)
            .filter(|node| *node != own)
            .collect();
        let Some(node) = leader.or_else(|| others.get(tried % others.len().max(1)).copied()) else {
            self.later.insert(partition);
            return false;
        };
        let interests = self.wanted.values().map(|(wire, _)| wire.clone()).collect();
        let asked = Asked { cluster: self.router.cluster(), place, interests, runs, items_from };
        standing.source = Source::Away(Away::begin(self.router.peers(), node, asked, &self.signal));
        true
    }

    /// The table may be gone, or cut otherwise, and replicas may be elsewhere.
    fn go_by_new_map(&mut self) -> Result<(), Failure> {
        let map = Arc::clone(&self.map.borrow_and_update());
        let Some(table) = map.map().tables.get(&self.table.id) else {
            return Err(failure::unknown_table(self.table.name.as_str()));
        };
        if retention_of(map.settings(table.id).history.as_ref()).is_none() {
            return Err(failure::no_history(table.name.as_str()));
        }
        let partitions = map.map().partitions_of(table.id);
        let same = |partition: &&Partition| {
            self.legs.get(&partition.id).is_some_and(|standing| standing.place == place_of(table, partition))
        };
        if partitions.len() == self.legs.len() && partitions.iter().all(same) {
            return Ok(());
        }
        if !self.items.is_empty() {
            return Err(begin_again());
        }
        let mut after = vec![0; usize::from(table.buckets.get())];
        for run in self.legs.values().flat_map(|standing| standing.source.runs()) {
            let places = after.get_mut(usize::from(run.buckets.first.0)..=usize::from(run.buckets.last.0));
            places.unwrap_or_default().fill(run.after);
        }
        let mut legs = BTreeMap::new();
        for partition in partitions {
            let place = place_of(table, partition);
            let standing = match self.legs.remove(&partition.id) {
                Some(standing) if standing.place == place => standing,
                _ => {
                    self.later.insert(partition.id);
                    let runs = token::runs_of(partition.buckets, &after);
                    Standing { place, source: Source::Nowhere(runs), tried: 0 }
                }
            };
            legs.insert(partition.id, standing);
        }
        self.legs = legs;
        Ok(())
    }

    /// A replica that nobody leads any more says nothing, and does not know that it misses
    /// anything. A watch that is at such a one for two marks ends, so that its client looks
    /// elsewhere.
    fn check_touch(&mut self) -> Result<(), Failure> {
        let out_of_touch: BTreeSet<PartitionId> = self
            .legs
            .iter()
            .filter(|(_, standing)| match &standing.source {
                Source::Here(leg) => !leg.group().is_in_touch(),
                Source::Away(_) => false,
                Source::Nowhere(..) => true,
            })
            .map(|(partition, _)| *partition)
            .collect();
        let still = out_of_touch.intersection(&self.out_of_touch).next().copied();
        self.out_of_touch = out_of_touch;
        match still {
            Some(partition) => {
                let message =
                    format!("this node is out of touch with partition {partition}: watch by another");
                Err(failure::retry_after(message, 100))
            }
            None => Ok(()),
        }
    }
}

impl Rest {
    /// So many events, and those of the same revision with them: a token names none of them alone.
    fn take(&mut self, most: usize) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        while let Some(next) = self.events.front() {
            let same = events.last().is_some_and(|last| last.revision == next.revision);
            if events.len() >= most && !same {
                break;
            }
            events.extend(self.events.pop_front());
        }
        if let Some(last) = events.last() {
            for run in &mut self.before {
                run.after = run.after.max(last.revision);
            }
        }
        events
    }

    /// Where the leg would stand had it given only what was passed on.
    fn runs(&self) -> Vec<Run> {
        self.before.clone()
    }
}

impl UnderWay {
    fn begin(metrics: &Arc<Metrics>) -> Self {
        metrics.watches.add(1);
        Self(Arc::clone(metrics))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.watches.subtract(1);
    }
}

impl Source {
    fn runs(&self) -> &[Run] {
        match self {
            Self::Here(leg) => leg.runs(),
            Self::Away(away) => away.runs(),
            Self::Nowhere(runs) => runs,
        }
    }
}

fn place_of(table: &Table, partition: &Partition) -> Place {
    Place {
        partition: partition.id,
        table: table.id,
        bucket_count: table.buckets,
        buckets: partition.buckets,
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Some items were given by a replica that is no longer there, and another one's differ.
fn begin_again() -> Failure {
    failure::retry_after("the partitions moved before all items were given: begin the watch again", 50)
}

fn ending() -> Failure {
    failure::retry_after("this node is shutting down: watch by another", 50)
}

#[cfg(test)]
mod tests {
    use placement::{Bucket, BucketRange};

    use super::*;

    #[test]
    fn what_is_passed_on_in_parts_can_be_gone_on_with_after_each() {
        let range = |first, last| BucketRange { first: Bucket(first), last: Bucket(last) };
        let before = vec![Run { buckets: range(0, 3), after: 4 }, Run { buckets: range(4, 7), after: 6 }];
        let event = |revision| Event { revision, ..Event::default() };
        let events = [5, 7, 7, 8].map(event).into();
        let mut rest = Rest { partition: PartitionId(1), before, events, items_sent: false };
        let mut taken = Vec::new();
        while !rest.events.is_empty() {
            let revisions: Vec<u64> = rest.take(1).iter().map(|event| event.revision).collect();
            taken.push((revisions, rest.runs().iter().map(|run| run.after).collect::<Vec<_>>()));
        }
        // Of buckets that were further nothing is told again; what is of one revision stays together.
        assert_eq!(taken, [(vec![5], vec![5, 6]), (vec![7, 7], vec![7, 7]), (vec![8], vec![8, 8])]);
    }
}
