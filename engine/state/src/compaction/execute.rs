//! The merge itself: streams the inputs' blocks, writes new files.

use bytes::Bytes;

use super::Compaction;
use crate::entry::Entry;
use crate::error::StateError;
use crate::key;
use crate::output::{BATCH_ENTRIES, Output, Writer};
use crate::scan::{Limit, Scan};
use crate::store::{Keep, Parts};
use crate::version::{Version, View};

/// Merges the inputs into new files and gives their views. `version` is the one that the inputs
/// are of.
///
/// Errors: as of reading and writing. What was written until then is obsolete.
pub(crate) async fn execute(
    compaction: &Compaction,
    version: &Version,
    writer: Writer,
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
