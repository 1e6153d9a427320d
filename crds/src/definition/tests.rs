//! The generated definition: what it holds, that an API server would take it, and that the chart
//! holds the same.

use std::fs;
use std::path::Path;

use super::*;

/// Size that the definition stays below; `kubectl apply` keeps a copy in an annotation.
const CRD_BYTES_MAX: usize = 100_000;

fn version() -> Value {
    serde_json::to_value(crd()).unwrap()["spec"]["versions"][0].take()
}

fn schema() -> Value {
    version()["schema"]["openAPIV3Schema"].take()
}

/// The schema at a dotted path below the resource; `[]` goes into a list's items.
fn at(path: &str) -> Value {
    let mut schema = schema();
    for part in path.split('.') {
        schema = match part {
            "[]" => schema["items"].take(),
            name => schema["properties"][name].take(),
        };
        assert!(!schema.is_null(), "{part} of {path}");
    }
    schema
}

#[test]
fn defaults_stand_in_the_schema() {
    let cases = [
        ("spec.replicas", json!(1)),
        ("spec.slots", json!(1)),
        ("spec.state", json!({"keyGroups": 128, "memory": "512Mi"})),
        ("spec.state.keyGroups", json!(128)),
        ("spec.state.memory", json!("512Mi")),
        ("spec.checkpoint.interval", json!("10s")),
        ("spec.checkpoint.timeout", json!("10m")),
        ("spec.checkpoint.minPause", json!("0s")),
        ("spec.checkpoint.retained", json!(3)),
        ("spec.checkpoint.tolerableFailures", Value::Null),
        (
            "spec.failover",
            json!({"timeout": "5s", "restarts": 10, "within": "10m", "minSurvivors": "50%",
                "readyAfter": "1m"}),
        ),
        ("spec.rescale", json!({"deadline": "10m", "cooldown": "0s"})),
        ("spec.compaction", json!({"mode": "Local", "minReplicas": 1})),
        ("spec.compaction.mode", json!("Local")),
        ("spec.compaction.minReplicas", json!(1)),
        ("spec.failover.timeout", json!("5s")),
        ("spec.failover.restarts", json!(10)),
        ("spec.failover.within", json!("10m")),
        ("spec.failover.minSurvivors", json!("50%")),
        ("spec.suspend", json!(false)),
        ("spec.deletionPolicy", json!("Retain")),
        ("spec.worker", json!({})),
        ("spec.pipeline.[].source.files.onError", json!("fail")),
        ("spec.pipeline.[].source.eventTime.delay", json!("0s")),
        ("spec.pipeline.[].source.generate.keys.count", Value::Null),
        ("spec.pipeline.[].source.generate.keys.distinct", json!(1000)),
        ("spec.pipeline.[].aggregate.lateness", json!("0s")),
        ("spec.pipeline.[].sink.files.format", json!("ndjson")),
        ("status", json!({"observedGeneration": -1})),
        ("status.observedGeneration", json!(-1)),
    ];
    for (path, default) in cases {
        assert_eq!(at(path)["default"], default, "{path}");
    }
}

#[test]
fn bounds_stand_in_the_schema() {
    let cases = [
        ("spec.replicas", "minimum", json!(1.0)),
        ("spec.slots", "maximum", json!(64.0)),
        ("spec.state.keyGroups", "maximum", json!(32_768.0)),
        ("spec.pipeline", "maxItems", json!(200)),
        ("spec.pipeline", "minItems", json!(1)),
        ("spec.pipeline.[].id", "maxLength", json!(40)),
        ("spec.pipeline.[].id", "pattern", json!("^[a-z][a-z0-9_]*$")),
        ("spec.pipeline.[].filter", "maxLength", json!(4096)),
        ("spec.pipeline.[].select.[]", "maxLength", json!(4096)),
        ("spec.pipeline.[].aggregate.key", "maxItems", json!(32)),
        ("spec.pipeline.[].aggregate.values", "minItems", json!(1)),
        ("spec.pipeline.[].source.files.format", "enum", json!(["parquet", "ndjson"])),
        ("spec.checkpoint.retained", "minimum", json!(1.0)),
    ];
    for (path, bound, value) in cases {
        assert_eq!(at(path)[bound], value, "{path}");
    }
}

#[test]
fn only_what_must_be_given_is_required() {
    let cases = [
        ("spec", json!(["pipeline"])),
        ("spec.pipeline.[]", json!(["id"])),
        ("spec.pipeline.[].aggregate", json!(["values"])),
        ("spec.pipeline.[].aggregate.window", Value::Null),
        ("spec.pipeline.[].aggregate.window.hop", json!(["every", "size"])),
        ("spec.pipeline.[].source.files", json!(["uri"])),
        ("spec.pipeline.[].sink.files", json!(["uri"])),
        ("spec.pipeline.[].sink.table", json!(["key", "uri"])),
        ("spec.state", Value::Null),
        ("status", Value::Null),
    ];
    for (path, required) in cases {
        assert_eq!(at(path)["required"], required, "{path}");
    }
}

