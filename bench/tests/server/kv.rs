//! The key-value service of the small server.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use futures::{Stream, StreamExt as _};
use placement::BucketCount;
use proto::v1::{
    BatchRequest, BatchResponse, CopyRequest, CopyResponse, DeleteRequest, DeleteResponse, ExistsRequest,
    ExistsResponse, Failure, GetRequest, GetResponse, Item, ModifyRequest, ModifyResponse, PutRequest,
    PutResponse, Result as WireResult, ScanRequest, ScanResponse, StreamRequest, StreamResponse, TxnRequest,
    TxnResponse, WatchRequest, WatchResponse, kv_server, operation::Operation, result::Result as Wire,
};
use tonic::{Code, Request, Response, Status, Streaming};

use super::State;

/// The service.
pub struct Kv(pub Arc<State>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl State {
    async fn answer(&self, operation: Operation) -> Wire {
        let number = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some((at, stall)) = self.behaviour.stall_at
            && at == number
        {
            tokio::time::sleep(stall).await;
        }
        if self.behaviour.refuse_every.is_some_and(|every| number.is_multiple_of(every)) {
            return Wire::Failure(Failure::new(Code::Unavailable, "refused on purpose", None));
        }
        match operation {
            Operation::Put(PutRequest { key, value, .. }) => {
                self.note_route(&key);
                self.items.lock().unwrap().insert(key, value);
                Wire::Put(PutResponse { applied: true, version: 1 })
            }
            Operation::Get(GetRequest { key, .. }) => {
                self.note_route(&key);
                let value = self.items.lock().unwrap().get(&key).cloned();
                let item = value.map(|value| Item { key, value, ..Item::default() });
                Wire::Get(GetResponse { item })
            }
            _ => Wire::Failure(Failure::new(Code::Unimplemented, "a load never asks for that", None)),
        }
    }

    fn note_route(&self, key: &[u8]) {
        let bucket = u32::from(BucketCount::DEFAULT.bucket_of_key(key).0);
        let own = &self.map.partitions[self.number];
        if !(own.first_bucket..=own.last_bucket).contains(&bucket) {
            self.misrouted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tonic::async_trait]
impl kv_server::Kv for Kv {
    type ScanStream = Answers<ScanResponse>;
    type StreamStream = Answers<StreamResponse>;
    type WatchStream = Answers<WatchResponse>;
    type QueryStream = Answers<proto::v1::QueryResponse>;

    async fn query(
        &self,
        _: Request<proto::v1::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        Err(Status::unimplemented("there are no indexes here"))
    }

    async fn watch(
        &self,
        _: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Answers<WatchResponse>>, Status> {
        Err(Status::unimplemented("nothing here is watched"))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        match self.0.answer(Operation::Get(request.into_inner())).await {
            Wire::Get(found) => Ok(Response::new(found)),
            Wire::Failure(failure) => Err(failure.into_status()),
            _ => Err(Status::internal("another kind of answer")),
        }
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        match self.0.answer(Operation::Put(request.into_inner())).await {
            Wire::Put(put) => Ok(Response::new(put)),
            Wire::Failure(failure) => Err(failure.into_status()),
            _ => Err(Status::internal("another kind of answer")),
        }
    }

    async fn stream(
        &self,
        request: Request<Streaming<StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let state = Arc::clone(&self.0);
        let answers = request.into_inner().scan(0, move |seen, frame| {
            let state = Arc::clone(&state);
            let before = *seen;
            *seen += frame.as_ref().map_or(0, |frame| frame.operations.len() as u64);
            async move {
                let operations = frame.ok()?.operations;
                if state.behaviour.break_after.is_some_and(|limit| before > limit) {
                    return Some(Err(Status::unavailable("broken on purpose")));
                }
                state.largest_frame.fetch_max(operations.len(), Ordering::Relaxed);
                let mut results = Vec::new();
                for operation in operations.into_iter().filter_map(|operation| operation.operation) {
                    results.push(WireResult { result: Some(state.answer(operation).await) });
                }
                Some(Ok(StreamResponse { results }))
            }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        Err(Status::unimplemented("delete"))
    }

    async fn exists(&self, _: Request<ExistsRequest>) -> Result<Response<ExistsResponse>, Status> {
        Err(Status::unimplemented("exists"))
    }

    async fn batch(&self, _: Request<BatchRequest>) -> Result<Response<BatchResponse>, Status> {
        Err(Status::unimplemented("batch"))
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        Err(Status::unimplemented("txn"))
    }

    async fn modify(&self, _: Request<ModifyRequest>) -> Result<Response<ModifyResponse>, Status> {
        Err(Status::unimplemented("modify"))
    }

    async fn copy(&self, _: Request<CopyRequest>) -> Result<Response<CopyResponse>, Status> {
        Err(Status::unimplemented("copy"))
    }

    async fn scan(&self, _: Request<ScanRequest>) -> Result<Response<Self::ScanStream>, Status> {
        Err(Status::unimplemented("scan"))
    }
}
