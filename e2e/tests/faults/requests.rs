//! Requests that make no sense, at every door of a node, from clients of any kind.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::PutOptions;
use e2e::{Cluster, Scenario, Shape};
use proto::v1::kv_client::KvClient;
use proto::v1::operation::Operation as Kind;
use proto::v1::result::Result as Outcome;
use proto::v1::{
    BatchRequest, CreateTableRequest, DeleteRequest, ExistsRequest, Frame, GetRequest, GroupStatusRequest,
    Hello, MetaCallRequest, NodeRequest, Operation, PutRequest, RegisterRequest, Retry, ScanRequest,
    ScanResponse, SnapshotEnd, SnapshotPiece, StreamRequest, TxnRequest, snapshot_piece::Piece,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::refusal::refused;

const KEY_LIMIT: usize = 4 << 10;
const VALUE_LIMIT: usize = 8 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused() -> anyhow::Result<()> {
    let scenario = Scenario::begin("bad requests").await?;
    let cluster = Cluster::form(Shape { nodes: 1, ..Shape::default() }).await?;
    cluster.create_table("other", 2).await?;
    let table = cluster.client()?.table("default");
    for key in 0..50 {
        table.put(format!("key-{key:02}"), "value", PutOptions::default()).await?;
    }
    let door = cluster.kv_at(0)?;
    sizes(door.clone()).await?;
    scenario.say("keys and values that are empty or too large are refused");
    tables(door.clone()).await?;
    batches(door.clone()).await?;
    scenario.say("unknown tables, batches of nothing, nested and crossing ones are refused");
    cursors(door.clone()).await?;
    scenario.say("cursors that are damaged, or of another scan, are refused");
    streams(door.clone()).await?;
    scenario.say("a stream goes on after an operation that makes no sense");
    admin(&cluster).await?;
    peers(&cluster).await?;
    scenario.say("the admin and the peer door refuse what makes no sense");
    for address in [cluster.endpoint(0)?, cluster.peer_endpoint(0)?] {
        noise(address.parse()?).await?;
    }
    let item = table.get("key-07").await?.context("a key is gone")?;
    ensure!(&item.value[..] == b"value" && table.get("key").await?.is_none(), "something was written");
    scenario.say("after noise on its ports the node serves as before");
    cluster.finish()
}

fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> PutRequest {
    PutRequest { key: key.into().into(), value: value.into().into(), ..PutRequest::default() }
}

fn operation(kind: Kind) -> Operation {
    Operation { operation: Some(kind) }
}

async fn sizes(mut door: KvClient<Channel>) -> anyhow::Result<()> {
    use Code::InvalidArgument;
    let empty = "must not be empty";
    refused("an empty key to get", door.get(GetRequest::default()), InvalidArgument, empty).await?;
    refused("an empty key to put", door.put(put("", "v")), InvalidArgument, empty).await?;
    refused("an empty key to delete", door.delete(DeleteRequest::default()), InvalidArgument, empty).await?;
    refused("an empty key to ask for", door.exists(ExistsRequest::default()), InvalidArgument, empty).await?;

    let long = vec![b'k'; KEY_LIMIT + 1];
    let limit = "the limit is 4096";
    refused("a key too long", door.put(put(long.clone(), "v")), InvalidArgument, limit).await?;
    let get = GetRequest { key: long.clone().into(), ..GetRequest::default() };
    refused("a key too long to get", door.get(get), InvalidArgument, limit).await?;
    let scan = ScanRequest { start: long.into(), ..ScanRequest::default() };
    refused("a bound too long", first_page(&mut door, scan), InvalidArgument, limit).await?;

    let longest = vec![b'k'; KEY_LIMIT];
    ensure!(door.put(put(longest.clone(), "v")).await?.into_inner().applied, "the longest key is not taken");
    door.delete(DeleteRequest { key: longest.into(), ..DeleteRequest::default() }).await?;
    ensure!(
        door.put(put("large", vec![b'v'; VALUE_LIMIT])).await?.into_inner().applied,
        "the largest value is not taken"
    );
    door.delete(DeleteRequest { key: "large".into(), ..DeleteRequest::default() }).await?;
    let limit = "the limit is 8388608";
    let large = put("large", vec![b'v'; VALUE_LIMIT + 1]);
    refused("a value too large", door.put(large), InvalidArgument, limit).await?;
    let huge = put("large", vec![b'v'; 30 << 20]);
    refused("a message too large", door.put(huge), Code::OutOfRange, "too large").await?;

    let retry = Some(Retry { client: "short".into(), sequence: 1, ..Retry::default() });
    let odd = PutRequest { retry: retry.clone(), ..put("k", "v") };
    refused("a client's name of five bytes", door.put(odd), InvalidArgument, "16 bytes").await?;
    let odd = DeleteRequest { key: "k".into(), retry, ..DeleteRequest::default() };
    refused("the same in a delete", door.delete(odd), InvalidArgument, "16 bytes").await
}

async fn tables(mut door: KvClient<Channel>) -> anyhow::Result<()> {
    let nowhere = "there is no table \"nowhere\"";
    let table = || "nowhere".to_owned();
    let get = GetRequest { table: table(), key: "k".into(), ..GetRequest::default() };
    refused("a get in no table", door.get(get), Code::NotFound, nowhere).await?;
    let write = PutRequest { table: table(), ..put("k", "v") };
    refused("a put in no table", door.put(write), Code::NotFound, nowhere).await?;
    let scan = ScanRequest { table: table(), ..ScanRequest::default() };
    refused("a scan of no table", first_page(&mut door, scan), Code::NotFound, nowhere).await?;
    let odd = GetRequest { table: "../etc".to_owned(), key: "k".into(), ..GetRequest::default() };
    refused("a name that is none", door.get(odd), Code::InvalidArgument, "is not a table name").await
}

async fn batches(mut door: KvClient<Channel>) -> anyhow::Result<()> {
    use Code::InvalidArgument;
    let nothing = BatchRequest { operations: vec![Operation::default()], ..BatchRequest::default() };
    refused("an operation that is none", door.batch(nothing), InvalidArgument, "operation 0").await?;
    let inner = operation(Kind::Batch(BatchRequest::default()));
    let nested = BatchRequest { operations: vec![inner], ..BatchRequest::default() };
    refused("a batch in a batch", door.batch(nested), InvalidArgument, "cannot hold another").await?;
    let many = vec![operation(Kind::Put(put("k", "v"))); 1_001];
    let many = BatchRequest { operations: many, ..BatchRequest::default() };
    refused("too many operations", door.batch(many), InvalidArgument, "the limit is 1000").await?;
    let crossing = ["a", "b"].map(|key| operation(Kind::Put(put(key, "v")))).to_vec();
    let crossing = BatchRequest { operations: crossing, atomic: true, ..BatchRequest::default() };
    refused("an atomic batch over slots", door.batch(crossing), InvalidArgument, "one slot").await?;
    let empty = door.txn(TxnRequest::default());
    refused("a transaction of nothing", empty, InvalidArgument, "at least one").await
}

async fn cursors(mut door: KvClient<Channel>) -> anyhow::Result<()> {
    let scan = ScanRequest { prefix: "key-".into(), limit: 5, ..ScanRequest::default() };
    let page = first_page(&mut door, scan.clone()).await?.into_inner();
    let cursor = page.cursor;
    ensure!(page.items.len() == 5 && !cursor.is_empty(), "there is no cursor to begin with");
    let next =
        first_page(&mut door, ScanRequest { cursor: cursor.clone(), ..scan.clone() }).await?.into_inner();
    let next = next.items.first().context("the next page is empty")?;
    ensure!(&next.key[..] == b"key-05", "the next page begins with {:?}", next.key);

    let mut damaged = cursor.to_vec();
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    let half = cursor.slice(..cursor.len() / 2);
    for (what, cursor, phrase) in [
        ("a damaged cursor", damaged.into(), "damaged"),
        ("half a cursor", half, "damaged"),
        ("three bytes", "abc".into(), "cut short"),
    ] {
        let scan = ScanRequest { cursor, ..scan.clone() };
        refused(what, first_page(&mut door, scan), Code::InvalidArgument, phrase).await?;
    }
    let other = ScanRequest { table: "other".to_owned(), cursor: cursor.clone(), ..scan.clone() };
    refused("another table's cursor", first_page(&mut door, other), Code::InvalidArgument, "another table")
        .await?;
    let other = ScanRequest { reverse: true, cursor, ..scan };
    refused("another scan's cursor", first_page(&mut door, other), Code::InvalidArgument, "other bounds")
        .await
}

/// A stream's operations fail one by one.
async fn streams(mut door: KvClient<Channel>) -> anyhow::Result<()> {
    let good = || operation(Kind::Get(GetRequest { key: "key-01".into(), ..GetRequest::default() }));
    let operations = vec![good(), Operation::default(), operation(Kind::Put(put("", "v"))), good()];
    let requests = futures::stream::iter([StreamRequest { operations }]);
    let mut answers = door.stream(requests).await?.into_inner();
    let mut failed = Vec::new();
    while let Some(answer) = answers.message().await? {
        failed.extend(answer.results.iter().map(|result| matches!(result.result, Some(Outcome::Failure(_)))));
    }
    ensure!(failed == [false, true, true, false], "failed in this order: {failed:?}");
    Ok(())
}

async fn admin(cluster: &Cluster) -> anyhow::Result<()> {
    let mut door = cluster.admin_at(0)?;
    let node = NodeRequest { node: "nobody".to_owned() };
    refused("draining nobody", door.drain_node(node.clone()), Code::NotFound, "there is no node").await?;
    refused("moving nobody's leaders", door.transfer_leaders(node), Code::NotFound, "there is no node")
        .await?;
    let table = |name: &str, replicas| CreateTableRequest {
        name: name.to_owned(),
        replicas,
        ..CreateTableRequest::default()
    };
    let odd = door.create_table(table("../etc", 0));
    refused("a table's name that is none", odd, Code::InvalidArgument, "is not a table name").await?;
    let unnamed = door.create_table(table("", 1));
    refused("the table `default` again", unnamed, Code::AlreadyExists, "there is a table default").await?;
    refused("two replicas", door.create_table(table("t", 2)), Code::FailedPrecondition, "replicas").await?;
    let three = door.create_table(table("t", 3));
    refused("three replicas on one node", three, Code::FailedPrecondition, "node").await?;
    let many = CreateTableRequest { partitions: 65, buckets: 64, ..table("t", 1) };
    refused("more partitions than buckets", door.create_table(many), Code::InvalidArgument, "64").await
}

/// Other nodes are trusted, and yet nothing that they say ends this one.
async fn peers(cluster: &Cluster) -> anyhow::Result<()> {
    let mut door = cluster.peer_at(0)?;
    let absent = door.group_status(GroupStatusRequest { group: 999 }).await?.into_inner();
    ensure!(absent.absent, "there is a group 999");
    let call =
        MetaCallRequest { cluster: vec![7; 16].into(), method: "Status".to_owned(), ..Default::default() };
    refused("a call for another cluster", door.meta_call(call), Code::FailedPrecondition, "cluster").await?;
    let nobody = door.register(RegisterRequest::default());
    refused("a registration of nobody", nobody, Code::InvalidArgument, "no node").await?;
    let hello =
        Hello { cluster: vec![7; 16].into(), from_node: vec![8; 16].into(), to_node: vec![9; 16].into() };
    let frames = futures::stream::iter([Frame { hello: Some(hello), messages: Vec::new() }]);
    refused(
        "frames for another cluster",
        first_frame(door.exchange(frames)),
        Code::FailedPrecondition,
        "cluster",
    )
    .await?;
    let silent = futures::stream::iter([Frame::default()]);
    let silent = first_frame(door.exchange(silent)).await;
    ensure!(silent.is_err(), "frames of nobody are taken");
    let end = SnapshotPiece { piece: Some(Piece::End(SnapshotEnd { files: 3 })) };
    ensure!(door.snapshot(futures::stream::iter([end])).await.is_err(), "a snapshot without a head is taken");
    Ok(())
}

/// Bytes that are no HTTP/2 end their connection, and nothing else.
async fn noise(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&[0xa5; 4096]).await?;
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    // A reset is as good as an end.
    closed.map(|_| ()).with_context(|| format!("noise on {address} leaves the connection open"))
}

async fn first_page(
    door: &mut KvClient<Channel>,
    scan: ScanRequest,
) -> Result<Response<ScanResponse>, Status> {
    let page = door.scan(scan).await?.into_inner().message().await?;
    Ok(Response::new(page.unwrap_or_default()))
}

async fn first_frame(
    exchange: impl Future<Output = Result<Response<tonic::Streaming<Frame>>, Status>>,
) -> Result<Response<Frame>, Status> {
    let frame = exchange.await?.into_inner().message().await?;
    frame.map(Response::new).ok_or_else(|| Status::unknown("the stream ended without a word"))
}
