//! What to do next, from what is wanted and what was observed. Pure: no I/O, no clock.
//!
//! ```text
//!   paused? ──▶ nothing
//!   deleted? ─▶ dismantle
//!   always:    claims (labels, growth), joining, what a good template is, giving a bad one up
//!   then the first that has something to do, because one change of topology goes at a time; nodes are
//!   added also while others are being emptied:
//!      create ─▶ heal ─▶ drain (finish one) ─▶ scale ─▶ roll ─▶ rebalance
//!   and once none of them has: the cluster version is raised
//! ```
//!
//! Nothing is remembered between two plans. A plan whose steps were all carried out, or only
//! some of them, leads to a next plan that goes on; when everything is as wanted the plan is
//! empty.

mod claims;
mod create;
mod dismantle;
mod drain;
mod heal;
mod raise;
mod rebalance;
mod roll;
mod scale;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crds::conditions::Reason;

pub use rebalance::token;
pub use step::{DrainReason, Gate, Step};

use super::intent::Intent;
use super::observed::Observed;
use crate::dataplane::DataPlane;

/// How soon to look again while something is under way, in seconds. The data plane's stream and
/// the watches bring most news earlier; what they do not show is who is alive.
const SOON: u64 = 2;
/// How soon to look again while the data plane is not well. It gets well by itself, and nothing in the
/// cluster's map or objects changes then, so that no watch tells.
const UNWELL: u64 = 3;
/// How soon to look again while something stands in the way.
const LATER: u64 = 30;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The effects, in order. The first that cannot be had ends the rest.
    pub steps: Vec<Step>,
    /// How each pool's `StatefulSet` should be once the steps are done.
    pub sets: BTreeMap<String, SetPlan>,
    /// The change that is under way.
    pub operation: Option<Operation>,
    /// What it waits for.
    pub waits: Option<String>,
    /// What cannot be done as declared.
    pub problems: Vec<Problem>,
    /// When to look again, in seconds; none: when something changes.
    pub requeue: Option<u64>,
}

/// How a pool's `StatefulSet` should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPlan {
    /// How many pods.
    pub replicas: u32,
    /// What its pods are made of.
    pub template: Template,
}

/// What the pods of a `StatefulSet` are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Template {
    /// What the spec declares.
    Declared,
    /// What it has now, although something else may be declared.
    Present,
    /// The last one with which every pod was ready.
    LastGood,
}

/// A change of topology; one goes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The cluster comes into being, or comes back from its claims.
    Create,
    /// A node that is gone is replaced.
    Heal,
    /// A node goes.
    Drain,
    /// The number of nodes changes.
    Scale,
    /// Pods are replaced by changed ones.
    Roll,
    /// Copies and leaders move for the sake of balance.
    Rebalance,
    /// No pod runs, because that is wanted.
    Hibernate,
    /// The cluster goes.
    Dismantle,
}

/// What cannot be done as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A word for programs.
    pub reason: Reason,
    /// A sentence for people, which names node or claim.
    pub message: String,
}

/// Decides for one operation.
type Decide = fn(&Intent, &Observed) -> Turn;

/// What one operation has to say.
enum Turn {
    /// It has nothing to do.
    Nothing,
    /// It does this now.
    Act(Vec<Step>),
    /// It is under way and waits.
    Wait(String),
    /// It should do something that cannot be done; other operations go on.
    Refuse(Problem),
    /// The same, and nothing that changes topology may happen meanwhile.
    Block(Problem),
}

/// What to do next.
pub fn plan(intent: &Intent, observed: &Observed) -> Plan {
    let mut plan = Plan { sets: present_sets(intent, observed), ..Plan::default() };
    if intent.paused {
        plan.requeue = is_unwell(observed).then_some(UNWELL);
        return plan;
    }
    plan.steps = claims::keep(intent, observed, &mut plan.problems);
    if intent.hibernate {
        hibernate(&mut plan, observed);
        return plan;
    }
    plan.steps.extend(roll::remember_good(intent, observed));
    let given_up = roll::give_up(intent, observed);
    let gives_up = !given_up.is_empty();
    plan.steps.extend(given_up);

    let operations: [(Operation, Decide); 6] = [
        (Operation::Create, create::turn),
        (Operation::Heal, heal::turn),
        (Operation::Drain, drain::turn),
        (Operation::Scale, scale::turn),
        (Operation::Roll, roll::turn),
        (Operation::Rebalance, rebalance::turn),
    ];
    let mut blocked = false;
    for (operation, turn) in operations {
        // Pods that never ran are replaced by corrected ones whatever else is the matter, or
        // a mistake could not be corrected.
        let turn = match blocked {
            false => turn(intent, observed),
            true if operation == Operation::Roll => roll::rescue(intent, observed),
            true => continue,
        };
        match turn {
            Turn::Nothing => {}
            Turn::Act(steps) => {
                plan.steps.extend(steps);
                plan.under_way(operation, None);
                break;
            }
            Turn::Wait(why) => {
                plan.under_way(operation, Some(why));
                // Copies that are to be made elsewhere may need a node that is not there yet.
                if matches!(operation, Operation::Heal | Operation::Drain) {
                    plan.steps.extend(scale::up(intent, observed));
                }
                break;
            }
            Turn::Refuse(problem) => plan.problem(problem),
            Turn::Block(problem) => {
                plan.problem(problem);
                blocked = true;
            }
        }
    }
    if gives_up && plan.operation.is_none() {
        plan.under_way(Operation::Roll, None);
    }
    if plan.operation.is_none() && plan.problems.is_empty() {
        plan.steps.extend(raise::raise(intent, observed));
    }
    // Last, so that a pod that is not let in holds nothing else up.
    plan.steps.extend(create::join(intent, observed));
    if plan.operation.is_none() {
        let soon = plan.requeue.into_iter().chain(heal::due(intent, observed));
        plan.requeue = soon.chain(is_unwell(observed).then_some(UNWELL)).min();
    }
    plan.follow_steps();
    plan
}

