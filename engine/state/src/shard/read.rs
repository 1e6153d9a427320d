//! Reads of values, lists, maps, and of everything.

use std::sync::Arc;

use bytes::Bytes;

use super::Shard;
use crate::access::{Access, Get};
use crate::entry::{Entry, Fold, detached};
use crate::error::StateError;
use crate::key::{self, StateKey, after_prefix};
use crate::lookup::Lookup;
use crate::memtable::{self, Memtable};
use crate::output::BATCH_ENTRIES;
use crate::scan::{Limit, MemoryRun, Scan};
use crate::steps;
use crate::store::{Keep, Parts, StateStore};

/// Some entries of a map, in the order of their map keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapChunk {
    /// Map keys and values; empty only at the end.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Where the next chunk begins (give it to [`Shard::map_chunk`]); `None` at the map's end.
    pub resume: Option<Bytes>,
}

impl Shard {
    /// The values (or encoded lists, see [`crate::list::elements`]) of some keys, in their order.
    pub fn multi_get(&self, keys: &[StateKey]) -> Get {
        keys.iter().for_each(|key| self.expect_own(key));
        let keys = keys.iter().map(|key| key.composite().clone());
        self.get_all(keys, Memtable::fold_point)
    }

    /// The values of some entries of one map, in the order of `map_keys`.
    pub fn map_get(&self, key: &StateKey, map_keys: &[Bytes]) -> Get {
        self.expect_own(key);
        let keys = map_keys.iter().map(|map_key| key.map_entry(map_key));
        self.get_all(keys, Memtable::fold_sorted)
    }

    /// The next entries of a map, at most `limit` (at least one), from `resume` on (`None`: from the first).
    ///
    /// Each chunk sees the map as it is when the chunk is asked for.
    pub fn map_chunk(
        &self,
        key: &StateKey,
        resume: Option<&Bytes>,
        limit: usize,
    ) -> Access<MapChunk> {
        self.expect_own(key);
        let first = || key.composite().clone();
        let start = resume.map_or_else(first, |map_key| key.map_entry(map_key));
        let scan = self.scan_sorted(&start, &after_prefix(key.as_bytes()), limit);
        let prefix = key.as_bytes().len();
        steps::run(scan, self.parts()).map(move |chunk| MapChunk {
            entries: live(chunk.entries).map(|(key, value)| (key.slice(prefix..), value)).collect(),
            resume: chunk.resume.map(|key| key.slice(prefix..)),
        })
    }

    /// Walks all that the shard holds, as it is now. Sorts the memtables: for exports and tests.
    pub fn scan(&self) -> ShardScan {
        let (start, end) = key::range_keys(self.range);
        let sorted = |memtable: &Memtable| MemoryRun { entries: memtable.all_sorted(), cut: None };
        let memory = self.memtables().map(sorted).collect();
        let scan = Scan::new(&self.version, memory, (&start, &end), Limit::There(BATCH_ENTRIES));
        ShardScan { scan, parts: self.parts(), is_done: false }
    }

    /// A scan of sorted states only: at most `limit` entries that are there.
    pub(super) fn scan_sorted(&self, start: &Bytes, end: &Bytes, limit: usize) -> Scan {
        let memory = memtable::sorted_run(self.memtables(), (start, end), limit.max(1));
        Scan::new(&self.version, vec![memory], (start, end), Limit::There(limit))
    }

    pub(super) fn store(&self) -> &Arc<StateStore> {
        &self.writer.store
    }

    pub(super) fn parts(&self) -> Parts {
        Parts::new(self.store(), Keep::InCache)
    }

    /// Looks into the memtables, newest first, then into the files for what they leave open.
    fn get_all(
        &self,
        keys: impl ExactSizeIterator<Item = Bytes>,
        fold_one: impl Fn(&Memtable, &[u8], &mut Fold) -> bool,
    ) -> Get {
        let mut values = Vec::with_capacity(keys.len());
        let mut unsettled = Vec::new();
        let has_files = self.version.file_count() > 0;
        for (slot, key) in keys.enumerate() {
            let mut fold = Fold::default();
            let settled = self.memtables().any(|memtable| fold_one(memtable, &key, &mut fold));
            if settled || !has_files {
                values.push(fold.value());
            } else {
                values.push(None);
                unsettled.push((slot, key, fold));
            }
        }
        if unsettled.is_empty() {
            return Access::Ready(values);
        }
        let lookup = Lookup::new(Arc::clone(&self.version), unsettled, values);
        steps::run(lookup, self.parts())
    }
}

/// Entries that are there, with their contents.
pub(super) fn live(entries: Vec<(Bytes, Entry)>) -> impl Iterator<Item = (Bytes, Bytes)> {
    entries.into_iter().filter_map(|(key, entry)| match entry {
        Entry::Put(content) | Entry::Append(content) => Some((key, detached(&content))),
        Entry::Delete => None,
    })
}

/// A walk over all that a shard held at the call of [`Shard::scan`], in order of composite keys.
#[derive(Debug)]
pub struct ShardScan {
    scan: Scan,
    parts: Parts,
    is_done: bool,
}

impl ShardScan {
    /// The next composite keys with their contents (values, encoded lists, map entries, timers);
    /// `None` at the end.
    ///
    /// Errors: as of any read. Cancel safety: not cancel safe.
    pub async fn next_chunk(&mut self) -> Result<Option<Vec<(Bytes, Bytes)>>, StateError> {
        while !self.is_done {
            match self.scan.next_chunk(&mut self.parts)? {
                None => self.parts.load().await?,
                Some(chunk) => {
                    self.is_done = chunk.resume.is_none();
                    return Ok(Some(live(chunk.entries).collect()));
                }
            }
        }
        Ok(None)
    }
}
