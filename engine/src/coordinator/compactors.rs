//! The compactor processes of a job: how many there are, and which can be dialled.
//!
//! They remember nothing, so any is as good as another: one that dies is replaced, and nothing else
//! follows from it. The workers are told who there is and give them work themselves.

use std::time::Duration;

use weir_runtime::clock::Instant;

use super::status::Compaction;
use crate::cluster::{Cluster, Exit, Member, WorkerView};
use crate::pipeline::spec::CompactionPolicy;
use crate::plan::{self, Action};
use crate::protocol::CompactionCounters;

/// Least time from one more compactor to the next.
const GROW_EVERY: Duration = Duration::from_secs(10);
/// After so long without a worker that had to compact itself there is one compactor less.
const SHRINK_AFTER: Duration = Duration::from_secs(300);
/// Least time between two starts, so that one that dies at once does not spin.
const START_PAUSE: Duration = Duration::from_millis(500);
/// The same after faults, which double it.
const START_PAUSE_MAX: Duration = Duration::from_secs(30);
/// After so long without a fault they are forgotten.
const FAULTS_KEPT: Duration = Duration::from_secs(60);

/// How many compactors there should be. Pure: the time comes with each question.
#[derive(Debug)]
struct Size {
    wanted: u32,
    /// Compactions that workers had to carry out themselves, as of the last question.
    here: u64,
    /// When the number changed last, or should have stayed.
    since: Instant,
}

impl Size {
    fn new(now: Instant) -> Self {
        Self { wanted: 0, here: 0, since: now }
    }

    /// One more when workers had to compact themselves, one less after a long time without.
    fn wanted(&mut self, policy: CompactionPolicy, here: u64, now: Instant) -> u32 {
        let is_behind = here > self.here;
        self.here = here;
        let quiet = now.saturating_duration_since(self.since);
        if is_behind && (quiet >= GROW_EVERY || self.wanted == 0) {
            (self.wanted, self.since) = (self.wanted + 1, now);
        } else if !is_behind && quiet >= SHRINK_AFTER {
            (self.wanted, self.since) = (self.wanted.saturating_sub(1), now);
        }
        let (least, most) = match policy.remote {
            true => (policy.min_replicas, policy.max_replicas.max(policy.min_replicas)),
            false => (0, 0),
        };
        self.wanted = self.wanted.clamp(least, most);
        self.wanted
    }
}

/// When a compactor may be started. Pure.
#[derive(Debug)]
struct Starts {
    next: Instant,
    pause: Duration,
    /// When one ended by its own fault last.
    fault: Instant,
}

impl Starts {
    fn new(now: Instant) -> Self {
        Self { next: now, pause: START_PAUSE, fault: now }
    }

    fn started(&mut self, now: Instant) {
        self.next = now + self.pause;
    }

    fn failed(&mut self, now: Instant) {
        if now.saturating_duration_since(self.fault) >= FAULTS_KEPT {
            self.pause = START_PAUSE;
        }
        self.pause = (self.pause * 2).min(START_PAUSE_MAX);
        (self.fault, self.next) = (now, self.next.max(now + self.pause));
    }
}

/// The compactor processes, and where they run.
pub(crate) struct Compactors {
    cluster: Box<dyn Cluster>,
    size: Size,
    seen: Vec<WorkerView>,
    members: Vec<Member>,
    due: Vec<Action>,
    /// Of the last look.
    wanted: u32,
    starts: Starts,
    /// Why the last one could not be started, or ended; nothing once one is ready.
    problem: String,
}

impl Compactors {
    pub(crate) fn new(cluster: Box<dyn Cluster>, now: Instant) -> Self {
        Self {
            cluster,
            size: Size::new(now),
            seen: Vec::new(),
            members: Vec::new(),
            due: Vec::new(),
            wanted: 0,
            starts: Starts::new(now),
            problem: String::new(),
        }
    }

    /// How many there should be, given how often workers had to compact themselves.
    pub(crate) fn wanted(&mut self, policy: CompactionPolicy, here: u64, now: Instant) -> u32 {
        self.size.wanted(policy, here, now)
    }

    /// Looks who is there; gives whether something is to be done.
    pub(crate) async fn observe(&mut self, wanted: u32) -> bool {
        self.seen = self.cluster.observe().await;
        self.members = plan::members(self.seen.iter());
        if !self.members.is_empty() {
            self.problem.clear();
        }
        self.wanted = wanted;
        self.due = plan::plan_pool(wanted, &self.seen);
        !self.due.is_empty()
    }

