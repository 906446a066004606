//! Reads that keep what they read alive: an item that has an end is given another one, by a write
//! of its own after the read.
//!
//! So that keys that are read often cost few writes, an end is moved only once that gives the item
//! at least a tenth of the time more. The version stays, and nobody who watches is told.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use proto::v1::{
    GetResponse, Item, Lifetime, ModifyRequest, Operation, Renew, Result as OperationResult, lifetime::Lasts,
    modify_request::Change, operation::Operation as Kind, renew::Only, result::Result as Outcome,
};

use super::context::Context;
use super::operations::Router;
use crate::partition::operations::is_worth_a_touch;

/// What a read is to give the item of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    key: Bytes,
    touch_ms: u64,
}

/// What is to be touched after an operation: one place for each of its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Touches {
    table: String,
    wishes: Vec<Option<Wish>>,
}

/// Writes into the reads of an operation what the table gives items that are read.
pub(super) fn settle(kind: &mut Kind, of_table_ms: u64) {
    let inner = |operations: &mut Vec<Operation>| {
        let kinds = operations.iter_mut().filter_map(|operation| operation.operation.as_mut());
        kinds.for_each(|kind| settle(kind, of_table_ms));
    };
    match kind {
        // What does not read the value looks at the item from outside, and what may be old is no
        // reason to keep it alive.
        Kind::Get(get) if get.without_value || get.stale => get.touch_ms = 0,
        Kind::Get(get) if get.touch_ms == 0 => get.touch_ms = of_table_ms,
        Kind::Batch(batch) => inner(&mut batch.operations),
        Kind::Txn(txn) => {
            inner(&mut txn.then);
            inner(&mut txn.otherwise);
        }
        _ => {}
    }
}

impl Touches {
    /// What is to be touched after an operation; none: nothing. What goes through the log touches
    /// where it is applied.
    pub fn of(table: &str, kind: &Kind) -> Option<Self> {
        let wish = |kind: &Kind| match kind {
            Kind::Get(get) if get.touch_ms > 0 => Some(Wish { key: get.key.clone(), touch_ms: get.touch_ms }),
            _ => None,
        };
        let wishes: Vec<_> = match kind {
            Kind::Get(_) => vec![wish(kind)],
            Kind::Batch(batch) if !batch.atomic => {
                batch.operations.iter().map(|operation| wish(operation.operation.as_ref()?)).collect()
            }
            _ => return None,
        };
        let any = wishes.iter().any(Option::is_some);
        any.then(|| Self { table: table.to_owned(), wishes })
    }

    /// Touches what was found, and shows the ends that it has now. A touch that fails leaves the
    /// answer as it was read.
    pub async fn carry_out(self, router: &Arc<Router>, context: &Context, outcome: &mut Outcome) {
        let mut single = OperationResult::default();
        let results = if let Outcome::Batch(batch) = outcome {
            batch.results.as_mut_slice()
        } else {
            single.result = Some(outcome.clone());
            std::slice::from_mut(&mut single)
        };
        let table = self.table;
        let touched = results.iter_mut().zip(self.wishes).filter_map(|(result, wish)| {
            let wish = wish?;
            let Some(Outcome::Get(GetResponse { item: Some(item) })) = &mut result.result else {
                return None;
            };
            is_worth_it(item, wish.touch_ms).then(|| touch(router, context, &table, wish, item))
        });
        join_all(touched).await;
        if let Some(single) = single.result {
            *outcome = single;
        }
    }
}

/// Whether a touch would give an item at least a tenth of its time more.
fn is_worth_it(item: &Item, touch_ms: u64) -> bool {
    item.ttl_ms.is_some_and(|left_ms| is_worth_a_touch(left_ms, touch_ms))
}

async fn touch(router: &Arc<Router>, context: &Context, table: &str, wish: Wish, item: &mut Item) {
    let lifetime = Some(Lifetime { lasts: Some(Lasts::TtlMs(wish.touch_ms)) });
    let renew = Renew { lifetime, only: Only::ToLater.into(), quietly: true };
    let modify = ModifyRequest {
        table: table.to_owned(),
        key: wish.key,
        change: Some(Change::Renew(renew)),
        ..ModifyRequest::default()
    };
    let Ok(prepared) = router.prepare(Kind::Modify(modify)) else { return };
    let (done, _) = router.begin_prepared(context, Arc::new(prepared)).await;
    if let Ok(Outcome::Modify(done)) = done
        && done.applied
    {
        let gained = wish.touch_ms.saturating_sub(item.ttl_ms.unwrap_or(0));
        item.deadline_ms = item.deadline_ms.map(|deadline_ms| deadline_ms.saturating_add(gained));
        item.ttl_ms = Some(wish.touch_ms);
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{BatchRequest, GetRequest};

    use super::*;

    fn get(touch_ms: u64) -> Kind {
        Kind::Get(GetRequest { key: "k".into(), touch_ms, ..GetRequest::default() })
    }

    #[test]
    fn an_end_is_moved_once_that_gives_a_tenth_more() {
        let item = |ttl_ms| Item { ttl_ms, ..Item::default() };
        assert!(!is_worth_it(&item(None), 1_000), "without an end");
        assert!(!is_worth_it(&item(Some(1_000)), 1_000));
        assert!(!is_worth_it(&item(Some(900)), 1_000));
        assert!(is_worth_it(&item(Some(899)), 1_000));
        assert!(!is_worth_it(&item(Some(5_000)), 1_000), "it lives longer already");
    }

    #[test]
    fn the_table_touches_where_the_read_says_nothing() {
        let touch_of = |kind: &Kind| match kind {
            Kind::Get(get) => get.touch_ms,
            _ => 0,
        };
        for (mut kind, expected) in [
            (get(0), 500),
            (get(7), 7),
            (Kind::Get(GetRequest { stale: true, touch_ms: 7, ..GetRequest::default() }), 0),
            (Kind::Get(GetRequest { without_value: true, ..GetRequest::default() }), 0),
        ] {
            settle(&mut kind, 500);
            assert_eq!(touch_of(&kind), expected);
        }
    }

    #[test]
    fn only_reads_outside_of_the_log_are_touched_afterwards() {
        let batch = |atomic| {
            let operations = vec![
                Operation { operation: Some(get(7)) },
                Operation { operation: Some(Kind::Delete(proto::v1::DeleteRequest::default())) },
            ];
            Kind::Batch(BatchRequest { operations, atomic, ..BatchRequest::default() })
        };
        let wish = Some(Wish { key: "k".into(), touch_ms: 7 });
        assert_eq!(Touches::of("t", &get(0)), None);
        assert_eq!(Touches::of("t", &get(7)).unwrap().wishes.as_slice(), std::slice::from_ref(&wish));
        assert_eq!(Touches::of("t", &batch(false)).unwrap().wishes, [wish, None]);
        assert_eq!(Touches::of("t", &batch(true)), None);
    }
}
