//! Data blocks: entries in key order with shared prefixes, restart points, compression, checksum.
//!
//! Entry: `shared varint · unshared varint · flags u8 · content length varint · key suffix ·
//! content`. At a restart point nothing is shared. Behind the entries: restart offsets (u32 LE
//! each) and their count (u32 LE). Stored: `payload · compression u8 · XXH3-64 LE` of all before
//! it, seeded with the block's offset in the file.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Damage;
use crate::entry::Entry;
use crate::varint;

/// Every so many entries one is stored with its whole key.
const RESTART_ENTRIES: usize = 16;

const STORED_PLAIN: u8 = 0;
const STORED_LZ4: u8 = 1;

/// The entry's kind is in the two low bits of its flags; the others are 0 in format 1.
const KIND_PUT: u8 = 0;
const KIND_DELETE: u8 = 1;
const KIND_APPEND: u8 = 2;

/// Collects entries, in key order, into a block.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    since_restart: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    pub(super) fn add(&mut self, key: &[u8], entry: &Entry) {
        let mut shared = 0;
        if self.restarts.is_empty() || self.since_restart == RESTART_ENTRIES {
            self.restarts.push(length(self.bytes.len()));
            self.since_restart = 0;
        } else {
            shared = shared_prefix(&self.last_key, key);
        }
        self.since_restart += 1;
        let content = entry.content();
        varint::put(&mut self.bytes, shared as u64);
        varint::put(&mut self.bytes, (key.len() - shared) as u64);
        self.bytes.push(match entry {
            Entry::Put(_) => KIND_PUT,
            Entry::Delete => KIND_DELETE,
            Entry::Append(_) => KIND_APPEND,
        });
        varint::put(&mut self.bytes, content.len() as u64);
        self.bytes.extend_from_slice(&key[shared..]);
        self.bytes.extend_from_slice(content);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.restarts.is_empty()
    }

    /// Uncompressed size so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len()
    }

    pub(super) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// The stored form of the block, for `offset` in the file; the builder is empty again.
    pub(super) fn finish(&mut self, offset: u64) -> Bytes {
        for restart in &self.restarts {
            self.bytes.extend_from_slice(&restart.to_le_bytes());
        }
        self.bytes.extend_from_slice(&length(self.restarts.len()).to_le_bytes());
        let packed = lz4_flex::block::compress_prepend_size(&self.bytes);
        // Less than an eighth saved does not pay for unpacking.
        let helps = packed.len() < self.bytes.len() - self.bytes.len() / 8;
        let mut stored = if helps { packed } else { self.bytes.clone() };
        stored.push(if helps { STORED_LZ4 } else { STORED_PLAIN });
        let checksum = xxh3_64_with_seed(&stored, offset);
        stored.extend_from_slice(&checksum.to_le_bytes());
        self.bytes.clear();
        self.restarts.clear();
        self.last_key.clear();
        stored.into()
    }
}

/// A checked, unpacked data block.
#[derive(Debug)]
pub(crate) struct Block {
    /// Where the block lies in its file, for messages.
    offset: u64,
    bytes: Bytes,
    entries_end: usize,
    restart_count: usize,
}

impl Block {
    /// Checks and unpacks what is stored at `offset`.
    pub(crate) fn decode(stored: &Bytes, offset: u64) -> Result<Self, Damage> {
        let cut = || Damage::at(offset, "a data block", format!("{} bytes", stored.len()));
        let checked = stored.len().checked_sub(8).ok_or_else(cut)?;
        let expected = stored[checked..].first_chunk().map_or(0, |sum| u64::from_le_bytes(*sum));
        let found = xxh3_64_with_seed(&stored[..checked], offset);
        if expected != found {
            return Err(Damage::checksum(offset, expected, found));
        }
        let payload = stored.slice(..checked.checked_sub(1).ok_or_else(cut)?);
        let bytes = match stored[checked - 1] {
            // Copied: a slice would keep the whole range alive that was read around it.
            STORED_PLAIN => Bytes::copy_from_slice(&payload),
            STORED_LZ4 => unpack(&payload, offset)?.into(),
            other => return Err(Damage::at(offset, "a known compression", other.to_string())),
        };
        Self::parse(bytes, offset)
    }

    fn parse(bytes: Bytes, offset: u64) -> Result<Self, Damage> {
        let bad = || Damage::at(offset, "restart points", "none that fit");
        let count_at = bytes.len().checked_sub(4).ok_or_else(bad)?;
        let restart_count = read_u32(&bytes, count_at).ok_or_else(bad)?;
        let restart_bytes = restart_count.checked_mul(4).ok_or_else(bad)?;
        let entries_end = count_at.checked_sub(restart_bytes).ok_or_else(bad)?;
        if restart_count == 0 {
            return Err(bad());
        }
        Ok(Self { offset, bytes, entries_end, restart_count })
    }

