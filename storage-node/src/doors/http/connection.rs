//! One connection: who is slow is given up, and what it holds is counted.
//!
//! ```text
//!     bytes ─▶ PatientWrites ─▶ hyper (headers within their time) ─▶ router ─▶ HeldBody
//!                 gives up who does not read                    counted until it is sent
//! ```

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::doors::connections::{Duplex, Slot, TooMuchHeld};
use crate::seams::clock;

/// Within this time the headers of a request arrive, or the next request begins; else the
/// connection is closed.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// A client that takes nothing of its answer for so long is given up.
const TAKES_NOTHING: Duration = Duration::from_secs(30);

/// What a connection holds: of the request that it reads, then of the answer that it sends.
#[derive(Debug, Clone)]
pub struct Account {
    slot: Arc<Mutex<Slot>>,
}

impl Account {
    /// Of a connection.
    pub fn new(slot: Slot) -> Self {
        Self { slot: Arc::new(Mutex::new(slot)) }
    }

    /// Says that the connection holds so much from now on.
    pub fn hold(&self, bytes: usize) -> Result<(), TooMuchHeld> {
        self.slot.lock().hold(bytes)
    }
}

/// Serves a connection until it ends, or until it is told to stop and has finished what it has
/// begun.
pub async fn converse(stream: Box<dyn Duplex>, slot: Slot, router: Router, stop: CancellationToken) {
    let account = Account::new(slot);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(account.clone());
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request.map(Body::new)).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(PatientWrites::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the HTTP door ended");
    }
}

async fn answer(router: Router, request: Request) -> axum::response::Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A body that is counted until it is sent, or given up.
pub struct HeldBody {
    body: Body,
    account: Account,
}

impl HeldBody {
    /// Counts a body for its connection, if that may hold it.
    pub fn hold(body: Body, account: Account) -> Result<Self, TooMuchHeld> {
        account.hold(usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX))?;
        Ok(Self { body, account })
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        // Holding less never fails.
        let _ = self.account.hold(0);
    }
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that fails when nothing of what is written is taken for too long.
struct PatientWrites {
    stream: Box<dyn Duplex>,
    /// There while a write waits.
    patience: Option<Pin<Box<Sleep>>>,
}

impl PatientWrites {
    fn new(stream: Box<dyn Duplex>) -> Self {
        Self { stream, patience: None }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.patience = None;
            return written;
        }
        let wait = || Box::pin(tokio::time::sleep_until(clock::now() + TAKES_NOTHING));
        ready!(self.patience.get_or_insert_with(wait).as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl AsyncRead for PatientWrites {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PatientWrites {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, shut)
    }
}
