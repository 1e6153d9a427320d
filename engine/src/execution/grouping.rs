//! Groups the rows of a batch by key and window, so that state is touched once for each.
//!
//! Pure. Keys and (key, window) pairs are numbered by first appearance, so that nothing depends on
//! hash order. No allocation per row.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::window::Window;
use crate::rows::key::Keys;

/// The rows of one batch, grouped.
#[derive(Debug, Default)]
pub(crate) struct Grouping {
    /// Of each row, its place in `entries`.
    pub(crate) entry_of_row: Vec<u32>,
    /// Distinct (key, window) pairs.
    pub(crate) entries: Vec<GroupedEntry>,
    /// Of each distinct key, a row that has it.
    pub(crate) row_of_key: Vec<u32>,
}

/// Rows of one key in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupedEntry {
    /// Place of the key in `row_of_key`.
    pub(crate) key: u32,
    /// The window.
    pub(crate) window: Window,
    /// How many rows there are.
    pub(crate) rows: u32,
}

const NONE: u32 = u32::MAX;

/// Groups rows by their keys and windows, of which there are equally many, fewer than 2^32.
pub(crate) fn group(keys: &Keys, windows: &[Window]) -> Grouping {
    debug_assert_eq!(keys.len(), windows.len());
    let mut grouping = Grouping::default();
    grouping.entry_of_row.reserve(windows.len());
    let mut index = KeyIndex::default();
    // The entry that each key had last: rows of one key mostly fall into one window.
    let mut last_entry: Vec<u32> = Vec::new();
    let mut by_window: HashMap<(u32, i64), u32, BuildHasherDefault<Mixed>> = HashMap::default();
    for (row, window) in (0..).zip(windows) {
        let key = index.number(keys, row, &mut grouping.row_of_key);
        if last_entry.len() == key as usize {
            last_entry.push(NONE);
        }
        let last = last_entry[key as usize];
        let is_last = last != NONE && grouping.entries[last as usize].window == *window;
        let entry = if is_last {
            last
        } else {
            *by_window.entry((key, window.start_ms)).or_insert_with(|| {
                grouping.entries.push(GroupedEntry { key, window: *window, rows: 0 });
                place(grouping.entries.len() - 1)
            })
        };
        last_entry[key as usize] = entry;
        grouping.entries[entry as usize].rows += 1;
        grouping.entry_of_row.push(entry);
    }
    grouping
}

fn place(index: usize) -> u32 {
    u32::try_from(index).expect("a batch has fewer than 2^32 rows")
}

/// Numbers keys by first appearance. Keys of equal hashes form a chain.
#[derive(Default)]
struct KeyIndex {
    first: HashMap<u64, u32, BuildHasherDefault<Mixed>>,
    next: Vec<u32>,
}

impl KeyIndex {
    fn number(&mut self, keys: &Keys, row: u32, row_of_key: &mut Vec<u32>) -> u32 {
        let bytes = keys.key(row as usize);
        let mut link = self.first.entry(keys.hashes()[row as usize]).or_insert(NONE);
        while *link != NONE {
            let known = *link as usize;
            if keys.key(row_of_key[known] as usize) == bytes {
                return *link;
            }
            link = &mut self.next[known];
        }
        let number = place(row_of_key.len());
        *link = number;
        self.next.push(NONE);
        row_of_key.push(row);
        number
    }
}

/// Mixes numbers, most of which are hashes already (the finisher of splitmix64).
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 = mixed ^ (mixed >> 31);
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_i64(&mut self, value: i64) {
        self.write_u64(value.cast_unsigned());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};
    use proptest::prelude::*;

    use super::*;

    fn keys(names: &[&str]) -> Keys {
        let column: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        Keys::encode(&[column], names.len()).unwrap()
    }

    fn window(start_ms: i64) -> Window {
        Window { start_ms, end_ms: start_ms + 10 }
    }

    #[test]
    fn entries_are_numbered_by_first_appearance() {
        let windows = [window(0), window(0), window(10), window(0), window(0)];
        let grouping = group(&keys(&["b", "a", "b", "b", "a"]), &windows);
        assert_eq!(grouping.entry_of_row, [0, 1, 2, 0, 1]);
        assert_eq!(grouping.row_of_key, [0, 1]);
        let rows: Vec<_> = grouping.entries.iter().map(|entry| (entry.key, entry.rows)).collect();
        assert_eq!(rows, [(0, 2), (1, 2), (0, 1)]);
    }

    #[test]
    fn without_key_columns_there_is_one_key() {
        let keys = Keys::encode(&[], 3).unwrap();
        let grouping = group(&keys, &[window(0), window(10), window(0)]);
        assert_eq!((grouping.row_of_key.len(), grouping.entries.len()), (1, 2));
    }

    #[test]
    fn no_rows_no_groups() {
        let grouping = group(&keys(&[]), &[]);
        assert!(grouping.entries.is_empty() && grouping.row_of_key.is_empty());
    }

    proptest! {
        #[test]
        fn groups_are_those_of_a_map(rows in prop::collection::vec((0..6usize, 0..3i64), 0..200)) {
            let names: Vec<&str> = rows.iter().map(|(k, _)| ["a", "b", "c", "", "dd", "e"][*k]).collect();
            let windows: Vec<Window> = rows.iter().map(|(_, w)| window(w * 10)).collect();
            let grouping = group(&keys(&names), &windows);
            let mut expected: BTreeMap<(&str, Window), u32> = BTreeMap::new();
            for (name, window) in names.iter().zip(&windows) {
                *expected.entry((name, *window)).or_default() += 1;
            }
            prop_assert_eq!(grouping.entries.len(), expected.len());
            for (row, entry) in grouping.entry_of_row.iter().enumerate() {
                let entry = grouping.entries[*entry as usize];
                let key = names[grouping.row_of_key[entry.key as usize] as usize];
                prop_assert_eq!((key, entry.window), (names[row], windows[row]));
                prop_assert_eq!(entry.rows, expected[&(names[row], windows[row])]);
            }
        }
    }
}
