//! Ordered scans over a whole table: every partition gives its part in key order, and the
//! parts are merged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use placement::{BucketRange, Partition, PartitionId, Table};
use proto::v1::held_moment::Turn;
use proto::v1::{
    Failure, ForwardAnswer, ForwardRequest, HeldMoment, Item, ScanPage, ScanPageRequest, ScanRequest,
    ScanResponse,
};
use tokio::time::Instant;

use super::asked::Asked;
use super::context::Context;
use super::cursor;
use super::local::{self, LocalError};
use super::newer;
use super::operations::{Router, too_late};
use super::pages::{ASKED_AT_ONCE, PageError, PageRequest};
use super::{failure, moments};
use crate::partition::selection::Selection;
use crate::raft::Group;
use crate::seams::runtime;

/// A partition is asked for a little more than its share, so that most pages need one round.
const SPARE_ITEMS: u64 = 16;
const SPARE_BYTES: u64 = 64 << 10;
/// How often the partitions are asked for one page by a scan that selects: with few items that it
/// wants it would else go on for as long as there are others.
const MOST_ROUNDS: usize = 2;

/// One partition's part of a scan.
struct Part {
    partition: PartitionId,
    /// What it owns by the map that the scan goes by.
    buckets: BucketRange,
    items: VecDeque<Item>,
    /// The rest of its part begins (or, in reverse, ends) after this key.
    last_key: Option<Bytes>,
    /// It has answered for this page.
    asked: bool,
    more: bool,
}

/// A page that is being put together.
struct Merge<'a> {
    request: &'a ScanRequest,
    /// What is left of what is wanted.
    bounds: &'a Bounds,
    /// The most items.
    wanted: u64,
    /// What the page is of, where that is held; else empty.
    moment: &'a Bytes,
    /// Whether it is to be held from this page on.
    begins: bool,
}

/// What a partition is asked for at once, so that all of them together give about a page.
#[derive(Clone, Copy)]
struct Share {
    items: u64,
    bytes: u64,
}

/// The keys that are wanted: from the first, up to but without the second; empty: no end.
#[derive(Clone)]
struct Bounds {
    start: Bytes,
    end: Bytes,
}

impl Router {
    /// One page of a scan: at most as many items as are asked for and as a page may hold.
    pub async fn scan_page(
        self: &Arc<Self>,
        context: &Context,
        request: &ScanRequest,
    ) -> Result<ScanResponse, Failure> {
        let _inside = self.doorway.enter();
        let asked = Asked::scan(self, request, context);
        let within = asked.within(context);
        let context = &*within;
        let page = match self.doorway.is_shut() {
            true => Err(failure::retry_after("this node is shutting down: ask another", 50)),
            false => self.page(context, request).await,
        };
        asked.end_page(page.as_ref().err());
        page
    }

    async fn page(
        self: &Arc<Self>,
        context: &Context,
        request: &ScanRequest,
    ) -> Result<ScanResponse, Failure> {
        let table = self.known_table(context, &request.table).await?;
        newer::check_scan(request, self.map().cluster_version())?;
        Selection::of(&request.filter, &request.paths)?;
        for key in [&request.start, &request.end, &request.prefix] {
            if !key.is_empty() {
                self.limits().check_key(key)?;
            }
        }
        moments::check_hold(request.snapshot_ms)?;
        let mut bounds = bounds_of(request);
        let place = cursor::place(self.cluster(), table.id, request)?;
        if let Some(place) = &place {
            bounds.go_on_after(&place.last_key, request.reverse);
        }
        let most = self.limits().page_items;
        let wanted = if request.limit == 0 { most } else { request.limit.min(most) };
        if bounds.is_empty() {
            return Ok(ScanResponse::default());
        }
        loop {
            let held = place.as_ref().map(|place| place.moment.clone());
            let moment = held.clone().unwrap_or_else(|| moments::new_id(request.snapshot_ms));
            let merge = Merge { request, bounds: &bounds, wanted, moment: &moment, begins: held.is_none() };
            match self.merge(context, &table, &merge).await {
                Ok((items, last)) => {
                    let cursor = match last {
                        Some(last) => cursor::after(self.cluster(), table.id, request, last, moment),
                        None => {
                            self.let_go(context, table.id, moment);
                            Bytes::new()
                        }
                    };
                    return Ok(ScanResponse { items, cursor });
                }
                // The map changed in the middle: the page is begun again.
                Err(PageError::Remap) => {
                    if merge.begins {
                        self.let_go(context, table.id, moment);
                    }
                    if context.left().is_zero() {
                        return Err(too_late());
                    }
                    tokio::time::sleep(Duration::from_millis(runtime::random_between(5, 20))).await;
                    self.table(&request.table)?;
                }
                Err(PageError::Failed(failure)) => {
                    if merge.begins {
                        self.let_go(context, table.id, moment);
                    }
                    return Err(failure);
                }
            }
        }
    }

