//! Operations of a partition that this node holds.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use placement::{Bucket, BucketRange, NodeId};
use prost::Message;
use proto::v1::{
    BatchRequest, BatchResponse, ExistsResponse, Failure, GetResponse, IndexPage, IndexPageRequest,
    Operation, Result as OperationResult, ScanPage, ScanPageRequest, command::Command, error_detail::Detail,
    index_record::State, operation::Operation as Kind, result::Result as Outcome,
};
use tokio::time::Instant;

use super::admission::Admission;
use super::failure;
use super::moments::{self, Moments};
use super::operations::{is_write, too_late};
use crate::index::{Definition, Run};
use crate::partition::Answer;
use crate::partition::descriptor::Descriptor;
use crate::partition::indexes::{percent, read_record};
use crate::partition::operations::{READ_BY_ONE, key_of, keys_of, reads_too_much};
use crate::partition::parts;
use crate::partition::query::{Question, index_page};
use crate::partition::read::{read_key, scan_page};
use crate::raft::{Ending, Group, GroupError};
use crate::seams::threads;
use crate::storage::item::StoredItem;
use crate::storage::state::{StateEngine, StateError, StateResult};

/// Why this node did not do it. Unless it failed, nothing was done.
#[derive(Debug)]
pub enum LocalError {
    /// Another replica leads.
    NotLeader(Option<NodeId>),
    /// Nobody leads at the moment.
    NotNow,
    /// The partition does not own the key.
    WrongEpoch,
    /// This is the answer.
    Failed(Failure),
}

impl LocalError {
    /// Of something that changes nothing: it can always be done again.
    pub(super) fn of_read(error: GroupError) -> Self {
        match error {
            GroupError::Unknown(_) => Self::NotNow,
            error => Self::of(error),
        }
    }

    fn of(error: GroupError) -> Self {
        match error {
            GroupError::NotLeader(leader) => Self::NotLeader(leader),
            GroupError::NotNow => Self::NotNow,
            GroupError::Unknown(why) => Self::Failed(failure::outcome_unknown(why)),
            GroupError::Refused(why) => Self::Failed(failure::internal(why)),
            GroupError::State(error) => {
                // Whatever it is, it is not to be served again.
                crate::seams::fatal::stop("the state cannot be read", &error)
            }
        }
    }
}

type Done = BoxFuture<'static, Result<Outcome, LocalError>>;

/// Begins an operation on a group: a write is in its queue when this returns.
pub fn begin(group: &Arc<Group>, kind: Kind, admission: &Admission, deadline: Instant) -> Done {
    if is_write(&kind) {
        begin_write(group, kind, admission, deadline)
    } else {
        begin_read(group, kind, deadline)
    }
}

fn begin_write(group: &Arc<Group>, kind: Kind, admission: &Admission, deadline: Instant) -> Done {
    let operation = Operation { operation: Some(kind) };
    let Some(room) = admission.admit(operation.encoded_len()) else {
        return std::future::ready(Err(LocalError::Failed(failure::too_much_waits()))).boxed();
    };
    let answer = group.propose(Command::Operation(operation), Some(Box::new(room)));
    async move {
        let Ok(answer) = tokio::time::timeout_at(deadline, answer).await else {
            let why = "the deadline passed before it was acknowledged";
            return Err(LocalError::Failed(failure::outcome_unknown(why)));
        };
        match answer.map_err(LocalError::of)? {
            Answer::Operation(result) => match result.result {
                Some(Outcome::Failure(failure)) => match failure.reason() {
                    Some(Detail::WrongEpoch(_)) => Err(LocalError::WrongEpoch),
                    _ => Err(LocalError::Failed(failure)),
                },
                Some(outcome) => Ok(outcome),
                None => Err(LocalError::Failed(failure::internal("a write had no result"))),
            },
            _ => Err(LocalError::Failed(failure::internal("a write had another command's answer"))),
        }
    }
    .boxed()
}

