//! A scenario under way: alone on the machine, repeatable, and it says what it does.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{Mutex, MutexGuard};

/// Held by the scenario that runs. Clusters that share a few cores disturb each other's
/// timing, and timing is part of what is tested.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A scenario under way.
#[derive(Debug)]
pub struct Scenario {
    name: &'static str,
    seed: u64,
    began: Instant,
    _alone: MutexGuard<'static, ()>,
}

impl Scenario {
    /// Begins once no other scenario of this process runs. The seed is printed, and taken
    /// from `E2E_SEED` where that is set.
    pub async fn begin(name: &'static str) -> anyhow::Result<Self> {
        let alone = ALONE.lock().await;
        let seed = match std::env::var("E2E_SEED") {
            Ok(text) => text.parse().with_context(|| format!("E2E_SEED is {text:?}, which is no number"))?,
            Err(_) => rand::random_range(0..1_000_000),
        };
        let scenario = Self { name, seed, began: Instant::now(), _alone: alone };
        scenario.say(format_args!("seed {seed} (repeat with E2E_SEED={seed})"));
        Ok(scenario)
    }

    /// Prints what happens, with the time since the beginning.
    pub fn say(&self, what: impl Display) {
        eprintln!("[{} {:6.2} s] {what}", self.name, self.began.elapsed().as_secs_f64());
    }

    /// Randomness that the seed decides. Each `purpose` has its own, so that one that is
    /// asked more often does not change another.
    pub fn random(&self, purpose: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(purpose))
    }
}

/// How long the scenarios with a load of their own go on: `E2E_SECONDS`, or what they say.
pub fn seconds_or(default: u64) -> Duration {
    let asked = std::env::var("E2E_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(default))
}
