//! Followers of a table beside those who write it, and what each has come to believe.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use client::{
    Changes, Error, Event, EventKind, Interest, Keys, PutOptions, ScanOptions, Table, WatchOptions,
};
use parking_lot::Mutex;
use rand::RngExt as _;
use rand::rngs::StdRng;

/// The keys of each writer.
const KEYS: u64 = 60;

/// What was acknowledged: of each key the versions that its writer was told, and whether a change
/// without a version (a delete) may lie between.
#[derive(Debug, Default)]
pub struct Told {
    /// Version, key and value of each put that was acknowledged.
    pub puts: BTreeMap<(String, u64), String>,
    /// Values that may have been written although nobody said so.
    pub maybe: BTreeSet<(String, String)>,
    /// How many deletes were.
    pub deletes: u64,
}

/// What a follower does beside following.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Nothing.
    Steady,
    /// It gives up again and again, and goes on by its last token.
    ByTokens,
    /// It takes its time while there are writers, so that it falls behind what is in memory.
    Slow,
    /// It begins with all items.
    WithItems,
}

/// Somebody who follows, and what it has come to believe.
pub struct Follower {
    name: &'static str,
    keys: Keys,
    whole: bool,
    belief: Arc<Mutex<Belief>>,
    /// How many changes it was told.
    pub events: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

#[derive(Debug, Default)]
struct Belief {
    /// Of each key its version and value.
    there: BTreeMap<String, (u64, String)>,
    /// The last revision that was told of each key.
    last: BTreeMap<String, u64>,
    puts: BTreeMap<(String, u64), String>,
    began: bool,
}

impl Follower {
    /// Begins to follow.
    pub async fn begin(
        name: &'static str,
        table: &Table,
        keys: Keys,
        kind: Kind,
        stop: &Arc<AtomicBool>,
        mut random: StdRng,
    ) -> anyhow::Result<Self> {
        let stop = Arc::clone(stop);
        let belief = Arc::new(Mutex::new(Belief::default()));
        let events = Arc::new(AtomicU64::new(0));
        let interest = Interest { before: true, ..Interest::new(7, keys.clone()) };
        let mut options = WatchOptions {
            interests: vec![interest],
            with_items: kind == Kind::WithItems,
            progress: Duration::from_millis(500),
            most_events: (kind == Kind::ByTokens).then_some(2),
            ..WatchOptions::default()
        };
        let mut watch = table.watch(options.clone());
        watch.begin().await?;
        let (table, believed, counted) = (table.clone(), Arc::clone(&belief), Arc::clone(&events));
        let task = tokio::spawn(async move {
            let mut until_next = random.random_range(1..20);
            loop {
                let changes = match watch.next().await {
                    Ok(changes) => changes,
                    Err(Error::Unavailable(_) | Error::DeadlineExceeded(_)) => continue,
                    Err(error) => return Err(error.into()),
                };
                counted.fetch_add(changes.events.len() as u64, Ordering::AcqRel);
                believed.lock().take(&changes)?;
                if kind == Kind::Slow && !changes.events.is_empty() && !stop.load(Ordering::Acquire) {
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
                until_next -= 1;
                if kind == Kind::ByTokens && until_next == 0 && !changes.token.is_empty() {
                    options.token = changes.token;
                    watch = table.watch(options.clone());
                    until_next = random.random_range(1..20);
                }
            }
        });
        Ok(Self { name, keys, whole: kind != Kind::WithItems, belief, events, task })
    }

    fn follows(&self, key: &str) -> bool {
        match &self.keys {
            Keys::All => true,
            Keys::Key(this) => this == key.as_bytes(),
            Keys::Prefix(prefix) => key.as_bytes().starts_with(prefix),
            Keys::Range(start, end) => start <= key.as_bytes() && key.as_bytes() < &end[..],
        }
    }

    /// Whether what it believes is what is there.
    pub fn agrees(&self, there: &BTreeMap<String, (u64, String)>) -> anyhow::Result<()> {
        ensure!(!self.task.is_finished(), "{}: it has ended", self.name);
        let belief = self.belief.lock();
        let wanted: BTreeMap<_, _> = there.iter().filter(|(key, _)| self.follows(key)).collect();
        let found: BTreeMap<_, _> = belief.there.iter().collect();
        let differs = wanted.iter().find(|(key, item)| found.get(*key) != Some(*item));
        if let Some((key, item)) = differs {
            bail!("{}: {key} is {item:?} and is believed to be {:?}", self.name, found.get(*key));
        }
        let extra = found.keys().find(|key| !wanted.contains_key(*key));
        ensure!(extra.is_none(), "{}: {extra:?} is believed to be there", self.name);
        Ok(())
    }

    /// Ends it, and compares what it was told with what was written.
    pub async fn end(mut self, told: &Told) -> anyhow::Result<()> {
        self.task.abort();
        let failed = (&mut self.task).await;
        if let Ok(result) = failed {
            result.with_context(|| format!("{}: it has ended", self.name))?;
        }
        let belief = self.belief.lock();
        for (put, value) in told.puts.iter().filter(|((key, _), _)| self.whole && self.follows(key)) {
            ensure!(belief.puts.get(put) == Some(value), "{}: {put:?} was not told", self.name);
        }
        for ((key, version), value) in &belief.puts {
            let acknowledged = told.puts.contains_key(&(key.clone(), *version));
            let doubtful = told.maybe.contains(&(key.clone(), value.clone()));
            ensure!(acknowledged || doubtful, "{}: {key} {version} was never written", self.name);
        }
        Ok(())
    }
}

impl Belief {
    fn take(&mut self, changes: &Changes) -> anyhow::Result<()> {
        if changes.begun_again {
            *self = Self::default();
        }
        self.began |= !changes.events.is_empty();
        for event in &changes.events {
            self.take_one(event).with_context(|| format!("{event:?}"))?;
        }
        Ok(())
    }

