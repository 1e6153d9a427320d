//! Whole jobs in one process under a seed: coordinator, workers, exchange, journal and store, with
//! simulated time and faults, driven by the same `plan` as real ones.
//!
//! Method: draw a job and its faults from the seed, run it to its end whatever dies on the way, and
//! compare the committed output with a model that is obviously right. Then look at what lies in
//! the store: nothing that is named is missing, nothing that is not named stays.
//!
//! - `sim/cluster.rs` — simulated worker processes as a `Cluster`.
//! - `sim/draw.rs` — a job and its faults from a seed, and what must come out.
//! - `sim/life.rs` — runs a job until it is finished: starts, kills, stale coordinators.
//! - `sim/verdict.rs` — what must be true at the end.

mod cluster;
mod draw;
mod life;
mod log;
mod verdict;

use draw::Scenario;
use life::Lived;

/// Seeds of `make test`; `make sim SEEDS=n` runs more, `SEED=n` one.
const SEEDS: u64 = 200;

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

/// Runs one seed; `Err` says what was wrong.
pub(crate) fn run_seed(seed: u64) -> Result<Lived, String> {
    let scenario = Scenario::draw(seed);
    let _shown = std::env::var_os("SEED").map(|_| {
        log::line(&format!("{scenario:#?}"));
        log::show()
    });
    weir_runtime::sim::run(seed, async move {
        let lived = life::live(&scenario).await?;
        for line in lived.store.trace() {
            log::line(&line);
        }
        verdict::check(&scenario, &lived).await?;
        Ok(lived)
    })
}

#[test]
fn whole_jobs_come_out_right_under_every_seed() {
    let mut reached = life::Reached::default();
    let mut wrong = Vec::new();
    for seed in seeds() {
        match run_seed(seed) {
            Ok(lived) => reached.add(&lived.reached),
            Err(what) => {
                println!("SEED={seed}: {what}");
                wrong.push(format!("SEED={seed}: {what}"));
            }
        }
    }
    println!("reached: {reached:?}");
    assert!(wrong.is_empty(), "{} seeds failed:\n{}", wrong.len(), wrong.join("\n"));
    if seeds().len() >= 100 {
        assert!(reached.worker_kills > 20, "few workers died: {reached:?}");
        assert!(reached.coordinator_kills > 20, "few coordinators died: {reached:?}");
        assert!(reached.stale_coordinators > 5, "few coordinators were stale: {reached:?}");
        assert!(reached.cut_offs > 5, "few workers were cut off: {reached:?}");
        assert!(reached.checkpoints > 300, "few checkpoints: {reached:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_another() {
    let traces = |seed| run_seed(seed).map(|lived| lived.trace_hash);
    for seed in [3, 11] {
        assert_eq!(traces(seed), traces(seed), "seed {seed}");
    }
    assert_ne!(traces(3), traces(11));
}
