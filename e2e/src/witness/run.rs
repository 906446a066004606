//! Writes and reads until it is told to end, and judges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use client::{Client, Options, PutOptions, ScanOptions, Table};
use futures::StreamExt as _;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Settings;
use super::report::{Report, Sight, Verdict};
use crate::history::History;
use crate::history::guarded::Guarded;
use crate::pace::Paced;
use crate::workload::{Load, Running};

/// How soon the first write is tried again.
const AGAIN: Duration = Duration::from_millis(50);
/// The first write is given up and sent anew after this long: what it waits for may have gone.
const FIRST_WITHIN: Duration = Duration::from_secs(2);
/// How soon the counter is written again.
const COUNT_EVERY: Duration = Duration::from_millis(20);
/// The most errors and violations that are told.
const MOST_TOLD: usize = 20;
/// How long the scan at the end may take.
const SCAN_WITHIN: Duration = Duration::from_secs(60);
/// The key of a counter that one writer raises, for readers on other machines.
pub const COUNTER: &str = "witness/counter";
/// What the first write writes.
const FIRST: &str = "witness/first";

/// A witness at work.
pub struct Work {
    client: Client,
    table: Table,
    history: Arc<History>,
    load: Guarded<Option<Running>>,
    paced: Guarded<Option<Paced>>,
    counting: Guarded<Option<JoinHandle<()>>>,
    counted: Guarded<Vec<Sight>>,
    told: Guarded<Told>,
}

#[derive(Default)]
struct Told {
    first_write_at: Option<u64>,
    waiting: Option<String>,
    failed: u64,
    errors: Vec<String>,
}

impl Work {
    /// Connects as soon as there is something to connect to.
    pub fn new(settings: &Settings) -> anyhow::Result<Arc<Self>> {
        let client = Client::connect_lazy(vec![settings.endpoint.clone()], Options::default())?;
        let table = client.table(&settings.table).with_deadline(settings.deadline());
        Ok(Arc::new(Self {
            client,
            table,
            history: Arc::default(),
            load: Guarded::default(),
            paced: Guarded::default(),
            counting: Guarded::default(),
            counted: Guarded::default(),
            told: Guarded::default(),
        }))
    }

    /// Waits for the first write, then begins. What fails until then is no failure: the cluster
    /// and the table may still be coming into being.
    pub async fn begin(self: &Arc<Self>, settings: &Settings) {
        let patient = self.table.clone().with_deadline(FIRST_WITHIN);
        while let Err(error) = patient.put(FIRST, "1", PutOptions::default()).await {
            self.told.lock().waiting = Some(error.to_string());
            sleep(AGAIN).await;
        }
        {
            let mut told = self.told.lock();
            (told.first_write_at, told.waiting) = (Some(unix_millis()), None);
        }
        let load = Load {
            table: settings.table.clone(),
            keys: settings.keys,
            writers: settings.writers,
            readers: settings.readers,
            deadline: settings.deadline(),
            seed: settings.seed,
        };
        let rest = Duration::from_millis(settings.rest);
        let every = Duration::from_millis(settings.pace.max(1));
        *self.load.lock() = Some(load.begin_with(&self.client, Arc::clone(&self.history), rest));
        *self.paced.lock() = Some(Paced::begin(self.table.clone(), Arc::clone(&self.history), every));
        *self.counting.lock() = Some(tokio::spawn(Arc::clone(self).count()));
    }

    /// How it goes.
    pub fn report(&self) -> Report {
        self.note_errors();
        let counts = self.history.counts();
        let window = self.paced.lock().as_ref().map(Paced::window).unwrap_or_default();
        let told = self.told.lock();
        Report {
            first_write_at: told.first_write_at,
            waiting: told.waiting.clone(),
            acknowledged: counts.acknowledged as u64,
            not_done: counts.not_done as u64,
            unknown: counts.unknown as u64,
            reads: counts.seen as u64,
            failed_requests: told.failed,
            errors: told.errors.clone(),
            longest_gap_ms: millis(window.longest_gap),
            slowest_write_ms: millis(window.slowest),
        }
    }

