//! The plan, by table: what the resource says × what is there.

use weir_engine::pipeline::spec::{CheckpointPolicy, CompactionPolicy, RescalePolicy};

use super::*;

pub(crate) fn wanted(form: u64, replicas: u32) -> Wanted {
    let checkpoint = CheckpointPolicy {
        interval_ms: 1,
        timeout_ms: 1,
        min_pause_ms: 0,
        retained: 1,
        tolerable_failures: None,
    };
    let (rescale, compaction) = (RescalePolicy::default(), CompactionPolicy::default());
    Wanted {
        form,
        origin: 0,
        target: Target { replicas, slots: 1, checkpoint, rescale, compaction },
    }
}

fn wish(generation: i64) -> Wish {
    Wish { generation, restart: None }
}

fn live(form: u64) -> Runner {
    let shows = Ok(Box::new(Status::default()));
    Runner::Live(Live { wanted: wanted(form, 2), is_suspending: false, shows })
}

fn waiting(form: u64) -> Runner {
    let shows = Err("no answer".to_owned());
    Runner::Live(Live { wanted: wanted(form, 2), is_suspending: false, shows })
}

fn suspending() -> Runner {
    let shows = Ok(Box::new(Status::default()));
    Runner::Live(Live { wanted: wanted(1, 2), is_suspending: true, shows })
}

fn over(generation: i64, end: End) -> Runner {
    Runner::Over { wish: wish(generation), end }
}

fn why() -> String {
    "why".to_owned()
}

/// A healthy job; each case changes what it is about.
fn steady() -> Observed {
    Observed {
        wish: wish(1),
        asked: None,
        deletion: None,
        has_finalizer: false,
        policy: DeletionPolicy::Retain,
        suspend: false,
        wanted: Ok(wanted(1, 2)),
        pods: 2,
        has_pods: true,
        runner: live(1),
        fit: None,
        may_retry: false,
    }
}

const START: Action = Action::Start { suspend: false };

#[track_caller]
fn check(what: &str, seen: Observed, actions: &[Action]) {
    assert_eq!(plan(&seen), actions, "{what}: {seen:?}");
}

