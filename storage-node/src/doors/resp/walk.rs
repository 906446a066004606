//! Commands that concern a whole table: SCAN, KEYS, RANDOMKEY, DBSIZE and FLUSHDB.

use std::time::Duration;

use bytes::Bytes;
use placement::{Bucket, Slot};
use proto::v1::{Failure, ScanRequest};

use super::RespDoor;
use super::commands::{glob, integer, is, syntax_error, word};
use super::cursors::at_bucket;
use super::refusal;
use super::reply::Reply;
use crate::router::whole_table::FromKey;
use crate::seams::runtime;

/// How long a walk over a whole table may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The keys that one SCAN looks at, at most.
const MOST_KEYS: u64 = 10_000;
/// The buckets that it does.
const MOST_BUCKETS: u16 = 16;
/// KEYS answers with at most so much.
const KEYS_BYTES: usize = 64 << 20;
/// Keys among which RANDOMKEY chooses.
const CHOICE: u64 = 64;

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
pub async fn scan(door: &RespDoor, table: &str, words: &[Bytes]) -> Result<Reply, Reply> {
    let bad_cursor = || Reply::err("invalid cursor");
    let cursor: u64 = std::str::from_utf8(&word(words, 1))
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(bad_cursor)?;
    let (mut pattern, mut count, mut others) = (None, 10, false);
    let mut options = words.iter().skip(2);
    while let Some(option) = options.next() {
        let value = options.next().ok_or_else(syntax_error)?;
        if is(option, "MATCH") {
            pattern = Some(value);
        } else if is(option, "COUNT") {
            count =
                u64::try_from(integer(value)?).ok().filter(|count| *count > 0).ok_or_else(syntax_error)?;
        } else if is(option, "TYPE") {
            // There are no values but strings.
            others = !is(value, "string");
        } else {
            return Err(syntax_error());
        }
    }
    let (bucket, from) = door.shared.cursors.position(table, cursor).ok_or_else(bad_cursor)?;
    let (next, keys) =
        page(door, table, bucket, from, count.min(MOST_KEYS)).await.map_err(|f| refusal::of(&f))?;
    let wanted = |key: &Bytes| !others && pattern.is_none_or(|pattern| glob::matches(pattern, key));
    let keys = keys.into_iter().filter(wanted).map(Reply::Bulk).collect();
    Ok(Reply::Array(vec![Reply::bulk(next.to_string()), Reply::Array(keys)]))
}

async fn page(
    door: &RespDoor,
    table: &str,
    first: u16,
    mut from: FromKey,
    count: u64,
) -> Result<(u64, Vec<Bytes>), Failure> {
    let member = door.operations.member()?;
    let context = door.operations.context(PATIENCE);
    let buckets = member.router.known_table(&context, table).await?.buckets.get();
    let mut keys = Vec::new();
    let mut looked_at = 0;
    for bucket in first..buckets {
        let missing = count.saturating_sub(keys.len() as u64);
        if missing == 0 || looked_at == MOST_BUCKETS {
            return Ok((at_bucket(bucket), keys));
        }
        let start = std::mem::replace(&mut from, FromKey::First);
        if door.redirects() && !leads(door, table, Bucket(bucket))? {
            continue;
        }
        looked_at += 1;
        let page = member.router.keys_of_bucket(&context, table, Bucket(bucket), start, missing).await?;
        keys.extend(page.items.into_iter().map(|item| item.key));
        if let Some(last) = keys.last().filter(|_| page.more) {
            let cursor = door.shared.cursors.after(table, Bucket(bucket), last);
            return Ok((cursor, keys));
        }
    }
    Ok((0, keys))
}

fn leads(door: &RespDoor, table: &str, bucket: Bucket) -> Result<bool, Failure> {
    let member = door.operations.member()?;
    let id = member.router.table(table)?.id;
    let map = member.router.map();
    let partition = map.owner_of(id, bucket).map(|partition| partition.id);
    Ok(partition.is_some_and(|partition| member.router.leader_of(partition) == Some(member.node)))
}

