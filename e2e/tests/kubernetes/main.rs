//! The scenarios on a real Kubernetes cluster, in order, and a table of what came of them.
//!
//! They are played where `TRILITH_E2E` is set, as `scripts/e2e.sh` sets it once there is a cluster;
//! `cargo test` leaves them out. Arguments choose scenarios by their numbers, or those of `smoke`.

mod bad_spec;
mod cost;
mod create;
mod delete;
mod faults;
mod lost_claim;
mod lost_machine;
mod network_cut;
mod operator_upgrade;
mod roll;
mod scale;
mod tables;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use e2e::kubernetes::logs::Logs;
use e2e::kubernetes::table::{Outcome, Row, Table};
use e2e::kubernetes::{Kubernetes, Stage, chart, evidence, machines};
use futures::FutureExt as _;

/// How long putting machines back may take.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// How long what a scenario leaves behind may take to go.
const LEFT_WITHIN: Duration = Duration::from_secs(60);
/// Those that matter most, in eight minutes.
const SMOKE: [u32; 5] = [1, 2, 3, 4, 8];

type Run = for<'a> fn(&'a mut Stage) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

struct Scenario {
    number: u32,
    name: &'static str,
    /// Takes machines away, which somebody else's cluster does not allow.
    takes_machines: bool,
    /// One that takes longer hangs. It is about twice what it takes.
    seconds: u64,
    run: Run,
}

