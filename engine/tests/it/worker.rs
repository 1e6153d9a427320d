//! Workers in simulation, commanded by a script instead of a coordinator.
//!
//! A job of windows by key is run by two workers over a simulated network and object store,
//! checkpointed, restored at other widths, and its committed output compared with what a plain loop
//! over the rows gives.

mod alone;
mod data;
mod functions;
mod moving;
mod rig;
mod windows;

use std::time::Duration;

use weir_engine::pipeline::spec::JobSpec;
use weir_engine::protocol::to_coordinator::Body;
use weir_runtime::sim::store::{SimStore, SimStoreSettings};
use weir_runtime::{clock, sim};

use self::data::{Event, STACKED_MS, expected, expected_over, stacked_job, windows_job};
use self::rig::{Checkpoint, Driver, Rig};

const LATENCY: Duration = Duration::from_millis(15);

fn slow_store(seed: u64) -> SimStore {
    SimStore::new(SimStoreSettings::with_latency(seed, LATENCY, LATENCY))
}

/// Events over ten minutes, out of order within 5 s.
fn events(count: i64, keys: i64) -> Vec<Event> {
    let jitter = |n: i64| (n * 7_919) % 5_000;
    let time = |n: i64| n * 600_000 / count - jitter(n);
    (0..count).map(|n| Event { key: (n * n) % keys, time_ms: time(n), value: n % 97 }).collect()
}

#[test]
fn two_workers_give_what_a_loop_over_the_rows_gives() {
    sim::run(1, async {
        let events = events(4_000, 50);
        let rig = Rig::new(slow_store(1), &events, 2).await;
        let mut driver = Driver::deploy(&rig, windows_job(2, 1, None), None).await;
        let last = driver.finish().await;
        driver.commit(&last).await;
        assert_eq!(rig.output(), expected(&events));
    });
}

#[test]
fn channels_that_peers_open_before_a_worker_is_deployed_are_served_once_it_is() {
    sim::run(16, async {
        let events = events(300, 5);
        let rig = Rig::new(slow_store(16), &events, 3).await;
        let mut driver = Driver::connect(&rig, windows_job(3, 1, None), 1).await;
        driver.stagger = Duration::from_secs(2);
        driver.redeploy(None).await;
        driver.stagger = Duration::ZERO;
        let last = driver.finish().await;
        driver.commit(&last).await;
        assert_eq!(rig.output(), expected(&events));
    });
}

#[test]
fn more_subtasks_than_splits_and_keys_change_nothing() {
    sim::run(2, async {
        let events = events(500, 3);
        let rig = Rig::new(slow_store(2), &events, 2).await;
        let mut driver = Driver::deploy(&rig, windows_job(2, 9, None), None).await;
        let last = driver.finish().await;
        driver.commit(&last).await;
        assert_eq!(rig.output(), expected(&events));
    });
}

#[test]
fn windows_over_windows_behind_a_union() {
    sim::run(15, async {
        let events = events(4_000, 40);
        let store = slow_store(15);
        let rig = Rig::new(store.clone(), &events, 2).await;
        let mut driver = Driver::deploy(&rig, stacked_job(2, 2, Some(2_000)), None).await;
        clock::sleep(Duration::from_millis(900)).await;
        let checkpoint = driver.checkpoint().await;
        driver.commit(&checkpoint).await;
        rig.kill();
        let rig = Rig::with(store, 3).await;
        let job = stacked_job(3, 1, None);
        let mut driver = Driver::deploy(&rig, job, Some(checkpoint)).await;
        let last = driver.finish().await;
        driver.commit(&last).await;
        assert_eq!(rig.output(), expected_over(&events, STACKED_MS));
    });
}

