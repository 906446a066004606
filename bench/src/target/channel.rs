//! Connections: the same number with the same settings for every target.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use super::TargetError;

/// A server on the same machine that has not accepted by then does not live.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// HTTP/2's own window of 64 KiB would make a pipelining client wait for window updates
/// rather than for the server.
const WINDOW: u32 = 4 << 20;

/// TCP connections to each of several endpoints, shared by the clients.
#[derive(Debug, Clone)]
pub struct ChannelPool {
    by_endpoint: Vec<Vec<Channel>>,
}

impl ChannelPool {
    /// Opens `connections` in all, spread evenly over the endpoints, at least one to each.
    pub async fn open(endpoints: &[String], connections: usize) -> Result<Self, TargetError> {
        if endpoints.is_empty() {
            return Err(TargetError::NoEndpoint);
        }
        let each = connections.div_ceil(endpoints.len()).max(1);
        let mut by_endpoint = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let mut channels = Vec::with_capacity(each);
            for _ in 0..each {
                channels.push(connect(endpoint).await?);
            }
            by_endpoint.push(channels);
        }
        Ok(Self { by_endpoint })
    }

    /// How many endpoints there are.
    pub fn endpoints(&self) -> usize {
        self.by_endpoint.len()
    }

    /// The endpoint that a client uses which has no reason to prefer another.
    pub fn endpoint_of(&self, client: usize) -> usize {
        client % self.by_endpoint.len().max(1)
    }

    /// A client's channel to an endpoint.
    pub fn channel(&self, endpoint: usize, client: usize) -> Result<Channel, TargetError> {
        // Clients are dealt to endpoints first and to the channels of an endpoint then, so
        // that each channel serves as many clients as any other.
        let turn = client / self.by_endpoint.len().max(1);
        self.by_endpoint
            .get(endpoint)
            .and_then(|channels| channels.get(turn % channels.len().max(1)))
            .cloned()
            .ok_or(TargetError::NoEndpoint)
    }
}

/// One connection, made before this returns.
pub async fn connect(address: &str) -> Result<Channel, TargetError> {
    endpoint(address)?
        .connect()
        .await
        .map_err(|source| TargetError::Connect { endpoint: address.to_owned(), source })
}

fn endpoint(address: &str) -> Result<Endpoint, TargetError> {
    let uri = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|_| TargetError::BadEndpoint(address.to_owned()))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW))
}
