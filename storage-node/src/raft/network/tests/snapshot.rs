//! Snapshots that arrive damaged, or at the wrong door.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::StreamingError;
use openraft::network::{NetSnapshot, RPCOption, RaftNetworkFactory};
use openraft::storage::Snapshot;
use placement::{PartitionId, ReplicaId};
use proto::v1::snapshot_piece::Piece;
use proto::v1::{SnapshotEnd, SnapshotFile, SnapshotHead, SnapshotPiece};
use tonic::{Code, Status};

use super::eventually;
use super::exchange::Recorder;
use super::memory::Commands;
use super::node::{Book, Node, cluster, node_id};
use crate::raft::network::peers::AddressBook;
use crate::raft::network::snapshot_files::SnapshotFiles;
use crate::raft::network::{connect, wire};
use crate::raft::type_config::{ReplicaPlace, SnapshotMeta, Vote};

fn head() -> SnapshotHead {
    SnapshotHead {
        cluster: cluster().to_bytes().to_vec().into(),
        group: 1,
        from_replica: 1,
        to_replica: 2,
        vote: Some(wire::vote_out(&Vote::new_committed(1, 1))),
        meta: wire::encode_snapshot_meta(&SnapshotMeta::default()),
    }
}

fn file(name: &str, data: &'static [u8], crc32c: u32) -> [Piece; 2] {
    let file = SnapshotFile { name: name.to_owned(), bytes: data.len() as u64, crc32c };
    [Piece::File(file), Piece::Data(Bytes::from_static(data))]
}

async fn send(book: &Book, pieces: Vec<Piece>) -> Result<(), Status> {
    let address = book.peer_address(node_id(2)).unwrap();
    let channel = connect::connect(&address, Duration::from_secs(5)).await.unwrap();
    let pieces: Vec<_> = pieces.into_iter().map(|piece| SnapshotPiece { piece: Some(piece) }).collect();
    connect::client(channel).snapshot(futures::stream::iter(pieces)).await.map(drop)
}

#[tokio::test]
async fn only_a_whole_and_undamaged_snapshot_is_installed() {
    let book = Arc::new(Book::default());
    let node = Node::start(2, &book).await;
    let recorder = Arc::new(Recorder::default());
    node.hold(1, 2, recorder.clone());
    let data = b"some bytes";
    let crc32c = crc32c::crc32c(data);
    let end = |files| Piece::End(SnapshotEnd { files });
    let whole = |head: SnapshotHead, file: [Piece; 2], files| {
        let [announced, data] = file;
        vec![Piece::Head(head), announced, data, end(files)]
    };

    let other_cluster = SnapshotHead { cluster: Bytes::from_static(&[9; 16]), ..head() };
    let absent = SnapshotHead { to_replica: 5, ..head() };
    let not_its_vote = SnapshotHead { from_replica: 3, ..head() };
    for (pieces, code) in [
        (whole(head(), file("a", data, crc32c + 1), 1), Code::DataLoss),
        (whole(head(), file("a", data, crc32c), 2), Code::DataLoss),
        (whole(head(), file("../a", data, crc32c), 1), Code::InvalidArgument),
        (whole(other_cluster, file("a", data, crc32c), 1), Code::FailedPrecondition),
        (whole(absent, file("a", data, crc32c), 1), Code::FailedPrecondition),
        (whole(not_its_vote, file("a", data, crc32c), 1), Code::InvalidArgument),
        (vec![Piece::Head(head())], Code::Aborted),
        (vec![end(0)], Code::InvalidArgument),
    ] {
        let refused = send(&book, pieces).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    assert!(recorder.installed.lock().is_empty());

    send(&book, whole(head(), file("a", data, crc32c), 1)).await.unwrap();
    assert_eq!(*recorder.installed.lock(), [vec![data.to_vec()]]);
}

#[tokio::test]
async fn a_snapshot_can_be_cancelled_and_is_told_of_a_refusal() {
    let book = Arc::new(Book::default());
    let (sender, receiver) = (Node::start(1, &book).await, Node::start(2, &book).await);
    let mut factory = sender.peers.factory(PartitionId(1), ReplicaId(1));
    let place = ReplicaPlace { node: node_id(2) };
    let mut network = factory.new_snapshot_client(2, &place).await;
    let commands = (0..1000).map(|number| Bytes::from(format!("{number}"))).collect();
    let files = SnapshotFiles::Lazy(Arc::new(Commands(commands)));
    let snapshot = || Snapshot { meta: SnapshotMeta::default(), snapshot: files.clone() };
    let option = || RPCOption::new(Duration::from_secs(1));
    let vote = Vote::new_committed(1, 1);

    let never = std::future::pending();
    let refused = network.full_snapshot(vote, snapshot(), never, option()).await.unwrap_err();
    assert!(matches!(&refused, StreamingError::Unreachable(_)), "{refused}");
    assert!(refused.to_string().contains("is not here"), "{refused}");

    receiver.hold(1, 2, Arc::new(Recorder::default()));
    // Slow enough to be on its way for seconds.
    sender.throttle.set(1000);
    let peers = Arc::clone(&sender.peers);
    let cancel = async move {
        eventually("a file is on its way", || peers.counters().read().snapshot_bytes_sent > 0).await;
        openraft::errors::ReplicationClosed::new("no longer wanted")
    };
    let cancelled = network.full_snapshot(vote, snapshot(), cancel, option()).await;
    assert!(matches!(cancelled, Err(StreamingError::Closed(_))), "{cancelled:?}");
    for node in [&sender, &receiver] {
        eventually("nothing of the snapshot is left", || node.scratch_is_empty()).await;
    }
}
