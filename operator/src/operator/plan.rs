//! Decides what one job's resource needs next. Pure: no clock, no client, no logging.
//!
//! Which pods there are and when a generation begins is the engine's plan (`weir_engine::plan`), the
//! same as in `weir run`. This one decides around it: whether a coordinator runs and in which form,
//! what is refused, and what a deletion needs. Nothing is decided from the resource's status, and not
//! from what the resource said before: only from what it says now and what is there now.

use weir_crds::DeletionPolicy;
use weir_engine::coordinator::run::Target;
use weir_engine::coordinator::status::Status;

/// Everything that is looked at, seen at (roughly) one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observed {
    /// `metadata.generation`, and the value of the restart annotation: another one is another wish.
    pub(crate) wish: Wish,
    /// The value of the annotation that asks for a checkpoint; shown, never decided from.
    pub(crate) asked: Option<String>,
    /// The resource is being deleted.
    pub(crate) deletion: Option<Deletion>,
    pub(crate) has_finalizer: bool,
    pub(crate) policy: DeletionPolicy,
    pub(crate) suspend: bool,
    /// What the resource wants, or why that is nothing that can be run.
    pub(crate) wanted: Result<Wanted, String>,
    /// Pods that nobody has told to end.
    pub(crate) pods: usize,
    /// Whether any pod is there, an ending one too.
    pub(crate) has_pods: bool,
    pub(crate) runner: Runner,
    /// What was found of a form that is not the running one.
    pub(crate) fit: Option<Fit>,
    /// The pause after something that failed is over.
    pub(crate) may_retry: bool,
}

/// Tells one wish from the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) generation: i64,
    pub(crate) restart: Option<String>,
}

/// How far a deletion is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deletion {
    /// The state is deleted, or there is none.
    pub(crate) is_clean: bool,
    /// The deadline is over.
    pub(crate) is_late: bool,
}

/// What a resource wants, as far as a coordinator is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// A hash of what a coordinator cannot change while it runs.
    pub(crate) form: u64,
    /// A hash of whose state it begins from: without effect once it has begun.
    pub(crate) origin: u64,
    /// What it can.
    pub(crate) target: Target,
}

/// Whether another form fits the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    pub(crate) form: u64,
    pub(crate) found: Result<(), String>,
}

/// The job's coordinator in this process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Runner {
    /// There is none.
    None,
    /// It runs, or is about to.
    Live(Live),
    /// It has ended.
    Over {
        /// The wish that it was started for.
        wish: Wish,
        end: End,
    },
}

/// A coordinator that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Live {
    pub(crate) wanted: Wanted,
    /// It was told to suspend the job.
    pub(crate) is_suspending: bool,
    /// What it shows; or why it has not begun yet.
    pub(crate) shows: Result<Box<Status>, String>,
}

/// How a coordinator ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Finished(String),
    Suspended,
    /// The job gave up.
    Failed(String),
    /// The resource, or what it leads to, can't be run.
    Refused(String),
    /// The state belongs to somebody else.
    Elsewhere(String),
    /// A newer coordinator reigns.
    Fenced(String),
}

/// One act. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    AddFinalizer,
    RemoveFinalizer,
    /// Let a coordinator run; a suspending one takes a last checkpoint and ends.
    Start {
        suspend: bool,
    },
    /// Drop the coordinator; its workers work on.
    Drop,
    /// Tell the coordinator what it can change while it runs.
    Retarget(Target),
    Suspend,
    /// Find out whether the wanted form fits the state.
    CheckFit,
    DeletePods,
    DeleteState,
}

impl Action {
    /// Whether the store is asked, so that it is better shown before what is going on.
    pub(crate) fn takes_time(&self) -> bool {
        matches!(self, Self::CheckFit | Self::DeleteState)
    }
}

/// What to do now.
pub(crate) fn plan(seen: &Observed) -> Vec<Action> {
    match &seen.deletion {
        Some(deletion) => plan_deletion(seen, deletion),
        None => finalizer(seen).into_iter().chain(plan_run(seen)).collect(),
    }
}

