//! A shard: the keyed state of one contiguous range of key groups of one step.
//!
//! A shard has one owner, who calls it from one task; there are no locks on the write path. Reads
//! are answered at once when everything is in memory, else by a future that borrows nothing.
//! Flushes and compactions run beside; their results are installed by [`Shard::maintain`].
//!
//! - `read.rs` — reads of values, lists and maps.
//! - `timers.rs` — timers and which of them are due.
//! - `checkpoint.rs` — the cut at the barrier, and the future that acknowledges.
//! - `flush.rs` — freezing the memtable, and flushing the frozen one beside processing.
//! - `resident.rs` — rows that stay in memory after their flush.
//! - `maintain.rs` — installing what background work finished, and back-pressure.
//!
//! # What must stay true
//!
//! 1. Frozen memtables are installed in the order in which they were frozen.
//! 2. What a checkpoint captures is the content at the call of [`Shard::checkpoint`], whatever is
//!    flushed, spilled or compacted later.
//! 3. An abort undoes nothing: there is no call for it.

mod background;
mod checkpoint;
mod flush;
mod maintain;
mod read;
mod resident;
mod timers;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::StateError;
use crate::ids::{KeyGroup, KeyGroupRange};
use crate::key::StateKey;
use crate::memtable::Memtable;
use crate::names::ObjectNamer;
use crate::obsolete::Obsolete;
use crate::output::{FileCut, Naming, Writer};
use crate::store::StateStore;
use crate::version::Version;

use self::resident::Resident;

pub use self::checkpoint::{CheckpointedShard, ShardCheckpoint};
pub use self::read::{MapChunk, ShardScan};
pub use self::timers::DueTimers;
pub use crate::compaction::FILES_MAX;

/// Frozen memtables that a shard keeps before [`Shard::make_room`] waits.
pub const FROZEN_MAX: usize = 3;

/// What a shard is, beside its content.
#[derive(Clone, Debug)]
pub struct ShardSpec {
    /// Id of the step whose state this is.
    pub step: String,
    /// The key groups.
    pub range: KeyGroupRange,
    /// Names for the objects that it writes.
    pub namer: ObjectNamer,
}

/// The keyed state of one contiguous range of key groups of one step.
///
/// Every key given to a shard must be of its key groups; another one is the caller's mistake and
/// panics. The caller keeps order per key: while a read of a key is pending it must not write it.
#[derive(Debug)]
pub struct Shard {
    range: KeyGroupRange,
    writer: Writer,
    active: Memtable,
    /// Oldest first.
    frozen: VecDeque<flush::Frozen>,
    /// Rows that were flushed and stay in memory.
    resident: Resident,
    /// The content without the memtables.
    version: Arc<Version>,
    /// For the next memtable that is frozen.
    next_seq: u64,
    compaction: Option<maintain::Running>,
    /// Whether the version was found to need no compaction.
    is_compact: bool,
    timers: timers::Timers,
    /// Bytes of installed flushes that no checkpoint counted yet.
    spilled_bytes: u64,
}

impl Shard {
    /// Opens a shard with its content. Makes no request: what is needed is read when asked for.
    ///
    /// Errors: [`StateError::BadVersion`] when `version` is not of this step and these key groups.
    pub fn open(
        store: &Arc<StateStore>,
        spec: ShardSpec,
        version: Version,
    ) -> Result<Self, StateError> {
        if version.step() != spec.step || version.range() != spec.range {
            let (step, range) = (version.step(), version.range());
            let problem = format!("it is of key groups {range} of step {step}");
            return Err(StateError::BadVersion { step: spec.step, problem });
        }
        let resident = Resident::new(store);
        let settings = store.settings();
        let writer = Writer {
            store: Arc::clone(store),
            step: spec.step.into(),
            naming: Naming::Own(spec.namer),
            cut: FileCut { block_bytes: settings.block_bytes, table_bytes: settings.table_bytes },
            obsolete: Arc::new(Obsolete::default()),
        };
        Ok(Self {
            range: spec.range,
            writer,
            active: Memtable::default(),
            frozen: VecDeque::new(),
            resident,
            next_seq: version.next_seq(),
            timers: timers::Timers::new(spec.range, version.file_count() > 0),
            version: Arc::new(version),
            compaction: None,
            is_compact: false,
            spilled_bytes: 0,
        })
    }

    /// Id of the step whose state this is.
    pub fn step(&self) -> &str {
        &self.writer.step
    }

    /// The key groups.
    pub fn range(&self) -> KeyGroupRange {
        self.range
    }

    /// Sets a value, or a whole list made by [`crate::list::encode_all`].
    pub fn put(&mut self, key: &StateKey, value: impl AsRef<[u8]>) {
        self.expect_own(key);
        self.active.set(key, Some(value.as_ref()));
    }

    /// Deletes a value or list.
    pub fn delete(&mut self, key: &StateKey) {
        self.expect_own(key);
        self.active.set(key, None);
    }

    /// Adds an element behind a list, without reading the list.
    pub fn append(&mut self, key: &StateKey, element: &[u8]) {
        self.expect_own(key);
        self.active.append(key, element);
    }

    /// Sets one entry of a map.
    pub fn map_put(&mut self, key: &StateKey, map_key: &[u8], value: Bytes) {
        self.expect_own(key);
        self.active.set_sorted(key.map_entry(map_key), Some(value));
    }

    /// Deletes one entry of a map.
    pub fn map_delete(&mut self, key: &StateKey, map_key: &[u8]) {
        self.expect_own(key);
        self.active.set_sorted(key.map_entry(map_key), None);
    }

    /// How many files the shard has.
    pub fn file_count(&self) -> usize {
        self.version.file_count()
    }

    /// Bytes in memtables, frozen ones included.
    pub fn memtable_bytes(&self) -> usize {
        let frozen = self.frozen.iter().map(|frozen| frozen.memtable.bytes());
        self.active.bytes() + frozen.sum::<usize>()
    }

    /// All memtables, newest first.
    fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        let frozen = self.frozen.iter().rev().map(|frozen| &*frozen.memtable);
        std::iter::once(&self.active).chain(frozen)
    }

    fn expect_own(&self, key: &StateKey) {
        self.expect_own_group(key.group());
    }

    fn expect_own_group(&self, group: KeyGroup) {
        assert!(self.range.contains(group), "key group {} is not of {}", group.0, self.range);
    }
}
