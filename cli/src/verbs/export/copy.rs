//! From pages to a file, which can be gone on with after each of them.

use std::time::{Duration, Instant};

use client::{Error, Page};
use tokio::sync::mpsc;

use super::target::{Stopped, Target};
use crate::interrupt::Interrupt;
use crate::item_file::{FileItem, ItemWriter};
use crate::progress::{Done, Progress};

/// How often it is recorded how far it is.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// A copy under way.
pub struct Copy {
    target: Target,
    writer: Box<dyn ItemWriter>,
    /// Written next.
    text: Vec<u8>,
    /// Up to where it is, at the end of a page.
    at: Stopped,
    bytes: u64,
    progress: Progress,
}

impl Copy {
    /// From a place on: the beginning, or where an earlier one stopped.
    pub fn begin(target: Target, at: Stopped, progress: Progress) -> Self {
        let mut writer = at.format.writer(at.items);
        let mut text = Vec::new();
        if at.cursor.is_empty() {
            writer.begin(&mut text);
        }
        Self { target, writer, text, at, bytes: 0, progress }
    }

    /// Copies all pages. False when somebody interrupted it.
    pub async fn run(
        &mut self,
        mut pages: mpsc::Receiver<Result<Page, Error>>,
        mut interrupt: Interrupt,
    ) -> anyhow::Result<bool> {
        let mut saved = Instant::now();
        loop {
            let page = tokio::select! {
                page = pages.recv() => page,
                () = interrupt.received() => {
                    self.save()?;
                    self.progress.clear();
                    return Ok(false);
                }
            };
            let now = Instant::now();
            match page {
                None => break,
                Some(Ok(page)) => self.add(page)?,
                Some(Err(error)) => {
                    self.progress.clear();
                    self.save()?;
                    return Err(error.into());
                }
            }
            if now.duration_since(saved) >= SAVE_EVERY {
                self.save()?;
                saved = now;
            }
            self.progress.show(now, self.done());
        }
        self.progress.clear();
        self.writer.finish(&mut self.text);
        self.write_text()?;
        self.target.finish()?;
        Ok(true)
    }

    /// How much is done.
    pub fn done(&self) -> Done {
        Done { items: self.at.items, bytes: self.bytes, share: None }
    }

    /// Says how to go on.
    pub fn advise(&self) {
        self.target.advise();
    }

    fn add(&mut self, page: Page) -> anyhow::Result<()> {
        for item in page.items {
            let item = FileItem::from(item);
            self.at.items += 1;
            self.bytes += (item.key.len() + item.value.len()) as u64;
            self.writer.write(&item, &mut self.text);
        }
        self.at.cursor = page.cursor;
        self.write_text()
    }

    fn save(&mut self) -> anyhow::Result<()> {
        // Before the first page, and after the last, there is nothing to go on with.
        if self.at.cursor.is_empty() {
            return Ok(());
        }
        self.writer.pause(&mut self.text);
        self.write_text()?;
        self.target.save(&self.at)
    }

    fn write_text(&mut self) -> anyhow::Result<()> {
        self.target.write(&self.text)?;
        self.text.clear();
        Ok(())
    }
}
