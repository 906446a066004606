//! Sends a snapshot to a peer, over a connection of its own.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use placement::NodeId;
use proto::v1::snapshot_piece::Piece;
use proto::v1::{SnapshotEnd, SnapshotFile, SnapshotHead, SnapshotPiece};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::connect;
use super::lane::Route;
use super::peers::Shared;
use super::scratch::ScratchFolder;
use super::snapshot_files::SnapshotFiles;
use super::wire;
use crate::raft::type_config::{SnapshotMeta, Vote};
use crate::seams::threads;

/// Pieces that wait for the connection. With pieces of at most 1 MiB this is what a snapshot
/// on its way costs in memory.
const PIECES_AHEAD: usize = 4;

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The state machine could not write it, or it could not be read back.
    #[error("the files of the snapshot could not be made")]
    Files(#[source] io::Error),
    /// The peer cannot be reached or did not take it.
    #[error("node {node} did not take the snapshot: {why}")]
    NotTaken {
        /// The peer.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// The peer stopped reading, or does not finish installing.
    #[error("nothing moved for {0:?}")]
    Stalled(Duration),
}

/// A snapshot on its way.
pub(super) struct SnapshotSender {
    pub shared: Arc<Shared>,
    pub to: NodeId,
    pub route: Route,
    /// Bytes of a file in one message.
    pub piece: usize,
}

impl SnapshotSender {
    /// Sends it; the answer is the receiver's vote once it is installed, or at once if that
    /// vote is higher.
    pub async fn send(
        &self,
        vote: Vote,
        meta: &SnapshotMeta,
        snapshot: SnapshotFiles,
    ) -> Result<Vote, SendError> {
        let _turn = self.shared.outgoing_snapshots.acquire().await;
        let (files, _folder) = self.files(snapshot).await.map_err(SendError::Files)?;
        let address = self.shared.addresses.peer_address(self.to);
        let address = address.ok_or_else(|| self.not_taken("its address is not known".to_owned()))?;
        let channel = connect::connect(&address, self.shared.settings.connect_timeout)
            .await
            .map_err(|error| self.not_taken(error.to_string()))?;
        let head = SnapshotHead {
            cluster: self.shared.identity.cluster.to_bytes().to_vec().into(),
            group: self.route.group,
            from_replica: self.route.from,
            to_replica: self.route.to,
            vote: Some(wire::vote_out(&vote)),
            meta: wire::encode_snapshot_meta(meta),
        };
        let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
        let mut client = connect::client(channel);
        let call = client.snapshot(ReceiverStream::new(receiver));
        tokio::pin!(call);
        // The call may end first: the receiver refuses, or knows a higher vote.
        let called = tokio::select! {
            called = &mut call => called,
            fed = self.feed(head, &files, pieces) => {
                fed?;
                let patience = self.shared.settings.install_patience;
                tokio::time::timeout(patience, call).await.map_err(|_| SendError::Stalled(patience))?
            }
        };
        let answer = called.map_err(|status| self.not_taken(status.message().to_owned()))?.into_inner();
        wire::vote_in(answer.vote).map_err(|error| self.not_taken(error.to_string()))
    }

    fn not_taken(&self, why: String) -> SendError {
        SendError::NotTaken { node: self.to, why }
    }

    async fn files(&self, snapshot: SnapshotFiles) -> io::Result<(Vec<PathBuf>, Option<ScratchFolder>)> {
        match snapshot {
            SnapshotFiles::Received(received) => Ok((received.files().to_vec(), None)),
            SnapshotFiles::Lazy(source) => {
                let scratch = Arc::clone(&self.shared.scratch);
                threads::blocking(move || {
                    let folder = scratch.folder("send")?;
                    let files = source.write_files(folder.path())?;
                    Ok((files, Some(folder)))
                })
                .await
            }
        }
    }

    async fn feed(
        &self,
        head: SnapshotHead,
        files: &[PathBuf],
        pieces: mpsc::Sender<SnapshotPiece>,
    ) -> Result<(), SendError> {
        self.put(&pieces, Piece::Head(head)).await?;
        for path in files {
            let path = path.clone();
            let (announced, mut file) = threads::blocking(move || {
                let announced = announce(&path)?;
                io::Result::Ok((announced, File::open(&path)?))
            })
            .await
            .map_err(SendError::Files)?;
            let mut left = announced.bytes;
            self.put(&pieces, Piece::File(announced)).await?;
            while left > 0 {
                let most = left.min(self.piece as u64) as usize;
                let (data, back) =
                    threads::blocking(move || read_piece(file, most)).await.map_err(SendError::Files)?;
                file = back;
                left -= data.len() as u64;
                self.shared.throttle.take(data.len()).await;
                self.shared.counters.snapshot_sent(data.len());
                self.put(&pieces, Piece::Data(data)).await?;
            }
        }
        self.put(&pieces, Piece::End(SnapshotEnd { files: files.len() as u32 })).await?;
        // This ends the stream, which the receiver waits for.
        drop(pieces);
        Ok(())
    }

    async fn put(&self, pieces: &mpsc::Sender<SnapshotPiece>, piece: Piece) -> Result<(), SendError> {
        let stall = self.shared.settings.snapshot_stall;
        match pieces.send_timeout(SnapshotPiece { piece: Some(piece) }, stall).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(SendError::Stalled(stall)),
            // The call is over and has its own answer, which is the one that counts.
            Err(mpsc::error::SendTimeoutError::Closed(_)) => std::future::pending().await,
        }
    }
}

/// What the receiver is told of a file before its bytes. The file is read once for this and
/// again to send it, the second time from memory.
fn announce(path: &Path) -> io::Result<SnapshotFile> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::other("a snapshot's file needs a plain name"))?;
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let (mut bytes, mut crc32c) = (0, 0);
    loop {
        let read = file.read(&mut buffer)?;
        let Some(data) = buffer.get(..read).filter(|data| !data.is_empty()) else { break };
        bytes += read as u64;
        crc32c = crc32c::crc32c_append(crc32c, data);
    }
    Ok(SnapshotFile { name: name.to_owned(), bytes, crc32c })
}

fn read_piece(mut file: File, bytes: usize) -> io::Result<(Bytes, File)> {
    let mut data = BytesMut::zeroed(bytes);
    file.read_exact(&mut data)?;
    Ok((data.freeze(), file))
}
