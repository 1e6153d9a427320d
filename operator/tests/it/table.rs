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
fn lists_are_kept_and_two_rows_of_a_key_are_named() {
    let folder = Folder::new();
    let job = |key: &str, uri: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StatefulJob\nmetadata: {{name: lists}}\nspec:\n  \
             replicas: 2\n  pipeline:\n    - id: events\n      source: {{generate: {{keys: {{count: 6, \
             distinct: 2}}}}}}\n    - id: odd\n      from: events\n      select: [key, seq, \"seq % 2 = \
             1 as odd\"]\n    - id: lists\n      from: odd\n      aggregate:\n        key: [key, \
             odd]\n        values: [array_agg(seq) as numbers]\n    - id: out\n      from: lists\n      \
             sink: {{table: {{uri: {uri}, key: {key}}}}}\n"
        )
    };
    folder.write("job.yaml", &job("[key, odd]", "out"));
    folder.weir(&["run", "job.yaml"]).check(0, &["finished"]);
    // Keys of the first six events: those of the generator's test, for two keys.
    let expected = [
        r#"{"key":"k00000000","odd":false,"numbers":[2,4]}"#,
        r#"{"key":"k00000000","odd":true,"numbers":[1,5]}"#,
        r#"{"key":"k00000001","odd":false,"numbers":[0]}"#,
        r#"{"key":"k00000001","odd":true,"numbers":[3]}"#,
    ];
    let rows = folder.rows("out");
    assert_eq!(rows.keys().collect::<Vec<_>>(), expected);

    folder.write("job.yaml", &job("[key]", "two").replace("name: lists", "name: two"));
    let refused = folder.weir(&["run", "job.yaml"]);
    refused.check(1, &["out: key k0000000", "2 rows of this key are live at once, {\"key\":"]);
    refused.check(1, &["\"odd\":false,\"numbers\":[", "\"odd\":true,\"numbers\":["]);
    assert!(folder.files("two").is_empty());
}

#[test]
fn a_table_without_its_key_is_refused_by_name() {
    let folder = Folder::new();
    folder.write("job.yaml", &manifest(None, "").replace("key: [key]", "key: [kye]"));
    folder
        .weir(&["validate", "job.yaml"])
        .check(2, &["spec.pipeline[1].sink.table.key[0]", "kye", "did you mean"]);
}
