//! Split progress: what a source subtask tells everyone downstream, and how messages of it merge.
//!
//! A subtask speaks of its own splits only (split i is read by subtask i mod width), in the order
//! in which it sends rows; besides, its first message repeats the frontier that the generation
//! began with, which everyone knows. It never moves that frontier itself: that all rows of
//! another subtask's splits have arrived only the receiver can know.

use std::collections::BTreeMap;

use crate::protocol::{SourcePositions, SplitPosition, SplitProgress};

/// The progress of the splits that one source subtask reads: feeds its messages and its share of
/// a checkpoint.
#[derive(Clone, Debug)]
pub struct SplitTracker {
    step: String,
    frontier: u64,
    frontier_time_ms: Option<i64>,
    /// Begun splits at or above the frontier.
    splits: BTreeMap<u64, SplitPosition>,
    /// Those that changed since the last message.
    changed: BTreeMap<u64, SplitPosition>,
    /// Number of splits, when no more will come.
    split_count: Option<u64>,
    told: bool,
}

impl SplitTracker {
    /// The splits that subtask `subtask` of `width` reads, begun as `restored` says.
    /// `split_count`: how many there are, if no more will come.
    pub fn new(
        restored: &SourcePositions,
        subtask: u32,
        width: u32,
        split_count: Option<u64>,
    ) -> Self {
        let own = |split: &&SplitPosition| split.split % u64::from(width) == u64::from(subtask);
        let splits: BTreeMap<_, _> =
            restored.splits.iter().filter(own).map(|split| (split.split, *split)).collect();
        Self {
            step: restored.step.clone(),
            frontier: restored.frontier,
            frontier_time_ms: restored.has_frontier_time.then_some(restored.frontier_time_ms),
            changed: splits.clone(),
            splits,
            split_count,
            told: false,
        }
    }

    /// Rows of `split` were sent up to `position`; `max_time_ms` is the greatest time among them.
    pub fn read(&mut self, split: u64, position: u64, max_time_ms: Option<i64>) {
        self.update(split, |known| {
            known.position = position;
            if let Some(time) = max_time_ms {
                known.max_time_ms = if known.has_time { known.max_time_ms.max(time) } else { time };
                known.has_time = true;
            }
        });
    }

    /// All rows of `split` were sent.
    pub fn done(&mut self, split: u64) {
        self.update(split, |known| known.done = true);
    }

    /// Where to go on in `split`, and whether it is done.
    pub fn position(&self, split: u64) -> (u64, bool) {
        if split < self.frontier {
            return (0, true);
        }
        self.splits.get(&split).map_or((0, false), |known| (known.position, known.done))
    }

    /// What changed since the last call, if anything; the first time always something.
    pub fn message(&mut self) -> Option<SplitProgress> {
        if self.told && self.changed.is_empty() {
            return None;
        }
        self.told = true;
        Some(SplitProgress {
            frontier: self.frontier,
            frontier_time_ms: self.frontier_time_ms.unwrap_or_default(),
            has_frontier_time: self.frontier_time_ms.is_some(),
            splits: std::mem::take(&mut self.changed).into_values().collect(),
            all_dealt: self.split_count.is_some(),
            split_count: self.split_count.unwrap_or_default(),
        })
    }

    /// This subtask's share of a checkpoint's positions: its own splits, and the frontier that
    /// the generation began with.
    pub fn positions(&self) -> SourcePositions {
        SourcePositions {
            step: self.step.clone(),
            frontier: self.frontier,
            frontier_time_ms: self.frontier_time_ms.unwrap_or_default(),
            has_frontier_time: self.frontier_time_ms.is_some(),
            splits: self.splits.values().copied().collect(),
        }
    }

    fn update(&mut self, split: u64, change: impl FnOnce(&mut SplitPosition)) {
        let known =
            self.splits.entry(split).or_insert(SplitPosition { split, ..Default::default() });
        change(known);
        self.changed.insert(split, *known);
    }
}

/// Makes one message of two of the same sender, `later` sent after `earlier`.
pub(crate) fn merge(earlier: &mut SplitProgress, later: SplitProgress) {
    if later.frontier >= earlier.frontier {
        earlier.frontier = later.frontier;
        earlier.frontier_time_ms = later.frontier_time_ms;
        earlier.has_frontier_time = later.has_frontier_time;
    }
    earlier.all_dealt |= later.all_dealt;
    earlier.split_count = earlier.split_count.max(later.split_count);
    if let [split] = later.splits[..]
        && let Some(known) = earlier.splits.last_mut()
        && known.split == split.split
    {
        *known = split;
        return;
    }
    let mut splits: BTreeMap<u64, SplitPosition> =
        earlier.splits.iter().map(|split| (split.split, *split)).collect();
    splits.extend(later.splits.into_iter().map(|split| (split.split, split)));
    earlier.splits = splits.into_values().collect();
}
