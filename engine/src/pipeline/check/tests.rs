//! Manifests that are right, and every way to be wrong, by the sentences that come out.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use weir_expr::types;

use super::*;
use crate::pipeline::spec::{
    AggregateSpec, CheckpointPolicy, CompactionPolicy, Emit, EventTimeSpec, FailoverPolicy,
    FileFormat, Order, RescalePolicy, SinkFormat, SinkSpec, SourceKind, SourceSpec, StoreSpec,
    TableSpec, TumbleSpec, WindowSpec,
};

pub(crate) fn job(pipeline: Vec<StepSpec>) -> JobSpec {
    JobSpec {
        name: "job".into(),
        replicas: 1,
        slots: 1,
        key_groups: 128,
        order: Order::default(),
        state_memory_bytes: 1 << 20,
        checkpoint: CheckpointPolicy {
            interval_ms: 1000,
            timeout_ms: 1000,
            min_pause_ms: 0,
            retained: 3,
            tolerable_failures: None,
        },
        compaction: CompactionPolicy::default(),
        failover: FailoverPolicy {
            timeout_ms: 5000,
            restarts: 10,
            within_ms: 600_000,
            min_survivors_percent: 50,
        },
        rescale: RescalePolicy::default(),
        pipeline,
    }
}

pub(crate) fn step(id: &str, from: &[&str], verb: Verb) -> StepSpec {
    StepSpec { id: id.into(), from: from.iter().map(|id| (*id).to_owned()).collect(), verb }
}

fn timed(column: &str) -> Option<EventTimeSpec> {
    Some(EventTimeSpec { column: Some(column.into()), delay_ms: 1000 })
}

fn files(uri: &str, event_time: Option<EventTimeSpec>) -> Verb {
    let store = StoreSpec::default();
    let kind = SourceKind::Files { uri: uri.into(), format: None, schema: None, store };
    Verb::Source(SourceSpec { kind, rate: None, event_time })
}

fn declared(columns: &[(&str, &str)]) -> Verb {
    let columns = columns.iter().map(|(name, words)| ((*name).into(), (*words).into())).collect();
    let kind = SourceKind::Files {
        uri: "x.ndjson.gz".into(),
        format: None,
        schema: Some(columns),
        store: StoreSpec::default(),
    };
    Verb::Source(SourceSpec { kind, rate: None, event_time: None })
}

pub(crate) fn keys() -> Verb {
    let kind = SourceKind::Keys { count: Some(10), distinct: 2, value_bytes: 8, skew_milli: 0 };
    Verb::Source(SourceSpec { kind, rate: None, event_time: None })
}

pub(crate) fn filter(text: &str) -> Verb {
    Verb::Filter(text.into())
}

pub(crate) fn select(items: &[&str]) -> Verb {
    Verb::Select(items.iter().map(|item| (*item).to_owned()).collect())
}

pub(crate) fn aggregate(key: &[&str], values: &[&str]) -> Verb {
    Verb::Aggregate(AggregateSpec {
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        window: Some(WindowSpec::Tumble(TumbleSpec { size_ms: 3_600_000, offset_ms: 0 })),
        values: values.iter().map(|item| (*item).to_owned()).collect(),
        lateness_ms: 0,
        emit: None,
        ttl_ms: None,
    })
}

fn tumble(size_ms: i64, offset_ms: i64) -> Option<WindowSpec> {
    Some(WindowSpec::Tumble(TumbleSpec { size_ms, offset_ms }))
}

/// An aggregate `count(*) as n` by origin, changed.
fn changed(change: impl FnOnce(&mut AggregateSpec)) -> Verb {
    let mut verb = aggregate(&["origin"], &["count(*) as n"]);
    if let Verb::Aggregate(spec) = &mut verb {
        change(spec);
    }
    verb
}

fn running() -> Verb {
    changed(|spec| spec.window = None)
}

fn folder(uri: &str) -> Verb {
    Verb::Sink(SinkSpec::Files {
        uri: uri.into(),
        format: SinkFormat::Ndjson,
        store: StoreSpec::default(),
    })
}

