//! What the commands need of a node.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use proto::v1::{
    Failure, Result as OperationResult, ScanRequest, ScanResponse, StatusRequest, StatusResponse,
    operation::Operation as Kind,
};

use crate::doors::Operations;

/// For a command, and for each page of a range.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the commands need of a node, so that a conversation can be had without one.
pub trait Store: Clone + Send + Sync + 'static {
    /// Begins an operation.
    fn begin(&self, kind: Kind) -> BoxFuture<'static, OperationResult>;
    /// One page of a scan.
    fn scan(&self, request: ScanRequest) -> BoxFuture<'static, Result<ScanResponse, Failure>>;
    /// How the cluster is.
    fn status(&self) -> BoxFuture<'static, Result<StatusResponse, Failure>>;
}

impl Store for Operations {
    fn begin(&self, kind: Kind) -> BoxFuture<'static, OperationResult> {
        Operations::begin(self, &self.context(PATIENCE), kind)
    }

    fn scan(&self, request: ScanRequest) -> BoxFuture<'static, Result<ScanResponse, Failure>> {
        let operations = self.clone();
        async move { Operations::scan(&operations, &operations.context(PATIENCE), &request).await }.boxed()
    }

    fn status(&self) -> BoxFuture<'static, Result<StatusResponse, Failure>> {
        let operations = self.clone();
        async move { operations.admin(&operations.context(PATIENCE), "Status", &StatusRequest {}).await }
            .boxed()
    }
}
