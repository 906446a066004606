//! Moments of partitions that scans and queries hold for a while, so that all their pages are of them.
//!
//! ```text
//!   first page    each partition's leader pins its state under an id that the asker made up
//!   later pages   whoever holds that id for the buckets answers, leading them or not
//!   last page     it is let go; so it is when its time is over, by itself
//! ```
//!
//! The cursor holds the id and nothing of nodes: the few that hold a replica are asked in turn. An id
//! is used for one attempt at a first page only, so no two nodes hold different moments under it. What
//! is held costs the room of what was overwritten since, so it is bounded in time and number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use placement::{NodeId, PartitionId, TableId};
use proto::v1::{Failure, HeldMoment, ScanPageRequest, error_detail::Detail, held_moment::Turn};
use tokio::time::Instant;

use super::context::Context;
use super::failure;
use super::local::LocalError;
use super::operations::Router;
use super::pages::{PageError, PageRequest};
use crate::partition::descriptor::Descriptor;
use crate::raft::Group;
use crate::seams::{clock, runtime};
use crate::storage::state::PinnedState;

/// For longer nobody holds one.
pub const LONGEST: Duration = Duration::from_secs(5 * 60);
/// How many scans and queries may hold some on a node.
const MOST: usize = 256;
/// Whoever holds one answers within so long, or it is taken to be gone.
const FOUND_WITHIN: Duration = Duration::from_secs(2);

/// A partition as it was at a moment.
#[derive(Debug)]
pub struct Moment {
    /// The partition.
    pub group: PartitionId,
    /// What was written.
    pub state: Arc<dyn PinnedState>,
    /// What the partition owned, or more.
    pub owned: Descriptor,
    /// Its clock.
    pub clock_ms: u64,
    /// Its counter, or less.
    pub revision: u64,
}

/// What a node holds.
#[derive(Debug, Default)]
pub struct Moments {
    held: Mutex<HashMap<Bytes, Held>>,
}

/// What is held for one scan or query.
#[derive(Debug)]
struct Held {
    until: Instant,
    moments: Vec<Arc<Moment>>,
}

impl Moments {
    /// Holds a moment, unless there are too many.
    pub fn hold(&self, asked: &HeldMoment, moment: Moment, now: Instant) -> Result<Arc<Moment>, Failure> {
        let mut all = self.held.lock();
        all.retain(|_, held| held.until > now);
        if all.len() >= MOST && !all.contains_key(&asked.id) {
            return Err(failure::too_many_held(MOST));
        }
        let until = now + Duration::from_millis(asked.hold_ms).min(LONGEST);
        let held = all.entry(asked.id.clone()).or_insert_with(|| Held { until, moments: Vec::new() });
        let moment = Arc::new(moment);
        held.moments.push(Arc::clone(&moment));
        Ok(moment)
    }

    /// The moment that is held under an id for buckets of a table.
    pub fn find(&self, id: &Bytes, wanted: &Descriptor, now: Instant) -> Option<Arc<Moment>> {
        let all = self.held.lock();
        let held = all.get(id).filter(|held| held.until > now)?;
        let has =
            |moment: &&Arc<Moment>| moment.owned.table == wanted.table && moment.owned.covers(wanted.buckets);
        held.moments.iter().find(has).cloned()
    }

    /// Lets go what is held under an id.
    pub fn let_go(&self, id: &Bytes) {
        self.held.lock().remove(id);
    }

    /// Lets go everything.
    pub fn let_all_go(&self) {
        self.held.lock().clear();
    }

    /// Lets go what has been held for its time.
    pub fn sweep(&self, now: Instant) {
        self.held.lock().retain(|_, held| held.until > now);
    }

    /// For how many scans and queries something is held.
    pub fn count(&self) -> usize {
        self.held.lock().len()
    }
}

/// What a page that is of a held moment, or begins one, says of it; none: it is of no moment but its
/// own.
pub(super) fn asked_of(id: &Bytes, hold_ms: u64, begins: bool) -> Option<HeldMoment> {
    let turn = if begins { Turn::Begin } else { Turn::Use };
    (!id.is_empty()).then(|| HeldMoment { id: id.clone(), hold_ms, turn: turn.into() })
}

/// An id for an attempt at a first page that is to be held so long; empty: it is not.
pub(super) fn new_id(hold_ms: u64) -> Bytes {
    if hold_ms == 0 {
        return Bytes::new();
    }
    let half = || runtime::random_u64().to_be_bytes();
    [half(), half()].concat().into()
}

