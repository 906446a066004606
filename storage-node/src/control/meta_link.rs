//! The way to the meta leader, whoever that is at the moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use placement::{ClusterId, NodeId, PartitionId};
use prost::Message;
use proto::v1::{Failure, MetaCallRequest, MetaCallResponse};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::meta::FollowedMap;
use crate::raft::Groups;
use crate::raft::network::connect;
use crate::router::failure;
use crate::seams::{clock, runtime};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Finds the meta leader and keeps connections to it.
pub struct MetaLink {
    cluster: ClusterId,
    node: NodeId,
    groups: Arc<Groups>,
    map: watch::Receiver<Arc<FollowedMap>>,
    /// Peer addresses that were known when the node started.
    known: Vec<String>,
    leader: Mutex<Option<String>>,
    channels: Mutex<HashMap<String, Channel>>,
}

impl MetaLink {
    /// Nothing is connected yet.
    pub fn new(
        cluster: ClusterId,
        node: NodeId,
        groups: Arc<Groups>,
        map: watch::Receiver<Arc<FollowedMap>>,
        known: Vec<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            node,
            groups,
            map,
            known,
            leader: Mutex::default(),
            channels: Mutex::default(),
        })
    }

    /// The peer address of the meta leader as far as this node knows; empty: it does not.
    pub fn leader_address(&self) -> String {
        let led_here = self.groups.get(PartitionId::META).and_then(|group| group.leader());
        let by_raft = led_here.and_then(|node| self.peer_address(node));
        by_raft.or_else(|| self.leader.lock().clone()).unwrap_or_default()
    }

    /// Whether this node leads the meta group, as far as it knows.
    pub fn leads(&self) -> bool {
        self.groups.get(PartitionId::META).is_some_and(|group| group.leads())
    }

    /// The peer address of a node.
    pub fn peer_address(&self, node: NodeId) -> Option<String> {
        self.map.borrow().node_details(node).map(|details| details.addresses.peer.clone())
    }

    /// Whom to ask for the meta leader, the likeliest first.
    pub fn candidates(&self) -> Vec<String> {
        // Asked before the map is held: `leader_address` holds it too, and whoever holds it twice
        // waits for ever once a new map is to be set in between.
        let leader = self.leader_address();
        let map = self.map.borrow();
        let address = |node: NodeId| map.node_details(node).map(|details| details.addresses.peer.clone());
        let voters = map.meta().replicas.iter().filter_map(|replica| address(replica.node));
        let others = map.map().nodes.keys().filter_map(|node| address(*node));
        let own = address(self.node);
        let mut found = Vec::new();
        let known = self.known.iter().cloned();
        for candidate in Some(leader).into_iter().chain(voters).chain(others).chain(known) {
            if !candidate.is_empty() && Some(&candidate) != own.as_ref() && !found.contains(&candidate) {
                found.push(candidate);
            }
        }
        found
    }

    /// Somebody said who leads the meta group.
    pub fn note_leader(&self, address: &str) {
        if !address.is_empty() {
            *self.leader.lock() = Some(address.to_owned());
        }
    }

    /// Nobody is there, or it does not lead.
    pub fn forget_leader(&self, address: &str) {
        self.channels.lock().remove(address);
        let mut leader = self.leader.lock();
        if leader.as_deref() == Some(address) {
            *leader = None;
        }
    }

    /// A connection to a peer address.
    pub async fn channel(&self, address: &str) -> Result<Channel, tonic::transport::Error> {
        if let Some(channel) = self.channels.lock().get(address) {
            return Ok(channel.clone());
        }
        let channel = connect::connect(address, CONNECT_TIMEOUT).await?;
        self.channels.lock().insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Has another node do something, by its peer address.
    pub async fn call_at(
        &self,
        address: &str,
        method: &str,
        request: Bytes,
        patience: Duration,
    ) -> Result<MetaCallResponse, CallError> {
        let channel = self.channel(address).await.map_err(|error| CallError::NotSent(error.to_string()))?;
        let mut call = tonic::Request::new(MetaCallRequest {
            cluster: self.cluster.to_bytes().to_vec().into(),
            method: method.to_owned(),
            request,
        });
        call.set_timeout(patience);
        match connect::client(channel).meta_call(call).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                self.channels.lock().remove(address);
                Err(CallError::Status(Box::new(status)))
            }
        }
    }

    /// Asks the meta leader on another node, whichever it is, until the deadline. What cannot
    /// be repeated is not: then its outcome is unknown.
    pub async fn call(
        &self,
        method: &str,
        request: Bytes,
        repeatable: bool,
        deadline: Instant,
    ) -> Result<Bytes, Failure> {
        let mut last = "the meta group has no leader that can be reached".to_owned();
        let mut turn = 0;
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Err(failure::retry_after(format!("{last}; nothing was done"), 500));
            }
            let candidates = self.candidates();
            let Some(address) = candidates.get(turn % candidates.len().max(1)).cloned() else {
                return Err(failure::retry_after("this node knows no other node of its cluster yet", 500));
            };
            let patience = if repeatable { left.min(Duration::from_secs(3)) } else { left };
            match self.call_at(&address, method, request.clone(), patience).await {
                Ok(MetaCallResponse { failure: Some(failure), .. }) => return Err(failure),
                Ok(answer) if answer.not_leader => {
                    self.forget_leader(&address);
                    self.note_leader(&answer.meta_leader_address);
                    last = format!("{address} does not lead the meta group");
                    turn = if answer.meta_leader_address.is_empty() { turn + 1 } else { 0 };
                }
                Ok(answer) => {
                    self.note_leader(&address);
                    return Ok(answer.response);
                }
                Err(CallError::NotSent(why)) => {
                    self.forget_leader(&address);
                    last = format!("{address} cannot be reached: {why}");
                    turn += 1;
                }
                Err(CallError::Status(status)) => {
                    self.forget_leader(&address);
                    if !repeatable && status.code() != Code::Unavailable {
                        return Err(failure::outcome_unknown(&format!(
                            "{address} did not answer: {}",
                            status.message()
                        )));
                    }
                    last = format!("{address} did not answer: {}", status.message());
                    turn += 1;
                }
            }
            let pause = Duration::from_millis(runtime::random_between(20, 100));
            tokio::time::sleep(pause.min(left)).await;
        }
    }

    /// The same with messages.
    pub async fn call_typed<Q: Message, A: Message + Default>(
        &self,
        method: &str,
        request: &Q,
        repeatable: bool,
        deadline: Instant,
    ) -> Result<A, Failure> {
        let answer = self.call(method, request.encode_to_vec().into(), repeatable, deadline).await?;
        A::decode(answer).map_err(|error| failure::internal(format!("the answer to {method}: {error}")))
    }
}

/// Why a call to another node has no answer.
#[derive(Debug)]
pub enum CallError {
    /// It certainly did not get there.
    NotSent(String),
    /// It may have.
    Status(Box<Status>),
}
