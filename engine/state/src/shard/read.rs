//! Reads of values, lists, maps, and of everything.

use std::sync::Arc;

use bytes::Bytes;

use super::Shard;
use crate::access::{Access, Answers, Get};
use crate::entry::{Entry, Fold, detached};
use crate::error::StateError;
use crate::key::{self, StateKey, after_prefix};
use crate::lookup::{Lookup, Unsettled};
use crate::memtable::{self, Memtable, Point};
use crate::output::BATCH_ENTRIES;
use crate::scan::{Limit, MemoryRun, Scan};
use crate::steps;
use crate::store::{Keep, Parts, StateStore};
use crate::table::hash_of;

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
    pub fn multi_get<'a>(&self, keys: impl IntoIterator<Item = &'a StateKey>) -> Get {
        let keys = keys.into_iter();
        let mut answers = Answers::for_keys(keys.size_hint().0);
        let mut unsettled = Vec::new();
        for (slot, key) in keys.enumerate() {
            self.expect_own(key);
            match self.in_memory(key) {
                InMemory::Value(value) => answers.push(Some(value)),
                InMemory::Folded(value) => answers.push(value.as_deref()),
                InMemory::Open(fold) => {
                    answers.push(None);
                    let (key, hash) = (key.composite().clone(), key.hash());
                    unsettled.push(Unsettled { slot, key, hash, fold });
                }
            }
        }
        self.look_up(unsettled, answers)
    }

    /// The values of some entries of one map, in the order of `map_keys`.
    pub fn map_get(&self, key: &StateKey, map_keys: &[Bytes]) -> Get {
        self.expect_own(key);
        let mut answers = Answers::for_keys(map_keys.len());
        let mut unsettled = Vec::new();
        let has_files = self.version.file_count() > 0;
        for (slot, map_key) in map_keys.iter().enumerate() {
            let key = key.map_entry(map_key);
            let mut fold = Fold::default();
            let settled = self.memtables().any(|memtable| memtable.fold_sorted(&key, &mut fold));
            if settled || !has_files {
                answers.push(fold.value().as_deref());
            } else {
                answers.push(None);
                unsettled.push(Unsettled { slot, hash: hash_of(&key), key, fold });
            }
        }
        self.look_up(unsettled, answers)
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

    /// What memory knows of a key: the memtables, then the rows that stayed, newest first.
    #[inline]
    fn in_memory(&self, key: &StateKey) -> InMemory<'_> {
        let mut fold = Fold::default();
        let memtables = self.memtables().filter_map(|memtable| memtable.point(key));
        let resident = std::iter::once_with(|| self.resident.get(key)).flatten();
        for point in memtables.chain(resident) {
            match point {
                Point::Put(value) if !fold.has_operands() => return InMemory::Value(value),
                Point::Put(value) => {
                    fold.push(Entry::Put(Bytes::copy_from_slice(value)));
                    return InMemory::Folded(fold.value());
                }
                Point::Delete => {
                    fold.push(Entry::Delete);
                    return InMemory::Folded(fold.value());
                }
                Point::Append(elements) => {
                    fold.push(Entry::Append(Bytes::copy_from_slice(elements)));
                }
            }
        }
        if self.version.file_count() == 0 {
            return InMemory::Folded(fold.value());
        }
        InMemory::Open(fold)
    }

    /// Looks into the files for what memory left open.
    fn look_up(&self, unsettled: Vec<Unsettled>, answers: Answers) -> Get {
        if unsettled.is_empty() {
            return Access::Ready(answers.finish());
        }
        let lookup = Lookup::new(Arc::clone(&self.version), unsettled, answers);
        steps::run(lookup, Parts::for_points(self.store()))
    }
}

/// What memory knows of a key.
enum InMemory<'a> {
    Value(&'a [u8]),
    /// Put together; `None`: there is no value.
    Folded(Option<Bytes>),
    /// What is in the files comes in front of this.
    Open(Fold),
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
