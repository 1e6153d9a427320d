//! Every sentence that a manifest can be refused with, and that nothing else is said.

use super::*;
use crate::{Duration, SinkFormat, SourceFormat, Verb};

/// The manifest that pipeline.md prints.
const FLIGHTS: &str = r"apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata:
  name: flights
spec:
  replicas: 2
  pipeline:
    - id: flights
      source:
        files: {uri: data/flights.parquet}
        eventTime: {column: scheduled, delay: 24h}
    - id: flown
      from: flights
      filter: dep_delay is not null and tailnum is not null
    - id: delays
      from: flown
      aggregate:
        key: [origin]
        window: {tumble: 1h}
        values: [count(*) as flights, avg(dep_delay) as mean_delay, max(dep_delay) as worst]
    - id: out
      from: delays
      sink:
        files: {uri: out/delays, format: ndjson}
";

fn problems(text: &str) -> Vec<String> {
    match read_manifest(text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(Problem::to_string).collect(),
    }
}

#[track_caller]
fn accepted(text: &str) -> StatefulJob {
    read_manifest(text).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
}

/// A change of the manifest above, and all that is said of it.
#[track_caller]
fn check(from: &str, to: &str, expected: &[&str]) {
    assert!(FLIGHTS.contains(from), "{from} is in the manifest");
    let text = FLIGHTS.replacen(from, to, 1);
    assert_eq!(problems(&text), expected, "\n{text}");
}

/// Fields added to `spec`.
#[track_caller]
fn check_spec(fields: &str, expected: &[&str]) {
    check("  replicas: 2\n", &format!("  {fields}\n"), expected);
}

/// The source step's `source`.
#[track_caller]
fn check_source(source: &str, expected: &[&str]) {
    let old = "source:\n        files: {uri: data/flights.parquet}\n        eventTime: {column: scheduled, delay: 24h}";
    check(old, &format!("source: {source}"), expected);
}

#[track_caller]
fn check_filter(verb: &str, expected: &[&str]) {
    check("filter: dep_delay is not null and tailnum is not null", verb, expected);
}

#[track_caller]
fn check_sink(sink: &str, expected: &[&str]) {
    check(
        "sink:\n        files: {uri: out/delays, format: ndjson}",
        &format!("sink: {sink}"),
        expected,
    );
}

#[track_caller]
fn check_aggregate(aggregate: &str, expected: &[&str]) {
    let old = FLIGHTS.find("aggregate:").unwrap();
    let end = FLIGHTS.find("    - id: out").unwrap();
    check(&FLIGHTS[old..end], &format!("aggregate: {aggregate}\n"), expected);
}

mod any_text;
mod pipeline;
mod values;

#[test]
fn the_manifest_of_the_public_form_is_read() {
    let job = accepted(FLIGHTS);
    assert_eq!(job.metadata.name.as_deref(), Some("flights"));
    assert_eq!((job.spec.replicas, job.spec.slots), (2, 1));
    let [flights, flown, delays, out] = job.spec.pipeline.as_slice() else { panic!("four steps") };
    let Some(Verb::Source(source)) = flights.verb() else { panic!("a source") };
    let time = source.event_time.as_ref().unwrap();
    assert_eq!(time.column.as_deref(), Some("scheduled"));
    assert_eq!(time.delay.as_millis(), 24 * 3_600_000);
    assert_eq!(flown.from.0, ["flights"]);
    assert_eq!(flown.verb(), Some(Verb::Filter("dep_delay is not null and tailnum is not null")));
    let Some(Verb::Aggregate(aggregate)) = delays.verb() else { panic!("an aggregate") };
    assert_eq!(aggregate.key, ["origin"]);
    assert_eq!(aggregate.values[1], "avg(dep_delay) as mean_delay");
    assert_eq!(aggregate.lateness, Duration::ZERO);
    let Some(Verb::Sink(sink)) = out.verb() else { panic!("a sink") };
    assert_eq!(sink.files.as_ref().unwrap().format, SinkFormat::Ndjson);
}

#[test]
fn the_example_is_read() {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/flights.yaml");
    accepted(&std::fs::read_to_string(example).unwrap());
}

#[test]
fn what_is_left_out_has_its_default() {
    let job = accepted(&FLIGHTS.replace("  replicas: 2\n", ""));
    let spec = job.spec;
    assert_eq!((spec.replicas, spec.slots), (1, 1));
    assert_eq!((spec.state.key_groups, spec.state.memory.as_bytes()), (128, 512 << 20));
    assert_eq!(spec.state.uri, None);
    let checkpoint = &spec.checkpoint;
    assert_eq!(
        (checkpoint.interval.as_millis(), checkpoint.timeout.as_millis()),
        (10_000, 600_000)
    );
    assert_eq!((checkpoint.min_pause.as_millis(), checkpoint.retained), (0, 3));
    assert_eq!(checkpoint.tolerable_failures, None);
    let failover = &spec.failover;
    assert_eq!((failover.timeout.as_millis(), failover.within.as_millis()), (5_000, 600_000));
    assert_eq!((failover.restarts, failover.min_survivors.as_u32()), (10, 50));
    let partly = accepted(&FLIGHTS.replace("replicas: 2", "checkpoint: {interval: 1s}"));
    assert_eq!(partly.spec.checkpoint.retained, 3, "the others keep theirs");
}

