//! The memtable: what was written since the last flush, one entry per key.
//!
//! Values and lists lie in a hash table and are updated in place; map entries and timers, which are
//! iterated, lie in a sorted one. A shard writes into one memtable; frozen (shared and never
//! changed again) it is read beside the next until its table files are installed.
//!
//! What must stay true: a key has one entry here, so a flush writes each key once per checkpoint;
//! no hash order leaves this file (`sorted` sorts).

use std::collections::{BTreeMap, HashMap, btree_map};
use std::hash::{BuildHasherDefault, Hasher};
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::entry::{Entry, Fold};
use crate::list;
use crate::scan::MemoryRun;

/// What an entry costs beside its key and content: table slots, reference counts, allocator.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// One key's content.
#[derive(Debug)]
enum Slot {
    Put(Bytes),
    Delete,
    /// A list that is appended to; `whole` when nothing older belongs in front of it.
    List {
        elements: Vec<u8>,
        whole: bool,
    },
}

impl Slot {
    fn entry(&self) -> Entry {
        match self {
            Self::Put(bytes) => Entry::Put(bytes.clone()),
            Self::Delete => Entry::Delete,
            Self::List { elements, whole: true } => Entry::Put(Bytes::copy_from_slice(elements)),
            Self::List { elements, whole: false } => {
                Entry::Append(Bytes::copy_from_slice(elements))
            }
        }
    }

    fn content_bytes(&self) -> usize {
        match self {
            Self::Put(bytes) => bytes.len(),
            Self::Delete => 0,
            Self::List { elements, .. } => elements.len(),
        }
    }
}

/// What was written since the last flush.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    points: HashMap<Bytes, Slot, BuildHasherDefault<KeyHasher>>,
    sorted: BTreeMap<Bytes, Entry>,
    bytes: usize,
}

impl Memtable {
    /// Sets the value or list of a key; `None` deletes it.
    pub(crate) fn set(&mut self, key: &Bytes, value: Option<Bytes>) {
        let slot = value.map_or(Slot::Delete, Slot::Put);
        self.bytes += slot.content_bytes();
        if let Some(old) = self.points.get_mut(key) {
            self.bytes -= old.content_bytes();
            *old = slot;
            return;
        }
        self.bytes += key.len() + ENTRY_OVERHEAD_BYTES;
        self.points.insert(key.clone(), slot);
    }

    /// Adds an element behind a key's list, without looking at what is older than this memtable.
    pub(crate) fn append(&mut self, key: &Bytes, element: &[u8]) {
        let Some(slot) = self.points.get_mut(key) else {
            let elements = list::encode(element);
            self.bytes += key.len() + elements.len() + ENTRY_OVERHEAD_BYTES;
            self.points.insert(key.clone(), Slot::List { elements, whole: false });
            return;
        };
        self.bytes -= slot.content_bytes();
        match slot {
            Slot::List { elements, .. } => list::encode_into(elements, element),
            Slot::Put(base) => {
                let mut elements = base.to_vec();
                list::encode_into(&mut elements, element);
                *slot = Slot::List { elements, whole: true };
            }
            Slot::Delete => *slot = Slot::List { elements: list::encode(element), whole: true },
        }
        self.bytes += slot.content_bytes();
    }

    /// Sets an entry of a sorted state (map entry, timer); `None` deletes it.
    pub(crate) fn set_sorted(&mut self, key: Bytes, value: Option<Bytes>) {
        let key_bytes = key.len();
        let entry = value.map_or(Entry::Delete, Entry::Put);
        self.bytes += entry.content().len();
        match self.sorted.insert(key, entry) {
            Some(old) => self.bytes -= old.content().len(),
            None => self.bytes += key_bytes + ENTRY_OVERHEAD_BYTES,
        }
    }

    /// Adds the value or list of a key to `fold`; true once nothing older matters.
    pub(crate) fn fold_point(&self, key: &[u8], fold: &mut Fold) -> bool {
        self.points.get(key).is_some_and(|slot| fold.push(slot.entry()))
    }

    /// The same for an entry of a sorted state.
    pub(crate) fn fold_sorted(&self, key: &[u8], fold: &mut Fold) -> bool {
        self.sorted.get(key).is_some_and(|entry| fold.push(entry.clone()))
    }

    /// Entries of sorted states from `start` up to `end`.
    fn sorted_range(&self, start: &Bytes, end: &Bytes) -> SortedRange<'_> {
        let bounds = (Bound::Included(start), Bound::Excluded(end));
        self.sorted.range::<Bytes, _>(bounds).peekable()
    }

    /// All entries in key order. Takes n log n: off the barrier's path.
    pub(crate) fn all_sorted(&self) -> Vec<(Bytes, Entry)> {
        let points = self.points.iter().map(|(key, slot)| (key.clone(), slot.entry()));
        let sorted = self.sorted.iter().map(|(key, entry)| (key.clone(), entry.clone()));
        let mut all: Vec<_> = points.chain(sorted).collect();
        all.sort_unstable_by(|one, two| one.0.cmp(&two.0));
        all
    }

    /// Whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.sorted.is_empty()
    }

    /// Memory that this memtable holds, as counted against the limit.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

