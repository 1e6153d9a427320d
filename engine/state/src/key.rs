//! Composite keys: how (key group, state, user key, namespace, map key) become one byte string.
//!
//! `group u16 BE · state u16 BE · length-prefixed user key · length-prefixed namespace · map key`,
//! and for timers `group · state 0xffff · time · length-prefixed user key · length-prefixed
//! namespace`. docs/design/0002-state-keys-and-table-files.md fixes the layout.
//!
//! What must stay true: byte order of composite keys begins with the key group, so a range of key
//! groups is one stretch of a sorted file; all map entries of one (key, namespace) share one prefix
//! that is the prefix of nothing else; timers of a group sort by time.

use bytes::{BufMut, Bytes};

use crate::ids::{KeyGroup, KeyGroupRange};
use crate::table::hash_of;
use crate::varint;

/// Which state of a step an entry belongs to. The step's definition deals the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(pub u16);

impl StateId {
    /// The state that holds a step's timers; no other state may use the number.
    pub const TIMERS: Self = Self(u16::MAX);
}

/// Bytes in front of every composite key: key group and state.
const HEAD_BYTES: usize = 4;
/// The user key comes after this many bytes in a timer's key.
const TIMER_HEAD_BYTES: usize = HEAD_BYTES + 8;

/// The key of one value, list or map, already in its composite form, with its hash. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    composite: Bytes,
    hash: u64,
}

impl StateKey {
    /// The key of `state` for a canonically encoded user key and a namespace (may be empty).
    pub fn new(group: KeyGroup, state: StateId, key: &[u8], namespace: &[u8]) -> Self {
        // Exactly as long as it gets: then sharing it costs no second piece of memory.
        let parts = [key, namespace].map(|part| varint::width(part.len() as u64) + part.len());
        let mut bytes = Vec::with_capacity(HEAD_BYTES + parts[0] + parts[1]);
        put_head(&mut bytes, group, state);
        put_part(&mut bytes, key);
        put_part(&mut bytes, namespace);
        Self { hash: hash_of(&bytes), composite: bytes.into() }
    }

    /// The hash by which memtables and filters know it.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The key group.
    pub fn group(&self) -> KeyGroup {
        group_of(&self.composite)
    }

    /// The state.
    pub fn state(&self) -> StateId {
        StateId(u16::from_be_bytes([self.composite[2], self.composite[3]]))
    }

    /// The user key, as it was given.
    pub fn key(&self) -> &[u8] {
        split_part(&self.composite[HEAD_BYTES..]).map_or(&[], |(key, _)| key)
    }

    /// The namespace, as it was given.
    pub fn namespace(&self) -> &[u8] {
        let rest = split_part(&self.composite[HEAD_BYTES..]).map_or(&[][..], |(_, rest)| rest);
        split_part(rest).map_or(&[], |(namespace, _)| namespace)
    }

    /// The composite form: what tables are sorted by.
    pub fn as_bytes(&self) -> &[u8] {
        &self.composite
    }

    pub(crate) fn composite(&self) -> &Bytes {
        &self.composite
    }

    /// The composite key of one entry of the map that this key names.
    pub(crate) fn map_entry(&self, map_key: &[u8]) -> Bytes {
        let mut bytes = Vec::with_capacity(self.composite.len() + map_key.len());
        bytes.extend_from_slice(&self.composite);
        bytes.extend_from_slice(map_key);
        bytes.into()
    }
}

/// One timer: fires for (key, namespace) once the watermark reaches its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer {
    /// Event time in milliseconds since 1970-01-01T00:00Z.
    pub time_ms: i64,
    /// The key group of `key`.
    pub group: KeyGroup,
    /// The canonically encoded user key.
    pub key: Bytes,
    /// The namespace, for example the window.
    pub namespace: Bytes,
}

impl Timer {
    /// Reads a composite key made by [`timer_key`]; `None` when it is none.
    pub(crate) fn from_composite(composite: &Bytes) -> Option<Self> {
        let head = composite.get(..TIMER_HEAD_BYTES)?;
        let time = u64::from_be_bytes(head[HEAD_BYTES..].try_into().ok()?);
        let (key, rest) = split_part(&composite[TIMER_HEAD_BYTES..])?;
        let (namespace, rest) = split_part(rest)?;
        rest.is_empty().then(|| Self {
            time_ms: (time ^ SIGN).cast_signed(),
            group: group_of(composite),
            key: composite.slice_ref(key),
            namespace: composite.slice_ref(namespace),
        })
    }
}

/// The time in the key of a timer; in a key cut short of it, or of another state, the greatest.
pub(crate) fn time_of(composite: &Bytes) -> i64 {
    let is_timer = composite.get(2..HEAD_BYTES) == Some(&StateId::TIMERS.0.to_be_bytes()[..]);
    let time = composite.get(HEAD_BYTES..).and_then(|rest| rest.first_chunk());
    match time.filter(|_| is_timer) {
        Some(time) => (u64::from_be_bytes(*time) ^ SIGN).cast_signed(),
        None => i64::MAX,
    }
}

/// Flips the sign bit, so that signed times sort as unsigned bytes.
const SIGN: u64 = 1 << 63;

