//! Values of single fields: types, bounds, words that need quotes.

use super::*;

#[test]
fn a_name_is_checked() {
    let name = |name: &str| format!("name: {name}");
    let bad = "is not a job's name: lower-case letters, digits and -, a letter first and no - last";
    for wrong in ["Flights", "a_b", "-a", "a-", "9a", "a.b"] {
        check("name: flights", &name(wrong), &[&format!("metadata.name: `{wrong}` {bad}")]);
    }
    check("name: flights", &name(&"a".repeat(40)), &[]);
    check(
        "name: flights",
        &name(&"a".repeat(41)),
        &["metadata.name: has 41 characters; a job's name has at most 40"],
    );
    check("  name: flights\n", "", &["metadata.name: is missing; a job needs a name"]);
    check(
        "name: flights",
        "name: on",
        &[
            "metadata.name: `on` without quotes is a boolean to kubectl, which reads YAML 1.1; write \"on\"",
        ],
    );
    check(
        "name: flights",
        "name: a\n  label: {}",
        &["metadata.label: unknown field `label`; did you mean `labels`?"],
    );
    check(
        "name: flights",
        "name: a\n  labels: {x: 1}",
        &[
            "metadata.labels.x: `1` without quotes is a number to kubectl, which reads YAML 1.1; write \"1\"",
        ],
    );
}

#[test]
fn unknown_fields_are_named_with_what_was_meant() {
    check_spec("replica: 2", &["spec.replica: unknown field `replica`; did you mean `replicas`?"]);
    check_spec(
        "checkpoint: {intervall: 1s}",
        &["spec.checkpoint.intervall: unknown field `intervall`; did you mean `interval`?"],
    );
    check_spec("parallelism: 2", &["spec.parallelism: unknown field `parallelism`"]);
    check_spec("\"a b\": 2", &["spec[\"a b\"]: unknown field `a b`"]);
    check_filter(
        "filtr: a",
        &["spec.pipeline[1].filtr: unknown field `filtr`; did you mean `filter`?"],
    );
    check(
        "uri: data",
        "url: data",
        &["spec.pipeline[0].source.files.url: unknown field `url`; did you mean `uri`?"],
    );
    check_filter(
        "joins: a",
        &[
            "spec.pipeline[1].joins: unknown field `joins`; did you mean `join`?",
            "spec.pipeline[1]: the verb is missing; write one of: source, filter, select, union, aggregate, sink",
        ],
    );
    check_spec("slots: 1\n  slots: 2", &["spec.slots: is given twice"]);
}

#[test]
fn wrong_types_are_named() {
    check_spec("replicas: two", &["spec.replicas: expected a whole number, found `two`"]);
    check_spec(
        "replicas: 1.5",
        &["spec.replicas: expected a whole number in plain digits, found 1.5"],
    );
    check_spec(
        "replicas: 0x2",
        &["spec.replicas: expected a whole number in plain digits, found 0x2"],
    );
    check_spec(
        "replicas: 010",
        &["spec.replicas: expected a whole number in plain digits, found 010"],
    );
    check_spec("state: [a]", &["spec.state: expected a mapping, found a list"]);
    check_spec(
        "checkpoint: {interval: [1s]}",
        &["spec.checkpoint.interval: expected a duration as in 10s, found a list"],
    );
    check_spec(
        "state: {memory: {}}",
        &["spec.state.memory: expected a size as in 64Mi, found a mapping"],
    );
    check_spec(
        "state: {store: {allowHttp: yes}}",
        &["spec.state.store.allowHttp: expected true or false, found `yes`"],
    );
    check_spec(
        "state: {store: {region: 7}}",
        &[
            "spec.state.store.region: `7` without quotes is a number to kubectl, which reads YAML 1.1; write \"7\"",
        ],
    );
    check_filter("filter: [a]", &["spec.pipeline[1].filter: expected a text, found a list"]);
    check_filter("filter:", &["spec.pipeline[1].filter: is empty; a text was expected"]);
    check_filter("filter: \" \"", &["spec.pipeline[1].filter: is empty"]);
    check_filter("select: a", &["spec.pipeline[1].select: expected a list, found `a`"]);
    check_filter(
        "select: []",
        &["spec.pipeline[1].select: is empty; at least one entry is needed"],
    );
    check_filter(
        "select: [{a: b}]",
        &["spec.pipeline[1].select[0]: expected a text, found a mapping"],
    );
    check_sink(
        "{blackhole: }",
        &[
            "spec.pipeline[3].sink.blackhole: expected a mapping, found nothing; write {} if there is nothing to set",
        ],
    );
    check_source(
        "{generate: {keys: {skew: x}}}",
        &["spec.pipeline[0].source.generate.keys.skew: expected a number, found `x`"],
    );
}

