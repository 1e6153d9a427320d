//! The memtable: what was written since the last flush, one entry per key.
//!
//! Values and lists are found by hash and updated in place (`memtable/points.rs`); map entries and
//! timers, which are iterated, lie in a sorted table. A shard writes into one memtable; frozen
//! (shared and never changed again) it is read beside the next until its table files are installed.
//!
//! What must stay true: a key has one entry here, so a flush writes each key once per checkpoint;
//! no hash order leaves these files (`in_order` sorts).

mod points;

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Bound;

use bytes::{Bytes, BytesMut};

use crate::entry::{Entry, Fold};
use crate::key::StateKey;
use crate::list;
use crate::scan::MemoryRun;

use self::points::Place;
pub(crate) use self::points::{Point, Points};

/// What a sorted entry costs beside its key and content: its place in the tree, and what the
/// allocator takes for two pieces of memory.
const SORTED_OVERHEAD_BYTES: usize = 160;

/// What was written since the last flush.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    points: Points,
    sorted: BTreeMap<Bytes, Entry>,
    sorted_bytes: usize,
    /// Reused for encoding elements.
    scratch: Vec<u8>,
}

impl Memtable {
    /// Sets the value or list of a key; `None` deletes it.
    pub(crate) fn set(&mut self, key: &StateKey, value: Option<&[u8]>) {
        self.points.set(key.hash(), key.as_bytes(), value);
    }

    /// Adds an element behind a key's list, without looking at what is older than this memtable.
    pub(crate) fn append(&mut self, key: &StateKey, element: &[u8]) {
        self.scratch.clear();
        list::encode_into(&mut self.scratch, element);
        self.points.append(key.hash(), key.as_bytes(), &self.scratch);
    }

    /// Sets an entry of a sorted state (map entry, timer); `None` deletes it.
    pub(crate) fn set_sorted(&mut self, key: Bytes, value: Option<Bytes>) {
        let key_bytes = key.len();
        let entry = value.map_or(Entry::Delete, Entry::Put);
        self.sorted_bytes += entry.content().len();
        match self.sorted.insert(key, entry) {
            Some(old) => self.sorted_bytes -= old.content().len(),
            None => self.sorted_bytes += key_bytes + SORTED_OVERHEAD_BYTES,
        }
    }

    /// The value or list of a key.
    #[inline]
    pub(crate) fn point(&self, key: &StateKey) -> Option<Point<'_>> {
        self.points.get(key.hash(), key.as_bytes())
    }

    /// Adds an entry of a sorted state to `fold`; true once nothing older matters.
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
        self.in_order().take(self, usize::MAX)
    }

    /// A walk over all entries in key order. Takes n log n: off the barrier's path.
    pub(crate) fn in_order(&self) -> InOrder {
        InOrder { points: self.points.in_order().into_iter().peekable(), behind: None }
    }

    /// Whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.sorted.is_empty()
    }

    /// Memory that this memtable holds, as counted against the limit.
    pub(crate) fn bytes(&self) -> usize {
        self.points.bytes() + self.sorted_bytes
    }

    /// The values and lists alone.
    pub(crate) fn into_points(self) -> Points {
        self.points
    }
}

/// A walk over a memtable that is not written any more.
#[derive(Debug)]
pub(crate) struct InOrder {
    points: Peekable<std::vec::IntoIter<Place>>,
    /// The last entry of a sorted state that was given.
    behind: Option<Bytes>,
}

/// An entry on its way out: points are copied into one piece of memory, which is cut up at the end.
enum Draft {
    Point { key: usize, content: usize, entry: fn(Bytes) -> Entry },
    Sorted(Bytes, Entry),
}

