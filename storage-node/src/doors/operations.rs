//! What every door offers. A door parses its protocol into these calls and writes their
//! outcomes; what they do is said nowhere else.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use proto::v1::{
    Failure, QueryRequest, QueryResponse, Result as OperationResult, ScanRequest, ScanResponse,
    operation::Operation as Kind, result::Result as Outcome,
};

use crate::node::{Member, Node};
use crate::router::Context;
use crate::router::context::Door;

/// The operations of a node, for one of its doors.
#[derive(Clone)]
pub struct Operations {
    node: Arc<Node>,
    door: Door,
}

impl Operations {
    /// For that door of a node.
    pub fn new(node: Arc<Node>, door: Door) -> Self {
        Self { node, door }
    }

    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// The door.
    pub fn door(&self) -> Door {
        self.door
    }

    /// What the node is in its cluster; a refusal while it belongs to none.
    pub fn member(&self) -> Result<Arc<Member>, Failure> {
        self.node.member()
    }

    /// Somebody at this door who waits for so long.
    pub fn context(&self, patience: Duration) -> Context {
        Context::within(self.door, patience)
    }

    /// Begins an operation: see [`crate::router::Router::begin`].
    pub fn begin(&self, context: &Context, kind: Kind) -> BoxFuture<'static, OperationResult> {
        match self.member() {
            Ok(member) => member.router.begin(context, kind),
            Err(refused) => {
                let result = OperationResult { result: Some(Outcome::Failure(refused)) };
                std::future::ready(result).boxed()
            }
        }
    }

    /// Does an operation: a read, a write, a batch or a transaction.
    pub async fn run(&self, context: &Context, kind: Kind) -> Result<Outcome, Failure> {
        self.member()?.router.run(context, kind).await
    }

    /// One page of a scan.
    pub async fn scan(&self, context: &Context, request: &ScanRequest) -> Result<ScanResponse, Failure> {
        self.member()?.router.scan_page(context, request).await
    }

    /// One page of a query.
    pub async fn query(&self, context: &Context, request: &QueryRequest) -> Result<QueryResponse, Failure> {
        self.member()?.router.query_page(context, request).await
    }

    /// Asks the meta leader, wherever it is: a method of `trilith.v1.Admin` by its name.
    pub async fn admin<Q: Message, A: Message + Default>(
        &self,
        context: &Context,
        method: &'static str,
        request: &Q,
    ) -> Result<A, Failure> {
        self.member()?.service.call(method, request, Some(context.left())).await
    }
}
