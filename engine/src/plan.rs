//! Decides which worker processes a job needs next, and when a new generation begins.
//!
//! [`plan`] is the whole policy: plain values in, plain values out. No clock, no random numbers,
//! no I/O, no logging. What can't be done yet is a [`Waiting`] reason, shown to the user.
//! `run_job` observes, plans and acts in a loop; every cluster obeys the same plan.

use std::collections::BTreeSet;
use std::fmt;

use crate::cluster::{Exit, Member, WorkerState, WorkerView};

/// What the job wants, as its coordinator sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobView {
    /// Worker processes wanted.
    pub replicas: u32,
    /// Subtasks of each stage wanted on each of them.
    pub slots: u32,
    /// Whether the job runs, pauses or is over.
    pub wish: Wish,
    /// The generation that runs or is being deployed.
    pub deployed: Option<Crew>,
    /// The one that is to follow it, as far as that has been begun.
    pub next: Option<Crew>,
    /// Workers that suffice while the others are being replaced: once a generation has run.
    pub enough: u32,
    /// Incarnations that do not answer any more, whatever their process looks like.
    pub lost: BTreeSet<String>,
    /// Incarnations that were asked to end: they work until a generation without them has begun.
    pub leaving: BTreeSet<String>,
}

/// Who runs a generation, and how wide it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crew {
    /// Incarnations of its workers, by ordinal.
    pub workers: Vec<String>,
    /// Subtasks of each stage.
    pub width: u32,
}

/// Whether workers are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Workers, and a generation on them.
    #[default]
    Run,
    /// Workers, but no new generation yet: the pause after an error.
    Hold,
    /// No workers: finished, failed, suspended, or fenced where nobody else can use them.
    End,
    /// Fenced: the workers are another coordinator's now.
    Leave,
}

/// One act upon the cluster, or (`Deploy`) upon the coordinator. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a worker.
    Start {
        /// Whose place it takes.
        ordinal: u32,
    },
    /// End a worker.
    Stop {
        /// Whose.
        ordinal: u32,
    },
    /// Drop a dead worker.
    Forget {
        /// Whose.
        ordinal: u32,
        /// How it ended, for the restart budget.
        exit: Exit,
    },
    /// Move to a new generation on these workers, in order of their ordinals: at once when none
    /// runs, else with a cut.
    Deploy {
        /// All workers of the generation.
        workers: Vec<Member>,
        /// Subtasks of each stage.
        width: u32,
    },
}

/// Why nothing (more) is being done right now. Shown to the user word for word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Workers have not announced themselves.
    Starting {
        /// Those that have.
        ready: u32,
        /// Those that must.
        wanted: u32,
    },
    /// The pause after an error has not passed.
    Pause,
    /// Workers have not ended.
    Ending {
        /// How many.
        left: u32,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting { ready, wanted } => {
                write!(f, "waiting for workers: {ready} of {wanted} are ready")
            }
            Self::Pause => f.write_str("waiting before the next start"),
            Self::Ending { left } => write!(f, "waiting for {left} workers to end"),
        }
    }
}

/// What to do now, and why not more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be done in this order.
    pub actions: Vec<Action>,
    /// What the job waits for.
    pub waiting: Option<Waiting>,
}

/// What to do so that there are so many compactors: any process is as good as another.
pub fn plan_pool(wanted: u32, seen: &[WorkerView]) -> Vec<Action> {
    let usable = |worker: &&WorkerView| !is_dead(worker) && !worker.outdated;
    let kept: Vec<u32> =
        seen.iter().filter(usable).take(wanted as usize).map(|worker| worker.ordinal).collect();
    let is_kept = |worker: &WorkerView| kept.contains(&worker.ordinal) && !is_dead(worker);
    let mut actions: Vec<Action> = seen.iter().filter(|one| !is_kept(one)).map(end).collect();
    let is_taken = |ordinal: &u32| seen.iter().any(|one| one.ordinal == *ordinal && !is_dead(one));
    let missing = (wanted as usize).saturating_sub(kept.len());
    let free = (0..).filter(|ordinal| !is_taken(ordinal));
    actions.extend(free.take(missing).map(|ordinal| Action::Start { ordinal }));
    actions
}

/// The whole policy of worker processes and generations.
pub fn plan(job: &JobView, seen: &[WorkerView]) -> Plan {
    match job.wish {
        Wish::End => plan_end(seen),
        Wish::Leave => Plan::default(),
        Wish::Run | Wish::Hold => plan_run(job, seen),
    }
}

