//! Shards on a faulty object store, killed at any object call, under a seed.
//!
//! Method: one life after another, each a simulated process that opens the last completed checkpoint
//! and must find in it exactly what the model was at its barrier; then it writes, reads, and cuts
//! checkpoints, some of which are given up or never notified, until it is killed or has had enough.
//! Requests fail, their answers are lost, and puts land late, also after their writer's death.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir_runtime::sim::store::{Fault, FaultRates, Operation, Planned, SimStore, SimStoreSettings};
use weir_runtime::sim::{self, Process};
use weir_runtime::{clock, random};
use weir_state::StateError;
use weir_state::ids::Generation;

use crate::store_world::{Completed, KEYS, MAP_KEYS, World, Write, tiny};

const LIVES: u64 = 4;
const FAULTS: FaultRates = FaultRates {
    error_before: 20,
    lost_answer: 20,
    late: 20,
    exists_without_landing: 0,
    crash_before: 3,
    crash_after: 3,
};

/// What the journal would hold; outside of all processes.
type Journal = Arc<Mutex<Completed>>;

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    trace_hash: u64,
    crashes: u64,
    checkpoints: u64,
}

fn small(limit: u64) -> u8 {
    u8::try_from(random::below(limit)).unwrap()
}

fn draw_write() -> Write {
    let (key, value) = (small(u64::from(KEYS)), small(256));
    let time = i64::from(small(40)) - 5;
    match random::below(9) {
        0 | 1 => Write::Put(key, value),
        2 => Write::Delete(key),
        3 => Write::Append(key, value),
        4 => Write::MapPut(key, value % MAP_KEYS, value),
        5 => Write::MapDelete(key, value % MAP_KEYS),
        6 | 7 => Write::SetTimer(time, key),
        _ => Write::ClearTimer(time, key),
    }
}

/// A barrier and what comes of it.
async fn checkpoint(world: &mut World, journal: &Journal) -> Result<(), StateError> {
    let open = world.cut();
    // Processing goes on beside the uploads.
    for _ in 0..random::below(30) {
        world.write(&draw_write());
    }
    world.maintain()?;
    match random::below(6) {
        // Given up before the uploads ended.
        0 => drop(open),
        // Given up after all had acknowledged.
        1 => drop(world.acknowledge(open).await?),
        // Recorded, and the notification is lost.
        2 => *journal.lock().unwrap() = world.acknowledge(open).await?.completed,
        _ => {
            let acknowledged = world.acknowledge(open).await?;
            *journal.lock().unwrap() = acknowledged.completed.clone();
            world.complete(acknowledged);
        }
    }
    Ok(())
}

async fn live(sim: SimStore, journal: Journal, generation: Generation) -> Result<(), StateError> {
    let from = journal.lock().unwrap().clone();
    let cache_bytes = usize::try_from(random::below(3) * 2_000).unwrap();
    let width = u32::try_from(random::below(3) + 1).unwrap();
    let mut world = World::open(&sim, tiny(cache_bytes), generation, &from, width);
    world.check().await?;
    for _ in 0..random::below(50) {
        match random::below(12) {
            0..=5 => (0..random::below(60)).for_each(|_| world.write(&draw_write())),
            6 | 7 => checkpoint(&mut world, &journal).await?,
            8 => world.fire(random::below(40).cast_signed() - 5, 20).await?,
            9 => world.settle().await?,
            10 => world.check().await?,
            _ => {
                for shard in &mut world.shards {
                    shard.make_room().await?;
                }
            }
        }
    }
    world.check().await
}

/// One run: everything in it depends on the seed alone.
fn run(seed: u64, lives: u64, planned: Option<Planned>) -> Outcome {
    sim::run(seed, async {
        let most = Duration::from_millis(seed % 3 * 20);
        let sim = SimStore::new(SimStoreSettings::with_latency(seed, Duration::ZERO, most));
        match planned {
            Some(planned) => sim.plan(planned),
            None => sim.set_faults(FAULTS),
        }
        let journal = Journal::default();
        let (mut crashes, mut checkpoints) = (0, 0);
        for life in 1..=lives {
            let process = Process::new(format!("worker-{life}"), 0);
            let (store, own) = (sim.clone(), Arc::clone(&journal));
            let mut task = process.spawn(live(store, own, Generation(life)));
            let ended = clock::timeout(Duration::from_secs(3600), &mut task).await;
            match ended.expect("a life comes to its end or is killed") {
                Ok(result) => result.expect("faults that pass are retried"),
                Err(killed) => {
                    assert!(killed.is_cancelled(), "seed {seed}: {killed}");
                    crashes += 1;
                }
            }
            process.kill();
            checkpoints += u64::from(!journal.lock().unwrap().records.is_empty());
        }
        // Healed, and after all late puts.
        sim.set_faults(FaultRates::default());
        clock::sleep(FaultRates::LATE_MAX).await;
        let last = journal.lock().unwrap().clone();
        let mut world = World::open(&sim, tiny(0), Generation(lives + 1), &last, 1);
        world.check().await.expect("nothing that is referenced is missing");
        Outcome { trace_hash: sim.trace_hash(), crashes, checkpoints }
    })
}

/// Seeds to run: `SEED` alone, or as many as `SEEDS` says.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(200),
    }
}

#[test]
fn every_life_finds_the_last_completed_checkpoint() {
    let (mut crashes, mut checkpoints) = (0, 0);
    for seed in seeds() {
        // Tells which one it was when a check inside fails.
        let outcome = std::panic::catch_unwind(|| run(seed, LIVES, None));
        let outcome = outcome.unwrap_or_else(|_| panic!("SEED={seed} repeats this failure"));
        crashes += outcome.crashes;
        checkpoints += outcome.checkpoints;
    }
    if seeds().count() >= 100 {
        let lives = seeds().count() as u64 * LIVES;
        assert!(crashes > lives / 5, "only {crashes} of {lives} lives were killed");
        assert!(checkpoints > lives / 2, "only {checkpoints} of {lives} lives left a checkpoint");
    }
}

#[test]
fn a_seed_repeats_a_run_exactly() {
    for seed in [3, 4, 5] {
        assert_eq!(run(seed, LIVES, None), run(seed, LIVES, None));
    }
    assert_ne!(run(3, 1, None).trace_hash, run(4, 1, None).trace_hash);
}

/// A process is killed before and after each object call that it makes, one run for each.
#[test]
fn a_crash_at_any_object_call_loses_nothing() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        for (seeds, operation) in [(7..8, None), (9..13, Some(Operation::Put))] {
            let plan = |nth| Planned { operation, ..Planned::nth_call(nth, fault) };
            let calls_of = |seed| {
                let crashes = |nth: &u64| run(seed, 2, Some(plan(*nth))).crashes == 1;
                (1..=100).take_while(crashes).count()
            };
            let calls: usize = seeds.map(calls_of).sum();
            assert!(calls >= 20, "only {calls} calls of {operation:?}");
        }
    }
}