    /// Begins to measure gaps anew, and gives the report up to now.
    pub fn mark(&self) -> Report {
        let report = self.report();
        if let Some(paced) = self.paced.lock().as_ref() {
            paced.mark();
        }
        report
    }

    /// The client, for what is asked of the cluster itself.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Those of a reader's sights that are older than what had been acknowledged when it asked.
    pub fn stale(&self, sights: &[Sight]) -> Vec<Sight> {
        let counted = self.counted.lock();
        let is_stale = |sight: &&Sight| {
            let known = counted.partition_point(|acknowledged| acknowledged.began < sight.began);
            let newest = known.checked_sub(1).and_then(|at| counted.get(at));
            newest.is_some_and(|newest| sight.count < newest.count)
        };
        sights.iter().filter(is_stale).copied().collect()
    }

    /// Ends, reads everything, and judges.
    pub async fn end(&self) -> Verdict {
        let before = self.report();
        let ended = self.stop().await;
        let looked = match ended {
            Ok(()) => self.look_at_all().await,
            Err(error) => Err(error),
        };
        let report = Report {
            longest_gap_ms: before.longest_gap_ms,
            slowest_write_ms: before.slowest_write_ms,
            ..self.report()
        };
        match looked {
            Ok(keys) => {
                let violations = self.history.violations();
                let told = violations.iter().take(MOST_TOLD).map(ToString::to_string).collect();
                Verdict { report, keys, violations: told, unjudged: None }
            }
            Err(error) => Verdict { report, unjudged: Some(format!("{error:#}")), ..Verdict::default() },
        }
    }

    async fn stop(&self) -> anyhow::Result<()> {
        let (load, paced, counting) =
            (self.load.lock().take(), self.paced.lock().take(), self.counting.lock().take());
        if let Some(counting) = counting {
            counting.abort();
        }
        let mut errors = Vec::new();
        if let Some(paced) = paced {
            errors.extend(paced.end().await?);
        }
        if let Some(load) = load {
            errors.extend(load.end().await?.1);
        }
        self.note(errors);
        Ok(())
    }

    /// Everything that is there, of the keys that the history is about.
    async fn look_at_all(&self) -> anyhow::Result<u64> {
        let began = self.history.now();
        let scan = self.table.clone().with_deadline(SCAN_WITHIN).scan(ScanOptions::default());
        let mut items = Box::pin(scan.items());
        let mut found = BTreeMap::new();
        while let Some(item) = items.next().await {
            let item = item.context("the scan at the end")?;
            let key = String::from_utf8_lossy(&item.key).into_owned();
            if !key.starts_with("witness/") {
                found.insert(key, (String::from_utf8_lossy(&item.value).into_owned(), item.version));
            }
        }
        let keys = found.len() as u64;
        self.history.saw_all(began, found);
        Ok(keys)
    }

    /// Raises the counter, and remembers when each number was acknowledged.
    async fn count(self: Arc<Self>) {
        let mut count = 0_u64;
        loop {
            count += 1;
            match self.table.put(COUNTER, count.to_string(), PutOptions::default()).await {
                Ok(_) => self.counted.lock().push(Sight { began: unix_millis(), count }),
                Err(error) => self.note(vec![format!("{COUNTER}: {error}")]),
            }
            sleep(COUNT_EVERY).await;
        }
    }

    fn note_errors(&self) {
        let mut errors = self.load.lock().as_ref().map(Running::take_errors).unwrap_or_default();
        errors.extend(self.paced.lock().as_ref().map(Paced::take_errors).unwrap_or_default());
        self.note(errors);
    }

    fn note(&self, errors: Vec<String>) {
        let mut told = self.told.lock();
        told.failed += errors.len() as u64;
        let room = MOST_TOLD.saturating_sub(told.errors.len());
        told.errors.extend(errors.into_iter().take(room));
    }
}

/// The time of day, by which witnesses on several machines compare what they saw.
pub fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