    async fn merge(
        self: &Arc<Self>,
        context: &Context,
        table: &Table,
        merge: &Merge<'_>,
    ) -> Result<(Vec<Item>, Option<Bytes>), PageError> {
        let Merge { request, wanted, .. } = *merge;
        let map = self.map();
        let begin = |partition: &&Partition| Part {
            partition: partition.id,
            buckets: partition.buckets,
            items: VecDeque::new(),
            last_key: None,
            asked: false,
            more: true,
        };
        let mut parts: Vec<Part> = map.map().partitions_of(table.id).iter().map(begin).collect();
        let among = parts.len().max(1) as u64;
        let share = Share {
            items: (wanted.div_ceil(among) + SPARE_ITEMS).min(wanted + 1),
            bytes: self.limits().page_bytes / among + SPARE_BYTES,
        };
        let selects = !request.filter.is_empty() || !request.paths.is_empty();
        let (mut items, mut bytes) = (Vec::new(), 0);
        for round in 1_usize.. {
            self.refill(context, merge, share, &mut parts).await?;
            // As long as every part that has more shows its next item, the front is known.
            while parts.iter().all(|part| !part.items.is_empty() || !part.more) {
                let Some(part) = front(&mut parts, request.reverse) else { return Ok((items, None)) };
                if items.len() as u64 == wanted || bytes >= self.limits().page_bytes {
                    let last = items.last().map(|item: &Item| item.key.clone());
                    return Ok((items, last));
                }
                if let Some(item) = part.items.pop_front() {
                    bytes += (item.key.len() + item.value.len()) as u64 + 32;
                    items.push(item);
                }
            }
            if selects && round >= MOST_ROUNDS {
                let last = horizon(&parts, request.reverse);
                let reached = |item: &Item| match (&last, request.reverse) {
                    (Some(last), false) => item.key <= *last,
                    (Some(last), true) => item.key >= *last,
                    (None, _) => true,
                };
                while let Some(part) = front(&mut parts, request.reverse) {
                    match part.items.pop_front().filter(|item| reached(item)) {
                        Some(item) if (items.len() as u64) < wanted => items.push(item),
                        // What is beyond is found again by the next page.
                        Some(_) => {
                            let last = items.last().map(|item: &Item| item.key.clone());
                            return Ok((items, last));
                        }
                        None => break,
                    }
                }
                return Ok((items, last));
            }
        }
        Ok((items, None))
    }

    /// Asks every partition that has more and shows nothing.
    async fn refill(
        self: &Arc<Self>,
        context: &Context,
        merge: &Merge<'_>,
        share: Share,
        parts: &mut [Part],
    ) -> Result<(), PageError> {
        let request = merge.request;
        let mut asks = Vec::new();
        for part in parts.iter_mut().filter(|part| part.more && part.items.is_empty()) {
            let mut bounds = merge.bounds.clone();
            if let Some(last) = &part.last_key {
                bounds.go_on_after(last, request.reverse);
            }
            let begins = merge.begins && !part.asked;
            let ask = ScanPageRequest {
                start: bounds.start,
                end: bounds.end,
                reverse: request.reverse,
                keys_only: request.keys_only,
                stale: request.stale,
                limit: share.items,
                max_bytes: share.bytes,
                filter: request.filter.clone(),
                paths: request.paths.clone(),
                moment: moments::asked_of(merge.moment, request.snapshot_ms, begins),
                ..ask_of(part.partition, part.buckets)
            };
            let (router, context) = (Arc::clone(self), context.clone());
            asks.push(async move {
                let page = router.ask(&context, ask).await?;
                Ok::<_, PageError>((part, page))
            });
        }
        let mut pages = stream::iter(asks).buffer_unordered(ASKED_AT_ONCE);
        while let Some(answered) = pages.next().await {
            let (part, page) = answered?;
            part.asked = true;
            let shown = page.items.last().map(|item| item.key.clone());
            let looked_at = Some(page.looked_at).filter(|key| !key.is_empty());
            part.last_key = looked_at.or(shown).or(part.last_key.take());
            part.more = page.more;
            part.items.extend(page.items);
        }
        Ok(())
    }

    async fn scan_group(
        &self,
        group: &Arc<Group>,
        ask: ScanPageRequest,
        deadline: Instant,
    ) -> Result<ScanPage, LocalError> {
        if ask.to_follow {
            let map = self.map();
            let partition = map.partition(group.group).ok_or(LocalError::WrongEpoch)?;
            group.configure(map.settings(partition.table)).await.map_err(LocalError::of_read)?;
        }
        if let Some(moment) = ask.moment.as_ref().filter(|moment| moment.turn() == Turn::LetGo) {
            self.moments.let_go(&moment.id);
            return Ok(ScanPage::default());
        }
        local::scan(group, &self.moments, ask, deadline).await
    }

