use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;

#[derive(Default)]
struct Joining(AtomicBool);

impl Health for Joining {
    fn ready(&self) -> Result<(), String> {
        if self.0.load(Ordering::Relaxed) { Ok(()) } else { Err("this node is in no cluster yet".to_owned()) }
    }
}

struct Door {
    address: SocketAddr,
    health: Arc<Joining>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Door {
    async fn open() -> Self {
        Self::open_until(LAST_ANSWERS).await
    }

    async fn open_until(last_answers: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Arc::new(Joining::default());
        let stop = CancellationToken::new();
        let router = router(Arc::clone(&health) as Arc<dyn Health>, Arc::new(Metrics::new()));
        let connections = Connections::new(2, 1 << 20);
        let serving = tokio::spawn(serve_until(listener, router, connections, stop.clone(), last_answers));
        Self { address, health, stop, serving }
    }

    async fn get(&self, path: &str) -> String {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

#[tokio::test]
async fn a_node_that_has_not_joined_lives_but_is_not_ready_and_says_why() {
    let door = Door::open().await;
    assert!(door.get("/livez").await.starts_with("HTTP/1.1 200 OK"));
    let answer = door.get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("in no cluster yet"), "{answer}");

    door.health.0.store(true, Ordering::Relaxed);
    assert!(door.get("/readyz").await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn metrics_are_what_prometheus_asks_for() {
    let door = Door::open().await;
    let answer = door.get("/metrics").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{answer}");
    assert!(
        answer.contains("\nkvstore_operations_total{operation=\"get\",outcome=\"done\"} 0\n"),
        "{answer}"
    );
    assert!(door.get("/nothing").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_up_the_end() {
    let door = Door::open_until(Duration::from_millis(20)).await;
    let mut half = TcpStream::connect(door.address).await.unwrap();
    half.write_all(b"GET /livez HT").await.unwrap();
    // An answer on another connection shows that the door has met the half request too.
    door.get("/livez").await;
    door.stop.cancel();
    door.serving.await.unwrap();
}

#[tokio::test]
async fn the_door_closes_when_it_is_told_to() {
    let door = Door::open().await;
    door.get("/livez").await;
    door.stop.cancel();
    door.serving.await.unwrap();
    assert!(TcpStream::connect(door.address).await.is_err());
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let door = Door::open().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = TcpStream::connect(door.address).await.unwrap();
        connection.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
        // It has its place once it is answered.
        connection.read_u8().await.unwrap();
        held.push(connection);
    }
    let mut refused = TcpStream::connect(door.address).await.unwrap();
    let mut answer = String::new();
    refused.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}