fn plan_end(seen: &[WorkerView]) -> Plan {
    let actions: Vec<Action> = seen.iter().map(end).collect();
    let left = count(seen.iter().filter(|worker| !is_dead(worker)));
    Plan { actions, waiting: (left > 0).then_some(Waiting::Ending { left }) }
}

fn end(worker: &WorkerView) -> Action {
    match &worker.state {
        WorkerState::Dead(exit) => Action::Forget { ordinal: worker.ordinal, exit: exit.clone() },
        WorkerState::Starting | WorkerState::Ready(_) => Action::Stop { ordinal: worker.ordinal },
    }
}

fn plan_run(job: &JobView, seen: &[WorkerView]) -> Plan {
    let wanted = wanted(job, seen);
    // Those that the next generation does not need work until it has begun.
    let is_kept = |worker: &WorkerView| wanted.contains(&worker.ordinal) || is_working(job, worker);
    // A dead worker is replaced in the same breath; a lost one only once its process has ended; for
    // one that leaves the other comes first.
    let mut actions: Vec<Action> = seen
        .iter()
        .filter(|worker| !is_kept(worker) || matches!(worker.state, WorkerState::Dead(_)))
        .map(end)
        .collect();
    let lost = seen.iter().filter(|worker| is_in(&job.lost, worker)).count();
    let missing = (job.replicas as usize).saturating_sub(wanted.len() + lost);
    let is_taken =
        |ordinal: &u32| seen.iter().any(|worker| worker.ordinal == *ordinal && !is_dead(worker));
    let free = (0..).filter(|ordinal| !is_taken(ordinal));
    actions.extend(free.take(missing).map(|ordinal| Action::Start { ordinal }));

    let ready = members(seen.iter().filter(|worker| wanted.contains(&worker.ordinal)));
    let count = count(ready.iter());
    let mut waiting = None;
    if count < job.replicas {
        waiting = Some(Waiting::Starting { ready: count, wanted: job.replicas });
        if count < job.enough.max(1) || !is_short(job) {
            return Plan { actions, waiting };
        }
    }
    let width = count.saturating_mul(job.slots);
    let is = |crew: &Option<Crew>| crew.as_ref().is_some_and(|crew| is_same(crew, &ready, width));
    if is(&job.next) || (job.next.is_none() && is(&job.deployed)) {
        return Plan { actions, waiting };
    }
    if job.wish == Wish::Hold {
        return Plan { actions, waiting: Some(Waiting::Pause) };
    }
    actions.push(Action::Deploy { workers: ready, width });
    Plan { actions, waiting }
}

/// The workers, by ordinal, on which the job is wanted to run: those that work before those that are
/// ready before those that start, and of each the first.
fn wanted(job: &JobView, seen: &[WorkerView]) -> BTreeSet<u32> {
    let is_usable = |worker: &&WorkerView| {
        !is_dead(worker)
            && !worker.outdated
            && !is_in(&job.lost, worker)
            && !is_in(&job.leaving, worker)
    };
    let is_ready = |worker: &WorkerView| matches!(worker.state, WorkerState::Ready(_));
    let mut usable: Vec<&WorkerView> = seen.iter().filter(is_usable).collect();
    usable.sort_by_key(|worker| (!is_working(job, worker), !is_ready(worker), worker.ordinal));
    usable.iter().take(job.replicas as usize).map(|worker| worker.ordinal).collect()
}

/// Whether the job has to go on without those workers that are missing: it does not run, or on
/// one that leaves.
fn is_short(job: &JobView) -> bool {
    let leaves = |crew: &Crew| crew.workers.iter().any(|worker| job.leaving.contains(worker));
    job.deployed.as_ref().is_none_or(leaves)
}

/// Those that can be dialled.
pub(crate) fn members<'a>(workers: impl Iterator<Item = &'a WorkerView>) -> Vec<Member> {
    let member = |worker: &WorkerView| match &worker.state {
        WorkerState::Ready(member) => Some(member.clone()),
        WorkerState::Starting | WorkerState::Dead(_) => None,
    };
    workers.filter_map(member).collect()
}

/// Whether the present generation runs on this worker.
fn is_working(job: &JobView, worker: &WorkerView) -> bool {
    let (WorkerState::Ready(member), Some(deployed)) = (&worker.state, &job.deployed) else {
        return false;
    };
    deployed.workers.contains(&member.incarnation) && !is_in(&job.lost, worker)
}

fn is_dead(worker: &WorkerView) -> bool {
    matches!(worker.state, WorkerState::Dead(_))
}