impl InOrder {
    /// The next entries, at most `limit`; none at the end. They share one piece of memory.
    pub(crate) fn take(&mut self, memtable: &Memtable, limit: usize) -> Vec<(Bytes, Entry)> {
        let behind = self.behind.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let sorted = memtable.sorted.range::<Bytes, _>((behind, Bound::Unbounded));
        let mut sorted = sorted.peekable();
        let mut drafts = Vec::new();
        let mut bytes = BytesMut::new();
        while drafts.len() < limit {
            let point = self.points.peek().map(|place| memtable.points.point(*place));
            let next = sorted.peek().map(|(key, _)| &key[..]);
            if let Some((key, point)) = point.filter(|(key, _)| next.is_none_or(|next| *key < next))
            {
                let (content, entry): (&[u8], fn(Bytes) -> Entry) = match point {
                    Point::Put(content) => (content, Entry::Put),
                    Point::Append(content) => (content, Entry::Append),
                    Point::Delete => (&[], |_| Entry::Delete),
                };
                bytes.extend_from_slice(key);
                bytes.extend_from_slice(content);
                drafts.push(Draft::Point { key: key.len(), content: content.len(), entry });
                self.points.next();
            } else if let Some((key, entry)) = sorted.next() {
                drafts.push(Draft::Sorted(key.clone(), entry.clone()));
            } else {
                break;
            }
        }
        let mut bytes = bytes.freeze();
        let entry = |draft| match draft {
            Draft::Sorted(key, entry) => {
                self.behind = Some(key.clone());
                (key, entry)
            }
            Draft::Point { key, content, entry } => {
                let key = bytes.split_to(key);
                (key, entry(bytes.split_to(content)))
            }
        };
        drafts.into_iter().map(entry).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::KeyGroup;
    use crate::key::StateId;

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn place(text: &str) -> StateKey {
        StateKey::new(KeyGroup(0), StateId(1), text.as_bytes(), b"")
    }

    #[test]
    fn a_key_has_one_entry_however_often_it_is_written() {
        let mut memtable = Memtable::default();
        for round in 0..10u8 {
            memtable.set(&place("a"), Some(&[round; 5]));
        }
        assert_eq!(memtable.all_sorted().len(), 1);
        assert_eq!(memtable.point(&place("a")), Some(Point::Put(&[9; 5])));
    }

    #[test]
    fn appended_elements_fold_onto_what_is_here() {
        let mut memtable = Memtable::default();
        memtable.append(&place("new"), b"x");
        memtable.append(&place("new"), b"y");
        memtable.set(&place("gone"), None);
        memtable.append(&place("gone"), b"z");
        memtable.set(&place("put"), Some(&list::encode_all(["a"])));
        memtable.append(&place("put"), b"b");
        let entries: Vec<Entry> =
            memtable.all_sorted().into_iter().map(|(_, entry)| entry).collect();
        let expected = [
            Entry::Append(key("\x01x\x01y")),
            Entry::Put(key("\x01a\x01b")),
            Entry::Put(key("\x01z")),
        ];
        assert_eq!(entries, expected);
    }

    #[test]
    fn all_entries_come_out_in_key_order_however_they_are_taken() {
        let mut memtable = Memtable::default();
        for text in ["d", "a", "c"] {
            memtable.set(&place(text), Some(text.as_bytes()));
        }
        memtable.set(&place("f"), None);
        let sorted = |text| place(text).map_entry(b"");
        memtable.set_sorted(sorted("b"), None);
        memtable.set_sorted(sorted("e"), Some(Bytes::new()));
        let all = memtable.all_sorted();
        let keys: Vec<&[u8]> = all.iter().map(|(key, _)| &key[..]).collect();
        let expected = ["a", "b", "c", "d", "e", "f"].map(place);
        assert_eq!(keys, expected.each_ref().map(StateKey::as_bytes));
        assert_eq!(all[0].1, Entry::Put(key("a")));
        assert_eq!(all[5].1, Entry::Delete);
        for limit in 1..7 {
            let mut walk = memtable.in_order();
            let mut parts = Vec::new();
            loop {
                let part = walk.take(&memtable, limit);
                if part.is_empty() {
                    break;
                }
                assert!(part.len() <= limit);
                parts.extend(part);
            }
            assert_eq!(parts, all);
        }
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
