//! The ids and numbers that name things: a type for each, so that none is taken for another.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

number! {
    /// One fixed set of workers and key-group map; numbers only grow within an incarnation.
    Generation
}
number! {
    /// One coordinator's reign within a job; numbers only grow within an incarnation.
    Term
}
number! {
    /// A checkpoint of a job; numbers only grow within an incarnation.
    CheckpointId
}
number! {
    /// The number of a journal record, from 1.
    Seq
}

/// A fixed slice of the key space: `(XXH3-64(canonical key) × groups) >> 64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(pub u16);

impl KeyGroup {
    /// The key group of a key whose canonical encoding hashes (XXH3-64) to `hash`.
    pub fn of_hash(hash: u64, groups: u16) -> Self {
        let group = (u128::from(hash) * u128::from(groups)) >> 64;
        Self(u16::try_from(group).unwrap_or(u16::MAX))
    }

    /// The key group of a canonically encoded key.
    pub fn of_key(key: &[u8], groups: u16) -> Self {
        Self::of_hash(xxhash_rust::xxh3::xxh3_64(key), groups)
    }
}

/// The key groups from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroupRange {
    /// First key group.
    pub start: u16,
    /// One past the last key group.
    pub end: u16,
}

impl KeyGroupRange {
    /// The range of subtask `index` of `width` over `groups` key groups. All ranges together are
    /// `0..groups`, and their lengths differ by at most one.
    pub fn of_subtask(index: u32, width: u32, groups: u16) -> Self {
        let border = |i: u32| {
            let border = u64::from(i) * u64::from(groups) / u64::from(width);
            u16::try_from(border).unwrap_or(groups)
        };
        Self { start: border(index), end: border(index + 1) }
    }

    /// Whether `group` lies in the range.
    pub fn contains(self, group: KeyGroup) -> bool {
        self.start <= group.0 && group.0 < self.end
    }

    /// The key groups of both ranges, if there are any.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { start: self.start.max(other.start), end: self.end.min(other.end) };
        (both.start < both.end).then_some(both)
    }

    /// How many key groups the range has.
    pub fn len(self) -> u16 {
        self.end.saturating_sub(self.start)
    }

    /// Whether the range has no key group.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for KeyGroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtask_ranges_cover_all_groups_once() {
        for width in 1..=20 {
            let mut next = 0;
            for index in 0..width {
                let range = KeyGroupRange::of_subtask(index, width, 128);
                assert_eq!(range.start, next);
                assert!(range.len() >= 128 / u16::try_from(width).unwrap());
                next = range.end;
            }
            assert_eq!(next, 128);
        }
    }

    #[test]
    fn every_hash_has_a_group_inside() {
        assert_eq!(KeyGroup::of_hash(u64::MAX, 128), KeyGroup(127));
        assert_eq!(KeyGroup::of_hash(0, 128), KeyGroup(0));
    }
}
