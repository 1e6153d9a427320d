//! Writes a table file from entries in key order.

use bytes::Bytes;

use super::block::BlockBuilder;
use super::filter;
use super::tail::TailBuilder;
use crate::entry::Entry;
use crate::key;
use crate::version::TableMeta;

/// Collects entries, each key once and in order, into a table file in memory.
#[derive(Debug)]
pub(crate) struct TableWriter {
    block_bytes: usize,
    block: BlockBuilder,
    stored: Vec<Bytes>,
    data_bytes: u64,
    tail: TailBuilder,
    first_key: Bytes,
    last_key: Vec<u8>,
}

/// A table file ready to be stored.
#[derive(Clone, Debug)]
pub(crate) struct FinishedTable {
    pub(crate) meta: TableMeta,
    /// The object's bytes, in parts.
    pub(crate) parts: Vec<Bytes>,
}

impl TableWriter {
    /// An empty file with data blocks of about `block_bytes`, uncompressed.
    pub(crate) fn new(block_bytes: usize) -> Self {
        Self {
            block_bytes,
            block: BlockBuilder::default(),
            stored: Vec::new(),
            data_bytes: 0,
            tail: TailBuilder::default(),
            first_key: Bytes::new(),
            last_key: Vec::new(),
        }
    }

    /// Adds an entry; its key must be after all others.
    pub(crate) fn add(&mut self, key: &[u8], entry: &Entry) {
        debug_assert!(self.is_empty() || key > &self.last_key[..], "keys come in order");
        if self.is_empty() {
            self.first_key = Bytes::copy_from_slice(key);
        }
        self.block.add(key, entry);
        self.tail.hashes.push(filter::hash_of(key));
        self.tail.count(key::group_of(key).0, key.len() + entry.content().len());
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        if self.block.bytes() >= self.block_bytes {
            self.close_block();
        }
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.tail.hashes.is_empty()
    }

    /// Whether the file should be closed before `key` is added: large, at a border of key groups;
    /// twice as large, anywhere.
    pub(crate) fn is_full(&self, key: &[u8], table_bytes: usize) -> bool {
        let bytes = self.data_bytes + self.block.bytes() as u64;
        let limit = table_bytes as u64;
        let at_border = || key::group_of(key) != key::group_of(&self.last_key);
        bytes >= limit && (bytes >= 2 * limit || at_border())
    }

    /// The file, under this name. It must hold an entry.
    pub(crate) fn finish(mut self, name: String) -> FinishedTable {
        self.close_block();
        let entries = self.tail.hashes.len() as u64;
        let tail = self.tail.finish(self.data_bytes);
        let tail_bytes = u32::try_from(tail.len()).expect("a tail stays below 4 GiB");
        let meta = TableMeta {
            name,
            bytes: self.data_bytes + u64::from(tail_bytes),
            entries,
            tail_bytes,
            first_key: self.first_key,
            last_key: self.last_key.into(),
        };
        self.stored.push(tail);
        FinishedTable { meta, parts: self.stored }
    }

    fn close_block(&mut self) {
        if self.block.is_empty() {
            return;
        }
        let last_key = self.block.last_key().to_vec();
        let stored = self.block.finish(self.data_bytes);
        self.tail.block(&last_key, stored.len());
        self.data_bytes += stored.len() as u64;
        self.stored.push(stored);
    }
}
