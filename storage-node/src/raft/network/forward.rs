//! Operations on their way to the node that leads their partition.

use std::sync::Arc;
use std::time::Duration;

use placement::NodeId;
use proto::v1::message::Body;
use proto::v1::{ForwardAnswer, ForwardRequest};

use super::lane::LaneKind;
use super::peers::{NO_ROUTE, Peers};
use super::session::CallError;

/// Why a forwarded operation has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// It certainly did not reach the other node: it can be tried elsewhere.
    #[error("the operation was not sent to node {node}: {why}")]
    NotSent {
        /// The other node.
        node: NodeId,
        /// Why not.
        why: String,
    },
    /// It may have been carried out.
    #[error("node {node} was sent the operation, but did not answer: {why}")]
    Unknown {
        /// The other node.
        node: NodeId,
        /// Why there is no answer.
        why: String,
    },
}

/// Carries out what other nodes forward. Runs many at once, up to a bound.
#[tonic::async_trait]
pub trait Forwarded: Send + Sync + 'static {
    /// The answer; failures travel in it.
    async fn operate(&self, request: ForwardRequest) -> ForwardAnswer;
}

impl Peers {
    /// Has another node carry out an operation, within the request's own time.
    pub async fn forward(
        self: &Arc<Self>,
        node: NodeId,
        request: ForwardRequest,
    ) -> Result<ForwardAnswer, ForwardError> {
        let limit = Duration::from_millis(request.timeout_ms);
        let peer = self.peer(node);
        let call = peer.lane(LaneKind::Operations).call(NO_ROUTE, Body::Forward(request));
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(Body::ForwardAnswer(answer))) => Ok(answer),
            Ok(Ok(_)) => Err(ForwardError::Unknown { node, why: "it answered something else".to_owned() }),
            Ok(Err(CallError::NotSent(why) | CallError::Refused(why))) => {
                Err(ForwardError::NotSent { node, why })
            }
            Ok(Err(CallError::Unknown(why))) => Err(ForwardError::Unknown { node, why }),
            Err(_) => Err(ForwardError::Unknown { node, why: format!("nothing within {limit:?}") }),
        }
    }
}
