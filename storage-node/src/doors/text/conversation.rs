//! One connection: lines in, answers out, until it ends.
//!
//! ```text
//!   bytes ─▶ LineReader ─▶ Command ─▶ Window ─▶ answers ─▶ bytes
//!      ▲                                 │
//!      └── not read while the window is full or the client does not take its answers
//! ```

use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Code};
use super::command::Command;
use super::held::{Held, Portion};
use super::line::{Event, Fault, Line, LineReader};
use super::store::Store;
use super::window::{Answer, Window};
use crate::doors::connections::{Slot, TooMuchHeld};
use crate::seams::clock;

/// What a connection that says little is read with, so that ten thousand idle ones take little.
const SMALL_PIECE: usize = 1 << 10;
/// What a connection that says much is read with.
const LARGE_PIECE: usize = 16 << 10;
/// While so much waits to be taken, nothing more is begun.
const UNTAKEN: usize = 64 << 10;
/// A long line, or a long answer, shows that somebody is there each time so much of it has passed.
const SIGN_OF_LIFE: usize = 64 << 10;
/// How long a client may go on to send after the last answer. A connection that is closed while
/// something arrives is reset, and the client might never see why.
const LINGER: Duration = Duration::from_secs(1);
/// How much it may send meanwhile.
const LINGER_BYTES: usize = 16 << 20;
/// How long a client may take its last answers once the node is to end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What holds for every connection.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The longest line, decoded.
    pub line_bytes: usize,
    /// The most fields of a line.
    pub line_fields: usize,
    /// A client that neither says anything nor takes its answers for so long is gone; none: it
    /// may take its time.
    pub idle_timeout: Option<Duration>,
}

/// A connection and where it stands.
pub struct Conversation<S, T> {
    rules: Rules,
    input: ReadHalf<T>,
    output: WriteHalf<T>,
    reader: LineReader,
    window: Window<S>,
    /// What was read and not looked at yet.
    arrived: Vec<u8>,
    looked_at: usize,
    piece: usize,
    /// A command that cannot begin yet, and what its line took.
    waiting: Option<(Command, usize)>,
    /// Answers that the client has not taken, from `taken` on.
    untaken: Vec<u8>,
    taken: usize,
    reading: Portion,
    answering: Portion,
    /// Nothing more is read.
    ending: bool,
    /// What the last answer is to be, where it is not one of a command.
    farewell: Option<Vec<u8>>,
    last_sign: Instant,
    since_sign: usize,
    /// When it ends, whatever the client has not taken by then.
    ends_by: Option<Instant>,
}

impl<S: Store, T: AsyncRead + AsyncWrite + Send> Conversation<S, T> {
    /// A connection that was just accepted.
    pub fn new(stream: T, slot: Slot, rules: Rules, store: S) -> Self {
        let held = Held::new(slot);
        let (input, output) = tokio::io::split(stream);
        Self {
            rules,
            input,
            output,
            reader: LineReader::new(rules.line_bytes, rules.line_fields),
            arrived: Vec::new(),
            looked_at: 0,
            piece: SMALL_PIECE,
            waiting: None,
            untaken: Vec::new(),
            taken: 0,
            reading: held.nothing(),
            answering: held.nothing(),
            window: Window::new(store, held),
            ending: false,
            farewell: None,
            last_sign: clock::now(),
            since_sign: 0,
            ends_by: None,
        }
    }