fn begin_read(group: &Arc<Group>, kind: Kind, deadline: Instant) -> Done {
    let group = Arc::clone(group);
    async move {
        let read = async {
            match kind {
                Kind::Get(get) => {
                    let (item, clock_ms) = read_item(&group, &get.key, get.stale).await?;
                    let item = item.map(|item| parts::show(item, &get, clock_ms)).transpose();
                    Ok(Outcome::Get(GetResponse { item: item.map_err(LocalError::Failed)? }))
                }
                Kind::Batch(batch) => read_all(&group, &batch).await,
                Kind::Exists(exists) => {
                    let (item, _) = read_item(&group, &exists.key, exists.stale).await?;
                    Ok(Outcome::Exists(ExistsResponse { exists: item.is_some() }))
                }
                _ => Err(LocalError::Failed(failure::internal("a write was taken for a read"))),
            }
        };
        tokio::time::timeout_at(deadline, read).await.unwrap_or_else(|_| Err(LocalError::Failed(too_late())))
    }
    .boxed()
}

/// Many reads, behind one barrier.
async fn read_all(group: &Group, batch: &BatchRequest) -> Result<Outcome, LocalError> {
    let descriptor = group.applied().descriptor().ok_or(LocalError::WrongEpoch)?;
    let kinds = || batch.operations.iter().filter_map(|operation| operation.operation.as_ref());
    if kinds().flat_map(keys_of).any(|key| descriptor.bucket_of(key).is_none()) {
        return Err(LocalError::WrongEpoch);
    }
    let all =
        |engine: &dyn StateEngine, clock_ms, now_ms| read_batch(batch, engine, &descriptor, clock_ms, now_ms);
    if kinds().all(is_stale) {
        let clock_ms = group.applied().progress().clock_ms;
        return match all(group.engine(), clock_ms, clock_ms)
            .map_err(|error: StateError| LocalError::of(error.into()))?
        {
            Ending::Read(outcome) => Ok(outcome),
            Ending::Due => Err(LocalError::NotNow),
        };
    }
    group.read(all).await.map_err(LocalError::of_read)
}

fn read_batch(
    batch: &BatchRequest,
    engine: &dyn StateEngine,
    descriptor: &Descriptor,
    clock_ms: u64,
    now_ms: u64,
) -> StateResult<Ending<Outcome>> {
    let mut results = Vec::with_capacity(batch.operations.len());
    let mut room = READ_BY_ONE;
    for kind in batch.operations.iter().filter_map(|operation| operation.operation.as_ref()) {
        let key = key_of(kind).map_or(&[][..], |key| &key[..]);
        let item = match Ending::of(read_key(engine, descriptor, key, clock_ms, now_ms)?) {
            Ending::Read(item) => item,
            Ending::Due => return Ok(Ending::Due),
        };
        results.push(OperationResult { result: Some(answer(kind, item, now_ms, &mut room)) });
    }
    Ok(Ending::Read(Outcome::Batch(BatchResponse { results, applied: true })))
}

/// The outcome of reads that need not wait for anything: the lease vouches for them, the
/// partition owns their keys, and nothing that they find is about to end. Most are such.
pub fn read_at_once(group: &Group, kind: &Kind) -> Option<Outcome> {
    let descriptor = group.applied().descriptor()?;
    let owned = |key: &[u8]| descriptor.bucket_of(key).is_some();
    let mut room = usize::MAX;
    let read = |engine: &dyn StateEngine, clock_ms, now_ms| match kind {
        Kind::Batch(batch) => read_batch(batch, engine, &descriptor, clock_ms, now_ms),
        kind => {
            let key = key_of(kind).map_or(&[][..], |key| &key[..]);
            Ok(match Ending::of(read_key(engine, &descriptor, key, clock_ms, now_ms)?) {
                Ending::Read(item) => Ending::Read(answer(kind, item, now_ms, &mut room)),
                Ending::Due => Ending::Due,
            })
        }
    };
    let plain = |kind: &Kind| match kind {
        Kind::Get(get) => !get.stale && owned(&get.key),
        Kind::Exists(exists) => !exists.stale && owned(&exists.key),
        _ => false,
    };
    let all_plain = match kind {
        Kind::Batch(batch) if !batch.atomic => {
            batch.operations.iter().all(|operation| operation.operation.as_ref().is_some_and(plain))
        }
        kind => plain(kind),
    };
    // An error is met again by whoever goes the longer way, and treated there.
    if all_plain { group.read_at_once(read).ok().flatten() } else { None }
}

