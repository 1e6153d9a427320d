//! The watermark against a single reader that reads all splits in order.
//!
//! Method: random splits with random times are read by several subtasks in a random interleaving,
//! from random restored positions, each with the source's own `SourceTaskState`. After each message the watermark must be at most what the
//! single reader has before every row not yet read, never go back, and be MAX at the end.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::exchange::progress::merge;
use crate::protocol::SourcePositions;
use crate::source::dealing::{SourceTaskState, Splits};

const DELAY_MS: i64 = 10;

fn position(split: u64, max_time_ms: Option<i64>, done: bool) -> SplitPosition {
    SplitPosition {
        split,
        position: 0,
        max_time_ms: max_time_ms.unwrap_or_default(),
        has_time: max_time_ms.is_some(),
        done,
    }
}

fn message(splits: Vec<SplitPosition>, count: Option<u64>) -> SplitProgress {
    SplitProgress {
        splits,
        all_dealt: count.is_some(),
        split_count: count.unwrap_or_default(),
        ..Default::default()
    }
}

/// For each split and row, the watermark of a single reader just before that row.
fn single_reader(splits: &[Vec<i64>]) -> Vec<Vec<i64>> {
    let mut greatest: Option<i64> = None;
    let mut before = Vec::new();
    for split in splits {
        let mut rows = Vec::new();
        for time in split {
            rows.push(greatest.map_or(i64::MIN, |time| time - DELAY_MS));
            greatest = greatest.max(Some(*time));
        }
        before.push(rows);
    }
    before
}

/// Rows read of each split.
type Read = Vec<usize>;

fn restored(splits: &[Vec<i64>], read: &Read) -> SourcePositions {
    let done = |split: &usize| read[*split] == splits[*split].len();
    let frontier = (0..splits.len()).take_while(done).count();
    let time = |split: usize| splits[split][..read[split]].iter().copied().max();
    let prefix = (0..frontier).filter_map(time).max();
    let begun = (frontier..splits.len()).filter(|split| read[*split] > 0 || done(split));
    SourcePositions {
        step: "s".to_owned(),
        frontier: frontier as u64,
        frontier_time_ms: prefix.unwrap_or_default(),
        has_frontier_time: prefix.is_some(),
        splits: begun
            .map(|split| SplitPosition {
                position: read[split] as u64,
                ..position(split as u64, time(split), done(&split))
            })
            .collect(),
    }
}

/// One source subtask: reads its splits in order, a batch at a time, and says so.
struct Reader {
    state: SourceTaskState,
    waiting: Option<SplitProgress>,
}

impl Reader {
    fn new(splits: usize, subtask: u32, width: u32, start: &SourcePositions) -> Self {
        let splits = Splits::listed(splits as u64);
        let mut reader =
            Self { state: SourceTaskState::new("s", splits, subtask, width, start), waiting: None };
        reader.speak();
        reader
    }

    /// Reads up to `rows` rows; the message may wait and merge with the next one.
    fn step(&mut self, splits: &[Vec<i64>], read: &mut Read, rows: usize) {
        let Some(current) = self.state.current() else { return };
        let split = current.split as usize;
        let from = read[split];
        let to = splits[split].len().min(from + rows);
        read[split] = to;
        let time = splits[split][from..to].iter().copied().max();
        self.state.advance(to as u64, time);
        if to == splits[split].len() {
            self.state.finish();
        }
        self.speak();
    }

    fn speak(&mut self) {
        if let Some(later) = self.state.progress() {
            match &mut self.waiting {
                Some(waiting) => merge(waiting, later),
                none => *none = Some(later),
            }
        }
    }
}

