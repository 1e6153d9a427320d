//! Workers that freeze or are asked to end, and a `weir run` that freezes: nothing is lost, and
//! nobody is given up who lives.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::command::{Folder, kill, sleep, until};
use crate::rescale::{assert_output_is_right, job, start};

#[test]
fn a_worker_that_is_asked_to_end_hands_its_work_over_first() {
    let folder = Folder::new();
    let mut run = start(&folder);
    let before: BTreeSet<u32> = run.workers().into_iter().collect();
    let leaves = *before.first().expect("two workers");
    assert!(kill(leaves, "TERM"), "it ran");
    until("another is in its place", || {
        let workers = run.workers();
        workers.len() == 2 && !workers.contains(&leaves)
    });
    let now: BTreeSet<u32> = run.workers().into_iter().collect();
    assert_eq!(now.intersection(&before).count(), 1, "the other one stays: {before:?} {now:?}");
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    let err = run.stderr();
    assert!(err.contains("restarts 0, rescales 0, "), "{err}");
    assert!(err.contains("was asked to end; its work moves"), "{err}");
    assert!(!err.contains("lost worker"), "nothing was done twice: {err}");
    assert_output_is_right(&folder);
}

#[test]
fn the_only_worker_that_is_asked_to_end_waits_for_another() {
    let folder = Folder::new();
    folder.write("job.yaml", &job(1, 2));
    let mut run = folder.start(&["run", "job.yaml"]);
    until("output is committed", || !folder.files("out").is_empty());
    let before = run.workers();
    assert!(kill(before[0], "TERM"), "it ran");
    until("another is in its place", || run.workers().len() == 1 && run.workers() != before);
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert!(!run.stderr().contains("lost worker"), "{}", run.stderr());
    assert_output_is_right(&folder);
}

#[test]
fn a_frozen_worker_is_replaced_after_the_timeout() {
    let folder = Folder::new();
    let quick = job(2, 1).replace("replicas: 2", "failover: {timeout: 500ms}\n  replicas: 2");
    folder.write("job.yaml", &quick);
    let mut run = folder.start(&["run", "job.yaml"]);
    until("output is committed", || !folder.files("out").is_empty());
    let frozen = run.workers()[0];
    assert!(kill(frozen, "STOP"), "it ran");
    until("it is given up", || run.stderr().contains("silent for 500ms"));
    until("another is in its place", || {
        run.workers().len() == 2 && !run.workers().contains(&frozen)
    });
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert!(run.stderr().contains("restarts 0, "), "{}", run.stderr());
    assert_output_is_right(&folder);
}

#[test]
fn a_run_that_was_frozen_gives_nobody_up_who_lives() {
    let folder = Folder::new();
    let quick = job(2, 1).replace("replicas: 2", "failover: {timeout: 500ms}\n  replicas: 2");
    folder.write("job.yaml", &quick);
    let mut run = folder.start(&["run", "job.yaml"]);
    until("output is committed", || !folder.files("out").is_empty());
    let workers = run.workers();
    run.signal("STOP");
    sleep(Duration::from_secs(2));
    run.signal("CONT");
    let files = folder.files("out").len();
    until("more output is committed", || folder.files("out").len() > files);
    assert_eq!(run.workers(), workers);
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert!(!run.stderr().contains("lost worker"), "{}", run.stderr());
    assert_output_is_right(&folder);
}
