//! Queries of an index over a whole table: every partition gives its part in the index's order, and
//! the parts are merged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use placement::{BucketRange, Partition, PartitionId, Table};
use proto::v1::{
    Failure, ForwardAnswer, ForwardRequest, HeldMoment, IndexHit, IndexPage, IndexPageRequest, IndexPlace,
    IndexSettings, Item, QueryPlan, QueryRequest, QueryResponse,
};
use tokio::time::Instant;

use super::asked::Asked;
use super::context::Context;
use super::failure;
use super::local::{self, LocalError};
use super::operations::{Router, too_late};
use super::pages::{ASKED_AT_ONCE, PageError, PageRequest};
use super::{moments, query_cursor};
use crate::index::bounds::{Run, runs_of};
use crate::index::{Definition, plan};
use crate::raft::Group;
use crate::seams::runtime;

/// A partition is asked for a little more than its share, so that most pages need one round.
const SPARE_ITEMS: u64 = 16;
const SPARE_BYTES: u64 = 64 << 10;

/// A question that was understood.
struct Question<'a> {
    request: &'a QueryRequest,
    settings: IndexSettings,
    settings_version: u64,
    runs: Vec<Run>,
    place: Option<query_cursor::Place>,
    /// The most items of the page.
    wanted: u64,
}

/// What the page is of, where that is held.
struct Held {
    /// Empty: it is not.
    id: Bytes,
    /// Whether it is to be held from this page on.
    begins: bool,
}

/// One partition's part of the answer.
struct Part {
    partition: PartitionId,
    /// What it owns by the map that the query goes by.
    buckets: BucketRange,
    hits: VecDeque<IndexHit>,
    /// The rest of its part follows this.
    last: Option<IndexPlace>,
    /// It has answered for this page.
    asked: bool,
    more: bool,
}

/// What a page came to.
#[derive(Default)]
struct Merged {
    items: Vec<Item>,
    last: Option<IndexPlace>,
    more: bool,
    count: u64,
    plan: QueryPlan,
}

/// What a partition is asked for at once, so that all of them together give about a page.
#[derive(Clone, Copy)]
struct Share {
    items: u64,
    bytes: u64,
}

impl Router {
    /// One page of a query: at most as many items as are asked for and as a page may hold. A count is
    /// one page.
    pub async fn query_page(
        self: &Arc<Self>,
        context: &Context,
        request: &QueryRequest,
    ) -> Result<QueryResponse, Failure> {
        let _inside = self.doorway.enter();
        let asked = Asked::query(self, request, context);
        let within = asked.within(context);
        let context = &*within;
        let page = match self.doorway.is_shut() {
            true => Err(failure::retry_after("this node is shutting down: ask another", 50)),
            false => self.answer_query(context, request).await,
        };
        asked.end_page(page.as_ref().err());
        page
    }

    async fn answer_query(
        self: &Arc<Self>,
        context: &Context,
        request: &QueryRequest,
    ) -> Result<QueryResponse, Failure> {
        let table = self.known_table(context, &request.table).await?;
        let question = self.understand(&table, request)?;
        loop {
            let known = question.place.as_ref().map(|place| place.moment.clone());
            let begins = known.is_none();
            let held = Held { id: known.unwrap_or_else(|| moments::new_id(request.snapshot_ms)), begins };
            match self.merge_hits(context, &table, &question, &held).await {
                Ok(merged) => {
                    let place = merged.last.filter(|_| merged.more);
                    let cursor = match place {
                        Some(after) => {
                            let place = query_cursor::Place { after, moment: held.id };
                            query_cursor::after(
                                self.cluster(),
                                table.id,
                                question.settings.id,
                                request,
                                place,
                            )
                        }
                        None => {
                            self.let_go(context, table.id, held.id);
                            Bytes::new()
                        }
                    };
                    let plan = request.explain.then(|| QueryPlan {
                        runs: plan::describe(&question.settings, request),
                        index: Some(question.settings.clone()),
                        answered: merged.count,
                        ..merged.plan
                    });
                    return Ok(QueryResponse { items: merged.items, cursor, count: merged.count, plan });
                }
                // The map changed in the middle: the page is begun again.
                Err(PageError::Remap) => {
                    if held.begins {
                        self.let_go(context, table.id, held.id);
                    }
                    if context.left().is_zero() {
                        return Err(too_late());
                    }
                    tokio::time::sleep(Duration::from_millis(runtime::random_between(5, 20))).await;
                    self.table(&request.table)?;
                }
                Err(PageError::Failed(failure)) => {
                    if held.begins {
                        self.let_go(context, table.id, held.id);
                    }
                    return Err(failure);
                }
            }
        }
    }

