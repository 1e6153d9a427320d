//! What is refused, in which words, with which exit status.

use crate::command::{Folder, counting};

/// Runs and validates a manifest; both refuse it with exit status 2 and the same sentences.
#[track_caller]
fn refused(manifest: &str, parts: &[&str]) {
    let folder = Folder::new();
    folder.write("job.yaml", manifest);
    folder.weir(&["validate", "job.yaml"]).check(2, parts);
    let run = folder.weir(&["run", "job.yaml"]);
    run.check(2, parts);
    assert!(run.out.is_empty());
    assert!(!folder.path().join("weir-data").exists(), "a refused manifest leaves nothing behind");
}

#[test]
fn all_problems_at_once_each_with_its_path() {
    let manifest = counting("counts", 10, None)
        .replace("from: events", "from: event")
        .replace("replicas: 2", "replicas: 0")
        .replace("interval", "intervall");
    refused(&manifest, &["job.yaml: spec.pipeline[1].from", "spec.replicas", "spec.checkpoint"]);
}

#[test]
fn an_unknown_column_is_named_with_its_step() {
    let manifest = counting("counts", 10, None).replace("sum(seq)", "sum(sequence)");
    refused(&manifest, &["job.yaml: spec.pipeline[1].aggregate.values", "sequence"]);
}

#[test]
fn a_missing_source_is_named() {
    let manifest = counting("counts", 10, None).replace(
        "generate: {keys: {count: 10, distinct: 50, valueBytes: 10}}",
        "files: {uri: missing.parquet}",
    );
    refused(&manifest, &["job.yaml: spec.pipeline[0].source", "missing.parquet"]);
}

#[test]
fn a_missing_manifest_is_named() {
    let folder = Folder::new();
    folder.weir(&["run", "none.yaml"]).check(2, &["cannot read none.yaml"]);
    folder.weir(&["validate", "none.yaml"]).check(2, &["cannot read none.yaml"]);
}

#[test]
fn flags_that_are_not_known_are_refused() {
    let folder = Folder::new();
    folder.weir(&["run"]).check(2, &["FILE"]);
    folder.weir(&["run", "job.yaml", "--frech"]).check(2, &["--frech"]);
    folder.weir(&["worker"]).check(2, &["not by hand"]);
}

#[test]
fn a_sound_manifest_has_no_problems() {
    let folder = Folder::new();
    folder.write("job.yaml", &counting("counts", 10, None));
    folder.weir(&["validate", "job.yaml"]).check(0, &["job.yaml: no problems"]);
    folder.weir(&["validate", "--offline", "job.yaml"]).check(0, &["were not looked at"]);
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named() {
    let folder = Folder::new();
    folder.write("job.yaml", &counting("counts", 10, None));
    folder.write("file", "");
    folder.weir(&["run", "job.yaml", "--data", "file"]).check(2, &["file/counts", "--data"]);
}

#[test]
fn the_state_of_another_job_is_refused() {
    let folder = Folder::new();
    folder.write("one.yaml", &counting("one", 10, None));
    folder.weir(&["run", "one.yaml", "--state", "shared"]).check(0, &["finished"]);
    folder.write("two.yaml", &counting("two", 10, None).replace("uri: out", "uri: other"));
    let two = folder.weir(&["run", "two.yaml", "--state", "shared"]);
    two.check(2, &["holds the state of job \"one\", not of \"two\""]);
}

#[test]
fn a_folder_without_state_is_refused() {
    let folder = Folder::new();
    folder.weir(&["state", "ls", "nowhere"]).check(2, &["nowhere", "does not exist"]);
    folder.write("empty/file", "");
    folder.weir(&["state", "show", "empty"]).check(2, &["holds no job's state"]);
}

#[test]
fn a_bad_row_fails_the_job_and_is_named() {
    let folder = Folder::new();
    folder.write("rows.ndjson", "{\"x\": 1, \"t\": 1}\n{\"x\": \"x\", \"t\": 2}\n");
    let manifest = "apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata: {name: bad}
spec:
  pipeline:
    - id: rows
      source:
        files: {uri: rows.ndjson, schema: {x: int64, t: timestamp}}
    - id: out
      from: rows
      sink: {blackhole: {}}
";
    folder.write("job.yaml", manifest);
    folder
        .weir(&["run", "job.yaml"])
        .check(1, &["job bad failed", "rows", "rows.ndjson", "line 2"]);
}

#[test]
fn an_error_in_a_row_fails_the_job_and_names_step_and_place() {
    let folder = Folder::new();
    folder.write("rows.ndjson", "{\"x\": 1}\n{\"x\": 0}\n");
    let manifest = "apiVersion: weir.dev/v1alpha1
kind: StatefulJob
metadata: {name: division}
spec:
  pipeline:
    - id: rows
      source:
        files: {uri: rows.ndjson, schema: {x: int64}}
    - id: halves
      from: rows
      select: ['10 / x as half']
    - id: out
      from: halves
      sink: {blackhole: {}}
";
    folder.write("job.yaml", manifest);
    folder.weir(&["run", "job.yaml"]).check(1, &["halves", "rows.ndjson"]);
}
