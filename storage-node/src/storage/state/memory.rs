//! The state in memory: the twin for simulation. What was not flushed is lost in a crash.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use parking_lot::RwLock;

use super::{Change, Changes, PinnedState, StateEngine, StateError, StateIterator, StateResult, StateView};
use crate::storage::keys::KeyRange;

type Tree = BTreeMap<Bytes, Bytes>;

/// A state database that lives as long as its process, or as a simulated disk.
#[derive(Debug, Default)]
pub struct MemoryState {
    trees: RwLock<Trees>,
}

#[derive(Debug, Default)]
struct Trees {
    live: Arc<Tree>,
    flushed: Arc<Tree>,
}

impl MemoryState {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Loses what was not flushed.
    pub fn crash(&self) {
        let mut trees = self.trees.write();
        trees.live = Arc::clone(&trees.flushed);
    }
}

impl StateView for MemoryState {
    fn get(&self, key: &[u8]) -> StateResult<Option<Bytes>> {
        Ok(self.trees.read().live.get(key).cloned())
    }

    fn iterate<'a>(&'a self, range: &KeyRange, reverse: bool) -> StateResult<Box<dyn StateIterator + 'a>> {
        let tree = Arc::clone(&self.trees.read().live);
        Ok(MemoryIterator::start(tree, range, reverse))
    }
}

impl StateEngine for MemoryState {
    fn write(&self, changes: Changes) -> StateResult<()> {
        let mut trees = self.trees.write();
        let live = Arc::make_mut(&mut trees.live);
        for change in changes.changes {
            match change {
                Change::Put(key, value) => {
                    live.insert(key, value);
                }
                Change::Delete(key) => {
                    live.remove(&key);
                }
                Change::DeleteRange(range) => live.retain(|key, _| *key < range.start || *key >= range.end),
            }
        }
        Ok(())
    }

    fn get_flushed(&self, key: &[u8]) -> StateResult<Option<Bytes>> {
        Ok(self.trees.read().flushed.get(key).cloned())
    }

    fn pin(&self) -> Arc<dyn PinnedState> {
        Arc::new(MemoryPinned(Arc::clone(&self.trees.read().live)))
    }

    fn flush(&self) -> StateResult<()> {
        let mut trees = self.trees.write();
        trees.flushed = Arc::clone(&trees.live);
        Ok(())
    }

    fn replace(&self, files: &[PathBuf]) -> StateResult<()> {
        for file in files {
            let failed = |why: io::Error| StateError::Database {
                path: file.clone(),
                what: "cannot be taken in",
                why: why.to_string(),
            };
            let (range, pairs) = read_export(file).map_err(failed)?;
            let mut changes = Changes::default();
            changes.delete_range(range);
            pairs.into_iter().for_each(|(key, value)| changes.put(key, value));
            self.write(changes)?;
        }
        self.flush()
    }

    fn approximate_bytes(&self, ranges: &[KeyRange]) -> u64 {
        let live = Arc::clone(&self.trees.read().live);
        let inside = |key: &Bytes| ranges.iter().any(|range| range.start <= *key && *key < range.end);
        live.iter().filter(|(key, _)| inside(key)).map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

#[derive(Debug)]
struct MemoryPinned(Arc<Tree>);

impl StateView for MemoryPinned {
    fn get(&self, key: &[u8]) -> StateResult<Option<Bytes>> {
        Ok(self.0.get(key).cloned())
    }

    fn iterate<'a>(&'a self, range: &KeyRange, reverse: bool) -> StateResult<Box<dyn StateIterator + 'a>> {
        Ok(MemoryIterator::start(Arc::clone(&self.0), range, reverse))
    }
}

impl PinnedState for MemoryPinned {
    fn export(&self, ranges: &[KeyRange], folder: &Path) -> StateResult<Vec<PathBuf>> {
        let mut files = Vec::new();
        for range in ranges {
            let path = folder.join(format!("{:06}.sst", files.len()));
            let mut out = Vec::new();
            let mut put = |bytes: &[u8]| {
                out.put_u32(bytes.len() as u32);
                out.put_slice(bytes);
            };
            put(&range.start);
            put(&range.end);
            for (key, value) in self.0.range(range.start.clone()..range.end.clone()) {
                put(key);
                put(value);
            }
            fs::write(&path, out).map_err(|why| StateError::Database {
                path: path.clone(),
                what: "cannot be exported",
                why: why.to_string(),
            })?;
            files.push(path);
        }
        Ok(files)
    }
}

type Export = (KeyRange, Vec<(Bytes, Bytes)>);

fn read_export(file: &Path) -> io::Result<Export> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.read_to_end(&mut bytes)?;
    let mut bytes = Bytes::from(bytes);
    let mut take = || -> io::Result<Bytes> {
        let length = bytes.try_get_u32().map_err(io::Error::other)? as usize;
        if length > bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes.split_to(length))
    };
    let range = KeyRange { start: take()?, end: take()? };
    let mut pairs = Vec::new();
    while let Ok(key) = take() {
        pairs.push((key, take()?));
    }
    fs::remove_file(file)?;
    Ok((range, pairs))
}

struct MemoryIterator {
    tree: Arc<Tree>,
    range: KeyRange,
    reverse: bool,
    current: Option<(Bytes, Bytes)>,
}

impl MemoryIterator {
    fn start<'a>(tree: Arc<Tree>, range: &KeyRange, reverse: bool) -> Box<dyn StateIterator + 'a> {
        let mut iterator = Self { tree, range: range.clone(), reverse, current: None };
        iterator.seek(Bound::Included(range.start.clone()), Bound::Excluded(range.end.clone()));
        Box::new(iterator)
    }

    fn seek(&mut self, low: Bound<Bytes>, high: Bound<Bytes>) {
        let mut run = self.tree.range((low, high));
        let found = if self.reverse { run.next_back() } else { run.next() };
        self.current = found.map(|(key, value)| (key.clone(), value.clone()));
    }
}

impl StateIterator for MemoryIterator {
    fn current(&self) -> Option<(&[u8], &[u8])> {
        self.current.as_ref().map(|(key, value)| (&key[..], &value[..]))
    }

    fn advance(&mut self) -> StateResult<()> {
        let Some((key, _)) = self.current.take() else { return Ok(()) };
        if self.reverse {
            self.seek(Bound::Included(self.range.start.clone()), Bound::Excluded(key));
        } else if key < self.range.end {
            self.seek(Bound::Excluded(key), Bound::Excluded(self.range.end.clone()));
        }
        Ok(())
    }
}
