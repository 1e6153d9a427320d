//! `kill -9` of a random process at a random moment: the committed output is right each time,
//! nothing is left running, and nothing lies about that the journal does not name.

use std::time::Duration;

use crate::command::{Folder, Running, assert_counted, counting_begun, kill, sleep, until};
use crate::flights::{Random, assert_output_is_right, manifest, original};
use crate::leftovers::assert_folders_are_as_the_journal_says;

const RUNS: u64 = 50;
/// Runs at the same time: they mostly wait for their sources.
const TOGETHER: u64 = 4;
/// Slows the source, so that a run lasts long enough to be hit.
const ROWS_PER_SECOND: u32 = 150_000;
const MOMENT_MS_MAX: u64 = 2_200;
/// A job is run again at most this often; then it is stuck.
const STARTS_MAX: u32 = 10;

/// What was hit, over all runs: a test in which nothing was would show nothing.
#[derive(Debug, Default)]
struct Hits {
    workers: u32,
    runs: u32,
    /// Rescales that a living run has made.
    rescales: u32,
    /// A worker or the run was killed while one was under way.
    amid_rescale: u32,
}

/// A job's form: workers and slots.
type Form = (u32, u32);

fn write(folder: &Folder, (workers, slots): Form) {
    folder.write("flights.yaml", &manifest(workers, slots, &original(), Some(ROWS_PER_SECOND)));
}

/// One job, killed once or twice and in every other run rescaled, run again until it has finished.
fn one(seed: u64) -> Hits {
    let (folder, mut hits) = (Folder::new(), Hits::default());
    let mut random = Random(seed);
    write(&folder, (2, 1));
    let forms: [Form; 4] = [(3, 1), (1, 1), (4, 1), (2, 2)];
    let mut rescale = (seed % 2 == 1).then(|| forms[usize::try_from(random.below(4)).unwrap()]);
    let mut kills = 1 + random.below(2);
    for start in 0.. {
        assert!(start < STARTS_MAX, "seed {seed}: not finished after {start} starts");
        let mut run = folder.start(&["run", "flights.yaml"]);
        let mut run_was_killed = false;
        let mut asked = false;
        while kills > 0 && !run_was_killed {
            if let Some(form) = rescale.take() {
                sleep(Duration::from_millis(300 + random.below(500)));
                write(&folder, form);
                asked = true;
                if random.below(3) == 0 {
                    // Any moment from before the edit is seen until long after the move.
                    sleep(Duration::from_millis(random.below(1_200)));
                } else {
                    let is_seen = || run.has_ended() || run.stderr().contains("taken over");
                    until("the edit is seen", is_seen);
                    sleep(Duration::from_millis(random.below(150)));
                }
            } else {
                sleep(Duration::from_millis(random.below(MOMENT_MS_MAX)));
            }
            kills -= 1;
            let amid = run.stderr().contains("taken over") && !run.stderr().contains("rescaled ");
            let before = hits.workers + hits.runs;
            run_was_killed = strike(&mut run, &mut random, &mut hits);
            hits.amid_rescale += u32::from(amid && hits.workers + hits.runs > before);
        }
        let status = run.wait();
        assert!(run_was_killed || status == Some(0), "seed {seed}: {status:?}: {}", run.stderr());
        hits.rescales += u32::from(asked && run.stderr().contains("rescaled "));
        if status == Some(0) {
            let all = "rows in 336776, ";
            assert!(run.stderr().contains(all), "seed {seed}: {}", run.stderr());
            break;
        }
    }
    assert_output_is_right(&folder);
    folder.assert_nothing_runs();
    for sink in ["out/delays", "out/aircraft"] {
        assert_folders_are_as_the_journal_says(&folder, "flights", sink);
    }
    hits
}

/// Kills a worker or `weir run` itself; whether it was the latter.
fn strike(run: &mut Running, random: &mut Random, hits: &mut Hits) -> bool {
    if run.has_ended() {
        return false;
    }
    let workers = run.workers();
    if random.below(2) == 0 && !workers.is_empty() {
        let at = usize::try_from(random.below(workers.len() as u64)).expect("small");
        hits.workers += u32::from(kill(workers[at], "KILL"));
        return false;
    }
    hits.runs += 1;
    run.signal("KILL");
    true
}

/// `WEIR_KILL_RUNS` makes more of them.
#[test]
fn output_is_right_after_kill_9_of_any_process_and_a_rescale_at_any_moment() {
    let runs = std::env::var("WEIR_KILL_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs = runs.unwrap_or(RUNS);
    let all = std::sync::Mutex::new(Hits::default());
    std::thread::scope(|scope| {
        for first in 0..TOGETHER {
            let all = &all;
            scope.spawn(move || {
                for seed in (first..runs).step_by(usize::try_from(TOGETHER).expect("small")) {
                    let hits = one(seed);
                    let mut all = all.lock().expect("not poisoned");
                    all.workers += hits.workers;
                    all.runs += hits.runs;
                    all.rescales += hits.rescales;
                    all.amid_rescale += hits.amid_rescale;
                }
            });
        }
    });
    let hits = all.into_inner().expect("not poisoned");
    println!("{hits:?}");
    assert!(hits.workers >= 12 && hits.runs >= 12, "the kills hit too little: {hits:?}");
    assert!(hits.rescales >= 8 && hits.amid_rescale >= 3, "too few rescales: {hits:?}");
}

#[test]
fn a_killed_worker_is_replaced_and_counts_as_no_error() {
    let (folder, mut run) = counting_begun(30_000);
    let before = run.workers();
    let said = format!(" runs as process {}\n", before[0]);
    assert!(run.stderr().contains(&said), "{}", run.stderr());
    assert!(kill(before[0], "KILL"), "a worker runs");
    assert_eq!(run.wait(), Some(0), "{}", run.stderr());
    assert!(run.stderr().contains("restarts 0"), "{}", run.stderr());
    assert_counted(&folder, 30_000);
    let rows = folder.rows("out");
    // The counters of the summary are right too, though some rows were read twice.
    let counted = format!("rows in 30000, rows out {}, ", rows.values().sum::<usize>());
    assert!(run.stderr().contains(&counted), "no {counted:?} in {}", run.stderr());
}
