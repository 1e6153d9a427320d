//! The merge itself: streams the inputs' blocks, writes new files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use super::{Compaction, CompactionOrder, CompactionResult};
use crate::entry::Entry;
use crate::error::StateError;
use crate::key;
use crate::output::{BATCH_ENTRIES, Output, Writer};
use crate::scan::{Limit, Scan};
use crate::store::{Keep, Parts, StateStore};
use crate::version::{Version, View};

/// How far a merge is, for whoever watches it.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    has_begun: Arc<AtomicBool>,
    entries: Arc<AtomicU64>,
}

impl Merged {
    /// Says that it begins.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Entries that it has gone through.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    fn add(&self, entries: usize) {
        self.entries.fetch_add(entries as u64, Ordering::Relaxed);
    }
}

/// Carries out an order of another process: reads its inputs from `store`, writes its outputs there.
/// All of them are stored when it gives the result. Nothing is remembered: doing it again, with
/// another attempt's order, is as good.
///
/// Errors: as of reading and writing, and an order that breaks a rule. What was written until then
/// is for the one who ordered it to clean up, as it is when the future is dropped.
pub async fn run(
    order: &CompactionOrder,
    store: &Arc<StateStore>,
    merged: &Merged,
) -> Result<CompactionResult, StateError> {
    let (compaction, version, writer) = order.open(store)?;
    let outputs = execute(&compaction, &version, writer, merged).await?;
    Ok(CompactionResult::of(order, &outputs))
}

/// Merges the inputs into new files and gives their views. `version` is the one that the inputs
/// are of.
///
/// Errors: as of reading and writing. What was written until then is obsolete.
pub(crate) async fn execute(
    compaction: &Compaction,
    version: &Version,
    writer: Writer,
    merged: &Merged,
) -> Result<Vec<View>, StateError> {
    let inputs = version.of_views(compaction.inputs.clone());
    let (start, end) = key::range_keys(version.range());
    let mut scan = Scan::new(&inputs, Vec::new(), (&start, &end), Limit::All(BATCH_ENTRIES));
    let mut parts = Parts::new(&writer.store, Keep::No);
    let mut output = Output::new(writer);
    loop {
        let Some(chunk) = scan.next_chunk(&mut parts)? else {
            parts.load().await?;
            continue;
        };
        let is_last = chunk.resume.is_none();
        let mut entries = chunk.entries;
        merged.add(entries.len());
        if compaction.is_bottom {
            entries = entries.into_iter().filter_map(whole).collect();
        }
        output.add(entries).await?;
        if is_last {
            return output.finish(compaction.level, compaction.seq).await;
        }
    }
}

/// An entry below which there is nothing: operands are the whole content, tombstones go.
fn whole((key, entry): (Bytes, Entry)) -> Option<(Bytes, Entry)> {
    match entry {
        Entry::Put(content) | Entry::Append(content) => Some((key, Entry::Put(content))),
        Entry::Delete => None,
    }
}
