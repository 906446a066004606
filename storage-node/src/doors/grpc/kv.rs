//! `trilith.v1.KV`.

use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt};
use proto::v1::kv_server::Kv;
use proto::v1::{
    BatchRequest, BatchResponse, CopyRequest, CopyResponse, DeleteRequest, DeleteResponse, ExistsRequest,
    ExistsResponse, Failure, GetRequest, GetResponse, ModifyRequest, ModifyResponse, PutRequest, PutResponse,
    QueryRequest, QueryResponse, ScanRequest, ScanResponse, StreamRequest, StreamResponse, TxnRequest,
    TxnResponse, WatchRequest, WatchResponse, operation::Operation as Kind, result::Result as Outcome,
    watch_request::Request as Asked,
};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::pipeline::Pipeline;
use super::{context_of, status};
use crate::doors::Operations;
use crate::node::Node;
use crate::observability::traces::Trace;
use crate::router::Context;
use crate::router::context::Door;
use crate::router::failure;
use crate::watch::Watch;

/// Operations on data.
#[derive(Clone)]
pub struct KvDoor {
    operations: Operations,
}

impl KvDoor {
    /// The door of a node.
    pub fn new(node: Arc<Node>) -> Self {
        Self { operations: Operations::new(node, Door::Grpc) }
    }

    fn context(&self, metadata: &MetadataMap) -> Context {
        context_of(metadata).in_trace(self.trace(metadata))
    }

    fn trace(&self, metadata: &MetadataMap) -> Trace {
        self.operations.node().traces.asked(|name| metadata.get(name)?.to_str().ok())
    }

    async fn run<T>(
        &self,
        metadata: &MetadataMap,
        kind: Kind,
        pick: impl FnOnce(Outcome) -> Option<T>,
    ) -> Result<Response<T>, Status> {
        let context = self.context(metadata);
        let outcome = self.operations.run(&context, kind).await.map_err(status)?;
        let picked =
            pick(outcome).ok_or_else(|| status(failure::internal("an operation had another's result")))?;
        Ok(Response::new(picked))
    }
}

