//! Groups the rows of a batch by key and window, so that state is touched once for each.
//!
//! `group` is for windows that are known from a row's time, `stretches` for sessions, `lives` for
//! groups without a window.
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

/// Rows of one key in one window. Of a session and of a group without a window, the window says the
/// first and the greatest time of these rows.
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

/// Groups rows into stretches of one key whose neighbours are at most `gap_ms` apart. With `each`
/// every row is a stretch, in order of arrival.
pub(crate) fn stretches(keys: &Keys, times: &[i64], gap_ms: i64, each: bool) -> Grouping {
    let mut grouping = Grouping::default();
    let key_of_row = number_all(keys, &mut grouping.row_of_key);
    let mut rows: Vec<u32> = (0..).take(times.len()).collect();
    if !each {
        rows.sort_by_key(|row| (key_of_row[*row as usize], times[*row as usize]));
    }
    grouping.entry_of_row = vec![NONE; times.len()];
    for row in rows {
        let (key, time) = (key_of_row[row as usize], times[row as usize]);
        match grouping.entries.last_mut() {
            Some(last)
                if !each
                    && last.key == key
                    && time <= last.window.end_ms.saturating_add(gap_ms) =>
            {
                last.window.end_ms = time;
                last.rows += 1;
            }
            _ => grouping.begin(key, time),
        }
        grouping.entry_of_row[row as usize] = place(grouping.entries.len() - 1);
    }
    grouping
}

/// Groups rows by key alone. Where the greatest time of a key so far is `ttl_ms` or more ago, by the
/// next row or `now_ms`, a new life begins. Without `times` all rows of a key are one life.
pub(crate) fn lives(
    keys: &Keys,
    times: Option<&[i64]>,
    now_ms: i64,
    ttl_ms: Option<i64>,
) -> Grouping {
    let mut grouping = Grouping::default();
    let mut last_entry: Vec<u32> = Vec::new();
    let mut index = KeyIndex::default();
    grouping.entry_of_row.reserve(keys.len());
    for row in (0..).take(keys.len()) {
        let key = index.number(keys, row, &mut grouping.row_of_key);
        let time = times.map_or(0, |times| times[row as usize]);
        if last_entry.len() == key as usize {
            last_entry.push(NONE);
        }
        let last = last_entry[key as usize];
        let life = (last != NONE).then(|| &mut grouping.entries[last as usize]);
        let is_over = |life: &GroupedEntry| {
            let now = time.max(now_ms);
            ttl_ms.is_some_and(|ttl| now >= life.window.end_ms.saturating_add(ttl))
        };
        match life.filter(|life| times.is_none() || !is_over(life)) {
            Some(life) => {
                life.window.end_ms = life.window.end_ms.max(time);
                life.rows += 1;
            }
            None => {
                grouping.begin(key, time);
                last_entry[key as usize] = place(grouping.entries.len() - 1);
            }
        }
        grouping.entry_of_row.push(last_entry[key as usize]);
    }
    grouping
}

impl Grouping {
    fn begin(&mut self, key: u32, time: i64) {
        let window = Window { start_ms: time, end_ms: time };
        self.entries.push(GroupedEntry { key, window, rows: 1 });
    }
}

/// The number of every row's key, by first appearance; of each distinct key, a row that has it.
pub(crate) fn number_all(keys: &Keys, row_of_key: &mut Vec<u32>) -> Vec<u32> {
    let mut index = KeyIndex::default();
    (0..).take(keys.len()).map(|row| index.number(keys, row, row_of_key)).collect()
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

    fn of(grouping: &Grouping) -> Vec<(u32, i64, i64, u32)> {
        let entry = |entry: &GroupedEntry| {
            (entry.key, entry.window.start_ms, entry.window.end_ms, entry.rows)
        };
        grouping.entries.iter().map(entry).collect()
    }

    #[test]
    fn stretches_are_cut_where_the_gap_is_longer() {
        let keys = keys(&["a", "b", "a", "a", "a"]);
        let times = [20, 5, 0, 10, 31];
        let grouping = stretches(&keys, &times, 10, false);
        assert_eq!(of(&grouping), [(0, 0, 20, 3), (0, 31, 31, 1), (1, 5, 5, 1)]);
        assert_eq!(grouping.entry_of_row, [0, 2, 0, 0, 1]);
        let each = stretches(&keys, &times, 10, true);
        assert_eq!(each.entry_of_row, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_life_ends_when_its_key_was_not_written_for_the_ttl() {
        let keys = keys(&["a", "b", "a", "a", "a"]);
        let times = [0, 100, 9, 3, 19];
        let grouping = lives(&keys, Some(&times), 0, Some(10));
        assert_eq!(of(&grouping), [(0, 0, 9, 3), (1, 100, 100, 1), (0, 19, 19, 1)]);
        assert_eq!(grouping.entry_of_row, [0, 1, 0, 0, 2]);
        assert_eq!(lives(&keys, Some(&times), 0, None).entries.len(), 2);
        assert_eq!(lives(&keys, Some(&times), 50, Some(10)).entries.len(), 5);
        assert_eq!(lives(&keys, None, 0, Some(10)).entries.len(), 2);
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
