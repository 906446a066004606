//! What a connection remembers, and what it does with each request.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use placement::Slot;

use super::clients::Listed;
use super::commands::{self, Does, Plan, Spec, Verb, is, word};
use super::following::Following;
use super::outlet::{Outlet, Stuck};
use super::parse::Request;
use super::reply::{Reply, Version};
use super::run::{PATIENCE, Run};
use super::subscriptions::{self, Subscriptions};
use super::transaction::{self, Queue, Queued, Watched};
use super::{DEFAULT_TABLE, RespDoor, about, answers, cluster, refusal, walk};
use crate::partition::operations::keys_of;
use crate::seams::clock;

/// Keys that a connection watches at once.
const MOST_WATCHED: usize = 1000;
/// Of news so much is sent at once. Many patterns make much of one event.
const NEWS_BYTES: usize = 64 << 10;

/// Which replies a client wants to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    /// All.
    On,
    /// None.
    Off,
    /// All but the next.
    SkipNext,
}

/// A connection's memory.
pub struct Session {
    /// The door that it came in by.
    pub door: RespDoor,
    listed: Listed,
    version: Version,
    table: Arc<str>,
    replies: Replies,
    queue: Option<Queue>,
    watched: Vec<Watched>,
    run: Run,
    subscriptions: Subscriptions,
    following: Option<Following>,
    over: bool,
}

impl Session {
    /// A new connection's.
    pub fn new(door: RespDoor, listed: Listed) -> Self {
        Self {
            door,
            listed,
            version: Version::default(),
            table: DEFAULT_TABLE.into(),
            replies: Replies::On,
            queue: None,
            watched: Vec::new(),
            run: Run::default(),
            subscriptions: Subscriptions::default(),
            following: None,
            over: false,
        }
    }

    /// Whether the connection is to be closed.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What it holds.
    pub fn held(&self) -> usize {
        self.queue.as_ref().map_or(0, Queue::held)
    }

    /// Carries out a request, or lets it wait for those that come with it.
    pub async fn take(&mut self, words: Request, out: &mut Outlet<'_>) -> Result<(), Stuck> {
        self.door.shared.clients.count_commands(1);
        let spec = words.first().and_then(|name| commands::find(name));
        self.note(spec);
        let wrong_part = spec.and_then(|spec| commands::subcommand_error(spec, &words));
        let reply = match (spec, wrong_part) {
            // A browser that was made to send a request here would go on with its body.
            (None, _) if words.first().is_some_and(|name| is(name, "POST") || is(name, "Host:")) => {
                self.finish(out).await?;
                self.over = true;
                return Ok(());
            }
            (None, _) => self.refuse(commands::unknown(&words)),
            (Some(spec), _) if !spec.takes(words.len()) => self.refuse_arity(spec),
            (Some(_), Some(refused)) => self.refuse(refused),
            (Some(spec), None) if self.only_listens() && !may_be_asked_while_listening(spec) => {
                let name = spec.name;
                Reply::err(format!(
                    "Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
                     allowed in this context"
                ))
            }
            (Some(spec), None) if self.queue.is_some() && !is_of_transactions(spec) => {
                self.enqueue(spec, words)
            }
            (Some(spec), None) => match spec.does {
                Does::Keys(parse) => match parse(&words).and_then(|plan| self.allowed(plan)) {
                    Ok(plan) if self.replies == Replies::On => {
                        self.run.push(plan);
                        if self.run.is_full() {
                            self.finish(out).await?;
                        }
                        return Ok(());
                    }
                    Ok(plan) => {
                        // Not wanted, but to be done.
                        let mut unseen = BytesMut::new();
                        self.run.push(plan);
                        self.finish(&mut Outlet::nowhere(&mut unseen)).await?;
                        if self.replies == Replies::SkipNext {
                            self.replies = Replies::On;
                        }
                        return Ok(());
                    }
                    Err(refused) => refused,
                },
                Does::Connection(verb) => {
                    self.finish(out).await?;
                    match self.connection(verb, &words).await {
                        Ok(Some(reply)) | Err(reply) => reply,
                        Ok(None) => return Ok(()),
                    }
                }
            },
        };
        self.answer(reply, out.bytes);
        Ok(())
    }

    /// Carries out what has gathered.
    pub async fn finish(&mut self, out: &mut Outlet<'_>) -> Result<(), Stuck> {
        if self.run.is_empty() {
            return Ok(());
        }
        self.run.finish(&self.door.operations, &self.table, self.version, out).await
    }