proptest! {
    #[test]
    fn a_row_in_time_for_one_reader_is_in_time_for_many(
        splits in vec(vec(0..100_i64, 0..5), 0..12),
        width in 1..5_u32,
        old in vec(0..6_usize, 12),
        steps in vec((any::<prop::sample::Index>(), 1..4_usize, any::<bool>()), 0..150),
    ) {
        let mut read: Read = splits.iter().zip(&old).map(|(s, n)| (*n).min(s.len())).collect();
        let start = restored(&splits, &read);
        let before = single_reader(&splits);
        let mut readers: Vec<Reader> =
            (0..width).map(|subtask| Reader::new(splits.len(), subtask, width, &start)).collect();
        // What the receiver has got: the rows read when the last message was sent.
        let mut got = vec![read.clone(); width as usize];
        let mut watermark = SourceWatermark::new(width, DELAY_MS);
        let mut last = i64::MIN;
        let finish = (0..width as usize).cycle().take(width as usize * 40).map(|r| (r, 3, true));
        let chosen = steps.iter().map(|(r, rows, send)| (r.index(width as usize), *rows, *send));
        for (subtask, rows, send) in chosen.chain(finish) {
            let reader = &mut readers[subtask];
            reader.step(&splits, &mut read, rows);
            if !send {
                continue;
            }
            got[subtask].clone_from(&read);
            if let Some(progress) = reader.waiting.take() {
                watermark.apply(&progress);
            }
            let now = watermark.current_ms();
            prop_assert!(now >= last, "went back from {} to {}", last, now);
            last = now;
            for (split, rows) in before.iter().enumerate() {
                let arrived = got[split % width as usize][split];
                for row in &rows[arrived..] {
                    prop_assert!(now <= *row, "{} above {} in split {}", now, row, split);
                }
            }
        }
        prop_assert_eq!(last, i64::MAX);
    }

    #[test]
    fn the_least_of_inputs_never_goes_back(moves in vec((0..3_usize, -5..5_i64), 0..60)) {
        let mut least = MinWatermark::new(3);
        let mut model = [i64::MIN; 3];
        for (input, watermark) in moves {
            let before = least.current_ms();
            let moved = least.advance(input, watermark);
            model[input] = model[input].max(watermark);
            let now = *model.iter().min().unwrap();
            prop_assert_eq!(least.current_ms(), now);
            prop_assert_eq!(moved, (now > before).then_some(now));
        }
    }
}

#[test]
fn the_prefix_and_the_first_unfinished_split_count_and_no_other() {
    let mut watermark = SourceWatermark::new(2, DELAY_MS);
    assert_eq!(watermark.apply(&message(vec![position(1, Some(900), false)], Some(4))), None);
    assert_eq!(watermark.apply(&message(vec![position(0, Some(100), false)], Some(4))), Some(90));
    assert_eq!(watermark.apply(&message(vec![position(1, Some(950), true)], Some(4))), None);
    // Split 0 done: 1 is done already, 2 is not begun.
    assert_eq!(watermark.apply(&message(vec![position(0, Some(100), true)], Some(4))), Some(940));
    assert_eq!(watermark.apply(&message(vec![position(2, Some(20), false)], Some(4))), None);
    assert_eq!(watermark.apply(&message(vec![position(3, None, true)], Some(4))), None);
    let last = message(vec![position(2, Some(2000), true)], Some(4));
    assert_eq!(watermark.apply(&last), Some(i64::MAX));
}

#[test]
fn an_unbounded_source_has_no_end() {
    let mut watermark = SourceWatermark::new(1, 0);
    assert_eq!(watermark.apply(&message(vec![position(0, Some(7), true)], None)), Some(7));
    assert_eq!(watermark.apply(&message(vec![position(1, Some(8), true)], None)), Some(8));
}

#[test]
fn no_splits_at_all_is_the_end() {
    let mut watermark = SourceWatermark::new(3, 0);
    assert_eq!(watermark.apply(&message(Vec::new(), Some(0))), Some(i64::MAX));
}

#[test]
fn a_source_without_times_has_no_watermark_until_its_end() {
    let mut watermark = SourceWatermark::new(1, 0);
    assert_eq!(watermark.apply(&message(vec![position(0, None, true)], Some(2))), None);
    assert_eq!(watermark.current_ms(), i64::MIN);
    assert_eq!(watermark.apply(&message(vec![position(1, None, true)], Some(2))), Some(i64::MAX));
}

/// One subtask runs far ahead of another: memory is bounded, the watermark stays right below the
/// exact one and is exact again at the end.
#[test]
fn running_far_ahead_takes_bounded_memory() {
    let ahead = 3 * AHEAD_RUNS_MAX as u64;
    let mut watermark = SourceWatermark::new(2, 0);
    for split in (1..2 * ahead).step_by(2) {
        let progress = message(vec![position(split, Some(split as i64), true)], None);
        assert_eq!(watermark.apply(&progress), None);
        assert!(watermark.ahead[1].len() <= AHEAD_RUNS_MAX);
    }
    for split in (0..2 * ahead).step_by(2) {
        let progress = message(vec![position(split, Some(0), true)], None);
        watermark.apply(&progress);
        let exact = split as i64 + 1;
        let now = watermark.current_ms();
        assert!(now <= exact && now >= exact - 64, "{now} instead of {exact}");
    }
    assert_eq!(watermark.current_ms(), 2 * ahead as i64 - 1);
}