/// Runs to some checkpoints at one width, forgets everything after the last of them, and goes on at
/// another width on other workers.
fn restored_at_another_width(seed: u64, before: (usize, u32), after: (usize, u32)) {
    sim::run(seed, async move {
        let events = events(4_000, 40);
        let store = slow_store(seed);
        let rig = Rig::new(store.clone(), &events, before.0).await;
        let mut driver =
            Driver::deploy(&rig, windows_job(before.0, before.1, Some(2_000)), None).await;
        clock::sleep(Duration::from_millis(300)).await;
        let first = driver.checkpoint().await;
        driver.commit(&first).await;
        clock::sleep(Duration::from_millis(300)).await;
        let second = driver.checkpoint().await;
        // Rows after it are processed and lost with the workers.
        clock::sleep(Duration::from_millis(200)).await;
        rig.kill();
        assert!(!rig.output().is_empty() || seed == 0, "a checkpoint was committed");

        let rig = Rig::with(store, after.0).await;
        let job = windows_job(after.0, after.1, None);
        let mut driver = Driver::deploy(&rig, job, Some(second.clone())).await;
        driver.commit(&second).await;
        let last = driver.finish().await;
        driver.commit(&last).await;
        assert_eq!(rig.output(), expected(&events));
    });
}

#[test]
fn restore_at_the_same_width() {
    restored_at_another_width(3, (2, 2), (2, 2));
}

#[test]
fn restore_at_a_greater_width() {
    restored_at_another_width(4, (2, 1), (3, 2));
}

#[test]
fn restore_at_a_smaller_width() {
    restored_at_another_width(5, (3, 2), (1, 1));
}

#[test]
fn an_aborted_checkpoint_loses_and_doubles_nothing() {
    sim::run(6, async {
        let events = events(4_000, 40);
        let rig = Rig::new(slow_store(6), &events, 2).await;
        let mut driver = Driver::deploy(&rig, windows_job(2, 2, Some(2_000)), None).await;
        clock::sleep(Duration::from_millis(200)).await;
        for pause_ms in [0, 1, 7, 30, 200] {
            driver.trigger().await;
            clock::sleep(Duration::from_millis(pause_ms)).await;
            driver.abort().await;
        }
        let good = driver.checkpoint().await;
        driver.commit(&good).await;
        let last = driver.finish().await;
        driver.commit(&last).await;
        driver.commit(&last).await;
        assert_eq!(rig.output(), expected(&events));
    });
}

#[test]
fn checkpoints_complete_while_a_source_is_throttled_and_when_it_has_ended() {
    sim::run(7, async {
        let events = events(200, 5);
        let rig = Rig::new(slow_store(7), &events, 2).await;
        let mut driver = Driver::deploy(&rig, windows_job(2, 1, Some(20)), None).await;
        let started = clock::now();
        driver.checkpoint().await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        driver.until_input_done().await;
        for _ in 0..3 {
            let checkpoint = driver.checkpoint().await;
            driver.commit(&checkpoint).await;
        }
        assert_eq!(rig.output(), expected(&events));
    });
}

/// Each key's row after a restore needs a value from the store, which takes 15 ms; not all fit into the
/// cache. One at a time they would take 15 ms each; more than 100 in flight means less than a
/// hundredth of that, reading the input and writing the windows included.
#[test]
fn more_than_a_hundred_accesses_are_in_flight() {
    sim::run(8, async {
        const KEYS: i64 = 10_000;
        let event = |n: i64| Event { key: n % KEYS, time_ms: n / KEYS, value: 1 };
        let events: Vec<Event> = (0..2 * KEYS).map(event).collect();
        let store = slow_store(8);
        let rig = Rig::new(store.clone(), &events, 1).await;
        let rate = KEYS.unsigned_abs();
        let mut driver = Driver::deploy(&rig, windows_job(1, 1, Some(rate)), None).await;
        let cut = driver.checkpoint_when_read(rate).await;
        rig.kill();

        let rig = Rig::with(store, 1).await;
        let started = clock::now();
        let cold = JobSpec { state_memory_bytes: 1 << 20, ..windows_job(1, 1, None) };
        let mut driver = Driver::deploy(&rig, cold, Some(cut.clone())).await;
        driver.until_input_done().await;
        let took = started.elapsed();
        let last = driver.checkpoint().await;
        driver.commit(&cut).await;
        driver.commit(&last).await;
        assert_eq!(rig.output(), expected(&events));
        let read = driver.counters("events", |step| step.rows_out);
        let accesses = u32::try_from(read).unwrap();
        assert!(accesses > 8_000, "{accesses} rows after the checkpoint");
        assert!(took < accesses * LATENCY / 100, "{accesses} accesses took {took:?}");
    });
}