    fn answer(&mut self, reply: Reply, out: &mut BytesMut) {
        match self.replies {
            Replies::On if self.run.is_empty() => reply.write(self.version, out),
            Replies::On => self.run.push_known(reply),
            Replies::Off => {}
            Replies::SkipNext => self.replies = Replies::On,
        }
    }

    fn note(&self, spec: Option<&Spec>) {
        let mut now = self.listed.client.now.lock();
        now.used = clock::now();
        now.command = spec.map_or("unknown", |spec| spec.name);
    }

    /// An EXEC that is refused ends its transaction, as in Redis.
    fn refuse_arity(&mut self, spec: &Spec) -> Reply {
        let refused = spec.wrong_arity();
        match (spec.does, &refused) {
            (Does::Connection(Verb::Exec), Reply::Error(message)) => {
                self.queue = None;
                self.listed.client.now.lock().queued = None;
                self.forget_watched();
                let why = message.trim_start_matches("ERR ");
                Reply::Error(format!("EXECABORT Transaction discarded because of: {why}"))
            }
            _ => self.refuse(refused),
        }
    }

    fn refuse(&mut self, reply: Reply) -> Reply {
        if let Some(queue) = &mut self.queue {
            queue.failed = true;
        }
        reply
    }

    fn enqueue(&mut self, spec: &Spec, words: Request) -> Reply {
        let bytes = words.iter().map(|word| word.len() + 64).sum();
        let queued = match spec.does {
            Does::Keys(parse) => parse(&words).and_then(|plan| self.allowed(plan)).map(Queued::Keys),
            Does::Connection(verb) if may_be_queued(verb) => Ok(Queued::Connection(verb, words)),
            Does::Connection(_) => {
                let name = spec.name.to_uppercase();
                Err(Reply::err(format!("{name} is not allowed in a transaction")))
            }
        };
        let reply = match (queued, &mut self.queue) {
            (Ok(queued), Some(queue)) => queue.push(queued, bytes),
            (Ok(_), None) => Reply::err("there is no transaction"),
            (Err(refused), _) => return self.refuse_in_queue(refused),
        };
        let count = self.queue.as_ref().map(|queue| queue.queued.len());
        self.listed.client.now.lock().queued = count;
        reply
    }

    /// Redis looks at a queued command's arguments only when it is carried out.
    fn refuse_in_queue(&mut self, refused: Reply) -> Reply {
        let redirect = matches!(&refused, Reply::Error(text) if !text.starts_with("ERR "));
        match &mut self.queue {
            Some(queue) if !redirect => queue.push(Queued::Keys(Plan::refused(refused)), 64),
            _ => self.refuse(refused),
        }
    }

    /// In cluster mode a command must be for keys of one slot that this node leads.
    fn allowed(&self, plan: Plan) -> Result<Plan, Reply> {
        if !self.door.redirects() {
            return Ok(plan);
        }
        let mut slots = plan.operations.iter().flat_map(keys_of).map(|key| Slot::of_key(key));
        let Some(first) = slots.next() else { return Ok(plan) };
        if slots.any(|slot| slot != first) {
            return Err(refusal::cross_slot());
        }
        match cluster::elsewhere(&self.door, first) {
            Some(redirect) => Err(redirect),
            None => Ok(plan),
        }
    }

    /// What a connection does itself; no reply where the client wants none.
    async fn connection(&mut self, verb: Verb, words: &[Bytes]) -> Result<Option<Reply>, Reply> {
        let door = &self.door;
        let reply = match verb {
            Verb::Ping if self.only_listens() => {
                answers::ping(words)?;
                Reply::Array(vec![
                    Reply::bulk("pong"),
                    Reply::Bulk(words.get(1).cloned().unwrap_or_default()),
                ])
            }
            Verb::Ping => answers::ping(words)?,
            Verb::Subscribe => self.subscribe(words, false).await?,
            Verb::PSubscribe => self.subscribe(words, true).await?,
            Verb::Unsubscribe => self.unsubscribe(words, false)?,
            Verb::PUnsubscribe => self.unsubscribe(words, true)?,
            Verb::Echo => Reply::Bulk(words.get(1).cloned().unwrap_or_default()),
            Verb::Time => answers::time(),
            Verb::Role => {
                Reply::Array(vec![Reply::bulk("master"), Reply::Integer(0), Reply::Array(Vec::new())])
            }
            Verb::Auth => {
                return Err(Reply::err(
                    "AUTH <password> called without any password configured for the default user. \
                     Are you sure your configuration is correct?",
                ));
            }
            Verb::Asking | Verb::ReadOnly | Verb::ReadWrite => Reply::OK,
            Verb::Debug => return Err(Reply::err("DEBUG is not allowed here")),
            Verb::FlushAll => {
                return Err(Reply::err("FLUSHALL is not allowed here: FLUSHDB clears the selected table"));
            }
            Verb::Command => answers::command(words)?,
            Verb::Config => answers::config(door, words)?,
            Verb::Info => about::info(door, words).await,
            Verb::Cluster => cluster::answer(door, words).await?,
            Verb::Wait => answers::wait(door, &self.table, words)?,
            Verb::Scan => walk::scan(door, &self.table, words).await?,
            Verb::Keys => walk::keys(door, &self.table, words).await?,
            Verb::RandomKey => walk::random_key(door, &self.table).await?,
            Verb::DbSize => walk::count(door, &self.table).await?,
            Verb::FlushDb => walk::clear(door, &self.table, words).await?,
            Verb::Client => return self.client(words),
            Verb::Hello => self.hello(words)?,
            Verb::Select => self.select(words).await?,
            Verb::Reset => self.reset(),
            Verb::Quit => {
                self.over = true;
                Reply::OK
            }
            Verb::Watch => self.watch(words).await?,
            Verb::Unwatch => {
                self.forget_watched();
                Reply::OK
            }
            Verb::Multi => self.multi()?,
            Verb::Discard => self.discard()?,
            Verb::Exec => self.exec().await?,
        };
        Ok(Some(reply))
    }

