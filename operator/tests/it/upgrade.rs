//! A changed pipeline whose state does not fit, and the line that gives the state up.

use std::time::Duration;

use crate::command::{Done, Folder, counting, sleep, until};

const ROWS: u64 = 60_000;

/// `manifest` with one more line in `spec`.
fn with(manifest: &str, line: &str) -> String {
    manifest.replace("spec:\n", &format!("spec:\n  {line}\n"))
}

/// What the refusal says to paste.
#[track_caller]
fn line(refused: &Done) -> String {
    let mut parts = refused.err.split('`');
    let line = parts.find(|part| part.starts_with("upgrade: {discard: ["));
    line.unwrap_or_else(|| panic!("no line to paste in {}", refused.err)).to_owned()
}

/// Runs the job until it has written more than before, and stops it.
#[track_caller]
fn run_on(folder: &Folder) {
    let before = folder.files("out").len();
    let mut run = folder.start(&["run", "job.yaml"]);
    until("more output is committed", || folder.files("out").len() > before);
    run.signal("INT");
    assert_eq!(run.wait(), Some(130), "{}", run.stderr());
}

/// What all windows have counted, and the lengths of these windows.
fn counted(folder: &Folder) -> (u64, Vec<i64>) {
    let (mut rows, mut lengths) = (0, Vec::new());
    for line in folder.rows("out").into_keys() {
        let row: serde_json::Value = serde_json::from_str(&line).unwrap();
        rows += row["rows"].as_u64().unwrap();
        let time = |name: &str| row[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        lengths.push((time("window_end") - time("window_start")).get_seconds());
    }
    lengths.sort_unstable();
    lengths.dedup();
    (rows, lengths)
}

#[test]
fn state_that_does_not_fit_is_given_up_by_the_line_that_is_told_and_once() {
    let folder = Folder::new();
    let seconds = counting("counts", ROWS, Some(10_000));
    let longer = seconds.replace("1s", "2s");
    folder.write("job.yaml", &seconds);
    run_on(&folder);
    folder.write("job.yaml", &longer);
    let refused = folder.weir(&["run", "job.yaml"]);
    refused.check(2, &["spec.pipeline[1]", "step counts", "--fresh"]);
    folder.weir(&["plan", "-f", "job.yaml"]).check(2, &[&line(&refused)]);

    folder.write("job.yaml", &with(&longer, &line(&refused)));
    let planned = folder.weir(&["plan", "-f", "job.yaml"]);
    planned.check(0, &[]);
    assert!(planned.out.contains("the state of step counts is given up"), "{}", planned.out);
    run_on(&folder);
    assert_eq!(counted(&folder).1, [1, 2]);

    // Back again: the line that was used holds no more, and the job stays as it is.
    folder.write("job.yaml", &with(&seconds, &line(&refused)));
    let again = folder.weir(&["run", "job.yaml"]);
    again.check(2, &["spec.pipeline[1]", "step counts"]);
    assert_ne!(line(&again), line(&refused));
    folder.write("job.yaml", &with(&longer, &line(&refused)));
    folder.weir(&["run", "job.yaml"]).check(0, &["job counts finished"]);
    let (rows, _) = counted(&folder);
    assert!(rows <= ROWS && rows > ROWS / 2, "{rows} of {ROWS} rows are counted");
}

#[test]
fn a_removed_step_is_given_up_too() {
    let folder = Folder::new();
    let manifest = counting("counts", ROWS, Some(10_000));
    folder.write("job.yaml", &manifest);
    run_on(&folder);
    let other = manifest.replace("id: counts", "id: other").replace("from: counts", "from: other");
    folder.write("job.yaml", &other);
    let refused = folder.weir(&["run", "job.yaml"]);
    refused.check(2, &["step counts, which has state, was removed"]);
    folder.write("job.yaml", &with(&other, &line(&refused)));
    folder.weir(&["run", "job.yaml"]).check(0, &["job counts finished"]);
}

#[test]
fn a_table_goes_with_the_step_whose_revisions_it_folds() {
    let folder = Folder::new();
    let manifest = counting("counts", ROWS, Some(10_000))
        .replace("        window: {tumble: 1s}\n", "")
        .replace("files: {uri: out, format: ndjson}", "table: {uri: out, key: [key]}");
    folder.write("job.yaml", &manifest);
    let mut first = folder.start(&["run", "job.yaml"]);
    until("workers run", || first.workers().len() == 2);
    sleep(Duration::from_millis(1_500));
    first.signal("INT");
    assert_eq!(first.wait(), Some(130), "{}", first.stderr());
    let changed = manifest.replace("sum(seq)", "max(seq)");
    folder.write("job.yaml", &changed);
    let refused = folder.weir(&["run", "job.yaml"]);
    refused.check(2, &["spec.pipeline[1]", "{step: counts, ", "{step: out, "]);
    let both = line(&refused);
    let (one, _) = both.split_once(", {step: out").unwrap();
    folder.write("job.yaml", &with(&changed, &format!("{one}]}}")));
    let refused = folder.weir(&["run", "job.yaml"]);
    refused.check(2, &["spec.upgrade.discard", "steps out and counts go together"]);
    folder.write("job.yaml", &with(&changed, &both));
    folder.weir(&["run", "job.yaml"]).check(0, &["job counts finished"]);
    assert_eq!(folder.rows("out").len(), 50, "a row for each key");
}