#[test]
fn a_field_without_a_value_is_absent_outside_of_the_pipeline() {
    check_spec("state:\n  checkpoint: {interval: ~}\n  slots: null", &[]);
    check(
        "key: [origin]",
        "key:",
        &["spec.pipeline[2].aggregate.key: expected a list, found nothing"],
    );
    let nothing = FLIGHTS[..FLIGHTS.find("  pipeline:").unwrap()].to_owned() + "  pipeline:\n";
    assert_eq!(problems(&nothing), ["spec.pipeline: is missing"]);
}

#[test]
fn durations_are_checked() {
    let duration = "is not a duration; write a whole number and ms, s, m, h or d, as in 10s";
    for wrong in ["10", "1h30m", "ten", "\"\""] {
        let text = wrong.trim_matches('"');
        check_spec(
            &format!("checkpoint: {{timeout: {wrong}}}"),
            &[&format!("spec.checkpoint.timeout: `{text}` {duration}")],
        );
    }
    check_spec(
        "failover: {within: 36501d}",
        &["spec.failover.within: `36501d` is more than 36500d, the longest duration"],
    );
    check_spec(
        "checkpoint: {interval: 99ms}",
        &["spec.checkpoint.interval: 99ms is too small; the least is 100ms"],
    );
    check_spec(
        "checkpoint: {timeout: 0s}",
        &["spec.checkpoint.timeout: 0s is too small; the least is 100ms"],
    );
    check_spec(
        "failover: {timeout: 0s}",
        &["spec.failover.timeout: 0s is too small; the least is 100ms"],
    );
    check_spec(
        "failover: {within: 999ms}",
        &["spec.failover.within: 999ms is too small; the least is 1s"],
    );
}

#[test]
fn sizes_are_checked() {
    check_spec(
        "state: {memory: 64MB}",
        &[
            "spec.state.memory: `64MB` is not a size; write bytes as a Kubernetes quantity, as in 64Mi",
        ],
    );
    check_spec(
        "state: {memory: 99999Ei}",
        &["spec.state.memory: `99999Ei` is more bytes than can be counted"],
    );
    check_spec("state: {memory: 1Ki}", &["spec.state.memory: 1Ki is too small; the least is 1Mi"]);
    check_spec("state: {memory: 134217728}", &[]);
}

#[test]
fn bounds_of_numbers_are_checked() {
    check_spec("replicas: 0", &["spec.replicas: 0 is too small; the least is 1"]);
    check_spec("slots: 65", &["spec.slots: 65 is too large; the most is 64"]);
    check_spec(
        "slots: 99999999999999999999",
        &["spec.slots: 99999999999999999999 is too large; the most is 64"],
    );
    check_spec("slots: -1", &["spec.slots: -1 is too small; the least is 1"]);
    check_spec(
        "state: {keyGroups: 32769}",
        &["spec.state.keyGroups: 32769 is too large; the most is 32768"],
    );
    check_spec("state: {keyGroups: 0}", &["spec.state.keyGroups: 0 is too small; the least is 1"]);
    check_spec(
        "checkpoint: {retained: 0}",
        &["spec.checkpoint.retained: 0 is too small; the least is 1"],
    );
    check_spec(
        "replicas: 65\n  slots: 2",
        &[
            "spec.replicas: 65 replicas × 2 slots = 130 subtasks are more than the 128 key groups (state.keyGroups)",
        ],
    );
    check_spec("replicas: 64\n  slots: 2", &[]);
    check_source(
        "{generate: {keys: {skew: 11}}}",
        &["spec.pipeline[0].source.generate.keys.skew: 11 is too large; the most is 10"],
    );
    check_source(
        "{generate: {keys: {distinct: 0}}}",
        &["spec.pipeline[0].source.generate.keys.distinct: 0 is too small; the least is 1"],
    );
    check_source(
        "{files: {uri: a, rate: 0}}",
        &["spec.pipeline[0].source.files.rate: 0 is too small; the least is 1"],
    );
}

