//! What GitOps tools make of a job, by the one table of docs/design/0014-operator.md: cases are made of
//! its rows, which the real kstatus library and Argo CD's health script are asked of in
//! `e2e/scenarios/health.py`; and everything that the operator shows is one of its rows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir_crds::StatefulJobStatus;

/// A row of the table.
struct Row {
    /// None: any of the rows above.
    phase: Option<String>,
    reasons: Vec<String>,
    ready: String,
    reconciling: String,
    stalled: String,
    kstatus: String,
    argo: String,
}

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn rows() -> Vec<Row> {
    let page = read("docs/design/0014-operator.md");
    let lines = page.lines().skip_while(|line| !line.starts_with("| phase | reason | Ready |"));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [phase, reasons, ready, reconciling, stalled, kstatus, argo] = cells[..] else {
            panic!("{line}");
        };
        let word = phase.split(' ').next().unwrap_or_default();
        Row {
            phase: (word != "any").then(|| word.to_owned()),
            reasons: reasons.split(", ").map(str::to_owned).collect(),
            ready: ready.to_owned(),
            reconciling: reconciling.to_owned(),
            stalled: stalled.to_owned(),
            kstatus: kstatus.to_owned(),
            argo: argo.to_owned(),
        }
    });
    let rows: Vec<Row> = rows.collect();
    assert!(rows.len() > 10, "the table was found");
    rows
}

/// Checks that a status, of which kstatus says `said`, is a row of the table.
#[track_caller]
pub(super) fn assert_listed(shown: &StatefulJobStatus, said: &str) {
    let condition = |type_: &str| shown.conditions.iter().find(|its| its.type_ == type_).unwrap();
    let is = |type_: &str| condition(type_).status.clone();
    let phase = format!("{:?}", shown.phase.unwrap());
    let reason = &condition("Ready").reason;
    let found = rows().into_iter().any(|row| {
        row.phase.is_none_or(|its| its == phase)
            && row.reasons.contains(reason)
            && [row.ready, row.reconciling, row.stalled]
                == [is("Ready"), is("Reconciling"), is("Stalled")]
            && row.kstatus == said
    });
    assert!(found, "docs/design/0014-operator.md has no row {phase} {reason} for {shown:?}");
}

fn object(row: &Row, reason: &str) -> Value {
    let phase = row.phase.as_deref().unwrap_or("Rescaling");
    let is_suspended = if phase == "Suspended" { "True" } else { "False" };
    let condition = |type_: &str, status: &str, reason: &str| {
        json!({
            "type": type_, "status": status, "reason": reason, "message": "",
            "observedGeneration": 2, "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let mut metadata = json!({"name": "j", "namespace": "n", "generation": 2});
    if phase == "Deleting" {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        metadata["finalizers"] = json!(["weir.dev/state"]);
    }
    json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "StatefulJob", "metadata": metadata, "spec": {},
        "status": {
            "observedGeneration": 2, "phase": phase, "message": "why",
            "conditions": [
                condition("Ready", &row.ready, reason),
                condition("Reconciling", &row.reconciling, reason),
                condition("Stalled", &row.stalled, reason),
                condition("CheckpointsHealthy", "True", "NoFailures"),
                condition("Suspended", is_suspended, "NotSuspended"),
            ],
        },
    })
}

/// As the script of Argo CD says it.
fn argo(object: &Value) -> &'static str {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is =
        |type_: &str| conditions.iter().any(|its| its["type"] == *type_ && its["status"] == "True");
    let metadata = &object["metadata"];
    let is_old = object["status"]["observedGeneration"] != metadata["generation"];
    match () {
        () if metadata["deletionTimestamp"].is_string() || is_old => "Progressing",
        () if is("Reconciling") => "Progressing",
        () if is("Stalled") => "Degraded",
        () if is("Ready") && is("Suspended") => "Suspended",
        () if is("Ready") => "Healthy",
        () => "Progressing",
    }
}

fn cases() -> Vec<Value> {
    let mut cases = Vec::new();
    for row in rows() {
        for reason in &row.reasons {
            let phase = row.phase.as_deref().unwrap_or("any");
            let object = object(&row, reason);
            assert_eq!(argo(&object), row.argo, "{phase} {reason}");
            let name = format!("{phase}, {reason}");
            let expected = json!({"name": name, "kstatus": row.kstatus, "argo": row.argo});
            let mut case = expected;
            case["object"] = object;
            cases.push(case);
        }
    }
    let mut newer = cases.iter().find(|case| case["name"] == "Running, Running").unwrap().clone();
    newer["object"]["metadata"]["generation"] = json!(3);
    let mut unseen = newer.clone();
    unseen["object"]["status"] = json!({"observedGeneration": -1});
    for (name, mut case) in [("a newer spec", newer), ("seen by no operator", unseen)] {
        case["name"] = json!(name);
        case["kstatus"] = json!("InProgress");
        case["argo"] = json!("Progressing");
        cases.push(case);
    }
    cases
}

