//! Bags: keys with how often each is there, in order.
//!
//! Keys are taken at the end and put in order once per batch, so that a row costs no search: a
//! sort finds the runs that are in order already. Over changelogs counts may be below zero, which
//! says that so many of a key are to be taken away from what the bag is merged into.

/// Keys and their counts; none is 0.
#[derive(Clone, Debug)]
pub(super) struct Bag<K> {
    entries: Vec<(K, i64)>,
    /// Entries that are in order, each key once. All of them, except while a batch is taken.
    ordered: usize,
}

impl<K> Default for Bag<K> {
    fn default() -> Self {
        Self { entries: Vec::new(), ordered: 0 }
    }
}

impl<K: PartialEq> PartialEq for Bag<K> {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl<K: Ord> Bag<K> {
    /// Takes a key; [`Bag::order`] must follow.
    pub(super) fn take(&mut self, key: K, count: i64) {
        match self.entries[self.ordered..].last_mut() {
            Some((last, have)) if *last == key => *have += count,
            _ => self.entries.push((key, count)),
        }
    }

    /// Puts what was taken in order.
    pub(super) fn order(&mut self) {
        if self.ordered == self.entries.len() {
            return;
        }
        // A stable sort is one merge where two runs are in order.
        self.entries.sort_by(|left, right| left.0.cmp(&right.0));
        self.entries.dedup_by(|again, first| {
            let same = again.0 == first.0;
            if same {
                first.1 = first.1.wrapping_add(again.1);
            }
            same
        });
        self.entries.retain(|(_, count)| *count != 0);
        self.ordered = self.entries.len();
    }

    /// Keeps the keys that `keep` says, in order.
    pub(super) fn retain(&mut self, keep: impl FnMut(&mut (K, i64)) -> bool) {
        self.entries.retain_mut(keep);
        self.ordered = self.entries.len();
    }

    /// Of entries in order. None: they are not.
    pub(super) fn of_entries(entries: Vec<(K, i64)>) -> Option<Self> {
        let ordered = entries.is_sorted_by(|left, right| left.0 < right.0);
        let counted = entries.iter().all(|(_, count)| *count != 0);
        (ordered && counted).then(|| Self { ordered: entries.len(), entries })
    }
}

impl<K: Ord + Clone> Bag<K> {
    /// Takes all that `from` holds.
    pub(super) fn merge(&mut self, from: &Self) {
        self.entries.extend_from_slice(&from.entries);
        self.order();
    }
}

impl<K> Bag<K> {
    /// Keys and counts in order.
    pub(super) fn entries(&self) -> &[(K, i64)] {
        &self.entries
    }

    /// Keys in order.
    pub(super) fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.entries.iter().map(|(key, _)| key)
    }

    /// Whether a key is there less than not at all.
    pub(super) fn owes(&self) -> bool {
        self.entries.iter().any(|(_, count)| *count < 0)
    }

    /// Bytes beside the bag itself; `of_key` says what a key has beside itself.
    pub(super) fn heap_bytes(&self, of_key: impl Fn(&K) -> usize) -> usize {
        self.entries.capacity() * size_of::<(K, i64)>() + self.keys().map(of_key).sum::<usize>()
    }
}
