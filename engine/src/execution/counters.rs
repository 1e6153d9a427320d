//! Counters of every step, of one task each. Written by the task, read by the control side.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use std::sync::Arc;

use weir_state::ids::KeyGroupRange;
use weir_state::store::StateStore;

use super::window::WATERMARK_NONE;
use crate::protocol::{Progress, RangeWatermark, StepCounters};

/// Counters of one step. Relaxed: they are shown, never decided from.
#[derive(Debug, Default)]
pub(crate) struct Step {
    rows_in: AtomicU64,
    rows_out: AtomicU64,
    late_rows: AtomicU64,
    bytes_out: AtomicU64,
}

impl Step {
    /// Rows came in.
    pub(crate) fn add_in(&self, rows: usize) {
        self.rows_in.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Rows went out.
    pub(crate) fn add_out(&self, rows: usize) {
        self.rows_out.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Rows came too late and were dropped.
    pub(crate) fn add_late(&self, rows: usize) {
        self.late_rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Bytes were staged.
    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The counters of all steps, by the step's place in the job.
#[derive(Debug)]
pub(crate) struct Counters {
    steps: Vec<(String, Step)>,
}

impl Counters {
    /// All zero, for the steps with these ids.
    pub(crate) fn new(ids: impl IntoIterator<Item = String>) -> Self {
        Self { steps: ids.into_iter().map(|id| (id, Step::default())).collect() }
    }

    /// Of the step at `place`.
    pub(crate) fn step(&self, place: usize) -> &Step {
        &self.steps[place].1
    }

    /// As they are now; steps that have counted nothing are left out.
    pub(crate) fn read(&self) -> Vec<StepCounters> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let steps = self.steps.iter().map(|(id, step)| StepCounters {
            step: id.clone(),
            rows_in: load(&step.rows_in),
            rows_out: load(&step.rows_out),
            late_rows: load(&step.late_rows),
            bad_rows: 0,
            bytes_out: load(&step.bytes_out),
        });
        steps.filter(|step| step.rows_in + step.rows_out > 0).collect()
    }
}

/// The watermark that a task reached, for showing it.
#[derive(Debug)]
pub(crate) struct WatermarkGauge(AtomicI64);

impl WatermarkGauge {
    /// At `watermark`.
    pub(crate) fn new(watermark: i64) -> Self {
        Self(AtomicI64::new(watermark))
    }

    /// Moves to `watermark`.
    pub(crate) fn set(&self, watermark: i64) {
        self.0.store(watermark, Ordering::Relaxed);
    }

    /// As it is now.
    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a generation on a worker has asked of the state's store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreNumbers {
    /// Reads, each attempt counted.
    pub reads: u64,
    /// Writes, each attempt counted.
    pub writes: u64,
    /// Bytes of successful reads.
    pub bytes_read: u64,
    /// Bytes of successful writes.
    pub bytes_written: u64,
    /// Parts of table files that were found in memory.
    pub cache_hits: u64,
    /// Parts that had to be fetched.
    pub cache_misses: u64,
    /// Bytes in memory: blocks, and rows that stay after their flush.
    pub cache_bytes: u64,
    /// The limit of those.
    pub cache_limit_bytes: u64,
}

/// Everything that is shown of a generation on this worker.
#[derive(Debug)]
pub(crate) struct Board {
    counters: Vec<Arc<Counters>>,
    watermarks: Vec<(String, KeyGroupRange, Arc<WatermarkGauge>)>,
    store: Arc<StateStore>,
}

impl Board {
    /// Without tasks.
    pub(crate) fn new(store: Arc<StateStore>) -> Self {
        Self { counters: Vec::new(), watermarks: Vec::new(), store }
    }

    /// Shows a task's counters too.
    pub(crate) fn add_task(&mut self, counters: Arc<Counters>) {
        self.counters.push(counters);
    }

    /// Shows the watermark of a keyed step's key groups too.
    pub(crate) fn add_watermark(
        &mut self,
        step: &str,
        range: KeyGroupRange,
        gauge: Arc<WatermarkGauge>,
    ) {
        self.watermarks.push((step.to_owned(), range, gauge));
    }

    /// What was asked of the state's store since the generation began.
    pub(crate) fn store(&self) -> StoreNumbers {
        let (sent, looks) = (self.store.counters(), self.store.cache_counts());
        StoreNumbers {
            reads: sent.reads,
            writes: sent.writes,
            bytes_read: sent.bytes_read,
            bytes_written: sent.bytes_written,
            cache_hits: looks.hits,
            cache_misses: looks.misses,
            cache_bytes: self.store.cache_bytes() as u64,
            cache_limit_bytes: self.store.cache_limit_bytes() as u64,
        }
    }

    /// As it is now.
    pub(crate) fn read(&self) -> Progress {
        let watermarks = self.watermarks.iter().filter_map(|(step, range, gauge)| {
            let watermark_ms = gauge.get();
            (watermark_ms > WATERMARK_NONE).then(|| RangeWatermark {
                step: step.clone(),
                group_start: range.start.into(),
                group_end: range.end.into(),
                watermark_ms,
            })
        });
        let requests = self.store.counters();
        Progress {
            compaction: None,
            steps: self.counters.iter().flat_map(|task| task.read()).collect(),
            watermarks: watermarks.collect(),
            state_requests: requests.reads + requests.writes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_step() {
        let counters = Counters::new(["a".to_owned(), "b".to_owned()]);
        counters.step(1).add_in(3);
        counters.step(1).add_late(1);
        let read = counters.read();
        let expected =
            StepCounters { step: "b".into(), rows_in: 3, late_rows: 1, ..StepCounters::default() };
        assert_eq!(read, [expected]);
    }
}