/// A block of text as the value of a key in YAML.
fn block(text: &str, indent: usize) -> String {
    let pad = " ".repeat(indent);
    text.lines().map(|line| format!("{pad}{line}").trim_end().to_owned() + "\n").collect()
}

/// What Argo CD takes: its ConfigMap with all scripts in it.
fn config_map() -> String {
    let folder = "gitops/argocd/weir.dev";
    let mut text = "# Generated from the scripts beside it by `make generate`: health and actions of Weir's \
                    resources for Argo CD.\n# kubectl apply --server-side --force-conflicts -f argocd-cm.yaml\n\
                    apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: argocd-cm\n  namespace: argocd\n  \
                    labels: {app.kubernetes.io/name: argocd-cm, app.kubernetes.io/part-of: argocd}\ndata:\n"
        .to_owned();
    for kind in ["StatefulJob", "JobSnapshot"] {
        text += &format!("  resource.customizations.health.weir.dev_{kind}: |\n");
        text += &block(&read(&format!("{folder}/{kind}/health.lua")), 4);
    }
    text += "  resource.customizations.actions.weir.dev_StatefulJob: |\n    discovery.lua: |\n";
    let actions = format!("{folder}/StatefulJob/actions");
    text += &block(&read(&format!("{actions}/discovery.lua")), 6);
    text += "    definitions:\n";
    let folders = fs::read_dir(path(&actions)).unwrap().flatten().filter(|its| its.path().is_dir());
    let names: BTreeSet<String> =
        folders.map(|its| its.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        text += &format!("      - name: {name}\n        action.lua: |\n");
        text += &block(&read(&format!("{actions}/{name}/action.lua")), 10);
    }
    text
}

#[track_caller]
fn assert_current(name: &str, generated: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(path(name), generated).unwrap();
    }
    assert!(read(name) == generated, "{name} is old; run: make generate");
}

#[test]
fn argocd_holds_what_is_generated() {
    let cases = serde_yaml::to_string(&cases()).unwrap();
    let head = "# Generated from the table of docs/design/0014-operator.md by `make generate`.\n";
    assert_current("gitops/argocd/cases.yaml", &format!("{head}{cases}"));
    assert_current("gitops/argocd/argocd-cm.yaml", &config_map());
}

/// Words in quotes that begin with a capital, in the code that makes conditions.
fn said_in_code() -> BTreeSet<String> {
    let code = read("operator/src/operator/status.rs");
    let words = code.split('"').skip(1).step_by(2);
    let is_reason = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.len() > 3
            && word.chars().all(|c| c.is_ascii_alphabetic())
    };
    // Types and values of conditions, and reasons of other conditions than `Ready`.
    let others = [
        "Ready",
        "Reconciling",
        "Stalled",
        "CheckpointsHealthy",
        "CompactionHealthy",
        "True",
        "False",
        "NotSuspended",
    ];
    words.filter(is_reason).filter(|word| !others.contains(word)).map(str::to_owned).collect()
}

#[test]
fn every_reason_is_in_the_table_and_in_the_readme() {
    let table: BTreeSet<String> = rows().into_iter().flat_map(|row| row.reasons).collect();
    let mut said = said_in_code();
    assert!(said.len() > 15, "{said:?}");
    // Of the conditions `CheckpointsHealthy` and `CompactionHealthy`: those that explain themselves, and
    // those that say that something is amiss.
    let amiss = ["Failing", "NoProgress", "NoCompactors", "WorkersCompact"];
    for other in ["NoFailures", "NotRunning", "Local", "Remote"].iter().chain(&amiss) {
        assert!(said.remove(*other), "{other} is no reason any more");
    }
    let missing: Vec<_> = said.difference(&table).collect();
    let gone: Vec<_> = table.difference(&said).collect();
    assert!(missing.is_empty() && gone.is_empty(), "missing: {missing:?}; gone: {gone:?}");
    let readme = read("README.md");
    for reason in table.iter().map(String::as_str).chain(amiss) {
        let is_explained = readme
            .lines()
            .any(|line| line.starts_with('|') && line.contains(&format!("`{reason}`")));
        assert!(is_explained, "README.md does not explain the reason {reason}");
    }
}