/// Refuses to hold anything for longer than it may be.
pub(super) fn check_hold(hold_ms: u64) -> Result<(), Failure> {
    let longest = u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX);
    if hold_ms > longest {
        return Err(failure::over_limit("time to hold a snapshot, in milliseconds", longest, hold_ms));
    }
    Ok(())
}

impl Router {
    /// The moments that this node holds.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Has whoever holds a moment of the partition give a page of it.
    pub(super) async fn ask_holder<P: PageRequest>(
        self: &Arc<Self>,
        context: &Context,
        ask: P,
    ) -> Result<P::Page, PageError> {
        let id = ask.partition();
        let map = self.map();
        let Some(partition) = map.partition(id) else { return Err(PageError::Remap) };
        let leader = self.leaders_hint(id);
        let replicas = partition.replicas.iter().map(|replica| replica.node);
        let mut left: Vec<NodeId> = Vec::new();
        for node in leader.into_iter().chain(replicas) {
            if !left.contains(&node) {
                left.push(node);
            }
        }
        let give_up = clock::now() + FOUND_WITHIN;
        while !left.is_empty() && clock::now() < give_up && !context.left().is_zero() {
            let mut silent = Vec::new();
            for node in left {
                let here = self.parts.groups.get(id).filter(|_| node == self.parts.node);
                let answer = match here {
                    Some(group) => ask.clone().answer(self, &group, context.deadline).await,
                    None if node == self.parts.node => Err(LocalError::NotNow),
                    None => self.ask_node(context, id, node, ask.clone()).await,
                };
                match answer {
                    Ok(page) => return Ok(page),
                    Err(LocalError::Failed(failure)) if is_gone(&failure) => {}
                    Err(LocalError::Failed(failure)) => return Err(PageError::Failed(failure)),
                    Err(LocalError::WrongEpoch) => return Err(PageError::Remap),
                    Err(LocalError::NotLeader(_) | LocalError::NotNow) => silent.push(node),
                }
            }
            left = silent;
            if !left.is_empty() {
                tokio::time::sleep(Duration::from_millis(runtime::random_between(20, 100))).await;
            }
        }
        Err(PageError::Failed(failure::moment_is_gone()))
    }

    /// Has all nodes let go of what they hold for a scan or query that is at its end. Whoever is not
    /// reached does so by itself, later.
    pub(super) fn let_go(self: &Arc<Self>, context: &Context, table: TableId, id: Bytes) {
        if id.is_empty() {
            return;
        }
        self.moments.let_go(&id);
        let mut holders = BTreeMap::new();
        for partition in self.map().map().partitions_of(table) {
            holders.extend(partition.replicas.iter().map(|replica| (replica.node, partition.id)));
        }
        holders.remove(&self.parts.node);
        let (router, context) = (Arc::clone(self), context.clone().until(clock::now() + FOUND_WITHIN));
        tokio::spawn(async move {
            for (node, partition) in holders {
                let moment = HeldMoment { id: id.clone(), hold_ms: 0, turn: Turn::LetGo.into() };
                let ask = ScanPageRequest {
                    partition: partition.0,
                    moment: Some(moment),
                    ..ScanPageRequest::default()
                };
                let _ = router.ask_node(&context, partition, node, ask).await;
            }
        });
    }
}

fn is_gone(failure: &Failure) -> bool {
    matches!(failure.reason(), Some(Detail::SnapshotExpired(_)))
}

/// The moment that a page is of: held already, or of now and from now on held.
pub(super) fn of_page(
    moments: &Moments,
    group: &Group,
    asked: Option<&HeldMoment>,
    owned: Descriptor,
    wanted: &Descriptor,
    clock_ms: u64,
) -> Result<Arc<Moment>, LocalError> {
    let now = clock::now();
    let take = || {
        // The revision first: what is shown is at least as new.
        let revision = group.applied().progress().counter;
        Moment { group: group.group, state: group.pin(), owned, clock_ms, revision }
    };
    let Some(asked) = asked else { return Ok(Arc::new(take())) };
    if let Some(held) = moments.find(&asked.id, wanted, now) {
        return Ok(held);
    }
    match asked.turn() {
        Turn::Begin => moments.hold(asked, take(), now).map_err(LocalError::Failed),
        Turn::Use | Turn::LetGo => Err(LocalError::Failed(failure::moment_is_gone())),
    }
}

/// Whether a page must be of a moment that is held already.
pub(super) fn is_of_held(asked: Option<&HeldMoment>) -> bool {
    asked.is_some_and(|asked| asked.turn() != Turn::Begin)
}
