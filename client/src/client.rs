//! The handle that everything else is got from.

use std::sync::Arc;

use crate::admin::Admin;
use crate::core::Core;
use crate::error::Error;
use crate::follower::Follower;
use crate::options::Options;
use crate::pipeline::Pipeline;
use crate::route::Address;
use crate::sequence::Sequences;
use crate::table::Table;

/// A client of one cluster. Cloning it is cheap, and all clones share their connections,
/// the map and the numbers of their writes; one per program is enough.
#[derive(Debug, Clone)]
pub struct Client {
    core: Arc<Core>,
    sequences: Sequences,
    _follower: Option<Arc<Follower>>,
}

impl Client {
    /// A client of the cluster that these endpoints (`host:port`) belong to. They are tried
    /// in turn, and one must accept a connection; the other nodes are learned from it.
    pub async fn connect(endpoints: Vec<String>, options: Options) -> Result<Self, Error> {
        let core = Self::core(endpoints, options)?;
        let mut why = "no endpoint was given".to_owned();
        for endpoint in core.endpoints() {
            match core.channels.try_connect(endpoint).await {
                Ok(()) => return Ok(Self::start(core)),
                Err(error) => {
                    why = error;
                    // Known to be silent, so that the first calls go elsewhere.
                    drop(core.channels.get(endpoint));
                    core.channels.suspect(endpoint);
                }
            }
        }
        let tried: Vec<&str> = core.endpoints().iter().map(AsRef::as_ref).collect();
        Err(Error::Unreachable { endpoints: tried.join(", "), why })
    }

    /// The same without trying: connections are opened by the first calls, which wait for
    /// a node within their deadlines. Must be called inside a Tokio runtime.
    pub fn connect_lazy(endpoints: Vec<String>, options: Options) -> Result<Self, Error> {
        Self::core(endpoints, options).map(Self::start)
    }

    /// A table's keys. An empty name means `default`.
    pub fn table(&self, name: &str) -> Table {
        Table::new(self.clone(), name)
    }

    /// A pipeline of operations on a table, for throughput: see [`Pipeline`].
    pub fn pipeline(&self, table: &str) -> Pipeline {
        Pipeline::new(self.clone(), table)
    }

    /// The same client, with numbers of its own for its writes.
    ///
    /// Of one run of numbers a partition remembers about a thousand answers, from the oldest write on that may be sent
    /// again. Whoever has large batches under way side by side gives each a client of its own: a batch that
    /// is slow then holds back no answers but its own, and a retry finds its answer.
    #[must_use]
    pub fn with_own_numbers(&self) -> Self {
        Self { sequences: Sequences::new(rand::random()), ..self.clone() }
    }

    /// The cluster itself, asked through any node.
    pub fn admin(&self) -> Admin {
        Admin::anywhere(self.clone())
    }

    /// The node at this address and no other, for what concerns just that node: creating a
    /// cluster, joining one.
    pub fn admin_at(&self, address: &str) -> Admin {
        Admin::at(self.clone(), address)
    }

    pub(crate) fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    pub(crate) fn shared(&self) -> &Arc<Core> {
        &self.core
    }

    fn core(endpoints: Vec<String>, options: Options) -> Result<Arc<Core>, Error> {
        let endpoints = endpoints.into_iter().map(Address::from).collect();
        let core = Core::new(endpoints, options);
        core.endpoints().iter().try_for_each(|endpoint| core.channels.check(endpoint))?;
        Ok(Arc::new(core))
    }

    fn start(core: Arc<Core>) -> Self {
        let follower = core.options.follow_map.then(|| Arc::new(Follower::start(&core)));
        Self { core, sequences: Sequences::new(rand::random()), _follower: follower }
    }
}
