//! Folders, flags and signals.

use super::{fails, job};
use crate::command::{Folder, children, counting, kill, until};

const KEYS: &str =
    "- {id: k, source: {generate: {keys: {count: 10, distinct: 3, valueBytes: 4}}}}\n";

#[test]
fn flags_that_are_not_known_are_refused() {
    let folder = Folder::new();
    folder.weir(&["run"]).check(2, &["FILE"]);
    folder.weir(&["run", "job.yaml", "--frech"]).check(2, &["--frech", "--fresh"]);
    folder.weir(&["validate"]).check(2, &["FILES"]);
    folder
        .weir(&["worker"])
        .check(2, &["`weir worker` is started by `weir run` or by the operator, not by hand\n"]);
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named() {
    let folder = Folder::new();
    folder.write("job.yaml", &counting("counts", 10, None));
    folder.write("file", "");
    let sentence = "error: cannot use file/counts; --data names another place for state and logs: Not a directory (os error 20)";
    fails(&folder, &["run", "job.yaml", "--data", "file"], 2, &[sentence]);
}

#[test]
fn a_sink_that_cannot_be_written_is_refused_before_anything_runs() {
    let folder = Folder::new();
    folder.write("file", "");
    let proc = "/proc/weir";
    for (uri, cause) in [
        ("file", "Not a directory (os error 20)"),
        ("file/below", "Not a directory (os error 20)"),
        (proc, "No such file or directory (os error 2)"),
    ] {
        let sink = format!("- {{id: out, from: k, sink: {{files: {{uri: {uri}}}}}}}");
        folder.write("job.yaml", &job("job", &format!("{KEYS}{sink}")));
        let sentence = format!(
            "error: spec.pipeline[1].sink: nothing can be written in {uri}; choose another folder: {cause}"
        );
        fails(&folder, &["run", "job.yaml"], 2, &[&sentence]);
    }
    assert!(!folder.path().join("weir-data").exists(), "a refused job leaves nothing behind");
    folder.write("weir-data/notes", "mine");
    fails(
        &folder,
        &["run", "job.yaml", "--state", "ftp://a/b"],
        2,
        &[
            "error: \"ftp://a/b\" cannot be opened: known are plain paths, file://, s3:// and memory://",
        ],
    );
    let left = std::fs::read_dir(folder.path().join("weir-data")).unwrap();
    assert_eq!(left.count(), 1, "what was there before stays, and nothing else");
}

#[test]
fn a_folder_without_state_is_refused() {
    let folder = Folder::new();
    folder.weir(&["state", "ls", "nowhere"]).check(2, &["error: nowhere does not exist\n"]);
    folder.write("empty/file", "");
    folder.weir(&["state", "show", "empty"]).check(2, &["holds no job's state"]);
    folder.weir(&["state", "gc", "nowhere"]).check(2, &["error: nowhere does not exist\n"]);
    folder.weir(&["state", "gc", "empty", "--dry-run"]).check(2, &["holds no job's state"]);
    folder.weir(&["state", "gc"]).check(2, &["URI"]);
    folder.weir(&["state", "ls", "ftp://a/b"]).check(2, &["known are plain paths, file://, s3://"]);
}

/// Its worker stands still, so the last checkpoint can't be taken; a second signal does not wait.
#[test]
fn a_second_signal_stops_at_once_and_the_job_goes_on_later() {
    let folder = Folder::new();
    let manifest = counting("counts", 2_000, Some(1_000)).replace("replicas: 2", "replicas: 1");
    folder.write("job.yaml", &manifest.replace("spec:\n", "spec:\n  failover: {timeout: 100s}\n"));
    let mut first = folder.start(&["run", "job.yaml"]);
    until("output is committed", || !folder.files("out").is_empty());
    let [worker] = children(first.pid())[..] else { panic!("one worker") };
    assert!(kill(worker, "STOP"));
    first.signal("TERM");
    until("it is suspending", || first.stderr().contains("once more stops at once"));
    assert!(!first.has_ended());
    first.signal("INT");
    assert_eq!(first.wait(), Some(130), "{}", first.stderr());
    let sentence =
        "stopped without a last checkpoint; the same command goes on from the one before\n";
    assert!(first.stderr().ends_with(sentence), "{}", first.stderr());
    assert!(kill(worker, "CONT"));
    folder.assert_nothing_runs();

    folder.weir(&["run", "job.yaml"]).check(0, &["job counts finished"]);
    let whole = Folder::new();
    whole.write("job.yaml", &counting("counts", 2_000, None));
    whole.weir(&["run", "job.yaml"]).check(0, &[]);
    assert_eq!(folder.rows("out"), whole.rows("out"));
}
