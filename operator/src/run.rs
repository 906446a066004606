//! The operator as a process: one of several waits for its turn, then keeps clusters and tables
//! until it is told to stop or loses its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crds::{KVCluster, KVTable};
use futures::StreamExt;
use kube::api::DynamicObject;
use kube::runtime::controller::{self, Config, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::cluster::context::Context;
use crate::dataplane::{Links, Where};
use crate::runtime::backoff::Backoff;
use crate::runtime::caches::{Caches, Ground, Watched, Watches, of_namespace};
use crate::runtime::events::Events;
use crate::runtime::http::{self, Readiness};
use crate::runtime::lease::{Lost, Turn};
use crate::runtime::metrics::Metrics;
use crate::settings::RunSettings;
use crate::{cluster, table};

/// How many resources of a kind are looked at at once.
const AT_ONCE: u16 = 16;
/// News of a resource within this time are one look.
const GATHER: Duration = Duration::from_millis(200);
/// How long the looks under way may take when the process ends.
const GRACE: Duration = Duration::from_secs(20);

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another operator acts now.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The port for metrics and health cannot be had.
    #[error("cannot serve on {address}: {source}")]
    Http {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A watch ended, which it never should.
    #[error("a watch has ended, so what is known would grow old")]
    WatchEnded,
}

/// Runs until it is told to stop, or must.
pub async fn run(
    settings: &RunSettings,
    client: Client,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), Error> {
    let identity = identity(settings);
    let ready = Readiness::default();
    let mut serving = {
        let (address, metrics, ready) = (settings.http, metrics.clone(), ready.clone());
        // Health is shown to the very end.
        let until = CancellationToken::new();
        let served = http::serve(address, metrics, ready, until.clone());
        let guard = until.drop_guard();
        tokio::spawn(async move {
            let _guard = guard;
            served.await.map_err(|source| Error::Http { address, source })
        })
    };
    let turn = Turn::new(client.clone(), &settings.own_namespace, &settings.lease, &identity);
    metrics.leading(false);
    // One that waits is ready: another one acts meanwhile.
    ready.set(true);
    tokio::select! {
        () = turn.wait() => {}
        () = stop.cancelled() => return Ok(()),
        ended = &mut serving => return ended.unwrap_or(Ok(())),
    }
    metrics.leading(true);
    // One that acts is ready once it knows what there is: a permission that it lacks is seen by that.
    ready.set(false);
    let acting = stop.child_token();
    let mut work =
        tokio::spawn(act(settings.clone(), client, identity, metrics.clone(), ready.clone(), acting.clone()));
    let ended = tokio::select! {
        lost = turn.hold() => Err(Error::Lost(lost)),
        ended = &mut work => ended.unwrap_or(Err(Error::WatchEnded)),
        ended = &mut serving => ended.unwrap_or(Ok(())),
        () = stop.cancelled() => Ok(()),
    };
    ready.set(false);
    metrics.leading(false);
    // Without the turn nothing more may be done, not even to the end of what was begun.
    if matches!(ended, Err(Error::Lost(_))) {
        work.abort();
        return ended;
    }
    acting.cancel();
    if !work.is_finished() && tokio::time::timeout(GRACE, &mut work).await.is_err() {
        work.abort();
        tracing::warn!("what was under way did not end in time; the next operator goes on with it");
    }
    turn.release().await;
    ended
}

fn identity(settings: &RunSettings) -> String {
    let host = || std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    settings.identity.clone().or_else(host).unwrap_or_else(|| format!("operator-{}", std::process::id()))
}

/// Keeps everything that is watched, until it is told to stop.
async fn act(
    settings: RunSettings,
    client: Client,
    identity: String,
    metrics: Metrics,
    ready: Readiness,
    stop: CancellationToken,
) -> Result<(), Error> {
    let events = Events::new(client.clone(), &identity);
    let (links, changed) = Links::new();
    let watched = match settings.watched() {
        all if all.is_empty() => vec![Watched::All],
        some => some.into_iter().map(Watched::Namespace).collect(),
    };
    tracing::info!(?watched, node_image = settings.node_image, "keeping clusters and tables");
    let mut ground_tasks = JoinSet::new();
    let ground = Ground::start(&client, &mut ground_tasks);
    let mut scopes = JoinSet::new();
    let mut news = Vec::new();
    let unfilled = Arc::new(AtomicUsize::new(watched.len()));
    for watched in watched {
        let (tell, hear) = mpsc::channel(1024);
        news.push((watched.clone(), tell));
        let (client, links, events) = (client.clone(), links.clone(), events.clone());
        let (metrics, settings, stop) = (metrics.clone(), settings.clone(), stop.clone());
        let (ground, ready, unfilled) = (ground.clone(), ready.clone(), Arc::clone(&unfilled));
        scopes.spawn(async move {
            let (caches, watches) = Caches::start(&client, &watched, &ground);
            let context = Arc::new(Context {
                client,
                caches,
                links,
                events,
                metrics,
                node_image: settings.node_image,
                fault: settings.fault,
                monitored: parking_lot::Mutex::default(),
                failing: Backoff::default(),
                failing_tables: Backoff::default(),
            });
            let filled = tokio::select! {
                filled = context.caches.filled() => filled,
                () = stop.cancelled() => return Ok(()),
            };
            filled.map_err(|_| Error::WatchEnded)?;
            if unfilled.fetch_sub(1, Ordering::AcqRel) == 1 {
                ready.set(true);
            }
            keep(context, watched, watches, hear, stop).await
        });
    }
    // The ground is everybody's.
    let ended = stop.clone();
    scopes.spawn(async move {
        tokio::select! {
            Some(_) = ground_tasks.join_next() => Err(Error::WatchEnded),
            () = ended.cancelled() => Ok(()),
        }
    });
    let sorted = tokio::spawn(sort(changed, news));
    let mut ended = Ok(());
    while let Some(scope) = scopes.join_next().await {
        let scope = scope.unwrap_or(Err(Error::WatchEnded));
        if scope.is_err() && ended.is_ok() {
            ended = scope;
            stop.cancel();
        }
    }
    sorted.abort();
    ended
}

fn which(gone: ObjectRef<DynamicObject>) -> Where {
    Where { namespace: gone.namespace.unwrap_or_default(), name: gone.name }
}

/// Hands what clusters say of themselves to whoever keeps their namespace.
async fn sort(mut changed: mpsc::Receiver<Where>, news: Vec<(Watched, mpsc::Sender<Where>)>) {
    while let Some(which) = changed.recv().await {
        let keeper = news.iter().find(|(watched, _)| of_namespace(watched, &which.namespace));
        if let Some((_, tell)) = keeper {
            // A look is waiting already when it does not fit.
            let _ = tell.try_send(which);
        }
    }
}

/// Keeps the clusters and tables of what is watched.
async fn keep(
    context: Arc<Context>,
    watched: Watched,
    Watches { clusters: look, tables: look_at_tables, tasks: mut watches }: Watches,
    changed: mpsc::Receiver<Where>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let config = || Config::default().concurrency(AT_ONCE).debounce(GATHER);
    let to_ref = |which: Where| ObjectRef::<KVCluster>::new(&which.name).within(&which.namespace);
    let clusters = Controller::new(watched.api::<KVCluster>(&context.client), watcher::Config::default())
        .with_config(config())
        .reconcile_on(ReceiverStream::new(look).map(to_ref))
        .reconcile_on(ReceiverStream::new(changed).map(to_ref))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(cluster::controller::reconcile, cluster::controller::on_error, Arc::clone(&context))
        .for_each(|looked| {
            // Nobody looks at what is gone, so what was kept of it goes here.
            if let Err(controller::Error::ObjectNotFound(gone)) = looked {
                context.forget(&which(*gone));
            }
            std::future::ready(())
        });
    let all_tables = context.caches.tables.clone();
    let tables = Controller::new(watched.api::<KVTable>(&context.client), watcher::Config::default())
        .with_config(config())
        .reconcile_on(ReceiverStream::new(look_at_tables).flat_map(move |tables| {
            let concerned = all_tables.state_filter(|table| {
                table.spec.cluster == tables.of.name
                    && table.namespace().as_ref() == Some(&tables.of.namespace)
                    && tables.named.as_ref().is_none_or(|named| named == table.table_name())
            });
            let refs: Vec<_> = concerned.iter().map(|table| ObjectRef::from_obj(table.as_ref())).collect();
            futures::stream::iter(refs)
        }))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(table::controller::reconcile, table::controller::on_error, Arc::clone(&context))
        .for_each(|looked| {
            if let Err(controller::Error::ObjectNotFound(gone)) = looked {
                context.failing_tables.forget(&which(*gone));
            }
            std::future::ready(())
        });
    tokio::select! {
        _ = async { tokio::join!(clusters, tables) } => {
            if stop.is_cancelled() { Ok(()) } else { Err(Error::WatchEnded) }
        }
        Some(_) = watches.join_next() => Err(Error::WatchEnded),
    }
}
