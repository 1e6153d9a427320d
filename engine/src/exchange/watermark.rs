//! Watermarks at the receiving end: pure, no channels, no clock.
//!
//! A watermark W says that no row with a time below W will come. [`SourceWatermark`] makes that of
//! a source out of the progress of all its splits; [`MinWatermark`] takes the least of several.
//!
//! # What must stay true
//!
//! 1. W never goes back.
//! 2. For every row not yet received, W is at most the watermark that a single reader of all
//!    splits in order would have before that row. So a row that is in time for a single reader is
//!    in time at any width.
//! 3. Once all splits are done, W is `i64::MAX`; before that it catches up with what the
//!    completed prefix of the splits allows.

use std::collections::BTreeMap;

use crate::protocol::{SplitPosition, SplitProgress};

/// Runs of splits done ahead of the frontier that are kept apart, for each source subtask. Beyond
/// it neighbours share the time of the later one, which delays the watermark by one split.
const AHEAD_RUNS_MAX: usize = 4096;

/// Before any row there is no watermark.
pub(crate) const NO_WATERMARK: i64 = i64::MIN;

/// The watermark of a source: the greatest time along the completed prefix of its splits and the
/// first unfinished one, minus the delay (pipeline.md, "Event time").
#[derive(Clone, Debug)]
pub struct SourceWatermark {
    delay_ms: i64,
    width: u64,
    /// The first split that is not done.
    frontier: u64,
    /// Greatest time in the splits below the frontier.
    prefix_time_ms: Option<i64>,
    /// Greatest time so far of splits that are begun and not done.
    begun: BTreeMap<u64, Option<i64>>,
    /// Splits done ahead of the frontier, by source subtask and first split.
    ahead: Vec<BTreeMap<u64, Run>>,
    /// Number of splits, once no more will come.
    split_count: Option<u64>,
    watermark_ms: i64,
}

/// Consecutive splits of one source subtask, all done.
#[derive(Clone, Copy, Debug)]
struct Run {
    last: u64,
    /// Greatest time in them; counts when the frontier has passed `last`.
    time_ms: Option<i64>,
}

impl SourceWatermark {
    /// Of a source read by `width` subtasks (split i by subtask i mod width).
    pub fn new(width: u32, delay_ms: i64) -> Self {
        Self {
            delay_ms,
            width: u64::from(width.max(1)),
            frontier: 0,
            prefix_time_ms: None,
            begun: BTreeMap::new(),
            ahead: vec![BTreeMap::new(); width.max(1) as usize],
            split_count: None,
            watermark_ms: NO_WATERMARK,
        }
    }

    /// The watermark; `i64::MIN` while there is none, `i64::MAX` when no row will come.
    pub fn current_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// Takes in a message of any channel; gives the watermark if that moved it.
    pub fn apply(&mut self, progress: &SplitProgress) -> Option<i64> {
        self.claim(progress);
        if progress.all_dealt {
            self.split_count = Some(progress.split_count);
        }
        for split in &progress.splits {
            self.split(split);
        }
        self.advance();
        let watermark_ms = self.compute();
        (watermark_ms > self.watermark_ms).then(|| {
            self.watermark_ms = watermark_ms;
            watermark_ms
        })
    }

    /// What was done when the generation began; the same in the first message of every channel.
    fn claim(&mut self, progress: &SplitProgress) {
        if progress.frontier < self.frontier {
            return;
        }
        self.frontier = progress.frontier;
        if progress.has_frontier_time {
            self.prefix_time_ms = self.prefix_time_ms.max(Some(progress.frontier_time_ms));
        }
        self.begun = self.begun.split_off(&self.frontier);
        for runs in &mut self.ahead {
            runs.retain(|_, run| run.last >= self.frontier);
        }
    }

    fn split(&mut self, split: &SplitPosition) {
        let number = split.split;
        let time_ms = split.has_time.then_some(split.max_time_ms);
        let runs = &mut self.ahead[owner(number, self.width)];
        let known = runs.range(..=number).next_back().is_some_and(|(_, run)| number <= run.last);
        if number < self.frontier || known {
            return;
        }
        if !split.done {
            let begun = self.begun.entry(number).or_default();
            *begun = (*begun).max(time_ms);
            return;
        }
        let time_ms = self.begun.remove(&number).flatten().max(time_ms);
        runs.insert(number, Run { last: number, time_ms });
        if runs.len() > AHEAD_RUNS_MAX {
            *runs = paired(runs, self.width);
        }
    }

    /// Moves the frontier over the splits that are done.
    fn advance(&mut self) {
        while self.split_count.is_none_or(|count| self.frontier < count) {
            let runs = &mut self.ahead[owner(self.frontier, self.width)];
            let Some(first) = runs.first_entry().filter(|first| *first.key() <= self.frontier)
            else {
                return;
            };
            if first.get().last == self.frontier {
                self.prefix_time_ms = self.prefix_time_ms.max(first.remove().time_ms);
            }
            self.frontier += 1;
        }
    }

    fn compute(&self) -> i64 {
        if self.split_count.is_some_and(|count| self.frontier >= count) {
            return i64::MAX;
        }
        let unfinished = self.begun.get(&self.frontier).copied().flatten();
        let time_ms = self.prefix_time_ms.max(unfinished);
        time_ms.map_or(NO_WATERMARK, |time_ms| time_ms.saturating_sub(self.delay_ms))
    }
}

fn owner(split: u64, width: u64) -> usize {
    // Below the width, which is a u32.
    (split % width) as usize
}

/// Half as many runs: each two neighbours become one with the time of both.
fn paired(runs: &BTreeMap<u64, Run>, width: u64) -> BTreeMap<u64, Run> {
    let mut paired = BTreeMap::new();
    let mut runs = runs.iter().map(|(first, run)| (*first, *run)).peekable();
    while let Some((first, mut run)) = runs.next() {
        if let Some((_, next)) = runs.next_if(|(next, _)| *next == run.last + width) {
            run = Run { last: next.last, time_ms: run.time_ms.max(next.time_ms) };
        }
        paired.insert(first, run);
    }
    paired
}

/// The least watermark of several inputs.
#[derive(Clone, Debug)]
pub struct MinWatermark {
    inputs: Vec<i64>,
    watermark_ms: i64,
}

impl MinWatermark {
    /// Of `inputs` inputs, none of which has a watermark yet.
    pub fn new(inputs: usize) -> Self {
        let watermark_ms = if inputs == 0 { i64::MAX } else { NO_WATERMARK };
        Self { inputs: vec![NO_WATERMARK; inputs], watermark_ms }
    }

    /// The least of all inputs; `i64::MIN` while one has none.
    pub fn current_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// Input `input` has reached `watermark_ms`; gives the least if that moved it. An input that
    /// goes back is ignored.
    pub fn advance(&mut self, input: usize, watermark_ms: i64) -> Option<i64> {
        let known = &mut self.inputs[input];
        *known = watermark_ms.max(*known);
        let least = self.inputs.iter().copied().min().unwrap_or(i64::MAX);
        (least > self.watermark_ms).then(|| {
            self.watermark_ms = least;
            least
        })
    }
}

#[cfg(test)]
mod tests;
