//! curl, and what it was answered.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::programs::run_to_end;

/// How long a request may take. One that hangs is a failure, not a wait.
const WITHIN: Duration = Duration::from_secs(40);

/// An answer of HTTP.
#[derive(Debug)]
pub struct Answered {
    /// What was asked, to be shown.
    pub line: String,
    /// Its status.
    pub status: u16,
    /// Its headers, with names in small letters.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// Runs curl with these arguments.
pub async fn curl(arguments: &[&str]) -> anyhow::Result<Answered> {
    curl_with(arguments, b"").await
}

/// The same with something on standard input, for `--data-binary @-`.
pub async fn curl_with(arguments: &[&str], input: &[u8]) -> anyhow::Result<Answered> {
    let line = format!("curl {}", arguments.join(" "));
    let mut command = Command::new("curl");
    command
        // No file of the user's says how it behaves, and no proxy is in between.
        .args(["--disable", "--silent", "--show-error", "--include", "--noproxy", "*", "--max-time", "30"])
        // A path is sent as it is written.
        .arg("--path-as-is")
        .args(arguments);
    let ended = run_to_end(&line, &mut command, input, WITHIN).await?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "{line} ended with {}: {said}", ended.status);
    parse(line, &ended.stdout)
}

fn parse(line: String, mut rest: &[u8]) -> anyhow::Result<Answered> {
    loop {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = rest.split_at(end.with_context(|| format!("{line}: no headers"))? + 4);
        let head = String::from_utf8_lossy(head).into_owned();
        let mut lines = head.lines();
        let status =
            lines.next().and_then(|first| first.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let status: u16 = status.with_context(|| format!("{line}: no status in {head}"))?;
        // `100 Continue` comes before the answer.
        if status < 200 {
            rest = body;
            continue;
        }
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        return Ok(Answered { line, status, headers, body: body.to_vec() });
    }
}

impl Answered {
    /// A header, where there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// That it has this status.
    pub fn with_status(self, status: u16) -> anyhow::Result<Self> {
        let Self { line, status: found, .. } = &self;
        ensure!(*found == status, "`{line}` is answered with {found}, not {status}\n{}", self.text());
        Ok(self)
    }

    /// The body as JSON, where the status is this.
    pub fn json(self, status: u16) -> anyhow::Result<Value> {
        let answered = self.with_status(status)?;
        serde_json::from_slice(&answered.body)
            .with_context(|| format!("{}: {}", answered.line, answered.text()))
    }

    /// That it is a problem of this type, with the members that it has.
    pub fn problem(self, status: u16, name: &str) -> anyhow::Result<Value> {
        let media = self.header("content-type").map(str::to_owned);
        let line = self.line.clone();
        let problem = self.json(status)?;
        let wanted = format!("/problems/{name}");
        ensure!(
            media.as_deref() == Some("application/problem+json")
                && problem.get("type") == Some(&wanted.as_str().into()),
            "`{line}` is answered with {problem} of type {media:?}, not with {wanted}"
        );
        Ok(problem)
    }
}
