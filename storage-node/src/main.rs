//! `trilith-node`: one storage node.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use proto::v1::Addresses;
use proto::v1::admin_server::AdminServer;
use proto::v1::kv_server::KvServer;
use storage_node::config::{
    Address, ByteSize, CommandLine, Machine, NodeConfig, Parts, Reached, Start, ThisMachine,
};
use storage_node::doors::connections::{Connections, Listener};
use storage_node::doors::grpc::{AdminDoor, KvDoor, MESSAGE_BYTES, PeerDoor};
use storage_node::doors::resp::{self, RespDoor};
use storage_node::doors::text::conversation::Rules;
use storage_node::doors::{Operations, http, text};
use storage_node::node::Node;
use storage_node::observability::logging;
use storage_node::raft::network::connect;
use storage_node::router::context::Door;
use storage_node::seams::{clock, threads};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// An operation allocates dozens of times on each of three nodes, on any thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For connections that do not end by themselves.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trilith-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let config = match CommandLine::of_this_process().start(&ThisMachine)? {
        Start::Print(text) => {
            use std::io::Write;
            std::io::stdout().write_all(text.as_bytes())?;
            return Ok(());
        }
        Start::Serve(config) => *config,
    };
    logging::start(&config.logging)?;
    tell_memory(&config);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // In turn, not the one that was woken last first: whoever writes to a peer or to the log
    // then finds what all the others had to say, and one frame or sync serves them all.
    runtime.disable_lifo_slot();
    if config.worker_threads > 0 {
        runtime.worker_threads(config.worker_threads.into());
    }
    runtime.enable_all().build().context("cannot start the runtime")?.block_on(serve(config))
}

/// A node whose parts may be more than it can have is ended by the system in the middle of its work.
fn tell_memory(config: &NodeConfig) {
    let parts = Parts::from(config);
    for (part, bytes) in parts.bounds() {
        tracing::debug!(part, %bytes, "memory at most");
    }
    if let Some(limit) = ThisMachine.memory_limit().map(ByteSize)
        && parts.total() > limit
    {
        tracing::warn!(
            at_most = %parts.total(),
            %limit,
            "the parts of this node's memory may together take more than it can have: raise the limit, set memory, \
             or lower the sizes that were set by themselves"
        );
    }
}

async fn serve(config: NodeConfig) -> anyhow::Result<()> {
    let began = clock::now();
    let grpc = bind(config.listen.grpc, "gRPC", "--listen-grpc").await?;
    let peer = bind(config.listen.peer, "peer", "--listen-peer").await?;
    let http = bind(config.listen.http, "HTTP", "--listen-http").await?;
    let redis = bind_door(config.listen.redis, "Redis", "--listen-redis").await?;
    let redis_cluster =
        bind_door(config.listen.redis_cluster, "Redis cluster", "--listen-redis-cluster").await?;
    let socket = config.listen.resp_socket.as_deref().map(bind_socket).transpose()?;
    let shown = |listener: &Option<TcpListener>| {
        listener.as_ref().and_then(|listener| listener.local_addr().ok()).map(|at| at.to_string())
    };
    let text = bind_door(config.listen.text, "text", "--listen-text").await?;
    let advertised = &config.advertise;
    let addresses = Addresses {
        grpc: advertised.grpc.bound_to(grpc.local_addr()?).to_string(),
        peer: advertised.peer.bound_to(peer.local_addr()?).to_string(),
        http: advertised.http.bound_to(http.local_addr()?).to_string(),
        redis: shown(&redis).unwrap_or_default(),
        redis_cluster: match (&advertised.redis_cluster, &redis_cluster) {
            (Some(address), Some(listener)) => address.bound_to(listener.local_addr()?).to_string(),
            _ => String::new(),
        },
        text: advertised_text(advertised, text.as_ref())?,
    };
    tracing::info!(
        name = config.name,
        grpc = addresses.grpc,
        peer = addresses.peer,
        http = addresses.http,
        text = addresses.text,
        "starting"
    );
    let ends_with_parent = config.exit_with_parent;
    // Of all the plain doors together.
    let text_rules = Rules::of(&config);

    let node = Node::start(config, addresses, began).await.context("cannot start")?;
    let stop = CancellationToken::new();

    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<KvServer<KvDoor>>().await;
    reporter.set_serving::<AdminServer<AdminDoor>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("cannot serve reflection")?;
    let public = Server::builder()
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .add_service(limited_kv(&node))
        .add_service(limited_admin(&node))
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming_shutdown(incoming(grpc), stop.clone().cancelled_owned());
    let peers = connect::server()
        .add_service(connect::service(PeerDoor::new(Arc::clone(&node))))
        .serve_with_incoming_shutdown(incoming(peer), stop.clone().cancelled_owned());
    let answers = http::router(Arc::clone(&node) as Arc<dyn http::Health>, Arc::clone(&node.metrics))
        .merge(http::rest::router(Operations::new(Arc::clone(&node), Door::Http)));
    let limits = node.config.doors;
    let connections = || Connections::new(limits.max_connections, limits.max_connection_bytes);
    let plain = connections();
    plain.register(node.metrics.registry(), &[("doors", "redis,text")]);
    let shared = resp::Shared::new(Arc::clone(&plain));
    // Of its own, so that probes are answered whoever else comes.
    let of_http = connections();
    of_http.register(node.metrics.registry(), &[("doors", "http")]);
    let mut doors = vec![
        tokio::spawn(async move { public.await.map_err(anyhow::Error::from) }),
        tokio::spawn(async move { peers.await.map_err(anyhow::Error::from) }),
        tokio::spawn({
            let stop = stop.clone();
            async move {
                http::serve(http, answers, of_http, stop).await;
                Ok(())
            }
        }),
    ];
    let resp_doors = [
        (redis.map(Listener::Tcp), Door::Redis),
        (redis_cluster.map(Listener::Tcp), Door::RedisCluster),
        (socket.map(Listener::Unix), Door::Redis),
    ];
    for (listener, door) in resp_doors {
        let Some(listener) = listener else { continue };
        let door = RespDoor::new(Arc::clone(&node), door, shared.clone(), listener.to_string());
        let stop = stop.clone();
        doors.push(tokio::spawn(async move {
            door.serve(listener, stop).await;
            Ok(())
        }));
    }
    if let Some(listener) = text {
        let operations = Operations::new(Arc::clone(&node), Door::Text);
        let door = text::serve(Listener::Tcp(listener), operations, plain, text_rules, stop.clone());
        doors.push(tokio::spawn(async move {
            door.await;
            Ok(())
        }));
    }

    let removed = asked_to_end(&node, ends_with_parent).await?;
    reporter.set_not_serving::<KvServer<KvDoor>>().await;
    reporter.set_not_serving::<AdminServer<AdminDoor>>().await;
    node.leave().await;
    stop.cancel();
    let _ = tokio::time::timeout(LAST_ANSWERS, futures::future::join_all(doors)).await;
    node.stop().await;
    if let Some(socket) = &node.config.listen.resp_socket {
        let _ = std::fs::remove_file(socket);
    }
    if removed {
        node.retire()?;
    }
    tracing::info!("ended");
    Ok(())
}