#[test]
fn windows_and_choices_are_checked() {
    check_aggregate(
        "{window: {tumble: 0s}, values: [count(*) as n]}",
        &["spec.pipeline[2].aggregate.window.tumble: 0s is too small; the least is 1ms"],
    );
    check_aggregate(
        "{window: {tumble: 1h, offset: 60m}, values: [count(*) as n]}",
        &["spec.pipeline[2].aggregate.window.offset: 1h is not shorter than the window, 1h"],
    );
    check_sink(
        "{files: {uri: x, format: avro}}",
        &["spec.pipeline[3].sink.files.format: `avro` is not one of: ndjson, parquet"],
    );
    check_source(
        "{files: {uri: x, format: avro}}",
        &["spec.pipeline[0].source.files.format: `avro` is not one of: parquet, ndjson"],
    );
    check_source(
        "{files: {uri: x, onError: ignore}}",
        &["spec.pipeline[0].source.files.onError: `ignore` is not one of: fail"],
    );
}

#[test]
fn limits_of_the_pipeline_are_checked() {
    let long = format!("filter: {}", "x".repeat(4_097));
    check_filter(&long, &["spec.pipeline[1].filter: is 4097 bytes long; at most 4096 are allowed"]);
    let bytes = format!("filter: \"{}\"", "ä".repeat(2_049));
    check_filter(
        &bytes,
        &["spec.pipeline[1].filter: is 4098 bytes long; at most 4096 are allowed"],
    );
    check_filter(&format!("filter: {}", "x".repeat(4_096)), &[]);
    let key = |columns: usize| {
        let names: Vec<String> = (0..columns).map(|column| format!("c{column}")).collect();
        format!("{{key: [{}], window: {{tumble: 1s}}, values: [count(*) as n]}}", names.join(", "))
    };
    check_aggregate(&key(32), &[]);
    check_aggregate(
        &key(33),
        &["spec.pipeline[2].aggregate.key: has 33 entries; at most 32 are allowed"],
    );
    let filters = |count: usize| {
        let steps = (0..count).map(|step| {
            let from = if step == 0 { "flights".to_owned() } else { format!("f{}", step - 1) };
            format!("    - {{id: f{step}, from: {from}, filter: a}}\n")
        });
        steps.collect::<String>()
            + &format!(
                "    - {{id: end, from: f{}, sink: {{blackhole: {{}}}}}}\n    - id: flown",
                count - 1
            )
    };
    check("    - id: flown", &filters(195), &[]);
    check(
        "    - id: flown",
        &filters(196),
        &["spec.pipeline: has 201 entries; at most 200 are allowed"],
    );
    let empty = FLIGHTS[..FLIGHTS.find("  pipeline:").unwrap()].to_owned() + "  pipeline: []\n";
    assert_eq!(problems(&empty), ["spec.pipeline: is empty; at least one entry is needed"]);
    let none = empty.replace("  pipeline: []\n", "");
    assert_eq!(problems(&none), ["spec.pipeline: is missing"]);
}

#[test]
fn words_that_kubectl_reads_otherwise_are_reported_with_the_hint() {
    let hint = |path: &str, word: &str, meaning: &str| {
        format!(
            "spec.pipeline{path}: `{word}` without quotes is {meaning} to kubectl, which reads YAML 1.1; write \"{word}\""
        )
    };
    for word in ["y", "n", "yes", "no", "on", "off", "true", "false", "Y", "NO", "On"] {
        check(
            "key: [origin]",
            &format!("key: [{word}]"),
            &[&hint("[2].aggregate.key[0]", word, "a boolean")],
        );
    }
    for word in ["null", "~", "Null"] {
        check(
            "key: [origin]",
            &format!("key: [{word}]"),
            &[&hint("[2].aggregate.key[0]", word, "null")],
        );
    }
    check("key: [origin]", "key: [\"y\", 'n']", &[]);
    check(
        "column: scheduled",
        "column: on",
        &[&hint("[0].source.eventTime.column", "on", "a boolean")],
    );
    check(
        "column: scheduled",
        "column: null",
        &[&hint("[0].source.eventTime.column", "null", "null")],
    );
    check_filter(
        "select: [a, y, n]",
        &[&hint("[1].select[1]", "y", "a boolean"), &hint("[1].select[2]", "n", "a boolean")],
    );
    check_filter("select:\n        - y", &[&hint("[1].select[0]", "y", "a boolean")]);
    check_filter("filter: y", &[&hint("[1].filter", "y", "a boolean")]);
    check_filter("filter: y and n", &[]);
    check_source(
        "{files: {uri: a, schema: {y: int64, n: int64, ok: int64, ~: int64}}}",
        &[
            &hint("[0].source.files.schema.y", "y", "a boolean"),
            &hint("[0].source.files.schema.n", "n", "a boolean"),
            &hint("[0].source.files.schema[\"~\"]", "~", "null"),
        ],
    );
    check_source("{files: {uri: a, schema: {\"y\": int64, 'n': int64}}}", &[]);
    check(
        "id: flown",
        "id: n",
        &[
            &hint("[1].id", "n", "a boolean"),
            "spec.pipeline[2].from: there is no step `flown`",
            "spec.pipeline[1]: nobody reads step `n`; read it or remove it",
        ],
    );
}

