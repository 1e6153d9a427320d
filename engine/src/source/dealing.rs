//! Which splits a subtask reads, from where, and how the positions of all subtasks become one.
//!
//! Pure. Split `i` belongs to subtask `i mod width`, which reads its splits in order, one at a
//! time. At a checkpoint every subtask tells its own positions ([`SourceTaskState::positions`]) and
//! the coordinator makes one of all ([`merge`]), from which any width can go on.
//!
//! What must stay true: merged positions name every row that was read before the barrier and none
//! that was read after it, and the greatest event time of each split separately until all splits
//! before it are done, because the watermark moves along the completed prefix alone.

use std::collections::BTreeMap;

use weir_runtime::sim::planted::{Planted, planted};

use crate::protocol::{SourcePositions, SplitPosition, SplitProgress};
use crate::source::generated::Blocks;

/// The splits of a source: how many, and the event times that follow from their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splits {
    count: Option<u64>,
    blocks: Option<Blocks>,
}

impl Splits {
    /// `count` splits that are listed in the source's plan.
    pub const fn listed(count: u64) -> Self {
        Self { count: Some(count), blocks: None }
    }

    /// The blocks of a generated source.
    pub fn generated(blocks: Blocks) -> Self {
        Self { count: blocks.count(), blocks: Some(blocks) }
    }

    /// How many there are; none: without end.
    pub const fn count(&self) -> Option<u64> {
        self.count
    }

    /// So many of so many events are rows of this source.
    pub(crate) fn share(&self) -> (u64, u64) {
        self.blocks.map_or((1, 1), |blocks| blocks.share())
    }

    fn exists(&self, split: u64) -> bool {
        self.count.is_none_or(|count| split < count)
    }

    /// The position of a done split that needs not be remembered, if it is that of a function.
    fn done_by_number(&self, split: u64) -> Option<SplitPosition> {
        let blocks = self.blocks?;
        let max_time_ms = blocks.max_time_ms(split);
        Some(SplitPosition {
            split,
            position: blocks.rows(split),
            max_time_ms: max_time_ms.unwrap_or(0),
            has_time: max_time_ms.is_some(),
            done: true,
        })
    }
}

/// What one subtask of a source has read. Owned by the subtask's task.
#[derive(Clone, Debug)]
pub struct SourceTaskState {
    step: String,
    splits: Splits,
    width: u64,
    restored: SourcePositions,
    /// All splits of this subtask below it are done; the one to be read.
    frontier: u64,
    /// Own splits that were begun; without the done ones whose position follows from the number.
    begun: BTreeMap<u64, SplitPosition>,
    /// Changed since the last progress.
    changed: BTreeMap<u64, SplitPosition>,
    greeted: bool,
}

/// The split to read, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFrom {
    /// Number of the split.
    pub split: u64,
    /// Position in it.
    pub position: u64,
}

impl SourceTaskState {
    /// Subtask `subtask` of `width` goes on from `restored` (at a fresh start the default).
    pub fn new(
        step: &str,
        splits: Splits,
        subtask: u32,
        width: u32,
        restored: &SourcePositions,
    ) -> Self {
        let (subtask, width) = (u64::from(subtask), u64::from(width.max(1)));
        let first = restored.frontier + (subtask + width - restored.frontier % width) % width;
        let own = restored
            .splits
            .iter()
            .filter(|begun| begun.split % width == subtask && begun.split >= restored.frontier)
            .filter(|begun| !planted(Planted::SplitReadAnew) || begun.split == first);
        let begun: BTreeMap<_, _> = own.map(|begun| (begun.split, *begun)).collect();
        let mut state = Self {
            step: step.to_owned(),
            splits,
            width,
            restored: SourcePositions { splits: Vec::new(), ..restored.clone() },
            frontier: first,
            changed: begun.clone(),
            begun,
            greeted: false,
        };
        state.pass_done();
        state
    }

