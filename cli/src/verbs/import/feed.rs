//! The reading end of an import: a thread of its own, since reading a file blocks.

use std::sync::Arc;

use client::Condition;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};

use super::lane::{CHUNK_BYTES, CHUNK_ITEMS, Chunk, lane_of};
use super::ledger::{Ledger, Trouble};
use crate::item_file::{Fault, FileItem, ItemReader, Place};
use crate::output::note;

/// Kibibytes of items that may be under way. Beside them there are the chunks that are being
/// filled, of [`CHUNK_BYTES`] for each lane, and one item that is being read.
const UNDER_WAY_KIB: u32 = 64 << 10;
/// Chunks that wait for each lane.
const WAITING: usize = 2;

/// What reads items and gives them to lanes.
pub struct Feed {
    reader: Box<dyn ItemReader>,
    ledger: Arc<Ledger>,
    stop: watch::Receiver<bool>,
    rules: Rules,
    lanes: Vec<mpsc::Sender<Chunk>>,
    /// What each lane gets next.
    filling: Vec<Filling>,
    room: Arc<Semaphore>,
}

/// What is done with items.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// What must hold for an item to be written.
    pub condition: Option<Condition>,
    /// Whether wrong items are left out.
    pub skip_bad: bool,
    /// Lines before this one are not looked at.
    pub from_line: u64,
}

#[derive(Debug, Default)]
struct Filling {
    number: u64,
    places: Vec<Place>,
    operations: Vec<client::Operation>,
    bytes: usize,
}

/// The lanes have ended: nothing more can be done.
struct LanesEnded;

impl Feed {
    /// Reads with `reader` for so many lanes, whose ends are given as well.
    pub fn new(
        reader: Box<dyn ItemReader>,
        ledger: Arc<Ledger>,
        stop: watch::Receiver<bool>,
        rules: Rules,
        lanes: usize,
    ) -> (Self, Vec<mpsc::Receiver<Chunk>>) {
        let (lanes, ends): (Vec<_>, Vec<_>) = (0..lanes).map(|_| mpsc::channel(WAITING)).unzip();
        let filling = lanes.iter().map(|_| Filling::default()).collect();
        let room = Arc::new(Semaphore::new(UNDER_WAY_KIB as usize));
        (Self { reader, ledger, stop, rules, lanes, filling, room }, ends)
    }

    /// Reads in a thread of its own, which nobody waits for: it may wait itself, for a pipe
    /// that says nothing, when everything else has ended.
    pub fn start(self, runtime: Handle) -> std::io::Result<()> {
        std::thread::Builder::new().name("import reader".to_owned()).spawn(move || self.read(&runtime))?;
        Ok(())
    }

    fn read(mut self, runtime: &Handle) {
        while !*self.stop.borrow() {
            let place = self.reader.place();
            let taken = match self.reader.next_item() {
                Ok(Some(_)) | Err(Fault::Item { .. }) if self.is_before(place) => Ok(()),
                Ok(Some(item)) => self.add(item, place, runtime),
                Ok(None) => {
                    if self.send_all(runtime).is_ok() {
                        self.ledger.read_to(place);
                        self.ledger.read_whole();
                    }
                    return;
                }
                Err(Fault::Item { at, why }) if self.rules.skip_bad => {
                    note(format_args!("{at}: {why}: left out"));
                    self.ledger.skip();
                    Ok(())
                }
                Err(fault) => {
                    if self.send_all(runtime).is_ok() {
                        self.ledger.read_to(place);
                    }
                    self.ledger.fail(place, Trouble::File(fault));
                    return;
                }
            };
            if taken.is_err() {
                return;
            }
        }
    }

    fn is_before(&self, place: Place) -> bool {
        place.number < self.rules.from_line
    }

    fn add(&mut self, item: FileItem, place: Place, runtime: &Handle) -> Result<(), LanesEnded> {
        let lane = lane_of(&item.key, self.lanes.len());
        let Some(filling) = self.filling.get_mut(lane) else { return Err(LanesEnded) };
        if filling.operations.is_empty() {
            filling.number = self.ledger.open_chunk(place);
        }
        let operation = item.put(self.rules.condition);
        filling.bytes += operation.size();
        filling.places.push(place);
        filling.operations.push(operation);
        if filling.operations.len() >= CHUNK_ITEMS || filling.bytes >= CHUNK_BYTES {
            return self.send(lane, runtime);
        }
        Ok(())
    }

    fn send_all(&mut self, runtime: &Handle) -> Result<(), LanesEnded> {
        (0..self.lanes.len()).try_for_each(|lane| self.send(lane, runtime))
    }

    fn send(&mut self, lane: usize, runtime: &Handle) -> Result<(), LanesEnded> {
        let (Some(filling), Some(to)) = (self.filling.get_mut(lane), self.lanes.get(lane)) else {
            return Err(LanesEnded);
        };
        if filling.operations.is_empty() {
            return Ok(());
        }
        let Filling { number, places, operations, bytes } = std::mem::take(filling);
        // An item that is larger than all the room takes all of it.
        let wanted = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).clamp(1, UNDER_WAY_KIB);
        let room = runtime.block_on(Arc::clone(&self.room).acquire_many_owned(wanted)).ok();
        to.blocking_send(Chunk { number, places, operations, room }).map_err(|_| LanesEnded)
    }
}
