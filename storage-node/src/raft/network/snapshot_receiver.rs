//! Takes a snapshot from a peer, file by file, and has a replica install it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use proto::v1::snapshot_piece::Piece;
use proto::v1::{SnapshotAnswer, SnapshotFile, SnapshotHead, SnapshotPiece};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::counters::Counters;
use super::endpoint::Replicas;
use super::inbound::wrong_cluster;
use super::peers::{Identity, PeerSettings};
use super::scratch::{Scratch, ScratchFolder};
use super::snapshot_files::{ReceivedFiles, SnapshotFiles, is_file_name};
use super::wire;
use crate::seams::threads;

/// Files that a snapshot may have: 4 TiB of them at 64 MiB each.
const MOST_FILES: usize = 65_536;

/// Takes snapshots from peers.
pub struct SnapshotReceiver {
    identity: Identity,
    replicas: Arc<dyn Replicas>,
    settings: PeerSettings,
    scratch: Arc<Scratch>,
    counters: Arc<Counters>,
    turns: Semaphore,
}

impl SnapshotReceiver {
    pub fn new(
        identity: Identity,
        replicas: Arc<dyn Replicas>,
        settings: PeerSettings,
        scratch: Arc<Scratch>,
        counters: Arc<Counters>,
    ) -> Self {
        let turns = Semaphore::new(settings.snapshots_at_once);
        Self { identity, replicas, settings, scratch, counters, turns }
    }

    /// One snapshot, from its head to its installation.
    pub async fn receive(
        &self,
        request: Request<Streaming<SnapshotPiece>>,
    ) -> Result<Response<SnapshotAnswer>, Status> {
        let mut pieces = request.into_inner();
        let Some(Piece::Head(head)) = self.next(&mut pieces).await? else {
            return Err(Status::invalid_argument("a snapshot begins with its head"));
        };
        let SnapshotHead { cluster, group, from_replica, to_replica, vote, meta } = head;
        if cluster[..] != self.identity.cluster.to_bytes() {
            return Err(wrong_cluster(self.identity.cluster, &cluster));
        }
        let bad = |error: wire::BadMessage| Status::invalid_argument(error.to_string());
        let vote = wire::vote_in(vote).map_err(bad)?;
        let meta = wire::decode_snapshot_meta(meta).map_err(bad)?;
        if vote.leader_id().voted_for != from_replica {
            return Err(Status::invalid_argument("the vote is not that of the replica that sends it"));
        }
        let endpoint = self.replicas.endpoint(group, to_replica).ok_or_else(|| {
            Status::failed_precondition(format!("replica {to_replica} of group {group} is not here"))
        })?;
        let _turn = self.turns.try_acquire().map_err(|_| {
            Status::resource_exhausted("enough snapshots are on their way to this node already")
        })?;
        let files = self.files(&mut pieces).await?;
        let vote = endpoint
            .install_snapshot(vote, meta, SnapshotFiles::Received(Arc::new(files)))
            .await
            .map_err(Status::internal)?;
        Ok(Response::new(SnapshotAnswer { vote: Some(wire::vote_out(&vote)) }))
    }

    async fn next(&self, pieces: &mut Streaming<SnapshotPiece>) -> Result<Option<Piece>, Status> {
        let stall = self.settings.snapshot_stall;
        match tokio::time::timeout(stall, pieces.message()).await {
            Ok(piece) => Ok(piece?.and_then(|piece| piece.piece)),
            Err(_) => Err(Status::deadline_exceeded(format!("no piece of the snapshot for {stall:?}"))),
        }
    }

    async fn files(&self, pieces: &mut Streaming<SnapshotPiece>) -> Result<ReceivedFiles, Status> {
        let scratch = Arc::clone(&self.scratch);
        let folder = threads::blocking(move || scratch.folder("receive")).await.map_err(disk)?;
        let mut names = HashSet::new();
        let mut paths = Vec::new();
        let mut open: Option<OpenFile> = None;
        loop {
            match self.next(pieces).await? {
                Some(Piece::File(announced)) => {
                    finish(open.take()).await?;
                    if !is_file_name(&announced.name) || !names.insert(announced.name.clone()) {
                        return Err(Status::invalid_argument("a snapshot's file has no proper name"));
                    }
                    if paths.len() >= MOST_FILES {
                        return Err(Status::invalid_argument("a snapshot of too many files"));
                    }
                    let path = folder.path().join(&announced.name);
                    paths.push(path.clone());
                    open = Some(OpenFile::create(announced, path).await?);
                }
                Some(Piece::Data(data)) => {
                    self.counters.snapshot_received(data.len());
                    let Some(file) = open.take() else {
                        return Err(Status::invalid_argument("bytes of no file"));
                    };
                    open = Some(file.write(data).await?);
                }
                Some(Piece::End(end)) => {
                    finish(open.take()).await?;
                    if end.files as usize != paths.len() {
                        return Err(Status::data_loss("files of the snapshot are missing"));
                    }
                    return sync_folder(folder, paths).await;
                }
                Some(Piece::Head(_)) => return Err(Status::invalid_argument("a second head")),
                None => return Err(Status::aborted("the sender gave the snapshot up")),
            }
        }
    }
}

/// A file that is being received.
struct OpenFile {
    announced: SnapshotFile,
    file: File,
    written: u64,
    crc32c: u32,
}

impl OpenFile {
    async fn create(announced: SnapshotFile, path: PathBuf) -> Result<Self, Status> {
        let create = move || OpenOptions::new().write(true).create_new(true).open(path);
        let file = threads::blocking(create).await.map_err(disk)?;
        Ok(Self { announced, file, written: 0, crc32c: 0 })
    }

    async fn write(mut self, data: Bytes) -> Result<Self, Status> {
        self.written += data.len() as u64;
        if self.written > self.announced.bytes {
            return Err(Status::data_loss(format!("{} is longer than announced", self.announced.name)));
        }
        threads::blocking(move || {
            self.crc32c = crc32c::crc32c_append(self.crc32c, &data);
            self.file.write_all(&data).map(|()| self)
        })
        .await
        .map_err(disk)
    }
}

/// Checks a file against what was announced and syncs it.
async fn finish(file: Option<OpenFile>) -> Result<(), Status> {
    let Some(OpenFile { announced, file, written, crc32c }) = file else { return Ok(()) };
    if written != announced.bytes {
        return Err(Status::data_loss(format!("{} is shorter than announced", announced.name)));
    }
    if crc32c != announced.crc32c {
        return Err(Status::data_loss(format!(
            "{} was damaged on its way: checksum {crc32c:08x}, announced {:08x}",
            announced.name, announced.crc32c
        )));
    }
    threads::blocking(move || file.sync_all()).await.map_err(disk)
}

async fn sync_folder(folder: ScratchFolder, paths: Vec<PathBuf>) -> Result<ReceivedFiles, Status> {
    threads::blocking(move || {
        File::open(folder.path())?.sync_all()?;
        Ok(ReceivedFiles::new(paths, folder))
    })
    .await
    .map_err(disk)
}

fn disk(error: io::Error) -> Status {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Status::resource_exhausted(format!("no space for the snapshot: {error}"))
        }
        _ => Status::internal(format!("the snapshot cannot be stored: {error}")),
    }
}