pub(crate) fn timer_key(group: KeyGroup, time_ms: i64, key: &[u8], namespace: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(TIMER_HEAD_BYTES + 6 + key.len() + namespace.len());
    put_head(&mut bytes, group, StateId::TIMERS);
    bytes.put_u64(time_ms.cast_unsigned() ^ SIGN);
    put_part(&mut bytes, key);
    put_part(&mut bytes, namespace);
    bytes.into()
}

/// The first key of `group`'s timers at or after `time_ms`.
pub(crate) fn timers_from(group: KeyGroup, time_ms: i64) -> Bytes {
    let mut bytes = Vec::with_capacity(TIMER_HEAD_BYTES);
    put_head(&mut bytes, group, StateId::TIMERS);
    bytes.put_u64(time_ms.cast_unsigned() ^ SIGN);
    bytes.into()
}

/// The first composite key that a group can have; for one past the last group, its end.
pub(crate) fn group_start(group: u32) -> Bytes {
    match u16::try_from(group) {
        Ok(group) => Bytes::copy_from_slice(&group.to_be_bytes()),
        Err(_) => Bytes::from_static(&[0xff; 5]),
    }
}

/// The least key after all keys that begin with `prefix`.
pub(crate) fn after_prefix(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
    let mut end = prefix[..kept].to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        None => return group_start(u32::MAX),
    }
    end.into()
}

/// The key group of a composite key (0 for one cut short of its group).
pub(crate) fn group_of(composite: &[u8]) -> KeyGroup {
    match composite {
        [high, low, ..] => KeyGroup(u16::from_be_bytes([*high, *low])),
        [high] => KeyGroup(u16::from_be_bytes([*high, 0])),
        [] => KeyGroup(0),
    }
}

/// All composite keys of `range`, as (first, end).
pub(crate) fn range_keys(range: KeyGroupRange) -> (Bytes, Bytes) {
    (group_start(u32::from(range.start)), group_start(u32::from(range.end)))
}

fn put_head(bytes: &mut Vec<u8>, group: KeyGroup, state: StateId) {
    bytes.put_u16(group.0);
    bytes.put_u16(state.0);
}

fn put_part(bytes: &mut Vec<u8>, part: &[u8]) {
    varint::put(bytes, part.len() as u64);
    bytes.extend_from_slice(part);
}

fn split_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = varint::split(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(group: u16, state: u16, key: &[u8], namespace: &[u8]) -> StateKey {
        StateKey::new(KeyGroup(group), StateId(state), key, namespace)
    }

    #[test]
    fn layout_is_fixed() {
        assert_eq!(key(0x0102, 0x0304, b"ab", b"n").as_bytes(), b"\x01\x02\x03\x04\x02ab\x01n");
        let timer = timer_key(KeyGroup(1), -1, b"k", b"");
        assert_eq!(timer, &b"\x00\x01\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x01k\x00"[..]);
    }

    #[test]
    fn end_of_a_prefix_skips_bytes_that_cannot_grow() {
        assert_eq!(after_prefix(b"a\xff\xff"), &b"b"[..]);
        assert_eq!(after_prefix(b"ab"), &b"ac"[..]);
        assert!(after_prefix(b"\xff\xff") > Bytes::from_static(&[0xff; 4]));
    }

    #[test]
    fn groups_end_after_their_last_key() {
        let (start, end) = range_keys(KeyGroupRange { start: 3, end: 4 });
        let inside = key(3, 0xffff, &[0xff; 9], b"");
        assert!(start <= *inside.composite() && *inside.composite() < end);
        assert!(key(4, 0, b"", b"").composite() >= &end);
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..200)
    }

    proptest! {
        #[test]
        fn parts_come_back(group: u16, state: u16, k in bytes(), n in bytes()) {
            let composed = key(group, state, &k, &n);
            prop_assert_eq!(composed.group(), KeyGroup(group));
            prop_assert_eq!(composed.state(), StateId(state));
            prop_assert_eq!(composed.key(), &k[..]);
            prop_assert_eq!(composed.namespace(), &n[..]);
        }

        #[test]
        fn no_key_is_the_prefix_of_another(a in bytes(), b in bytes(), n in bytes(), m in bytes()) {
            prop_assume!((&a, &n) != (&b, &m));
            let (one, two) = (key(1, 1, &a, &n), key(1, 1, &b, &m));
            prop_assert!(!one.as_bytes().starts_with(two.as_bytes()));
        }

        #[test]
        fn timers_sort_by_time_and_come_back(a: i64, b: i64, k in bytes(), n in bytes()) {
            let timer = |time_ms| Timer {
                time_ms,
                group: KeyGroup(7),
                key: k.clone().into(),
                namespace: n.clone().into(),
            };
            let composite = |time_ms| timer_key(KeyGroup(7), time_ms, &k, &n);
            prop_assert_eq!(composite(a).cmp(&composite(b)), a.cmp(&b));
            prop_assert_eq!(Timer::from_composite(&composite(a)), Some(timer(a)));
            prop_assert_eq!(time_of(&composite(a)), a);
        }
    }
}
