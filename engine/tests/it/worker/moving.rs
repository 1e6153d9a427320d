//! The cut of a rescale: sources pause behind its barrier, and the move from it writes nothing.

use std::time::Duration;

use weir_engine::protocol::to_coordinator::Body;
use weir_runtime::{clock, sim};

use super::data::{expected, windows_job};
use super::rig::{Driver, Rig};
use super::{events, slow_store};

/// Longer than progress takes to be told.
const A_WHILE: Duration = Duration::from_secs(2);
/// A source that hears nothing after the cut reads on then.
const PAUSE_MAX: Duration = Duration::from_secs(60);

async fn read_for_a_while(driver: &mut Driver, time: Duration) -> u64 {
    driver.answers(time, |_| false).await;
    driver.counters("events", |step| step.rows_out)
}

#[test]
fn sources_pause_at_a_cut_until_it_is_given_up_and_at_last_by_themselves() {
    sim::run(21, async {
        let events = events(4_000, 40);
        let rig = Rig::new(slow_store(21), &events, 2).await;
        let mut driver = Driver::deploy(&rig, windows_job(2, 1, Some(20)), None).await;
        clock::sleep(A_WHILE).await;
        driver.cut().await;
        let paused = read_for_a_while(&mut driver, A_WHILE).await;
        assert_eq!(read_for_a_while(&mut driver, A_WHILE * 5).await, paused);
        driver.abort().await;
        let read = read_for_a_while(&mut driver, A_WHILE).await;
        assert!(read > paused, "{read} rows after {paused}");

        driver.cut().await;
        let paused = read_for_a_while(&mut driver, A_WHILE).await;
        assert_eq!(read_for_a_while(&mut driver, PAUSE_MAX - A_WHILE * 2).await, paused);
        let read = read_for_a_while(&mut driver, A_WHILE * 3).await;
        assert!(read > paused, "nobody said anything: {read} rows after {paused}");
        let last = driver.finish().await;
        driver.commit(&last).await;
        assert_eq!(rig.output(), expected(&events));
    });
}

#[test]
fn a_move_from_the_cut_to_another_width_writes_no_table_file() {
    sim::run(22, async {
        let events = events(4_000, 40);
        let store = slow_store(22);
        let rig = Rig::new(store.clone(), &events, 2).await;
        let mut driver = Driver::deploy(&rig, windows_job(2, 1, Some(1_000)), None).await;
        clock::sleep(A_WHILE).await;
        let mut widths = [3, 1, 2].into_iter();
        for slots in widths.by_ref() {
            let flushed = driver.checkpoint().await;
            driver.commit(&flushed).await;
            let cut = driver.cut().await;
            driver.commit(&cut).await;
            let before = store.names();
            driver.generation += 1;
            driver.set_slots(slots);
            driver.redeploy(Some(cut)).await;
            let state = |names: Vec<(String, u64)>| -> Vec<String> {
                let names = names.into_iter().map(|(name, _)| name);
                names.filter(|name| name.starts_with("state/")).collect()
            };
            assert!(!state(before.clone()).is_empty());
            assert_eq!(state(store.names()), state(before), "to {slots} slots");
            driver
                .answers(Duration::from_millis(300), |body| matches!(body, Body::Failed(_)))
                .await;
        }
        let last = driver.finish().await;
        driver.commit(&last).await;
        assert_eq!(rig.output(), expected(&events));
    });
}