    /// Goes on until the client ends it, does what it must not, or is gone; or until `stop`, and
    /// then what has begun is still answered.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.begin_arrived();
            if self.is_over() {
                break;
            }
            let reads = !self.ending && self.looked_at == self.arrived.len() && self.waiting.is_none();
            let closes_at = self.closes_at();
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.ends_by.is_none() => {
                    self.ends_by = Some(clock::now() + LAST_ANSWERS);
                    self.end(None);
                }
                // Also while the client takes nothing: what has begun must go on, and is bounded.
                Some(answer) = self.window.next(), if !self.window.is_empty() => {
                    if self.has_answer(answer).is_err() {
                        return;
                    }
                }
                written = self.output.write(self.untaken.get(self.taken..).unwrap_or_default()),
                    if self.backlog() > 0 =>
                {
                    match written {
                        Ok(0) | Err(_) => return,
                        Ok(count) => self.was_taken(count),
                    }
                }
                read = read_piece(&mut self.input, &mut self.arrived, self.piece), if reads => {
                    match read {
                        Ok(0) => self.at_the_end(),
                        Ok(count) => self.has_arrived(count),
                        Err(_) => return,
                    }
                }
                () = at(closes_at) => return,
            }
        }
        self.part().await;
    }

    /// When nobody waits for it any more. Whoever waits for the node is not idle.
    fn closes_at(&self) -> Option<Instant> {
        let waits = !self.window.is_empty() && self.backlog() == 0;
        let idle_at = self.rules.idle_timeout.filter(|_| !waits).map(|timeout| self.last_sign + timeout);
        [idle_at, self.ends_by].into_iter().flatten().min()
    }

    /// Begins as much of what has arrived as may be under way.
    fn begin_arrived(&mut self) {
        while !self.ending && self.backlog() < UNTAKEN && self.window.has_room() {
            if let Some((command, took)) = self.waiting.take()
                && let Err(command) = self.window.begin(command, took)
            {
                self.waiting = Some((command, took));
                return;
            }
            let rest = self.arrived.get(self.looked_at..).unwrap_or_default();
            if rest.is_empty() {
                self.arrived.clear();
                self.looked_at = 0;
                return;
            }
            let (taken, event) = self.reader.feed(rest);
            self.looked_at += taken;
            match event {
                None => {}
                Some(Event::Line(line)) => {
                    self.sign_of_life();
                    self.line(line);
                }
                Some(Event::Junk(byte)) => {
                    let message =
                        format!("byte 0x{byte:02x} is in no line of text, unless it is written as an escape");
                    self.end(Some(answer::error(Code::BadBytes, &message)));
                }
            }
            if self.reading.resize(self.reader.held() + self.arrived.capacity()).is_err() {
                let message = "the node's connections hold too much together: the line was not read";
                self.end(Some(answer::error(Code::Busy, message)));
            }
        }
    }

    fn line(&mut self, line: Result<Line, Fault>) {
        let line = match line {
            Ok(line) => line,
            Err(fault) => {
                let code = match fault {
                    Fault::TooLong(_) | Fault::TooManyFields(_) => Code::TooLarge,
                    Fault::Escape => Code::BadRequest,
                };
                return self.window.answer(answer::error(code, &fault.to_string()));
            }
        };
        let took = line.bytes.capacity();
        match Command::of(line) {
            Ok(command) => self.waiting = Some((command, took)),
            Err(none) => self.window.answer(answer::error(Code::BadRequest, &none.to_string())),
        }
    }

    fn has_arrived(&mut self, count: usize) {
        // What was read before was looked at, or nothing would have been read.
        self.looked_at = 0;
        self.piece = if count == self.piece { LARGE_PIECE } else { SMALL_PIECE };
        self.has_passed(count);
    }

    fn has_answer(&mut self, answer: Answer) -> Result<(), TooMuchHeld> {
        if self.backlog() == 0 {
            // Whoever waited for it has had no reason to say anything.
            self.last_sign = clock::now();
            self.taken = 0;
            self.untaken = answer.give_up();
        } else {
            self.untaken.extend_from_slice(&answer.give_up());
        }
        self.answering.resize(self.untaken.capacity())
    }

    fn was_taken(&mut self, count: usize) {
        self.taken += count;
        self.has_passed(count);
        if self.backlog() == 0 {
            self.sign_of_life();
            // An idle connection holds nothing.
            self.untaken = Vec::new();
            self.taken = 0;
        } else if self.taken > UNTAKEN && self.taken > self.backlog() {
            self.untaken.drain(..self.taken);
            self.untaken.shrink_to_fit();
            self.taken = 0;
        }
        // Less is never too much.
        let _ = self.answering.resize(self.untaken.capacity());
    }

    fn has_passed(&mut self, count: usize) {
        self.since_sign += count;
        if self.since_sign >= SIGN_OF_LIFE {
            self.sign_of_life();
        }
    }

    fn sign_of_life(&mut self) {
        self.last_sign = clock::now();
        self.since_sign = 0;
    }

    /// The client says no more. A line without its end may be half a value, and is not done.
    fn at_the_end(&mut self) {
        let cut = self.reader.is_midway();
        let message = "the last line does not end with a newline and was not done";
        self.end(cut.then(|| answer::error(Code::BadRequest, message)));
    }

    fn end(&mut self, farewell: Option<Vec<u8>>) {
        self.ending = true;
        self.waiting = None;
        self.farewell = farewell;
        self.arrived = Vec::new();
        self.looked_at = 0;
    }

    fn is_over(&mut self) -> bool {
        if !self.ending {
            return false;
        }
        if let Some(farewell) = self.farewell.take() {
            self.window.answer(farewell);
        }
        self.window.is_empty() && self.backlog() == 0
    }

    fn backlog(&self) -> usize {
        self.untaken.len().saturating_sub(self.taken)
    }

    /// Closes so that the last answer arrives.
    async fn part(mut self) {
        let linger = async {
            if self.output.shutdown().await.is_err() {
                return;
            }
            let (mut piece, mut read) = (vec![0; SMALL_PIECE], 0);
            while let Ok(count) = self.input.read(&mut piece).await {
                read += count;
                if count == 0 || read > LINGER_BYTES {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, linger).await;
    }
}

/// Reads what is there, into a buffer of that size.
async fn read_piece<T: AsyncRead>(
    input: &mut ReadHalf<T>,
    arrived: &mut Vec<u8>,
    piece: usize,
) -> std::io::Result<usize> {
    arrived.clear();
    arrived.shrink_to(piece);
    arrived.reserve_exact(piece);
    let mut room = arrived.limit(piece);
    input.read_buf(&mut room).await
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
