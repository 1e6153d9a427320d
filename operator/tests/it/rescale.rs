//! The manifest of a running job is edited: width, policy, and what cannot be taken over.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::command::{Folder, Running, assert_counted, counting, kill, sleep, until};

const ROWS: u64 = 60_000;

pub(crate) fn job(replicas: u32, slots: u32) -> String {
    let text = counting("counts", ROWS, Some(6_000));
    text.replace("replicas: 2", &format!("replicas: {replicas}\n  slots: {slots}"))
}

pub(crate) fn start(folder: &Folder) -> Running {
    folder.write("job.yaml", &job(2, 1));
    let run = folder.start(&["run", "job.yaml"]);
    until("output is committed", || !folder.files("out").is_empty());
    run
}

/// Edits the file and waits until the job has followed; gives its workers then.
#[track_caller]
fn rescale(folder: &Folder, run: &Running, replicas: u32, slots: u32) -> BTreeSet<u32> {
    folder.write("job.yaml", &job(replicas, slots));
    let said = format!("to {replicas} with {slots}, ");
    until(&said, || run.stderr().contains(&said));
    until("workers needed no more have ended", || run.workers().len() == replicas as usize);
    run.workers().into_iter().collect()
}

#[track_caller]
pub(crate) fn assert_output_is_right(folder: &Folder) {
    assert_counted(folder, ROWS);
    folder.assert_nothing_runs();
}

#[test]
fn a_running_job_follows_its_file_and_workers_that_stay_keep_their_process() {
    let folder = Folder::new();
    let mut run = start(&folder);
    let two: BTreeSet<u32> = run.workers().into_iter().collect();
    let four = rescale(&folder, &run, 4, 1);
    assert!(four.is_superset(&two), "{two:?} {four:?}");
    let one = rescale(&folder, &run, 1, 1);
    assert!(one.is_subset(&two), "{one:?} {two:?}");
    assert_eq!(rescale(&folder, &run, 1, 3), one, "more slots need no other process");
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    let err = run.stderr();
    assert!(
        err.contains("restarts 0, rescales 3 (last from 1 replicas with 1 slots to 1"),
        "{err}"
    );
    assert!(err.contains(" ms, cutWait ") && err.contains("pause "), "{err}");
    assert_output_is_right(&folder);
}

#[test]
fn a_file_that_cannot_be_taken_over_is_told_and_the_job_goes_on() {
    let folder = Folder::new();
    let mut run = start(&folder);
    let workers = run.workers();
    for (text, said) in [
        ("spec: [half".to_owned(), "not taken over, the job goes on as it is"),
        (job(200, 1), "128 key groups"),
        (job(2, 1).replace("distinct: 50", "distinct: 51"), "spec.pipeline: a running job"),
    ] {
        folder.write("job.yaml", &text);
        until(said, || run.stderr().contains(said));
    }
    folder.write("job.yaml", &job(2, 1));
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert!(run.stderr().contains("rescales 0, "), "{}", run.stderr());
    assert!(!workers.is_empty());
    assert_output_is_right(&folder);
}

#[test]
fn a_worker_killed_during_a_rescale_loses_nothing() {
    let folder = Folder::new();
    let mut run = start(&folder);
    folder.write("job.yaml", &job(3, 1));
    until("the third worker is started", || run.workers().len() == 3);
    sleep(Duration::from_millis(40));
    assert!(kill(run.workers()[0], "KILL"), "it ran");
    let said = "to 3 with 1, ";
    until(said, || run.stderr().contains(said));
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert!(run.stderr().contains("restarts 0, rescales 1 "), "{}", run.stderr());
    assert_output_is_right(&folder);
}