    /// How far a partition is now, or a little later; from here on it keeps its changes, where its
    /// table does. None: the map has changed.
    pub async fn revision_of(
        self: &Arc<Self>,
        context: &Context,
        partition: PartitionId,
        buckets: BucketRange,
    ) -> Result<Option<u64>, Failure> {
        let ask = ScanPageRequest { to_follow: true, ..ask_of(partition, buckets) };
        match self.ask(context, ask).await {
            Ok(page) => Ok(Some(page.revision)),
            Err(PageError::Remap) => Ok(None),
            Err(PageError::Failed(failure)) => Err(failure),
        }
    }

    /// Does a part of a scan that another node forwarded.
    pub async fn scan_here(&self, mut request: ForwardRequest) -> ScanPage {
        let ask = request.scan.take();
        self.page_here(request, ask).await
    }
}

/// What is asked of a partition that owns those buckets, by the map that the asker has: one that was
/// split since must not answer for what it has left alone.
pub(super) fn ask_of(partition: PartitionId, buckets: BucketRange) -> ScanPageRequest {
    ScanPageRequest {
        partition: partition.0,
        first_bucket: Some(buckets.first.0.into()),
        last_bucket: Some(buckets.last.0.into()),
        ..ScanPageRequest::default()
    }
}

impl PageRequest for ScanPageRequest {
    type Page = ScanPage;

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
    ) -> Result<ScanPage, LocalError> {
        router.scan_group(group, self, deadline).await
    }

    fn forwarded(self) -> ForwardRequest {
        ForwardRequest { scan: Some(self), ..ForwardRequest::default() }
    }

    fn page_of(answer: ForwardAnswer) -> Option<ScanPage> {
        answer.scan
    }

    fn failure_of(page: &mut ScanPage) -> Option<Failure> {
        page.failure.take()
    }

    fn refused(failure: Failure) -> ScanPage {
        ScanPage { failure: Some(failure), ..ScanPage::default() }
    }
}

/// The part whose item comes next.
fn front(parts: &mut [Part], reverse: bool) -> Option<&mut Part> {
    let keyed = parts.iter_mut().filter(|part| !part.items.is_empty());
    let key = |part: &&mut Part| part.items.front().map(|item| item.key.clone());
    if reverse { keyed.max_by_key(key) } else { keyed.min_by_key(key) }
}

/// How far every part has been looked through: the first key in the scan's direction at which one
/// ended that has more.
fn horizon(parts: &[Part], reverse: bool) -> Option<Bytes> {
    let ends = parts.iter().filter(|part| part.more).filter_map(|part| part.last_key.clone());
    if reverse { ends.max() } else { ends.min() }
}

fn bounds_of(request: &ScanRequest) -> Bounds {
    let mut bounds = Bounds { start: request.start.clone(), end: request.end.clone() };
    if !request.prefix.is_empty() {
        bounds.start = bounds.start.max(request.prefix.clone());
        let end = after_prefix(&request.prefix);
        if bounds.end.is_empty() || (!end.is_empty() && end < bounds.end) {
            bounds.end = end;
        }
    }
    bounds
}

/// The first key that no longer begins so; empty: there is none.
pub fn after_prefix(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end.into()
}

/// The key that follows this one before any other can.
pub(super) fn next_key(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

impl Bounds {
    /// Leaves out a key and all that come before it in the scan's direction.
    fn go_on_after(&mut self, last: &[u8], reverse: bool) {
        if reverse {
            // Nothing is left before the empty key; bounds that hold nothing say so.
            self.end = Bytes::copy_from_slice(last);
        } else {
            self.start = next_key(last);
        }
    }

    fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_byte_grows() {
        assert_eq!(after_prefix(b"ab"), "ac");
        assert_eq!(&after_prefix(&[1, 255])[..], [2]);
        assert!(after_prefix(&[255, 255]).is_empty());
    }

    #[test]
    fn prefix_and_bounds_narrow_each_other() {
        let request = |start: &'static str, end: &'static str, prefix: &'static str| ScanRequest {
            start: start.into(),
            end: end.into(),
            prefix: prefix.into(),
            ..ScanRequest::default()
        };
        let narrowed = |start, end, prefix| {
            let bounds = bounds_of(&request(start, end, prefix));
            (
                String::from_utf8(bounds.start.to_vec()).unwrap(),
                String::from_utf8(bounds.end.to_vec()).unwrap(),
            )
        };
        assert_eq!(narrowed("", "", "k"), ("k".into(), "l".into()));
        assert_eq!(narrowed("k5", "", "k"), ("k5".into(), "l".into()));
        assert_eq!(narrowed("a", "k3", "k"), ("k".into(), "k3".into()));
    }

    #[test]
    fn going_on_leaves_the_last_key_out_both_ways() {
        let mut forward = Bounds { start: "a".into(), end: "c".into() };
        forward.go_on_after(b"b", false);
        assert_eq!(&forward.start[..], b"b\0");
        let mut back = Bounds { start: "a".into(), end: "c".into() };
        back.go_on_after(b"a", true);
        assert!(back.is_empty());
    }
}