    fn understand<'a>(&self, table: &Table, request: &'a QueryRequest) -> Result<Question<'a>, Failure> {
        let settings = self.map().settings(table.id);
        let version = settings.version;
        let known = settings.indexes.into_iter().find(|index| index.name == request.index);
        let settings = known.ok_or_else(|| failure::unknown_index(table.name.as_str(), &request.index))?;
        let index = Definition::parse(&settings).map_err(failure::invalid)?;
        let runs = runs_of(&index, request.which.as_ref()).map_err(failure::invalid)?;
        if request.count && (request.limit > 0 || !request.cursor.is_empty()) {
            return Err(failure::invalid("a count is of everything: it has no limit and no cursor"));
        }
        moments::check_hold(request.snapshot_ms)?;
        let place = query_cursor::place(self.cluster(), table.id, settings.id, request)?;
        let most = self.limits().page_items;
        let wanted = if request.limit == 0 { most } else { request.limit.min(most) };
        Ok(Question { request, settings, settings_version: version, runs, place, wanted })
    }

    async fn merge_hits(
        self: &Arc<Self>,
        context: &Context,
        table: &Table,
        question: &Question<'_>,
        held: &Held,
    ) -> Result<Merged, PageError> {
        let mut merged = Merged::default();
        if question.runs.is_empty() {
            return Ok(merged);
        }
        let map = self.map();
        let begin = |partition: &&Partition| Part {
            partition: partition.id,
            buckets: partition.buckets,
            hits: VecDeque::new(),
            last: question.place.as_ref().map(|place| place.after.clone()),
            asked: false,
            more: true,
        };
        let mut parts: Vec<Part> = map.map().partitions_of(table.id).iter().map(begin).collect();
        merged.plan.partitions = parts.len() as u32;
        let among = parts.len().max(1) as u64;
        let share = Share {
            items: (question.wanted.div_ceil(among) + SPARE_ITEMS).min(question.wanted + 1),
            bytes: self.limits().page_bytes / among + SPARE_BYTES,
        };
        let mut bytes = 0;
        loop {
            self.refill_hits(context, question, held, share, &mut parts, &mut merged).await?;
            // As long as every part that has more shows its next item, the front is known.
            while parts.iter().all(|part| !part.hits.is_empty() || !part.more) {
                let Some(part) = front(&mut parts, question.request.reverse) else { return Ok(merged) };
                if merged.items.len() as u64 == question.wanted || bytes >= self.limits().page_bytes {
                    merged.more = true;
                    return Ok(merged);
                }
                if let Some(IndexHit { value, item: Some(item) }) = part.hits.pop_front() {
                    bytes += (item.key.len() + item.value.len()) as u64 + 32;
                    merged.last = Some(IndexPlace { value, key: item.key.clone() });
                    merged.count += 1;
                    merged.items.push(item);
                }
            }
        }
    }

    /// Asks every partition that has more and shows nothing.
    async fn refill_hits(
        self: &Arc<Self>,
        context: &Context,
        question: &Question<'_>,
        held: &Held,
        share: Share,
        parts: &mut [Part],
        merged: &mut Merged,
    ) -> Result<(), PageError> {
        let mut asks = Vec::new();
        for part in parts.iter_mut().filter(|part| part.more && part.hits.is_empty()) {
            let request = question.request;
            let ask = IndexPageRequest {
                partition: part.partition.0,
                index: question.settings.id,
                settings_version: question.settings_version,
                runs: question.runs.iter().cloned().map(Into::into).collect(),
                reverse: request.reverse,
                keys_only: request.keys_only,
                count_only: request.count,
                stale: request.stale,
                limit: share.items,
                max_bytes: share.bytes,
                after: part.last.clone(),
                first_bucket: Some(part.buckets.first.0.into()),
                last_bucket: Some(part.buckets.last.0.into()),
                moment: moments::asked_of(&held.id, request.snapshot_ms, held.begins && !part.asked),
            };
            let (router, context) = (Arc::clone(self), context.clone());
            asks.push(async move {
                let page = router.ask(&context, ask).await?;
                Ok::<_, PageError>((part, page))
            });
        }
        merged.plan.asked += asks.len() as u32;
        let mut pages = stream::iter(asks).buffer_unordered(ASKED_AT_ONCE);
        while let Some(answered) = pages.next().await {
            let (part, page) = answered?;
            part.asked = true;
            part.last = page.last.or(part.last.take());
            part.more = page.more;
            part.hits.extend(page.hits);
            merged.plan.entries += page.entries;
            merged.plan.items += page.items;
            if question.request.count {
                merged.count += page.count;
            }
        }
        Ok(())
    }

    /// Does a part of a query that another node forwarded.
    pub async fn query_here(&self, mut request: ForwardRequest) -> IndexPage {
        let ask = request.index.take();
        self.page_here(request, ask).await
    }
}

impl PageRequest for IndexPageRequest {
    type Page = IndexPage;

    fn partition(&self) -> PartitionId {
        PartitionId(self.partition)
    }

    fn is_stale(&self) -> bool {
        self.stale
    }

    fn moment(&self) -> Option<&HeldMoment> {
        self.moment.as_ref()
    }

    async fn answer(
        self,
        router: &Router,
        group: &Arc<Group>,
        deadline: Instant,
    ) -> Result<IndexPage, LocalError> {
        if group.leads() {
            router.tell_settings(group);
        }
        local::query(group, &router.moments, self, deadline).await
    }

    fn forwarded(self) -> ForwardRequest {
        ForwardRequest { index: Some(self), ..ForwardRequest::default() }
    }

    fn page_of(answer: ForwardAnswer) -> Option<IndexPage> {
        answer.index
    }

    fn failure_of(page: &mut IndexPage) -> Option<Failure> {
        page.failure.take()
    }

    fn refused(failure: Failure) -> IndexPage {
        IndexPage { failure: Some(failure), ..IndexPage::default() }
    }
}

/// The part whose hit comes next.
fn front(parts: &mut [Part], reverse: bool) -> Option<&mut Part> {
    let shown = parts.iter_mut().filter(|part| !part.hits.is_empty());
    let place = |part: &&mut Part| {
        part.hits.front().map(|hit| (hit.value.clone(), hit.item.as_ref().map(|item| item.key.clone())))
    };
    if reverse { shown.max_by_key(place) } else { shown.min_by_key(place) }
}
