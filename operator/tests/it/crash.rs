//! `kill -9` of a worker and of `weir run`: committed output stays right.

use std::collections::BTreeMap;

use crate::command::{Folder, counting, kill, lives, until};

const ROWS: u64 = 30_000;

fn undisturbed() -> BTreeMap<String, usize> {
    let folder = Folder::new();
    folder.write("job.yaml", &counting("counts", ROWS, None));
    folder.weir(&["run", "job.yaml"]).check(0, &["finished"]);
    folder.rows("out")
}

fn slow() -> Folder {
    let folder = Folder::new();
    folder.write("job.yaml", &counting("counts", ROWS, Some(10_000)));
    folder
}

#[test]
fn a_killed_worker_is_replaced_and_no_row_is_lost_or_doubled() {
    let folder = slow();
    let mut run = folder.start(&["run", "job.yaml"]);
    until("output is committed", || !folder.files("out").is_empty());
    let victim = run.workers()[0];
    kill(victim, "KILL");
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert_eq!(folder.rows("out"), undisturbed());
    assert!(run.stderr().contains("restarts 0"), "a kill is no error: {}", run.stderr());
    assert_eq!(staged(&folder), Vec::<String>::new());
}

#[test]
fn a_killed_run_goes_on_at_once_and_its_workers_end() {
    let folder = slow();
    let mut run = folder.start(&["run", "job.yaml"]);
    until("output is committed", || !folder.files("out").is_empty());
    let workers = run.workers();
    run.signal("KILL");
    run.wait();
    let again = folder.weir(&["run", "job.yaml"]);
    again.check(0, &["job counts finished"]);
    assert_eq!(folder.rows("out"), undisturbed());
    until("orphans have ended", || workers.iter().all(|pid| !lives(*pid)));
    assert_eq!(staged(&folder), Vec::<String>::new());
}

/// What is left below the sink's staging folder.
fn staged(folder: &Folder) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.path().join("out/_weir")];
    while let Some(next) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(next) else { continue };
        for entry in entries.flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}
