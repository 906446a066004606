//! Trilith by its stream: many operations in flight, answered in the order they were sent.

use std::collections::VecDeque;

use futures::{StreamExt, stream::SelectAll};
use proto::v1::{
    GetRequest, PutRequest, Result as WireResult, StreamRequest, StreamResponse, kv_client::KvClient,
    operation::Operation as WireOperation, result::Result as Wire,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use super::{
    Answer, ChannelPool, Connection, Issued, Outcome, Target, TargetError, Ticket,
    routes::{Routes, Routing},
};
use crate::load::workload::Operation;

/// Frames that wait for the transport. The window bounds the operations in them; when the
/// transport does not keep up, `send` waits.
const FRAMES_IN_LINE: usize = 64;

/// A Trilith cluster and one of its tables, through `KV.Stream`.
#[derive(Debug, Clone)]
pub struct TrilithStream {
    pool: ChannelPool,
    routes: Option<Routes>,
    table: String,
}

impl TrilithStream {
    /// Connects to the nodes at `endpoints`. An empty table name means `default`.
    pub async fn open(
        endpoints: &[String],
        connections: usize,
        table: &str,
        routing: Routing,
    ) -> Result<Self, TargetError> {
        let routes = match routing {
            Routing::Leader => Some(Routes::fetch(endpoints, table).await?),
            Routing::Any => None,
        };
        let pool = ChannelPool::open(endpoints, connections).await?;
        Ok(Self { pool, routes, table: table.to_owned() })
    }
}

impl Target for TrilithStream {
    type Connection = StreamConnection;

    async fn connect(&self, client: usize) -> Result<StreamConnection, TargetError> {
        let own = self.pool.endpoint_of(client);
        // A client that does not route needs one stream, not one to each node.
        let wanted: Vec<usize> = match self.routes {
            Some(_) => (0..self.pool.endpoints()).collect(),
            None => vec![own],
        };
        let mut lanes = Vec::with_capacity(wanted.len());
        let mut responses = SelectAll::new();
        for (number, endpoint) in wanted.iter().enumerate() {
            let channel = self.pool.channel(*endpoint, client)?;
            let (lane, incoming) = open_lane(channel, number).await?;
            lanes.push(lane);
            responses.push(incoming);
        }
        let own = if self.routes.is_some() { own } else { 0 };
        Ok(StreamConnection { lanes, responses, own, routes: self.routes.clone(), table: self.table.clone() })
    }
}

type Incoming = futures::stream::BoxStream<'static, (usize, Result<StreamResponse, Status>)>;

/// One stream to one node.
#[derive(Debug)]
struct Lane {
    frames: mpsc::Sender<StreamRequest>,
    next_frame: StreamRequest,
    in_flight: VecDeque<Expected>,
}

#[derive(Debug)]
struct Expected {
    ticket: Ticket,
    is_read: bool,
}

async fn open_lane(channel: Channel, number: usize) -> Result<(Lane, Incoming), TargetError> {
    let (frames, outgoing) = mpsc::channel(FRAMES_IN_LINE);
    // tonic gives the response stream when the server's head has come. A server may send that
    // only with its first answer, so the first frame must not wait for it: an empty one asks
    // for nothing and is answered by nothing or by an empty frame.
    frames.try_send(StreamRequest::default()).map_err(|_| TargetError::StreamEnded)?;
    let answers = KvClient::new(channel).stream(ReceiverStream::new(outgoing)).await?.into_inner();
    // The set of streams drops one that ends without a word, and the operations in flight on
    // it would wait for ever: so its end is said aloud.
    let end = futures::stream::once(async { Err(Status::unavailable("the stream ended")) });
    let incoming = answers.chain(end).map(move |answer| (number, answer)).boxed();
    Ok((Lane { frames, next_frame: StreamRequest::default(), in_flight: VecDeque::new() }, incoming))
}

/// One client's streams: one to each node when it routes, else one.
pub struct StreamConnection {
    lanes: Vec<Lane>,
    responses: SelectAll<Incoming>,
    own: usize,
    routes: Option<Routes>,
    table: String,
}

impl Connection for StreamConnection {
    async fn send(&mut self, batch: &mut Vec<Issued>) -> Result<(), TargetError> {
        for Issued { operation, ticket } in batch.drain(..) {
            let routed = self.routes.as_ref().and_then(|routes| routes.endpoint_of(&operation));
            let lane = self.lanes.get_mut(routed.unwrap_or(self.own)).ok_or(TargetError::NoEndpoint)?;
            let is_read = matches!(operation, Operation::Get { .. });
            lane.in_flight.push_back(Expected { ticket, is_read });
            lane.next_frame.operations.push(on_the_wire(operation, &self.table));
        }
        for lane in self.lanes.iter_mut().filter(|lane| !lane.next_frame.operations.is_empty()) {
            let frame = std::mem::take(&mut lane.next_frame);
            lane.frames.send(frame).await.map_err(|_| TargetError::StreamEnded)?;
        }
        Ok(())
    }

    async fn receive(&mut self, answers: &mut Vec<Answer>) -> Result<(), TargetError> {
        loop {
            let (number, response) = self.responses.next().await.ok_or(TargetError::StreamEnded)?;
            let lane = self.lanes.get_mut(number).ok_or(TargetError::StreamEnded)?;
            let before = answers.len();
            for result in response?.results {
                let expected = lane.in_flight.pop_front().ok_or(TargetError::Unexpected("nobody asked"))?;
                answers.push(Answer { ticket: expected.ticket, outcome: outcome(result, expected.is_read) });
            }
            if answers.len() > before {
                return Ok(());
            }
        }
    }
}

fn on_the_wire(operation: Operation, table: &str) -> proto::v1::Operation {
    let table = table.to_owned();
    let operation = match operation {
        Operation::Put { key, value } => {
            WireOperation::Put(PutRequest { table, key, value, ..PutRequest::default() })
        }
        Operation::Get { key } => WireOperation::Get(GetRequest { table, key, ..GetRequest::default() }),
    };
    proto::v1::Operation { operation: Some(operation) }
}

fn outcome(result: WireResult, is_read: bool) -> Outcome {
    match (result.result, is_read) {
        (Some(Wire::Put(put)), false) if put.applied => Outcome::Done,
        (Some(Wire::Get(get)), true) if get.item.is_some() => Outcome::Done,
        (Some(Wire::Get(_)), true) => Outcome::Missing,
        (Some(Wire::Failure(failure)), _) => Outcome::Failed(failure.message),
        _ => Outcome::Failed("an answer of another kind than was asked for".to_owned()),
    }
}