static SCENARIOS: [Scenario; 12] = [
    Scenario {
        number: 1,
        name: "create",
        takes_machines: false,
        seconds: 120,
        run: |stage| Box::pin(create::run(stage)),
    },
    Scenario {
        number: 2,
        name: "scale",
        takes_machines: false,
        seconds: 240,
        run: |stage| Box::pin(scale::run(stage)),
    },
    Scenario {
        number: 3,
        name: "roll",
        takes_machines: false,
        seconds: 180,
        run: |stage| Box::pin(roll::run(stage)),
    },
    Scenario {
        number: 4,
        name: "lost-machine",
        takes_machines: true,
        seconds: 240,
        run: |stage| Box::pin(lost_machine::run(stage)),
    },
    Scenario {
        number: 5,
        name: "lost-claim",
        takes_machines: false,
        seconds: 120,
        run: |stage| Box::pin(lost_claim::run(stage)),
    },
    Scenario {
        number: 6,
        name: "network-cut",
        takes_machines: true,
        seconds: 180,
        run: |stage| Box::pin(network_cut::run(stage)),
    },
    Scenario {
        number: 7,
        name: "faults",
        takes_machines: false,
        seconds: 420,
        run: |stage| Box::pin(faults::run(stage)),
    },
    Scenario {
        number: 8,
        name: "bad-spec",
        takes_machines: false,
        seconds: 300,
        run: |stage| Box::pin(bad_spec::run(stage)),
    },
    Scenario {
        number: 9,
        name: "operator-upgrade",
        takes_machines: false,
        seconds: 180,
        run: |stage| Box::pin(operator_upgrade::run(stage)),
    },
    Scenario {
        number: 10,
        name: "delete",
        takes_machines: false,
        seconds: 180,
        run: |stage| Box::pin(delete::run(stage)),
    },
    Scenario {
        number: 11,
        name: "cost",
        takes_machines: false,
        seconds: 360,
        run: |stage| Box::pin(cost::run(stage)),
    },
    Scenario {
        number: 12,
        name: "tables",
        takes_machines: false,
        seconds: 420,
        run: |stage| Box::pin(tables::run(stage)),
    },
];

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    if std::env::var_os("TRILITH_E2E").is_none() {
        eprintln!("The scenarios on Kubernetes are left out: `make e2e` plays them.");
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(std::env::args().skip(1))?;
    let kube = Kubernetes::connect().await?;
    let machines_are_ours = std::env::var("TRILITH_CLUSTER").is_ok_and(|which| which != "existing");
    let mut table = Table::default();
    for scenario in chosen {
        let row = if scenario.takes_machines && !machines_are_ours {
            scenario.row(Duration::ZERO, Outcome::LeftOut("the machines of this cluster are somebody else's"))
        } else {
            play(&kube, scenario).await
        };
        table.rows.push(row);
    }
    let took: Duration = table.rows.iter().map(|row| row.took).sum();
    eprintln!("\n{table}\nAll of it took {:.0} s.", took.as_secs_f64());
    evidence::write(&evidence::top(), "table.md", &table.to_string());
    Ok(if table.all_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The scenarios that the arguments name; without any, all.
fn chosen(arguments: impl Iterator<Item = String>) -> anyhow::Result<Vec<&'static Scenario>> {
    let mut numbers = BTreeSet::new();
    for argument in arguments {
        if argument == "smoke" {
            numbers.extend(SMOKE);
            continue;
        }
        let known = SCENARIOS.iter().find(|scenario| argument == scenario.number.to_string());
        let all = SCENARIOS.len();
        numbers.insert(
            known.with_context(|| format!("{argument:?} is neither smoke nor one of 1 to {all}"))?.number,
        );
    }
    Ok(SCENARIOS.iter().filter(|scenario| numbers.is_empty() || numbers.contains(&scenario.number)).collect())
}

impl Scenario {
    fn row(&self, took: Duration, outcome: Outcome) -> Row {
        let scenario = format!("{:2} {}", self.number, self.name);
        Row { scenario, took, outcome, figures: Vec::new() }
    }
}

async fn play(kube: &Kubernetes, scenario: &Scenario) -> Row {
    let began = Instant::now();
    let mut figures = Vec::new();
    let outcome = match Stage::begin(kube.clone(), scenario.name).await {
        Ok(mut stage) => {
            let outcome = act(kube, scenario, &mut stage).await;
            figures.append(&mut stage.figures);
            outcome
        }
        Err(error) => Err(error),
    };
    let outcome = outcome.map_or_else(|why| Outcome::Failed(format!("{why:#}")), |()| Outcome::Passed);
    let row = Row { figures, ..scenario.row(began.elapsed(), outcome) };
    eprintln!("{} took {:.1} s and {}\n", row.scenario, row.took.as_secs_f64(), row.outcome);
    row
}

/// Plays a scenario to its end, keeps what tells why where it failed, and clears the stage.
async fn act(kube: &Kubernetes, scenario: &Scenario, stage: &mut Stage) -> anyhow::Result<()> {
    let folder = evidence::folder(scenario.name);
    // Of an earlier run.
    evidence::forget(&folder);
    let logs =
        Logs::begin(&kube.client, &[stage.namespace.as_str(), chart::NAMESPACE], &folder.join("logs"))?;
    let within = Duration::from_secs(scenario.seconds);
    let playing = tokio::time::timeout(within, (scenario.run)(stage));
    let outcome = match AssertUnwindSafe(playing).catch_unwind().await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(anyhow!("it did not end within {} s", scenario.seconds)),
        Err(_) => Err(anyhow!("it panicked; what it said is above")),
    };
    if let Err(why) = &outcome {
        stage.say(format_args!("FAILED: {why:#}\nEvidence is in {}", folder.display()));
        evidence::keep(&kube.client, &stage.namespace, &folder).await;
    }
    drop(logs);
    let left = leave(kube, scenario, stage, outcome.is_err()).await;
    if outcome.is_ok() && left.is_ok() {
        evidence::forget(&folder);
    }
    // Why a scenario failed is more than that it could not be cleared away then.
    outcome.and(left.context("what it left behind"))
}

/// Puts back whatever a scenario took away, so that the next one finds all machines and room on them.
async fn leave(kube: &Kubernetes, scenario: &Scenario, stage: &Stage, failed: bool) -> anyhow::Result<()> {
    if scenario.takes_machines && failed {
        for machine in &kube.machines {
            // One that runs may be refused; joining one that is joined changes nothing.
            if let Err(refused) = machines::start(machine).await {
                stage.say(format_args!("{refused:#}"));
            }
            machines::join(machine).await?;
        }
    }
    if scenario.takes_machines {
        for machine in &kube.machines {
            kube.await_machine(machine, true, BACK_WITHIN).await?;
        }
    }
    if std::env::var_os("TRILITH_E2E_KEEP_NAMESPACES").is_some() {
        return Ok(());
    }
    stage.leave().await?;
    if failed { Ok(()) } else { stage.await_left(LEFT_WITHIN).await }
}