    /// Memory that the block holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    /// What the block holds for `key`.
    pub(crate) fn get(self: &Arc<Self>, key: &[u8]) -> Result<Option<Entry>, Damage> {
        let mut cursor = BlockCursor::new(Arc::clone(self));
        Ok((cursor.seek(key)? && cursor.key() == key).then(|| cursor.entry()))
    }

    fn restart(&self, index: usize) -> Result<usize, Damage> {
        let at = read_u32(&self.bytes, self.entries_end + 4 * index);
        at.filter(|at| *at < self.entries_end).ok_or_else(|| self.damage("a restart point"))
    }

    fn damage(&self, expected: &str) -> Damage {
        Damage::at(self.offset, expected, "bytes that are none")
    }
}

/// Walks the entries of a block in key order.
#[derive(Debug)]
pub(crate) struct BlockCursor {
    block: Arc<Block>,
    next: usize,
    key: Vec<u8>,
    kind: u8,
    content: (usize, usize),
}

/// One entry's place: sizes, and where its key suffix and content begin.
struct Header {
    shared: usize,
    suffix: (usize, usize),
    kind: u8,
    content: (usize, usize),
}

impl BlockCursor {
    /// Before the first entry.
    pub(crate) fn new(block: Arc<Block>) -> Self {
        Self { block, next: 0, key: Vec::new(), kind: KIND_DELETE, content: (0, 0) }
    }

    /// Goes to the next entry; false at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, Damage> {
        if self.next >= self.block.entries_end {
            return Ok(false);
        }
        let header = self.header(self.next)?;
        if header.shared > self.key.len() {
            return Err(self.block.damage("a prefix shared with the key before"));
        }
        self.key.truncate(header.shared);
        self.key.extend_from_slice(&self.block.bytes[header.suffix.0..header.suffix.1]);
        self.kind = header.kind;
        self.content = header.content;
        self.next = header.content.1;
        Ok(true)
    }

    /// Goes to the first entry at or after `key`; false if there is none.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<bool, Damage> {
        let (mut low, mut high) = (0, self.block.restart_count);
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            let header = self.header(self.block.restart(middle)?)?;
            match self.block.bytes[header.suffix.0..header.suffix.1].cmp(key) {
                Ordering::Greater => high = middle,
                Ordering::Less | Ordering::Equal => low = middle,
            }
        }
        self.next = self.block.restart(low)?;
        self.key.clear();
        while self.advance()? {
            if self.key[..] >= *key {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The key of the current entry.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The current entry; shares the block's memory.
    pub(crate) fn entry(&self) -> Entry {
        let content = self.block.bytes.slice(self.content.0..self.content.1);
        match self.kind {
            KIND_PUT => Entry::Put(content),
            KIND_APPEND => Entry::Append(content),
            _ => Entry::Delete,
        }
    }

    fn header(&self, at: usize) -> Result<Header, Damage> {
        let block = &self.block;
        let read = || {
            let entries = block.bytes.get(..block.entries_end)?;
            let (shared, rest) = varint::split(entries.get(at..)?)?;
            let (unshared, rest) = varint::split(rest)?;
            let (kind, rest) = rest.split_first()?;
            let (content, rest) = varint::split(rest)?;
            let suffix_at = entries.len() - rest.len();
            let suffix_end = suffix_at.checked_add(usize::try_from(unshared).ok()?)?;
            let content_end = suffix_end.checked_add(usize::try_from(content).ok()?)?;
            (content_end <= entries.len() && *kind <= KIND_APPEND).then_some(Header {
                shared: usize::try_from(shared).ok()?,
                suffix: (suffix_at, suffix_end),
                kind: *kind,
                content: (suffix_end, content_end),
            })
        };
        read().ok_or_else(|| block.damage("an entry"))
    }
}

fn unpack(payload: &[u8], offset: u64) -> Result<Vec<u8>, Damage> {
    let bad = |found: String| Damage::at(offset, "an lz4 block", found);
    // lz4 never shrinks further than this: a larger size would only take memory.
    let most = payload.len().saturating_mul(256);
    match read_u32(payload, 0) {
        Some(bytes) if bytes <= most => lz4_flex::block::decompress_size_prepended(payload)
            .map_err(|error| bad(error.to_string())),
        bytes => Err(bad(format!("one of {bytes:?} bytes"))),
    }
}

fn shared_prefix(one: &[u8], two: &[u8]) -> usize {
    one.iter().zip(two).take_while(|(one, two)| one == two).count()
}

fn read_u32(bytes: &[u8], at: usize) -> Option<usize> {
    let found = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*found)).ok()
}

