//! Ordered reads of a stretch of keys: memtables and table files merged, entries of a key folded.
//!
//! A scan gives its entries in chunks. Map iteration and timers want entries that are there, and
//! ask for the next chunk from where the last one ended; a compaction wants tombstones too, and
//! walks one scan to its end.

mod run;

use bytes::Bytes;

use self::run::Run;
use crate::entry::{Entry, Fold};
use crate::error::StateError;
use crate::steps::Steps;
use crate::store::Parts;
use crate::version::Version;

/// Entries that memtables have of a stretch, in order.
#[derive(Debug, Default)]
pub(crate) struct MemoryRun {
    pub(crate) entries: Vec<(Bytes, Entry)>,
    /// There may be more entries from this key on.
    pub(crate) cut: Option<Bytes>,
}

/// How many entries a chunk has at most.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Of those that are there; others are left out.
    There(usize),
    /// Of all, tombstones included.
    All(usize),
}

/// What a scan has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// In key order; `Delete` where a key is gone, `Append` where nothing older was found.
    pub(crate) entries: Vec<(Bytes, Entry)>,
    /// Where the scan would go on; `None` at the end of the stretch.
    pub(crate) resume: Option<Bytes>,
}

/// An ordered read that goes on.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Newest first.
    sources: Vec<Source>,
    /// Memtables are known up to this key only, which is the end of the scan.
    cut: Option<Bytes>,
    limit: Limit,
    entries: Vec<(Bytes, Entry)>,
}

#[derive(Debug)]
enum Source {
    Memory(std::vec::IntoIter<(Bytes, Entry)>),
    Tables(Box<Run>),
}

/// How far a step came.
enum Came {
    Entry,
    Wanted,
    End,
}

impl Scan {
    /// A scan of the keys from `start` up to `end`: `memory` (newest first), then `version`.
    pub(crate) fn new(
        version: &Version,
        memory: Vec<MemoryRun>,
        (start, end): (&Bytes, &Bytes),
        limit: Limit,
    ) -> Self {
        let cut = memory.iter().filter_map(|run| run.cut.clone()).min();
        let known_end = cut.as_ref().map_or(end, |cut| cut.min(end));
        let known = |run: MemoryRun| {
            let mut entries = run.entries;
            entries.truncate(entries.partition_point(|(key, _)| key < known_end));
            Source::Memory(entries.into_iter())
        };
        let tables = |run| Source::Tables(Box::new(run));
        let runs = Run::all(version, start, known_end);
        let sources = memory.into_iter().map(known).chain(runs.into_iter().map(tables));
        Self { sources: sources.collect(), cut, limit, entries: Vec::new() }
    }

    /// Goes on until the chunk is full, parts are wanted (then it gives `None`), or the end. May
    /// be called again for the chunk after.
    pub(crate) fn next_chunk(&mut self, parts: &mut Parts) -> Result<Option<Chunk>, StateError> {
        while self.entries.len() < self.limit.entries() {
            match self.next_entry(parts)? {
                Came::Entry => {}
                Came::Wanted => return Ok(None),
                Came::End => {
                    let entries = std::mem::take(&mut self.entries);
                    return Ok(Some(Chunk { entries, resume: self.cut.clone() }));
                }
            }
        }
        let entries = std::mem::take(&mut self.entries);
        let resume = entries.last().map(|(key, _)| after(key));
        Ok(Some(Chunk { entries, resume }))
    }

    /// Folds the entries of the least key of all sources into one.
    fn next_entry(&mut self, parts: &mut Parts) -> Result<Came, StateError> {
        let mut wants = false;
        for source in &mut self.sources {
            wants |= !source.settle(parts)?;
        }
        if wants {
            return Ok(Came::Wanted);
        }
        let Some(least) = self.sources.iter().filter_map(Source::key).min() else {
            return Ok(Came::End);
        };
        let least = Bytes::copy_from_slice(least);
        let mut fold = Fold::default();
        let mut settled = false;
        for source in &mut self.sources {
            if source.key() != Some(&least[..]) {
                continue;
            }
            let entry = source.take(parts)?;
            if !settled && let Some(entry) = entry {
                settled = fold.push(entry);
            }
        }
        let entry = fold.entry().filter(|entry| self.limit.wants(entry));
        self.entries.extend(entry.map(|entry| (least, entry)));
        Ok(Came::Entry)
    }
}

impl Limit {
    fn entries(self) -> usize {
        let (Self::There(entries) | Self::All(entries)) = self;
        entries.max(1)
    }

    fn wants(self, entry: &Entry) -> bool {
        matches!(self, Self::All(_)) || *entry != Entry::Delete
    }
}

impl Source {
    /// Makes the source stand at an entry or its end; false while parts are wanted.
    fn settle(&mut self, parts: &mut Parts) -> Result<bool, StateError> {
        match self {
            Self::Memory(_) => Ok(true),
            Self::Tables(run) => run.settle(parts),
        }
    }

    /// The key where the settled source stands.
    fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Memory(entries) => entries.as_slice().first().map(|(key, _)| &key[..]),
            Self::Tables(run) => run.key(),
        }
    }

    /// The entry where the source stands; it must be settled again after.
    fn take(&mut self, parts: &Parts) -> Result<Option<Entry>, StateError> {
        match self {
            Self::Memory(entries) => Ok(entries.next().map(|(_, entry)| entry)),
            Self::Tables(run) => run.take(parts),
        }
    }
}

/// The least key after `key`.
fn after(key: &Bytes) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

impl Steps for Scan {
    type Output = Chunk;

    fn step(&mut self, parts: &mut Parts) -> Result<Option<Chunk>, StateError> {
        self.next_chunk(parts)
    }
}

/// Several scans made together, so that all their requests are in flight at once.
#[derive(Debug)]
pub(crate) struct Scans {
    scans: Vec<Scan>,
    done: Vec<Option<Chunk>>,
}

impl Scans {
    pub(crate) fn new(scans: Vec<Scan>) -> Self {
        let done = vec![None; scans.len()];
        Self { scans, done }
    }
}

impl Steps for Scans {
    type Output = Vec<Chunk>;

    fn step(&mut self, parts: &mut Parts) -> Result<Option<Vec<Chunk>>, StateError> {
        for (scan, done) in self.scans.iter_mut().zip(&mut self.done) {
            if done.is_none() {
                *done = scan.next_chunk(parts)?;
            }
        }
        if self.done.iter().any(Option::is_none) {
            return Ok(None);
        }
        Ok(Some(self.done.drain(..).flatten().collect()))
    }
}
