//! A job that begins from another one's state.

use std::collections::BTreeMap;

use crate::command::{Folder, counting, counting_begun};

const ROWS: u64 = 20_000;

/// The second job's manifest: another name and width, from the first one's state.
fn second(sink: &str) -> String {
    counting("second", ROWS, None)
        .replace("replicas: 2", "replicas: 3\n  restoreFrom: {uri: weir-data/counts/state}")
        .replace("uri: out", &format!("uri: {sink}"))
}

/// A job that was stopped in the middle; what it wrote is in `out`.
fn stopped() -> Folder {
    let (folder, mut first) = counting_begun(ROWS);
    first.signal("INT");
    assert_eq!(first.wait(), Some(130), "{}", first.stderr());
    folder
}

fn whole() -> BTreeMap<String, usize> {
    let whole = Folder::new();
    whole.write("job.yaml", &counting("counts", ROWS, None));
    whole.weir(&["run", "job.yaml"]).check(0, &[]);
    whole.rows("out")
}

#[test]
fn another_job_goes_on_where_the_first_one_stopped() {
    let folder = stopped();
    let before = folder.rows("out").len();
    folder.write("second.yaml", &second("out"));
    folder.weir(&["run", "second.yaml"]).check(0, &["job second finished", "rows in 20000"]);
    let whole = whole();
    assert!(before > 0 && before < whole.len(), "{before} of {}", whole.len());
    assert_eq!(folder.rows("out"), whole);

    // It is its own now: nothing of the first is needed, and the word has no effect any more.
    std::fs::remove_dir_all(folder.path().join("weir-data/counts")).unwrap();
    folder.weir(&["run", "second.yaml"]).check(0, &["finished already"]);
}

#[test]
fn into_another_folder_it_writes_what_was_missing() {
    let folder = stopped();
    folder.write("second.yaml", &second("more"));
    folder.weir(&["run", "second.yaml"]).check(0, &["job second finished"]);
    let mut rows = folder.rows("out");
    for (row, times) in folder.rows("more") {
        *rows.entry(row).or_default() += times;
    }
    assert_eq!(rows, whole());
}

#[test]
fn output_behind_the_checkpoint_is_refused() {
    let folder = stopped();
    let first = folder.weir(&["run", "job.yaml"]);
    first.check(0, &["job counts finished"]);
    let files = folder.files("out");
    let name = files.last().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let parts: Vec<&str> = name.split('-').collect();
    let later = name.replace(parts[2], "000000099999");
    folder.write(&format!("out/{later}"), "");
    folder.write("second.yaml", &second("out"));
    folder.weir(&["run", "second.yaml"]).check(2, &["holds files of step out", &later]);
}

#[test]
fn what_it_cannot_begin_from_is_refused_with_what_to_do() {
    let folder = stopped();
    let refused = |change: &dyn Fn(String) -> String, says: &[&str]| {
        folder.write("second.yaml", &change(second("more")));
        folder.weir(&["run", "second.yaml"]).check(2, says);
        assert!(!folder.path().join("weir-data/second/state/claims").exists(), "{says:?}");
    };
    let from = "uri: weir-data/counts/state";
    refused(
        &|text| text.replace(from, "uri: nowhere"),
        &["spec.restoreFrom.uri", "does not exist"],
    );
    refused(&|text| text.replace(from, "uri: out"), &["spec.restoreFrom", "holds no job's state"]);
    refused(
        &|text| text.replace(from, "snapshotRef: {name: monday}"),
        &["snapshotRef", "restoreFrom.uri"],
    );
    refused(&|text| text.replace(from, ""), &["spec.restoreFrom", "what to begin from is missing"]);
    refused(
        &|text| text.replace(from, "uri: a, snapshotRef: {name: b}"),
        &["spec.restoreFrom", "exactly one"],
    );
    refused(&|text| text.replace("1s", "2s"), &["spec.pipeline[1]", "step counts"]);
    refused(
        &|text| text.replace("spec:\n", "spec:\n  state: {keyGroups: 64}\n"),
        &["spec.state.keyGroups", "128"],
    );
}
