//! One connection: what arrives is parsed and carried out, and the replies go back before more is
//! read, so that a client that does not fetch its replies is not listened to either.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::RespDoor;
use super::outlet::{Outlet, Stuck};
use super::parse::{Parser, Request};
use super::reply::{Reply, Version};
use super::session::Session;
use crate::doors::connections::{Duplex, Slot, TooMuchHeld};

/// What is read at once.
const READ_BYTES: usize = 16 << 10;
/// Buffers that have grown beyond this are given back.
const KEEP_BYTES: usize = 64 << 10;
/// What a request may hold besides one value of the largest size.
const REQUEST_SPARE: usize = 24 << 20;

/// Talks with a client until either has enough.
pub async fn converse(door: RespDoor, stream: Box<dyn Duplex>, slot: Slot, stop: CancellationToken) {
    let limits = door.operations.node().config.limits;
    let idle = door.operations.node().config.doors.connection_idle_timeout;
    let listed = door.shared.clients.list(slot.id, slot.from.clone(), door.at.clone(), super::DEFAULT_TABLE);
    let kill = listed.client.kill.clone();
    let mut conversation = Conversation {
        stream,
        slot,
        parser: Parser::new(limits.max_value_bytes, limits.max_value_bytes + REQUEST_SPARE),
        input: BytesMut::with_capacity(READ_BYTES),
        output: BytesMut::new(),
        session: Session::new(door, listed),
        idle: (!idle.is_zero()).then_some(idle),
    };
    tokio::select! {
        _ = conversation.run(&stop) => {}
        // Whoever is killed, or fetches nothing while the node ends, is not waited for.
        () = kill.cancelled() => {}
    }
}

struct Conversation {
    stream: Box<dyn Duplex>,
    slot: Slot,
    parser: Parser,
    input: BytesMut,
    output: BytesMut,
    session: Session,
    idle: Option<Duration>,
}

/// Carries out requests until the session is over, and sends all replies.
async fn answer(session: &mut Session, requests: Vec<Request>, out: &mut Outlet<'_>) -> Result<(), Stuck> {
    for request in requests {
        session.take(request, out).await?;
        if session.is_over() {
            return out.send(0).await;
        }
        out.relieve(0).await?;
    }
    session.finish(out).await?;
    out.send(0).await
}

/// Why a conversation is over.
enum Over {
    Left,
    Broken,
}

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self::Broken
    }
}

impl Conversation {
    async fn run(&mut self, stop: &CancellationToken) -> Result<(), Over> {
        loop {
            let requests = self.requests().await?;
            self.carry_out(requests).await?;
            if stop.is_cancelled() {
                return Err(Over::Left);
            }
            self.listen(stop).await?;
        }
    }

    /// Returns when something has come. Meanwhile it is sent what it has subscribed to.
    async fn listen(&mut self, stop: &CancellationToken) -> Result<(), Over> {
        loop {
            if self.session.listens() {
                let Self { session, output, stream, input, .. } = self;
                input.reserve(READ_BYTES);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Err(Over::Left),
                    read = stream.read_buf(input) => return if read? == 0 { Err(Over::Left) } else { Ok(()) },
                    () = session.news(output) => {}
                }
                self.stream.write_all(&self.output).await?;
                self.output.clear();
                if self.account().is_err() {
                    return self.held_too_much().await;
                }
                continue;
            }
            tokio::select! {
                read = self.read() => return read,
                () = stop.cancelled() => return Err(Over::Left),
            }
        }
    }

    /// All requests that have come whole.
    async fn requests(&mut self) -> Result<Vec<Request>, Over> {
        let mut requests = Vec::new();
        loop {
            match self.parser.next(&mut self.input) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => return Ok(requests),
                Err(error) => {
                    // What came before it is still answered.
                    self.carry_out(requests).await?;
                    return self.last_words(&Reply::err(error.to_string())).await;
                }
            }
        }
    }

    async fn carry_out(&mut self, requests: Vec<Request>) -> Result<(), Over> {
        let held = self.held();
        let Self { session, stream, slot, output, .. } = self;
        let done = answer(session, requests, &mut Outlet::new(output, stream, slot, held)).await;
        if output.capacity() > KEEP_BYTES {
            *output = BytesMut::new();
        }
        match done {
            Ok(()) if self.session.is_over() => Err(Over::Left),
            Ok(()) => Ok(()),
            Err(Stuck::Broken) => Err(Over::Broken),
            Err(Stuck::TooMuch) => self.held_too_much().await,
        }
    }

    async fn read(&mut self) -> Result<(), Over> {
        if self.input.is_empty() && self.input.capacity() > KEEP_BYTES {
            self.input = BytesMut::new();
        }
        if self.account().is_err() {
            return self.held_too_much().await;
        }
        self.input.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.input);
        let count = match self.idle {
            Some(idle) => tokio::time::timeout(idle, read).await.map_err(|_| Over::Left)??,
            None => read.await?,
        };
        if count == 0 { Err(Over::Left) } else { Ok(()) }
    }

    /// Says what this connection holds.
    fn account(&mut self) -> Result<(), TooMuchHeld> {
        let held = self.held() + self.output.len();
        self.slot.hold(held)
    }

    /// What it holds besides replies.
    fn held(&self) -> usize {
        self.input.capacity() + self.parser.held() + self.session.held()
    }

    async fn held_too_much<T>(&mut self) -> Result<T, Over> {
        self.last_words(&Reply::err("the connections of this node hold too much: this one is closed")).await
    }

    async fn last_words<T>(&mut self, reply: &Reply) -> Result<T, Over> {
        let mut words = BytesMut::new();
        reply.write(Version::Resp2, &mut words);
        self.stream.write_all(&words).await?;
        self.stream.shutdown().await?;
        // What is still on its way is read and dropped for a moment: closing on it would take the
        // last words away from the client.
        let mut rest = [0_u8; 4096];
        let drain = async { while self.stream.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
        let _ = tokio::time::timeout(Duration::from_millis(200), drain).await;
        Err(Over::Left)
    }
}
