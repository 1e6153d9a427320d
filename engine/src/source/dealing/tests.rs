//! However often a source is stopped, restored and dealt anew, each row is read exactly once, and
//! merged positions say exactly what was read before the barrier.
//!
//! Method: a source of a few splits is read by subtasks in a random order. Checkpoints take all
//! positions; crashes throw away what was read since, at any width.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;
use crate::source::generated::{BLOCK_EVENTS, Blocks, FIRST_TIME_MS};

#[derive(Clone, Debug)]
enum Op {
    /// A subtask (by its number modulo the width) reads up to this many rows.
    Read(u32, u64),
    Checkpoint,
    /// Back to the last checkpoint, at another width.
    Restore(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (any::<u32>(), 1..1500_u64).prop_map(|(subtask, rows)| Op::Read(subtask, rows)),
        2 => Just(Op::Checkpoint),
        1 => (1..6_u32).prop_map(Op::Restore),
    ]
}

/// What a split has: rows, each with a time.
trait Content {
    fn splits(&self) -> Splits;
    fn rows(&self, split: u64) -> u64;
    fn time_ms(&self, split: u64, row: u64) -> i64;
}

/// Listed splits with times in no order.
struct Listed(Vec<u64>);

impl Content for Listed {
    fn splits(&self) -> Splits {
        Splits::listed(self.0.len() as u64)
    }

    fn rows(&self, split: u64) -> u64 {
        self.0[usize::try_from(split).unwrap()]
    }

    fn time_ms(&self, split: u64, row: u64) -> i64 {
        i64::try_from((split * 31 + row * 17) % 101).unwrap() - 50
    }
}

struct Generated(Blocks);

impl Content for Generated {
    fn splits(&self) -> Splits {
        Splits::generated(self.0)
    }

    fn rows(&self, split: u64) -> u64 {
        self.0.rows(split)
    }

    fn time_ms(&self, split: u64, row: u64) -> i64 {
        FIRST_TIME_MS + i64::try_from(split * BLOCK_EVENTS + row).unwrap()
    }
}

struct Run<'a> {
    content: &'a dyn Content,
    tasks: Vec<SourceTaskState>,
    /// Rows read of each split since the beginning, less those that were rolled back.
    read: BTreeMap<u64, u64>,
    kept: (SourcePositions, BTreeMap<u64, u64>),
}

impl<'a> Run<'a> {
    fn new(content: &'a dyn Content, width: u32) -> Self {
        let mut run =
            Self { content, tasks: Vec::new(), read: BTreeMap::new(), kept: Default::default() };
        run.restore(width);
        run
    }

    fn restore(&mut self, width: u32) {
        let (positions, read) = &self.kept;
        let new =
            |subtask| SourceTaskState::new("s", self.content.splits(), subtask, width, positions);
        self.tasks = (0..width).map(new).collect();
        self.read = read.clone();
    }

    fn read(&mut self, subtask: u32, rows_max: u64) -> Result<bool, TestCaseError> {
        let width = self.tasks.len();
        let task = &mut self.tasks[subtask as usize % width];
        let Some(ReadFrom { split, position }) = task.current() else { return Ok(false) };
        let before = self.read.entry(split).or_default();
        prop_assert_eq!(position, *before, "split {}", split);
        let to = (position + rows_max).min(self.content.rows(split));
        if to > position {
            let times = (position..to).map(|row| self.content.time_ms(split, row));
            task.advance(to, times.max());
            *before = to;
        } else {
            task.finish();
        }
        Ok(true)
    }

    fn checkpoint(&mut self) -> Result<(), TestCaseError> {
        let acks: Vec<_> = self.tasks.iter().map(SourceTaskState::positions).collect();
        let merged = merge("s", &self.content.splits(), &self.kept.0, &acks);
        self.says_what_was_read(&merged)?;
        self.kept = (merged, self.read.clone());
        Ok(())
    }

