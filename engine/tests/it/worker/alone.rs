//! Workers whose coordinator is gone, and the next one.

use std::time::Duration;

use weir_runtime::{clock, sim};

use super::data::{expected, windows_job};
use super::rig::{Driver, Rig};
use super::{events, slow_store};

/// Five rows a second for twenty minutes: after ten of them the sources stand.
#[test]
fn workers_alone_read_on_for_ten_minutes_and_then_wait_for_a_coordinator() {
    sim::run(41, async {
        let events = events(6_000, 20);
        let rig = Rig::new(slow_store(41), &events, 2).await;
        drop(Driver::deploy(&rig, windows_job(2, 1, Some(5)), None).await);
        clock::sleep(Duration::from_secs(300)).await;
        let halfway = rig.rows_read("events");
        assert!((1_400..1_600).contains(&halfway), "{halfway} rows after five minutes alone");
        clock::sleep(Duration::from_secs(3_600)).await;
        let held = rig.rows_read("events");
        assert!((2_900..3_100).contains(&held), "{held} rows after an hour alone");
        let mut next = Driver::connect(&rig, windows_job(2, 1, Some(5)), 2).await;
        assert_eq!(next.replies(), [(1, String::new()), (1, String::new())], "they run on");
        let last = next.finish().await;
        next.commit(&last).await;
        assert_eq!(rig.output(), expected(&events));
    });
}