/// Whether the data plane says of itself, or leaves to be guessed, that not all is as it will be.
fn is_unwell(observed: &Observed) -> bool {
    match &observed.data {
        DataPlane::Unknown => !observed.pods.is_empty(),
        DataPlane::Uninitialised => false,
        DataPlane::Known(view) => {
            let silent = view.nodes.values().any(|node| !node.alive);
            silent || view.under_replicated > 0 || view.without_leader > 0 || !view.moves.is_empty()
        }
    }
}

/// What to do for a cluster whose object is being deleted. With `delete_claims` its data goes
/// too; the object is held until then.
pub fn plan_deletion(observed: &Observed, delete_claims: bool) -> Plan {
    let steps = dismantle::steps(observed, delete_claims);
    let operation = Some(Operation::Dismantle);
    Plan { steps, operation, requeue: Some(SOON), ..Plan::default() }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn under_way(&mut self, operation: Operation, waits: Option<String>) {
        self.operation = Some(operation);
        self.waits = waits;
        self.requeue = Some(SOON);
    }

    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
        self.requeue = Some(LATER);
    }

    /// Takes what the steps do to `StatefulSets` into `sets`.
    fn follow_steps(&mut self) {
        for step in &self.steps {
            let (pool, replicas, template) = match step {
                Step::ScaleSet { pool, from: None, to } => (pool, Some(*to), Some(Template::Declared)),
                Step::ScaleSet { pool, to, .. } => (pool, Some(*to), None),
                Step::SwitchTemplate { pool, .. } => (pool, None, Some(Template::Declared)),
                Step::GiveUpTemplate { pool, .. } => (pool, None, Some(Template::LastGood)),
                _ => continue,
            };
            let set = self
                .sets
                .entry(pool.clone())
                .or_insert(SetPlan { replicas: 0, template: Template::Declared });
            set.replicas = replicas.unwrap_or(set.replicas);
            if let Some(template) = template {
                set.template = template;
            }
        }
    }
}

/// The `StatefulSets` as they are: what is declared but needs no restart may change in them, and
/// what their pods are made of stays.
fn present_sets(intent: &Intent, observed: &Observed) -> BTreeMap<String, SetPlan> {
    let present = observed.sets.iter().map(|(pool, set)| {
        let declared = intent.pool(pool).is_some_and(|pool| pool.inputs == set.inputs);
        let template = if declared { Template::Declared } else { Template::Present };
        (pool.clone(), SetPlan { replicas: set.replicas, template })
    });
    present.collect()
}

/// All pods end. Claims stay, and coming back starts from them.
fn hibernate(plan: &mut Plan, observed: &Observed) {
    let running = observed.sets.iter().filter(|(_, set)| set.replicas > 0);
    let steps =
        running.map(|(pool, set)| Step::ScaleSet { pool: pool.clone(), from: Some(set.replicas), to: 0 });
    plan.steps.extend(steps);
    let left = observed.pods.len();
    if left > 0 || !plan.steps.is_empty() {
        plan.under_way(Operation::Hibernate, Some(format!("{left} pods are ending")));
    }
    plan.follow_steps();
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Heal => "heal",
            Self::Drain => "drain",
            Self::Scale => "scale",
            Self::Roll => "roll",
            Self::Rebalance => "rebalance",
            Self::Hibernate => "hibernate",
            Self::Dismantle => "dismantle",
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.operation, &self.waits) {
            (Some(operation), Some(why)) => writeln!(f, "{operation}: waits, {why}")?,
            (Some(operation), None) => writeln!(f, "{operation}:")?,
            (None, _) => writeln!(f, "nothing under way")?,
        }
        for step in &self.steps {
            writeln!(f, "  - {step}")?;
        }
        for problem in &self.problems {
            writeln!(f, "  ! {}: {}", problem.reason, problem.message)?;
        }
        Ok(())
    }
}