    /// Whether nothing but messages may be sent: in RESP2 they cannot be told from replies.
    fn only_listens(&self) -> bool {
        self.version == Version::Resp2 && self.subscriptions.count() > 0
    }

    async fn subscribe(&mut self, words: &[Bytes], pattern: bool) -> Result<Reply, Reply> {
        let asked: Vec<Bytes> = words.iter().skip(1).cloned().collect();
        if self.subscriptions.count() + asked.len() > subscriptions::MOST {
            let most = subscriptions::MOST;
            return Err(Reply::err(format!("a connection has at most {most} subscriptions")));
        }
        let table = self.following.as_ref().map_or(&self.table, Following::table);
        if let Some(other) = asked.iter().find(|channel| !pattern && !subscriptions::is_told(channel, table))
        {
            let other = String::from_utf8_lossy(other);
            return Err(Reply::err(format!(
                "there is no channel '{other}' here, only __keyspace@0__:KEY and __keyevent@0__:EVENT, with the name of \
                 another table instead of 0 where that is selected"
            )));
        }
        let word = if pattern { "psubscribe" } else { "subscribe" };
        let mut replies = Vec::with_capacity(asked.len());
        for channel in asked {
            self.subscriptions.add(channel.clone(), pattern);
            replies.push(confirmed(word, Some(channel), self.subscriptions.count()));
        }
        let followed = match &mut self.following {
            Some(following) => following.follow(&self.subscriptions),
            None => {
                let (door, table) = (self.door.clone(), Arc::clone(&self.table));
                Following::begin(door, table, &self.subscriptions).await.map(|begun| {
                    self.following = Some(begun);
                })
            }
        };
        if let Err(failure) = followed {
            self.forget_subscriptions();
            return Err(refusal::of(&failure));
        }
        Ok(Reply::Each(replies))
    }

    fn unsubscribe(&mut self, words: &[Bytes], pattern: bool) -> Result<Reply, Reply> {
        let asked: Vec<Bytes> = match words.len() {
            0 | 1 => self.subscriptions.all(pattern),
            _ => words.iter().skip(1).cloned().collect(),
        };
        let word = if pattern { "punsubscribe" } else { "unsubscribe" };
        if asked.is_empty() {
            return Ok(confirmed(word, None, self.subscriptions.count()));
        }
        let mut replies = Vec::with_capacity(asked.len());
        for channel in asked {
            self.subscriptions.remove(&channel, pattern);
            replies.push(confirmed(word, Some(channel), self.subscriptions.count()));
        }
        if self.subscriptions.count() == 0 {
            self.following = None;
        } else if let Some(following) = &mut self.following {
            following.follow(&self.subscriptions).map_err(|failure| refusal::of(&failure))?;
        }
        Ok(Reply::Each(replies))
    }

    fn forget_subscriptions(&mut self) {
        self.subscriptions = Subscriptions::default();
        self.following = None;
    }

    /// Whether it is sent what it has subscribed to.
    pub fn listens(&self) -> bool {
        self.following.is_some()
    }