#[test]
fn a_worker_obeys_neither_an_older_term_nor_an_older_generation() {
    sim::run(9, async {
        let events = events(300, 5);
        let rig = Rig::new(slow_store(9), &events, 1).await;
        let mut old = Driver::deploy(&rig, windows_job(1, 1, Some(100)), None).await;
        let mut new = Driver::connect(&rig, windows_job(1, 1, Some(100)), 2).await;
        assert_eq!(new.replies(), [(1, String::new())], "it goes on with generation 1");
        old.trigger().await;
        assert!(old.is_ended().await, "its stream was ended");
        let late = Driver::connect(&rig, windows_job(1, 1, Some(100)), 1).await;
        assert_eq!(late.replies(), [(0, "term 1 was superseded by term 2".to_owned())]);
        new.generation = 2;
        new.redeploy(None).await;
        new.generation = 1;
        new.stop_only().await;
        assert_eq!(
            new.answers(Duration::from_secs(1), is_stopped).await,
            0,
            "generation 1 is over"
        );
        new.generation = 2;
        new.stop_only().await;
        assert_eq!(new.answers(Duration::from_secs(1), is_stopped).await, 1);
    });
}

fn is_stopped(body: &Body) -> bool {
    matches!(body, Body::Stopped(_))
}

#[test]
fn a_worker_goes_on_without_a_coordinator_and_tells_the_next_one() {
    sim::run(10, async {
        let events = events(300, 5);
        let rig = Rig::new(slow_store(10), &events, 2).await;
        let driver = Driver::deploy(&rig, windows_job(2, 1, None), None).await;
        drop(driver);
        clock::sleep(Duration::from_secs(60)).await;
        let mut next = Driver::connect(&rig, windows_job(2, 1, None), 2).await;
        next.generation = 1;
        next.until_input_done().await;
        let last = next.checkpoint().await;
        next.commit(&last).await;
        assert_eq!(rig.output(), expected(&events));
    });
}

#[test]
fn a_bad_row_fails_the_job_by_name_and_once() {
    sim::run(11, async {
        let mut events = events(300, 5);
        events[123].value = i64::MIN;
        let rig = Rig::new(slow_store(11), &events, 2).await;
        let mut driver = Driver::deploy(&rig, windows_job(2, 1, None), None).await;
        let failed = driver.until_failed().await;
        assert!(failed.fatal);
        for part in ["flown", "events", "in.parquet", "row 124"] {
            assert!(failed.message.contains(part), "{part} is not in: {}", failed.message);
        }
        let again = |body: &Body| matches!(body, Body::Failed(_));
        assert_eq!(driver.answers(Duration::from_secs(4), again).await, 0);
        // Its peer lost its channels. That is the coordinator's to see; only if it does not, it is
        // told after `failover.timeout`.
        let told = driver.until_failed().await;
        assert!(!told.fatal, "{}", told.message);
        assert!(told.message.contains("broke before the end"), "{}", told.message);
    });
}

#[test]
fn late_rows_are_dropped_and_counted() {
    sim::run(12, async {
        let mut events = events(1_000, 5);
        // Far behind the watermark: its window closed long ago.
        let late = Event { key: 1, time_ms: -3_600_000, value: 1 };
        events.push(late);
        let rig = Rig::new(slow_store(12), &events, 2).await;
        let mut driver = Driver::deploy(&rig, windows_job(2, 1, None), None).await;
        let last = driver.finish().await;
        driver.commit(&last).await;
        events.pop();
        assert_eq!(rig.output(), expected(&events));
        driver.answers(Duration::from_secs(1), |_| true).await;
        let late: u64 = driver.counters("windows", |step| step.late_rows);
        assert_eq!(late, 1);
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        sim::run(seed, async move {
            let events = events(1_000, 30);
            let store = slow_store(seed);
            let rig = Rig::new(store.clone(), &events, 2).await;
            let mut driver = Driver::deploy(&rig, windows_job(2, 2, Some(5_000)), None).await;
            clock::sleep(Duration::from_millis(50)).await;
            let checkpoint: Checkpoint = driver.checkpoint().await;
            driver.commit(&checkpoint).await;
            let last = driver.finish().await;
            driver.commit(&last).await;
            store.trace_hash()
        })
    };
    assert_eq!(run(13), run(13));
    assert_ne!(run(13), run(14));
}