type Pages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Kv for KvDoor {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let (metadata, _, get) = request.into_parts();
        self.run(&metadata, Kind::Get(get), |outcome| match outcome {
            Outcome::Get(got) => Some(got),
            _ => None,
        })
        .await
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let (metadata, _, put) = request.into_parts();
        self.run(&metadata, Kind::Put(put), |outcome| match outcome {
            Outcome::Put(put) => Some(put),
            _ => None,
        })
        .await
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let (metadata, _, delete) = request.into_parts();
        self.run(&metadata, Kind::Delete(delete), |outcome| match outcome {
            Outcome::Delete(deleted) => Some(deleted),
            _ => None,
        })
        .await
    }

    async fn exists(&self, request: Request<ExistsRequest>) -> Result<Response<ExistsResponse>, Status> {
        let (metadata, _, exists) = request.into_parts();
        self.run(&metadata, Kind::Exists(exists), |outcome| match outcome {
            Outcome::Exists(exists) => Some(exists),
            _ => None,
        })
        .await
    }

    async fn batch(&self, request: Request<BatchRequest>) -> Result<Response<BatchResponse>, Status> {
        let (metadata, _, batch) = request.into_parts();
        self.run(&metadata, Kind::Batch(batch), |outcome| match outcome {
            Outcome::Batch(batch) => Some(batch),
            _ => None,
        })
        .await
    }

    async fn modify(&self, request: Request<ModifyRequest>) -> Result<Response<ModifyResponse>, Status> {
        let (metadata, _, modify) = request.into_parts();
        self.run(&metadata, Kind::Modify(modify), |outcome| match outcome {
            Outcome::Modify(modified) => Some(modified),
            _ => None,
        })
        .await
    }

    async fn copy(&self, request: Request<CopyRequest>) -> Result<Response<CopyResponse>, Status> {
        let (metadata, _, copy) = request.into_parts();
        self.run(&metadata, Kind::Copy(copy), |outcome| match outcome {
            Outcome::Copy(copied) => Some(copied),
            _ => None,
        })
        .await
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let (metadata, _, txn) = request.into_parts();
        self.run(&metadata, Kind::Txn(txn), |outcome| match outcome {
            Outcome::Txn(txn) => Some(txn),
            _ => None,
        })
        .await
    }

    type ScanStream = Pages<ScanResponse>;

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<Self::ScanStream>, Status> {
        let (metadata, _, scan) = request.into_parts();
        let operations = self.operations.clone();
        let whole = metadata.contains_key("grpc-timeout").then(|| self.context(&metadata));
        let trace = self.trace(&metadata);
        let limited = scan.limit > 0;
        let first = Some((scan, 0));
        let pages = stream::try_unfold(first, move |next| {
            let (operations, whole, trace) = (operations.clone(), whole.clone(), trace.clone());
            async move {
                let Some((mut scan, given)) = next else { return Ok(None) };
                // Without a deadline for the whole scan each page has its own.
                let context = whole.unwrap_or_else(|| context_of(&MetadataMap::new()).in_trace(trace));
                let limit = scan.limit;
                scan.limit = if limited { limit - given } else { 0 };
                let page = operations.scan(&context, &scan).await?;
                scan.limit = limit;
                let given = given + page.items.len() as u64;
                let more = !page.cursor.is_empty() && (!limited || given < limit);
                scan.cursor = page.cursor.clone();
                Ok::<_, Failure>(Some((page, more.then_some((scan, given)))))
            }
        });
        Ok(Response::new(pages.map(|page| page.map_err(status)).boxed()))
    }

    type QueryStream = Pages<QueryResponse>;

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        let (metadata, _, query) = request.into_parts();
        let operations = self.operations.clone();
        let whole = metadata.contains_key("grpc-timeout").then(|| self.context(&metadata));
        let trace = self.trace(&metadata);
        let limited = query.limit > 0;
        let first = Some((query, 0));
        let pages = stream::try_unfold(first, move |next| {
            let (operations, whole, trace) = (operations.clone(), whole.clone(), trace.clone());
            async move {
                let Some((mut query, given)) = next else { return Ok(None) };
                // Without a deadline for the whole query each page has its own.
                let context = whole.unwrap_or_else(|| context_of(&MetadataMap::new()).in_trace(trace));
                let limit = query.limit;
                query.limit = if limited { limit - given } else { 0 };
                let page = operations.query(&context, &query).await?;
                query.limit = limit;
                let given = given + page.items.len() as u64;
                let more = !page.cursor.is_empty() && (!limited || given < limit);
                query.cursor = page.cursor.clone();
                Ok::<_, Failure>(Some((page, more.then_some((query, given)))))
            }
        });
        Ok(Response::new(pages.map(|page| page.map_err(status)).boxed()))
    }

    type StreamStream = Pages<StreamResponse>;

    async fn stream(
        &self,
        request: Request<Streaming<StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let member = self.operations.member().map_err(status)?;
        let operations = self.operations.clone();
        // Of the whole stream, because its messages have no headers.
        let trace = self.trace(request.metadata());
        let begin = move |kind| {
            let context = operations.context(super::STREAM_PATIENCE).in_trace(trace.clone());
            operations.begin(&context, kind)
        };
        // What has arrived by then is still answered.
        let operations = request.into_inner().take_until(member.closing().cancelled_owned());
        Ok(Response::new(Pipeline::new(operations.boxed(), begin).boxed()))
    }

    type WatchStream = Pages<WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let member = self.operations.member().map_err(status)?;
        let context = self.operations.context(super::PATIENCE);
        let mut requests = request.into_inner();
        let Some(Some(Asked::Begin(begin))) = requests.message().await?.map(|first| first.request) else {
            return Err(status(failure::invalid("a watch begins with what it begins with")));
        };
        let watch = Watch::begin(&member.router, &context, begin).await.map_err(status)?;
        Ok(Response::new(super::watch::run(watch, requests, member.closing()).boxed()))
    }
}