fn is_stale(kind: &Kind) -> bool {
    match kind {
        Kind::Get(get) => get.stale,
        Kind::Exists(exists) => exists.stale,
        _ => false,
    }
}

fn answer(kind: &Kind, item: Option<StoredItem>, clock_ms: u64, room: &mut usize) -> Outcome {
    match kind {
        Kind::Get(get) => {
            let bytes = item.as_ref().filter(|_| !get.without_value).map_or(0, |item| item.value.len());
            match room.checked_sub(bytes) {
                Some(left) => {
                    *room = left;
                    let shown = item.map(|item| parts::show(item, get, clock_ms)).transpose();
                    shown.map_or_else(Outcome::Failure, |item| Outcome::Get(GetResponse { item }))
                }
                None => Outcome::Failure(reads_too_much((READ_BY_ONE - *room + bytes) as u64)),
            }
        }
        Kind::Exists(_) => Outcome::Exists(ExistsResponse { exists: item.is_some() }),
        _ => Outcome::Failure(failure::internal("a write was taken for a read")),
    }
}

/// The item of a key, and the clock by which its time to live is told.
async fn read_item(group: &Group, key: &[u8], stale: bool) -> Result<(Option<StoredItem>, u64), LocalError> {
    let descriptor = group.applied().descriptor().ok_or(LocalError::WrongEpoch)?;
    if descriptor.bucket_of(key).is_none() {
        return Err(LocalError::WrongEpoch);
    }
    if stale {
        let clock_ms = group.applied().progress().clock_ms;
        let found = read_key(group.engine(), &descriptor, key, clock_ms, clock_ms);
        let found = found.map_err(|error| LocalError::of(error.into()))?;
        return match Ending::of(found) {
            Ending::Read(item) => Ok((item, clock_ms)),
            Ending::Due => Ok((None, clock_ms)),
        };
    }
    let read = group.read(|engine, clock_ms, now_ms| {
        let found = read_key(engine, &descriptor, key, clock_ms, now_ms)?;
        Ok(match Ending::of(found) {
            Ending::Read(item) => Ending::Read((item, now_ms)),
            Ending::Due => Ending::Due,
        })
    });
    read.await.map_err(LocalError::of_read)
}

/// One partition's part of a page of a scan.
pub async fn scan(
    group: &Arc<Group>,
    moments: &Arc<Moments>,
    request: ScanPageRequest,
    deadline: Instant,
) -> Result<ScanPage, LocalError> {
    let owned = group.applied().descriptor().ok_or(LocalError::WrongEpoch)?;
    let buckets =
        wanted_of(request.first_bucket, request.last_bucket, &owned).ok_or(LocalError::WrongEpoch)?;
    let wanted = Descriptor { buckets, ..owned };
    let held = moments::is_of_held(request.moment.as_ref());
    let clock_ms = barrier(group, request.stale || held, deadline).await?;
    let (reading, moments) = (Arc::clone(group), Arc::clone(moments));
    let page = threads::blocking(move || {
        let asked = request.moment.as_ref();
        let moment = match moments::of_page(&moments, &reading, asked, owned, &wanted, clock_ms) {
            Ok(moment) => moment,
            Err(error) => return Ok(Err(error)),
        };
        let page = scan_page(&*moment.state, &wanted, &request, moment.clock_ms)?;
        Ok(match page.failure {
            Some(refused) => Err(LocalError::Failed(refused)),
            None => Ok(ScanPage { revision: moment.revision, ..page }),
        })
    })
    .await;
    let page = page.unwrap_or_else(|error: StateError| Err(LocalError::of(error.into())))?;
    if held || still_owns(group, buckets) { Ok(page) } else { Err(LocalError::WrongEpoch) }
}

