//! The application that runs in the cluster all the while: see [`crate::witness`].

use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::{Method, Request};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use super::pods;
use crate::until::until_every;
use crate::witness::many::{Found, Load, Question};
use crate::witness::report::{ClusterReport, LonelyReport, Report, Sight, Verdict};

/// How long a question may take.
const ASK_WITHIN: Duration = Duration::from_secs(15);
/// How long judging may take: calls that still have no outcome, a scan of everything.
const JUDGE_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A witness in the cluster.
#[derive(Clone)]
pub struct Witness {
    client: Client,
    namespace: String,
    pod: String,
}

impl Witness {
    /// The witness in a pod.
    pub fn new(client: Client, namespace: &str, pod: &str) -> Self {
        Self { client, namespace: namespace.to_owned(), pod: pod.to_owned() }
    }

    /// How it goes.
    pub async fn report(&self) -> anyhow::Result<Report> {
        self.ask(Method::GET, "report", Vec::new(), ASK_WITHIN).await
    }

    /// Begins to measure gaps anew, and gives the report up to now.
    pub async fn mark(&self) -> anyhow::Result<Report> {
        self.ask(Method::POST, "mark", Vec::new(), ASK_WITHIN).await
    }

    /// The cluster as the data plane has it.
    pub async fn cluster(&self) -> anyhow::Result<ClusterReport> {
        self.ask(Method::GET, "cluster", Vec::new(), ASK_WITHIN).await
    }

    /// How many copies the planner would have to move until it has nothing left to do, from where
    /// the cluster is now.
    pub async fn forecast(&self) -> anyhow::Result<usize> {
        self.ask(Method::GET, "forecast", Vec::new(), ASK_WITHIN).await
    }

    /// What a lonely reader saw.
    pub async fn sights(&self) -> anyhow::Result<LonelyReport> {
        self.ask(Method::GET, "sights", Vec::new(), ASK_WITHIN).await
    }

    /// Those of a lonely reader's sights that were stale.
    pub async fn stale(&self, sights: &[Sight]) -> anyhow::Result<Vec<Sight>> {
        self.ask(Method::POST, "stale", serde_json::to_vec(sights)?, ASK_WITHIN).await
    }

    /// Has it write many items into a table.
    pub async fn load(&self, load: &Load, within: Duration) -> anyhow::Result<()> {
        self.ask(Method::POST, "load", serde_json::to_vec(load)?, within).await
    }

    /// How many items an index finds, and how many there should be.
    pub async fn find(&self, question: &Question) -> anyhow::Result<Found> {
        self.ask(Method::POST, "find", serde_json::to_vec(question)?, ASK_WITHIN).await
    }

    /// Waits for its first write.
    pub async fn await_first_write(&self, within: Duration) -> anyhow::Result<Report> {
        until_every("the witness has written", within, LOOK_EVERY, async || {
            let report = self.report().await?;
            ensure!(report.first_write_at.is_some(), "it waits: {}", report.waiting.unwrap_or_default());
            Ok(report)
        })
        .await
    }

    /// Waits until so many more writes are acknowledged.
    pub async fn await_more_writes(&self, more: u64, within: Duration) -> anyhow::Result<Report> {
        let before = self.report().await?.acknowledged;
        until_every(&format!("{more} more writes"), within, LOOK_EVERY, async || {
            let report = self.report().await?;
            ensure!(report.acknowledged >= before + more, "{} are", report.acknowledged - before);
            Ok(report)
        })
        .await
    }

    /// Ends it: everything is read, and nothing acknowledged may be lost, nothing read have been
    /// stale.
    pub async fn end(&self) -> anyhow::Result<Verdict> {
        let verdict: Verdict = self.ask(Method::POST, "end", Vec::new(), JUDGE_WITHIN).await?;
        ensure!(
            verdict.is_clean(),
            "the witness found: {} {}",
            verdict.violations.join("\n  "),
            verdict.unjudged.as_deref().unwrap_or_default()
        );
        ensure!(verdict.report.acknowledged > 0, "the witness wrote nothing: {verdict:?}");
        Ok(verdict)
    }

    /// The same, and no request may have failed.
    pub async fn end_without_failures(&self) -> anyhow::Result<Verdict> {
        let verdict = self.end().await?;
        ensure!(
            verdict.report.failed_requests == 0,
            "{} requests failed: {}",
            verdict.report.failed_requests,
            verdict.report.errors.join("\n  ")
        );
        Ok(verdict)
    }

    /// Waits until the pod itself runs.
    pub async fn await_door(&self, within: Duration) -> anyhow::Result<Pod> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        until_every("the witness runs", within, LOOK_EVERY, async || {
            let pod = api.get(&self.pod).await?;
            ensure!(pods::is_ready(&pod), "its pod is not ready");
            Ok(pod)
        })
        .await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        what: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> anyhow::Result<T> {
        let path = format!("/api/v1/namespaces/{}/pods/{}:8080/proxy/{what}", self.namespace, self.pod);
        let request = Request::builder().method(method).uri(path).body(body)?;
        let answer = tokio::time::timeout(within, self.client.request_text(request)).await;
        let answer = answer.with_context(|| format!("{} does not answer to {what}", self.pod))?;
        let answer = answer.with_context(|| format!("{} was asked for {what}", self.pod))?;
        serde_json::from_str(&answer).with_context(|| format!("{} said {answer:?}", self.pod))
    }
}
