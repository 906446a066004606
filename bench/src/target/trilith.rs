//! Trilith by unary calls.

use tonic::transport::Channel;

use proto::v1::{GetRequest, PutRequest, kv_client::KvClient};

use super::{
    ChannelPool, Outcome, Target, TargetError,
    routes::{Routes, Routing},
    unary::{Caller, Unary},
};
use crate::load::workload::Operation;

/// A Trilith cluster and one of its tables.
#[derive(Debug, Clone)]
pub struct Trilith {
    pool: ChannelPool,
    routes: Option<Routes>,
    table: String,
}

impl Trilith {
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

impl Target for Trilith {
    type Connection = Unary<TrilithCaller>;

    async fn connect(&self, client: usize) -> Result<Self::Connection, TargetError> {
        let nodes = (0..self.pool.endpoints())
            .map(|endpoint| Ok(KvClient::new(self.pool.channel(endpoint, client)?)))
            .collect::<Result<_, TargetError>>()?;
        let own = self.pool.endpoint_of(client);
        Ok(Unary::new(TrilithCaller { nodes, own, routes: self.routes.clone(), table: self.table.clone() }))
    }
}

/// Calls the node that an operation is for.
#[derive(Debug)]
pub struct TrilithCaller {
    nodes: Vec<KvClient<Channel>>,
    own: usize,
    routes: Option<Routes>,
    table: String,
}

impl Caller for TrilithCaller {
    async fn call(&mut self, operation: Operation) -> Result<Outcome, TargetError> {
        let routed = self.routes.as_ref().and_then(|routes| routes.endpoint_of(&operation));
        let node = self.nodes.get_mut(routed.unwrap_or(self.own)).ok_or(TargetError::NoEndpoint)?;
        let table = self.table.clone();
        match operation {
            Operation::Put { key, value } => {
                let request = PutRequest { table, key, value, ..PutRequest::default() };
                let answer = node.put(request).await?.into_inner();
                if answer.applied {
                    Ok(Outcome::Done)
                } else {
                    Err(TargetError::Unexpected("put not applied"))
                }
            }
            Operation::Get { key } => {
                let found = node.get(GetRequest { table, key, ..GetRequest::default() }).await?.into_inner();
                Ok(if found.item.is_none() { Outcome::Missing } else { Outcome::Done })
            }
        }
    }
}
