//! Waiting for a condition, never for a time to pass.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep, timeout_at};

/// How soon it is looked again.
const LOOK: Duration = Duration::from_millis(40);

/// Looks until there is what is looked for, and gives it. An error only says why it is not
/// there yet; at the deadline the last one says what was missing.
pub async fn until<T>(
    what: &str,
    within: Duration,
    look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    until_every(what, within, LOOK, look).await
}

/// The same with another rest between two looks, where a look is not cheap.
pub async fn until_every<T>(
    what: &str,
    within: Duration,
    every: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    let mut last = anyhow::anyhow!("it was not seen once");
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => last = error,
            Err(_) => last = last.context("the last look did not end"),
        }
        if Instant::now() + every >= deadline {
            return Err(last).with_context(|| format!("not within {} s: {what}", within.as_secs_f64()));
        }
        sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_reason_is_told() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_secs(10), async || {
            looks += 1;
            anyhow::ensure!(looks == 3, "only {looks}");
            Ok(looks)
        });
        assert_eq!(found.await.unwrap(), 3);
        let never = until("rain", Duration::from_millis(90), async || -> anyhow::Result<()> {
            anyhow::bail!("the sun shines")
        });
        let why = format!("{:#}", never.await.unwrap_err());
        assert!(why.contains("rain") && why.contains("the sun shines"), "{why}");
    }
}
