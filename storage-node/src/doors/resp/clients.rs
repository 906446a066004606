//! The connections of the Redis doors, as CLIENT shows and ends them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::seams::clock;

/// All of them.
#[derive(Debug, Default)]
pub struct Clients {
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Commands that were ever carried out.
    pub commands: AtomicU64,
}

/// One of them.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: u64,
    /// Where it came from.
    pub from: String,
    /// Where it came to.
    pub to: String,
    began: Instant,
    /// Ends it.
    pub kill: CancellationToken,
    /// What changes.
    pub now: Mutex<Now>,
}

/// What changes of a connection.
#[derive(Debug, Clone)]
pub struct Now {
    /// The name that it gave itself.
    pub name: String,
    /// Its library, as it says.
    pub library: String,
    /// That one's version.
    pub library_version: String,
    /// Its table.
    pub table: String,
    /// Its last command.
    pub command: &'static str,
    /// When that was.
    pub used: Instant,
    /// How many commands are queued; none outside of MULTI.
    pub queued: Option<usize>,
    /// How many keys it watches.
    pub watched: usize,
    /// 2 or 3.
    pub version: u8,
}

/// Takes a connection out of the list when it ends.
#[derive(Debug)]
pub struct Listed {
    clients: Arc<Clients>,
    /// The connection.
    pub client: Arc<Client>,
}

impl Clients {
    /// Lists one more.
    pub fn list(self: &Arc<Self>, id: u64, from: String, to: String, table: &str) -> Listed {
        let now = Now {
            name: String::new(),
            library: String::new(),
            library_version: String::new(),
            table: table.to_owned(),
            command: "NULL",
            used: clock::now(),
            queued: None,
            watched: 0,
            version: 2,
        };
        let client = Arc::new(Client {
            id,
            from,
            to,
            began: clock::now(),
            kill: CancellationToken::new(),
            now: Mutex::new(now),
        });
        self.all.lock().insert(id, Arc::clone(&client));
        Listed { clients: Arc::clone(self), client }
    }

    /// All, oldest first.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.all.lock().values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.lock().len()
    }

    /// Counts commands.
    pub fn count_commands(&self, more: u64) {
        self.commands.fetch_add(more, Ordering::Relaxed);
    }
}

impl Client {
    /// The line that CLIENT LIST shows.
    pub fn line(&self) -> String {
        let now = self.now.lock().clone();
        let seconds = |since: Duration| since.as_secs();
        let multi = now.queued.map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX));
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db={} sub=0 psub=0 ssub=0 multi={multi} watch={} qbuf=0 \
             qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} user=default \
             redir=-1 resp={} lib-name={} lib-ver={}\n",
            self.id,
            self.from,
            self.to,
            now.name,
            seconds(self.began.elapsed()),
            seconds(now.used.elapsed()),
            if now.queued.is_some() { "x" } else { "N" },
            if now.table == super::DEFAULT_TABLE { "0" } else { now.table.as_str() },
            now.watched,
            now.command,
            now.version,
            now.library,
            now.library_version,
        )
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.clients.all.lock().remove(&self.client.id);
    }
}
