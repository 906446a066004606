//! A browser that nobody looks at.

use std::time::Duration;

use anyhow::ensure;
use tokio::process::Command;

use crate::programs::run_to_end;

/// A cold browser takes a while on a busy machine.
const WITHIN: Duration = Duration::from_secs(90);

/// Opens a page, lets its scripts run, and gives the document that they have made of it.
pub async fn document_of(address: &str) -> anyhow::Result<String> {
    let profile = tempfile::Builder::new().prefix("trilith-browser-").tempdir()?;
    let mut command = Command::new("chromium");
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        // It is to speak to the node and to nobody else.
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
        ])
        .args(["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--virtual-time-budget=20000", "--dump-dom", address]);
    let ended = run_to_end(&format!("chromium {address}"), &mut command, b"", WITHIN).await?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "chromium ended with {}: {said}", ended.status);
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}
