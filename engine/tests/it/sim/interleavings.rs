//! Interleavings that must not be left to chance: each at many moments of a quiet job.
//!
//! docs/design/0008-simulation.md lists where the others are.

use std::time::Duration;

use weir_runtime::sim::store::{Fault, Operation, Planned};

use super::draw::{Blow, Scenario};
use super::life::Reached;
use super::run;

/// Runs the quiet job and the one with a table with `change`, for moments over all their life.
fn at_many_moments(change: impl Fn(&mut Scenario, Duration)) -> Reached {
    let mut reached = Reached::default();
    let mut wrong = Vec::new();
    for job in [Scenario::quiet, Scenario::quiet_table] {
        for moment in 0..16 {
            let mut scenario = job();
            scenario.seed = 100 + moment;
            change(&mut scenario, Duration::from_millis(50 * moment));
            match run(&scenario) {
                Ok(lived) => reached.add(&lived.reached),
                Err(what) => wrong.push(format!("{:?}: {what}", scenario.blows)),
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    reached
}

fn must_have(reached: &Reached, what: &str, times: u64) {
    let found = reached.0.get(what).copied().unwrap_or(0);
    assert!(found >= times, "{what}: {found} times, not {times}");
}

/// Two workers are parted, so the open checkpoint is given up; then the coordinator dies, or one of
/// the workers.
#[test]
fn an_abort_and_then_a_crash_change_no_output() {
    let orphans_live = Duration::from_secs(2);
    for crash in [Blow::Coordinator { orphans_live }, Blow::Worker(1)] {
        let reached = at_many_moments(|scenario, moment| {
            scenario.spec.checkpoint.timeout_ms = 200;
            let lasts = Duration::from_secs(3);
            let part = Blow::Apart { workers: 0, breaks: false, lasts };
            let while_aborted = Duration::from_millis(600);
            scenario.blows = vec![(moment, part), (while_aborted, crash)];
        });
        must_have(&reached, "checkpoint given up", 20);
    }
}

/// The second takes over the workers of the first, which does not know it.
#[test]
fn two_coordinators_in_one_generation_change_no_output() {
    let reached = at_many_moments(|scenario, moment| {
        scenario.keeps_workers = true;
        scenario.blows = vec![(moment, Blow::Second)];
    });
    must_have(&reached, "coordinator made stale", 32);
}

/// All that the job wrote is deleted under its feet, and it begins anew while its first workers go
/// on, or its first coordinator too; or it begins with `--fresh` while that goes on.
#[test]
fn a_job_deleted_and_made_again_with_its_processes_alive_is_not_harmed() {
    for again in [Blow::Deleted, Blow::DeletedBeneath, Blow::Fresh] {
        let reached = at_many_moments(|scenario, moment| scenario.blows = vec![(moment, again)]);
        must_have(&reached, "job made again", 32);
    }
}

/// The first split is opened seconds after the others were read: nothing of them may be late then,
/// and no window closes before its rows have come.
#[test]
fn a_split_that_is_opened_late_changes_no_output() {
    let reached = at_many_moments(|scenario, moment| {
        *scenario = Scenario::quiet_windows_of_files();
        scenario.seed = 200 + u64::try_from(moment.as_millis()).expect("small");
        let tries = 1 + u64::try_from(moment.as_millis()).expect("small") / 100;
        let fails = |nth| Planned::nth_of(Operation::Get, nth, Fault::ErrorBefore).at("in/00");
        scenario.planned = (1..=tries).map(fails).collect();
    });
    must_have(&reached, "error before", 32);
}

/// A checkpoint is asked for, and then the coordinator or a worker dies. Without other checkpoints
/// before the end every wish is answered all the same, and none twice.
#[test]
fn a_checkpoint_that_was_asked_for_is_taken_whatever_dies() {
    let orphans_live = Duration::from_secs(2);
    for (crash, keeps_workers) in [
        (Blow::Coordinator { orphans_live }, false),
        (Blow::Coordinator { orphans_live }, true),
        (Blow::Worker(1), false),
    ] {
        let reached = at_many_moments(|scenario, moment| {
            scenario.keeps_workers = keeps_workers;
            scenario.spec.checkpoint.interval_ms = 600_000;
            scenario.blows = vec![
                (Duration::from_millis(300), Blow::Ask),
                (moment / 4, crash),
                (Duration::from_millis(100), Blow::Ask),
            ];
        });
        must_have(&reached, "wish answered", 32);
    }
}
