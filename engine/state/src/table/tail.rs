//! The tail of a table file: filter, index, key groups, footer. One range request reads it.
//!
//! Index, per data block: `shared varint · unshared varint · stored bytes varint · key suffix`,
//! where the key is the block's last one and shares a prefix with the one before. Key groups, per
//! group that has entries: `distance to the group before varint · uncompressed bytes varint ·
//! entries varint`. The footer has [`FOOTER_BYTES`]; all its numbers are little-endian.

use bytes::{BufMut, Bytes};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Damage, FORMAT_VERSION, MAGIC, filter};
use crate::ids::KeyGroupRange;
use crate::varint;

/// data bytes u64 · entries u64 · filter, index, groups bytes u32 · blocks u32 · checksum u64 ·
/// version u32 · complement of version u32 · magic.
pub(super) const FOOTER_BYTES: usize = 56;
/// The part of the footer that the checksum covers, after filter, index and key groups.
const CHECKED_FOOTER_BYTES: usize = 32;

/// Where a data block lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockHandle {
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
}

/// What one key group has in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupSize {
    pub(crate) group: u16,
    /// Uncompressed bytes of keys and contents.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// Collects the parts of a tail.
#[derive(Debug, Default)]
pub(super) struct TailBuilder {
    pub(super) hashes: Vec<u64>,
    index: Vec<u8>,
    last_key: Vec<u8>,
    blocks: u32,
    groups: Vec<GroupSize>,
}

impl TailBuilder {
    /// Counts an entry of `group`, not before those counted so far.
    pub(super) fn count(&mut self, group: u16, bytes: usize) {
        if self.groups.last().is_none_or(|last| last.group != group) {
            self.groups.push(GroupSize { group, ..GroupSize::default() });
        }
        if let Some(last) = self.groups.last_mut() {
            last.bytes += bytes as u64;
            last.entries += 1;
        }
    }

    /// Adds the next data block.
    pub(super) fn block(&mut self, last_key: &[u8], stored_bytes: usize) {
        let shared = self.last_key.iter().zip(last_key).take_while(|(a, b)| a == b).count();
        varint::put(&mut self.index, shared as u64);
        varint::put(&mut self.index, (last_key.len() - shared) as u64);
        varint::put(&mut self.index, stored_bytes as u64);
        self.index.extend_from_slice(&last_key[shared..]);
        self.last_key.clear();
        self.last_key.extend_from_slice(last_key);
        self.blocks += 1;
    }

    /// The stored tail of a file whose data blocks have `data_bytes`.
    pub(super) fn finish(self, data_bytes: u64) -> Bytes {
        let mut tail = filter::build(&self.hashes);
        let filter_bytes = tail.len();
        tail.extend_from_slice(&self.index);
        let mut before = 0;
        for size in &self.groups {
            varint::put(&mut tail, u64::from(size.group - before));
            varint::put(&mut tail, size.bytes);
            varint::put(&mut tail, size.entries);
            before = size.group;
        }
        let groups_bytes = tail.len() - filter_bytes - self.index.len();
        tail.put_u64_le(data_bytes);
        tail.put_u64_le(self.hashes.len() as u64);
        for part in [filter_bytes, self.index.len(), groups_bytes] {
            tail.put_u32_le(u32::try_from(part).expect("a tail stays below 4 GiB"));
        }
        tail.put_u32_le(self.blocks);
        let checksum = xxh3_64_with_seed(&tail[..], data_bytes);
        tail.put_u64_le(checksum);
        tail.put_u32_le(FORMAT_VERSION);
        tail.put_u32_le(!FORMAT_VERSION);
        tail.put_slice(&MAGIC);
        tail.into()
    }
}

/// A checked tail: answers where in the file a key may be.
#[derive(Debug)]
pub(crate) struct Tail {
    filter: Bytes,
    blocks: Vec<BlockHandle>,
    /// The blocks' last keys end to end, and where each ends.
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    groups: Vec<GroupSize>,
}

