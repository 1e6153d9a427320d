//! Entries: what a composite key holds in one memtable or table file.
//!
//! A later entry replaces earlier ones, except [`Entry::Append`], which is added behind whatever
//! the key held before. Only such built-in merges leave operands in files, so a compaction never
//! runs user code. Kinds map to entries like this: a value and a map entry are a `Put`, a timer is
//! a `Put` of nothing, a list is its encoded elements ([`crate::list`]) in `Put` or `Append`.

use bytes::Bytes;

/// What one key holds in one sorted run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The whole content; whatever was before is gone.
    Put(Bytes),
    /// Nothing; whatever was before is gone.
    Delete,
    /// More elements behind whatever was before.
    Append(Bytes),
}

impl Entry {
    /// Bytes of content.
    pub(crate) fn content(&self) -> &[u8] {
        match self {
            Self::Put(bytes) | Self::Append(bytes) => bytes,
            Self::Delete => &[],
        }
    }
}

/// A content of its own: one that was cut out of a block would keep the whole block alive, and
/// callers keep what they read (and write it back).
pub(crate) fn detached(content: &Bytes) -> Bytes {
    Bytes::copy_from_slice(content)
}

/// Folds the entries of one key, newest first, into what it holds.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    /// Operands met so far, newest first.
    operands: Vec<Bytes>,
    base: Option<Entry>,
}

impl Fold {
    /// Takes the next older entry; true once nothing older matters.
    pub(crate) fn push(&mut self, entry: Entry) -> bool {
        match entry {
            Entry::Append(operand) => {
                self.operands.push(operand);
                false
            }
            whole => {
                self.base = Some(whole);
                true
            }
        }
    }

    /// Whether an operand was met: older entries will be needed.
    pub(crate) fn has_operands(&self) -> bool {
        !self.operands.is_empty()
    }

    /// What the key holds, given that there is nothing older.
    pub(crate) fn value(self) -> Option<Bytes> {
        match self.entry() {
            Some(Entry::Put(bytes) | Entry::Append(bytes)) => Some(bytes),
            Some(Entry::Delete) | None => None,
        }
    }

    /// One entry with the same meaning as all that were pushed; `None` if none was.
    pub(crate) fn entry(mut self) -> Option<Entry> {
        match self.base.take() {
            Some(Entry::Put(base)) => Some(Entry::Put(self.joined(Some(base)))),
            Some(_) if self.operands.is_empty() => Some(Entry::Delete),
            Some(_) => Some(Entry::Put(self.joined(None))),
            None if self.operands.is_empty() => None,
            None => Some(Entry::Append(self.joined(None))),
        }
    }

    fn joined(mut self, base: Option<Bytes>) -> Bytes {
        self.operands.extend(base);
        if self.operands.len() == 1 {
            return self.operands.remove(0);
        }
        let length = self.operands.iter().map(Bytes::len).sum();
        let mut all = Vec::with_capacity(length);
        for operand in self.operands.iter().rev() {
            all.extend_from_slice(operand);
        }
        all.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(newest_first: &[Entry]) -> Fold {
        let mut fold = Fold::default();
        for entry in newest_first {
            if fold.push(entry.clone()) {
                break;
            }
        }
        fold
    }

    fn put(bytes: &'static str) -> Entry {
        Entry::Put(Bytes::from_static(bytes.as_bytes()))
    }

    fn append(bytes: &'static str) -> Entry {
        Entry::Append(Bytes::from_static(bytes.as_bytes()))
    }

    #[test]
    fn newest_whole_entry_wins_and_operands_come_behind_it() {
        let check = |entries: &[Entry], expected: Option<Entry>| {
            assert_eq!(fold(entries).entry(), expected, "{entries:?}");
        };
        check(&[], None);
        check(&[put("b"), put("a")], Some(put("b")));
        check(&[append("c"), append("b"), put("a"), put("x")], Some(put("abc")));
        check(&[append("c"), append("b")], Some(append("bc")));
        check(&[append("c"), Entry::Delete, put("a")], Some(put("c")));
        check(&[Entry::Delete, put("a")], Some(Entry::Delete));
    }

    #[test]
    fn operands_without_a_base_are_the_value() {
        assert_eq!(fold(&[append("b"), append("a")]).value(), Some(Bytes::from_static(b"ab")));
        assert_eq!(fold(&[Entry::Delete]).value(), None);
    }
}
