//! The dashboard and the alert rules of the chart name only figures that a node publishes.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, ensure};
use e2e::curl::curl;
use e2e::{Cluster, Scenario, Shape};

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