#[test]
fn items_that_yaml_cut_are_reported_whole() {
    let whole = |path: &str, first: &str, whole: &str| {
        format!(
            "spec.pipeline{path}: `{first}` has unbalanced parentheses: YAML splits an item of a flow list at its commas; write \"{whole}\" in quotes, or use a block list"
        )
    };
    check_filter(
        "select: [coalesce(a, 0) as a, b]",
        &[&whole("[1].select[0]", "coalesce(a", "coalesce(a, 0) as a")],
    );
    check_filter(
        "select: [x, f(a, g(y, 1), n) as z]",
        &[&whole("[1].select[1]", "f(a", "f(a, g(y, 1), n) as z")],
    );
    check_filter("select: [\"coalesce(a, 0) as a\", b]", &[]);
    check_filter("select:\n        - coalesce(a, 0) as a", &[]);
    let open = "spec.pipeline[1].select[0]: `sum(a` has unbalanced parentheses; in a flow list an item with a comma belongs in quotes";
    check_filter("select: [sum(a, b]", &[open]);
    check_filter("select: [a) as b]", &[&open.replace("sum(a", "a) as b")]);
    check_source(
        "{files: {uri: a, schema: {p: decimal(10,2), q: int64}}}",
        &[&whole("[0].source.files.schema.p", "decimal(10", "decimal(10, 2)")],
    );
}

#[test]
fn uris_are_checked_without_looking() {
    check_source(
        "{files: {uri: ftp://a}}",
        &["spec.pipeline[0].source.files.uri: `ftp://` is no known store; use s3:// or file://"],
    );
    check_spec(
        "state: {uri: folder}",
        &["spec.state.uri: is relative; the state of a job lies below s3:// or file://"],
    );
    check_source(
        "{files: {uri: }}",
        &["spec.pipeline[0].source.files.uri: is empty; a text was expected"],
    );
    check_sink("{files: {}}", &["spec.pipeline[3].sink.files.uri: is missing"]);
}

#[test]
fn what_only_the_operator_uses_is_read_as_it_stands() {
    let spec = "worker:
    image: weir:1
    imagePullSecrets: [{name: pull}]
    resources: {requests: {cpu: 1, memory: 64Mi}}
    env: [{name: A, value: \"1\"}]
    nodeSelector: {disk: ssd}
    tolerations: [{operator: Exists}]
    affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
    topologySpread: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]
  deletionPolicy: Delete";
    check_spec(spec, &[]);
    check_spec(
        "worker: {resources: much}",
        &["spec.worker.resources: expected a mapping, found `much`"],
    );
    check_spec(
        "worker: {nodeSelector: {a: 1}}",
        &[
            "spec.worker.nodeSelector.a: `1` without quotes is a number to kubectl, which reads YAML 1.1; write \"1\"",
        ],
    );
    check_spec(
        "deletionPolicy: Keep",
        &["spec.deletionPolicy: `Keep` is not one of: Retain, Delete"],
    );
    let opaque = crate::Opaque(serde_json::Map::from_iter([(
        "requests".to_owned(),
        serde_json::json!({"cpu": 1, "memory": "64Mi"}),
    )]));
    let text = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: StatefulJob\nmetadata: {{name: j}}\nspec:\n  {spec}\n  pipeline:\n  - {{id: s, source: {{generate: {{keys: {{}}}}}}}}\n  - {{id: o, from: s, sink: {{blackhole: {{}}}}}}\n"
    );
    let job = read_manifest(&text).unwrap();
    assert_eq!(job.spec.worker.resources, Some(opaque));
    assert_eq!(job.spec.deletion_policy, crate::DeletionPolicy::Delete);
}
