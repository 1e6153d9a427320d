//! What is shown of a job: phase, conditions, numbers. Pure; nothing is ever decided from it.
//!
//! The conditions are made so that kstatus (`helm --wait`, Flux) and Argo CD tell the same: `Stalled`
//! is failed, `Reconciling` is in progress, and both are false where the job is as it was asked to
//! be. docs/design/0014-operator.md has the table; its test is this file's.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::{
    Acknowledged, CheckpointStatus, FailoverStatus, Phase, RescaleStatus, StatefulJobStatus,
    WidthStatus,
};
use weir_engine::coordinator::status::{Phase as Course, Status};

use super::conditions::{Shown, holds, whole_seconds};
use super::declared::asked_number;
use super::names;
use super::plan::{End, Live, Observed, Runner, refusal};

/// What is said before there is anything to say.
pub(crate) const BEGINS: &str = "it begins";
const STARTS: &str = "it starts";

/// What the status needs beside what the plan sees.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// The job's name.
    pub(crate) job: String,
    /// Pods in another form than is wanted.
    pub(crate) outdated: usize,
    /// Why a pod does not start.
    pub(crate) trouble: Option<String>,
    /// What the last act came up against.
    pub(crate) obstacle: Option<String>,
    /// A change has waited longer than its deadline.
    pub(crate) is_late: bool,
    /// The job was ready since it was last changed: what is missing is no change that is under way.
    pub(crate) is_reached: bool,
    /// It recovers, and not for long.
    pub(crate) is_recovering_briefly: bool,
    /// A checkpoint was completed since the present generation of workers began.
    pub(crate) has_checkpoint: bool,
    /// When the last checkpoint was first seen.
    pub(crate) checkpoint_seen: Option<(u64, Timestamp)>,
}

/// Where a job is, and why, in a word and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    phase: Phase,
    reason: &'static str,
    message: String,
    /// Why it will not go on by itself.
    stalled: Option<&'static str>,
    is_ready: bool,
}

/// The status to be shown; `now` is for conditions that change.
pub(crate) fn status(
    seen: &Observed,
    more: &Seen,
    before: &StatefulJobStatus,
    now: Timestamp,
) -> StatefulJobStatus {
    let place = place(seen, more);
    let shows = match &seen.runner {
        Runner::Live(live) => live.shows.as_ref().ok().map(AsRef::as_ref),
        Runner::None | Runner::Over { .. } => None,
    };
    let conditions = conditions(seen, more, &place, shows);
    let at = |shown: Shown| shown.at(seen.wish.generation, &before.conditions, now);
    StatefulJobStatus {
        observed_generation: seen.wish.generation,
        phase: Some(place.phase),
        replicas: Some(shows.map_or(0, |status| status.workers_ready)),
        selector: Some(names::selector(&more.job)),
        generation: shows.map(|status| status.generation.0).or(before.generation),
        last_checkpoint: checkpoint(more).or_else(|| before.last_checkpoint.clone()),
        last_rescale: shows.and_then(rescale).or(before.last_rescale),
        last_failover: shows
            .and_then(|its| failover(its, before, now))
            .or_else(|| before.last_failover.clone()),
        restarts: shows.map(restarts).or(before.restarts),
        acknowledged: acknowledged(seen, more, before, place.phase),
        message: Some(place.message),
        conditions: conditions.into_iter().map(at).collect(),
    }
}

/// Whether the difference has to be written at once; numbers that move can wait.
pub(crate) fn is_transition(before: &StatefulJobStatus, now: &StatefulJobStatus) -> bool {
    let quiet = |status: &StatefulJobStatus| {
        let mut status = status.clone();
        status.last_checkpoint = None;
        status.message = None;
        for condition in &mut status.conditions {
            condition.message.clear();
        }
        status
    };
    quiet(before) != quiet(now) || says_why(before, now)
}

/// Whether a job that begins says for the first time what is in its way.
fn says_why(before: &StatefulJobStatus, now: &StatefulJobStatus) -> bool {
    let says = |status: &StatefulJobStatus| {
        let message = status.message.as_deref().unwrap_or(BEGINS);
        let begins = matches!(status.phase, Some(Phase::Pending | Phase::Starting));
        begins && ![BEGINS, STARTS].contains(&message)
    };
    says(now) && !says(before)
}

/// Whether a status says that the job is ready.
pub(crate) fn is_ready(status: &StatefulJobStatus) -> bool {
    holds(&status.conditions, "Ready")
}

/// Whether the job comes back from something that nobody asked for.
pub(crate) fn is_recovering(seen: &Observed, more: &Seen) -> bool {
    place(seen, more).phase == Phase::Recovering
}

/// Whether something that was asked for is not reached yet.
pub(crate) fn is_under_way(seen: &Observed, more: &Seen) -> bool {
    let place = place(seen, &Seen { is_late: false, ..more.clone() });
    !place.is_ready && place.stalled.is_none() && place.phase != Phase::Deleting
}

