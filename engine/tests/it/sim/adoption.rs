//! Workers outlive their coordinator, and the next one goes on with what runs: at many moments of a
//! quiet job, and with a crash at each object call and each send.

use std::time::Duration;

use weir_engine::network::sim::Crash;
use weir_runtime::sim::planted::{Planted, plant};
use weir_runtime::sim::store::{Fault, Planned};

use super::draw::{Blow, Scenario};
use super::life::{Lived, Reached};
use super::run;

const KILL: Blow = Blow::Coordinator { orphans_live: Duration::ZERO };

fn kept(job: fn() -> Scenario) -> Scenario {
    Scenario { keeps_workers: true, ..job() }
}

/// Runs each scenario; gives what they met, and hands each to `look`.
fn all(
    scenarios: impl Iterator<Item = Scenario>,
    look: impl Fn(&Lived) -> Result<(), String>,
) -> Reached {
    let mut reached = Reached::default();
    let mut wrong = Vec::new();
    for scenario in scenarios {
        match run(&scenario).and_then(|lived| look(&lived).map(|()| lived)) {
            Ok(lived) => reached.add(&lived.reached),
            Err(what) => wrong.push(format!(
                "seed {} {:?} {:?} {:?}: {what}",
                scenario.seed, scenario.blows, scenario.planned, scenario.crash_at
            )),
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    reached
}

fn must_have(reached: &Reached, what: &str, times: u64) {
    let found = reached.0.get(what).copied().unwrap_or(0);
    assert!(found >= times, "{what}: {found} times, not {times}");
}

/// 32 moments of each quiet job.
fn moments(blows: impl Fn(Duration) -> Vec<(Duration, Blow)>) -> impl Iterator<Item = Scenario> {
    [Scenario::quiet as fn() -> Scenario, Scenario::quiet_table].into_iter().flat_map(move |job| {
        let blows: Vec<_> = (0..32).map(|n| blows(Duration::from_millis(25 * n))).collect();
        (300..).zip(blows).map(move |(seed, blows)| Scenario { seed, blows, ..kept(job) })
    })
}

/// Wherever somebody went on with a generation it is still the first.
fn nothing_was_stopped(lived: &Lived) -> Result<(), String> {
    match lived.reached.0.get("generation adopted") {
        // 0: the last one found the job finished.
        Some(_) if lived.generation > 1 => Err(format!("generation {}", lived.generation)),
        _ => Ok(()),
    }
}

/// Whoever comes goes on in the same generation: nothing is stopped, nothing is read again.
#[test]
fn a_coordinator_killed_at_any_moment_is_followed_by_one_that_stops_nothing() {
    let reached = all(moments(|moment| vec![(moment, KILL)]), nothing_was_stopped);
    // The others had not begun, or were over.
    must_have(&reached, "generation adopted", 40);
}

#[test]
fn coordinators_killed_one_after_the_other_change_no_output() {
    let again = |moment| vec![(moment, KILL), (Duration::from_millis(15), KILL), (moment, KILL)];
    let reached = all(moments(again), |_| Ok(()));
    must_have(&reached, "generation adopted", 60);
}

/// The first one is not killed: it wakes up, finds its streams closed and its number taken, and ends
/// without having stopped a worker.
#[test]
fn a_coordinator_that_wakes_up_behind_the_next_one_harms_nothing() {
    let reached = all(moments(two_more), nothing_was_stopped);
    must_have(&reached, "coordinator made stale", 60);
    must_have(&reached, "generation adopted", 60);
}

#[test]
fn one_that_acts_without_asking_whether_it_still_reigns_is_found() {
    let _planted = plant(Planted::ReignUnasked);
    let is_found = |scenario| run(&scenario).and_then(|lived| nothing_was_stopped(&lived)).is_err();
    assert!(moments(two_more).any(is_found), "it harms nothing");
}

fn two_more(moment: Duration) -> Vec<(Duration, Blow)> {
    vec![(moment, Blow::Second), (Duration::from_millis(100), Blow::Second)]
}

/// A worker dies while nobody is there to see it, or just when the next one asks.
#[test]
fn a_worker_that_dies_with_its_coordinator_is_replaced() {
    let both = |moment| vec![(moment, KILL), (Duration::ZERO, Blow::Worker(1))];
    all(moments(both), |_| Ok(()));
    let before = |moment| vec![(moment, Blow::Worker(0)), (Duration::ZERO, KILL)];
    all(moments(before), |_| Ok(()));
}

/// At every write, and at every answer to one.
#[test]
fn a_crash_at_any_object_call_is_followed_by_one_that_goes_on() {
    let calls = run(&kept(Scenario::quiet)).expect("the quiet job is right").calls;
    assert!(calls > 50, "only {calls} object calls");
    let mut reached = Reached::default();
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        let crash = |nth| Scenario {
            planned: vec![Planned::nth_call(nth, fault)],
            ..kept(Scenario::quiet)
        };
        reached.add(&all((1..=calls).map(crash), |_| Ok(())));
    }
    must_have(&reached, "generation adopted", 20);
}

#[test]
fn a_crash_at_any_send_is_followed_by_one_that_goes_on() {
    let sends = run(&kept(Scenario::quiet)).expect("the quiet job is right").sends;
    assert!(sends > 150, "only {sends} sends");
    let mut reached = Reached::default();
    for crash in [Crash::BeforeSend, Crash::AfterSend] {
        let at = |nth| Scenario { crash_at: Some((nth, crash)), ..kept(Scenario::quiet) };
        reached.add(&all((1..=sends).map(at), |_| Ok(())));
    }
    must_have(&reached, "generation adopted", 20);
}