fn is_in(incarnations: &BTreeSet<String>, worker: &WorkerView) -> bool {
    match &worker.state {
        WorkerState::Ready(member) => incarnations.contains(&member.incarnation),
        WorkerState::Starting | WorkerState::Dead(_) => false,
    }
}

fn is_same(crew: &Crew, ready: &[Member], width: u32) -> bool {
    crew.width == width && crew.workers.iter().eq(ready.iter().map(|member| &member.incarnation))
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Member {
        Member { incarnation: name.to_owned(), address: format!("{name}:1") }
    }

    fn ready(ordinal: u32, name: &str) -> WorkerView {
        WorkerView { ordinal, state: WorkerState::Ready(member(name)), outdated: false }
    }

    fn crew(workers: &[&str], width: u32) -> Crew {
        Crew { workers: workers.iter().map(|name| (*name).to_owned()).collect(), width }
    }

    fn deploy(workers: &[&str], width: u32) -> Action {
        Action::Deploy { workers: workers.iter().map(|name| member(name)).collect(), width }
    }

    fn dead(ordinal: u32) -> WorkerView {
        WorkerView {
            ordinal,
            state: WorkerState::Dead(Exit::Lost("killed".to_owned())),
            outdated: false,
        }
    }

    fn forget(ordinal: u32) -> Action {
        Action::Forget { ordinal, exit: Exit::Lost("killed".to_owned()) }
    }

    /// A healthy job on two workers; each test changes the one thing it is about.
    fn steady() -> JobView {
        JobView {
            replicas: 2,
            slots: 1,
            enough: 1,
            deployed: Some(crew(&["a", "b"], 2)),
            ..JobView::default()
        }
    }

    #[test]
    fn a_steady_job_is_left_alone() {
        assert_eq!(plan(&steady(), &[ready(0, "a"), ready(1, "b")]), Plan::default());
    }

    #[test]
    fn a_new_job_starts_all_its_workers() {
        let job = JobView { deployed: None, enough: 2, ..steady() };
        let planned = plan(&job, &[]);
        assert_eq!(planned.actions, [Action::Start { ordinal: 0 }, Action::Start { ordinal: 1 }]);
        assert_eq!(planned.waiting, Some(Waiting::Starting { ready: 0, wanted: 2 }));
    }

    #[test]
    fn nothing_is_deployed_before_all_workers_are_ready() {
        let job = JobView { deployed: None, enough: 2, ..steady() };
        let starting = WorkerView { ordinal: 1, state: WorkerState::Starting, outdated: false };
        let planned = plan(&job, &[ready(0, "a"), starting]);
        assert_eq!(planned.actions, []);
        assert_eq!(planned.waiting, Some(Waiting::Starting { ready: 1, wanted: 2 }));
    }

    #[test]
    fn a_generation_begins_once_all_workers_are_ready() {
        let job = JobView { deployed: None, enough: 2, ..steady() };
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b")]);
        assert_eq!(planned.actions, [deploy(&["a", "b"], 2)]);
        assert_eq!(planned.waiting, None);
    }

    #[test]
    fn a_dead_worker_is_forgotten_and_replaced_at_once() {
        let planned = plan(&steady(), &[ready(0, "a"), dead(1)]);
        assert_eq!(planned.actions, [forget(1), Action::Start { ordinal: 1 }]);
    }

    #[test]
    fn a_replaced_worker_makes_a_new_generation() {
        let planned = plan(&steady(), &[ready(0, "a"), ready(1, "c")]);
        assert_eq!(planned.actions, [deploy(&["a", "c"], 2)]);
    }

    #[test]
    fn a_lost_worker_is_stopped_and_its_place_stays_taken_until_it_is_dead() {
        let job = JobView { lost: BTreeSet::from(["b".to_owned()]), ..steady() };
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b")]);
        assert_eq!(planned.actions, [Action::Stop { ordinal: 1 }]);
        assert_eq!(planned.waiting, Some(Waiting::Starting { ready: 1, wanted: 2 }));
    }

    #[test]
    fn the_job_goes_on_at_once_on_enough_of_those_that_live() {
        let job = JobView { replicas: 3, slots: 2, deployed: None, ..steady() };
        let job = JobView { enough: 2, ..job };
        let planned = plan(&job, &[ready(0, "a"), dead(1), ready(2, "c")]);
        assert_eq!(
            planned.actions,
            [forget(1), Action::Start { ordinal: 1 }, deploy(&["a", "c"], 4)]
        );
        let planned = plan(&job, &[ready(0, "a"), dead(1), dead(2)]);
        let starts = [Action::Start { ordinal: 1 }, Action::Start { ordinal: 2 }];
        assert_eq!(planned.actions[2..], starts, "one of three is too few");
        assert_eq!(planned.waiting, Some(Waiting::Starting { ready: 1, wanted: 3 }));
    }

    #[test]
    fn a_job_on_those_that_live_waits_for_all_others_and_then_takes_its_whole_width() {
        let job = JobView { replicas: 3, deployed: Some(crew(&["a"], 1)), ..steady() };
        let starting = WorkerView { ordinal: 2, state: WorkerState::Starting, outdated: false };
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b"), starting]);
        assert_eq!(planned.actions, []);
        assert_eq!(planned.waiting, Some(Waiting::Starting { ready: 2, wanted: 3 }));
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b"), ready(2, "c")]);
        assert_eq!(planned, Plan { actions: vec![deploy(&["a", "b", "c"], 3)], waiting: None });
    }

    #[test]
    fn one_that_leaves_works_until_the_others_have_its_work() {
        let job = JobView { leaving: BTreeSet::from(["b".to_owned()]), ..steady() };
        let seen = [ready(0, "a"), ready(1, "b")];
        let start = Action::Start { ordinal: 2 };
        assert_eq!(plan(&job, &seen).actions, [start.clone(), deploy(&["a"], 1)]);
        let job = JobView { next: Some(crew(&["a"], 1)), ..job };
        assert_eq!(plan(&job, &seen).actions, [start]);
        let job = JobView { deployed: Some(crew(&["a"], 1)), next: None, ..job };
        let starting = WorkerView { ordinal: 2, state: WorkerState::Starting, outdated: false };
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b"), starting]);
        assert_eq!(planned.actions, [Action::Stop { ordinal: 1 }]);
    }

    #[test]
    fn the_last_one_that_leaves_stays_until_another_is_there() {
        let one = JobView { replicas: 1, deployed: Some(crew(&["a"], 1)), ..steady() };
        let job = JobView { leaving: BTreeSet::from(["a".to_owned()]), ..one };
        let planned = plan(&job, &[ready(0, "a")]);
        assert_eq!(planned.actions, [Action::Start { ordinal: 1 }]);
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b")]);
        assert_eq!(planned.actions, [deploy(&["b"], 1)]);
    }

    #[test]
    fn those_that_work_are_wanted_before_others() {
        let job = JobView { deployed: Some(crew(&["b", "c"], 2)), ..steady() };
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b"), ready(2, "c")]);
        assert_eq!(planned.actions, [Action::Stop { ordinal: 0 }]);
        let job = JobView { deployed: None, ..job };
        let starting = WorkerView { ordinal: 0, state: WorkerState::Starting, outdated: false };
        let planned = plan(&job, &[starting, ready(1, "b"), ready(2, "c")]);
        assert_eq!(planned.actions, [Action::Stop { ordinal: 0 }, deploy(&["b", "c"], 2)]);
    }

    #[test]
    fn workers_beyond_replicas_are_stopped() {
        let planned = plan(&steady(), &[ready(0, "a"), ready(1, "b"), ready(2, "c")]);
        assert_eq!(planned.actions, [Action::Stop { ordinal: 2 }]);
    }

    #[test]
    fn more_replicas_start_workers_while_the_others_run_on() {
        let job = JobView { replicas: 3, ..steady() };
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b")]);
        assert_eq!(planned.actions, [Action::Start { ordinal: 2 }]);
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b"), ready(2, "c")]);
        assert_eq!(planned.actions, [deploy(&["a", "b", "c"], 3)]);
    }

    #[test]
    fn workers_needed_no_more_run_until_the_smaller_generation_has_begun() {
        let job = JobView { replicas: 1, ..steady() };
        let seen = [ready(0, "a"), ready(1, "b")];
        assert_eq!(plan(&job, &seen).actions, [deploy(&["a"], 1)]);
        let job = JobView { next: Some(crew(&["a"], 1)), ..job };
        assert_eq!(plan(&job, &seen), Plan::default(), "the move was begun");
        let job = JobView { deployed: Some(crew(&["a"], 1)), next: None, ..job };
        assert_eq!(plan(&job, &seen).actions, [Action::Stop { ordinal: 1 }]);
    }

    #[test]
    fn more_slots_make_a_wider_generation_on_the_same_workers() {
        let job = JobView { slots: 3, ..steady() };
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b")]);
        assert_eq!(planned.actions, [deploy(&["a", "b"], 6)]);
    }

    #[test]
    fn a_target_that_is_given_up_is_replaced_by_what_is_wanted_now() {
        let job = JobView { next: Some(crew(&["a", "b", "c"], 3)), ..steady() };
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b"), ready(2, "c")]);
        assert_eq!(planned.actions, [Action::Stop { ordinal: 2 }, deploy(&["a", "b"], 2)]);
    }

    #[test]
    fn a_pause_keeps_workers_but_deploys_nothing() {
        let job = JobView { wish: Wish::Hold, deployed: None, ..steady() };
        let planned = plan(&job, &[ready(0, "a"), ready(1, "b")]);
        assert_eq!(planned, Plan { actions: vec![], waiting: Some(Waiting::Pause) });
    }

    #[test]
    fn an_ended_job_stops_and_forgets_everything() {
        let job = JobView { wish: Wish::End, ..steady() };
        let planned = plan(&job, &[ready(0, "a"), dead(1)]);
        assert_eq!(planned.actions, [Action::Stop { ordinal: 0 }, forget(1)]);
        assert_eq!(planned.waiting, Some(Waiting::Ending { left: 1 }));
        assert_eq!(plan(&job, &[]), Plan::default());
    }

    #[test]
    fn compactors_are_replaced_and_kept_to_their_number() {
        let starts = |ordinals: &[u32]| -> Vec<Action> {
            ordinals.iter().map(|ordinal| Action::Start { ordinal: *ordinal }).collect()
        };
        assert_eq!(plan_pool(2, &[]), starts(&[0, 1]));
        let seen = [ready(0, "a"), ready(1, "b")];
        assert_eq!(plan_pool(2, &seen), []);
        assert_eq!(plan_pool(1, &seen), [Action::Stop { ordinal: 1 }]);
        let none = [Action::Stop { ordinal: 0 }, Action::Stop { ordinal: 1 }];
        assert_eq!(plan_pool(0, &seen), none);
        assert_eq!(
            plan_pool(2, &[dead(0), ready(1, "b")]),
            [vec![forget(0)], starts(&[0])].concat()
        );
        let seen = [outdated(0, "a"), ready(1, "b")];
        assert_eq!(plan_pool(2, &seen), [vec![Action::Stop { ordinal: 0 }], starts(&[2])].concat());
    }

    fn outdated(ordinal: u32, name: &str) -> WorkerView {
        WorkerView { outdated: true, ..ready(ordinal, name) }
    }

    #[test]
    fn outdated_workers_work_until_all_others_are_ready() {
        let seen = [outdated(0, "a"), outdated(1, "b")];
        let starts = [Action::Start { ordinal: 2 }, Action::Start { ordinal: 3 }];
        assert_eq!(plan(&steady(), &seen).actions, starts);
        let starting = WorkerView { ordinal: 3, state: WorkerState::Starting, outdated: false };
        let seen = [outdated(0, "a"), outdated(1, "b"), ready(2, "c"), starting];
        assert_eq!(plan(&steady(), &seen).actions, [], "one is not enough while the old ones work");
        let seen = [outdated(0, "a"), outdated(1, "b"), ready(2, "c"), ready(3, "d")];
        assert_eq!(plan(&steady(), &seen).actions, [deploy(&["c", "d"], 2)]);
        let moved = JobView { deployed: Some(crew(&["c", "d"], 2)), ..steady() };
        let stops = [Action::Stop { ordinal: 0 }, Action::Stop { ordinal: 1 }];
        assert_eq!(plan(&moved, &seen).actions, stops);
    }

    #[test]
    fn who_goes_back_to_the_old_form_stops_the_new_workers() {
        let seen = [ready(0, "a"), ready(1, "b"), outdated(2, "c")];
        assert_eq!(plan(&steady(), &seen).actions, [Action::Stop { ordinal: 2 }]);
    }

    #[test]
    fn a_job_that_does_not_run_waits_for_workers_in_the_new_form() {
        let job = JobView { deployed: None, enough: 2, ..steady() };
        let planned = plan(&job, &[outdated(0, "a"), ready(1, "b")]);
        assert_eq!(planned.actions, [Action::Stop { ordinal: 0 }, Action::Start { ordinal: 2 }]);
    }

    #[test]
    fn a_coordinator_that_is_fenced_leaves_shared_workers_alone() {
        let job = JobView { wish: Wish::Leave, ..steady() };
        assert_eq!(plan(&job, &[ready(0, "a"), dead(1)]), Plan::default());
    }
}