    fn take_one(&mut self, event: &Event) -> anyhow::Result<()> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec());
        ensure!(event.interests == [7], "of interests {:?}", event.interests);
        let key = text(&event.key)?;
        let last = self.last.insert(key.clone(), event.revision).unwrap_or(0);
        ensure!(event.revision > last, "{} follows {last}", event.revision);
        let was = self.there.get(&key).cloned();
        match event.kind() {
            EventKind::Put | EventKind::Item => {
                let item = event.item.as_ref().context("nothing was put")?;
                ensure!(item.version == event.revision, "version {}", item.version);
                let value = text(&item.value)?;
                if event.kind() == EventKind::Put {
                    self.puts.insert((key.clone(), item.version), value.clone());
                }
                self.there.insert(key, (item.version, value));
            }
            EventKind::Delete | EventKind::Expire => {
                ensure!(event.item.is_none(), "something is left");
                let before = event.before.as_ref().context("nothing was there before")?;
                let version = was.as_ref().map(|(version, _)| *version);
                ensure!(version.is_none_or(|version| version == before.version), "{was:?} was there");
                self.there.remove(&key);
            }
            EventKind::Clear => bail!("nobody clears"),
        }
        Ok(())
    }
}

/// Puts and deletes keys of its own until it is stopped.
pub async fn write(
    writer: u64,
    table: Table,
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
    mut random: StdRng,
) -> anyhow::Result<()> {
    let mut count = 0_u64;
    while !stop.load(Ordering::Acquire) {
        count += 1;
        let brief = random.random_bool(0.1);
        let of = if brief { "brief-" } else { "" };
        let key = format!("w{writer}-{of}{}", random.random_range(0..KEYS));
        if random.random_bool(0.2) {
            match table.delete(key.clone(), None).await {
                Ok(_) => told.lock().deletes += 1,
                Err(Error::OutcomeUnknown(_) | Error::Unavailable(_) | Error::DeadlineExceeded(_)) => {}
                Err(error) => return Err(error.into()),
            }
            continue;
        }
        let value = format!("{writer}.{count}");
        let ttl = brief.then(|| Duration::from_millis(random.random_range(50..500)));
        match table.put(key.clone(), value.clone(), PutOptions { ttl, ..PutOptions::default() }).await {
            Ok(put) => drop(told.lock().puts.insert((key, put.version), value)),
            Err(Error::OutcomeUnknown(_) | Error::Unavailable(_) | Error::DeadlineExceeded(_)) => {
                told.lock().maybe.insert((key, value));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// All items of a table.
pub async fn contents(table: &Table) -> anyhow::Result<BTreeMap<String, (u64, String)>> {
    let mut scan = table.scan(ScanOptions::default());
    let mut all = BTreeMap::new();
    while let Some(page) = scan.next_page().await {
        for item in page?.items {
            let value = String::from_utf8(item.value.to_vec())?;
            all.insert(String::from_utf8(item.key.to_vec())?, (item.version, value));
        }
    }
    Ok(all)
}
