//! Phases and conditions, by table, with what kstatus makes of them.

use weir_crds::DeletionPolicy;
use weir_engine::coordinator::status::{Compaction, Failover};
use weir_state::ids::{CheckpointId, Generation};

use super::super::plan::tests::wanted;
use super::super::plan::{Deletion, Fit, Live, Wish};
use super::*;

fn live(phase: Course) -> Runner {
    let status = Status {
        phase,
        workers_wanted: 2,
        workers_ready: 2,
        checkpoint: CheckpointId(7),
        ..Status::default()
    };
    Runner::Live(Live { wanted: wanted(1, 2), is_suspending: false, shows: Ok(Box::new(status)) })
}

fn observed(runner: Runner) -> Observed {
    Observed {
        wish: Wish { generation: 4, restart: None },
        asked: None,
        deletion: None,
        has_finalizer: false,
        policy: DeletionPolicy::Retain,
        suspend: false,
        wanted: Ok(wanted(1, 2)),
        pods: 2,
        has_pods: true,
        runner,
        fit: None,
        may_retry: false,
    }
}

#[test]
fn a_failover_keeps_the_time_at_which_it_was_first_seen_also_for_the_next_operator() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let shown = |failover, before: &StatefulJobStatus, now| {
        let mut runner = live(Course::Running);
        if let Runner::Live(Live { shows: Ok(status), .. }) = &mut runner {
            status.last_failover = failover;
        }
        status(&observed(runner), &more(), before, now)
    };
    let failover = |generation, recovery_ms| {
        Some(Failover { generation: Generation(generation), recovery_ms })
    };
    let told = |status: &StatefulJobStatus| {
        let last = status.last_failover.clone().unwrap();
        (last.generation, last.recovery_ms, last.time.unwrap().0)
    };
    let first = shown(failover(3, 800), &StatefulJobStatus::default(), at(10));
    assert_eq!(told(&first), (3, 800, at(10)));
    let same = shown(failover(3, 800), &first, at(20));
    assert_eq!(told(&same), (3, 800, at(10)));
    assert_eq!(told(&shown(None, &same, at(25))), (3, 800, at(10)));
    assert_eq!(told(&shown(failover(5, 900), &same, at(30))), (5, 900, at(30)));
}

#[test]
fn who_compacts_is_a_condition_of_its_own() {
    let shown = |compaction: Option<Compaction>| {
        let mut runner = live(Course::Running);
        if let Runner::Live(Live { shows: Ok(status), .. }) = &mut runner {
            status.compaction = compaction;
        }
        let before = StatefulJobStatus::default();
        let status = status(&observed(runner), &more(), &before, Timestamp::UNIX_EPOCH);
        let is_ready =
            status.conditions.iter().any(|its| its.type_ == "Ready" && its.status == "True");
        assert!(is_ready, "a job without compactors is as ready as another");
        let its =
            status.conditions.into_iter().find(|its| its.type_ == "CompactionHealthy").unwrap();
        (its.status, its.reason, its.message)
    };
    let told = |is: &str, reason: &str, message: &str| {
        (is.to_owned(), reason.to_owned(), message.to_owned())
    };
    assert_eq!(shown(None), told("True", "Local", ""));
    let healthy = Compaction { wanted: 2, ready: 2, ..Compaction::default() };
    assert_eq!(shown(Some(healthy.clone())), told("True", "Remote", "2 compactors are ready"));
    let behind = Compaction { problem: "all are busy".to_owned(), ..healthy.clone() };
    let message = "the workers compact themselves: all are busy";
    assert_eq!(shown(Some(behind.clone())), told("False", "WorkersCompact", message));
    let none = Compaction { ready: 0, ..behind };
    assert_eq!(shown(Some(none)), told("False", "NoCompactors", message));
}

fn over(end: End) -> Observed {
    observed(Runner::Over { wish: Wish::default(), end })
}

fn more() -> Seen {
    Seen { job: "j".to_owned(), has_checkpoint: true, ..Seen::default() }
}

/// What kstatus says of a resource with these conditions, as `status.Compute` does it.
fn kstatus(status: &StatefulJobStatus, is_deleting: bool) -> &'static str {
    let is = |type_: &str| {
        status.conditions.iter().any(|its| its.type_ == type_ && its.status == "True")
    };
    match () {
        () if is_deleting => "Terminating",
        () if is("Reconciling") => "InProgress",
        () if is("Stalled") => "Failed",
        () if is("Ready") => "Current",
        () => "InProgress",
    }
}

fn why() -> String {
    "why".to_owned()
}