#[test]
fn the_resource_has_its_names_subresources_and_columns() {
    let crd = serde_json::to_value(crd()).unwrap();
    assert_eq!(crd["metadata"]["name"], "statefuljobs.weir.dev");
    assert_eq!(crd["spec"]["scope"], "Namespaced");
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["sj"]));
    let version = version();
    assert_eq!(version["name"], "v1alpha1");
    assert_eq!(version["subresources"]["status"], json!({}));
    assert_eq!(version["subresources"]["scale"]["specReplicasPath"], ".spec.replicas");
    assert_eq!(version["subresources"]["scale"]["statusReplicasPath"], ".status.replicas");
    assert_eq!(version["subresources"]["scale"]["labelSelectorPath"], ".status.selector");
    let columns: Vec<&Value> = version["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(columns, ["Phase", "Replicas", "Checkpoint", "Restarts", "Age", "Message"]);
}

/// Kubernetes' rules for a structural schema, as far as ours could break them.
fn check_structural(path: &str, schema: &Value) {
    let object = schema.as_object().unwrap_or_else(|| panic!("{path} is no schema"));
    let any = object.get("x-kubernetes-int-or-string").is_some()
        || object.get("x-kubernetes-preserve-unknown-fields").is_some();
    assert!(any || object["type"].is_string(), "{path} has one type");
    assert!(
        object.get("description").is_some() || !path.contains('.') || path.ends_with("[]"),
        "{path} is explained"
    );
    for word in [
        "$ref",
        "oneOf",
        "anyOf",
        "allOf",
        "not",
        "nullable",
        "uniqueItems",
        "x-weir",
        "x-weir-min",
    ] {
        assert!(!object.contains_key(word), "{path} has {word}");
    }
    if let Some(format) = object.get("format").and_then(Value::as_str) {
        assert!(["int32", "int64", "double", "date-time"].contains(&format), "{path}: {format}");
    }
    if object.contains_key("x-kubernetes-validations") {
        assert!(object.contains_key("type") || object.contains_key("x-kubernetes-int-or-string"));
    }
    if object.contains_key("additionalProperties") {
        assert!(!object.contains_key("properties"), "{path} has both kinds of properties");
    }
    for (name, child) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
        check_structural(&format!("{path}.{name}"), child);
    }
    for word in ["items", "additionalProperties"] {
        if let Some(child) = object.get(word) {
            check_structural(&format!("{path}.[]"), child);
        }
    }
}

#[test]
fn the_schema_is_structural_and_explained() {
    check_structural("", &schema());
}

/// CEL sees no field without a type; a rule that reads one is refused by an API server, though
/// the interpreter used in the tests lets it pass.
#[test]
fn no_rule_reads_a_field_without_a_type() {
    let text = crd_yaml();
    let rules: Vec<&str> = text.lines().filter(|line| line.trim().starts_with("rule:")).collect();
    assert!(rules.len() > 15, "the rules are there");
    for rule in rules {
        assert!(!rule.contains(".from"), "{rule}");
    }
}

#[test]
fn the_definition_is_small() {
    for crd in [crd(), snapshot_crd()] {
        let bytes = serde_json::to_string(&crd).unwrap().len();
        assert!(bytes < CRD_BYTES_MAX, "{bytes} bytes");
        assert!(serde_yaml::to_string(&crd).unwrap().len() < CRD_BYTES_MAX);
    }
}

/// `make generate` writes the file.
#[test]
fn the_reference_holds_what_is_generated() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/crd.md");
    let generated = reference(&[crd(), snapshot_crd()]);
    for row in [
        "| `spec.replicas` | integer, 1 to 32768 | `1` |",
        "| `spec.pipeline[].source.files.uri` | string, at most 1024 characters | needed |",
        "| `status.observedGeneration` | integer | `-1` |",
        "- state.uri is fixed for the job's life",
    ] {
        assert!(generated.contains(row), "{row}");
    }
    let rows = generated.lines().filter(|line| line.starts_with("| `"));
    let bare: Vec<_> = rows.filter(|row| row.ends_with("|  |") && row.contains("`spec.")).collect();
    assert!(bare.is_empty(), "fields without a word: {bare:#?}");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, &generated).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == generated, "docs/reference/crd.md is old; run: make generate");
}

/// `make generate` writes the file.
#[test]
fn the_chart_holds_what_is_generated() {
    for crd in [crd(), snapshot_crd()] {
        let name = crd.metadata.name.clone().unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../charts/weir-crds/templates/{name}.yaml"));
        let generated = chart_yaml(crd);
        assert!(generated.contains("helm.sh/resource-policy: keep"));
        assert!(!generated.contains("{{"), "Helm would read it as a template");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &generated).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap();
        assert_eq!(kept, generated, "run: make generate");
    }
}

#[test]
fn a_snapshot_has_its_names_and_its_job_is_fixed() {
    let crd = serde_json::to_value(snapshot_crd()).unwrap();
    assert_eq!(crd["metadata"]["name"], "jobsnapshots.weir.dev");
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["jsnap"]));
    let version = &crd["spec"]["versions"][0];
    assert_eq!(version["subresources"]["status"], json!({}));
    let schema = &version["schema"]["openAPIV3Schema"];
    let spec = &schema["properties"]["spec"];
    assert_eq!(spec["required"], json!(["jobRef"]));
    assert_eq!(spec["properties"]["deletionPolicy"]["default"], "Delete");
    let job = &spec["properties"]["jobRef"];
    assert_eq!(job["x-kubernetes-validations"][0]["rule"], "self == oldSelf");
    check_structural("", schema);
    let snapshot = json!({"jobRef": {"name": "flights"}});
    let spec: crate::JobSnapshotSpec = serde_json::from_value(snapshot).unwrap();
    assert_eq!(spec.deletion_policy, crate::DeletionPolicy::Delete);
}
