//! Whole jobs in one process under a seed: coordinator, workers, exchange, journal and store, with
//! simulated time and faults, driven by the same `plan` as real ones.
//!
//! Method: draw a job and its faults from the seed, run it to its end whatever dies on the way, and
//! compare the committed output with a model that is obviously right. Then look at what lies in
//! the store: nothing that is named is missing, nothing that is not named stays.
//!
//! - `sim/adoption.rs` — coordinators that die while their workers go on.
//! - `sim/changes.rs` — folds a committed changelog.
//! - `sim/cluster.rs` — simulated worker processes as a `Cluster`.
//! - `sim/coordinator.rs` — one coordinator process with its workers and compactors.
//! - `sim/crash.rs` — one crash before and after each object call and each send of a short job.
//! - `sim/draw.rs` — a job and its faults from a seed.
//! - `sim/interleavings.rs` — what must not be left to chance, at many moments of a short job.
//! - `sim/job.rs` — what a job reads, computes and writes.
//! - `sim/late.rs` — results of which rows may be missing, since they were late.
//! - `sim/life.rs` — runs a job until it is finished: starts, kills, stale coordinators.
//! - `sim/log.rs` — what one sees of a run that is repeated.
//! - `sim/model.rs` — what must come out, computed in the obvious way.
//! - `sim/snapshots.rs` — snapshots, and jobs that begin from them.
//! - `sim/verdict.rs` — what must be true at the end.

mod adoption;
mod changes;
mod cluster;
mod coordinator;
mod crash;
mod draw;
mod interleavings;
mod job;
mod late;
mod life;
pub(crate) mod log;
mod model;
mod snapshots;
mod verdict;

use draw::Scenario;
use life::{Lived, Reached};

/// Seeds of `make test`; `SEEDS=n` (`make sim`) runs that many, `SEED=n` that one.
pub(crate) const SEEDS: u64 = 200;

/// What must happen at least once in [`SEEDS`] seeds; otherwise they show nothing.
const MUST_HAPPEN: [&str; 69] = [
    "call broken",
    "checkpoint",
    "checkpoint given up",
    "compacted elsewhere",
    "compacted here after all",
    "compaction given up",
    "compactor cut off",
    "compactor killed",
    "coordinator crashed",
    "coordinator killed",
    "coordinator killed at the end",
    "coordinator killed in a rescale",
    "coordinator made stale",
    "crash after",
    "crash after a send",
    "crash before",
    "crash before a send",
    "dial refused",
    "error before",
    "exists without landing",
    "filter behind a changelog",
    "generation adopted",
    "groups over a changelog",
    "groups over windows",
    "hop",
    "late",
    "late row dropped",
    "lateness",
    "life begun anew",
    "lost answer",
    "message lost",
    "message repeated",
    "message stalled",
    "new worker killed in a rescale",
    "no window",
    "other target in a rescale",
    "reads generate.keys",
    "reads generate.sequence",
    "reads ndjson",
    "relaxed order",
    "rescale cancelled",
    "rescaled in",
    "rescaled out",
    "rescaled over a slow store",
    "rescaled to the same width",
    "rescaled with a failover",
    "result revised",
    "result taken back",
    "rows into a table",
    "session",
    "stale worker woken",
    "strict order",
    "state in files",
    "state in memory",
    "table",
    "table snapshot given up",
    "table snapshot replaced",
    "ttl",
    "tumble",
    "two workers parted",
    "union",
    "union of changelogs",
    "window onClose",
    "window onUpdate",
    "windows over windows",
    "worker killed",
    "worker killed in a rescale",
    "worker left in order",
    "workers taken over",
];

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

/// Runs one seed; `Err` says what was wrong.
pub(crate) fn run_seed(seed: u64) -> Result<Lived, String> {
    run(&Scenario::draw(seed))
}

fn run(scenario: &Scenario) -> Result<Lived, String> {
    let _shown = scenario.is_shown.then(|| {
        log::line(&format!("{scenario:#?}"));
        log::show()
    });
    weir_runtime::sim::run(scenario.seed, async move {
        let mut lived = life::live(scenario).await?;
        for line in lived.store.trace() {
            log::line(&line);
        }
        for kind in scenario.kinds() {
            lived.reached.count(kind, 1);
        }
        verdict::check(scenario, &mut lived).await?;
        Ok(lived)
    })
}

#[test]
fn whole_jobs_come_out_right_under_every_seed() {
    let mut reached = Reached::default();
    let mut wrong = Vec::new();
    for seed in seeds() {
        let mut scenario = Scenario::draw(seed);
        scenario.is_shown = std::env::var_os("SEED").is_some();
        match run(&scenario) {
            Ok(lived) => reached.add(&lived.reached),
            Err(what) => {
                println!("SEED={seed}: {what}");
                wrong.push(format!("SEED={seed}: {what}"));
            }
        }
    }
    println!("{:#?}", reached.0);
    assert!(wrong.is_empty(), "{} seeds failed:\n{}", wrong.len(), wrong.join("\n"));
    if seeds().len() as u64 >= SEEDS {
        for what in MUST_HAPPEN {
            assert!(reached.0.get(what).is_some_and(|times| *times > 0), "{what} never happened");
        }
    }
}

/// An idle job makes no request: over nine seconds only ten rows make checkpoints worth taking.
#[test]
fn between_two_rows_a_job_makes_no_request() {
    let mut busy = Scenario::nearly_idle();
    busy.spec.checkpoint.interval_ms = 1_000;
    let calls = run(&busy).expect("the job is right").calls;
    let lived = run(&Scenario::nearly_idle()).expect("the job is right");
    println!("{} calls, {calls} with a fiftieth of the checkpoints", lived.calls);
    assert!(lived.calls < 3 * calls, "{} calls, not {calls}", lived.calls);
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_another() {
    let traces = |seed| run_seed(seed).map(|lived| lived.trace_hash);
    for seed in 0..12 {
        assert_eq!(traces(seed), traces(seed), "seed {seed}");
        assert_ne!(traces(seed), traces(seed + 1), "seeds {seed} and {}", seed + 1);
    }
}
