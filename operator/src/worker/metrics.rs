//! A worker's metrics as Prometheus reads them. Names are stable: one may be added, none changes its
//! meaning. Counters are those of the running generation and begin anew with the next.

use std::collections::BTreeMap;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use weir_engine::protocol::{Progress, StepCounters};
use weir_engine::worker::sight::{Doing, Seen};

/// Of the text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
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
pub(super) fn text(seen: &Seen, job: &str, now_ms: i64) -> String {
    let labels = std::iter::once(("weir_job".into(), job.to_owned().into()));
    let mut registry = Registry::with_labels(labels);
    let progress = seen.progress();
    add_worker(&mut registry, seen);
    add_steps(&mut registry, &progress);
    add_watermarks(&mut registry, &progress, now_ms);
    let requests: Counter = Counter::default();
    requests.inc_by(progress.state_requests);
    registry.register("weir_state_requests", "Requests to the state's object store", requests);
    let mut text = String::new();
    // A string takes everything.
    let _ = encode(&mut text, &registry);
    text
}

fn add_worker(registry: &mut Registry, seen: &Seen) {
    let mut gauge = |name: &'static str, help: &'static str, value: i64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let shown = seen.shown;
    let generation = i64::try_from(shown.generation).unwrap_or(i64::MAX);
    gauge("weir_worker_generation", "The generation that the worker has; 0: none", generation);
    let runs = i64::from(shown.doing == Doing::Running);
    gauge("weir_worker_running", "Whether the generation's tasks run", runs);
    let connected = i64::from(shown.has_coordinator);
    gauge("weir_worker_coordinator_connected", "Whether a coordinator is connected", connected);
    let held = i64::from(shown.is_held);
    gauge("weir_worker_sources_held", "Whether sources wait for a coordinator to come", held);
    gauge("weir_worker_leaving", "Whether it was asked to end", i64::from(shown.is_leaving));
}

fn add_steps(registry: &mut Registry, progress: &Progress) {
    for (name, help, value) in STEP_COUNTERS {
        let family = Family::<Labels, Counter>::default();
        for step in &progress.steps {
            family.get_or_create(&vec![("step", step.step.clone())]).inc_by(value(step));
        }
        registry.register(name, help, family);
    }
}

fn add_watermarks(registry: &mut Registry, progress: &Progress, now_ms: i64) {
    let mut least: BTreeMap<&str, i64> = BTreeMap::new();
    for range in &progress.watermarks {
        let step = least.entry(&range.step).or_insert(i64::MAX);
        *step = range.watermark_ms.min(*step);
    }
    let family = Family::<Labels, Gauge>::default();
    // At the end of all input there is nothing to lag behind.
    for (step, watermark_ms) in least.into_iter().filter(|(_, at)| *at < i64::MAX) {
        let lag_ms = now_ms.saturating_sub(watermark_ms);
        family.get_or_create(&vec![("step", step.to_owned())]).set(lag_ms);
    }
    let help = "How far a step's watermark lies behind the clock";
    registry.register("weir_step_watermark_lag_milliseconds", help, family);
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
            state_requests: 0,
        };
        let mut registry = Registry::default();
        add_steps(&mut registry, &progress);
        add_watermarks(&mut registry, &progress, 10_000);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("weir_step_rows_in_total{step=\"s\"} 7"), "{text}");
        assert!(text.contains("weir_step_watermark_lag_milliseconds{step=\"s\"} 3000"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
