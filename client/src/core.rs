//! What all handles of one client share.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use proto::v1::admin_client::AdminClient;
use proto::v1::kv_client::KvClient;
use proto::v1::{MapRequest, MapResponse, NotLeader, WrongEpoch};
use tonic::transport::Channel;

use crate::channels::{Channels, MAX_MESSAGE};
use crate::options::Options;
use crate::route::{Address, RouteMap};

/// How long asking for a newer map may hold a call up.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// What all handles of one client share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) channels: Channels,
    endpoints: Vec<Address>,
    map: ArcSwap<RouteMap>,
    refreshing: tokio::sync::Mutex<()>,
}

impl Core {
    pub(crate) fn new(endpoints: Vec<Address>, options: Options) -> Self {
        Self {
            channels: Channels::new(&options),
            options,
            endpoints,
            map: ArcSwap::default(),
            refreshing: tokio::sync::Mutex::default(),
        }
    }

    /// The endpoints that the client was given.
    pub(crate) fn endpoints(&self) -> &[Address] {
        &self.endpoints
    }

    /// The map as it is now.
    pub(crate) fn map(&self) -> Arc<RouteMap> {
        self.map.load_full()
    }

    /// The leader of a key, unless it is not known or did not answer a moment ago.
    pub(crate) fn leader_of(&self, table: &str, key: &[u8]) -> Option<Address> {
        let map = self.map.load();
        map.leader_of(table, key).filter(|address| !self.channels.is_suspect(address)).cloned()
    }

    /// Any node, preferably one that answered when it was last asked, and not `avoid`.
    pub(crate) fn any(&self, avoid: Option<&Address>) -> Option<Address> {
        let map = self.map.load();
        let mut all: Vec<&Address> = map.addresses().collect();
        if all.is_empty() {
            all.extend(&self.endpoints);
        } else if all.iter().all(|address| self.channels.is_suspect(address)) {
            // The nodes' own addresses may not be reachable from here, while the
            // endpoints that the caller gave are.
            all.extend(&self.endpoints);
        }
        let trusted: Vec<&Address> = all
            .iter()
            .copied()
            .filter(|address| Some(*address) != avoid && !self.channels.is_suspect(address))
            .collect();
        let choice = if trusted.is_empty() { all } else { trusted };
        let index = rand::random_range(0..choice.len().max(1));
        choice.get(index).map(|address| Address::clone(address))
    }

    /// Takes a map over, unless it is older or of another cluster.
    pub(crate) fn learn_map(&self, map: &MapResponse) {
        let fresh = Arc::new(RouteMap::new(map));
        self.map.rcu(
            |known| {
                if known.may_be_replaced_by(map) { Arc::clone(&fresh) } else { Arc::clone(known) }
            },
        );
    }

    /// Takes over what a follower said about its leader.
    pub(crate) fn learn_leader(&self, hint: &NotLeader) {
        self.map.rcu(|known| known.with_leader(hint).map_or_else(|| Arc::clone(known), Arc::new));
    }

    /// Takes over the entries that a node found missing.
    pub(crate) fn learn_entries(&self, news: &WrongEpoch) {
        self.map.rcu(|known| known.with_entries(news).map_or_else(|| Arc::clone(known), Arc::new));
    }

    /// Asks a node for the map once. When somebody asks already, waits for that instead.
    pub(crate) async fn refresh_map(&self) {
        let Ok(_alone) = self.refreshing.try_lock() else {
            drop(self.refreshing.lock().await);
            return;
        };
        let Some(Ok(channel)) = self.any(None).map(|address| self.channels.get(&address)) else {
            return;
        };
        let ask = async {
            let mut pages = admin_client(channel).map(MapRequest { follow: false }).await?.into_inner();
            pages.message().await
        };
        // Without a newer map the call goes on with the one that there is.
        if let Ok(Ok(Some(map))) = tokio::time::timeout(REFRESH_TIMEOUT, ask).await {
            self.learn_map(&map);
        }
    }
}

/// The data service over a connection, with the message limits of the contract.
pub(crate) fn kv_client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}

/// The admin service over a connection, with the message limits of the contract.
pub(crate) fn admin_client(channel: Channel) -> AdminClient<Channel> {
    AdminClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}
