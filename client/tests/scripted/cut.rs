//! Connections that can be cut: a relay between a client and a server.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// Cuts every connection that runs through its relay.
#[derive(Clone)]
pub struct Scissors {
    cut: broadcast::Sender<()>,
}

impl Scissors {
    pub fn cut(&self) {
        // Without a connection there is nothing to cut.
        let _ = self.cut.send(());
    }
}

/// Relays to a server. Gives the address to connect to.
pub async fn relay(server: SocketAddr) -> (SocketAddr, Scissors) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let scissors = Scissors { cut: broadcast::channel(16).0 };
    let cut = scissors.cut.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut cut = cut.subscribe();
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect(server).await else { return };
                tokio::select! {
                    _ = cut.recv() => {}
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                }
            });
        }
    });
    (address, scissors)
}