/// Each state of the coordinator × each thing that a resource can say.
#[test]
fn a_coordinator_follows_its_resource() {
    use Action::{CheckFit, DeletePods, Drop, Suspend};
    let lead = Action::Start { suspend: true };
    let failed = || over(1, End::Failed(why()));
    let refused = || over(1, End::Refused(why()));
    let finished = || over(1, End::Finished(why()));
    let suspended = || over(1, End::Suspended);
    let elsewhere = || over(1, End::Elsewhere(why()));
    let fenced = || over(1, End::Fenced(why()));
    type State<'a> = &'a dyn Fn() -> Runner;
    // As it is, suspended, wider, of another form, with a problem.
    let table: [(&str, State<'_>, [Vec<Action>; 5]); 10] = [
        (
            "none",
            &|| Runner::None,
            [vec![START], vec![lead.clone()], vec![START], vec![START], vec![]],
        ),
        ("live", &|| live(1), [vec![], vec![Suspend], vec![retarget()], vec![CheckFit], vec![]]),
        (
            "waiting",
            &|| waiting(1),
            [vec![], vec![Suspend], vec![retarget()], vec![Drop, START], vec![]],
        ),
        ("suspending", &suspending, [vec![], vec![], vec![], vec![], vec![]]),
        (
            "suspended",
            &suspended,
            [vec![START], vec![lead.clone()], vec![START], vec![START], vec![]],
        ),
        (
            "finished",
            &finished,
            [vec![DeletePods], vec![lead.clone()], vec![START], vec![START], vec![]],
        ),
        ("failed", &failed, [vec![], vec![lead.clone()], vec![START], vec![START], vec![]]),
        ("refused", &refused, [vec![], vec![lead.clone()], vec![START], vec![START], vec![]]),
        ("elsewhere", &elsewhere, [gone(), gone(), gone(), gone(), vec![]]),
        ("fenced", &fenced, [vec![], vec![lead], vec![START], vec![START], vec![]]),
    ];
    for (name, runner, [same, suspend, wider, other, problem]) in table {
        let seen = || Observed { runner: runner(), ..steady() };
        let newer = || Observed { wish: wish(2), ..seen() };
        check(name, seen(), &same);
        check(name, Observed { suspend: true, ..newer() }, &suspend);
        check(name, Observed { wanted: Ok(wanted(1, 5)), ..newer() }, &wider);
        check(name, Observed { wanted: Ok(wanted(2, 2)), ..newer() }, &other);
        check(name, Observed { wanted: Err(why()), ..newer() }, &problem);
        let idle = Observed { suspend: true, pods: 0, ..newer() };
        let is_live = matches!(idle.runner, Runner::Live(_));
        check(name, idle, if is_live { &suspend } else { &[] });
    }
}

/// Its workers end: they are nobody's.
fn gone() -> Vec<Action> {
    vec![Action::DeletePods]
}

fn retarget() -> Action {
    Action::Retarget(wanted(1, 5).target)
}

#[test]
fn what_failed_by_itself_is_tried_again_after_a_pause_and_what_gave_up_is_not() {
    for (end, actions) in [
        (End::Refused(why()), vec![START]),
        (End::Elsewhere(why()), vec![START]),
        (End::Fenced(why()), vec![START]),
        (End::Failed(why()), vec![]),
        (End::Finished(why()), vec![Action::DeletePods]),
    ] {
        let pods = if matches!(end, End::Elsewhere(_)) { 0 } else { steady().pods };
        let seen = Observed { runner: over(1, end), may_retry: true, pods, ..steady() };
        check("after the pause", seen, &actions);
    }
}

/// An operator that dies between the record and the last deletion leaves workers to the next one.
#[test]
fn workers_that_a_finished_job_still_has_are_ended() {
    let finished = || over(1, End::Finished(why()));
    check("left", Observed { runner: finished(), pods: 1, ..steady() }, &[Action::DeletePods]);
    check("they end", Observed { runner: finished(), pods: 0, ..steady() }, &[]);
}

#[test]
fn a_restart_by_annotation_begins_a_failed_job_again() {
    let again = Wish { generation: 1, restart: Some("now".to_owned()) };
    let runner = over(1, End::Failed(why()));
    check("restart", Observed { wish: again, runner, ..steady() }, &[START]);
}

#[test]
fn another_form_is_taken_over_if_it_fits_and_else_the_job_goes_on_as_it_was() {
    let other = || Observed { wanted: Ok(wanted(2, 2)), ..steady() };
    let fit = |form, found| Some(Fit { form, found });
    let fits = Observed { fit: fit(2, Ok(())), ..other() };
    check("fits", fits, &[Action::Drop, START]);
    let refused = Observed { fit: fit(2, Err(why())), ..other() };
    assert_eq!(refusal(&refused), Some("why"));
    check("looked at again", Observed { may_retry: true, ..refused.clone() }, &[Action::CheckFit]);
    check("does not fit", refused.clone(), &[]);
    let back = Observed { wanted: Ok(wanted(1, 2)), ..refused };
    assert_eq!(refusal(&back), None, "a commit alone cures it");
    check("back", back, &[]);
    let newer = Observed { wanted: Ok(wanted(3, 2)), fit: fit(2, Err(why())), ..steady() };
    assert_eq!(refusal(&newer), None);
    check("another one again", newer, &[Action::CheckFit]);
}

fn does_not_fit(wanted: &Wanted) -> bool {
    wanted.form == 3
}

/// Does the first thing that is planned, as the operator does it. Gives whether there was one.
fn step(seen: &mut Observed) -> bool {
    let is_over = matches!(&seen.runner, Runner::Live(live) if live.is_suspending);
    if is_over {
        seen.runner = Runner::Over { wish: seen.wish.clone(), end: End::Suspended };
        (seen.pods, seen.has_pods) = (0, false);
        return true;
    }
    let (planned, wanted) = (plan(seen), seen.wanted.clone());
    let Some(action) = planned.into_iter().next() else { return false };
    let live = |is_suspending| {
        let shows = Ok(Box::new(Status::default()));
        Runner::Live(Live { wanted: wanted.clone().unwrap(), is_suspending, shows })
    };
    match (action, &mut seen.runner) {
        // Nobody has looked whether it fits: it shows when the journal is read.
        (Action::Start { suspend: false }, _) if wanted.as_ref().is_ok_and(does_not_fit) => {
            seen.runner = over(seen.wish.generation, End::Refused(why()));
        }
        (Action::Start { suspend }, _) => {
            seen.runner = live(suspend);
            (seen.pods, seen.has_pods) = (2, true);
        }
        (Action::Drop, _) => seen.runner = Runner::None,
        (Action::Retarget(target), Runner::Live(live)) => live.wanted.target = target,
        (Action::Suspend, Runner::Live(live)) => live.is_suspending = true,
        (Action::CheckFit, _) => {
            let wanted = wanted.unwrap();
            let found = if does_not_fit(&wanted) { Err(why()) } else { Ok(()) };
            seen.fit = Some(Fit { form: wanted.form, found });
        }
        (Action::AddFinalizer, _) => seen.has_finalizer = true,
        (Action::RemoveFinalizer, _) => seen.has_finalizer = false,
        (action, runner) => panic!("{action:?} of {runner:?}"),
    }
    true
}

/// A→B→C is C, however far B got: what the resource said before leaves no trace.
#[test]
fn the_way_does_not_matter() {
    use DeletionPolicy::{Delete, Retain};
    let wishes = [
        (Ok(wanted(1, 2)), false, Retain),
        (Ok(wanted(1, 7)), false, Delete),
        (Ok(wanted(2, 2)), false, Retain),
        (Ok(wanted(3, 4)), false, Retain),
        (Ok(wanted(1, 2)), true, Delete),
        (Ok(wanted(2, 4)), true, Retain),
        (Err(why()), false, Retain),
    ];
    let say = |seen: &mut Observed, generation, wish: &(Result<Wanted, String>, bool, _)| {
        seen.wish = self::wish(generation);
        (seen.wanted, seen.suspend, seen.policy) = wish.clone();
    };
    let reached = |seen: &mut Observed| {
        let steps = (0..20).take_while(|_| step(seen)).count();
        assert!(steps < 20, "it never rests: {seen:?}");
        let runs = match &seen.runner {
            Runner::Live(live) => Some(live.wanted),
            Runner::None | Runner::Over { .. } => None,
        };
        (runs, seen.pods, seen.has_finalizer, refusal(seen).map(str::to_owned))
    };
    let mut ways = 0;
    for last in &wishes {
        let mut direct = steady();
        say(&mut direct, 3, last);
        let direct = reached(&mut direct);
        for between in wishes.iter().filter(|its| *its != last) {
            for steps in 0..4 {
                let mut seen = steady();
                say(&mut seen, 2, between);
                let done = (0..steps).take_while(|_| step(&mut seen)).count();
                say(&mut seen, 3, last);
                let way = reached(&mut seen);
                // What is refused leaves the job as it was, and that B made it.
                let is_kept = last.0.as_ref().map_or(true, does_not_fit);
                if is_kept && done > 0 {
                    assert_eq!((&way.2, &way.3), (&direct.2, &direct.3), "{between:?} {last:?}");
                } else {
                    assert_eq!(way, direct, "{done} steps towards {between:?}, then {last:?}");
                }
                ways += 1;
            }
        }
    }
    assert_eq!(ways, 7 * 6 * 4);
}

#[test]
fn a_finalizer_stands_exactly_where_state_goes_with_the_resource() {
    let delete = DeletionPolicy::Delete;
    check("wanted", Observed { policy: delete, ..steady() }, &[Action::AddFinalizer]);
    check("there", Observed { policy: delete, has_finalizer: true, ..steady() }, &[]);
    check("no more", Observed { has_finalizer: true, ..steady() }, &[Action::RemoveFinalizer]);
}

#[test]
fn a_deletion_ends_in_each_case() {
    use Action::{DeletePods, DeleteState, Drop, RemoveFinalizer};
    let deleting = |policy, is_clean, is_late| Observed {
        deletion: Some(Deletion { is_clean, is_late }),
        has_finalizer: policy == DeletionPolicy::Delete,
        policy,
        pods: 0,
        has_pods: false,
        runner: Runner::None,
        may_retry: true,
        ..steady()
    };
    let delete = |is_clean, is_late| deleting(DeletionPolicy::Delete, is_clean, is_late);
    check("retain", deleting(DeletionPolicy::Retain, false, false), &[]);
    let kept = Observed { has_finalizer: true, ..deleting(DeletionPolicy::Retain, false, false) };
    check("retain after all", kept, &[RemoveFinalizer]);
    let running = Observed { runner: live(1), pods: 2, has_pods: true, ..delete(false, false) };
    check("running", running, &[Drop, DeletePods]);
    check("workers end", Observed { has_pods: true, ..delete(false, false) }, &[]);
    check("workers gone", delete(false, false), &[DeleteState]);
    check("pause", Observed { may_retry: false, ..delete(false, false) }, &[]);
    check("state gone", delete(true, false), &[RemoveFinalizer]);
    let stuck = Observed { pods: 1, ..delete(false, true) };
    check("late", stuck, &[DeletePods, RemoveFinalizer]);
    let wrong = Observed { wanted: Err(why()), suspend: true, ..delete(false, false) };
    check("a wrong resource", wrong, &[DeleteState]);
}

/// Whose state a job begins from matters until it has begun.
#[test]
fn another_origin_is_taken_over_by_a_job_that_has_not_begun_and_by_no_other() {
    let elsewhere = || Ok(Wanted { origin: 7, ..wanted(1, 2) });
    check("it runs", Observed { wanted: elsewhere(), ..steady() }, &[]);
    let runner = waiting(1);
    let actions = [Action::Drop, Action::Start { suspend: false }];
    check("it has not begun", Observed { wanted: elsewhere(), runner, ..steady() }, &actions);
}
