//! `trilith rebalance`

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use client::Admin;
use proto::v1::{ListMovesRequest, MoveStage, MoveStatus, PlanRebalanceRequest, StartMovesRequest};
use serde_json::json;

use crate::arguments::Global;
use crate::exit::Exit;
use crate::output::{Output, note};

/// How often moves under way are looked at.
const LOOK: Duration = Duration::from_millis(300);
/// How often at most a plan is made anew because the cluster changed meanwhile.
const ROUNDS: usize = 10;

const EXAMPLES: &str = "\
Examples:
  trilith rebalance                        what would be moved, and where
  trilith rebalance --apply                moves it, and says how far it is; the moves
                                           go on when this is interrupted";

/// Show what would bring the cluster into balance, or do it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Rebalance {
    /// Carry the plan out.
    #[arg(long)]
    apply: bool,
}

impl Rebalance {
    /// Plans, and carries out what was planned.
    pub async fn run(self, global: &Global, out: &mut Output) -> anyhow::Result<Exit> {
        let admin = global.connect().await?.admin();
        let mut done = 0;
        // A plan is made for the map as it is; after its moves another may have more.
        for _ in 0..ROUNDS {
            let plan = admin.plan_rebalance(PlanRebalanceRequest {}).await?;
            if !self.apply || plan.moves.is_empty() {
                let lines = plan.lines;
                out.show(
                    || {
                        if lines.is_empty() {
                            "balanced: nothing to move".to_owned()
                        } else {
                            lines.join("\n")
                        }
                    },
                    || json!({"plan": lines, "map_revision": plan.map_revision, "moved": done}),
                )?;
                return Ok(Exit::Done);
            }
            note(format_args!("{} moves:\n{}", plan.moves.len(), plan.lines.join("\n")));
            let request = StartMovesRequest { moves: plan.moves, map_revision: plan.map_revision };
            let ids = admin.start_moves(request).await?.moves;
            let ended = follow(&admin, &ids).await?;
            done += ended.iter().filter(|stage| **stage == MoveStage::Done).count();
            if ended.iter().any(|stage| *stage != MoveStage::Done) {
                note("not all moves were done: `trilith rebalance` shows what is left");
                return Ok(Exit::Failed);
            }
        }
        note("the cluster keeps changing: `trilith rebalance` shows what is left");
        Ok(Exit::Failed)
    }
}

/// Follows moves until each has ended, and says when one comes to another stage.
async fn follow(admin: &Admin, ids: &[u64]) -> Result<Vec<MoveStage>, client::Error> {
    let mut seen: HashMap<u64, MoveStage> = HashMap::new();
    let mut reported = std::collections::HashSet::new();
    loop {
        let moves = admin.list_moves(ListMovesRequest {}).await?.moves;
        for status in moves.iter().filter(|status| ids.contains(&status.id)) {
            reported.insert(status.id);
            if seen.insert(status.id, status.stage()) != Some(status.stage()) {
                note(progress(status, &seen, ids.len()));
            }
        }
        // One that is listed no more ended so long ago that the list has forgotten it.
        let listed = |id: &u64| moves.iter().any(|status| status.id == *id);
        for id in ids.iter().filter(|id| reported.contains(*id) && !listed(id)) {
            seen.insert(*id, MoveStage::Done);
        }
        if ids.iter().all(|id| seen.get(id).is_some_and(|stage| has_ended(*stage))) {
            return Ok(ids.iter().filter_map(|id| seen.get(id).copied()).collect());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn progress(status: &MoveStatus, seen: &HashMap<u64, MoveStage>, total: usize) -> String {
    let ended = seen.values().filter(|stage| has_ended(**stage)).count();
    let stage = match status.stage() {
        MoveStage::Queued => "queued",
        MoveStage::CatchingUp => "catching up",
        MoveStage::Switching => "switching",
        MoveStage::CleaningUp => "cleaning up",
        MoveStage::Done => "done",
        MoveStage::Failed => "failed",
        MoveStage::Cancelled => "cancelled",
    };
    let detail = if status.detail.is_empty() { String::new() } else { format!(" ({})", status.detail) };
    format!("[{ended}/{total}] {}: {stage}{detail}", status.line)
}

fn has_ended(stage: MoveStage) -> bool {
    matches!(stage, MoveStage::Done | MoveStage::Failed | MoveStage::Cancelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_far_all_moves_are() {
        let status = MoveStatus {
            id: 2,
            stage: MoveStage::CatchingUp.into(),
            line: "partition 4: node-1 → node-3".into(),
            detail: "12 MiB left".into(),
            ..MoveStatus::default()
        };
        let seen = HashMap::from([(1, MoveStage::Done), (2, MoveStage::CatchingUp)]);
        assert_eq!(
            progress(&status, &seen, 5),
            "[1/5] partition 4: node-1 → node-3: catching up (12 MiB left)"
        );
    }
}
