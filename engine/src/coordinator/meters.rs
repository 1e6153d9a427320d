//! Counters for showing: rows by step over all generations, rate, watermark. Nothing is decided
//! from them except whether anything has changed since the last checkpoint.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weir_runtime::clock::Instant;

use super::status::StepRows;
use super::summary::Totals;
use crate::protocol::{Ack, CompactionCounters, Progress, StepCounters};

/// The rate is taken over this long.
const RATE_OVER: Duration = Duration::from_secs(5);
/// Samples kept for it.
const SAMPLES_MAX: usize = 64;

/// What workers have told of themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters {
    /// Rows that the last completed checkpoint covers: what counts of generations that are over.
    covered: BTreeMap<String, StepRows>,
    /// `covered` as it was when this generation began.
    base: BTreeMap<String, StepRows>,
    /// Requests of generations, and of coordinators, that are over.
    requests_before: u64,
    /// Requests of this coordinator.
    own_requests: u64,
    /// The last word of each worker of this generation.
    workers: BTreeMap<String, Progress>,
    samples: VecDeque<(Instant, u64)>,
}

impl Meters {
    /// Goes on counting where the last checkpoint was.
    pub(crate) fn after(totals: &Totals) -> Self {
        Self {
            covered: totals.steps.clone(),
            base: totals.steps.clone(),
            requests_before: totals.requests,
            ..Self::default()
        }
    }

    /// A worker tells its counters. Gives whether any row or watermark moved.
    pub(crate) fn told(&mut self, worker: &str, progress: Progress) -> bool {
        let moved = match self.workers.get(worker) {
            Some(before) => moves(before) != moves(&progress),
            None => progress.steps.iter().any(|step| step.rows_in + step.rows_out > 0),
        };
        self.workers.insert(worker.to_owned(), progress);
        moved
    }

    /// A checkpoint is complete: it covers what its tasks had counted at the barrier, and the bytes
    /// of its pieces.
    pub(crate) fn cover(&mut self, acks: &[Ack]) {
        let mut steps = self.base.clone();
        for counters in acks.iter().flat_map(|ack| &ack.counters) {
            *steps.entry(counters.step.clone()).or_default() += rows(counters);
        }
        for (step, rows) in &mut steps {
            rows.bytes_out = self.covered.get(step).map_or(0, |covered| covered.bytes_out);
        }
        for piece in acks.iter().flat_map(|ack| &ack.pieces) {
            steps.entry(piece.step.clone()).or_default().bytes_out += piece.bytes;
        }
        self.covered = steps;
    }

    /// Rows that the last completed checkpoint covers.
    pub(crate) fn covered(&self) -> &BTreeMap<String, StepRows> {
        &self.covered
    }

    /// This coordinator has made so many requests.
    pub(crate) fn note_own_requests(&mut self, requests: u64) {
        self.own_requests = requests;
    }

    /// The generation of the last checkpoint goes on: what its workers tell is counted since it
    /// began. `totals` are those of that checkpoint.
    pub(crate) fn go_on(&mut self, totals: &Totals) {
        self.base = totals.before.clone();
        self.requests_before = totals.requests_before;
    }

    /// What was counted before this generation began: rows, and requests.
    pub(crate) fn before(&self) -> (&BTreeMap<String, StepRows>, u64) {
        (&self.base, self.requests_before + self.own_requests)
    }

    /// The generation is over: what no checkpoint covers will be processed and counted again.
    pub(crate) fn generation_over(&mut self) {
        self.requests_before += self.workers_requests();
        self.base = self.covered.clone();
        self.workers.clear();
        self.samples.clear();
    }

    /// Rows by step.
    pub(crate) fn steps(&self) -> BTreeMap<String, StepRows> {
        let mut steps = self.base.clone();
        for counters in self.workers.values().flat_map(|worker| &worker.steps) {
            *steps.entry(counters.step.clone()).or_default() += rows(counters);
        }
        // A checkpoint may tell of rows before their worker does.
        for (step, covered) in &self.covered {
            let rows = steps.entry(step.clone()).or_default();
            *rows = rows.at_least(*covered);
        }
        steps
    }

    /// Requests to the state store.
    pub(crate) fn requests(&self) -> u64 {
        self.requests_before + self.own_requests + self.workers_requests()
    }

    fn workers_requests(&self) -> u64 {
        self.workers.values().map(|worker| worker.state_requests).sum()
    }

    /// Compactions that were ordered in this generation, over all workers; the problem is that of
    /// the first one that has one.
    pub(crate) fn compaction(&self) -> CompactionCounters {
        let mut all = CompactionCounters::default();
        for told in self.workers.values().filter_map(|worker| worker.compaction.as_ref()) {
            all.elsewhere += told.elsewhere;
            all.here += told.here;
            all.given_up += told.given_up;
            if all.problem.is_empty() {
                all.problem.clone_from(&told.problem);
            }
        }
        all
    }

    /// The least watermark of all keyed steps; none before every one of them has one.
    pub(crate) fn watermark_ms(&self) -> Option<i64> {
        let all = self.workers.values().flat_map(|worker| &worker.watermarks);
        all.map(|range| range.watermark_ms).min().filter(|least| *least > i64::MIN)
    }