fn place(seen: &Observed, more: &Seen) -> Place {
    if seen.deletion.is_some() {
        let otherwise = || "its workers end, and what goes with it is deleted".to_owned();
        return going(Phase::Deleting, "Deleting", more.obstacle.clone().unwrap_or_else(otherwise));
    }
    let mut place = match &seen.runner {
        Runner::Live(live) => match &live.shows {
            Ok(status) => running(seen, more, status),
            Err(why) => going(Phase::Pending, "Beginning", why.clone()),
        },
        _ if seen.suspend => done(Phase::Suspended, "Suspended", "no worker runs".to_owned()),
        Runner::None => going(Phase::Pending, "Beginning", BEGINS.to_owned()),
        Runner::Over { end, .. } => over(end),
    };
    if place.phase == Phase::Recovering {
        place.is_ready = more.is_reached && more.is_recovering_briefly;
    }
    if let Some(why) = refusal(seen) {
        why.clone_into(&mut place.message);
        place.stalled = Some("SpecRefused");
        place.is_ready = false;
    } else if more.is_late && !place.is_ready {
        place.stalled = Some("DeadlineExceeded");
    }
    place
}

fn going(phase: Phase, reason: &'static str, message: String) -> Place {
    Place { phase, reason, message, stalled: None, is_ready: false }
}

fn done(phase: Phase, reason: &'static str, message: String) -> Place {
    Place { phase, reason, message, stalled: None, is_ready: true }
}

fn over(end: &End) -> Place {
    let stalled = |phase, reason, message: &String| Place {
        stalled: Some(reason),
        ..going(phase, reason, message.clone())
    };
    match end {
        End::Finished(summary) => done(Phase::Finished, "Finished", summary.clone()),
        End::Suspended => going(Phase::Pending, "Beginning", "it goes on".to_owned()),
        End::Failed(why) => stalled(Phase::Failed, "Failed", why),
        End::Refused(why) => stalled(Phase::Pending, "SpecRefused", why),
        End::Elsewhere(why) => stalled(Phase::Pending, "StateOwnedElsewhere", why),
        End::Fenced(why) => going(Phase::Recovering, "Fenced", why.clone()),
    }
}

fn running(seen: &Observed, more: &Seen, status: &Status) -> Place {
    let numbers = || {
        format!(
            "{} of {} workers, {} rows in at {}/s, {} out, checkpoint {}",
            status.workers_ready,
            status.workers_wanted,
            status.rows_in,
            status.rows_per_second,
            status.rows_out,
            status.checkpoint.0,
        )
    };
    let words = |otherwise: &dyn Fn() -> String| match (&more.trouble, status.message.as_str()) {
        (Some(trouble), _) => trouble.clone(),
        (None, "") => otherwise(),
        (None, message) => message.to_owned(),
    };
    let is_reached = match &seen.wanted {
        Ok(wanted) => wanted.target.replicas == status.workers_ready && more.outdated == 0,
        Err(_) => true,
    };
    // What was as it was asked to be has not been asked to change.
    let asked = |phase| if more.is_reached { Phase::Recovering } else { phase };
    match &status.phase {
        Course::Adopting => going(Phase::Recovering, "Adopting", words(&numbers)),
        Course::Starting if more.trouble.is_some() => {
            going(asked(Phase::Starting), "PodsNotStarting", words(&numbers))
        }
        Course::Starting => going(asked(Phase::Starting), "Starting", words(&|| STARTS.to_owned())),
        Course::Recovering => {
            going(Phase::Recovering, "Recovering", words(&|| "it recovers".to_owned()))
        }
        Course::Rescaling => going(asked(Phase::Rescaling), "Rescaling", words(&numbers)),
        Course::Suspending => {
            going(Phase::Suspending, "Suspending", "a last checkpoint is taken".to_owned())
        }
        Course::Running if !is_reached && more.trouble.is_some() => {
            going(asked(Phase::Rescaling), "PodsNotStarting", words(&numbers))
        }
        Course::Running if !is_reached => {
            going(asked(Phase::Rescaling), "WaitingForWorkers", words(&numbers))
        }
        Course::Running if !more.has_checkpoint && !more.is_reached => {
            going(Phase::Running, "WaitingForCheckpoint", words(&numbers))
        }
        Course::Running => done(Phase::Running, "Running", numbers()),
        // The coordinator is about to say how it ended.
        Course::Suspended | Course::Finished | Course::Failed(_) | Course::Fenced(_) => {
            going(Phase::Running, "Ending", numbers())
        }
    }
}

