//! The block cache: checked blocks and tails of table files, with one hard limit in bytes.
//!
//! Shards keep rows in memory beside it, within the same limit: they reserve room here.
//!
//! One per process. What was not asked for again since it was last looked at goes first (second
//! chance, Corbató 1968), so a scan that touches each block once cannot drive out what is reused.
//!
//! What must stay true: the bytes counted never exceed the limit, also not for a moment.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::table::{Block, Tail};

/// What an entry costs beside its content: slot, queue, reference counts.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// A part of a table file: the table's id, and the block's offset or [`TAIL_OFFSET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PartKey {
    pub(crate) table: u128,
    pub(crate) offset: u64,
}

/// Stands for the tail where an offset is expected.
pub(crate) const TAIL_OFFSET: u64 = u64::MAX;

/// A part of a table file in memory, checked.
#[derive(Clone, Debug)]
pub(crate) enum Cached {
    Block(Arc<Block>),
    Tail(Arc<Tail>),
}

impl Cached {
    fn memory_bytes(&self) -> usize {
        ENTRY_OVERHEAD_BYTES
            + match self {
                Self::Block(block) => block.memory_bytes(),
                Self::Tail(tail) => tail.memory_bytes(),
            }
    }
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    limit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<PartKey, Slot, BuildHasherDefault<PartHasher>>,
    /// Keys in the order in which they will be looked at for eviction.
    queue: VecDeque<PartKey>,
    bytes: usize,
    /// Room that rows have taken.
    reserved: usize,
    counts: CacheCounts,
}

/// How often a read found a part in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// It was here.
    pub hits: u64,
    /// It had to be fetched.
    pub misses: u64,
}

#[derive(Debug)]
struct Slot {
    part: Cached,
    bytes: usize,
    asked_again: bool,
}

impl Cache {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, state: Mutex::default() }
    }

    /// The part, if it is here. Counts the look.
    pub(crate) fn get(&self, key: PartKey) -> Option<Cached> {
        let mut state = self.lock();
        let found = state.take_again(key);
        match found {
            Some(_) => state.counts.hits += 1,
            None => state.counts.misses += 1,
        }
        found
    }

    /// The part, if it is here by now: for whoever has looked, and was counted, before.
    pub(crate) fn get_again(&self, key: PartKey) -> Option<Cached> {
        self.lock().take_again(key)
    }

    /// Keeps a part, unless it is larger than the whole cache.
    pub(crate) fn insert(&self, key: PartKey, part: Cached) {
        let bytes = part.memory_bytes();
        let mut state = self.lock();
        let limit_bytes = self.limit_bytes - state.reserved;
        if bytes > limit_bytes || state.slots.contains_key(&key) {
            return;
        }
        state.evict_to(limit_bytes - bytes);
        state.bytes += bytes;
        state.queue.push_back(key);
        state.slots.insert(key, Slot { part, bytes, asked_again: false });
    }

    /// Takes room for something beside the blocks, which leave it; an eighth stays theirs. False:
    /// there is not so much.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        let mut state = self.lock();
        let reserved = state.reserved.saturating_add(bytes);
        if reserved > self.limit_bytes / 8 * 7 {
            return false;
        }
        state.reserved = reserved;
        state.evict_to(self.limit_bytes - reserved);
        true
    }

    /// Gives back room that [`Cache::reserve`] took.
    pub(crate) fn release(&self, bytes: usize) {
        self.lock().reserved -= bytes;
    }

    /// Bytes in the cache, those that are reserved included.
    pub(crate) fn bytes(&self) -> usize {
        let state = self.lock();
        state.bytes + state.reserved
    }

    /// How the looks went, since the process began.
    pub(crate) fn counts(&self) -> CacheCounts {
        self.lock().counts
    }

    /// The most that it ever takes.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_again(&mut self, key: PartKey) -> Option<Cached> {
        let slot = self.slots.get_mut(&key)?;
        slot.asked_again = true;
        Some(slot.part.clone())
    }

    fn evict_to(&mut self, bytes: usize) {
        while self.bytes > bytes {
            self.evict_one();
        }
    }

    /// Gives each entry that was asked for again one more round; drops the first other one.
    fn evict_one(&mut self) {
        while let Some(key) = self.queue.pop_front() {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            if std::mem::take(&mut slot.asked_again) {
                self.queue.push_back(key);
                continue;
            }
            if let Some(slot) = self.slots.remove(&key) {
                self.bytes -= slot.bytes;
            }
            return;
        }
    }
}

/// Table ids are hashes already: mixing in the offset is enough.
#[derive(Default)]
struct PartHasher(u64);

impl Hasher for PartHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= xxhash_rust::xxh3::xxh3_64(bytes);
    }

    fn write_u128(&mut self, table: u128) {
        // The lower half of a hash is a hash.
        self.0 ^= table as u64;
    }

    fn write_u64(&mut self, offset: u64) {
        self.0 ^= offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::entry::Entry;
    use crate::table::TableWriter;

    fn part(content: usize) -> Cached {
        let mut writer = TableWriter::new(1);
        // Not compressible, so that sizes are about the content's.
        let content = (0..content).map(|n| xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()) as u8);
        writer.add(b"some key", &Entry::Put(content.collect::<Vec<_>>().into()));
        let stored: Bytes = writer.finish(String::new()).parts.swap_remove(0);
        Cached::Block(Arc::new(Block::decode(&stored, 0).unwrap()))
    }

    fn key(offset: u64) -> PartKey {
        PartKey { table: 1, offset }
    }

    #[test]
    fn the_limit_holds_whatever_is_inserted() {
        let cache = Cache::new(10_000);
        for offset in 0..200 {
            cache.insert(key(offset), part(usize::try_from(offset).unwrap() * 20));
            assert!(cache.bytes() <= 10_000);
        }
        cache.insert(key(1000), part(20_000));
        assert!(cache.get(key(1000)).is_none());
        assert!(cache.bytes() > 5_000);
    }

    #[test]
    fn blocks_leave_what_is_reserved_and_keep_an_eighth() {
        let cache = Cache::new(10_000);
        (0..50).for_each(|offset| cache.insert(key(offset), part(500)));
        assert!(cache.reserve(7_000));
        assert!(cache.bytes() <= 10_000);
        (50..100).for_each(|offset| cache.insert(key(offset), part(500)));
        assert!(cache.bytes() <= 10_000);
        assert!(cache.get(key(99)).is_some());
        assert!(!cache.reserve(2_000), "an eighth is left for blocks");
        cache.release(7_000);
        assert!(cache.bytes() <= 3_000);
        assert!(cache.reserve(8_000));
    }

    #[test]
    fn looks_are_counted_once() {
        let cache = Cache::new(10_000);
        assert!(cache.get(key(1)).is_none() && cache.get_again(key(1)).is_none());
        cache.insert(key(1), part(500));
        assert!(cache.get(key(1)).is_some() && cache.get_again(key(1)).is_some());
        assert_eq!(cache.counts(), CacheCounts { hits: 1, misses: 1 });
    }

    #[test]
    fn what_is_asked_for_again_stays_through_a_scan() {
        let cache = Cache::new(10_000);
        cache.insert(key(0), part(500));
        for offset in 1..100 {
            assert!(cache.get(key(0)).is_some(), "lost at {offset}");
            cache.insert(key(offset), part(500));
        }
        assert!(cache.get(key(1)).is_none());
    }
}
