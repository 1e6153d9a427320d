//! Every rule of the definition is evaluated, by its message: a job that it takes and, for each
//! way to break it, one that it refuses.

use std::collections::BTreeSet;

use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::{Value, json};

use super::{NO_OWN_ANNOTATION_WORDS, NO_OWN_LABEL_WORDS};
use crate::crd;

fn schema() -> Value {
    let crd = serde_json::to_value(crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// A job with every kind of step that breaks no rule.
fn job() -> Value {
    json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "StatefulJob",
        "metadata": {"name": "flights-2"},
        "spec": {
            "state": {"uri": "s3://bucket/flights"},
            "pipeline": [
                {"id": "read", "source": {
                    "files": {"uri": "s3://bucket/in", "format": "ndjson", "schema": {"at": "timestamp"}},
                    "eventTime": {"column": "at", "delay": "1d"},
                }},
                {"id": "made", "source": {"generate": {"keys": {}}, "eventTime": {"delay": "1s"}}},
                {"id": "kept", "from": "read", "filter": "true"},
                {"id": "sums", "from": "kept", "aggregate": {
                    "key": ["a", "b"], "window": {"tumble": "1h", "offset": "59m"}, "values": ["count(*) as n"],
                }},
                {"id": "out", "from": "sums", "sink": {"files": {"uri": "file:///out"}}},
                {"id": "gone", "from": "made", "sink": {"blackhole": {}}},
            ],
        },
    })
}

/// The rules, compiled once.
struct Rules {
    validator: Validator,
    schema: CompiledSchema,
}

impl Rules {
    fn new() -> Self {
        Self { validator: Validator::new(), schema: compile_schema(&schema()) }
    }

    /// What they say of a job, and of a change from an earlier one.
    fn refusals(&self, job: &Value, old: Option<&Value>) -> Vec<String> {
        match self.validator.validate_compiled(&self.schema, job, old) {
            Ok(()) => Vec::new(),
            Err(errors) => errors.into_vec().into_iter().map(|error| error.message).collect(),
        }
    }
}

/// `job` with the value at `pointer` replaced or added; null takes it away.
fn with(pointer: &str, value: &Value) -> Value {
    let mut job = job();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = job.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} has a parent"));
    match parent {
        Value::Object(fields) if value.is_null() => drop(fields.remove(name)),
        Value::Object(fields) => drop(fields.insert(name.to_owned(), value.clone())),
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value.clone(),
        _ => panic!("{pointer} is a field or an item"),
    }
    job
}

const COMPACTORS: &str = "compaction.maxReplicas is at least minReplicas";
const READ: &str = "/spec/pipeline/0/source";
const MADE: &str = "/spec/pipeline/1/source";
const KEPT: &str = "/spec/pipeline/2";
const WINDOW: &str = "/spec/pipeline/3/aggregate/window";
const AGGREGATE: &str = "/spec/pipeline/3/aggregate";
const SINK: &str = "/spec/pipeline/4/sink";

const NAME_LONG: &str = "metadata.name: a job's name has at most 40 characters";
const NAME: &str = "metadata.name: a job's name has lower-case letters, digits and -, begins with a letter \
                    and does not end with -";
const WIDTH: &str = "replicas × slots is more than state.keyGroups: a subtask needs a key group";
const UNIQUE: &str = "the id of a step is unique";
const A_SINK: &str = "a pipeline has a sink";
const URI_SET: &str = "state.uri is fixed for the job's life";
const GROUPS_SET: &str = "state.keyGroups is fixed for the job's life";
const URI: &str = "in a cluster a uri begins with s3:// or file://; relative ones serve `weir run`";
const RESTORE: &str = "restoreFrom is one of snapshotRef and uri, or takeOver, alone or beside it";
const RESTORE_STORE: &str = "store stands beside uri; a JobSnapshot knows its store";
const FINGERPRINT: &str = "fingerprint is fp- and 16 hexadecimal digits, as the refusal names it";
const LABELS: &str = NO_OWN_LABEL_WORDS;
const ANNOTATIONS: &str = NO_OWN_ANNOTATION_WORDS;
const SCHEDULE: &str = "schedule has five fields: minute hour day month weekday";
const MEMORY: &str = "memory is a quantity of at least 1Mi";
const INTERVAL: &str = "interval is at least 100ms";
const TIMEOUT: &str = "timeout is at least 100ms";
const WITHIN: &str = "within is at least 1s";
const DEADLINE: &str = "deadline is at least 1s";
const VERB: &str = "a step has exactly one verb: source, filter, select, union, aggregate or sink";
const TUMBLE: &str = "tumble is at least 1ms";
const OFFSET: &str = "offset is shorter than tumble";
const EVERY_OFFSET: &str = "offset is shorter than hop.every";
const EVERY_LONG: &str = "every is at most size";
const SIZE_SHORT: &str = "size is at least 1ms";
const SESSION_SHORT: &str = "session is at least 1ms";
const WINDOW_KIND: &str = "a window is exactly one of tumble, hop and session";
const EMIT: &str = "without a window the only choice of emit is onUpdate";
const LATENESS: &str = "lateness is for aggregates with a window";
const TTL: &str = "ttl is for aggregates without a window";
const TTL_SHORT: &str = "ttl is at least 1ms";
const SOURCE: &str = "a source is exactly one of files and generate";
const COLUMN: &str = "eventTime of files names a column";
const NO_COLUMN: &str = "generated rows have their event time; eventTime takes only a delay here";
const SCHEMA: &str = "ndjson needs a schema";
const GENERATE: &str = "generate is exactly one of keys, sequence and nexmark";
const TABLE_EVERY: &str = "every is at least 100ms";
const EVERY: &str = "every is at least 1ms";
const SINK_KIND: &str = "a sink is exactly one of files, table, blackhole and print";

