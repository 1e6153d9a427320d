//! `suspend: true` in the manifest: from the start, edited in, set back, and what does not fit then.

use std::time::Duration;

use crate::command::{Folder, Running, assert_counted, counting, sleep, until};

const ROWS: u64 = 30_000;
/// Several looks at the file, and what a job does in its first moments.
const A_WHILE: Duration = Duration::from_millis(1_500);

fn job(suspend: bool) -> String {
    let text = counting("counts", ROWS, Some(10_000));
    text.replace("  replicas: 2\n", &format!("  replicas: 2\n  suspend: {suspend}\n"))
}

#[track_caller]
fn waits(run: &Running) {
    until("it waits", || run.stderr().contains("job counts is suspended by job.yaml"));
    until("no worker is left", || run.workers().is_empty());
}

#[track_caller]
fn assert_output_is_right(folder: &Folder) {
    assert_counted(folder, ROWS);
    folder.assert_nothing_runs();
}

#[test]
fn a_job_that_is_suspended_from_the_start_begins_when_it_is_set_back() {
    let folder = Folder::new();
    folder.write("job.yaml", &job(true));
    let mut run = folder.start(&["run", "job.yaml"]);
    waits(&run);
    sleep(A_WHILE);
    assert!(!run.has_ended() && run.workers().is_empty(), "{}", run.stderr());
    assert!(folder.files("out").is_empty());
    let pid = format!("process {}", run.pid());
    folder.weir(&["run", "job.yaml"]).check(2, &["is in use by", &pid]);
    folder.write("job.yaml", &job(false));
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert!(run.stderr().contains("taken over: job counts goes on"), "{}", run.stderr());
    assert_output_is_right(&folder);
}

#[test]
fn a_running_job_follows_suspend_in_its_file_there_and_back() {
    let folder = Folder::new();
    folder.write("job.yaml", &job(false));
    let mut run = folder.start(&["run", "job.yaml"]);
    until("output is committed", || !folder.files("out").is_empty());
    folder.write("job.yaml", &job(true));
    waits(&run);
    let shown = folder.weir(&["state", "show", "weir-data/counts/state"]).out;
    assert!(shown.contains("phase               suspended"), "{shown}");
    let files = folder.files("out");
    sleep(A_WHILE);
    assert_eq!(folder.files("out"), files, "a suspended job writes nothing");
    assert!(!run.has_ended(), "{}", run.stderr());

    // What does not fit is told, and the next edit is waited for.
    for (text, said) in [
        ("spec: [half".to_owned(), "not taken over, the job stays suspended"),
        (job(false).replace("name: counts", "name: other"), "this `weir run` holds job counts"),
        (job(false).replace("tumble: 1s", "tumble: 2s"), "the state of step counts does not fit"),
    ] {
        folder.write("job.yaml", &text);
        until(said, || run.stderr().contains(said));
    }
    // The same text as before it was suspended, but for what may be changed.
    folder.write("job.yaml", &job(false).replace("replicas: 2", "replicas: 3"));
    until("three workers run", || run.workers().len() == 3);
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert_output_is_right(&folder);
}

#[test]
fn a_job_that_waits_ends_with_130_at_a_signal_and_goes_on_later() {
    let folder = Folder::new();
    folder.write("job.yaml", &job(false));
    let mut run = folder.start(&["run", "job.yaml"]);
    until("output is committed", || !folder.files("out").is_empty());
    // Back before anybody has seen that it waits.
    folder.write("job.yaml", &job(true));
    until("it suspends", || run.stderr().contains("taken over: suspend"));
    folder.write("job.yaml", &job(false));
    until("it goes on", || run.stderr().contains("taken over: job counts goes on"));
    until("workers run", || run.workers().len() == 2);
    folder.write("job.yaml", &job(true));
    until("it suspends again", || run.stderr().matches("taken over: suspend").count() == 2);
    until("it waits", || run.stderr().matches("is suspended by job.yaml").count() == 2);
    run.signal("TERM");
    assert_eq!(run.wait(), Some(130), "{}", run.stderr());
    assert!(run.stderr().contains("stopped waiting; the job stays suspended"), "{}", run.stderr());
    folder.write("job.yaml", &job(false));
    folder.weir(&["run", "job.yaml"]).check(0, &["job counts finished", "rows in 30000"]);
    assert_output_is_right(&folder);
}