    /// The split to read next and the position in it; `None` when all of this subtask are done.
    pub fn current(&self) -> Option<ReadFrom> {
        let position = self.begun.get(&self.frontier).map_or(0, |begun| begun.position);
        self.splits.exists(self.frontier).then_some(ReadFrom { split: self.frontier, position })
    }

    /// Rows of the current split were read: up to `position`, the latest of them at `max_time_ms`.
    pub fn advance(&mut self, position: u64, max_time_ms: Option<i64>) {
        let split = self.frontier;
        let begun =
            self.begun.entry(split).or_insert(SplitPosition { split, ..Default::default() });
        begun.position = position;
        if let Some(time_ms) = max_time_ms {
            begun.max_time_ms =
                if begun.has_time { begun.max_time_ms.max(time_ms) } else { time_ms };
            begun.has_time = true;
        }
        self.changed.insert(split, *begun);
    }

    /// The current split has no more rows.
    pub fn finish(&mut self) {
        let split = self.frontier;
        let begun =
            self.begun.entry(split).or_insert(SplitPosition { split, ..Default::default() });
        begun.done = true;
        self.changed.insert(split, *begun);
        self.pass_done();
    }

    fn pass_done(&mut self) {
        while self.begun.get(&self.frontier).is_some_and(|begun| begun.done) {
            if self.splits.blocks.is_some() {
                self.begun.remove(&self.frontier);
            }
            self.frontier += self.width;
        }
    }

    /// What this subtask has read, for its acknowledgement of a checkpoint. `frontier` means here:
    /// all splits *of this subtask* below it are done.
    pub fn positions(&self) -> SourcePositions {
        SourcePositions {
            step: self.step.clone(),
            frontier: self.frontier,
            frontier_time_ms: 0,
            has_frontier_time: false,
            splits: self.begun.values().copied().collect(),
        }
    }

    /// What downstream has not been told yet; the first time always something.
    pub fn progress(&mut self) -> Option<SplitProgress> {
        if self.greeted && self.changed.is_empty() {
            return None;
        }
        self.greeted = true;
        Some(SplitProgress {
            frontier: self.restored.frontier,
            frontier_time_ms: self.restored.frontier_time_ms,
            has_frontier_time: self.restored.has_frontier_time,
            splits: std::mem::take(&mut self.changed).into_values().collect(),
            all_dealt: self.splits.count.is_some(),
            split_count: self.splits.count.unwrap_or(0),
        })
    }
}

/// The positions of the whole source at a checkpoint.
///
/// `previous` is what the generation was restored from or any later completed checkpoint of it (at
/// a fresh start the default); `acks[i]` are the positions of subtask `i` of the same checkpoint.
pub fn merge(
    step: &str,
    splits: &Splits,
    previous: &SourcePositions,
    acks: &[SourcePositions],
) -> SourcePositions {
    let mut known: BTreeMap<u64, SplitPosition> =
        previous.splits.iter().map(|begun| (begun.split, *begun)).collect();
    let width = acks.len().max(1) as u64;
    for (subtask, ack) in (0..).zip(acks) {
        // Done splits that the subtask did not list follow from their numbers.
        let first = previous.frontier + (subtask + width - previous.frontier % width) % width;
        let done = (first..ack.frontier).step_by(usize::try_from(width).unwrap_or(usize::MAX));
        known.extend(done.filter_map(|split| Some((split, splits.done_by_number(split)?))));
        known.extend(ack.splits.iter().map(|begun| (begun.split, *begun)));
    }
    let mut merged =
        SourcePositions { step: step.to_owned(), splits: Vec::new(), ..previous.clone() };
    while let Some(done) = known.get(&merged.frontier).filter(|begun| begun.done) {
        if done.has_time {
            let before = if merged.has_frontier_time { merged.frontier_time_ms } else { i64::MIN };
            merged.frontier_time_ms = before.max(done.max_time_ms);
            merged.has_frontier_time = true;
        }
        merged.frontier += 1;
    }
    merged.splits = known.split_off(&merged.frontier).into_values().collect();
    merged
}

#[cfg(test)]
mod tests;
