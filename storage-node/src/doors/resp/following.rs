//! What feeds a connection's subscriptions: a watch of one table, whose interests follow them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::v1::error_detail::Detail;
use proto::v1::interest::Which;
use proto::v1::{BeginWatch, Event, Failure, Interest};

use super::RespDoor;
use super::subscriptions::Subscriptions;
use crate::watch::Watch;

/// How long beginning may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a watch broke, another is begun this much later.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What feeds a connection's subscriptions.
pub struct Following {
    door: RespDoor,
    table: Arc<str>,
    /// None: it broke, and is begun again.
    watch: Option<Watch>,
    /// Where it stood.
    token: Bytes,
    interests: BTreeMap<Vec<u8>, Interest>,
    next_id: u64,
    /// What has happened and was not taken yet.
    events: VecDeque<Event>,
}

impl Following {
    /// Follows what the subscriptions are for, from now on.
    pub async fn begin(
        door: RespDoor,
        table: Arc<str>,
        subscriptions: &Subscriptions,
    ) -> Result<Self, Failure> {
        let mut following = Self {
            door,
            table,
            watch: None,
            token: Bytes::new(),
            interests: BTreeMap::new(),
            next_id: 0,
            events: VecDeque::new(),
        };
        following.follow(subscriptions)?;
        following.watch = Some(following.watch().await?);
        Ok(following)
    }

    /// The table that is followed.
    pub fn table(&self) -> &Arc<str> {
        &self.table
    }

    /// Follows what the subscriptions are for by now.
    pub fn follow(&mut self, subscriptions: &Subscriptions) -> Result<(), Failure> {
        let wanted = subscriptions.interests(&self.table);
        let wanted: BTreeMap<Vec<u8>, Interest> =
            wanted.into_iter().map(|interest| (name(&interest), interest)).collect();
        let gone: Vec<Vec<u8>> =
            self.interests.keys().filter(|known| !wanted.contains_key(*known)).cloned().collect();
        for (name, interest) in wanted {
            if self.interests.contains_key(&name) {
                continue;
            }
            self.next_id += 1;
            let interest = Interest { id: self.next_id, ..interest };
            if let Some(watch) = &mut self.watch {
                watch.add(interest.clone())?;
            }
            self.interests.insert(name, interest);
        }
        for name in gone {
            if let (Some(interest), Some(watch)) = (self.interests.remove(&name), &mut self.watch) {
                watch.remove(interest.id)?;
            }
        }
        Ok(())
    }

    /// What has happened already and was not taken yet.
    pub fn waiting(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What happens next. Nothing is lost when this is dropped before it is there.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let Some(watch) = &mut self.watch else {
                tokio::time::sleep(AGAIN_AFTER).await;
                match self.watch().await {
                    Ok(watch) => self.watch = Some(watch),
                    // Nobody is promised that nothing is missed.
                    Err(failure) if is_over(&failure) => self.token = Bytes::new(),
                    Err(_) => {}
                }
                continue;
            };
            match watch.next().await {
                Ok(response) => {
                    self.token = response.token;
                    self.events = response.events.into();
                }
                Err(failure) => {
                    if is_over(&failure) {
                        self.token = Bytes::new();
                    }
                    self.watch = None;
                }
            }
        }
    }

    async fn watch(&self) -> Result<Watch, Failure> {
        let operations = &self.door.operations;
        let begin = BeginWatch {
            table: self.table.to_string(),
            token: self.token.clone(),
            with_items: false,
            interests: self.interests.values().cloned().collect(),
            progress_ms: 0,
            most_events: 0,
        };
        Watch::begin(&operations.member()?.router, &operations.context(PATIENCE), begin).await
    }
}

/// Whether there is nothing to go on with.
fn is_over(failure: &Failure) -> bool {
    matches!(failure.reason(), Some(Detail::Compacted(_) | Detail::BadToken(_)))
}

/// What tells interests apart.
fn name(interest: &Interest) -> Vec<u8> {
    match &interest.which {
        Some(Which::Key(key)) => [&b"k"[..], key].concat(),
        Some(Which::Prefix(prefix)) => [&b"p"[..], prefix].concat(),
        Some(Which::Range(_)) | None => Vec::new(),
    }
}
