//! What a refusal must look like.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tonic::{Code, Response, Status};

/// Nothing that is refused takes longer than this.
const WITHIN: Duration = Duration::from_secs(15);

/// That a call is refused in time, with this code, and with words that say this.
pub async fn refused<T>(
    what: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
    code: Code,
    phrase: &str,
) -> anyhow::Result<()> {
    let answer = tokio::time::timeout(WITHIN, call).await.with_context(|| format!("{what} hangs"))?;
    let Err(status) = answer else { anyhow::bail!("{what} is not refused") };
    ensure!(
        status.code() == code && status.message().contains(phrase),
        "{what} is refused with {:?} {:?}, not with {code:?} and {phrase:?}",
        status.code(),
        status.message()
    );
    Ok(())
}