/// One partition's part of a page of a query.
pub async fn query(
    group: &Arc<Group>,
    moments: &Arc<Moments>,
    request: IndexPageRequest,
    deadline: Instant,
) -> Result<IndexPage, LocalError> {
    let owned = group.applied().descriptor().ok_or(LocalError::WrongEpoch)?;
    let buckets =
        wanted_of(request.first_bucket, request.last_bucket, &owned).ok_or(LocalError::WrongEpoch)?;
    let wanted = Descriptor { buckets, ..owned };
    let held = moments::is_of_held(request.moment.as_ref());
    let clock_ms = barrier(group, request.stale || held, deadline).await?;
    let (reading, moments) = (Arc::clone(group), Arc::clone(moments));
    let page = threads::blocking(move || {
        let known = reading.applied().settings().unwrap_or_default();
        let settings = known.indexes.iter().find(|index| index.id == request.index);
        let Some(definition) = settings.and_then(|settings| Definition::parse(settings).ok()) else {
            return Ok(Err(match known.version < request.settings_version {
                true => LocalError::NotNow,
                false => LocalError::Failed(failure::index_was_dropped()),
            }));
        };
        let asked = request.moment.as_ref();
        let moment = match moments::of_page(&moments, &reading, asked, owned, &wanted, clock_ms) {
            Ok(moment) => moment,
            Err(error) => return Ok(Err(error)),
        };
        // Of the same moment as the entries, and of the partition that it is a moment of.
        let Some(record) = read_record(moment.group, request.index, &*moment.state)? else {
            return Ok(Err(LocalError::NotNow));
        };
        if record.state() != State::Ready {
            let percent = percent(&record, owned.buckets);
            let failure = failure::index_not_ready(&definition.name, percent, record.failure);
            return Ok(Err(LocalError::Failed(failure)));
        }
        let runs: Vec<Run> = request.runs.iter().cloned().map(Into::into).collect();
        let question =
            Question { definition: &definition, runs: &runs, request: &request, clock_ms: moment.clock_ms };
        index_page(&*moment.state, &wanted, &question).map(Ok)
    })
    .await;
    let page = page.unwrap_or_else(|error: StateError| Err(LocalError::of(error.into())))?;
    if held || still_owns(group, buckets) { Ok(page) } else { Err(LocalError::WrongEpoch) }
}

/// The buckets that are to be read; none: the partition does not own them all.
fn wanted_of(first: Option<u32>, last: Option<u32>, owned: &Descriptor) -> Option<BucketRange> {
    let bucket = |number: u32| u16::try_from(number).ok().map(Bucket);
    let asked = match (first, last) {
        (Some(first), Some(last)) => BucketRange { first: bucket(first)?, last: bucket(last)? },
        _ => owned.buckets,
    };
    owned.covers(asked).then_some(asked)
}

/// Whether what was read is the partition's. What is shown as owned is never ahead of what is shown as
/// applied: while it is still owned, the revision is one of a time at which it was.
fn still_owns(group: &Group, buckets: BucketRange) -> bool {
    group.applied().descriptor().is_some_and(|owned| owned.covers(buckets))
}

/// Returns when what is read from now on is linearizable, with the partition's clock for it.
async fn barrier(group: &Arc<Group>, stale: bool, deadline: Instant) -> Result<u64, LocalError> {
    if stale {
        return Ok(group.applied().progress().clock_ms);
    }
    let barrier = async {
        let now_ms = group.leader_clock_ms();
        // What is due by the leader's clock must be due by the partition's before it is
        // passed over; an entry that says so is as good a barrier as any.
        if group.applied().next_due_ms() <= now_ms {
            group.propose(Command::Tick(proto::v1::Tick {}), None).await?;
        } else {
            group.read_barrier().await?;
        }
        Ok(group.applied().progress().clock_ms)
    };
    match tokio::time::timeout_at(deadline, barrier).await {
        Ok(passed) => passed.map_err(LocalError::of_read),
        Err(_) => Err(LocalError::Failed(too_late())),
    }
}
