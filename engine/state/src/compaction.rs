//! Compaction: merging table files, so that a shard stays few files deep.
//!
//! - `choose.rs` — what to merge next: a pure function of a version's metadata.
//! - `execute.rs` — the merge itself: streams blocks, writes new files.
//! - `order.rs` — a compaction as an order that another process can carry out, and its result.
//! - `elsewhere.rs` — from an order over its attempts to outputs that may be installed.
//!
//! docs/design/0016-remote-compaction.md says who carries out orders, and why that is safe.
//!
//! Level 0 is tiered: runs of like size are merged among themselves until together they are large
//! enough, against level 1, to pay for rewriting what they overlap there. Deeper levels are leveled.
//!
//! What must stay true: a compaction changes no answer. It drops a tombstone only when nothing
//! older overlaps; its result is installed only while all its inputs are live.

mod choose;
mod elsewhere;
mod execute;
mod order;

use crate::version::{LEVEL_MAX, View};

pub(crate) use self::choose::{choose, run_count};
pub(crate) use self::elsewhere::compact;
pub use self::elsewhere::{Compactor, NotDone};
pub use self::execute::{Merged, run};
pub use self::order::{BadOrder, CompactionOrder, CompactionResult, TASK_BYTES_MAX};

/// As many runs of like size are merged into one.
const TIER_RUNS: usize = 4;
/// Runs of level 0 at which some are merged, whatever their sizes.
const RUNS_MAX: usize = 12;
/// Runs of level 0 from which writers are slowed down, by a millisecond for each.
pub(crate) const RUNS_SLOW: usize = 16;
/// Runs of level 0 at which writers wait.
pub(crate) const RUNS_STOP: usize = 24;

/// A shard whose content fits into one table file has at most this many files, if its owner awaits
/// `make_room`: the runs of level 0, those flushed meanwhile, and one file a level.
pub const FILES_MAX: usize = RUNS_STOP + crate::shard::FROZEN_MAX + LEVEL_MAX as usize;

/// What is to be merged, and where the result goes.
#[derive(Clone, Debug)]
pub(crate) struct Compaction {
    /// In the version's order: newest first.
    pub(crate) inputs: Vec<View>,
    /// The level of the outputs.
    pub(crate) level: u32,
    /// The place of the outputs within level 0: the newest input's.
    pub(crate) seq: u64,
    /// Whether nothing older than the inputs overlaps them: tombstones can go.
    pub(crate) is_bottom: bool,
}

impl Compaction {
    /// The outputs, if moving the inputs to the level is all there is to do.
    pub(crate) fn moved(&self) -> Option<Vec<View>> {
        let from = self.inputs.first()?.level;
        let alike = |view: &View| view.level == from && view.seq == self.seq;
        (from != self.level && self.inputs.iter().all(alike))
            .then(|| self.inputs.iter().map(|view| view.at_level(self.level)).collect())
    }
}