pub(crate) fn blackhole() -> Verb {
    Verb::Sink(SinkSpec::Blackhole)
}

/// Columns of the parquet sources of these tests, by step.
fn sources() -> SourceSchemas {
    let source = |columns: &[(&str, DataType)]| {
        let fields: Vec<Field> =
            columns.iter().map(|(name, data)| Field::new(*name, data.clone(), false)).collect();
        types::normal_schema(&Schema::new(fields))
    };
    let time = || DataType::Timestamp(TimeUnit::Nanosecond, None);
    let flights = [
        ("origin", DataType::Utf8),
        ("dep_delay", DataType::Int16),
        ("tags", types::parse("list<string>").unwrap()),
        ("scheduled", time()),
        ("odd", DataType::Time64(TimeUnit::Microsecond)),
    ];
    let swapped = [
        ("scheduled", time()),
        ("odd", DataType::Time64(TimeUnit::Microsecond)),
        ("dep_delay", DataType::Int32),
        ("tags", types::parse("list<string>").unwrap()),
        ("origin", DataType::LargeUtf8),
    ];
    SourceSchemas::from([
        ("flights".to_owned(), source(&flights)),
        ("swapped".to_owned(), source(&swapped)),
    ])
}

fn flights() -> StepSpec {
    step("flights", &[], files("flights.parquet", timed("scheduled")))
}

#[track_caller]
fn accepted(steps: Vec<StepSpec>) -> CheckedJob {
    check(&job(steps), &sources()).unwrap_or_else(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    })
}

#[track_caller]
fn refused(steps: Vec<StepSpec>, expected: &[&str]) {
    let problems = check(&job(steps), &sources()).expect_err("a job with problems");
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let expected: Vec<String> =
        expected.iter().map(|line| format!("spec.pipeline{line}")).collect();
    assert_eq!(found, expected, "\nfound {found:#?}");
}

