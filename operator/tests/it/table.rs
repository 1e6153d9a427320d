//! The `table` sink as its users see it: one snapshot at rest, exactly once through `kill -9`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::command::{Folder, until};

/// 5,000 rows of 40 keys; the table keeps each key's last row.
fn manifest(rate: Option<u32>, every: &str) -> String {
    let rate = rate.map(|rate| format!(", rate: {rate}")).unwrap_or_default();
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: StatefulJob\nmetadata: {{name: latest}}\nspec:\n  \
         replicas: 2\n  slots: 2\n  checkpoint: {{interval: 100ms}}\n  pipeline:\n    - id: events\n      \
         source: {{generate: {{keys: {{count: 5000, distinct: 40, valueBytes: 4}}{rate}}}}}\n    \
         - id: latest\n      from: events\n      sink: {{table: {{uri: out, key: [key]{every}}}}}\n"
    )
}

/// The row of each key: its number, taken from what the source gives.
fn expected() -> BTreeMap<String, u64> {
    let folder = Folder::new();
    let all = manifest(None, "").replace("{table: {uri: out, key: [key]}}", "{files: {uri: out}}");
    folder.write("all.yaml", &all);
    folder.weir(&["run", "all.yaml"]).check(0, &["finished"]);
    let mut last = BTreeMap::new();
    for line in folder.rows("out").keys() {
        let row: Value = serde_json::from_str(line).unwrap();
        let newest = last.entry(row["key"].as_str().unwrap().to_owned()).or_default();
        *newest = row["seq"].as_u64().unwrap().max(*newest);
    }
    last
}

#[track_caller]
fn check(folder: &Folder) {
    let files = folder.files("out");
    let names: Vec<String> =
        files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    let snapshots: std::collections::BTreeSet<&str> =
        names.iter().map(|name| name.rsplit_once('-').unwrap().0).collect();
    assert_eq!(snapshots.len(), 1, "one snapshot at rest: {names:?}");
    assert!(names.len() <= 4 && names.iter().any(|name| name.ends_with("-0.ndjson")), "{names:?}");
    let mut found = BTreeMap::new();
    for (line, times) in folder.rows("out") {
        let row: Value = serde_json::from_str(&line).unwrap();
        let before =
            found.insert(row["key"].as_str().unwrap().to_owned(), row["seq"].as_u64().unwrap());
        assert_eq!((before, times), (None, 1), "{line}");
    }
    assert_eq!(found, expected());
    assert!(!folder.path().join("out/_weir").exists(), "nothing staged is left");
}

#[test]
fn a_table_holds_the_last_row_of_each_key_at_the_end() {
    let folder = Folder::new();
    folder.write("job.yaml", &manifest(None, ""));
    folder.weir(&["run", "job.yaml"]).check(0, &["finished"]);
    check(&folder);
    folder.weir(&["run", "job.yaml"]).check(0, &["finished"]);
    check(&folder);
    folder.weir(&["run", "job.yaml", "--fresh"]).check(0, &["finished"]);
    check(&folder);
}

#[test]
fn snapshots_replace_each_other_and_outlive_kills() {
    let folder = Folder::new();
    folder.write("job.yaml", &manifest(Some(1_500), ", every: 200ms"));
    for _ in 0..3 {
        let before = folder.files("out");
        let mut running = folder.start(&["run", "job.yaml"]);
        until("another snapshot is there", || {
            let now = folder.files("out");
            !now.is_empty() && now != before
        });
        running.signal("KILL");
        running.wait();
    }
    folder.weir(&["run", "job.yaml"]).check(0, &["finished"]);
    check(&folder);
    folder.assert_nothing_runs();
}

#[test]
fn parquet_and_an_empty_table_are_files_too() {
    let folder = Folder::new();
    let text = manifest(None, ", format: parquet").replace("count: 5000", "count: 0");
    folder.write("job.yaml", &text);
    folder.weir(&["run", "job.yaml"]).check(0, &["finished"]);
    let entries = std::fs::read_dir(folder.path().join("out")).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].to_str().unwrap().ends_with("-0.parquet"), "{names:?}");
}

#[test]
fn a_table_without_its_key_is_refused_by_name() {
    let folder = Folder::new();
    folder.write("job.yaml", &manifest(None, "").replace("key: [key]", "key: [kye]"));
    folder
        .weir(&["validate", "job.yaml"])
        .check(2, &["spec.pipeline[1].sink.table.key[0]", "kye", "did you mean"]);
}