/// The lengths that a footer gives.
struct Footer {
    filter_bytes: usize,
    index_bytes: usize,
    groups_bytes: usize,
    data_bytes: u64,
    blocks: usize,
}

impl Tail {
    /// Checks and reads the last `stored.len()` bytes of an object of `object_bytes`.
    pub(crate) fn decode(stored: &Bytes, object_bytes: u64) -> Result<Self, Damage> {
        let offset = object_bytes.saturating_sub(stored.len() as u64);
        let footer = Footer::decode(stored, offset)?;
        let index_at = footer.filter_bytes;
        let groups_at = index_at + footer.index_bytes;
        let mut tail = Self {
            // Copied: a slice would keep the index's bytes alive too.
            filter: Bytes::copy_from_slice(&stored[..index_at]),
            blocks: Vec::with_capacity(footer.blocks),
            keys: Vec::new(),
            key_ends: Vec::with_capacity(footer.blocks),
            groups: Vec::new(),
        };
        tail.read_index(&stored[index_at..groups_at], &footer)
            .ok_or_else(|| Damage::at(offset + index_at as u64, "an index", "none that fits"))?;
        tail.read_groups(&stored[groups_at..groups_at + footer.groups_bytes]).ok_or_else(|| {
            Damage::at(offset + groups_at as u64, "sizes of key groups", "none that fit")
        })?;
        Ok(tail)
    }

    /// Whether a key with this hash may be in the file.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        filter::may_contain(&self.filter, hash)
    }

    /// Number of the first block that may hold keys at or after `key`.
    pub(crate) fn block_for(&self, key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.blocks.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.last_key(middle) < key { low = middle + 1 } else { high = middle }
        }
        (low < self.blocks.len()).then_some(low)
    }

    /// The place of a block; `None` behind the last one.
    pub(crate) fn block(&self, number: usize) -> Option<BlockHandle> {
        self.blocks.get(number).copied()
    }

    /// Uncompressed bytes and entries of the key groups in `range`.
    pub(crate) fn size_of(&self, range: KeyGroupRange) -> (u64, u64) {
        let inside =
            self.groups.iter().filter(|size| range.start <= size.group && size.group < range.end);
        inside.fold((0, 0), |sum, size| (sum.0 + size.bytes, sum.1 + size.entries))
    }

    /// Memory that the tail holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.filter.len()
            + self.keys.len()
            + self.blocks.len() * (size_of::<BlockHandle>() + size_of::<usize>())
            + self.groups.len() * size_of::<GroupSize>()
    }

    /// The last key of a block, which must be one.
    pub(crate) fn last_key(&self, block: usize) -> &[u8] {
        let start = block.checked_sub(1).map_or(0, |before| self.key_ends[before]);
        &self.keys[start..self.key_ends[block]]
    }

    fn read_index(&mut self, mut rest: &[u8], footer: &Footer) -> Option<()> {
        let mut offset = 0u64;
        let mut start = 0usize;
        while !rest.is_empty() {
            let (shared, after) = varint::split(rest)?;
            let (unshared, after) = varint::split(after)?;
            let (bytes, after) = varint::split(after)?;
            let (suffix, after) = after.split_at_checked(usize::try_from(unshared).ok()?)?;
            let shared_end = start.checked_add(usize::try_from(shared).ok()?)?;
            if shared_end > self.keys.len() {
                return None;
            }
            let prefix = start..shared_end;
            start = self.keys.len();
            self.keys.extend_from_within(prefix);
            self.keys.extend_from_slice(suffix);
            self.key_ends.push(self.keys.len());
            self.blocks.push(BlockHandle { offset, bytes: u32::try_from(bytes).ok()? });
            offset = offset.checked_add(bytes)?;
            rest = after;
        }
        (offset == footer.data_bytes && self.blocks.len() == footer.blocks).then_some(())
    }

    fn read_groups(&mut self, mut rest: &[u8]) -> Option<()> {
        let mut group = 0u16;
        while !rest.is_empty() {
            let (distance, after) = varint::split(rest)?;
            let (bytes, after) = varint::split(after)?;
            let (entries, after) = varint::split(after)?;
            group = group.checked_add(u16::try_from(distance).ok()?)?;
            self.groups.push(GroupSize { group, bytes, entries });
            rest = after;
        }
        Some(())
    }
}

