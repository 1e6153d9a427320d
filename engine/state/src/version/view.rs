//! A view: a table file, clipped to a range of key groups, at its place in a shard.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicBool};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::record::ViewRecord;
use crate::ids::KeyGroupRange;
use crate::key;
use crate::obsolete::Obsolete;

/// One table file, shared by all views, versions and reads that need it.
///
/// When the last of them goes and no record can ever have named the file, its name is handed to
/// the shard that wrote it, as obsolete.
#[derive(Debug)]
pub(crate) struct TableHandle {
    /// Object name below the incarnation's folder.
    pub(crate) name: String,
    /// XXH3-128 of the name: the file's identity in the cache.
    pub(crate) id: u128,
    /// Size of the whole object.
    pub(crate) bytes: u64,
    /// Entries in the whole object.
    pub(crate) entries: u64,
    /// Size of the tail, at the end of the object.
    pub(crate) tail_bytes: u32,
    /// A key not after the first one.
    pub(crate) first_key: Bytes,
    /// A key not before the last one.
    pub(crate) last_key: Bytes,
    /// Whether a record may name the file. Never goes back.
    named: AtomicBool,
    /// Where the name goes when nothing needs the file; absent for files of earlier generations.
    written_by: Option<Arc<Obsolete>>,
}

/// What a table file is, before it has a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableMeta {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) tail_bytes: u32,
    pub(crate) first_key: Bytes,
    pub(crate) last_key: Bytes,
}

impl TableHandle {
    /// The handle of a file that this shard wrote and no record names yet.
    pub(crate) fn written(meta: TableMeta, by: &Arc<Obsolete>) -> Arc<Self> {
        Arc::new(Self::of(meta, false, Some(Arc::clone(by))))
    }

    /// The handle of a file that a record names.
    pub(crate) fn recorded(meta: TableMeta) -> Arc<Self> {
        Arc::new(Self::of(meta, true, None))
    }

    fn of(meta: TableMeta, named: bool, written_by: Option<Arc<Obsolete>>) -> Self {
        Self {
            id: xxh3_128(meta.name.as_bytes()),
            name: meta.name,
            bytes: meta.bytes,
            entries: meta.entries,
            tail_bytes: meta.tail_bytes,
            first_key: meta.first_key,
            last_key: meta.last_key,
            named: AtomicBool::new(named),
            written_by,
        }
    }

    /// Says that a record may name the file from now on: it is the coordinator's to delete.
    pub(crate) fn set_named(&self) {
        self.named.store(true, atomic::Ordering::Release);
    }
}

impl Drop for TableHandle {
    fn drop(&mut self) {
        if let Some(shard) = &self.written_by
            && !*self.named.get_mut()
        {
            shard.add(std::mem::take(&mut self.name));
        }
    }
}

/// A table file, clipped to a range of key groups, at its place in a shard.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) table: Arc<TableHandle>,
    pub(crate) range: KeyGroupRange,
    pub(crate) level: u32,
    pub(crate) seq: u64,
    /// Stored bytes of the view's key groups; an estimate when the file is clipped.
    pub(crate) bytes: u64,
    /// A key not after the view's first one.
    pub(crate) first: Bytes,
    /// A key not before the view's last one.
    pub(crate) last: Bytes,
}

impl View {
    /// The whole of a table file.
    pub(crate) fn whole(table: Arc<TableHandle>, level: u32, seq: u64) -> Self {
        let start = key::group_of(&table.first_key).0;
        let end = key::group_of(&table.last_key).0 + 1;
        let (first, last) = (table.first_key.clone(), table.last_key.clone());
        let bytes = table.bytes;
        Self { table, range: KeyGroupRange { start, end }, level, seq, bytes, first, last }
    }

    /// The part of the view inside `range`; `None` if there is none.
    pub(crate) fn clip(&self, range: KeyGroupRange) -> Option<Self> {
        let clipped = self.range.intersect(range)?;
        let bytes = self.bytes * u64::from(clipped.len()) / u64::from(self.range.len());
        Some(self.with_range(clipped, bytes))
    }

    /// This view and `next` as one, if both are of one file and touch.
    pub(crate) fn joined(&self, next: &Self) -> Option<Self> {
        let one_file = self.table.id == next.table.id
            && (self.level, self.seq) == (next.level, next.seq)
            && self.range.end == next.range.start;
        let range = KeyGroupRange { start: self.range.start, end: next.range.end };
        one_file.then(|| self.with_range(range, self.bytes + next.bytes))
    }

    fn with_range(&self, range: KeyGroupRange, bytes: u64) -> Self {
        let (start, end) = key::range_keys(range);
        let first = start.max(self.table.first_key.clone());
        let last = end.min(self.table.last_key.clone());
        Self { table: Arc::clone(&self.table), range, bytes, first, last, ..*self }
    }

    /// The same view in another level.
    pub(crate) fn at_level(&self, level: u32) -> Self {
        Self { level, ..self.clone() }
    }

    /// Whether `key` may lie in the view.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.range.contains(key::group_of(key)) && self.first <= key && key <= &self.last[..]
    }

    /// Whether no key can lie in both.
    pub(crate) fn is_disjoint(&self, other: &Self) -> bool {
        self.range.intersect(other.range).is_none()
            || self.last < other.first
            || other.last < self.first
    }

    /// Whether both are the same stretch of the same file, wherever in the shard.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.table.id == other.table.id && self.range == other.range
    }

    /// The order of views in a version.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let by_age = if self.level == 0 { other.seq.cmp(&self.seq) } else { Ordering::Equal };
        let by_key = || self.first.cmp(&other.first).then(self.range.cmp(&other.range));
        self.level.cmp(&other.level).then(by_age).then_with(by_key)
    }

    pub(super) fn from_record(record: &ViewRecord) -> Result<Self, String> {
        let range = range_of(record.group_start, record.group_end)?;
        let table = TableHandle::recorded(TableMeta {
            name: record.name.clone(),
            bytes: record.bytes,
            entries: record.entries,
            tail_bytes: record.tail_bytes,
            first_key: record.first_key.clone(),
            last_key: record.last_key.clone(),
        });
        let view = Self::whole(table, record.level, record.seq);
        Ok(view.with_range(range, record.view_bytes))
    }

    pub(crate) fn to_record(&self) -> ViewRecord {
        ViewRecord {
            name: self.table.name.clone(),
            bytes: self.table.bytes,
            entries: self.table.entries,
            level: self.level,
            seq: self.seq,
            group_start: u32::from(self.range.start),
            group_end: u32::from(self.range.end),
            tail_bytes: self.table.tail_bytes,
            first_key: self.table.first_key.clone(),
            last_key: self.table.last_key.clone(),
            view_bytes: self.bytes,
        }
    }
}

/// A range of key groups as records carry it.
pub(super) fn range_of(start: u32, end: u32) -> Result<KeyGroupRange, String> {
    match (u16::try_from(start), u16::try_from(end)) {
        (Ok(start), Ok(end)) if start < end => Ok(KeyGroupRange { start, end }),
        _ => Err(format!("{start}..{end} is no range of key groups")),
    }
}
