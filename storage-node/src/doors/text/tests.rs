//! Whole conversations, over streams in memory and with a store that keeps nothing on disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use proto::v1::{
    BatchResponse, DeleteResponse, Failure, GetResponse, Item, PutResponse, Result as OperationResult,
    ScanRequest, ScanResponse, StatusResponse, operation::Operation as Kind, result::Result as Outcome,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::conversation::{Conversation, Rules};
use super::range::MOST_ITEMS;
use super::store::Store;
use crate::doors::connections::Connections;
use crate::router::context::Door;
use crate::router::failure;
use crate::seams::clock;

/// Items of a page of a scan.
const PAGE: usize = 1000;

/// Keys, and how long each operation takes.
#[derive(Clone, Default)]
struct Kept {
    items: Arc<Mutex<BTreeMap<Bytes, Bytes>>>,
    begun: Arc<Mutex<usize>>,
    takes: Duration,
}

impl Kept {
    fn apply(&self, kind: Kind) -> Outcome {
        let mut items = self.items.lock();
        match kind {
            Kind::Get(get) => {
                let value = items.get(&get.key).cloned();
                let item = value.map(|value| Item { key: get.key, value, ..Item::default() });
                Outcome::Get(GetResponse { item })
            }
            Kind::Put(put) if put.key == "unknown" => {
                Outcome::Failure(failure::outcome_unknown("nobody told"))
            }
            Kind::Put(put) if put.key == "refused" => Outcome::Failure(failure::too_much_waits()),
            Kind::Put(put) => {
                items.insert(put.key, put.value);
                Outcome::Put(PutResponse { applied: true, version: 1 })
            }
            Kind::Delete(delete) => {
                let deleted = items.remove(&delete.key).is_some();
                Outcome::Delete(DeleteResponse { deleted, version: 0 })
            }
            Kind::Batch(batch) => {
                drop(items);
                let operations = batch.operations.into_iter().filter_map(|operation| operation.operation);
                let results =
                    operations.map(|kind| OperationResult { result: Some(self.apply(kind)) }).collect();
                Outcome::Batch(BatchResponse { results, applied: true })
            }
            _ => Outcome::Failure(failure::internal("not here")),
        }
    }
}

impl Store for Kept {
    fn begin(&self, kind: Kind) -> BoxFuture<'static, OperationResult> {
        *self.begun.lock() += 1;
        let kept = self.clone();
        async move {
            // Those that were begun first end last, where they are not kept apart.
            let others = *kept.begun.lock();
            tokio::time::sleep(kept.takes / u32::try_from(others).unwrap()).await;
            OperationResult { result: Some(kept.apply(kind)) }
        }
        .boxed()
    }

    fn scan(&self, request: ScanRequest) -> BoxFuture<'static, Result<ScanResponse, Failure>> {
        let from = if request.cursor.is_empty() { request.start } else { request.cursor };
        let items = self.items.lock();
        let mut found = items
            .range(from..)
            .take_while(|(key, _)| request.end.is_empty() || **key < request.end)
            .map(|(key, value)| Item { key: key.clone(), value: value.clone(), ..Item::default() });
        let items = found.by_ref().take(PAGE).collect();
        let cursor = found.next().map(|item| item.key).unwrap_or_default();
        std::future::ready(Ok(ScanResponse { items, cursor })).boxed()
    }

    fn status(&self) -> BoxFuture<'static, Result<StatusResponse, Failure>> {
        std::future::ready(Ok(StatusResponse::default())).boxed()
    }
}

/// A client's end of a conversation.
struct Client {
    stream: DuplexStream,
    connections: Arc<Connections>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

fn rules() -> Rules {
    Rules { line_bytes: 1 << 20, line_fields: 21, idle_timeout: None }
}

fn connect(store: &Kept, rules: Rules) -> Client {
    let (stream, theirs) = duplex(4096);
    let connections = Connections::new(10, 64 << 20);
    let slot = connections.admit(Door::Text, "test".to_owned()).unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(Conversation::new(theirs, slot, rules, store.clone()).run(stop.clone()));
    Client { stream, connections, stop, served }
}

impl Client {
    /// Says all of it, and hears what comes until the node closes.
    async fn hear(self, said: &[u8]) -> String {
        let (mut input, mut output) = tokio::io::split(self.stream);
        let said = async {
            // A node that closes early has said why.
            let _ = output.write_all(said).await;
            let _ = output.shutdown().await;
        };
        let mut heard = Vec::new();
        let ((), read) = tokio::join!(said, input.read_to_end(&mut heard));
        read.unwrap();
        self.served.await.unwrap();
        assert_eq!((self.connections.open(), self.connections.held_bytes()), (0, 0));
        String::from_utf8(heard).unwrap()
    }

    async fn say(&mut self, said: &[u8]) {
        self.stream.write_all(said).await.unwrap();
    }