impl Footer {
    fn decode(stored: &Bytes, offset: u64) -> Result<Self, Damage> {
        let cut = || Damage::at(offset, "a tail", format!("{} bytes", stored.len()));
        let at = stored.len().checked_sub(FOOTER_BYTES).ok_or_else(cut)?;
        let footer = &stored[at..];
        let place = |from: usize| offset + (at + from) as u64;
        if footer[48..] != MAGIC {
            let found = String::from_utf8_lossy(&footer[48..]).escape_debug().to_string();
            return Err(Damage::at(place(48), "the magic of a table file", found));
        }
        let (version, complement) = (number(footer, 40, 4), number(footer, 44, 4));
        if version ^ complement != u64::from(u32::MAX) {
            let found = format!("{version} and {complement}");
            return Err(Damage::at(place(40), "a format version and its complement", found));
        }
        if version > u64::from(FORMAT_VERSION) {
            return Err(Damage::Newer { found: u32::try_from(version).unwrap_or(u32::MAX) });
        }
        let (checked, expected) = (at + CHECKED_FOOTER_BYTES, number(footer, 32, 8));
        let data_bytes = number(footer, 0, 8);
        let found = xxh3_64_with_seed(&stored[..checked], data_bytes);
        if expected != found {
            return Err(Damage::checksum(offset, expected, found));
        }
        let length = |from| usize::try_from(number(footer, from, 4)).unwrap_or(usize::MAX);
        let lengths = Self {
            filter_bytes: length(16),
            index_bytes: length(20),
            groups_bytes: length(24),
            data_bytes,
            blocks: length(28),
        };
        let tail = lengths.filter_bytes + lengths.index_bytes + lengths.groups_bytes;
        if tail != at || data_bytes != offset {
            let found = format!("{at} bytes at {offset}");
            return Err(Damage::at(
                offset,
                format!("a tail of {tail} bytes at {data_bytes}"),
                found,
            ));
        }
        Ok(lengths)
    }
}

/// The little-endian number of `bytes` bytes at `from`.
fn number(footer: &[u8], from: usize, bytes: usize) -> u64 {
    footer[from..from + bytes].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tail(parts: [&[u8]; 3], blocks: u32, data_bytes: u64) -> Bytes {
        let mut tail = parts.concat();
        tail.put_u64_le(data_bytes);
        tail.put_u64_le(1);
        for part in parts {
            tail.put_u32_le(u32::try_from(part.len()).unwrap());
        }
        tail.put_u32_le(blocks);
        let checksum = xxh3_64_with_seed(&tail, data_bytes);
        tail.put_u64_le(checksum);
        tail.put_u32_le(FORMAT_VERSION);
        tail.put_u32_le(!FORMAT_VERSION);
        tail.put_slice(&MAGIC);
        tail.into()
    }

    proptest! {
        /// Behind a right checksum any bytes may stand: they are refused or answered, no panic.
        #[test]
        fn any_bytes_are_refused_or_read(
            filter in proptest::collection::vec(any::<u8>(), 0..80),
            index in proptest::collection::vec(any::<u8>(), 0..40),
            groups in proptest::collection::vec(any::<u8>(), 0..20),
            blocks in 0..4u32,
            data_bytes in 0..300u64,
        ) {
            let stored = tail([&filter, &index, &groups], blocks, data_bytes);
            if let Ok(tail) = Tail::decode(&stored, data_bytes + stored.len() as u64) {
                tail.may_contain(data_bytes);
                tail.block_for(&index).and_then(|number| tail.block(number));
                tail.size_of(KeyGroupRange { start: 0, end: 9 });
            }
        }
    }
}