#[test]
fn each_place_has_its_phase_its_conditions_and_its_kstatus() {
    let suspended = Observed { suspend: true, pods: 0, ..observed(Runner::None) };
    let refused = Observed {
        wanted: Ok(wanted(2, 2)),
        fit: Some(Fit { form: 2, found: Err(why()) }),
        ..observed(live(Course::Running))
    };
    let deletion = Some(Deletion { is_clean: false, is_late: false });
    let deleting = Observed { deletion, ..observed(live(Course::Running)) };
    let wrong = Observed { wanted: Err(why()), ..observed(Runner::None) };
    let outdated = Seen { outdated: 1, ..more() };
    let young = Seen { has_checkpoint: false, ..more() };
    let stuck = Seen { trouble: Some(why()), ..outdated.clone() };
    let late = Seen { is_late: true, ..outdated.clone() };
    use Phase::*;
    let table = [
        (observed(Runner::None), more(), Pending, "Beginning", "InProgress"),
        (observed(live(Course::Starting)), more(), Starting, "Starting", "InProgress"),
        (observed(live(Course::Running)), young, Running, "WaitingForCheckpoint", "InProgress"),
        (observed(live(Course::Running)), more(), Running, "Running", "Current"),
        (observed(live(Course::Running)), outdated, Rescaling, "WaitingForWorkers", "InProgress"),
        (
            observed(live(Course::Running)),
            stuck.clone(),
            Rescaling,
            "PodsNotStarting",
            "InProgress",
        ),
        (observed(live(Course::Starting)), stuck, Starting, "PodsNotStarting", "InProgress"),
        (observed(live(Course::Running)), late, Rescaling, "DeadlineExceeded", "Failed"),
        (observed(live(Course::Rescaling)), more(), Rescaling, "Rescaling", "InProgress"),
        (observed(live(Course::Recovering)), more(), Recovering, "Recovering", "InProgress"),
        (observed(live(Course::Suspending)), more(), Suspending, "Suspending", "InProgress"),
        (suspended, more(), Suspended, "Suspended", "Current"),
        (over(End::Finished(why())), more(), Finished, "Finished", "Current"),
        (over(End::Failed(why())), more(), Failed, "Failed", "Failed"),
        (over(End::Refused(why())), more(), Pending, "SpecRefused", "Failed"),
        (over(End::Elsewhere(why())), more(), Pending, "StateOwnedElsewhere", "Failed"),
        (over(End::Fenced(why())), more(), Recovering, "Fenced", "InProgress"),
        (refused, more(), Running, "SpecRefused", "Failed"),
        (wrong, more(), Pending, "SpecRefused", "Failed"),
        (deleting, more(), Deleting, "Deleting", "Terminating"),
    ];
    for (seen, more, phase, reason, said) in table {
        let now = Timestamp::from_second(100).unwrap();
        let shown = status(&seen, &more, &StatefulJobStatus::default(), now);
        assert_eq!(shown.phase, Some(phase), "{seen:?}");
        assert_eq!(shown.observed_generation, 4);
        assert_eq!(kstatus(&shown, seen.deletion.is_some()), said, "{phase:?}: {shown:?}");
        gitops::assert_listed(&shown, said);
        let ready = &shown.conditions[0];
        assert_eq!((ready.type_.as_str(), ready.reason.as_str()), ("Ready", reason), "{seen:?}");
        assert_eq!(ready.status == "True", said == "Current", "{seen:?}");
        let again = status(&seen, &more, &shown, Timestamp::from_second(200).unwrap());
        assert_eq!(again, shown, "nothing new is nothing to write");
    }
}

#[test]
fn what_was_ready_stays_so_while_it_recovers_for_as_long_as_it_may() {
    let brief = Seen { is_reached: true, is_recovering_briefly: true, ..more() };
    let long = Seen { is_recovering_briefly: false, ..brief.clone() };
    let fewer = |seen: &Seen| Seen { outdated: 1, has_checkpoint: false, ..seen.clone() };
    let stuck = Seen { trouble: Some(why()), ..fewer(&long) };
    let recovering = [
        (Course::Recovering, brief.clone(), "Recovering", "Current"),
        (Course::Recovering, long.clone(), "Recovering", "InProgress"),
        (Course::Adopting, brief.clone(), "Adopting", "Current"),
        (Course::Starting, brief.clone(), "Starting", "Current"),
        // Back to the width that it had, from fewer workers.
        (Course::Running, fewer(&brief), "WaitingForWorkers", "Current"),
        (Course::Rescaling, fewer(&brief), "Rescaling", "Current"),
        (Course::Running, fewer(&long), "WaitingForWorkers", "InProgress"),
        (Course::Running, stuck, "PodsNotStarting", "InProgress"),
    ];
    for (course, more, reason, said) in recovering {
        let now = Timestamp::from_second(100).unwrap();
        let seen = observed(live(course));
        let shown = status(&seen, &more, &StatefulJobStatus::default(), now);
        assert!(is_recovering(&seen, &more));
        assert_eq!(
            (shown.phase, kstatus(&shown, false)),
            (Some(Phase::Recovering), said),
            "{seen:?}"
        );
        assert_eq!(shown.conditions[0].reason, reason, "{seen:?}");
        assert_eq!(is_ready(&shown), said == "Current");
        assert!(shown.conditions[1].status == "False", "nobody asked for it: {shown:?}");
    }
    let young = Seen { has_checkpoint: false, ..brief };
    let seen = observed(live(Course::Running));
    let now = Timestamp::from_second(100).unwrap();
    let shown = status(&seen, &young, &StatefulJobStatus::default(), now);
    assert_eq!((shown.phase, is_ready(&shown)), (Some(Phase::Running), true), "no change waits");
}