    /// What happens to keys that were subscribed to, as it is sent, some of it at a time. Nothing is lost
    /// when this is dropped before it is there.
    pub async fn news(&mut self, out: &mut BytesMut) {
        let Some(following) = &mut self.following else { return std::future::pending().await };
        let table = Arc::clone(following.table());
        let mut next = Some(following.next().await);
        while let Some(event) = next {
            for message in self.subscriptions.messages(&table, &event) {
                message.reply().write(self.version, out);
            }
            next = if out.len() < NEWS_BYTES { following.waiting() } else { None };
        }
    }

    fn hello(&mut self, words: &[Bytes]) -> Result<Reply, Reply> {
        let mut options = words.iter().skip(1);
        let mut version = self.version;
        if let Some(asked) = options.next() {
            version = match &asked[..] {
                b"2" => Version::Resp2,
                b"3" => Version::Resp3,
                other if commands::integer(other).is_ok() => {
                    return Err(Reply::Error("NOPROTO unsupported protocol version".to_owned()));
                }
                _ => return Err(Reply::err("Protocol version is not an integer or out of range")),
            };
        }
        let mut name = None;
        while let Some(option) = options.next() {
            if is(option, "SETNAME") {
                name = Some(answers::client_name(options.next().ok_or_else(commands::syntax_error)?)?);
            } else if is(option, "AUTH") {
                let (user, password) = (options.next(), options.next());
                // There are no users: whoever comes as the default one is let in as anybody is.
                let known = user.is_some_and(|user| is(user, "default")) && password.is_some();
                if !known {
                    return Err(Reply::Error(
                        "WRONGPASS invalid username-password pair or user is disabled.".to_owned(),
                    ));
                }
            } else {
                let option = String::from_utf8_lossy(option);
                return Err(Reply::err(format!("Syntax error in HELLO option '{option}'")));
            }
        }
        self.version = version;
        let mut now = self.listed.client.now.lock();
        now.version = if version == Version::Resp3 { 3 } else { 2 };
        if let Some(name) = name {
            now.name = name;
        }
        Ok(answers::hello(now.version, self.listed.client.id, self.door.redirects()))
    }

    async fn select(&mut self, words: &[Bytes]) -> Result<Reply, Reply> {
        let name = String::from_utf8_lossy(&word(words, 1)).into_owned();
        let name = if name == "0" { DEFAULT_TABLE.to_owned() } else { name };
        if name != DEFAULT_TABLE {
            if self.door.redirects() {
                return Err(Reply::err("SELECT is not allowed in cluster mode"));
            }
            if !self.watched.is_empty() {
                return Err(Reply::err("UNWATCH the keys of this table before another is selected"));
            }
            let member = self.door.operations.member().map_err(|failure| refusal::of(&failure))?;
            if let Err(failure) =
                member.router.known_table(&self.door.operations.context(PATIENCE), &name).await
            {
                let out_of_range = commands::integer(name.as_bytes()).is_ok();
                return Err(if out_of_range {
                    Reply::err("DB index is out of range")
                } else {
                    refusal::of(&failure)
                });
            }
        }
        self.listed.client.now.lock().table.clone_from(&name);
        self.table = name.into();
        Ok(Reply::OK)
    }

    fn reset(&mut self) -> Reply {
        self.queue = None;
        self.forget_watched();
        self.forget_subscriptions();
        self.version = Version::default();
        self.replies = Replies::On;
        self.table = DEFAULT_TABLE.into();
        let mut now = self.listed.client.now.lock();
        now.queued = None;
        now.name.clear();
        now.version = 2;
        DEFAULT_TABLE.clone_into(&mut now.table);
        Reply::Status("RESET")
    }

    fn client(&mut self, words: &[Bytes]) -> Result<Option<Reply>, Reply> {
        if is(&word(words, 1), "REPLY") {
            let wanted = &word(words, 2);
            self.replies = match () {
                () if is(wanted, "ON") => Replies::On,
                () if is(wanted, "OFF") => Replies::Off,
                // Its own reply is not wanted either, and `answer` is not called for it.
                () if is(wanted, "SKIP") => {
                    if self.replies == Replies::On {
                        self.replies = Replies::SkipNext;
                    }
                    return Ok(None);
                }
                () => return Err(commands::syntax_error()),
            };
            return Ok((self.replies == Replies::On).then_some(Reply::OK));
        }
        answers::client(&self.door, &self.listed.client, words).map(Some)
    }