fn columns(step: &CheckedStep) -> String {
    let columns = types::write_schema(&step.schema);
    columns.iter().map(|(name, words)| format!("{name} {words}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_example_is_accepted_with_its_types() {
    let job = accepted(vec![
        flights(),
        step("flown", &["flights"], filter("dep_delay is not null")),
        step(
            "delays",
            &["flown"],
            aggregate(
                &["origin"],
                &["count(*) as flights", "avg(dep_delay) as mean_delay", "max(dep_delay) as worst"],
            ),
        ),
        step("out", &["delays"], folder("out/delays")),
    ]);
    let all = "origin string, dep_delay int32, tags list<string>, scheduled timestamp, \
               odd refused Time64(µs)";
    let delays = "origin string, window_start timestamp, window_end timestamp, flights int64, \
                  mean_delay float64, worst int32";
    let found: Vec<String> = job.steps.iter().map(columns).collect();
    assert_eq!(found, [all, all, delays, delays]);
    assert!(job.steps.iter().all(|step| step.has_time));
    assert_eq!(job.steps[3].inputs, [2]);
    let CheckedVerb::Source(source) = &job.steps[0].verb else { panic!("a source") };
    assert_eq!(source.format, Some(FileFormat::Parquet));
    let time = source.event_time.unwrap();
    assert_eq!((time.column, time.delay_ms), (3, 1000));
    let CheckedVerb::Aggregate(delays) = &job.steps[2].verb else { panic!("an aggregate") };
    assert_eq!(delays.key, [0]);
}

#[test]
fn every_aggregate_is_accepted_with_its_type() {
    let values = [
        "first(dep_delay) as a",
        "last(origin) as b",
        "array_agg(scheduled) as c",
        "bool_and(dep_delay > 0) as d",
        "bool_or(dep_delay > 0) as e",
        "stddev(dep_delay) as f",
        "var_pop(dep_delay) filter (where origin = 'JFK') as g",
        "count(distinct origin) as h",
        "sum(distinct dep_delay) / count(*) as i",
        "array_agg(distinct tags) as j",
    ];
    let job = accepted(vec![
        flights(),
        step("delays", &["flights"], aggregate(&[], &values)),
        step("out", &["delays"], folder("out/delays")),
    ]);
    assert_eq!(
        columns(&job.steps[1]),
        "window_start timestamp, window_end timestamp, a int32, b string, c list<timestamp>, \
         d boolean, e boolean, f float64, g float64, h int64, i int64, j list<list<string>>"
    );
}

#[test]
fn windows_can_be_stacked_and_a_key_can_be_absent() {
    let job = accepted(vec![
        step("events", &[], keys()),
        step("hours", &["events"], aggregate(&["key"], &["count(*) as n"])),
        step("days", &["hours"], aggregate(&[], &["sum(n) as n", "min(window_start) as first"])),
        step("out", &["days"], blackhole()),
    ]);
    assert_eq!(columns(&job.steps[0]), "key string, value binary, seq int64, time timestamp");
    assert_eq!(
        columns(&job.steps[2]),
        "window_start timestamp, window_end timestamp, n int64, first timestamp"
    );
}

#[test]
fn unions_reorder_and_have_time_if_all_have() {
    let reads = |event_time| {
        vec![
            flights(),
            step("swapped", &[], files("b.parquet", event_time)),
            step("both", &["flights", "swapped", "flights"], Verb::Union),
            step("out", &["both"], blackhole()),
        ]
    };
    let job = accepted(reads(timed("scheduled")));
    let CheckedVerb::Union { reorder } = &job.steps[2].verb else { panic!("a union") };
    assert_eq!(reorder, &[None, Some(vec![4, 2, 3, 0, 1]), None]);
    assert_eq!(job.steps[2].schema, job.steps[0].schema);
    assert!(job.steps[2].has_time);
    assert!(!accepted(reads(None)).steps[2].has_time);
}

#[test]
fn sources_are_checked() {
    refused(
        vec![
            step("a", &[], files("a.parquet", None)),
            step("b", &[], files("b.csv", None)),
            step("c", &[], files("c.ndjson", None)),
            step("d", &[], declared(&[("x", "int"), ("y", "list<int64"), ("z", "date")])),
            step("e", &[], declared(&[("x", "int64"), ("x", "date")])),
            step("out", &["a"], blackhole()),
        ],
        &[
            "[0].source: its columns are not known, since its object could not be read",
            "[1].source.files.format: the suffix of `b.csv` tells no format; declare parquet or ndjson",
            "[2].source.files: ndjson without `schema` is not built yet; declare its columns as \
             `schema: {name: type}`",
            "[3].source.files.schema.x: there is no type `int`; did you mean `int32`? (types: \
             boolean, int32, int64, float64, decimal, string, binary, date, timestamp, list, struct)",
            "[3].source.files.schema.y: type `list<int64`: expected `>` at its end",
            "[4].source: there are two columns `x`",
        ],
    );
    let mut own = declared(&[("x", "int64")]);
    if let Verb::Source(SourceSpec { kind: SourceKind::Files { format, .. }, rate, .. }) = &mut own
    {
        *format = Some(FileFormat::Parquet);
        *rate = Some(0);
    }
    refused(
        vec![step("flights", &[], own)],
        &[
            "[0].source.files.schema: a parquet file has its own schema",
            "[0].source.rate: a rate of 0 rows per second never ends; leave it out",
        ],
    );
}

#[test]
fn event_time_is_a_timestamp_column_and_to_blame_alone() {
    let reader = || {
        vec![
            step("n", &["flights"], aggregate(&[], &["count(*) as n"])),
            step("out", &["n"], blackhole()),
        ]
    };
    for (column, expected) in [
        ("schedule", "there is no column `schedule`; did you mean `scheduled`?"),
        ("origin", "event time is a timestamp; column `origin` is string"),
        ("odd", "column `odd` has type Time64(µs) in its source, which has no pipeline type"),
    ] {
        let mut steps = vec![step("flights", &[], files("f.parquet", timed(column)))];
        steps.extend(reader());
        refused(steps, &[&format!("[0].source.eventTime.column: {expected}")]);
    }
    let unnamed = Some(EventTimeSpec { column: None, delay_ms: -1 });
    let mut steps = vec![step("flights", &[], files("f.parquet", unnamed))];
    steps.extend(reader());
    refused(
        steps,
        &["[0].source.eventTime.column: a `files` source has to name its column of event time"],
    );
    let mut late = keys();
    if let Verb::Source(source) = &mut late {
        source.event_time = Some(EventTimeSpec { column: None, delay_ms: -1 });
    }
    refused(vec![step("k", &[], late)], &["[0].source.eventTime.delay: a delay is not negative"]);
}

#[test]
fn a_window_without_event_time_is_refused() {
    refused(
        vec![
            step("flights", &[], files("f.parquet", None)),
            step("n", &["flights"], aggregate(&["origin"], &["count(*) as n"])),
            step("m", &["n"], aggregate(&["origin"], &["count(*) as n"])),
            step("out", &["m"], blackhole()),
        ],
        &["[1].aggregate.window: a window needs event time, and these rows have none; give every \
           source of them an `eventTime`"],
    );
}

#[test]
fn expressions_are_checked_and_one_mistake_is_said_once() {
    refused(
        vec![
            flights(),
            step("a", &["flights"], filter("dep_dely > 1")),
            step("b", &["a"], filter("origin > 1")),
            step("c", &["b"], select(&["origin", "nothing", "dep_delay + 1"])),
            step("d", &["c"], filter("anything goes here")),
            step("e", &["d"], aggregate(&["what"], &["first(x) as y"])),
            step("f", &["a"], select(&["*"])),
            step("out", &["e"], blackhole()),
        ],
        &[
            "[1].filter: there is no column `dep_dely`; did you mean `dep_delay`?",
            "[2].filter: cannot compare string with int64; cast one of them",
            "[3].select[1]: there is no column `nothing`; columns: `origin`, `dep_delay`, `tags`, \
             `scheduled`, `odd`",
            "[3].select[2]: `dep_delay + 1` needs a name: write `dep_delay + 1 as name`",
            "[6].select[0]: column `odd` has type Time64(µs) in its source, which has no pipeline \
             type; leave it out with `* except (odd)`",
        ],
    );
}

#[test]
fn aggregates_are_checked() {
    let mut strange = aggregate(&["origin"], &["count(*) as n"]);
    if let Verb::Aggregate(spec) = &mut strange {
        spec.window = tumble(0, 0);
        spec.lateness_ms = -1;
    }
    refused(
        vec![
            flights(),
            step(
                "a",
                &["flights"],
                aggregate(
                    &["orgin", "tags", "odd", "origin", "origin"],
                    &["sum(origin) as s", "count(*)", "median(dep_delay) as d"],
                ),
            ),
            step("b", &["flights"], strange),
            step(
                "c",
                &["flights"],
                aggregate(&["origin"], &["count(*) as origin", "count(*) as window_end"]),
            ),
            step("d", &["b"], aggregate(&["window_start"], &["count(*) as n"])),
            step("out", &["c"], blackhole()),
        ],
        &[
            "[1].aggregate.key[0]: there is no column `orgin`; did you mean `origin`?",
            "[1].aggregate.key[1]: column `tags` is list<string>, which cannot be a key",
            "[1].aggregate.key[2]: column `odd` has type Time64(µs) in its source, which has no \
             pipeline type",
            "[1].aggregate.key[4]: column `origin` is in the key already",
            "[1].aggregate.values[0]: `sum` needs numbers, not string",
            "[1].aggregate.values[1]: `count(*)` needs a name: write `count(*) as name`",
            "[1].aggregate.values[2]: there is no aggregate `median` (aggregates: count, sum, min, \
             max, avg, first, last, array_agg, bool_and, bool_or, stddev, stddev_samp, \
             stddev_pop, var, var_samp, var_pop)",
            "[2].aggregate.window.tumble: a window is at least 1ms long",
            "[2].aggregate.lateness: a lateness is not negative",
            "[3].aggregate.values[0]: `origin` is a column of the key; name it anew",
            "[3].aggregate.values[1]: `window_end` is a column that the window adds; name it anew",
            "[4].aggregate.key[0]: `window_start` is a column that the window adds; rename it \
             before with a select: `window_start as …`",
        ],
    );
}

#[test]
fn unions_of_different_rows_are_refused() {
    refused(
        vec![
            flights(),
            step("a", &["flights"], select(&["origin", "dep_delay as d"])),
            step("b", &["flights"], select(&["dep_delay as origin", "scheduled"])),
            step("both", &["a", "b"], Verb::Union),
            step("keep", &["both"], filter("d > 1")),
            step("out", &["keep"], blackhole()),
        ],
        &[
            "[3].from: `a` and `b` differ: column `origin` is string in one and int32 in the other, \
           only the first has column `d`, only the second has column `scheduled`",
        ],
    );
}

#[test]
fn sinks_are_checked() {
    refused(
        vec![
            flights(),
            step("ok", &["flights"], select(&["origin"])),
            step("a", &["flights"], folder("out")),
            step("b", &["ok"], folder("./out/")),
            step("c", &["ok"], folder("other/../out/x/..")),
            step("d", &["ok"], folder("file:///out")),
            step("e", &["ok"], folder("/out//")),
            step("f", &["ok"], folder("s3://bucket/out")),
            step("g", &["ok"], folder("s3://bucket/out/")),
            step("h", &["ok"], folder("")),
            step("i", &["flights"], Verb::Sink(SinkSpec::Print { limit: None })),
            step("j", &["flights"], blackhole()),
        ],
        &[
            "[2].sink.files: column `odd` has type Time64(µs) in its source, which has no pipeline \
             type; leave it out with a select",
            "[10].sink.print: column `odd` has type Time64(µs) in its source, which has no pipeline \
             type; leave it out with a select",
            "[3].sink.files.uri: sink `a` writes the folder `./out/` too; take another",
            "[4].sink.files.uri: sink `a` writes the folder `other/../out/x/..` too; take another",
            "[6].sink.files.uri: sink `d` writes the folder `/out//` too; take another",
            "[8].sink.files.uri: sink `f` writes the folder `s3://bucket/out/` too; take another",
            "[9].sink.files.uri: names no folder",
        ],
    );
}

#[test]
fn a_structure_that_is_wrong_does_no_harm() {
    refused(
        vec![
            step("a", &["b"], filter("x")),
            step("b", &["b"], blackhole()),
            step("flights", &["flights"], files("x.parquet", None)),
            step("c", &[], blackhole()),
            step("d", &["b"], blackhole()),
            step("k", &[], keys()),
            step("u", &["k"], Verb::Union),
            step("v", &["k", "k"], filter("true")),
            step("", &["u"], filter("true")),
        ],
        &[
            "[0].from: there is no step `b` above",
            "[1].from: there is no step `b` above",
            "[2].from: there is no step `flights` above",
            "[3].from: exactly one step is read here",
            "[4].from: step `b` is a sink; nothing comes out of it",
            "[6].from: a union reads at least two steps",
            "[7].from: exactly one step is read here",
        ],
    );
    assert!(accepted(vec![]).steps.is_empty());
    accepted(vec![step("k", &[], keys()), step("k", &["k"], filter("seq > 1"))]);
}

#[test]
fn unions_of_unions_have_a_limit() {
    let mut steps = vec![step("u0", &[], keys())];
    for level in 0..30 {
        let below = format!("u{level}");
        steps.push(step(&format!("u{}", level + 1), &[&below, &below], Verb::Union));
    }
    refused(
        steps,
        &[": rows can take 2147483647 ways through its unions; at most 1000 are allowed"],
    );
}

#[test]
fn a_table_needs_a_key_of_its_input_and_columns_that_it_can_keep() {
    let table = |key: &[&str], every_ms| {
        let key = key.iter().map(|name| (*name).to_owned()).collect();
        Verb::Sink(SinkSpec::Table(TableSpec {
            uri: "table".into(),
            key,
            format: SinkFormat::Ndjson,
            every_ms,
            store: StoreSpec::default(),
        }))
    };
    let job = |verb: Verb| vec![step("k", &[], keys()), step("out", &["k"], verb)];
    let checked = accepted(job(table(&["key", "seq"], None)));
    let CheckedVerb::Table(found) = &checked.steps[1].verb else { panic!("a table") };
    assert_eq!(found.key, [0, 2]);
    assert!(checked.steps[1].signature.is_some());
    let near = "there is no column `kye`; did you mean `key`?";
    refused(job(table(&["kye"], None)), &[&format!("[1].sink.table.key[0]: {near}")]);
    refused(job(table(&[], None)), &["[1].sink.table.key: a table needs a key"]);
    refused(job(table(&["key"], Some(0))), &["[1].sink.table.every: is at least 1ms"]);
    let kept = vec![flights(), step("out", &["flights"], table(&["tags"], None))];
    refused(
        kept,
        &[
            "[1].sink.table.key[0]: column `tags` is list<string>, which cannot be a key",
            "[1].sink.table: column `odd` has type Time64(µs) in its source, which has no \
             pipeline type; leave it out with a select",
        ],
    );
}

fn signature(input: &str, spec: impl FnOnce(&mut AggregateSpec)) -> String {
    let mut verb = aggregate(&["key"], &["count(*) as n", "sum(seq) as s"]);
    if let Verb::Aggregate(aggregate) = &mut verb {
        spec(aggregate);
    }
    let steps = vec![
        step("k", &[], keys()),
        step("i", &["k"], select(&[input, "time"])),
        step("a", &["i"], verb),
    ];
    accepted(steps)[2].signature.clone().expect("an aggregate has a signature")
}

impl std::ops::Index<usize> for CheckedJob {
    type Output = CheckedStep;

    fn index(&self, index: usize) -> &CheckedStep {
        &self.steps[index]
    }
}

#[test]
fn a_signature_changes_with_key_window_and_values_alone() {
    let plain = signature("* except (time)", |_| {});
    // A release that gives another one loses the state of every job.
    assert_eq!(plain, "6cf4666e2c8ee947");
    assert_eq!(plain, signature("* except (time, value)", |_| {}));
    assert_eq!(plain, signature("* except (time)", |spec| spec.lateness_ms = 5));
    assert_eq!(
        plain,
        signature("* except (time)", |spec| {
            spec.values = vec!["COUNT( * )  as n".into(), "sum(seq) as s".into()];
        })
    );
    let mut all = vec![plain];
    all.push(signature("* except (time)", |spec| spec.window = tumble(1, 0)));
    all.push(signature("* except (time)", |spec| spec.window = tumble(3_600_000, 1)));
    all.push(signature("* except (time)", |spec| spec.key = vec![]));
    all.push(signature("* except (time)", |spec| spec.key.push("seq".into())));
    all.push(signature("* except (time)", |spec| spec.values.reverse()));
    all.push(signature("* except (time)", |spec| spec.values.truncate(1)));
    all.push(signature("* except (time)", |spec| spec.values[1] = "sum(seq) as t".into()));
    all.push(signature("* except (time)", |spec| spec.window = None));
    let hop = |size_ms, every_ms| Some(WindowSpec::Hop { size_ms, every_ms, offset_ms: 0 });
    all.push(signature("* except (time)", |spec| spec.window = hop(3_600_000, 3_600_000)));
    all.push(signature("* except (time)", |spec| spec.window = hop(3_600_000, 60_000)));
    let session = Some(WindowSpec::Session { gap_ms: 3_600_000 });
    all.push(signature("* except (time)", |spec| spec.window = session));
    all.push(signature("* except (time)", |spec| spec.emit = Some(Emit::OnUpdate)));
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn without_a_window_there_is_a_changelog_and_no_window_columns() {
    let job = accepted(vec![
        flights(),
        step("n", &["flights"], running()),
        step("m", &["flights"], changed(|spec| spec.emit = Some(Emit::OnUpdate))),
        step("some", &["n"], filter("n > 1")),
        step("less", &["some"], select(&["n", "origin"])),
        step("both", &["less", "n"], Verb::Union),
        step("out", &["both"], folder("out")),
        step("gone", &["m"], blackhole()),
    ]);
    assert_eq!(columns(&job[1]), "origin string, n int64");
    assert_eq!(
        columns(&job[2]),
        "origin string, window_start timestamp, window_end timestamp, n int64"
    );
    let changelogs: Vec<bool> = job.steps.iter().map(|step| step.changelog).collect();
    assert_eq!(changelogs, [false, true, true, true, true, true, true, true]);
    assert!(job.steps.iter().all(|step| step.has_time));
    let untimed = accepted(vec![
        step("flights", &[], files("f.parquet", None)),
        step("n", &["flights"], running()),
        step("out", &["n"], blackhole()),
    ]);
    assert!(!untimed[1].has_time, "what comes in has none");
}

#[test]
fn windows_emit_and_ttl_are_checked() {
    let hop = |size_ms, every_ms| Some(WindowSpec::Hop { size_ms, every_ms, offset_ms: 0 });
    refused(
        vec![
            flights(),
            step("a", &["flights"], changed(|spec| spec.window = hop(10, 11))),
            step("b", &["flights"], changed(|spec| spec.window = hop(10, 0))),
            step("c", &["flights"], changed(|spec| spec.window = hop(100_000, 1))),
            step(
                "d",
                &["flights"],
                changed(|spec| spec.window = Some(WindowSpec::Session { gap_ms: 0 })),
            ),
            step("e", &["flights"], changed(|spec| spec.ttl_ms = Some(1))),
            step(
                "f",
                &["flights"],
                changed(|spec| {
                    (spec.window, spec.emit, spec.lateness_ms) = (None, Some(Emit::OnClose), 1);
                    spec.ttl_ms = Some(0);
                }),
            ),
            step("all", &["a", "b", "c", "d", "e"], Verb::Union),
            step("out", &["all"], blackhole()),
            step("gone", &["f"], blackhole()),
        ],
        &[
            "[1].aggregate.window.hop.every: is longer than the window, so that rows between windows \
             would be lost; make it at most `size`",
            "[2].aggregate.window.hop.every: is at least 1ms",
            "[3].aggregate.window.hop.every: each row would be in 100000 windows; at most 10000 are \
             allowed",
            "[4].aggregate.window.session: the gap of a session is at least 1ms",
            "[5].aggregate.ttl: a window's state ends with the window; `ttl` is for aggregates \
             without one",
            "[6].aggregate.emit: without a window nothing closes, so the only choice is `onUpdate`",
            "[6].aggregate.lateness: says how long a window stays, and there is no window",
            "[6].aggregate.ttl: is at least 1ms",
        ],
    );
}

#[test]
fn a_window_takes_no_changelog_and_a_kind_needs_its_name() {
    refused(
        vec![
            flights(),
            step("n", &["flights"], running()),
            step("w", &["n"], aggregate(&["origin"], &["count(*) as m"])),
            step("op", &["n"], select(&["n as _op"])),
            step("out", &["op"], folder("out")),
            step("gone", &["w"], blackhole()),
        ],
        &[
            "[2].aggregate.window: an aggregate with a window takes no changelog, and these rows may \
             be revised; leave the window out, or put the aggregate above the step that revises",
            "[4].sink.files: these rows may be revised, and their kind is written as `_op`, which is \
             a column already; rename it with a select",
        ],
    );
}
