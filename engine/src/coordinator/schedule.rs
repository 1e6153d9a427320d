//! When the next checkpoint begins. Pure.
//!
//! Interval from start to start, at least `min_pause` from end to start, one at a time, and none
//! at all while nothing has changed: an idle job makes no request. Jobs that begin at once, as those
//! of an operator that starts, are kept apart by their first interval.

use std::time::Duration;

use weir_runtime::clock::Instant;

use crate::pipeline::spec::CheckpointPolicy;

/// By how much a first interval is shorter at most, in thousandths.
const EARLIER_MILLI_MAX: u64 = 500;

/// Times of the last checkpoint, and failures in a row.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    policy: CheckpointPolicy,
    /// By how much the first interval is shorter, in thousandths; 0 once a checkpoint has begun.
    earlier_milli: u64,
    started: Instant,
    ended: Option<Instant>,
    failures: u32,
}

impl Schedule {
    /// A schedule that begins now: the first checkpoint is due after one interval, or after half of
    /// one, or somewhere between, as `spread` says.
    pub(crate) fn new(policy: CheckpointPolicy, spread: u64, now: Instant) -> Self {
        let earlier_milli = spread % (EARLIER_MILLI_MAX + 1);
        Self { policy, earlier_milli, started: now, ended: None, failures: 0 }
    }

    /// Another policy holds from now on.
    pub(crate) fn set_policy(&mut self, policy: CheckpointPolicy) {
        self.policy = policy;
    }

    /// A checkpoint begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.started = now;
        self.earlier_milli = 0;
    }

    /// The checkpoint is complete.
    pub(crate) fn complete(&mut self, now: Instant) {
        self.ended = Some(now);
        self.failures = 0;
    }

    /// The checkpoint was given up. Gives whether the job survives that.
    pub(crate) fn fail(&mut self, now: Instant) -> bool {
        self.ended = Some(now);
        self.failures += 1;
        self.policy.tolerable_failures.is_none_or(|most| self.failures <= most)
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next one begins, if there is anything to save by then.
    pub(crate) fn due(&self) -> Instant {
        let earlier_ms = self.policy.interval_ms * self.earlier_milli / 1_000;
        let by_interval =
            self.started + Duration::from_millis(self.policy.interval_ms - earlier_ms);
        let pause = Duration::from_millis(self.policy.min_pause_ms);
        self.ended.map_or(by_interval, |ended| by_interval.max(ended + pause))
    }

    /// When an open checkpoint whose last progress was at `progress` is given up.
    pub(crate) fn gives_up(&self, progress: Instant) -> Instant {
        progress + Duration::from_millis(self.policy.timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use weir_runtime::clock;

    use super::*;

    fn policy() -> CheckpointPolicy {
        CheckpointPolicy {
            interval_ms: 1_000,
            timeout_ms: 5_000,
            min_pause_ms: 300,
            retained: 3,
            tolerable_failures: Some(1),
        }
    }

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn the_interval_counts_from_start_to_start() {
        let now = clock::now();
        let mut schedule = Schedule::new(policy(), 0, now);
        assert_eq!(schedule.due(), at(now, 1_000));
        schedule.begin(at(now, 1_000));
        schedule.complete(at(now, 1_200));
        assert_eq!(schedule.due(), at(now, 2_000));
    }

    #[test]
    fn jobs_that_begin_together_take_their_checkpoints_apart_for_ever() {
        let now = clock::now();
        let later = |spread| {
            let mut schedule = Schedule::new(policy(), spread, now);
            let first = schedule.due();
            schedule.begin(first);
            (first - now, schedule.due() - first)
        };
        let (firsts, seconds): (BTreeSet<_>, BTreeSet<_>) = (0..1_000).map(later).unzip();
        assert_eq!(firsts.len(), 501, "{firsts:?}");
        assert_eq!(firsts.first(), Some(&Duration::from_millis(500)));
        assert_eq!(firsts.last(), Some(&Duration::from_millis(1_000)));
        assert_eq!(Vec::from_iter(seconds), [Duration::from_millis(1_000)]);
    }

    #[test]
    fn a_slow_checkpoint_is_followed_by_the_pause() {
        let now = clock::now();
        let mut schedule = Schedule::new(policy(), 0, now);
        schedule.begin(at(now, 1_000));
        schedule.complete(at(now, 3_000));
        assert_eq!(schedule.due(), at(now, 3_300));
    }

    #[test]
    fn failures_count_only_in_a_row() {
        let now = clock::now();
        let mut schedule = Schedule::new(policy(), 0, now);
        assert!(schedule.fail(now));
        schedule.complete(now);
        assert!(schedule.fail(now));
        assert!(!schedule.fail(now));
        assert_eq!(schedule.failures(), 2);
    }
}