    fn says_what_was_read(&self, merged: &SourcePositions) -> Result<(), TestCaseError> {
        let begun: BTreeMap<_, _> =
            merged.splits.iter().map(|begun| (begun.split, begun)).collect();
        prop_assert!(begun.keys().all(|split| *split >= merged.frontier));
        for (&split, &rows) in &self.read {
            if split < merged.frontier {
                prop_assert_eq!(rows, self.content.rows(split));
            } else if let Some(begun) = begun.get(&split) {
                prop_assert_eq!(begun.position, rows, "split {}", split);
                prop_assert_eq!(begun.has_time, rows > 0);
                let times = (0..rows).map(|row| self.content.time_ms(split, row));
                prop_assert_eq!(begun.has_time.then_some(begun.max_time_ms), times.max());
            } else {
                prop_assert_eq!(rows, 0, "split {} is forgotten", split);
            }
        }
        let done = (0..merged.frontier)
            .flat_map(|split| (0..self.content.rows(split)).map(move |row| (split, row)))
            .map(|(split, row)| self.content.time_ms(split, row));
        prop_assert_eq!(merged.has_frontier_time.then_some(merged.frontier_time_ms), done.max());
        Ok(())
    }
}

fn check(content: &dyn Content, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut run = Run::new(content, 2);
    for op in ops {
        match *op {
            Op::Read(subtask, rows) => drop(run.read(subtask, rows)?),
            Op::Checkpoint => run.checkpoint()?,
            Op::Restore(width) => run.restore(width),
        }
    }
    let width = u32::try_from(run.tasks.len()).unwrap();
    for subtask in 0..width {
        while run.read(subtask, 1000)? {}
    }
    run.checkpoint()?;
    let splits = content.splits().count().unwrap();
    prop_assert_eq!(run.kept.0.frontier, splits);
    prop_assert!(run.kept.0.splits.is_empty());
    prop_assert!(
        (0..splits).all(|split| run.read.get(&split).copied().unwrap_or(0) == content.rows(split))
    );
    Ok(())
}

proptest! {
    #[test]
    fn listed_splits_are_read_exactly_once(
        rows in vec(0..2000_u64, 0..9),
        ops in vec(op(), 0..60),
    ) {
        check(&Listed(rows), &ops)?;
    }

    #[test]
    fn generated_blocks_are_read_exactly_once(
        events in 0..9000_u64,
        ops in vec(op(), 0..60),
    ) {
        check(&Generated(Blocks::every(Some(events), 1)), &ops)?;
    }
}

fn at(split: u64, position: u64, time_ms: i64, done: bool) -> SplitPosition {
    SplitPosition { split, position, max_time_ms: time_ms, has_time: true, done }
}

#[test]
fn progress_tells_each_change_once_and_the_first_time_where_it_began() {
    let restored = SourcePositions {
        step: "s".to_owned(),
        frontier: 2,
        frontier_time_ms: 7,
        has_frontier_time: true,
        splits: vec![at(3, 5, 9, false), at(4, 6, 8, true)],
    };
    let mut task = SourceTaskState::new("s", Splits::listed(8), 0, 2, &restored);
    let first = task.progress().unwrap();
    assert_eq!((first.frontier, first.frontier_time_ms), (2, 7));
    assert_eq!((first.all_dealt, first.split_count), (true, 8));
    assert_eq!(first.splits, [at(4, 6, 8, true)]);
    assert_eq!(task.progress(), None);
    task.advance(1, Some(3));
    task.advance(2, Some(1));
    task.finish();
    // Split 4 was done before: 6 follows 2.
    assert_eq!(task.current(), Some(ReadFrom { split: 6, position: 0 }));
    assert_eq!(task.progress().unwrap().splits, [at(2, 2, 3, true)]);
}

#[test]
fn positions_of_generated_blocks_do_not_grow_with_what_was_read() {
    let splits = Splits::generated(Blocks::every(None, 1));
    let mut tasks: Vec<_> =
        (0..2).map(|i| SourceTaskState::new("s", splits, i, 2, &Default::default())).collect();
    for _ in 0..1000 {
        tasks[0].advance(BLOCK_EVENTS, Some(0));
        tasks[0].finish();
    }
    let acks: Vec<_> = tasks.iter().map(SourceTaskState::positions).collect();
    assert!(acks[0].splits.is_empty());
    let merged = merge("s", &splits, &Default::default(), &acks);
    // Nothing is lost of a subtask that ran ahead of the other.
    assert_eq!((merged.frontier, merged.splits.len()), (1, 999));
    assert!(merged.splits.iter().all(|begun| begun.done && begun.split % 2 == 0));
}