#[test]
fn a_checkpoint_that_makes_no_progress_shows_and_the_job_stays_ready() {
    let mut seen = observed(live(Course::Running));
    if let Runner::Live(Live { shows: Ok(status), .. }) = &mut seen.runner {
        status.checkpoint_waits = true;
    }
    let now = Timestamp::from_second(100).unwrap();
    let shown = status(&seen, &more(), &StatefulJobStatus::default(), now);
    let health = shown.conditions.iter().find(|its| its.type_ == "CheckpointsHealthy").unwrap();
    assert_eq!((health.status.as_str(), health.reason.as_str()), ("False", "NoProgress"));
    assert!(is_ready(&shown));
}

#[test]
fn numbers_can_wait_and_transitions_cannot() {
    let now = Timestamp::from_second(100).unwrap();
    let running = || observed(live(Course::Running));
    let before = status(&running(), &more(), &StatefulJobStatus::default(), now);
    let newer = Seen { checkpoint_seen: Some((9, now)), ..more() };
    let moved = status(&running(), &newer, &before, now);
    assert_ne!(moved, before);
    assert!(!is_transition(&before, &moved));
    let lost = status(&observed(live(Course::Recovering)), &more(), &before, now);
    assert!(is_transition(&before, &lost));
    let starting = |message: &str| {
        let mut seen = observed(live(Course::Starting));
        if let Runner::Live(Live { shows: Ok(status), .. }) = &mut seen.runner {
            message.clone_into(&mut status.message);
        }
        status(&seen, &more(), &StatefulJobStatus::default(), now)
    };
    let refused = starting("cannot start worker 0: no quota (1)");
    assert!(is_transition(&starting(""), &refused), "why it does not start is told at once");
    assert!(!is_transition(&refused, &starting("cannot start worker 0: no quota (2)")));
}

#[test]
fn a_restart_is_acknowledged_when_all_workers_are_new() {
    let now = Timestamp::from_second(100).unwrap();
    let mut seen = observed(live(Course::Running));
    seen.wish.restart = Some("monday".to_owned());
    let outdated = Seen { outdated: 1, ..more() };
    let before = status(&seen, &outdated, &StatefulJobStatus::default(), now);
    assert_eq!(before.acknowledged, None);
    let done = status(&seen, &more(), &before, now);
    assert_eq!(done.acknowledged.unwrap().restart.as_deref(), Some("monday"));
}

#[test]
fn a_checkpoint_that_was_asked_for_is_acknowledged_when_it_is_complete_or_the_job_stands_still() {
    let now = Timestamp::from_second(100).unwrap();
    let asked = Some("monday".to_owned());
    let acknowledged = |seen: &Observed| {
        let shown = status(seen, &more(), &StatefulJobStatus::default(), now);
        shown.acknowledged.and_then(|its| its.checkpoint)
    };
    let answering = |answered| {
        let shown = Status { phase: Course::Running, answered, ..Status::default() };
        let shows = Ok(Box::new(shown));
        Runner::Live(Live { wanted: wanted(1, 2), is_suspending: false, shows })
    };
    let asking = |runner| Observed { asked: asked.clone(), ..observed(runner) };
    let number = asked_number(asked.as_ref());
    assert_eq!(acknowledged(&asking(answering(0))), None);
    assert_eq!(acknowledged(&asking(answering(number ^ 1))), None, "another wish");
    assert_eq!(acknowledged(&asking(answering(number))), asked);
    assert_eq!(acknowledged(&observed(answering(0))), None, "nobody asked");
    assert_eq!(acknowledged(&asking(Runner::None)), None, "it has not begun");
    assert_eq!(acknowledged(&Observed { suspend: true, ..asking(Runner::None) }), asked);
    let over = |end| asking(Runner::Over { wish: Wish::default(), end });
    assert_eq!(acknowledged(&over(End::Finished(why()))), asked);
    assert_eq!(acknowledged(&over(End::Failed(why()))), None, "the message says why");
    let before = status(&observed(answering(0)), &more(), &StatefulJobStatus::default(), now);
    let after = status(&asking(answering(number)), &more(), &before, now);
    assert!(is_transition(&before, &after), "it is written at once");
}