fn plan_deletion(seen: &Observed, deletion: &Deletion) -> Vec<Action> {
    let mut actions = Vec::new();
    if seen.runner != Runner::None {
        actions.push(Action::Drop);
    }
    if seen.pods > 0 {
        actions.push(Action::DeletePods);
    }
    if !seen.has_finalizer {
        return actions;
    }
    let keeps_state = seen.policy == DeletionPolicy::Retain;
    if keeps_state || deletion.is_clean || deletion.is_late {
        actions.push(Action::RemoveFinalizer);
    } else if seen.may_retry && !seen.has_pods {
        actions.push(Action::DeleteState);
    }
    actions
}

fn finalizer(seen: &Observed) -> Option<Action> {
    match (seen.policy, seen.has_finalizer) {
        (DeletionPolicy::Delete, false) => Some(Action::AddFinalizer),
        (DeletionPolicy::Retain, true) => Some(Action::RemoveFinalizer),
        _ => None,
    }
}

fn plan_run(seen: &Observed) -> Vec<Action> {
    let Ok(wanted) = &seen.wanted else { return Vec::new() };
    match &seen.runner {
        Runner::None => start(seen),
        Runner::Over { wish, end } => {
            let is_new = *wish != seen.wish;
            let goes_on = match end {
                // Its last pods may still be seen.
                End::Suspended => !seen.suspend || is_new,
                End::Finished(_) | End::Failed(_) => is_new,
                End::Refused(_) | End::Elsewhere(_) | End::Fenced(_) => is_new || seen.may_retry,
            };
            match end {
                // Nobody will ever give its workers anything to do.
                End::Elsewhere(_) if seen.pods > 0 => vec![Action::DeletePods],
                _ if goes_on => start(seen),
                // Who led it to its end may have died before all of its workers were told.
                End::Finished(_) if seen.pods > 0 => vec![Action::DeletePods],
                _ => Vec::new(),
            }
        }
        Runner::Live(live) => plan_live(seen, wanted, live),
    }
}

/// A suspended job needs a coordinator only as long as it has workers.
fn start(seen: &Observed) -> Vec<Action> {
    match (seen.suspend, seen.pods) {
        (true, 0) => Vec::new(),
        (suspend, _) => vec![Action::Start { suspend }],
    }
}

fn plan_live(seen: &Observed, wanted: &Wanted, live: &Live) -> Vec<Action> {
    if live.is_suspending {
        return Vec::new();
    }
    if seen.suspend {
        return vec![Action::Suspend];
    }
    let has_begun = live.shows.is_ok();
    if live.wanted.form == wanted.form && (has_begun || live.wanted.origin == wanted.origin) {
        let differs = live.wanted.target != wanted.target;
        return if differs { vec![Action::Retarget(wanted.target)] } else { Vec::new() };
    }
    if live.shows.is_err() {
        // It has not begun: nothing is lost.
        return vec![Action::Drop, Action::Start { suspend: false }];
    }
    match seen.fit.as_ref().filter(|fit| fit.form == wanted.form) {
        Some(Fit { found: Ok(()), .. }) => vec![Action::Drop, Action::Start { suspend: false }],
        Some(Fit { found: Err(_), .. }) if !seen.may_retry => Vec::new(),
        _ => vec![Action::CheckFit],
    }
}

/// Why the resource is refused while its job goes on as it was, or does not begin.
pub(crate) fn refusal(seen: &Observed) -> Option<&str> {
    let wanted = match &seen.wanted {
        Ok(wanted) => wanted,
        Err(why) => return Some(why),
    };
    match (&seen.runner, &seen.fit) {
        (Runner::Live(live), Some(Fit { form, found: Err(why) }))
            if *form == wanted.form && live.wanted.form != *form =>
        {
            Some(why)
        }
        (Runner::Over { end: End::Refused(why), .. }, _) => Some(why),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
