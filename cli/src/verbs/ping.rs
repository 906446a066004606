//! `trilith ping`

use std::time::Instant;

use clap::Args;
use proto::v1::StatusRequest;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::columns::Columns;
use crate::exit::Exit;
use crate::json::id;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  trilith ping
  trilith ping -e db-0:7400,db-1:7400";

/// See which of the endpoints answer, and how fast. Fails when none does.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Ping {}

impl Ping {
    /// Asks every endpoint.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let client = global.connect_lazy()?;
        let ask = |endpoint: &String| {
            let (admin, endpoint) = (client.admin_at(endpoint), endpoint.clone());
            async move {
                // The first call opens the connection; the second is what is measured.
                let admin = admin.with_deadline(std::time::Duration::from_secs(2));
                let first = admin.status(StatusRequest {}).await;
                let started = Instant::now();
                let answer = match first {
                    Ok(_) => admin.status(StatusRequest {}).await.map(|s| (id(&s.this_node), s.version)),
                    Err(error) => Err(error),
                };
                (endpoint, answer, started.elapsed())
            }
        };
        let answers = futures::future::join_all(global.endpoint.iter().map(ask)).await;
        let mut columns = Columns::new(["ENDPOINT", "TIME", "VERSION", "NODE"]);
        let mut list = Vec::new();
        let mut answered = 0;
        for (endpoint, answer, took) in answers {
            let milliseconds = took.as_secs_f64() * 1000.0;
            match answer {
                Ok((node, version)) => {
                    answered += 1;
                    list.push(json!({
                        "endpoint": endpoint, "ok": true, "milliseconds": milliseconds,
                        "node": node, "version": version,
                    }));
                    columns.row([endpoint, format!("{milliseconds:.2} ms"), version, node]);
                }
                Err(error) => {
                    list.push(json!({"endpoint": endpoint, "ok": false, "error": error.to_string()}));
                    columns.row([endpoint, "-".into(), "-".into(), error.to_string()]);
                }
            }
        }
        out.show(|| columns.to_string(), || Value::Array(list))?;
        Ok(if answered > 0 { Exit::Done } else { Exit::Failed })
    }
}