fn conditions(seen: &Observed, more: &Seen, place: &Place, shows: Option<&Status>) -> Vec<Shown> {
    let shown =
        |type_, is, reason, message: &str| Shown { type_, is, reason, message: message.to_owned() };
    let is_stalled = place.stalled.is_some();
    let reason = place.stalled.unwrap_or(place.reason);
    // Failures and lost workers are no change that somebody asked for.
    let is_asked = !matches!(place.phase, Phase::Recovering | Phase::Failed);
    let is_reconciling = !place.is_ready && !is_stalled && is_asked;
    let failures = shows.map_or(0, |status| status.checkpoint_failures);
    let is_suspended = seen.suspend && place.phase == Phase::Suspended;
    let waits = shows.is_some_and(|status| status.checkpoint_waits);
    let healthy = match failures {
        0 if waits => {
            let message = "the open checkpoint makes no progress: a store may be slow or away";
            shown("CheckpointsHealthy", false, "NoProgress", message)
        }
        0 => shown("CheckpointsHealthy", true, "NoFailures", ""),
        _ => {
            let message = format!("{failures} checkpoints in a row have failed");
            shown("CheckpointsHealthy", false, "Failing", &message)
        }
    };
    let compacted = match shows.map(|status| status.compaction.as_ref()) {
        None => shown("CompactionHealthy", true, "NotRunning", ""),
        Some(None) => shown("CompactionHealthy", true, "Local", ""),
        Some(Some(its)) if its.problem.is_empty() => {
            let message = format!("{} compactors are ready", its.ready);
            shown("CompactionHealthy", true, "Remote", &message)
        }
        Some(Some(its)) => {
            let reason = if its.ready == 0 { "NoCompactors" } else { "WorkersCompact" };
            let message = format!("the workers compact themselves: {}", its.problem);
            shown("CompactionHealthy", false, reason, &message)
        }
    };
    let stalled = match (place.stalled, &more.trouble) {
        (Some("DeadlineExceeded"), Some(trouble)) => trouble,
        _ => &place.message,
    };
    let is_plain = place.phase == Phase::Running && place.is_ready;
    let ready = if is_plain { "" } else { place.message.as_str() };
    vec![
        shown("Ready", place.is_ready, reason, ready),
        shown(
            "Reconciling",
            is_reconciling,
            reason,
            if is_reconciling { &place.message } else { "" },
        ),
        shown("Stalled", is_stalled, reason, if is_stalled { stalled } else { "" }),
        healthy,
        compacted,
        shown(
            "Suspended",
            is_suspended,
            if is_suspended { "Suspended" } else { "NotSuspended" },
            "",
        ),
    ]
}

fn checkpoint(more: &Seen) -> Option<CheckpointStatus> {
    let (id, time) = more.checkpoint_seen?;
    Some(CheckpointStatus { id, time: Some(Time(whole_seconds(time))) })
}

fn rescale(status: &Status) -> Option<RescaleStatus> {
    let last = status.last_rescale?;
    let width = |(replicas, slots)| WidthStatus { replicas, slots };
    Some(RescaleStatus {
        from: width(last.from),
        to: width(last.to),
        pause_ms: last.pause_ms,
        cut_wait_ms: last.cut_wait_ms,
    })
}

/// With the time at which it was first seen.
fn failover(status: &Status, before: &StatefulJobStatus, now: Timestamp) -> Option<FailoverStatus> {
    let last = status.last_failover?;
    let generation = last.generation.0;
    let seen = before.last_failover.as_ref().filter(|seen| seen.generation == generation);
    let time = seen.and_then(|seen| seen.time.clone()).unwrap_or(Time(whole_seconds(now)));
    Some(FailoverStatus { generation, recovery_ms: last.recovery_ms, time: Some(time) })
}

fn restarts(status: &Status) -> u32 {
    u32::try_from(status.restarts).unwrap_or(u32::MAX)
}

/// A restart is done when no pod in an older form is left; a checkpoint when one that began after the
/// wish is complete, or the job stands still, since its last one holds all there is then.
fn acknowledged(
    seen: &Observed,
    more: &Seen,
    before: &StatefulJobStatus,
    phase: Phase,
) -> Option<Acknowledged> {
    let mut acknowledged = before.acknowledged.clone().unwrap_or_default();
    let is_running = matches!(&seen.runner, Runner::Live(live) if live.shows.is_ok());
    if is_running && more.outdated == 0 && more.has_checkpoint {
        acknowledged.restart.clone_from(&seen.wish.restart);
    }
    let is_answered = match &seen.runner {
        Runner::Live(Live { shows: Ok(status), .. }) => {
            status.answered == asked_number(seen.asked.as_ref())
        }
        Runner::Live(_) => false,
        Runner::None | Runner::Over { .. } => {
            matches!(phase, Phase::Suspended | Phase::Finished)
        }
    };
    if is_answered && seen.asked.is_some() {
        acknowledged.checkpoint.clone_from(&seen.asked);
    }
    (acknowledged != Acknowledged::default()).then_some(acknowledged)
}

#[cfg(test)]
mod gitops;
#[cfg(test)]
mod tests;
