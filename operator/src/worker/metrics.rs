//! A worker's metrics. Counters are those of the running generation and begin anew with the next.

use std::collections::BTreeMap;

use weir_engine::protocol::{Progress, StepCounters};
use weir_engine::worker::sight::{Doing, Seen, StoreNumbers};

use crate::metrics::{Labels, Page, number};

/// Name, help, value.
type StepCounter = (&'static str, &'static str, fn(&StepCounters) -> u64);

const STEP_COUNTERS: [StepCounter; 5] = [
    ("weir_step_rows_in", "Rows that a step took in", |step| step.rows_in),
    ("weir_step_rows_out", "Rows that a step gave on", |step| step.rows_out),
    ("weir_step_late_rows", "Rows that came after all their windows had closed", |step| {
        step.late_rows
    }),
    ("weir_step_bad_rows", "Rows that did not parse", |step| step.bad_rows),
    ("weir_step_bytes_out", "Bytes that a sink wrote", |step| step.bytes_out),
];

/// All metrics of a worker of `job` at one moment.
pub(super) fn page(seen: &Seen, job: &str, now_ms: i64) -> Page {
    let mut page = Page::new(vec![("weir_job", job.to_owned())]);
    let progress = seen.progress();
    add_worker(&mut page, seen);
    add_steps(&mut page, &progress);
    add_watermarks(&mut page, &progress, now_ms);
    let help = "Requests to the state's object store";
    page.counter("weir_state_requests", help, [(Vec::new(), progress.state_requests)]);
    add_store(&mut page, seen.store());
    page
}

fn add_worker(page: &mut Page, seen: &Seen) {
    let mut gauge = |name: &'static str, help: &'static str, value: u64| {
        page.gauge(name, help, [(Vec::new(), number(value))]);
    };
    let shown = seen.shown;
    let help = "The generation that the worker has; 0: none";
    gauge("weir_worker_generation", help, shown.generation);
    let runs = u64::from(shown.doing == Doing::Running);
    gauge("weir_worker_running", "Whether the generation's tasks run", runs);
    let connected = u64::from(shown.has_coordinator);
    gauge("weir_worker_coordinator_connected", "Whether a coordinator is connected", connected);
    let held = u64::from(shown.is_held);
    gauge("weir_worker_sources_held", "Whether sources wait for a coordinator to come", held);
    gauge("weir_worker_leaving", "Whether it was asked to end", u64::from(shown.is_leaving));
}

fn step(id: &str) -> Labels {
    vec![("step", id.to_owned())]
}

fn add_steps(page: &mut Page, progress: &Progress) {
    for (name, help, value) in STEP_COUNTERS {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for counters in &progress.steps {
            *sums.entry(&counters.step).or_default() += value(counters);
        }
        page.counter(name, help, sums.into_iter().map(|(id, sum)| (step(id), sum)));
    }
}

fn add_watermarks(page: &mut Page, progress: &Progress, now_ms: i64) {
    let mut least: BTreeMap<&str, i64> = BTreeMap::new();
    for range in &progress.watermarks {
        let step = least.entry(&range.step).or_insert(i64::MAX);
        *step = range.watermark_ms.min(*step);
    }
    // At the end of all input there is nothing to lag behind.
    let lags = least.into_iter().filter(|(_, at)| *at < i64::MAX).map(|(id, at)| {
        let behind = now_ms.saturating_sub(at);
        let magnitude = number(behind.unsigned_abs());
        (step(id), if behind < 0 { -magnitude } else { magnitude })
    });
    let help = "How far a step's watermark lies behind the clock";
    page.gauge("weir_step_watermark_lag_milliseconds", help, lags);
}

fn add_store(page: &mut Page, store: StoreNumbers) {
    let by = |label: &'static str, pairs: [(&str, u64); 2]| {
        pairs.map(|(value, count)| (vec![(label, value.to_owned())], count))
    };
    let requests = by("op", [("read", store.reads), ("write", store.writes)]);
    let help = "Requests for table files, each attempt counted";
    page.counter("weir_state_store_requests", help, requests);
    let bytes = by("op", [("read", store.bytes_read), ("write", store.bytes_written)]);
    let help = "Bytes of table files that were read and written";
    page.counter("weir_state_store_bytes", help, bytes);
    let looks = by("result", [("hit", store.cache_hits), ("miss", store.cache_misses)]);
    let help = "Blocks and tails of table files that reads looked for in memory";
    page.counter("weir_state_cache_lookups", help, looks);
    let help = "Bytes in memory: blocks, and rows that stay after their flush";
    page.gauge("weir_state_cache_bytes", help, [(Vec::new(), number(store.cache_bytes))]);
    let limit = number(store.cache_limit_bytes);
    page.gauge("weir_state_cache_limit_bytes", "The limit of those", [(Vec::new(), limit)]);
}

/// Names of all metrics.
#[cfg(test)]
pub(crate) fn names() -> std::collections::BTreeSet<String> {
    page(&Seen::default(), "n/j", 0).names().clone()
}

#[cfg(test)]
mod tests {
    use weir_engine::protocol::RangeWatermark;

    use super::*;

    #[test]
    fn steps_are_summed_over_subtasks_and_watermarks_lag_by_the_least() {
        let step = |rows_in| StepCounters { step: "s".to_owned(), rows_in, ..Default::default() };
        let range = |watermark_ms| RangeWatermark {
            step: "s".to_owned(),
            watermark_ms,
            ..RangeWatermark::default()
        };
        let progress = Progress {
            steps: vec![step(3), step(4)],
            watermarks: vec![range(7_000), range(9_000), range(i64::MAX)],
            ..Progress::default()
        };
        let mut page = Page::new(Vec::new());
        add_steps(&mut page, &progress);
        add_watermarks(&mut page, &progress, 10_000);
        let store = StoreNumbers { bytes_read: 5, cache_hits: 9, ..StoreNumbers::default() };
        add_store(&mut page, store);
        let text = page.text();
        for line in [
            "weir_step_rows_in_total{step=\"s\"} 7",
            "weir_step_watermark_lag_milliseconds{step=\"s\"} 3000.0",
            "weir_state_store_bytes_total{op=\"read\"} 5",
            "weir_state_cache_lookups_total{result=\"hit\"} 9",
        ] {
            assert!(text.lines().any(|its| its == line), "{line}\n{text}");
        }
    }
}