    /// Rows per second, given that `rows_in` rows were read up to now.
    pub(crate) fn rate(&mut self, rows_in: u64, now: Instant) -> u64 {
        self.samples.push_back((now, rows_in));
        while self.samples.len() > SAMPLES_MAX
            || self.samples.front().is_some_and(|(at, _)| now - *at > RATE_OVER)
        {
            self.samples.pop_front();
        }
        let Some((since, before)) = self.samples.front() else { return 0 };
        let millis = u64::try_from((now - *since).as_millis()).unwrap_or(u64::MAX).max(1);
        rows_in.saturating_sub(*before).saturating_mul(1_000) / millis
    }
}

/// What makes a checkpoint worth taking when it differs; requests and bytes do not.
fn moves(progress: &Progress) -> (Vec<[u64; 4]>, Vec<i64>) {
    let steps = progress.steps.iter();
    (
        steps.map(|step| [step.rows_in, step.rows_out, step.late_rows, step.bad_rows]).collect(),
        progress.watermarks.iter().map(|range| range.watermark_ms).collect(),
    )
}

fn rows(counters: &StepCounters) -> StepRows {
    StepRows {
        rows_in: counters.rows_in,
        rows_out: counters.rows_out,
        late: counters.late_rows,
        bad: counters.bad_rows,
        bytes_out: counters.bytes_out,
    }
}

#[cfg(test)]
mod tests {
    use weir_runtime::clock;

    use super::*;
    use crate::protocol::Piece;

    fn progress(rows_in: u64, requests: u64) -> Progress {
        let steps = vec![StepCounters { step: "a".to_owned(), rows_in, ..StepCounters::default() }];
        Progress { steps, state_requests: requests, ..Progress::default() }
    }

    fn ack(rows_in: u64, bytes: u64) -> Ack {
        let pieces = vec![Piece { step: "a".to_owned(), bytes, ..Piece::default() }];
        Ack { counters: progress(rows_in, 0).steps, pieces, ..Ack::default() }
    }

    #[test]
    fn rows_of_a_lost_generation_count_only_as_far_as_a_checkpoint_covers_them() {
        let mut meters = Meters::default();
        meters.told("w", progress(12, 1));
        meters.told("v", progress(5, 1));
        meters.cover(&[ack(10, 100), ack(5, 50)]);
        meters.told("w", progress(100, 4));
        meters.generation_over();
        assert_eq!(meters.steps()["a"].rows_in, 15);
        assert_eq!(meters.requests(), 5, "requests were made, whatever came of them");
        meters.told("w", progress(7, 1));
        assert_eq!(meters.steps()["a"].rows_in, 22);
        meters.cover(&[ack(7, 1)]);
        assert_eq!((meters.covered()["a"].rows_in, meters.covered()["a"].bytes_out), (22, 151));
        meters.cover(&[ack(9, 1)]);
        assert_eq!(meters.steps()["a"].rows_in, 24, "the worker has told of 7 only");
    }

    #[test]
    fn the_next_process_goes_on_counting() {
        let mut meters = Meters::default();
        meters.cover(&[ack(10, 1)]);
        let steps = meters.covered().clone();
        let mut meters = Meters::after(&Totals { steps, requests: 7, ..Totals::default() });
        assert_eq!(meters.steps()["a"].rows_in, 10);
        meters.note_own_requests(2);
        meters.told("w", progress(1, 1));
        meters.generation_over();
        assert_eq!((meters.steps()["a"].rows_in, meters.requests()), (10, 10));
    }

    #[test]
    fn whoever_goes_on_with_a_generation_counts_none_of_its_rows_twice() {
        let mut meters = Meters::after(&Totals::default());
        meters.cover(&[ack(10, 1)]);
        meters.generation_over();
        meters.note_own_requests(3);
        meters.told("w", progress(7, 20));
        meters.cover(&[ack(7, 1)]);
        let (before, requests_before) = meters.before();
        let totals = Totals {
            before: before.clone(),
            requests_before,
            steps: meters.covered().clone(),
            requests: meters.requests(),
            ..Totals::default()
        };
        assert_eq!(totals.requests, 23);
        let mut meters = Meters::after(&totals);
        meters.go_on(&totals);
        assert_eq!(meters.steps()["a"].rows_in, 17, "before anybody has told anything");
        meters.told("w", progress(9, 25));
        assert_eq!((meters.steps()["a"].rows_in, meters.requests()), (19, 28));
        meters.cover(&[ack(9, 1)]);
        assert_eq!(meters.covered()["a"].rows_in, 19);
    }

    #[test]
    fn requests_alone_are_no_change() {
        let mut meters = Meters::default();
        assert!(!meters.told("w", progress(0, 0)));
        assert!(meters.told("w", progress(1, 0)));
        assert!(!meters.told("w", progress(1, 9)));
    }

    #[test]
    fn the_rate_is_taken_over_the_last_seconds() {
        let now = clock::now();
        let mut meters = Meters::default();
        meters.rate(0, now);
        assert_eq!(meters.rate(500, now + Duration::from_secs(1)), 500);
        assert_eq!(meters.rate(500, now + Duration::from_secs(20)), 0);
    }
}