    async fn hear_line(&mut self) -> String {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(self.stream.read_u8().await.unwrap());
        }
        String::from_utf8(line).unwrap()
    }
}

#[tokio::test]
async fn every_command_has_its_answer() {
    let said = b"ping\nPUT|k|v\r\nGET|k\nGET|none\nput|a\\|b|1\\n2\nRANGE||\nRANGE|b|\nBATCH|x|1|y|2\n\
                 RANGE|x|y\nDELETE|x\nDELETE|x\nCLUSTER_LEADER\nFLY\nGET\nGET|\\q\n\n";
    let heard = connect(&Kept::default(), rules()).hear(said).await;
    let lines: Vec<&str> = heard.lines().collect();
    let (answers, errors) = lines.split_at(lines.len() - 4);
    assert_eq!(
        answers,
        [
            "PONG",
            "OK",
            "OK|v",
            "NOT_FOUND",
            "OK",
            "OK|2",
            "a\\|b|1\\n2",
            "k|v",
            "OK|1",
            "k|v",
            "OK",
            "OK|1",
            "x|1",
            "OK",
            "NOT_FOUND",
            "NOT_FOUND"
        ]
    );
    assert!(errors.iter().all(|error| error.starts_with("ERROR|BAD_REQUEST|")), "{errors:?}");
}

#[tokio::test]
async fn lines_that_are_sent_at_once_act_in_their_order() {
    let store = Kept { takes: Duration::from_millis(20), ..Kept::default() };
    let lines = |round| {
        let said = format!("PUT|k|{round}\nGET|k\nPUT|other{round}|x\nBATCH|k|b{round}|j|1\nGET|k\n");
        (said, format!("OK\nOK|{round}\nOK\nOK\nOK|b{round}\n"))
    };
    let (said, wanted): (Vec<_>, Vec<_>) = (0..200).map(lines).unzip();
    let (mut said, mut wanted) = (said.concat(), wanted.concat());
    said += "DELETE|j\nRANGE|j|l\n";
    wanted += "OK\nOK|1\nk|b199\n";
    assert_eq!(connect(&store, rules()).hear(said.as_bytes()).await, wanted);
}

#[tokio::test]
async fn different_keys_are_under_way_together() {
    let store = Kept { takes: Duration::from_millis(100), ..Kept::default() };
    let said: Vec<_> = (0..64).map(|key| format!("PUT|{key}|v\n")).collect();
    let began = clock::now();
    assert_eq!(connect(&store, rules()).hear(said.concat().as_bytes()).await, "OK\n".repeat(64));
    // One after the other they would take a hundred milliseconds each.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn every_line_of_a_flood_is_answered() {
    let said: Vec<_> = (0..20_000).map(|key| format!("PUT|{key}|v\n")).collect();
    let store = Kept { takes: Duration::from_micros(50), ..Kept::default() };
    assert_eq!(connect(&store, rules()).hear(said.concat().as_bytes()).await, "OK\n".repeat(20_000));
    assert_eq!(store.items.lock().len(), 20_000);
}

#[tokio::test]
async fn what_became_of_a_batch_is_told_exactly() {
    let said = b"PUT|unknown|1\nPUT|refused|1\nBATCH|a|1|refused|1\nBATCH|b|1|refused|1|unknown|1\nBATCH|refused|1\n";
    let heard = connect(&Kept::default(), rules()).hear(said).await;
    let codes: Vec<_> = heard.lines().map(|line| line.split('|').nth(1).unwrap()).collect();
    assert_eq!(codes, ["OUTCOME_UNKNOWN", "TRY_AGAIN", "PARTLY_DONE", "OUTCOME_UNKNOWN", "TRY_AGAIN"]);
    assert!(heard.contains("of 3 pairs 1 are written and the outcome of 1 is unknown"), "{heard}");
}

#[tokio::test]
async fn a_line_over_the_limits_is_refused_and_the_next_is_done() {
    let long = [b"PUT|k|".to_vec(), vec![b'x'; 2 << 20], b"\nPUT|k|v\nGET|k\n".to_vec()].concat();
    let client = connect(&Kept::default(), rules());
    assert_eq!(client.hear(&long).await, "ERROR|TOO_LARGE|the line is longer than 1048576 bytes\nOK\nOK|v\n");
    let many = format!("BATCH{}\nPING\n", "|k|v".repeat(11));
    let heard = connect(&Kept::default(), rules()).hear(many.as_bytes()).await;
    assert_eq!(heard, "ERROR|TOO_LARGE|the line has more than 21 fields\nPONG\n");
}