/// A length or offset within one block.
fn length(value: usize) -> u32 {
    u32::try_from(value).expect("a block with its one large entry stays below 4 GiB")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(count: u32) -> Vec<(Vec<u8>, Entry)> {
        let entry = |number: u32| {
            let content = Bytes::from(vec![(number & 0xff) as u8; (number % 40) as usize]);
            let entry = match number % 3 {
                0 => Entry::Put(content),
                1 => Entry::Append(content),
                _ => Entry::Delete,
            };
            (format!("key-{:06}", number * 2).into_bytes(), entry)
        };
        (0..count).map(entry).collect()
    }

    fn block(entries: &[(Vec<u8>, Entry)]) -> Arc<Block> {
        let mut builder = BlockBuilder::default();
        entries.iter().for_each(|(key, entry)| builder.add(key, entry));
        let stored = builder.finish(77);
        assert!(builder.is_empty());
        Arc::new(Block::decode(&stored, 77).unwrap())
    }

    #[test]
    fn every_entry_is_found_and_nothing_between() {
        for count in [1, 15, 16, 17, 200] {
            let entries = entries(count);
            let block = block(&entries);
            for (number, (key, entry)) in (0..).zip(&entries) {
                assert_eq!(block.get(key).unwrap().as_ref(), Some(entry));
                let between = format!("key-{:06}", number * 2 + 1);
                assert_eq!(block.get(between.as_bytes()).unwrap(), None);
            }
            assert_eq!(block.get(b"a").unwrap(), None);
            assert_eq!(block.get(b"z").unwrap(), None);
        }
    }

    #[test]
    fn walking_gives_all_in_order() {
        let entries = entries(100);
        let mut cursor = BlockCursor::new(block(&entries));
        for (key, entry) in &entries {
            assert!(cursor.advance().unwrap());
            assert_eq!((cursor.key(), &cursor.entry()), (&key[..], entry));
        }
        assert!(!cursor.advance().unwrap());
    }

    #[test]
    fn a_block_knows_its_offset() {
        let mut builder = BlockBuilder::default();
        builder.add(b"k", &Entry::Delete);
        let stored = builder.finish(0);
        assert!(matches!(Block::decode(&stored, 8), Err(Damage::Damaged { offset: 8, .. })));
    }

    #[test]
    fn compression_is_used_where_it_helps() {
        let stored = |content: Vec<u8>| {
            let mut builder = BlockBuilder::default();
            builder.add(b"k", &Entry::Put(content.into()));
            builder.finish(0)
        };
        assert!(stored(vec![7; 1000]).len() < 100);
        let random = (0..1000u64).map(|n| (xxh3_64_with_seed(b"", n) & 0xff) as u8).collect();
        let plain = stored(random);
        assert_eq!(plain[plain.len() - 9], STORED_PLAIN);
    }

    #[test]
    fn bytes_that_are_no_block_are_refused_behind_a_right_checksum() {
        for payload in [&b""[..], b"\0", b"\x05\0\0\0", b"\0\xff\0\0\0\0\x01\0\0\0", b"\0\0\0\0"] {
            let mut stored = payload.to_vec();
            stored.push(STORED_PLAIN);
            let checksum = xxh3_64_with_seed(&stored, 0);
            stored.extend_from_slice(&checksum.to_le_bytes());
            let block = Block::decode(&stored.into(), 0).map(Arc::new);
            assert!(block.and_then(|block| block.get(b"k")).is_err(), "{payload:?}");
        }
    }

    proptest! {
        /// Behind a right checksum any bytes may stand: they are refused or walked, no panic.
        #[test]
        fn any_bytes_are_refused_or_walked(
            payload in proptest::collection::vec(prop_oneof![Just(0u8), 0..20u8, any::<u8>()], 0..80),
            restarts in 0..4u8,
            compression in 0..3u8,
        ) {
            let mut stored = payload;
            stored.extend([restarts, 0, 0, 0, compression]);
            let checksum = xxh3_64_with_seed(&stored, 0);
            stored.extend_from_slice(&checksum.to_le_bytes());
            if let Ok(block) = Block::decode(&stored.into(), 0).map(Arc::new) {
                let mut cursor = BlockCursor::new(Arc::clone(&block));
                while let Ok(true) = cursor.advance() {
                    let key = cursor.key().to_vec();
                    drop((cursor.entry(), block.get(&key)));
                }
            }
        }
    }
}