/// KEYS pattern
pub async fn keys(door: &RespDoor, table: &str, words: &[Bytes]) -> Result<Reply, Reply> {
    let pattern = &word(words, 1);
    let context = door.operations.context(PATIENCE);
    let mut request = ScanRequest { table: table.to_owned(), keys_only: true, ..ScanRequest::default() };
    let (mut found, mut bytes) = (Vec::new(), 0);
    loop {
        let page = door.operations.scan(&context, &request).await.map_err(|failure| refusal::of(&failure))?;
        for key in page.items.into_iter().map(|item| item.key).filter(|key| glob::matches(pattern, key)) {
            bytes += key.len() + std::mem::size_of::<Reply>();
            found.push(Reply::Bulk(key));
        }
        if bytes > KEYS_BYTES {
            return Err(Reply::err("more keys match than one answer may hold: use SCAN"));
        }
        if page.cursor.is_empty() {
            return Ok(Reply::Array(found));
        }
        request.cursor = page.cursor;
    }
}

/// RANDOMKEY: any key, though not all are equally likely.
pub async fn random_key(door: &RespDoor, table: &str) -> Result<Reply, Reply> {
    some_key(door, table).await.map_err(|failure| refusal::of(&failure))
}

async fn some_key(door: &RespDoor, table: &str) -> Result<Reply, Failure> {
    let member = door.operations.member()?;
    let context = door.operations.context(PATIENCE);
    let buckets = u64::from(member.router.known_table(&context, table).await?.buckets.get());
    let first = runtime::random_between(0, buckets.saturating_sub(1));
    for step in 0..buckets {
        let bucket = Bucket(u16::try_from((first + step) % buckets).unwrap_or(0));
        let ask = |from| member.router.keys_of_bucket(&context, table, bucket, from, CHOICE);
        let mut keys = ask(FromKey::First).await?.items;
        // Where there are more, some beginning in the middle of them is as good.
        if let (Some(low), Some(high), true) = (keys.first(), keys.last(), keys.len() as u64 == CHOICE) {
            let chosen = if runtime::random_between(0, 1) == 0 { &low.key } else { &high.key };
            let more = ask(FromKey::At(chosen.clone())).await?.items;
            keys = if more.is_empty() { keys } else { more };
        }
        let last = (keys.len() as u64).saturating_sub(1);
        let place = usize::try_from(runtime::random_between(0, last)).unwrap_or(0);
        if let Some(item) = keys.into_iter().nth(place) {
            return Ok(Reply::Bulk(item.key));
        }
    }
    Ok(Reply::Null)
}

/// DBSIZE: the items of the table; in cluster mode those that this node leads.
pub async fn count(door: &RespDoor, table: &str) -> Result<Reply, Reply> {
    let context = door.operations.context(PATIENCE);
    let counted = async {
        let member = door.operations.member()?;
        member.router.count(&context, table, door.redirects()).await
    };
    let count = counted.await.map_err(|failure| refusal::of(&failure))?;
    Ok(Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// FLUSHDB [ASYNC|SYNC]
pub async fn clear(door: &RespDoor, table: &str, words: &[Bytes]) -> Result<Reply, Reply> {
    let option = &word(words, 1);
    if words.len() > 2 || !(option.is_empty() || is(option, "ASYNC") || is(option, "SYNC")) {
        return Err(syntax_error());
    }
    let context = door.operations.context(PATIENCE);
    let cleared = async { door.operations.member()?.router.clear(&context, table).await };
    cleared.await.map(|()| Reply::OK).map_err(|failure| refusal::of(&failure))
}

/// How many keys of a slot there are.
pub async fn count_of_slot(door: &RespDoor, table: &str, slot: Slot) -> Result<u64, Failure> {
    let member = door.operations.member()?;
    let context = door.operations.context(PATIENCE);
    let bucket = member.router.known_table(&context, table).await?.buckets.bucket_of(slot);
    let (mut count, mut from) = (0, FromKey::First);
    loop {
        let page = member.router.keys_of_bucket(&context, table, bucket, from, MOST_KEYS).await?;
        count += page.items.iter().filter(|item| Slot::of_key(&item.key) == slot).count() as u64;
        match page.items.last().filter(|_| page.more) {
            Some(last) => from = FromKey::after(&last.key),
            None => return Ok(count),
        }
    }
}
