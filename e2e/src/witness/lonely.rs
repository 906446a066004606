//! A reader that asks one node directly, on a machine that will be cut off. Whatever the node
//! still answers there is compared afterwards with what others had been told by then.

use std::sync::Arc;
use std::time::Duration;

use proto::v1::GetRequest;
use proto::v1::kv_client::KvClient;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};

use super::Settings;
use super::report::{LonelyReport, Sight};
use super::run::{COUNTER, unix_millis};
use crate::history::guarded::Guarded;

/// How long one look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(1);
/// The rest after each.
const REST: Duration = Duration::from_millis(5);

/// A lonely reader.
pub struct Lonely {
    table: String,
    door: KvClient<Channel>,
    seen: Guarded<LonelyReport>,
}

impl Lonely {
    /// A reader of the node at the endpoint.
    pub fn new(settings: &Settings) -> anyhow::Result<Arc<Self>> {
        let endpoint = Endpoint::from_shared(format!("http://{}", settings.endpoint))?;
        let door = KvClient::new(endpoint.connect_timeout(LOOK_WITHIN).connect_lazy());
        Ok(Arc::new(Self { table: settings.table.clone(), door, seen: Guarded::default() }))
    }

    /// Reads for ever, linearizably: what is stale is then the node's fault.
    pub async fn read(self: Arc<Self>) {
        loop {
            let began = unix_millis();
            let count = self.look().await;
            {
                let mut seen = self.seen.lock();
                match count {
                    Some(count) => seen.sights.push(Sight { began, count }),
                    None => seen.refused += 1,
                }
            }
            sleep(REST).await;
        }
    }

    /// What it saw.
    pub fn seen(&self) -> LonelyReport {
        self.seen.lock().clone()
    }

    async fn look(&self) -> Option<u64> {
        let request = GetRequest { table: self.table.clone(), key: COUNTER.into(), ..GetRequest::default() };
        let answer = timeout(LOOK_WITHIN, self.door.clone().get(request)).await.ok()?.ok()?;
        let item = answer.into_inner().item?;
        std::str::from_utf8(&item.value).ok()?.parse().ok()
    }
}
