//! Three etcd nodes.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ClusterError, NODES, find_program,
    http::{self, metric},
    process::Process,
    until,
};
use crate::target::etcd::member_status;

const START_PATIENCE: Duration = Duration::from_secs(30);

/// A running etcd cluster with the defaults of its version.
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Process>,
    client_ports: Vec<u16>,
}

impl EtcdCluster {
    /// Finds the program: given, else where `bench/etcd.sh` puts it, else on the `PATH`.
    pub fn program(given: Option<PathBuf>) -> Result<PathBuf, ClusterError> {
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        let tools = std::env::var_os("TRILITH_TOOLS")
            .map(PathBuf::from)
            .or_else(|| Some(cache?.join("trilith").join("tools")));
        let built = tools.map(|tools| tools.join("etcd"));
        find_program("etcd", given, built, "build it with bench/etcd.sh, or say where it is with --etcd")
    }

    /// Starts three members on free loopback ports, with their data under `folder`, and waits
    /// until each of them knows a leader.
    pub async fn start(program: &Path, folder: &Path) -> Result<Self, ClusterError> {
        let (client_ports, peer_ports) = free_ports()?;
        let initial: Vec<String> = peer_ports
            .iter()
            .enumerate()
            .map(|(number, port)| format!("etcd-{number}=http://127.0.0.1:{port}"))
            .collect();
        let initial = initial.join(",");
        let mut members = Vec::with_capacity(NODES);
        for (number, (client, peer)) in client_ports.iter().zip(&peer_ports).enumerate() {
            let name = format!("etcd-{number}");
            let data = folder.join(&name);
            fs::create_dir_all(&data).map_err(ClusterError::io(format!("cannot make {}", data.display())))?;
            let client = format!("http://127.0.0.1:{client}");
            let peer = format!("http://127.0.0.1:{peer}");
            let data = data.to_string_lossy().into_owned();
            // Where to listen and whom to meet, and nothing else: the rest is etcd's default.
            let flags = [
                ("--name", &name),
                ("--data-dir", &data),
                ("--listen-client-urls", &client),
                ("--advertise-client-urls", &client),
                ("--listen-peer-urls", &peer),
                ("--initial-advertise-peer-urls", &peer),
                ("--initial-cluster", &initial),
            ];
            let arguments = flags.iter().flat_map(|(flag, value)| [*flag, value.as_str()]);
            members.push(Process::start(
                &name,
                program,
                arguments,
                folder.join(format!("{name}.log")),
                false,
            )?);
        }
        let mut cluster = Self { members, client_ports };
        cluster.wait_for_leader().await?;
        Ok(cluster)
    }

    /// Where clients go, by member.
    pub fn endpoints(&self) -> Vec<String> {
        self.client_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// The processes that run.
    pub fn process_ids(&self) -> Vec<u32> {
        self.members.iter().filter_map(Process::id).collect()
    }

    /// The version that the first member reports.
    pub async fn version(&self) -> Result<String, ClusterError> {
        let first = self.endpoints().into_iter().next().unwrap_or_default();
        Ok(member_status(&first).await?.version)
    }

    /// The number of the member that leads.
    pub async fn leader(&self) -> Result<usize, ClusterError> {
        for (number, endpoint) in self.endpoints().iter().enumerate() {
            if member_status(endpoint).await?.leads {
                return Ok(number);
            }
        }
        Err(ClusterError::Unreadable("no etcd member says that it leads".to_owned()))
    }

    /// Kills one member for good.
    pub async fn kill(&mut self, member: usize) -> Result<(), ClusterError> {
        match self.members.get_mut(member) {
            Some(process) => process.kill().await,
            None => Err(ClusterError::Unreadable(format!("there is no etcd member {member}"))),
        }
    }

    /// Log fsyncs of all members since their start.
    pub async fn log_fsyncs(&self) -> Result<f64, ClusterError> {
        let mut sum = 0.0;
        for endpoint in self.endpoints() {
            let page = http::get(&endpoint, "/metrics").await?.body;
            let name = "etcd_disk_wal_fsync_duration_seconds_count";
            sum += metric(&page, name, &[])
                .ok_or_else(|| ClusterError::Unreadable(format!("{endpoint} has no metric {name}")))?;
        }
        Ok(sum)
    }

    /// Ends all members.
    pub async fn stop(mut self) -> Result<(), ClusterError> {
        for member in &mut self.members {
            member.stop().await?;
        }
        Ok(())
    }

    async fn wait_for_leader(&mut self) -> Result<(), ClusterError> {
        for (process, endpoint) in
            self.members.iter_mut().zip(self.client_ports.iter().map(|port| format!("127.0.0.1:{port}")))
        {
            let serves = || async {
                member_status(&endpoint).await.ok().filter(|status| status.knows_leader).map(|_| ())
            };
            let waited = until("etcd to elect a leader", START_PATIENCE, serves).await;
            process.check()?;
            waited?;
        }
        Ok(())
    }
}

/// Ports that are free now, for clients and for peers. All are held until all are known, so
/// that none comes up twice.
fn free_ports() -> Result<(Vec<u16>, Vec<u16>), ClusterError> {
    let cannot = || ClusterError::io("cannot find a free port");
    let listeners = (0..2 * NODES)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(cannot())?;
    let mut ports = listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(cannot())?;
    let peers = ports.split_off(NODES);
    Ok((ports, peers))
}
