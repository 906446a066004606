//! Where replies go: they gather, and are sent whenever there are enough of them, so that the
//! replies of a long pipeline are never all held at once.

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use crate::doors::connections::{Duplex, Slot, TooMuchHeld};

/// Replies are sent when they have grown to this.
const SEND_BYTES: usize = 256 << 10;

/// Replies on their way to a client.
pub struct Outlet<'a> {
    /// Those that were not sent yet.
    pub bytes: &'a mut BytesMut,
    /// None: nobody wants them.
    client: Option<Client<'a>>,
}

struct Client<'a> {
    stream: &'a mut Box<dyn Duplex>,
    slot: &'a mut Slot,
    /// What the connection holds besides.
    held: usize,
}

/// Why replies cannot be sent.
#[derive(Debug)]
pub enum Stuck {
    /// The connection is broken.
    Broken,
    /// All connections together hold too much.
    TooMuch,
}

impl From<TooMuchHeld> for Stuck {
    fn from(_: TooMuchHeld) -> Self {
        Self::TooMuch
    }
}

impl From<std::io::Error> for Stuck {
    fn from(_: std::io::Error) -> Self {
        Self::Broken
    }
}

impl<'a> Outlet<'a> {
    /// To a client whose connection holds so much besides.
    pub fn new(
        bytes: &'a mut BytesMut,
        stream: &'a mut Box<dyn Duplex>,
        slot: &'a mut Slot,
        held: usize,
    ) -> Self {
        Self { bytes, client: Some(Client { stream, slot, held }) }
    }

    /// To nobody.
    pub fn nowhere(bytes: &'a mut BytesMut) -> Self {
        Self { bytes, client: None }
    }

    /// Sends what there is if it is much. So many bytes wait to become replies.
    pub async fn relieve(&mut self, waiting: usize) -> Result<(), Stuck> {
        if self.bytes.len() >= SEND_BYTES { self.send(waiting).await } else { Ok(()) }
    }

    /// Sends what there is.
    pub async fn send(&mut self, waiting: usize) -> Result<(), Stuck> {
        if let Some(client) = &mut self.client
            && !self.bytes.is_empty()
        {
            client.slot.hold(client.held + self.bytes.len() + waiting)?;
            client.stream.write_all(self.bytes).await?;
        }
        self.bytes.clear();
        Ok(())
    }
}
