//! Manifests: many in one call, and all that is said of each.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, Time64MicrosecondArray};
use parquet::arrow::ArrowWriter;

use super::job;
use crate::command::{Folder, counting};

/// Generated rows under the id `k`.
const KEYS: &str =
    "- {id: k, source: {generate: {keys: {count: 10, distinct: 3, valueBytes: 4}}}}\n";
/// Rows of a file under the id `rows`; their event time is `t`.
const ROWS: &str = "- {id: rows, source: {files: {uri: rows.ndjson, schema: {x: int64, s: string, \
                    t: timestamp}}, eventTime: {column: t, delay: 1s}}}\n";

fn printed(step: &str) -> String {
    format!("- {{id: out, from: {step}, sink: {{print: {{}}}}}}\n")
}

/// A step behind generated rows, printed.
fn step(verb: &str) -> String {
    format!("{KEYS}- {{id: a, from: k, {verb}}}\n{}", printed("a"))
}

/// A step behind the file's rows, printed.
fn timed(verb: &str) -> String {
    format!("{ROWS}- {{id: a, from: rows, {verb}}}\n{}", printed("a"))
}

/// Validates all manifests in one call, and compares all that is said.
#[track_caller]
fn check(folder: &Folder, manifests: &[(String, Vec<String>)]) {
    let (mut args, mut expected) = (vec!["validate".to_owned()], Vec::new());
    for (index, (manifest, sentences)) in manifests.iter().enumerate() {
        let file = format!("{index}.yaml");
        folder.write(&file, manifest);
        expected.extend(sentences.iter().map(|sentence| format!("{file}: {sentence}")));
        args.push(file);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = folder.weir(&args);
    let found: Vec<&str> = done.err.lines().collect();
    for (index, (manifest, _)) in manifests.iter().enumerate() {
        let of_file = |line: &&&str| line.starts_with(&format!("{index}.yaml:"));
        let found: Vec<&str> = found.iter().filter(of_file).copied().collect();
        let expected: Vec<&str> =
            expected.iter().map(String::as_str).filter(|line| of_file(&line)).collect();
        assert_eq!(found, expected, "\n{manifest}");
    }
    assert_eq!(found.len(), expected.len(), "{}", done.err);
    let is_sound = expected.iter().all(|line| line.ends_with(": no problems"));
    assert_eq!(done.code, Some(if is_sound { 0 } else { 2 }));
    assert!(done.out.is_empty());
}

fn inputs() -> Folder {
    let folder = Folder::new();
    folder.write(
        "rows.ndjson",
        "{\"x\":1,\"s\":\"a\",\"t\":1000}\n{\"x\":2,\"s\":\"b\",\"t\":2000}\n",
    );
    let columns: [(&str, ArrayRef); 2] = [
        ("number", Arc::new(Int64Array::from(vec![1]))),
        ("clock", Arc::new(Time64MicrosecondArray::from(vec![1]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    std::fs::write(folder.path().join("clock.parquet"), writer.into_inner().unwrap()).unwrap();
    folder
}

#[test]
fn each_mistake_is_one_sentence_with_its_path() {
    let at = "spec.pipeline";
    let volatile = "would give another result when rows are replayed; use a column instead";
    let no_type = "column `clock` has type Time64(µs) in its source, which has no pipeline type";
    let clock = "- {id: p, source: {files: {uri: clock.parquet}}}\n";
    let cases = [
        (
            step("select: [key, y]"),
            "[1].select[1]: `y` without quotes is a boolean to kubectl, which reads YAML 1.1; write \"y\"".to_owned(),
        ),
        (
            step("select: [coalesce(seq, 0) as a]"),
            "[1].select[0]: `coalesce(seq` has unbalanced parentheses: YAML splits an item of a flow list at its commas; write \"coalesce(seq, 0) as a\" in quotes, or use a block list".to_owned(),
        ),
        (step("filter: sqe > 1"), "[1].filter: there is no column `sqe`; did you mean `seq`?".to_owned()),
        (step("filter: SEQ > 1"), "[1].filter: there is no column `SEQ`; did you mean `seq`?".to_owned()),
        (step("filter: key > 1"), "[1].filter: cannot compare string with int64; cast one of them".to_owned()),
        (step("filter: seq + 1"), "[1].filter: a filter must be boolean; `seq + 1` is int64".to_owned()),
        (step("select: [now() as a]"), format!("[1].select[0]: `now` {volatile}")),
        (step("select: [random() as a]"), format!("[1].select[0]: `random` {volatile}")),
        (step("select: [uuid() as a]"), format!("[1].select[0]: `uuid` {volatile}")),
        (
            step("aggregate: {key: [key], window: {tumble: 1s}, values: [median(seq) as m]}"),
            "[1].aggregate.values[0]: there is no aggregate `median` (aggregates: count, sum, min, max, avg, \
             first, last, array_agg, bool_and, bool_or, stddev, stddev_samp, stddev_pop, var, \
             var_samp, var_pop)".to_owned(),
        ),
        (
            timed("aggregate: {window: {tumble: 1s}, values: [count(*) as n]}")
                .replace(", eventTime: {column: t, delay: 1s}", ""),
            "[1].aggregate.window: a window needs event time, and these rows have none; give every source of them an `eventTime`".to_owned(),
        ),
        (
            timed("filter: x > 1").replace("column: t", "column: x"),
            "[0].source.eventTime.column: event time is a timestamp; column `x` is int64".to_owned(),
        ),
        (
            timed("filter: x > 1").replace("rows.ndjson", "none.ndjson"),
            "[0].source: rows: none.ndjson: not found".to_owned(),
        ),
        (
            format!("{clock}- {{id: f, from: p, filter: clock is null}}\n{}", printed("f").replace("print", "blackhole")),
            format!("[1].filter: {no_type}"),
        ),
        (format!("{clock}{}", printed("p")), format!("[1].sink.print: {no_type}; leave it out with a select")),
        (
            format!("{KEYS}{ROWS}- {{id: u, from: [k, rows], union: {{}}}}\n{}", printed("u")),
            "[2].from: `k` and `rows` differ: only the first has column `key`, only the first has column `value`, only the first has column `seq`, only the first has column `time`, only the second has column `x`, only the second has column `s`, only the second has column `t`".to_owned(),
        ),
    ];
    let mut manifests: Vec<(String, Vec<String>)> = cases
        .into_iter()
        .map(|(steps, sentence)| (job("job", &steps), vec![format!("{at}{sentence}")]))
        .collect();
    let state =
        job("job", &step("filter: seq > 1")).replace("spec:\n", "spec:\n  state: {uri: folder}\n");
    let relative = "spec.state.uri: is relative; the state of a job lies below s3:// or file://";
    manifests.push((state, vec![relative.to_owned()]));
    // What is not used of a source may have any type.
    let unused = format!("{clock}- {{id: f, from: p, select: [number]}}\n{}", printed("f"));
    manifests.push((job("job", &unused), vec!["no problems".to_owned()]));
    check(&inputs(), &manifests);
}

#[test]
fn windows_and_changelogs_that_make_no_sense_are_refused() {
    let cases = [
        (
            timed("aggregate: {key: [s], values: [count(*) as n]}").replace(
                "- {id: out, from: a",
                "- {id: w, from: a, aggregate: {window: {tumble: 1s}, values: [count(*) as m]}}\n- {id: out, from: w",
            ),
            "[2].aggregate.window: an aggregate with a window takes no changelog, and these rows may be revised; leave the window out, or put the aggregate above the step that revises".to_owned(),
        ),
        (
            step("aggregate: {values: [count(*) as n], emit: onClose}"),
            "[1].aggregate.emit: without a window nothing closes, so the only choice is `onUpdate`".to_owned(),
        ),
        (
            step("aggregate: {values: [count(*) as n], lateness: 1s}"),
            "[1].aggregate.lateness: says how long a window stays, and there is no window".to_owned(),
        ),
        (
            step("aggregate: {window: {tumble: 1s}, values: [count(*) as n], ttl: 1s}"),
            "[1].aggregate.ttl: a window's state ends with the window; `ttl` is for aggregates without one".to_owned(),
        ),
        (
            step("aggregate: {window: {hop: {size: 1s, every: 2s}}, values: [count(*) as n]}"),
            "[1].aggregate.window.hop.every: 2s is longer than the window, 1s, so that rows between windows would be lost; make it at most `size`".to_owned(),
        ),
    ];
    let cases =
        cases.map(|(steps, problem)| (job("job", &steps), vec![format!("spec.pipeline{problem}")]));
    check(&inputs(), &cases);
}

#[test]
fn all_problems_of_sources_and_steps_come_at_once() {
    let steps = "- {id: a, source: {files: {uri: rows.ndjson, schema: {x: integer, s: text}}, eventTime: {column: t}}}
         - {id: b, source: {files: {uri: none.ndjson, schema: {x: int64, t: timestamp}}, eventTime: {column: tt}}}
         - {id: b, from: b, filtre: x > 1}
         - {from: later, filter: x > 1}
         - {id: later, from: b, filter: xx > 1}
         - {id: out, from: a, sink: {print: {}}}";
    let types = "(types: boolean, int32, int64, float64, decimal, string, binary, date, timestamp, list, struct)";
    let expected = [
        "[2].filtre: unknown field `filtre`; did you mean `filter`?",
        "[3].id: is missing",
        "[2].id: `b` is already the id of spec.pipeline[1]",
        "[3].from: step `later` is below; a step reads only steps above it",
        "[2]: nobody reads step `b`; read it or remove it",
        &format!(
            "[0].source.files.schema.x: there is no type `integer`; did you mean `int32`? {types}"
        ),
        &format!(
            "[0].source.files.schema.s: there is no type `text`; did you mean `string`? {types}"
        ),
        "[1].source: b: none.ndjson: not found",
        "[1].source.eventTime.column: there is no column `tt`; columns: `x`, `t`",
        "[4].filter: there is no column `xx`; columns: `x`, `t`",
    ];
    let expected = expected.iter().map(|line| format!("spec.pipeline{line}")).collect();
    check(&inputs(), &[(job("job", steps), expected)]);
}

#[test]
fn limits_are_named() {
    let many: String = (0..199)
        .map(|n| {
            let from = if n == 0 { "k".to_owned() } else { format!("f{}", n - 1) };
            format!("- {{id: f{n}, from: {from}, filter: seq > 1}}\n")
        })
        .collect();
    let names: Vec<String> = (0..33).map(|n| format!("c{n}")).collect();
    let key = format!(
        "aggregate: {{key: [{}], window: {{tumble: 1s}}, values: [count(*) as n]}}",
        names.join(", ")
    );
    let long = format!("filter: seq = {}", " ".repeat(4_097 - 7) + "1");
    let (id, name) = ("a".repeat(41), "b".repeat(41));
    let one = |manifest: String, sentence: &str| (manifest, vec![sentence.to_owned()]);
    check(
        &inputs(),
        &[
            one(
                job("job", &format!("{KEYS}{many}{}", printed("f198"))),
                "spec.pipeline: has 201 entries; at most 200 are allowed",
            ),
            one(
                job("job", &step(&key)),
                "spec.pipeline[1].aggregate.key: has 33 entries; at most 32 are allowed",
            ),
            one(
                job("job", &step(&long.replace("seq = ", "\"seq = ").replace(" 1", " 1\""))),
                "spec.pipeline[1].filter: is 4097 bytes long; at most 4096 are allowed",
            ),
            one(
                job(
                    "job",
                    &format!("{KEYS}{}", printed("k").replace("id: out", &format!("id: {id}"))),
                ),
                "spec.pipeline[1].id: has 41 characters; an id has at most 40",
            ),
            one(
                job(&name, &format!("{KEYS}{}", printed("k"))),
                "metadata.name: has 41 characters; a job's name has at most 40",
            ),
        ],
    );
}

#[test]
fn what_is_not_built_yet_is_refused_with_that_word() {
    let folder = inputs();
    let source = |source: &str| format!("- {{id: k, source: {{{source}}}}}\n{}", printed("k"));
    let sink = |sink: &str| format!("{KEYS}- {{id: out, from: k, sink: {{{sink}}}}}\n");
    let steps = [
        step("unnest: tags"),
        step("dedup: {key: [key], keep: first}"),
        step("topN: {key: [key], limit: 3, orderBy: [{column: seq}]}"),
        step("join: {with: k, keys: [{left: key, right: key}]}"),
        step("process: {name: mine, key: [key]}"),
        source("files: {uri: rows.ndjson}"),
        source("files: {uri: data.csv, schema: {x: int64}}"),
        source("files: {uri: rows.ndjson, schema: {x: int64}, follow: true}"),
        source("files: {uri: rows.ndjson, schema: {x: int64}, onError: skip}"),
        source("files: {uri: gs://bucket/x.parquet}"),
        source("kafka: {brokers: b, topic: t}"),
        source("generate: {keys: {count: 10}}, eventTime: {maxAhead: 1h}"),
        sink("kafka: {}"),
        sink("files: {uri: out, format: csv}"),
        sink("files: {uri: out, roll: {every: 1m}}"),
        sink("files: {uri: out, partitionBy: [key]}"),
    ];
    let mut manifests: Vec<String> = steps.iter().map(|steps| job("job", steps)).collect();
    let spec = |field: &str| {
        job("job", &step("filter: seq > 1")).replace("spec:\n", &format!("spec:\n  {field}\n"))
    };
    manifests.extend(["sql: select 1", "upgrade: {mode: Rolling}"].map(spec));
    let mut args = vec!["validate".to_owned()];
    for (index, manifest) in manifests.iter().enumerate() {
        folder.write(&format!("{index}.yaml"), manifest);
        args.push(format!("{index}.yaml"));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = folder.weir(&args);
    assert_eq!(done.code, Some(2));
    let said: Vec<&str> = done.err.lines().collect();
    assert_eq!(said.len(), manifests.len(), "one sentence each:\n{}", done.err);
    for (index, (line, manifest)) in said.iter().zip(&manifests).enumerate() {
        assert!(line.starts_with(&format!("{index}.yaml: spec.")), "{line}\n{manifest}");
        assert!(line.contains("not built yet") && !line.contains("unknown"), "{line}\n{manifest}");
    }
}

#[test]
fn what_is_sound_is_accepted() {
    let folder = inputs();
    folder.write(
        "odd.ndjson",
        "{\"Name\":\"A\",\"name\":\"b\",\"select\":3,\"a b\":[1,2],\"st\":{\"a\":1,\"b\":\"x\"}}\n",
    );
    let odd = "- {id: rows, source: {files: {uri: odd.ndjson, schema: {\"Name\": string, name: string, select: int64, \"a b\": \"list<int64>\", st: \"struct<a: int64, b: string>\"}}}}\n";
    let sound = [
        format!(
            "{ROWS}{}{KEYS}- {{id: c, from: k, select: [time as t, key as s, seq as x]}}
             - {{id: u, from: [rows, b, c], union: {{}}}}\n{}",
            ROWS.replace("id: rows", "id: b"),
            printed("u")
        ),
        format!(
            "{KEYS}- {{id: h, from: k, aggregate: {{key: [key], window: {{tumble: 1s}}, values: [count(*) as n]}}}}
             - {{id: d, from: h, aggregate: {{window: {{tumble: 1m}}, values: [sum(n) as n, min(window_start) as first]}}}}\n{}",
            printed("d")
        ),
        timed("aggregate: {key: [s], window: {tumble: 1d, offset: 8h}, lateness: 5s, values: [sum(x) / count(*) as mean, avg(x) as a]}"),
        timed("select: [\"* except (x, t)\"]"),
        timed("select: ['*', 'coalesce(x, 0) as z', \"t + interval '1 hour' as later\", \"date_trunc('month', cast(t as date)) as month\"]"),
        format!("{odd}- {{id: a, from: rows, select: ['Name', name, '\"select\" + 1 as n', '\"a b\"', st.b as b]}}\n{}", printed("a")),
        format!("{KEYS}{}- {{id: o2, from: k, sink: {{blackhole: {{}}}}}}\n- {{id: o3, from: k, sink: {{files: {{uri: out/k}}}}}}\n", printed("k")),
        format!("{}{}", KEYS.replace("}}}}", "}, rate: 20}}}"), printed("k").replace("{}", "{limit: 3}")),
        timed("aggregate: {window: {tumble: 250ms}, values: [\"min(s) as \\\"y\\\"\", max(t) as last, count(x) as n]}"),
    ];
    let mut manifests: Vec<(String, Vec<String>)> =
        sound.iter().map(|steps| (job("job", steps), vec!["no problems".to_owned()])).collect();
    let yaml: serde_yaml::Value = serde_yaml::from_str(&manifests[0].0).unwrap();
    manifests.push((serde_json::to_string(&yaml).unwrap(), vec!["no problems".to_owned()]));
    let changes = timed("aggregate: {key: [s], values: [count(*) as n, max(x) as x], ttl: 1h}");
    let hop = timed("aggregate: {window: {hop: {size: 2s, every: 1s}}, values: [count(*) as n]}")
        .replace("print: {}", "print: {limit: 9}");
    let session = timed("aggregate: {key: [s], window: {session: 5s}, values: [count(*) as n]}");
    for steps in [changes, hop, session] {
        manifests.push((job("job", &steps), vec!["no problems".to_owned()]));
    }
    check(&folder, &manifests);

    // And what they give is what they say.
    for (index, rows) in [
        (
            1,
            "{\"window_start\":\"2015-07-15T00:00:00.000Z\",\"window_end\":\"2015-07-15T00:01:00.000Z\",\"n\":10,\"first\":\"2015-07-15T00:00:00.000Z\"}\n",
        ),
        (3, "{\"s\":\"a\"}\n{\"s\":\"b\"}\n"),
        (
            10,
            "{\"_op\":\"+I\",\"s\":\"a\",\"n\":1,\"x\":1}\n{\"_op\":\"+I\",\"s\":\"b\",\"n\":1,\"x\":2}\n",
        ),
        (
            11,
            "{\"window_start\":\"1970-01-01T00:00:00.000Z\",\"window_end\":\"1970-01-01T00:00:02.000Z\",\"n\":1}\n\
             {\"window_start\":\"1970-01-01T00:00:01.000Z\",\"window_end\":\"1970-01-01T00:00:03.000Z\",\"n\":2}\n\
             {\"window_start\":\"1970-01-01T00:00:02.000Z\",\"window_end\":\"1970-01-01T00:00:04.000Z\",\"n\":1}\n",
        ),
        (
            12,
            "{\"s\":\"a\",\"window_start\":\"1970-01-01T00:00:01.000Z\",\"window_end\":\"1970-01-01T00:00:06.000Z\",\"n\":1}\n\
             {\"s\":\"b\",\"window_start\":\"1970-01-01T00:00:02.000Z\",\"window_end\":\"1970-01-01T00:00:07.000Z\",\"n\":1}\n",
        ),
        (5, "{\"Name\":\"A\",\"name\":\"b\",\"n\":4,\"a b\":[1,2],\"b\":\"x\"}\n"),
    ] {
        let done =
            folder.weir(&["run", &format!("{index}.yaml"), "--data", &format!("data{index}")]);
        done.check(0, &["finished"]);
        assert_eq!(done.out, rows);
    }
    let union = folder.weir(&["run", "9.yaml", "--data", "data9"]);
    union.check(0, &["finished"]);
    assert_eq!(union.out.lines().count(), 2 + 2 + 10);
    assert!(union.out.lines().all(|row| row.starts_with("{\"x\":") && row.contains(",\"s\":")));
}

#[test]
fn a_run_refuses_what_validate_refuses_and_leaves_nothing_behind() {
    for (change, to, sentences) in [
        (
            "from: events",
            "from: event",
            &["spec.pipeline[1].from: there is no step `event`; did you mean `events`?"][..],
        ),
        (
            "sum(seq)",
            "sum(sequence)",
            &[
                "spec.pipeline[1].aggregate.values[1]: there is no column `sequence`; columns: `key`, `value`, `seq`, `time`",
            ],
        ),
        (
            "replicas: 2",
            "replicas: 0\n  checkpoints: 1",
            &[
                "spec.replicas: 0 is too small; the least is 1",
                "spec.checkpoints: unknown field `checkpoints`; did you mean `checkpoint`?",
            ],
        ),
        (
            "generate: {keys: {count: 10, distinct: 50, valueBytes: 10}}",
            "files: {uri: missing.parquet}",
            &["spec.pipeline[0].source: events: missing.parquet: not found"],
        ),
    ] {
        let folder = Folder::new();
        folder.write("job.yaml", &counting("counts", 10, None).replace(change, to));
        let sentences: Vec<String> =
            sentences.iter().map(|sentence| format!("job.yaml: {sentence}")).collect();
        for command in ["validate", "run"] {
            let done = folder.weir(&[command, "job.yaml"]);
            assert_eq!(done.err.lines().collect::<Vec<_>>(), sentences);
            assert_eq!(done.code, Some(2));
            assert!(done.out.is_empty());
        }
        assert!(!folder.path().join("weir-data").exists());
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn a_missing_manifest_is_named() {
    let folder = Folder::new();
    let expected = "error: cannot read none.yaml: No such file or directory (os error 2)\n";
    for command in ["run", "validate"] {
        let done = folder.weir(&[command, "none.yaml"]);
        assert_eq!((done.code, done.err.as_str()), (Some(2), expected));
    }
}

#[test]
fn a_sound_manifest_has_no_problems_and_offline_no_source_is_looked_at() {
    let folder = Folder::new();
    folder.write("job.yaml", &counting("counts", 10, None));
    folder.weir(&["validate", "job.yaml"]).check(0, &["job.yaml: no problems\n"]);
    let offline = folder.weir(&["validate", "--offline", "job.yaml"]);
    offline.check(0, &["job.yaml: no problems (sources were not looked at)\n"]);
}