/// Where, the value put there, and what is said of it.
type Case = (String, Value, Option<&'static str>);

/// Changes of the job above with what is said of them; nothing where they are fine.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |pointer: String, value: Value, message: Option<&'static str>| {
        cases.push((pointer, value, message));
    };
    cases_of_policies(&mut add);
    cases_of_snapshots(&mut add);
    cases_of_origin_and_pods(&mut add);
    cases_of_steps(&mut add);
    cases
}

fn cases_of_snapshots(add: &mut impl FnMut(String, Value, Option<&'static str>)) {
    for (schedule, said) in
        [("0 3 * * *", None), ("*/5 1,2 1-7 jan  mon", None), ("0 3 * *  ", Some(SCHEDULE))]
    {
        let value = json!({"schedule": schedule, "timeZone": "Europe/Vienna", "retained": 2});
        add("/spec/checkpoint".into(), json!({"snapshots": value}), said);
    }
}

fn cases_of_policies(add: &mut impl FnMut(String, Value, Option<&'static str>)) {
    add("/metadata/name".into(), json!("a".repeat(40)), None);
    add("/metadata/name".into(), json!("a".repeat(41)), Some(NAME_LONG));
    for name in ["A", "9a", "a_b", "a-", "-a", "a.b"] {
        add("/metadata/name".into(), json!(name), Some(NAME));
    }
    add("/spec/replicas".into(), json!(128), None);
    add("/spec/replicas".into(), json!(129), Some(WIDTH));
    add("/spec/pipeline/1/id".into(), json!("read"), Some(UNIQUE));
    add("/spec/pipeline".into(), json!([{"id": "a", "filter": "b"}]), Some(A_SINK));
    for (uri, message) in
        [("file:///x", None), ("x/y", Some(URI)), ("s3://", Some(URI)), ("as3://x", Some(URI))]
    {
        for pointer in ["/spec/state".to_owned(), format!("{READ}/files"), format!("{SINK}/files")]
        {
            add(format!("{pointer}/uri"), json!(uri), message);
        }
    }
    let memories = [
        (json!("1Mi"), None),
        (json!(1_048_576), None),
        (json!("1.5Gi"), None),
        (json!("1023Ki"), Some(MEMORY)),
        (json!(1), Some(MEMORY)),
        (json!("much"), Some(MEMORY)),
    ];
    for (memory, message) in memories {
        add("/spec/state/memory".into(), memory, message);
    }
    for (field, refusal) in [
        ("checkpoint/interval", INTERVAL),
        ("checkpoint/timeout", TIMEOUT),
        ("failover/timeout", TIMEOUT),
    ] {
        let (parent, name) = field.split_once('/').unwrap();
        for time in ["100ms", "1234ms", "0100ms", "1s", "10m", "1h", "7d", "010s"] {
            add(format!("/spec/{parent}"), json!({name: time}), None);
        }
        for time in ["99ms", "0s", "0d", "00ms", "099ms"] {
            add(format!("/spec/{parent}"), json!({name: time}), Some(refusal));
        }
    }
    for (time, message) in [
        ("1s", None),
        ("1000ms", None),
        ("999ms", Some(WITHIN)),
        ("0m", Some(WITHIN)),
        ("0100ms", Some(WITHIN)),
    ] {
        add("/spec/failover".into(), json!({"within": time}), message);
        let message = message.map(|_| DEADLINE);
        add("/spec/rescale".into(), json!({"deadline": time}), message);
    }
    for (least, most, message) in [
        (1, json!(3), None),
        (0, json!(0), None),
        (5, Value::Null, None),
        (2, json!(1), Some(COMPACTORS)),
    ] {
        let mut compaction = json!({"mode": "Remote", "minReplicas": least});
        if !most.is_null() {
            compaction["maxReplicas"] = most;
        }
        add("/spec/compaction".into(), compaction, message);
    }
}

fn cases_of_origin_and_pods(add: &mut impl FnMut(String, Value, Option<&'static str>)) {
    let restore = |value| ("/spec/restoreFrom".to_owned(), value);
    for (value, said) in [
        (json!({"snapshotRef": {"name": "monday"}}), None),
        (json!({"uri": "s3://b/state", "store": {"region": "eu"}}), None),
        (json!({"uri": "state"}), Some(URI)),
        (json!({}), Some(RESTORE)),
        (json!({"uri": "s3://b/x", "snapshotRef": {"name": "monday"}}), Some(RESTORE)),
        (json!({"snapshotRef": {"name": "monday"}, "store": {}}), Some(RESTORE_STORE)),
        (json!({"takeOver": "c/n/j/u"}), None),
        (json!({"takeOver": "c/n/j/u", "snapshotRef": {"name": "monday"}}), None),
        (json!({"takeOver": "c/n/j/u", "uri": "s3://b/x", "store": {}}), None),
        (json!({"takeOver": "u", "uri": "s3://b/x", "snapshotRef": {"name": "a"}}), Some(RESTORE)),
        (json!({"takeOver": "c/n/j/u", "store": {}}), Some(RESTORE_STORE)),
    ] {
        let (pointer, value) = restore(value);
        add(pointer, value, said);
    }
    for (fingerprint, said) in [
        ("fp-0123456789abcdef", None),
        ("0123456789abcdef", Some(FINGERPRINT)),
        ("fp-0123456789ABCDEF", Some(FINGERPRINT)),
        ("fp-0123456789abcdef0", Some(FINGERPRINT)),
    ] {
        let discard = json!([{"step": "sums", "fingerprint": fingerprint}]);
        add("/spec/upgrade".into(), json!({"discard": discard}), said);
    }
    for (field, name, said) in [
        ("labels", "team", None),
        ("labels", "app.kubernetes.io/name", None),
        ("labels", "weir.dev/job", Some(LABELS)),
        ("labels", "app.kubernetes.io/managed-by", Some(LABELS)),
        ("labels", "app.kubernetes.io/component", Some(LABELS)),
        ("annotations", "app.kubernetes.io/managed-by", None),
        ("annotations", "weir.dev/x", Some(ANNOTATIONS)),
    ] {
        let template = json!({"metadata": {field: {name: "x"}}, "spec": {"hostAliases": []}});
        add("/spec/worker".into(), json!({"podTemplate": template}), said);
    }
}

fn cases_of_windows(add: &mut impl FnMut(String, Value, Option<&'static str>)) {
    for (size, every, offset, message) in [
        ("1h", "10m", "9m", None),
        ("7d", "7d", "0s", None),
        ("1d", "1h", "59m", None),
        ("1h", "10m", "10m", Some(EVERY_OFFSET)),
        ("1m", "61s", "0s", Some(EVERY_LONG)),
        ("1h", "0s", "1d", Some(EVERY)),
    ] {
        let window = json!({"hop": {"size": size, "every": every}, "offset": offset});
        add(WINDOW.into(), window, message);
    }
    // In days, so that only this is said of it.
    let short = json!({"hop": {"size": "0d", "every": "1h"}});
    add(WINDOW.into(), short, Some(SIZE_SHORT));
    add(WINDOW.into(), json!({"session": "30m", "offset": "2h"}), None);
    add(WINDOW.into(), json!({"session": "0s"}), Some(SESSION_SHORT));
    add(WINDOW.into(), json!({"offset": "1h"}), Some(WINDOW_KIND));
    add(WINDOW.into(), json!({"tumble": "1h", "session": "1h"}), Some(WINDOW_KIND));
    add(WINDOW.into(), Value::Null, None);
    add(format!("{AGGREGATE}/emit"), json!("onUpdate"), None);
    add(format!("{AGGREGATE}/lateness"), json!("1s"), None);
    add(format!("{AGGREGATE}/ttl"), json!("1s"), Some(TTL));
    for (field, value, message) in [
        ("emit", "onUpdate", None),
        ("emit", "onClose", Some(EMIT)),
        ("lateness", "0s", None),
        ("lateness", "1s", Some(LATENESS)),
        ("ttl", "1s", None),
        ("ttl", "0s", Some(TTL_SHORT)),
    ] {
        let aggregate = json!({"values": ["count(*) as n"], "lateness": "0s", field: value});
        add(AGGREGATE.into(), aggregate, message);
    }
}

fn cases_of_steps(add: &mut impl FnMut(String, Value, Option<&'static str>)) {
    add(format!("{KEPT}/filter"), Value::Null, Some(VERB));
    for (verb, value) in [
        ("select", json!(["a"])),
        ("union", json!({})),
        ("sink", json!({"blackhole": {}})),
        ("source", json!({"generate": {"keys": {}}})),
        ("aggregate", json!({"window": {"tumble": "1s"}, "values": ["count(*) as n"]})),
    ] {
        add(format!("{KEPT}/{verb}"), value.clone(), Some(VERB));
        add(KEPT.into(), json!({"id": "kept", verb: value}), None);
    }
    for (tumble, offset, message) in [
        ("1ms", "0ms", None),
        ("7d", "6d", None),
        ("1d", "23h", None),
        ("60m", "1h", Some(OFFSET)),
        ("7d", "7d", Some(OFFSET)),
        ("1500ms", "1s", None),
    ] {
        add(WINDOW.into(), json!({"tumble": tumble, "offset": offset}), message);
    }
    add(WINDOW.into(), json!({"tumble": "0s"}), Some(TUMBLE));
    cases_of_windows(add);
    let both = json!({"files": {"uri": "s3://bucket/in"}, "generate": {"keys": {}}});
    add(READ.into(), both, Some(SOURCE));
    add(READ.into(), json!({}), Some(SOURCE));
    add(format!("{READ}/eventTime/column"), Value::Null, Some(COLUMN));
    add(format!("{READ}/eventTime"), Value::Null, None);
    add(format!("{MADE}/eventTime/column"), json!("time"), Some(NO_COLUMN));
    for (made, message) in [
        (json!({"sequence": {"count": 5, "every": "1ms"}}), None),
        (json!({"sequence": {"every": "0s"}}), Some(EVERY)),
        (json!({"nexmark": {"events": 100, "outOfOrder": "4s"}, "rate": 5}), None),
        (json!({"rate": 5}), Some(GENERATE)),
        (json!({"keys": {}, "sequence": {}}), Some(GENERATE)),
    ] {
        add(format!("{MADE}/generate"), made, message);
    }
    add(format!("{READ}/files/schema"), Value::Null, Some(SCHEMA));
    add(format!("{READ}/files/format"), Value::Null, None);
    add(SINK.into(), json!({}), Some(SINK_KIND));
    add(SINK.into(), json!({"print": {}}), None);
    let table = |every: &str| json!({"table": {"uri": "s3://b/x", "key": ["a"], "every": every}});
    add(SINK.into(), table("100ms"), None);
    add(SINK.into(), table("99ms"), Some(TABLE_EVERY));
    add(format!("{SINK}/print"), json!({}), Some(SINK_KIND));
}

#[test]
fn each_rule_takes_what_is_right_and_refuses_what_is_not() {
    let rules = Rules::new();
    assert!(!rules.schema.has_errors());
    assert_eq!(rules.refusals(&job(), None), [""; 0]);
    for (pointer, value, message) in cases() {
        let found = rules.refusals(&with(&pointer, &value), None);
        match message {
            None => assert_eq!(found, [""; 0], "{pointer} = {value}"),
            Some(message) => assert_eq!(found, [message], "{pointer} = {value}"),
        }
    }
}

#[test]
fn what_is_fixed_for_life_does_not_change() {
    let rules = Rules::new();
    let cases = [
        ("/spec/state/uri", json!("s3://bucket/other"), Some(URI_SET)),
        ("/spec/state/uri", Value::Null, Some(URI_SET)),
        ("/spec/state/keyGroups", json!(64), Some(GROUPS_SET)),
        ("/spec/state/keyGroups", json!(128), None),
        ("/spec/state/memory", json!("1Gi"), None),
        ("/spec/replicas", json!(3), None),
    ];
    for (pointer, value, message) in cases {
        let changed = with(pointer, &value);
        let expected: Vec<&str> = message.into_iter().collect();
        assert_eq!(rules.refusals(&changed, Some(&job())), expected, "{pointer} = {value}");
        assert_eq!(rules.refusals(&job(), Some(&changed)), expected, "and back from {value}");
        assert_eq!(rules.refusals(&changed, None), [""; 0], "it may begin so");
    }
}

/// All messages of rules in the schema.
fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                found.insert(rule["message"].as_str().expect("each rule has a message").to_owned());
            }
            fields.values().for_each(|field| messages(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| messages(item, found)),
        _ => {}
    }
}

#[test]
fn no_rule_goes_without_a_case() {
    let mut rules = BTreeSet::new();
    messages(&schema(), &mut rules);
    let mut tested: BTreeSet<String> =
        cases().into_iter().filter_map(|(_, _, message)| message.map(str::to_owned)).collect();
    tested.extend([URI_SET, GROUPS_SET].map(str::to_owned));
    assert_eq!(rules, tested);
}