type SortedRange<'a> = Peekable<btree_map::Range<'a, Bytes, Entry>>;

/// The entries that memtables (newest first) have of sorted states from `start` up to `end`. Cut
/// behind `limit` entries that are there, so at least one is there before a cut.
pub(crate) fn sorted_run<'a>(
    memtables: impl Iterator<Item = &'a Memtable>,
    (start, end): (&Bytes, &Bytes),
    limit: usize,
) -> MemoryRun {
    let mut run = MemoryRun::default();
    if start >= end {
        return run;
    }
    let mut ranges: Vec<_> = memtables.map(|table| table.sorted_range(start, end)).collect();
    let mut there = 0;
    while let Some(least) =
        ranges.iter_mut().filter_map(|range| range.peek().map(|one| one.0)).min()
    {
        if there == limit {
            run.cut = Some(least.clone());
            return run;
        }
        let mut held = ranges.iter_mut().filter_map(|range| range.next_if(|one| one.0 == least));
        let newest = held.next();
        held.for_each(drop);
        if let Some((key, entry)) = newest {
            there += usize::from(*entry != Entry::Delete);
            run.entries.push((key.clone(), entry.clone()));
        }
    }
    run
}

/// XXH3-64 of the key's bytes, without a seed of the process: the same in every run.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    // The length that slices put in front of their bytes: the keys are self-delimiting.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn value(memtable: &Memtable, text: &str) -> Option<Bytes> {
        let mut fold = Fold::default();
        memtable.fold_point(text.as_bytes(), &mut fold);
        fold.value()
    }

    #[test]
    fn a_key_has_one_entry_however_often_it_is_written() {
        let mut memtable = Memtable::default();
        for round in 0..10u8 {
            memtable.set(&key("a"), Some(Bytes::copy_from_slice(&[round; 5])));
        }
        assert_eq!(memtable.bytes(), 1 + 5 + ENTRY_OVERHEAD_BYTES);
        assert_eq!(memtable.all_sorted().len(), 1);
        assert_eq!(value(&memtable, "a"), Some(Bytes::from_static(&[9; 5])));
    }

    #[test]
    fn appended_elements_fold_onto_what_is_here() {
        let mut memtable = Memtable::default();
        memtable.append(&key("new"), b"x");
        memtable.append(&key("new"), b"y");
        memtable.set(&key("gone"), None);
        memtable.append(&key("gone"), b"z");
        memtable.set(&key("put"), Some(list::encode(b"a").into()));
        memtable.append(&key("put"), b"b");
        let entries = memtable.all_sorted();
        assert_eq!(
            entries,
            [
                (key("gone"), Entry::Put(key("\x01z"))),
                (key("new"), Entry::Append(key("\x01x\x01y"))),
                (key("put"), Entry::Put(key("\x01a\x01b"))),
            ]
        );
        let content: usize =
            entries.iter().map(|(key, entry)| key.len() + entry.content().len()).sum();
        assert_eq!(memtable.bytes(), content + 3 * ENTRY_OVERHEAD_BYTES);
    }

    #[test]
    fn all_entries_come_out_in_key_order() {
        let mut memtable = Memtable::default();
        for text in ["d", "a", "c"] {
            memtable.set(&key(text), Some(Bytes::new()));
        }
        memtable.set_sorted(key("b"), None);
        memtable.set_sorted(key("e"), Some(Bytes::new()));
        let keys: Vec<Bytes> = memtable.all_sorted().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn runs_of_several_memtables_are_cut_behind_what_is_there() {
        let mut newer = Memtable::default();
        let mut older = Memtable::default();
        newer.set_sorted(key("a"), None);
        newer.set_sorted(key("c"), Some(key("new")));
        for text in ["a", "b", "c", "d"] {
            older.set_sorted(key(text), Some(key("old")));
        }
        let run =
            |start, limit| sorted_run([&newer, &older].into_iter(), (&start, &key("z")), limit);
        let all = [
            (key("a"), Entry::Delete),
            (key("b"), Entry::Put(key("old"))),
            (key("c"), Entry::Put(key("new"))),
            (key("d"), Entry::Put(key("old"))),
        ];
        assert_eq!((run(key("a"), 3).entries, run(key("a"), 3).cut), (all.to_vec(), None));
        assert_eq!(run(key("a"), 2).entries, all[..3]);
        assert_eq!(run(key("a"), 2).cut, Some(key("d")));
        assert!(run(key("z"), 1).entries.is_empty());
    }
}
