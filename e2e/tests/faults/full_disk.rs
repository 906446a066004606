//! A disk without room: what would grow is refused, what is there can be read and deleted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{Error, Options, PutOptions};
use e2e::{Cluster, Scenario, Shape, until};

const SIZE_MIB: usize = 256;
/// Less than this free is nearly full. It leaves room for what the node itself writes.
const PERCENT: &str = "50";
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_nothing_else() -> anyhow::Result<()> {
    let scenario = Scenario::begin("full disk").await?;
    let folder = tempfile::tempdir()?;
    let disk = match Disk::mount(folder.path()) {
        Ok(disk) => disk,
        Err(error) => {
            scenario.say(format_args!("skipped: a small file system cannot be mounted here: {error:#}"));
            return Ok(());
        }
    };
    let arguments = ["--disk-nearly-full-percent", PERCENT, "--write-buffer-bytes", "8MiB"];
    let shape = Shape {
        nodes: 0,
        partitions: 0,
        arguments: arguments.map(str::to_owned).to_vec(),
        ..Shape::default()
    };
    let mut cluster = Cluster::processes(shape).await?;
    let node = cluster.add_process(Some(disk.path.join("node")), &[]).await?;
    cluster.init(node).await?;
    cluster.create_table("default", 2).await?;
    let client = cluster.client_with(Options { deadline: Duration::from_secs(2), ..Options::default() })?;
    let table = client.table("default");
    for key in ["keep", "drop"] {
        table.put(key, "value", PutOptions::default()).await?;
    }

    let ballast = disk.path.join("ballast");
    fs::write(&ballast, vec![1; (SIZE_MIB << 20) * 6 / 10])?;
    let refusal = until("writes are refused", NOTICED_WITHIN, async || {
        match table.put("more", "value", PutOptions::default()).await {
            Err(error) => Ok(error),
            Ok(_) => anyhow::bail!("they are still taken"),
        }
    })
    .await?;
    ensure!(
        matches!(&refusal, Error::ResourceExhausted(_) | Error::Unavailable(_))
            && refusal.to_string().contains("writes are refused"),
        "refused with {refusal:?}"
    );
    scenario.say(format_args!("nearly full: {refusal}"));
    ensure!(table.get("keep").await?.is_some(), "reads do not go on");
    ensure!(table.delete("drop", None).await?.deleted, "deletes do not go on");
    ensure!(table.get("drop").await?.is_none(), "what was deleted is there");
    until("the status says so", NOTICED_WITHIN, async || {
        let status = cluster.status_of(node).await?;
        let load = status.nodes.first().and_then(|node| node.load).context("no load is known")?;
        ensure!(load.disk_nearly_full, "it does not");
        Ok(())
    })
    .await?;
    scenario.say("reads and deletes go on, and the status says why writes do not");

    fs::remove_file(&ballast)?;
    until("writes are taken again", NOTICED_WITHIN, async || {
        Ok(table.put("more", "value", PutOptions::default()).await?)
    })
    .await?;
    scenario.say("with room again, writes are taken");
    cluster.finish()
}

/// A small file system in memory, taken down when this is dropped.
struct Disk {
    path: PathBuf,
}

impl Disk {
    fn mount(path: &Path) -> anyhow::Result<Self> {
        let size = format!("size={SIZE_MIB}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(path)
            .output()
            .context("mount")?;
        let said = String::from_utf8_lossy(&mounted.stderr);
        ensure!(mounted.status.success(), "{}", said.trim());
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The node has ended by now; if not, the mount goes when it does.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
