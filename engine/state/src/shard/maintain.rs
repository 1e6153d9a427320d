//! Installing what background work finished, starting what is due, and back-pressure.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use weir_runtime::clock;

use super::background::{self, Background};
use super::{FROZEN_MAX, Shard};
use crate::compaction::{self, Compaction, RUNS_SLOW, RUNS_STOP};
use crate::error::StateError;
use crate::version::Version;

/// A compaction under way in a task.
#[derive(Debug)]
pub(super) struct Running {
    compaction: Compaction,
    work: Background,
    /// Notified when somebody waits for it.
    hurry: Arc<Notify>,
}

impl Shard {
    /// Installs what background work has finished and starts what is due (spills, compactions).
    /// Never blocks; to be called between batches.
    ///
    /// Errors: a flush or compaction failed for good. The shard must not be used any further.
    pub fn maintain(&mut self) -> Result<(), StateError> {
        if self.active.bytes() > self.writer.store.settings().memtable_bytes {
            self.freeze();
        }
        self.install_flushes()?;
        self.install_compaction()?;
        self.start_compaction()
    }

    /// Waits until the shard is within its limits of frozen memtables and files, and does
    /// [`Shard::maintain`]. Returns at once when it is; to be awaited before a batch is written.
    ///
    /// Errors: as [`Shard::maintain`]. Cancel safe.
    pub async fn make_room(&mut self) -> Result<(), StateError> {
        self.maintain()?;
        loop {
            let runs = compaction::run_count(&self.version);
            let memtable_bytes = self.writer.store.settings().memtable_bytes;
            let is_full = self.memtable_bytes() > memtable_bytes + memtable_bytes / 2;
            if self.frozen.len() > FROZEN_MAX || is_full && !self.frozen.is_empty() {
                self.wait_for_flush().await;
            } else if let (true, Some(running)) = (runs >= RUNS_STOP, &self.compaction) {
                running.hurry.notify_one();
                // Its result is looked at where it is installed.
                drop(running.work.clone().await);
            } else {
                let milliseconds = runs.saturating_sub(RUNS_SLOW) as u64;
                if milliseconds > 0 {
                    clock::sleep(Duration::from_millis(milliseconds)).await;
                }
                return Ok(());
            }
            self.maintain()?;
        }
    }

    /// Whether nothing runs in the background and the last [`Shard::maintain`] found nothing to do:
    /// then the shard makes no request until it is read or written.
    pub fn is_idle(&self) -> bool {
        self.frozen.is_empty() && self.compaction.is_none() && self.is_compact
    }

    /// Makes `version` the live one.
    pub(super) fn install(&mut self, version: Version) {
        self.version = Arc::new(version);
        self.is_compact = false;
    }

    async fn wait_for_flush(&self) {
        if let Some(oldest) = self.frozen.front() {
            // Its result is looked at where it is installed.
            drop(oldest.flush.clone().await);
        }
    }

    fn install_compaction(&mut self) -> Result<(), StateError> {
        let Some(running) = &self.compaction else { return Ok(()) };
        let Some(result) = running.work.clone().now_or_never() else { return Ok(()) };
        let next = self.version.with_replaced(&running.compaction.inputs, &result?)?;
        self.compaction = None;
        if let Some(next) = next {
            self.install(next);
        }
        Ok(())
    }

    fn start_compaction(&mut self) -> Result<(), StateError> {
        let level_bytes = self.writer.store.settings().level_bytes;
        while self.compaction.is_none() && !self.is_compact {
            let Some(compaction) = compaction::choose(&self.version, level_bytes) else {
                self.is_compact = true;
                return Ok(());
            };
            match compaction.moved() {
                Some(moved) => {
                    let next = self.version.with_replaced(&compaction.inputs, &moved)?;
                    next.into_iter().for_each(|next| self.install(next));
                }
                None => self.compaction = Some(self.run(compaction)),
            }
        }
        Ok(())
    }

    fn run(&self, compaction: Compaction) -> Running {
        let (ordered, version) = (compaction.clone(), Arc::clone(&self.version));
        let writer = self.writer.clone();
        let hurry = Arc::new(Notify::new());
        let hurried = Arc::clone(&hurry);
        let work = async move { compaction::compact(&ordered, &version, writer, &hurried).await };
        let work = background::start(&self.writer, "the compaction", work);
        Running { compaction, work, hurry }
    }
}