#[tokio::test]
async fn junk_is_told_and_ends_the_connection() {
    let store = Kept::default();
    let heard = connect(&store, rules()).hear(b"PUT|a|1\nPUT|b\0|2\nPUT|c|3\n").await;
    assert!(heard.starts_with("OK\nERROR|BAD_BYTES|byte 0x00"), "{heard}");
    assert_eq!(heard.lines().count(), 2);
    assert_eq!(store.items.lock().len(), 1);
}

#[tokio::test]
async fn a_line_without_its_end_is_not_done() {
    let store = Kept::default();
    let heard = connect(&store, rules()).hear(b"PUT|a|1\nPUT|a|1234").await;
    assert!(heard.starts_with("OK\nERROR|BAD_REQUEST|the last line does not end"), "{heard}");
    assert_eq!(store.items.lock().get(&Bytes::from("a")).unwrap(), "1");
}

#[tokio::test]
async fn a_range_is_read_in_pages_and_one_that_is_too_large_says_where_to_cut() {
    let store = Kept::default();
    let fill = |count: usize| {
        let items = (0..count).map(|at| (Bytes::from(format!("k{at:06}")), Bytes::from("v")));
        store.items.lock().extend(items);
    };
    fill(2500);
    let heard = connect(&store, rules()).hear(b"RANGE||\n").await;
    assert!(heard.starts_with("OK|2500\nk000000|v\n") && heard.ends_with("k002499|v\n"));
    assert_eq!(heard.lines().count(), 2501);

    fill(MOST_ITEMS + 1);
    let heard = connect(&store, rules()).hear(b"RANGE|k|\n").await;
    assert!(heard.starts_with("ERROR|RANGE_TOO_LARGE|"), "{heard}");
    assert!(heard.ends_with("from it on: k100000\n"), "{heard}");
    let heard = connect(&store, rules()).hear(b"RANGE|k|k100000\nRANGE|k100000|\n").await;
    assert!(heard.starts_with("OK|100000\n") && heard.ends_with("OK|1\nk100000|v\n"));
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_not_read_on() {
    let store = Kept::default();
    let value = Bytes::from(vec![b'v'; 512 << 10]);
    store.items.lock().insert("k".into(), value);
    let mut client = connect(&store, rules());
    let said = b"GET|k\n".repeat(10_000);
    // It stops being read long before all of it is said.
    let waits = tokio::time::timeout(Duration::from_millis(500), client.stream.write_all(&said)).await;
    assert!(waits.is_err());
    let (begun, held) = (*store.begun.lock(), client.connections.held_bytes());
    assert!(begun <= 64 && held <= 40 << 20, "{begun} are begun, {held} bytes are held");
    drop(client.stream);
    client.served.await.unwrap();
    assert_eq!(client.connections.held_bytes(), 0);
}

#[tokio::test]
async fn bad_lines_are_no_way_to_make_answers_pile_up() {
    let mut client = connect(&Kept::default(), rules());
    let said = b"\n".repeat(10 << 20);
    let waits = tokio::time::timeout(Duration::from_millis(500), client.stream.write_all(&said)).await;
    assert!(waits.is_err());
    assert!(client.connections.held_bytes() < 1 << 20, "{}", client.connections.held_bytes());
}

#[tokio::test]
async fn a_silent_client_is_closed_and_a_busy_one_is_not() {
    let idle_timeout = Duration::from_millis(400);
    let rules = Rules { idle_timeout: Some(idle_timeout), ..rules() };
    let mut client = connect(&Kept::default(), rules);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        client.say(b"PING\n").await;
        assert_eq!(client.hear_line().await, "PONG\n");
    }
    // A byte now and then is no line.
    let began = clock::now();
    while client.stream.write_all(b"P").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(began.elapsed() < idle_timeout * 20, "it is still there");
    }
    assert!(began.elapsed() >= idle_timeout, "{:?}", began.elapsed());
    client.served.await.unwrap();

    // The node's own time is not the client's silence.
    let slow = Kept { takes: idle_timeout * 3, ..Kept::default() };
    let mut client = connect(&slow, rules);
    client.say(b"PUT|k|v\n").await;
    assert_eq!(client.hear_line().await, "OK\n");
}

#[tokio::test]
async fn what_has_begun_is_answered_before_the_end() {
    let store = Kept { takes: Duration::from_millis(200), ..Kept::default() };
    let mut client = connect(&store, rules());
    client.say(b"PUT|k|v\n").await;
    while *store.begun.lock() == 0 {
        tokio::task::yield_now().await;
    }
    client.stop.cancel();
    assert_eq!(client.hear_line().await, "OK\n");
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    client.served.await.unwrap();

    // One that takes nothing does not hold up the end.
    store.items.lock().insert("k".into(), Bytes::from(vec![b'v'; 1 << 20]));
    let mut client = connect(&store, rules());
    client.say(b"GET|k\n").await;
    while *store.begun.lock() == 1 {
        tokio::task::yield_now().await;
    }
    client.stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), client.served).await.unwrap().unwrap();
}
