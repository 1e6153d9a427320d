//! The rows that the tests read, the job that they run, and what must come out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use weir_engine::pipeline::spec::{
    AggregateSpec, CheckpointPolicy, CompactionPolicy, EventTimeSpec, FailoverPolicy, JobSpec,
    Order, RescalePolicy, SinkFormat, SinkSpec, SourceKind, SourceSpec, StepSpec, StoreSpec,
    TumbleSpec, Verb, WindowSpec,
};

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) key: i64,
    pub(crate) time_ms: i64,
    pub(crate) value: i64,
}

const WINDOW_MS: i64 = 60_000;
/// Windows of [`stacked_job`].
pub(crate) const STACKED_MS: i64 = 180_000;
/// The input has at most this many splits.
const SPLITS: usize = 40;

/// Where the rows lie.
pub(crate) const INPUT: &str = "in.parquet";
/// Where the results go.
pub(crate) const OUTPUT: &str = "out";

/// The rows as a parquet file of several splits.
pub(crate) fn parquet(events: &[Event]) -> Vec<u8> {
    let keys = events.iter().map(|event| Some(format!("k{}", event.key)));
    let keys: ArrayRef = Arc::new(keys.collect::<StringArray>());
    let times = events.iter().map(|event| event.time_ms);
    let times: ArrayRef =
        Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC"));
    let values = events.iter().map(|event| event.value);
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    let batch = RecordBatch::try_from_iter([("key", keys), ("at", times), ("value", values)]);
    let batch = batch.unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(events.len().div_ceil(SPLITS)))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn step(id: &str, from: &[&str], verb: Verb) -> StepSpec {
    let from = from.iter().map(|step| (*step).to_owned()).collect();
    StepSpec { id: id.to_owned(), from, verb }
}

/// Read, filter (with an arithmetic that one value breaks), count and sum by key and minute, write.
pub(crate) fn windows_job(replicas: usize, slots: u32, rate: Option<u64>) -> JobSpec {
    let source = SourceSpec {
        kind: SourceKind::Files {
            uri: INPUT.to_owned(),
            format: None,
            schema: None,
            store: StoreSpec::default(),
        },
        rate,
        event_time: Some(EventTimeSpec { column: Some("at".to_owned()), delay_ms: 5_000 }),
    };
    let aggregate = AggregateSpec {
        key: vec!["key".to_owned()],
        window: Some(WindowSpec::Tumble(TumbleSpec { size_ms: WINDOW_MS, offset_ms: 0 })),
        values: vec!["count(*) as n".to_owned(), "sum(value) as total".to_owned()],
        lateness_ms: 0,
        emit: None,
        ttl_ms: None,
    };
    let sink = SinkSpec::Files {
        uri: OUTPUT.to_owned(),
        format: SinkFormat::Ndjson,
        store: StoreSpec::default(),
    };
    JobSpec {
        name: "windows".to_owned(),
        replicas: u32::try_from(replicas).unwrap(),
        slots,
        key_groups: 64,
        order: Order::default(),
        state_memory_bytes: 64 << 20,
        checkpoint: CheckpointPolicy {
            interval_ms: 10_000,
            timeout_ms: 600_000,
            min_pause_ms: 0,
            retained: 3,
            tolerable_failures: None,
        },
        compaction: CompactionPolicy::default(),
        failover: FailoverPolicy {
            timeout_ms: 5_000,
            restarts: 10,
            within_ms: 600_000,
            min_survivors_percent: 50,
        },
        rescale: RescalePolicy::default(),
        pipeline: vec![
            step("events", &[], Verb::Source(source)),
            step("flown", &["events"], Verb::Filter("value - 1 < 1000".to_owned())),
            step("windows", &["flown"], Verb::Aggregate(aggregate)),
            step("out", &["windows"], Verb::Sink(sink)),
        ],
    }
}

/// As [`windows_job`], but the rows come on two ways through a union, and the windows are summed up
/// again over three minutes each.
pub(crate) fn stacked_job(replicas: usize, slots: u32, rate: Option<u64>) -> JobSpec {
    let mut job = windows_job(replicas, slots, rate);
    let select = ["value", "key", "value - 1 as less"].map(str::to_owned).to_vec();
    let back = ["less + 1 as value", "key"].map(str::to_owned).to_vec();
    let odd = ["value", "key"].map(str::to_owned).to_vec();
    let Verb::Aggregate(minutes) = job.pipeline[2].verb.clone() else { unreachable!() };
    let sums = AggregateSpec {
        window: Some(WindowSpec::Tumble(TumbleSpec { size_ms: STACKED_MS, offset_ms: 0 })),
        values: vec!["sum(n) as n".to_owned(), "sum(total) as total".to_owned()],
        ..minutes.clone()
    };
    let sink = job.pipeline[3].verb.clone();
    job.pipeline.truncate(1);
    job.pipeline.extend([
        step("even", &["events"], Verb::Filter("value % 2 = 0".to_owned())),
        step("odd", &["events"], Verb::Filter("value % 2 <> 0".to_owned())),
        step("less", &["even"], Verb::Select(select)),
        step("back", &["less"], Verb::Select(back)),
        step("plain", &["odd"], Verb::Select(odd.into_iter().rev().collect())),
        step("both", &["back", "plain"], Verb::Union),
        step("minutes", &["both"], Verb::Aggregate(minutes)),
        step("sums", &["minutes"], Verb::Aggregate(sums)),
        step("nothing", &["minutes"], Verb::Sink(SinkSpec::Blackhole)),
        step("out", &["sums"], sink),
    ]);
    job
}

/// (key, window's start) to (rows, sum): by a plain loop.
pub(crate) fn expected(events: &[Event]) -> BTreeMap<(String, i64), (i64, i64)> {
    expected_over(events, WINDOW_MS)
}

/// As [`expected`], over other windows.
pub(crate) fn expected_over(events: &[Event], size_ms: i64) -> BTreeMap<(String, i64), (i64, i64)> {
    let mut windows = BTreeMap::new();
    for event in events {
        let start = event.time_ms.div_euclid(size_ms) * size_ms;
        let (rows, sum): &mut (i64, i64) =
            windows.entry((format!("k{}", event.key), start)).or_default();
        *rows += 1;
        *sum += event.value;
    }
    windows
}
