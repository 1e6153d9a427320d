//! Freezing the memtable, and flushing the frozen one beside processing.

use std::sync::Arc;

use futures::FutureExt;
use weir_runtime::task;

use super::Shard;
use super::background::{self, Background};
use crate::error::StateError;
use crate::memtable::Memtable;
use crate::output::{BATCH_ENTRIES, Output, Writer};
use crate::version::View;

/// A memtable that is not written any more, until its files are installed.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) memtable: Arc<Memtable>,
    pub(super) flush: Background,
    /// Whether a checkpoint counts the flush's bytes.
    pub(super) is_counted: bool,
}

impl Shard {
    /// Takes the memtable out of use, by a pointer swap, and starts its flush.
    pub(super) fn freeze(&mut self) {
        if self.active.is_empty() {
            return;
        }
        let memtable = Arc::new(std::mem::take(&mut self.active));
        let seq = self.next_seq;
        self.next_seq += 1;
        let work = flush(self.writer.clone(), Arc::clone(&memtable), seq);
        let flush = background::start(&self.writer, "the flush", work);
        self.frozen.push_back(Frozen { memtable, flush, is_counted: false });
    }

    /// Installs finished flushes in the order in which they were started.
    pub(super) fn install_flushes(&mut self) -> Result<(), StateError> {
        while let Some(oldest) = self.frozen.front() {
            let Some(result) = oldest.flush.clone().now_or_never() else { return Ok(()) };
            let (views, is_counted) = (result?, oldest.is_counted);
            self.install(self.version.with_flush(&views)?);
            if !is_counted {
                self.spilled_bytes += bytes_of(&views);
            }
            if let Some(Frozen { memtable, flush, .. }) = self.frozen.pop_front() {
                drop(flush);
                self.resident.add(memtable);
            }
        }
        Ok(())
    }
}

pub(super) fn bytes_of(views: &[View]) -> u64 {
    views.iter().map(|view| view.table.bytes).sum()
}

async fn flush(writer: Writer, memtable: Arc<Memtable>, seq: u64) -> Result<Vec<View>, StateError> {
    let sorted = Arc::clone(&memtable);
    let sorted = task::blocking(move || sorted.in_order()).await;
    let mut walk = sorted.map_err(|ended| writer.ended("sorting", &ended))?;
    let mut output = Output::new(writer);
    loop {
        let entries = walk.take(&memtable, BATCH_ENTRIES);
        if entries.is_empty() {
            drop(memtable);
            return output.finish(0, seq).await;
        }
        output.add(entries).await?;
    }
}