    /// Does what is to be done; gives when to look again, if something is left.
    pub(crate) async fn act(&mut self, now: Instant) -> Option<Instant> {
        let mut left = None;
        let mut may_start = now >= self.starts.next;
        for action in std::mem::take(&mut self.due) {
            let done = match action {
                Action::Start { .. } if !may_start => {
                    left = Some(self.starts.next);
                    continue;
                }
                Action::Start { ordinal } => {
                    self.starts.started(now);
                    self.cluster.start(ordinal).await
                }
                Action::Stop { ordinal } => self.cluster.stop(ordinal).await,
                Action::Forget { ordinal, exit } => {
                    tracing::warn!(ordinal, "a compactor ended: {exit:?}");
                    if let Exit::Fault(why) = exit {
                        self.starts.failed(now);
                        (self.problem, may_start) = (why, false);
                    }
                    self.cluster.forget(ordinal).await;
                    // What was seen is no more; nobody else would wake us to look again.
                    left = Some(now);
                    Ok(())
                }
                Action::Deploy { .. } => Ok(()),
            };
            if let Err(error) = done {
                self.problem = format!("{error}: {}", error.cause);
                tracing::warn!("compactor: {}", self.problem);
                left = Some(now + START_PAUSE);
            }
        }
        left
    }

    /// Those that can be dialled.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether none is there, dead ones included.
    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Whether they belong to the job rather than to this process.
    pub(crate) fn outlive(&self) -> bool {
        self.cluster.workers_outlive()
    }

    /// Waits until a look would see something else. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        self.cluster.changed().await;
    }

    /// What there is to see, given what workers tell.
    pub(crate) fn status(
        &self,
        policy: CompactionPolicy,
        told: CompactionCounters,
    ) -> Option<Compaction> {
        let ready = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let problem = match (ready, told.problem) {
            (0, _) if !self.problem.is_empty() => format!("no compactor runs: {}", self.problem),
            (0, _) => format!("no compactor is ready ({} wanted)", self.wanted),
            (_, problem) => problem,
        };
        policy.remote.then_some(Compaction {
            wanted: self.wanted,
            ready,
            elsewhere: told.elsewhere,
            here: told.here,
            given_up: told.given_up,
            problem,
        })
    }
}

#[cfg(test)]
mod tests {
    use weir_runtime::clock;

    use super::*;

    fn policy(min_replicas: u32, max_replicas: u32) -> CompactionPolicy {
        CompactionPolicy { remote: true, min_replicas, max_replicas }
    }

    #[test]
    fn the_number_follows_the_work_between_least_and_most() {
        let start = clock::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut size = Size::new(start);
        let both = policy(1, 3);
        assert_eq!(size.wanted(both, 0, after(0)), 1);
        assert_eq!(size.wanted(both, 1, after(5)), 1, "too soon");
        assert_eq!(size.wanted(both, 2, after(10)), 2);
        assert_eq!(size.wanted(both, 9, after(15)), 2, "too soon");
        assert_eq!(size.wanted(both, 10, after(20)), 3);
        assert_eq!(size.wanted(both, 11, after(40)), 3, "no more than that");
        assert_eq!(size.wanted(both, 11, after(339)), 3);
        assert_eq!(size.wanted(both, 0, after(341)), 2, "another generation counts from 0");
        assert_eq!(size.wanted(both, 0, after(10_000)), 1);
        assert_eq!(size.wanted(both, 0, after(20_000)), 1, "no fewer than that");
        assert_eq!(size.wanted(CompactionPolicy::default(), 5, after(30_000)), 0);
    }

    #[test]
    fn one_that_fails_again_and_again_is_started_less_and_less_often() {
        let start = clock::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut starts = Starts::new(start);
        starts.started(start);
        assert_eq!(starts.next, start + START_PAUSE, "another one meanwhile");
        let mut pause = |fault: Instant| {
            starts.failed(fault);
            (starts.next - fault).as_secs()
        };
        let faults = [0, 2, 5, 10, 20, 40, 71, 102].map(after);
        assert_eq!(faults.map(&mut pause), [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(pause(after(162)), 1, "forgotten");
    }

    #[test]
    fn with_none_at_least_the_first_comes_with_the_first_work() {
        let start = clock::now();
        let mut size = Size::new(start);
        assert_eq!(size.wanted(policy(0, 2), 0, start), 0);
        assert_eq!(size.wanted(policy(0, 2), 1, start), 1);
        assert_eq!(size.wanted(policy(0, 0), 2, start), 0, "none may be");
    }
}
