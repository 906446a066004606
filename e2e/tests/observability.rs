//! What a cluster tells of itself: figures that the dashboard and the alert rules of the chart
//! name, traces that belong to their callers, and what was slow.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::curl::curl;
use e2e::{Cluster, Scenario, Shape, until};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use proto::v1::PutRequest;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// How long spans may be on their way, or counted somewhere.
const SEEN_WITHIN: Duration = Duration::from_secs(20);
/// The span of whoever calls.
const CALLER: &str = "b7ad6b7169203331";

const SHOWN: [&str; 2] = ["trilith.json", "alerts.yaml"];

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_that_is_shown_is_published() -> anyhow::Result<()> {
    let scenario = Scenario::begin("observability").await?;
    let cluster = Cluster::form(Shape { nodes: 1, ..Shape::default() }).await?;
    let http = cluster.http_address(0)?;
    // What is counted by table begins with the first operation on one.
    let put = curl(&[&format!("http://{http}/api/v1/kv/a"), "-X", "PUT", "-d", r#"{"value":1}"#]).await?;
    ensure!(put.status == 200 || put.status == 201, "a put is refused: {put:?}");
    let page = curl(&[&format!("http://{http}/metrics")]).await?;
    let text = String::from_utf8(page.body.clone()).context("the figures are no text")?;
    let published: BTreeSet<&str> = names(&text);

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/trilith/dashboards");
    for file in SHOWN {
        let shown = std::fs::read_to_string(folder.join(file)).context(file)?;
        let asked = names(&shown);
        ensure!(asked.len() > 5, "{file} names hardly any figure: {asked:?}");
        let missing: Vec<_> = asked.difference(&published).collect();
        ensure!(missing.is_empty(), "{file} names what no node publishes: {missing:?}");
    }
    scenario.say(format_args!(
        "{} figures are published, and all that are shown are among them",
        published.len()
    ));
    cluster.finish()
}

/// The names of figures in a text, those of histograms with their endings.
fn names(text: &str) -> BTreeSet<&str> {
    let begins = text.match_indices("kvstore_").map(|(at, _)| at);
    let whole = |at: usize| {
        let rest = text.get(at..).unwrap_or_default();
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    };
    begins.map(whole).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_in_its_callers_trace_on_every_node_that_works_on_it() -> anyhow::Result<()> {
    let scenario = Scenario::begin("traces").await?;
    let collector = Collector::listen().await?;
    let endpoint = format!("http://{}", collector.address);
    let arguments = ["--otlp-endpoint", &endpoint, "--otlp-sampling-ratio", "0", "--slow-operation", "200ms"];
    let arguments = arguments.map(str::to_owned).to_vec();
    let mut cluster = Cluster::form(Shape { arguments, ..Shape::default() }).await?;
    let leader = cluster.leader_of(cluster.partition_of("default", b"a").await?).await?;
    let other = cluster.running().find(|node| *node != leader).context("one node leads and is alone")?;

    let by_grpc = "0af7651916cd43dd8448eb211c80319c";
    let mut put = Request::new(PutRequest { key: "a".into(), value: "1".into(), ..PutRequest::default() });
    put.metadata_mut().insert("traceparent", traceparent(by_grpc).parse()?);
    cluster.kv_at(other)?.put(put).await?;
    let by_rest = "4bf92f3577b34da6a3ce929d0e0e4736";
    let url = format!("http://{}/api/v1/kv/a", cluster.http_address(other)?);
    let header = format!("traceparent: {}", traceparent(by_rest));
    curl(&[&url, "-X", "PUT", "-H", &header, "-d", r#"{"value":1}"#]).await?.with_status(200)?;

    for (trace, door) in [(by_grpc, "grpc"), (by_rest, "http")] {
        let (here, there) =
            until("spans of both nodes", SEEN_WITHIN, async || collector.pair(trace, CALLER)).await?;
        scenario.say(format_args!("{trace}: {here:?} and {there:?}"));
        let wanted = |node: usize, door: &str| Seen {
            node: format!("node-{}", node + 1),
            name: "put".to_owned(),
            door: door.to_owned(),
            table: "default".to_owned(),
            outcome: "done".to_owned(),
            ..Seen::default()
        };
        ensure!(here.told() == wanted(other, door), "{here:?}");
        ensure!(there.told() == wanted(leader, "peer"), "{there:?}");
    }
    let own: Vec<_> = collector.all().into_iter().filter(|span| span.parent.is_empty()).collect();
    ensure!(own.is_empty(), "nobody asked for these: {own:?}");

    // Who leads does not answer, so the operation takes as long as its caller waits.
    cluster.pause(leader)?;
    let mut put = Request::new(PutRequest { key: "a".into(), value: "held".into(), ..PutRequest::default() });
    put.set_timeout(Duration::from_secs(3));
    let late = cluster.kv_at(other)?.put(put).await;
    cluster.resume(leader)?;
    ensure!(late.is_err(), "a node that is paused answered");
    let told = until("a slow operation in the log", SEEN_WITHIN, async || {
        let log = cluster.log_of(other)?;
        let line = log
            .lines()
            .find(|line| line.contains("an operation was slow") && !line.contains("outcome=\"done\""));
        Ok(line.context("it is not in the log")?.to_owned())
    })
    .await?;
    scenario.say(&told);
    let node = format!("forwarded_to=\"node-{}\"", leader + 1);
    for field in ["door=\"grpc\"", "operation=\"put\"", "table=\"default\"", "key=\"a\"", &node] {
        ensure!(told.contains(field), "{field} is not in: {told}");
    }
    ensure!(figure(&cluster, other, "kvstore_slow_operations_total{door=\"grpc\"}").await? >= 1);
    cluster.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_harms_nothing() -> anyhow::Result<()> {
    let scenario = Scenario::begin("traces-without-collector").await?;
    // Somebody listened there, and does no more.
    let nobody = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let arguments = ["--otlp-endpoint", &format!("http://{nobody}"), "--otlp-sampling-ratio", "1"];
    let arguments = arguments.map(str::to_owned).to_vec();
    let mut cluster = Cluster::form(Shape { nodes: 1, arguments, ..Shape::default() }).await?;
    let mut kv = cluster.kv_at(0)?;
    for number in 0..500 {
        kv.put(PutRequest { key: format!("k{number}").into(), ..PutRequest::default() }).await?;
    }
    let dropped = until("spans that are dropped", SEEN_WITHIN, async || {
        let dropped = figure(&cluster, 0, "kvstore_trace_spans_dropped_total").await?;
        ensure!(dropped >= 500, "only {dropped} spans are dropped");
        Ok(dropped)
    })
    .await?;
    ensure!(figure(&cluster, 0, "kvstore_trace_spans_sent_total").await? == 0);
    let log = cluster.log_of(0)?;
    ensure!(log.matches("the collector does not take spans").count() == 1, "it is said once:\n{log}");
    let ended = cluster.stop(0).await?;
    ensure!(ended.success(), "the node ends with {ended}");
    scenario.say(format_args!("{dropped} spans were dropped, and nobody noticed"));
    cluster.finish()
}

fn traceparent(trace: &str) -> String {
    format!("00-{trace}-{CALLER}-01")
}

/// What a node publishes under a name with its labels.
async fn figure(cluster: &Cluster, node: usize, name: &str) -> anyhow::Result<u64> {
    let page = curl(&[&format!("http://{}/metrics", cluster.http_address(node)?)]).await?.text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.with_context(|| format!("{name} is not published"))?.parse().context("it is no number")
}

/// A collector of traces on loopback, which keeps what it is sent.
struct Collector {
    address: SocketAddr,
    seen: Arc<watch::Sender<Vec<Seen>>>,
}

/// A span as it was told.
#[derive(Debug, Clone, Default, PartialEq)]
struct Seen {
    trace: String,
    id: String,
    parent: String,
    node: String,
    name: String,
    door: String,
    table: String,
    outcome: String,
}

impl Seen {
    /// The same without its ids.
    fn told(&self) -> Self {
        Self { trace: String::new(), id: String::new(), parent: String::new(), ..self.clone() }
    }
}

impl Collector {
    async fn listen() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(watch::Sender::default());
        let service = TraceServiceServer::new(Taking { seen: Arc::clone(&seen) });
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
        Ok(Self { address, seen })
    }

    fn all(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// The span of a trace whose parent is this one, and the one that is its child.
    fn pair(&self, trace: &str, parent: &str) -> anyhow::Result<(Seen, Seen)> {
        let all = self.all();
        let child_of = |parent: &str| {
            let found = all.iter().find(|span| span.trace == trace && span.parent == parent);
            found.cloned().with_context(|| format!("no child of {parent} in {trace}: {all:?}"))
        };
        let first = child_of(parent)?;
        let second = child_of(&first.id)?;
        Ok((first, second))
    }
}

struct Taking {
    seen: Arc<watch::Sender<Vec<Seen>>>,
}

#[tonic::async_trait]
impl TraceService for Taking {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_node in request.into_inner().resource_spans {
            let resource = of_node.resource.unwrap_or_default().attributes;
            let node = text(&resource, "service.instance.id");
            for span in of_node.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let told = |name| text(&span.attributes, name);
                let seen = Seen {
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    node: node.clone(),
                    door: told("trilith.door"),
                    table: told("trilith.table"),
                    outcome: told("trilith.outcome"),
                    name: span.name.clone(),
                };
                self.seen.send_modify(|all| all.push(seen));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|found| found.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
