//! `kill -9` of a random process at a random moment: the committed output is right each time,
//! nothing is left running, and nothing lies about that the journal does not name.

use std::process::Child;
use std::time::Duration;

use crate::flights::{Random, manifest, original};
use crate::leftovers::assert_folders_are_as_the_journal_says;
use crate::support::{Bench, assert_same_bag, children, expected, kill, rows, text};

const RUNS: u64 = 30;
/// Slows the source, so that a run lasts long enough to be hit.
const ROWS_PER_SECOND: u32 = 200_000;
const MOMENT_MS_MAX: u64 = 2_200;
/// A job is run again at most this often; then it is stuck.
const STARTS_MAX: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Worker,
    Run,
}

/// What the kills hit, over all runs: a test in which none hit would show nothing.
#[derive(Debug, Default)]
struct Hits {
    workers: u32,
    runs: u32,
}

fn start(bench: &Bench) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(bench.path("stderr.log"))
        .expect("the log");
    bench.weir(&["run", "flights.yaml"]).stderr(log).spawn().expect("weir starts")
}

/// One job, killed once or twice, run again until it has finished.
fn one(seed: u64, hits: &mut Hits) {
    let bench = Bench::new();
    let mut random = Random(seed);
    bench.write("flights.yaml", &manifest(2, 1, &original(), Some(ROWS_PER_SECOND)));
    let mut kills = 1 + random.below(2);
    let mut starts = 1;
    let mut child = start(&bench);
    loop {
        let mut victim_was_run = false;
        while kills > 0 && !victim_was_run {
            std::thread::sleep(Duration::from_millis(random.below(MOMENT_MS_MAX)));
            kills -= 1;
            let victim = if random.below(2) == 0 { Victim::Worker } else { Victim::Run };
            victim_was_run = strike(&mut child, victim, &mut random, hits);
        }
        let status = child.wait().expect("weir ends");
        if status.success() && !victim_was_run {
            break;
        }
        let log = std::fs::read_to_string(bench.path("stderr.log")).unwrap_or_default();
        assert!(victim_was_run, "seed {seed}: {status}: {log}");
        assert!(starts < STARTS_MAX, "seed {seed}: not finished after {starts} starts: {log}");
        starts += 1;
        child = start(&bench);
    }
    assert_same_bag(&rows(&bench.path("out/delays")), &expected("flights.delays.ndjson"));
    bench.assert_nothing_runs();
    assert_folders_are_as_the_journal_says(&bench, "flights", "out/delays");
}

/// Kills the victim if it is there; whether `weir run` itself was hit.
fn strike(child: &mut Child, victim: Victim, random: &mut Random, hits: &mut Hits) -> bool {
    if child.try_wait().expect("weir is ours").is_some() {
        return false;
    }
    match victim {
        Victim::Run => {
            kill(child.id());
            hits.runs += 1;
            true
        }
        Victim::Worker => {
            let workers = children(child.id());
            if !workers.is_empty() {
                let at = random.below(workers.len() as u64);
                kill(workers[usize::try_from(at).expect("small")]);
                hits.workers += 1;
            }
            false
        }
    }
}

#[test]
fn output_is_right_after_kill_9_of_any_process_at_any_moment() {
    let runs = std::env::var("WEIR_KILL_RUNS").ok().and_then(|runs| runs.parse().ok());
    let mut hits = Hits::default();
    for seed in 0..runs.unwrap_or(RUNS) {
        one(seed, &mut hits);
    }
    assert!(hits.workers >= 8 && hits.runs >= 8, "the kills hit too little: {hits:?}");
}

#[test]
fn a_finished_job_run_again_says_so_and_changes_nothing() {
    let bench = Bench::new();
    bench.write("flights.yaml", &manifest(2, 1, &original(), None));
    assert!(bench.finish(&["run", "flights.yaml"]).status.success());
    let before = rows(&bench.path("out/delays"));
    let again = bench.finish(&["run", "flights.yaml"]);
    assert!(again.status.success());
    assert!(text(&again.stderr).contains("finished"), "{}", text(&again.stderr));
    assert_eq!(rows(&bench.path("out/delays")), before);
}
