//! Stale processes: coordinators and workers that stood still while others took over.

use crate::command::{Folder, Running, assert_counted, counting, counting_begun, kill, until};

const ROWS: u64 = 20_000;

#[track_caller]
fn assert_output_is_right(folder: &Folder) {
    assert_counted(folder, ROWS);
    folder.assert_nothing_runs();
}

#[track_caller]
fn stop(run: &Running) -> Vec<u32> {
    run.signal("STOP");
    let workers = run.workers();
    assert_eq!(workers.len(), 2);
    workers
}

/// The state outlives the folder in which its owner stands, as when a machine is lost.
#[test]
fn a_state_whose_owner_is_gone_is_taken_over_by_its_name() {
    let folder = Folder::new();
    let manifest = counting("counts", ROWS, Some(10_000));
    folder.write("job.yaml", &manifest);
    let run = |data| ["run", "job.yaml", "--state", "state", "--data", data];
    let mut first = folder.start(&run("one"));
    until("output is committed", || !folder.files("out").is_empty());
    first.signal("KILL");
    first.wait();
    let refused = folder.weir(&run("two"));
    refused.check(2, &["is owned by local-", "takes the state over"]);
    let owner = refused.err.split("takeOver: \"").nth(1).and_then(|rest| rest.split('"').next());
    let owner = owner.unwrap_or_else(|| panic!("no line to paste: {}", refused.err)).to_owned();
    let taking = |owner: &str| {
        let line = format!("spec:\n  restoreFrom: {{takeOver: \"{owner}\"}}\n");
        folder.write("job.yaml", &manifest.replace("spec:\n", &line));
    };
    taking("local-somebody-else");
    folder.weir(&run("two")).check(2, &["is owned by", &owner]);
    taking(&owner);
    let planned = folder.weir(&["plan", "-f", "job.yaml", "--state", "state"]);
    assert!(planned.out.contains(&format!("is taken over from {owner}")), "{}", planned.out);
    folder.weir(&run("two")).check(0, &["job counts finished"]);
    assert_output_is_right(&folder);
}

/// It holds the lock as long as it lives, also asleep.
#[test]
fn a_run_that_stands_still_keeps_its_folder() {
    let (folder, mut run) = counting_begun(ROWS);
    run.signal("STOP");
    let pid = format!("is in use by process {}", run.pid());
    folder.weir(&["run", "job.yaml"]).check(2, &[&pid]);
    run.signal("CONT");
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert_output_is_right(&folder);
}

/// Its lock was taken away, as when a folder is copied to another machine.
#[test]
fn a_coordinator_that_wakes_up_after_another_took_over_is_fenced_and_harms_nothing() {
    let (folder, mut stale) = counting_begun(ROWS);
    let workers = stop(&stale);
    std::fs::remove_file(folder.path().join("weir-data/counts/lock")).unwrap();
    let mut next = folder.start(&["run", "job.yaml"]);
    until("the next one runs", || next.workers().len() == 2);
    stale.signal("CONT");
    assert_eq!(stale.wait(), Some(1), "{}", stale.stderr());
    assert!(stale.stderr().contains("job counts runs elsewhere now"), "{}", stale.stderr());
    assert!(!workers.is_empty());
    assert_eq!(next.wait(), Some(0), "{}", next.stderr());
    assert_output_is_right(&folder);
}

#[test]
fn a_coordinator_that_wakes_up_after_the_job_has_finished_changes_nothing() {
    let (folder, mut stale) = counting_begun(ROWS);
    let workers = stop(&stale);
    for worker in &workers {
        assert!(kill(*worker, "STOP"));
    }
    std::fs::remove_file(folder.path().join("weir-data/counts/lock")).unwrap();
    folder.weir(&["run", "job.yaml"]).check(0, &["job counts finished"]);
    let files = folder.files("out");
    for worker in &workers {
        assert!(kill(*worker, "CONT"));
    }
    stale.signal("CONT");
    assert_eq!(stale.wait(), Some(1), "{}", stale.stderr());
    assert_eq!(folder.files("out").len(), files.len());
    assert_output_is_right(&folder);
}

#[test]
fn orphans_of_a_folder_that_was_deleted_and_made_again_harm_nothing() {
    let (folder, mut run) = counting_begun(ROWS);
    let workers = run.workers();
    for worker in &workers {
        assert!(kill(*worker, "STOP"));
    }
    run.signal("KILL");
    run.wait();
    std::fs::remove_dir_all(folder.path().join("weir-data")).unwrap();
    let refused = folder.weir(&["run", "job.yaml"]);
    refused.check(2, &["out holds files of step out from another run", "--fresh"]);
    let mut anew = folder.start(&["run", "job.yaml", "--fresh"]);
    until("the new run's workers run", || anew.workers().len() == 2);
    for worker in &workers {
        assert!(kill(*worker, "CONT"), "an orphan that stands still is there");
    }
    assert_eq!(anew.wait(), Some(0), "{}", anew.stderr());
    assert!(anew.stderr().contains("restarts 0"), "{}", anew.stderr());
    assert_output_is_right(&folder);
}

/// The whole of the first run sleeps while its folder is deleted and made again.
#[test]
fn a_run_whose_folder_was_deleted_and_made_again_is_fenced() {
    let (folder, mut stale) = counting_begun(ROWS);
    let workers = stop(&stale);
    for worker in &workers {
        assert!(kill(*worker, "STOP"));
    }
    std::fs::remove_dir_all(folder.path().join("weir-data")).unwrap();
    let mut anew = folder.start(&["run", "job.yaml", "--fresh"]);
    until("the new run's workers run", || anew.workers().len() == 2);
    for worker in &workers {
        assert!(kill(*worker, "CONT"));
    }
    stale.signal("CONT");
    assert_eq!(stale.wait(), Some(1), "{}", stale.stderr());
    assert_eq!(anew.wait(), Some(0), "{}", anew.stderr());
    assert_output_is_right(&folder);
}