#[test]
fn a_json_manifest_is_a_manifest() {
    let yaml: Yaml = serde_yaml::from_str(FLIGHTS).unwrap();
    let json = serde_json::to_string_pretty(&yaml).unwrap();
    assert_eq!(accepted(&json), accepted(FLIGHTS));
    let bad = json.replace("\"replicas\": 2", "\"replicas\": \"2\"");
    let expected =
        "spec.replicas: expected a whole number, found the text \"2\"; write it without quotes";
    assert_eq!(problems(&bad), [expected]);
}

#[test]
fn what_a_type_writes_is_read_again() {
    let job = accepted(FLIGHTS);
    let json = serde_json::to_string(&job).unwrap();
    assert_eq!(accepted(&json), job);
    assert_eq!(serde_json::from_str::<StatefulJob>(&json).unwrap(), job);
}

#[test]
fn all_that_is_built_is_accepted() {
    let job = accepted(
        r#"
apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata: {name: all, namespace: default, labels: {a: "1"}, annotations: }
spec:
  slots: 3
  suspend: true
  state: {uri: s3://bucket/folder, keyGroups: 32768, memory: 64Mi, store: {endpoint: "http://x", region: r, allowHttp: true, pathStyle: true, secretRef: {name: s}}}
  checkpoint: {interval: 100ms, timeout: 1m, minPause: 1s, retained: 1, tolerableFailures: 0}
  failover: {timeout: 1s, restarts: 0, within: 1h, minSurvivors: 100%, readyAfter: 0s}
  rescale: {deadline: 1m, cooldown: 30s}
  pipeline:
    - id: lines
      source:
        files:
          uri: lines
          format: ndjson
          schema: {zeta: int64, alpha: "decimal(10,2)", "y": "struct<a: int64, b: string>", at: timestamp}
          onError: fail
          rate: 1000
        eventTime: {column: at}
    - id: made
      source:
        generate: {keys: {count: 10, distinct: 3, valueBytes: 0, skew: 1.25}, rate: 5}
        eventTime: {delay: 5s}
    - {id: a, from: lines, select: ["*", alpha as b, "* except (a, b)", "coalesce(a, 0) as a"]}
    - {id: b, from: [made], filter: "true"}
    - {id: both, from: [a, b], union: {}}
    - id: sums
      from: both
      aggregate: {window: {tumble: 7d, offset: 6d}, values: [count(*) as n], lateness: 1m}
    - {id: out, from: sums, sink: {files: {uri: file:///tmp/out}}}
    - {id: shown, from: sums, sink: {print: {limit: 5}}}
    - {id: gone, from: both, sink: {blackhole: {}}}
status: {observedGeneration: 3}
"#,
    );
    let Some(Verb::Source(lines)) = job.spec.pipeline[0].verb() else { panic!("a source") };
    let files = lines.files.as_ref().unwrap();
    assert_eq!(files.format, Some(SourceFormat::Ndjson));
    let columns: Vec<_> = files.schema.as_ref().unwrap().iter().collect();
    let declared = [
        ("zeta", "int64"),
        ("alpha", "decimal(10,2)"),
        ("y", "struct<a: int64, b: string>"),
        ("at", "timestamp"),
    ];
    assert_eq!(columns, declared, "in declared order");
    let Some(Verb::Source(made)) = job.spec.pipeline[1].verb() else { panic!("a source") };
    assert_eq!(made.generate.as_ref().unwrap().keys.as_ref().unwrap().skew_milli(), 1_250);
    assert_eq!(job.spec.pipeline[4].verb(), Some(Verb::Union));
}

#[test]
fn what_is_no_stateful_job_is_said_at_once() {
    let cases = [
        (
            "- a\n",
            "line 1: expected a mapping with apiVersion, kind, metadata and spec, found a list",
        ),
        (
            "text",
            "line 1: expected a mapping with apiVersion, kind, metadata and spec, found `text`",
        ),
        ("", "manifest: is empty; a StatefulJob was expected"),
    ];
    for (text, expected) in cases {
        assert_eq!(problems(text), [expected]);
    }
    check(
        "weir.dev/v1alpha1",
        "weir.dev/v1",
        &["apiVersion: expected weir.dev/v1alpha1, found `weir.dev/v1`"],
    );
    check(
        "apiVersion: weir.dev/v1alpha1\n",
        "",
        &["apiVersion: is missing; write apiVersion: weir.dev/v1alpha1"],
    );
    check(
        "kind: StatefulJob",
        "kind: Deployment",
        &["kind: expected StatefulJob, found `Deployment`"],
    );
    check(
        "kind: StatefulJob",
        "kind: JobSnapshot",
        &["kind: a JobSnapshot is of a job in a cluster, for kubectl; here a StatefulJob is read"],
    );
    check("kind: StatefulJob\n", "", &["kind: is missing; write kind: StatefulJob"]);
    let two = format!("{FLIGHTS}---\n{FLIGHTS}");
    assert_eq!(
        problems(&two),
        ["line 26: a second document begins; write each StatefulJob into its own file"]
    );
    check(
        "spec:",
        "spec2:",
        &[
            "spec2: unknown field `spec2`; did you mean `spec`?",
            "spec: is missing; it holds the job's pipeline",
        ],
    );
    check("metadata:", "extra: 1\nmetadata:", &["extra: unknown field `extra`"]);
}
