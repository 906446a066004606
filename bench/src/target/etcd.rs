//! etcd's v3 API, as far as a load needs it.

use tonic::transport::Channel;

use super::{
    ChannelPool, Outcome, Target, TargetError, channel,
    unary::{Caller, Unary},
};
use crate::{
    etcd_rpc::{
        PutRequest, RangeRequest, StatusRequest, kv_client::KvClient, maintenance_client::MaintenanceClient,
    },
    load::workload::Operation,
};

/// An etcd cluster. Each client keeps to one member, as etcd's own clients do.
#[derive(Debug, Clone)]
pub struct Etcd {
    pool: ChannelPool,
}

impl Etcd {
    /// Connects to the members at `endpoints`.
    pub async fn open(endpoints: &[String], connections: usize) -> Result<Self, TargetError> {
        Ok(Self { pool: ChannelPool::open(endpoints, connections).await? })
    }
}

impl Target for Etcd {
    type Connection = Unary<EtcdCaller>;

    async fn connect(&self, client: usize) -> Result<Self::Connection, TargetError> {
        let channel = self.pool.channel(self.pool.endpoint_of(client), client)?;
        Ok(Unary::new(EtcdCaller { member: KvClient::new(channel) }))
    }
}

/// Calls one member.
#[derive(Debug)]
pub struct EtcdCaller {
    member: KvClient<Channel>,
}

impl Caller for EtcdCaller {
    async fn call(&mut self, operation: Operation) -> Result<Outcome, TargetError> {
        match operation {
            Operation::Put { key, value } => {
                self.member.put(PutRequest { key, value, lease: 0 }).await?;
                Ok(Outcome::Done)
            }
            Operation::Get { key } => {
                let request = RangeRequest { key, ..RangeRequest::default() };
                let found = self.member.range(request).await?.into_inner();
                Ok(if found.kvs.is_empty() { Outcome::Missing } else { Outcome::Done })
            }
        }
    }
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// The program's version.
    pub version: String,
    /// Whether it leads.
    pub leads: bool,
    /// Whether it knows a leader, itself or another.
    pub knows_leader: bool,
}

/// Asks one member for its status.
pub async fn member_status(endpoint: &str) -> Result<MemberStatus, TargetError> {
    let mut member = MaintenanceClient::new(channel::connect(endpoint).await?);
    let status = member.status(StatusRequest {}).await?.into_inner();
    let own = status.header.map_or(0, |header| header.member_id);
    Ok(MemberStatus {
        version: status.version,
        leads: status.leader != 0 && status.leader == own,
        knows_leader: status.leader != 0,
    })
}