async fn bind(address: SocketAddr, door: &str, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for the {door} door: is another node running there? choose another port with {flag} or --port-offset")
    })
}

/// The same for a door that may stay closed.
async fn bind_door(
    address: Option<SocketAddr>,
    door: &str,
    flag: &str,
) -> anyhow::Result<Option<TcpListener>> {
    match address {
        None => Ok(None),
        Some(address) => bind(address, door, flag).await.map(Some),
    }
}

/// Listens on a Unix socket that only this user may use. One that a node left behind, on which
/// nobody listens any more, is taken over.
fn bind_socket(path: &Path) -> anyhow::Result<UnixListener> {
    let taken =
        || format!("cannot listen on the socket {}: choose another with --resp-socket", path.display());
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        anyhow::bail!("{}: somebody listens there", taken());
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).with_context(taken)?,
        Ok(_) => anyhow::bail!("{}: there is something that is no socket", taken()),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).with_context(taken)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).with_context(taken)?;
    Ok(listener)
}

/// Where others reach the text door; empty where it is closed. It has no setting of its own:
/// where it listens on every address, the name of the gRPC door leads to it as well.
fn advertised_text(advertised: &Reached, text: Option<&TcpListener>) -> anyhow::Result<String> {
    let Some(listening) = text.map(TcpListener::local_addr).transpose()? else { return Ok(String::new()) };
    if !listening.ip().is_unspecified() {
        return Ok(listening.to_string());
    }
    Ok(Address::new(advertised.grpc.host(), listening.port())?.to_string())
}

fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

fn limited_kv(node: &Arc<Node>) -> KvServer<KvDoor> {
    KvServer::new(KvDoor::new(Arc::clone(node)))
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}

fn limited_admin(node: &Arc<Node>) -> AdminServer<AdminDoor> {
    AdminServer::new(AdminDoor::new(Arc::clone(node)))
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}

/// Returns when the process is to end, and whether that is because the cluster has removed
/// this node.
async fn asked_to_end(node: &Arc<Node>, with_parent: bool) -> anyhow::Result<bool> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let parent = CancellationToken::new();
    let parent_ended = parent.clone();
    if with_parent {
        // A thread that nobody waits for: the parent may well outlive this process, and a read
        // cannot be called off.
        threads::spawn("parent", move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            parent_ended.cancel();
        })?;
    }
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("interrupted: ending"),
        _ = terminate.recv() => tracing::info!("terminated: ending"),
        () = parent.cancelled() => tracing::info!("who started this node has ended: ending"),
        () = node.removed.cancelled() => {
            tracing::warn!("the cluster has removed this node: ending");
            return Ok(true);
        }
    }
    Ok(false)
}
