//! Admission by key (FLIP-425): rows of a free key start, rows of a busy key wait in order.
//!
//! Pure bookkeeping. A key is busy from the start of a unit that holds it to that unit's end; what
//! came for it meanwhile starts together, in order of arrival, when the unit ends.
//!
//! What must stay true:
//! 1. At most one started unit holds a key.
//! 2. Items of one key start in the order in which they were offered.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use bytes::Bytes;

/// Which keys are busy, and what waits behind each. Never iterated: nothing depends on hash order.
#[derive(Debug)]
pub(crate) struct Admission<T> {
    busy: HashMap<Bytes, Vec<T>, BuildHasherDefault<KeyHasher>>,
    waiting: usize,
}

impl<T> Admission<T> {
    /// With no key busy.
    pub(crate) fn new() -> Self {
        Self { busy: HashMap::default(), waiting: 0 }
    }

    /// Whether every key is free.
    pub(crate) fn is_idle(&self) -> bool {
        self.busy.is_empty()
    }

    /// Items that wait for their key.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether `key` is held by a unit.
    pub(crate) fn is_busy(&self, key: &Bytes) -> bool {
        self.busy.contains_key(key)
    }

    /// Puts `item` behind the unit that holds `key`; gives it back when the key is free.
    pub(crate) fn wait(&mut self, key: &Bytes, item: T) -> Option<T> {
        match self.busy.get_mut(key) {
            Some(queue) => {
                queue.push(item);
                self.waiting += 1;
                None
            }
            None => Some(item),
        }
    }

    /// A unit that holds `key` starts.
    pub(crate) fn start(&mut self, key: Bytes) {
        let before = self.busy.insert(key, Vec::new());
        debug_assert!(before.is_none(), "a key is held by one unit at a time");
    }

    /// The unit that held `key` ended. The key is free; what waited for it starts now, in order.
    pub(crate) fn end(&mut self, key: &Bytes) -> Vec<T> {
        let waited = self.busy.remove(key).unwrap_or_default();
        self.waiting -= waited.len();
        waited
    }
}

/// XXH3 of a key, the same in every process.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, length: usize) {
        self.0 ^= length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> Bytes {
        Bytes::from_static(name.as_bytes())
    }

    #[test]
    fn free_keys_give_their_items_back() {
        let mut admission = Admission::new();
        assert_eq!(admission.wait(&key("a"), 1), Some(1));
        assert!(admission.is_idle());
    }

    #[test]
    fn items_of_a_busy_key_start_together_in_order() {
        let mut admission = Admission::new();
        admission.start(key("a"));
        assert_eq!(admission.wait(&key("a"), 1), None);
        assert_eq!(admission.wait(&key("b"), 9), Some(9));
        assert_eq!(admission.wait(&key("a"), 2), None);
        assert_eq!(admission.waiting(), 2);
        assert_eq!(admission.end(&key("a")), [1, 2]);
        assert_eq!(admission.waiting(), 0);
        assert!(!admission.is_busy(&key("a")));
    }
}
