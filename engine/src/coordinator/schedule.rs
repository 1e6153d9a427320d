//! When the next checkpoint begins. Pure.
//!
//! Interval from start to start, at least `min_pause` from end to start, one at a time, and none
//! at all while nothing has changed: an idle job makes no request.

use std::time::Duration;

use weir_runtime::clock::Instant;

use crate::pipeline::spec::CheckpointPolicy;

/// Times of the last checkpoint, and failures in a row.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    policy: CheckpointPolicy,
    started: Instant,
    ended: Option<Instant>,
    failures: u32,
}

impl Schedule {
    /// A schedule that begins now: the first checkpoint is due after one interval.
    pub(crate) fn new(policy: CheckpointPolicy, now: Instant) -> Self {
        Self { policy, started: now, ended: None, failures: 0 }
    }

    /// Another policy holds from now on.
    pub(crate) fn set_policy(&mut self, policy: CheckpointPolicy) {
        self.policy = policy;
    }

    /// A checkpoint begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.started = now;
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
        let by_interval = self.started + Duration::from_millis(self.policy.interval_ms);
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
        let mut schedule = Schedule::new(policy(), now);
        assert_eq!(schedule.due(), at(now, 1_000));
        schedule.begin(at(now, 1_000));
        schedule.complete(at(now, 1_200));
        assert_eq!(schedule.due(), at(now, 2_000));
    }

    #[test]
    fn a_slow_checkpoint_is_followed_by_the_pause() {
        let now = clock::now();
        let mut schedule = Schedule::new(policy(), now);
        schedule.begin(at(now, 1_000));
        schedule.complete(at(now, 3_000));
        assert_eq!(schedule.due(), at(now, 3_300));
    }

    #[test]
    fn failures_count_only_in_a_row() {
        let now = clock::now();
        let mut schedule = Schedule::new(policy(), now);
        assert!(schedule.fail(now));
        schedule.complete(now);
        assert!(schedule.fail(now));
        assert!(!schedule.fail(now));
        assert_eq!(schedule.failures(), 2);
    }
}
