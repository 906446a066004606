//! The cluster itself: one method for each call of `trilith.v1.Admin`.

use std::time::Duration;

use futures::Stream;
use proto::v1::{self, MapRequest, MapResponse};

use crate::attempts::{Attempts, Place, unary};
use crate::client::Client;
use crate::core::admin_client;
use crate::error::Error;
use crate::retry::{Effect, Trouble};

/// The cluster, asked through any node or through one.
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
    place: Place,
    deadline: Duration,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $response:ident, $effect:expr;)*) => {
        impl Admin {
            $(
                $(#[$doc])*
                pub async fn $name(&self, request: v1::$request) -> Result<v1::$response, Error> {
                    let effect: fn(&v1::$request) -> Effect = $effect;
                    unary(self.attempts(effect(&request)), |attempt| {
                        let message = request.clone();
                        async move {
                            admin_client(attempt.channel.clone()).$name(attempt.request(message)).await
                        }
                    })
                    .await
                }
            )*
        }
    };
}

calls! {
    /// Creates the cluster, once, with the node that is asked as its first.
    init(InitRequest) -> InitResponse, |request| {
        // Asked again with the same id it does nothing; a fresh id is another cluster.
        if request.cluster.is_empty() { Effect::Once } else { Effect::Repeatable }
    };
    /// Makes the node that is asked join a cluster.
    join(JoinRequest) -> JoinResponse, |_| Effect::Repeatable;
    /// How the cluster is.
    status(StatusRequest) -> StatusResponse, |_| Effect::Repeatable;
    /// The nodes.
    list_nodes(ListNodesRequest) -> ListNodesResponse, |_| Effect::Repeatable;
    /// Creates a table.
    create_table(CreateTableRequest) -> CreateTableResponse, |_| Effect::Once;
    /// Changes a table.
    alter_table(AlterTableRequest) -> AlterTableResponse, |_| Effect::Repeatable;
    /// Drops a table and all that is in it.
    drop_table(DropTableRequest) -> DropTableResponse, |_| Effect::Once;
    /// The tables.
    list_tables(ListTablesRequest) -> ListTablesResponse, |_| Effect::Repeatable;
    /// A table and its partitions.
    describe_table(DescribeTableRequest) -> DescribeTableResponse, |_| Effect::Repeatable;
    /// The partitions of a table, or of all.
    list_partitions(ListPartitionsRequest) -> ListPartitionsResponse, |_| Effect::Repeatable;
    /// What would bring the cluster into balance.
    plan_rebalance(PlanRebalanceRequest) -> PlanRebalanceResponse, |_| Effect::Repeatable;
    /// Orders moves.
    start_moves(StartMovesRequest) -> StartMovesResponse, |_| Effect::Once;
    /// Moves that are under way, and those that ended last.
    list_moves(ListMovesRequest) -> ListMovesResponse, |_| Effect::Repeatable;
    /// Cancels a move.
    cancel_move(CancelMoveRequest) -> CancelMoveResponse, |_| Effect::Repeatable;
    /// Begins to empty a node; asked again, says what is left.
    drain_node(NodeRequest) -> NodeResponse, |_| Effect::Repeatable;
    /// Lets a node be used again.
    undrain_node(NodeRequest) -> NodeResponse, |_| Effect::Repeatable;
    /// Forgets a node that holds nothing.
    remove_node(NodeRequest) -> NodeResponse, |_| Effect::Repeatable;
    /// Whether a node may restart without a group losing its quorum.
    can_restart(NodeRequest) -> CanRestartResponse, |_| Effect::Repeatable;
    /// Moves the leaders that a node holds to other nodes.
    transfer_leaders(NodeRequest) -> TransferLeadersResponse, |_| Effect::Repeatable;
    /// Raises the active cluster version.
    set_cluster_version(SetClusterVersionRequest) -> SetClusterVersionResponse, |_| Effect::Repeatable;
}

impl Admin {
    pub(crate) fn anywhere(client: Client) -> Self {
        let deadline = client.shared().options.deadline;
        Self { client, place: Place::Any, deadline }
    }

    pub(crate) fn at(client: Client, address: &str) -> Self {
        let deadline = client.shared().options.deadline;
        Self { client, place: Place::Node(address.into()), deadline }
    }

    /// The same with another deadline for each call.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The partition map as it is now.
    pub async fn map(&self) -> Result<MapResponse, Error> {
        unary(self.attempts(Effect::Repeatable), |attempt| async move {
            let request = attempt.request(MapRequest { follow: false });
            let mut maps = admin_client(attempt.channel.clone()).map(request).await?.into_inner();
            let map = maps.message().await?;
            let map = map.ok_or_else(|| tonic::Status::unavailable("the node gave no map"))?;
            Ok(tonic::Response::new(map))
        })
        .await
    }

    /// The map, and again at each change. The stream ends when its connection does; call
    /// it again then.
    pub async fn follow_map(
        &self,
    ) -> Result<impl Stream<Item = Result<MapResponse, Error>> + Send + use<>, Error> {
        let maps = unary(self.attempts(Effect::Repeatable), |attempt| async move {
            admin_client(attempt.channel).map(MapRequest { follow: true }).await
        })
        .await?;
        Ok(futures::StreamExt::map(maps, |map| {
            map.map_err(|status| match Trouble::of(&status) {
                Trouble::NotSent(why) | Trouble::Broken(why) => Error::Unavailable(why),
                Trouble::Refused(failure) => Error::from_failure(&failure),
            })
        }))
    }

    fn attempts(&self, effect: Effect) -> Attempts {
        Attempts::new(&self.client, self.place.clone(), effect, self.deadline)
    }
}