    async fn watch(&mut self, words: &[Bytes]) -> Result<Reply, Reply> {
        if self.queue.is_some() {
            return Err(Reply::err("WATCH inside MULTI is not allowed"));
        }
        let new: Vec<Bytes> = words
            .iter()
            .skip(1)
            .filter(|key| !self.watched.iter().any(|known| known.0 == **key))
            .cloned()
            .collect();
        if self.watched.len() + new.len() > MOST_WATCHED {
            return Err(Reply::err(format!("a connection watches at most {MOST_WATCHED} keys")));
        }
        if self.door.redirects() {
            let slots: Vec<Slot> = words.iter().skip(1).map(|key| Slot::of_key(key)).collect();
            if slots.windows(2).any(|pair| pair.first() != pair.last()) {
                return Err(refusal::cross_slot());
            }
            if let Some(redirect) = slots.first().and_then(|slot| cluster::elsewhere(&self.door, *slot)) {
                return Err(redirect);
            }
        }
        let versions = transaction::versions(&self.door.operations, &self.table, new).await?;
        self.watched.extend(versions);
        self.listed.client.now.lock().watched = self.watched.len();
        Ok(Reply::OK)
    }

    fn forget_watched(&mut self) {
        self.watched.clear();
        self.listed.client.now.lock().watched = 0;
    }

    fn multi(&mut self) -> Result<Reply, Reply> {
        if self.queue.is_some() {
            return Err(Reply::err("MULTI calls can not be nested"));
        }
        self.queue = Some(Queue::default());
        self.listed.client.now.lock().queued = Some(0);
        Ok(Reply::OK)
    }

    fn discard(&mut self) -> Result<Reply, Reply> {
        self.queue.take().ok_or_else(|| Reply::err("DISCARD without MULTI"))?;
        self.forget_watched();
        self.listed.client.now.lock().queued = None;
        Ok(Reply::OK)
    }

    async fn exec(&mut self) -> Result<Reply, Reply> {
        let queue = self.queue.take().ok_or_else(|| Reply::err("EXEC without MULTI"))?;
        let watched = std::mem::take(&mut self.watched);
        {
            let mut now = self.listed.client.now.lock();
            now.queued = None;
            now.watched = 0;
        }
        if queue.failed {
            let message = "EXECABORT Transaction discarded because of previous errors.";
            return Err(Reply::Error(message.to_owned()));
        }
        let mut plans = Vec::new();
        let mut places = Vec::with_capacity(queue.queued.len());
        for queued in queue.queued {
            match queued {
                Queued::Keys(Plan { refused: Some(refused), .. }) => places.push(Place::Known(refused)),
                Queued::Keys(plan) => {
                    plans.push(plan);
                    places.push(Place::Next);
                }
                Queued::Connection(verb, words) => places.push(Place::Connection(verb, words)),
            }
        }
        let done = transaction::execute(&self.door.operations, &self.table, watched, plans).await?;
        let Some(done) = done else { return Ok(Reply::NullArray) };
        let mut done = done.into_iter();
        let mut replies = Vec::with_capacity(places.len());
        for place in places {
            replies.push(match place {
                Place::Known(reply) => reply,
                Place::Next => done.next().unwrap_or(Reply::Null),
                Place::Connection(verb, words) => match Box::pin(self.connection(verb, &words)).await {
                    Ok(reply) => reply.unwrap_or(Reply::OK),
                    Err(reply) => reply,
                },
            });
        }
        Ok(Reply::Array(replies))
    }
}

/// A place among the replies of a transaction.
enum Place {
    Known(Reply),
    /// The next of the commands on keys.
    Next,
    Connection(Verb, Request),
}

fn is_of_transactions(spec: &Spec) -> bool {
    matches!(
        spec.does,
        Does::Connection(Verb::Exec | Verb::Discard | Verb::Multi | Verb::Watch | Verb::Quit | Verb::Reset)
    )
}

fn may_be_queued(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Ping
            | Verb::Echo
            | Verb::Time
            | Verb::Role
            | Verb::Client
            | Verb::Command
            | Verb::Config
            | Verb::Info
            | Verb::Cluster
            | Verb::Wait
            | Verb::Unwatch
            | Verb::ReadOnly
            | Verb::ReadWrite
            | Verb::Asking
            | Verb::Debug
            | Verb::FlushAll
            | Verb::Auth
    )
}

fn confirmed(word: &'static str, channel: Option<Bytes>, count: usize) -> Reply {
    let channel = channel.map_or(Reply::Null, Reply::Bulk);
    Reply::Push(vec![Reply::bulk(word), channel, Reply::count(count)])
}

fn may_be_asked_while_listening(spec: &Spec) -> bool {
    matches!(
        spec.does,
        Does::Connection(
            Verb::Subscribe
                | Verb::PSubscribe
                | Verb::Unsubscribe
                | Verb::PUnsubscribe
                | Verb::Ping
                | Verb::Quit
                | Verb::Reset
        )
    )
}
