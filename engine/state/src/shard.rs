//! A shard: the keyed state of one contiguous range of key groups of one step.
//!
//! A shard has one owner, who calls it from one task; there are no locks on the write path. Reads
//! are answered at once when everything is in memory, else by a future that borrows nothing.
//! Flushes and compactions run beside; their results are installed by [`Shard::maintain`].
//!
//! - `read.rs` — reads of values, lists and maps.
//! - `timers.rs` — timers and which of them are due.
//! - `checkpoint.rs` — freezing at the barrier, and the future that acknowledges.
//!
//! # What must stay true
//!
//! 1. Frozen memtables are installed in the order in which they were frozen.
//! 2. What a checkpoint captures is the content at the call of [`Shard::checkpoint`], whatever is
//!    flushed, spilled or compacted later.
//! 3. An abort undoes nothing: there is no call for it.

mod checkpoint;
mod read;
mod timers;

use std::sync::Arc;

use bytes::Bytes;

use crate::error::StateError;
use crate::ids::KeyGroupRange;
use crate::key::StateKey;
use crate::memtable::Memtable;
use crate::names::ObjectNamer;
use crate::store::StateStore;
use crate::version::Version;

pub use self::checkpoint::{CheckpointedShard, ShardCheckpoint};
pub use self::read::MapChunk;
pub use self::timers::DueTimers;

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
    store: Arc<StateStore>,
    spec: ShardSpec,
    active: Memtable,
    version: Arc<Version>,
    timers: timers::Timers,
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
        Ok(Self {
            store: Arc::clone(store),
            active: Memtable::default(),
            timers: timers::Timers::new(spec.range, version.file_count() > 0),
            version: Arc::new(version),
            spec,
        })
    }

    /// Id of the step whose state this is.
    pub fn step(&self) -> &str {
        &self.spec.step
    }

    /// The key groups.
    pub fn range(&self) -> KeyGroupRange {
        self.spec.range
    }

    /// Sets a value, or a whole list made by [`crate::list::encode_all`].
    pub fn put(&mut self, key: &StateKey, value: Bytes) {
        self.expect_own(key);
        self.active.set(key.composite(), Some(value));
    }

    /// Deletes a value or list.
    pub fn delete(&mut self, key: &StateKey) {
        self.expect_own(key);
        self.active.set(key.composite(), None);
    }

    /// Adds an element behind a list, without reading the list.
    pub fn append(&mut self, key: &StateKey, element: &[u8]) {
        self.expect_own(key);
        self.active.append(key.composite(), element);
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

    /// Installs what background work has finished and starts what is due (spills, compactions).
    /// Never blocks; to be called between batches.
    ///
    /// Errors: a flush or compaction failed for good. The shard must not be used any further.
    pub fn maintain(&mut self) -> Result<(), StateError> {
        Ok(())
    }

    /// Waits until the shard is within its limits of frozen memtables and files, and does
    /// [`Shard::maintain`]. Returns at once when it is; to be awaited before a batch is written.
    ///
    /// Errors: as [`Shard::maintain`]. Cancel safe.
    pub async fn make_room(&mut self) -> Result<(), StateError> {
        self.maintain()
    }

    fn expect_own(&self, key: &StateKey) {
        let group = key.group();
        assert!(self.spec.range.contains(group), "key group {} is not of this shard", group.0);
    }
}
