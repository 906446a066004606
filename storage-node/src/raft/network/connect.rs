//! HTTP/2 connections between nodes, and what both ends of them are set to.

use std::time::Duration;

use proto::v1::peer_client::PeerClient;
use proto::v1::peer_server::{Peer, PeerServer};
use tonic::transport::{Channel, Endpoint, Server};

/// The largest frame, both ways. tonic's own limit of 4 MiB is less than one full entry.
pub const MESSAGE_LIMIT: usize = 20 << 20;
/// A peer that has not answered a ping for this long is gone: its connection is dropped and
/// whoever waits for an answer from it is told.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// A stream may have a couple of full frames on their way.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Connects to a node's peer address (`host:port`).
pub async fn connect(address: &str, timeout: Duration) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect()
        .await
}

/// A client of the peer service with the limits of this contract.
pub fn client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT).max_encoding_message_size(MESSAGE_LIMIT)
}

/// The peer service with the limits of this contract.
pub fn service<P: Peer>(peer: P) -> PeerServer<P> {
    PeerServer::new(peer).max_decoding_message_size(MESSAGE_LIMIT).max_encoding_message_size(MESSAGE_LIMIT)
}

/// A server for the peer listener, set to what clients from [`connect`] expect. A listener
/// that is handed to it must set `TCP_NODELAY` itself.
pub fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}
