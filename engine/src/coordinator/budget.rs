//! How many errors a job may report, and the pause after each. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use weir_runtime::clock::Instant;

use crate::pipeline::spec::FailoverPolicy;

/// Pause after the first error; it doubles with each further one within the window.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The restart budget: errors that workers reported, and processes that failed by themselves.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    policy: FailoverPolicy,
    errors: VecDeque<Instant>,
    outages: VecDeque<Instant>,
}

/// What an error leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on from the last checkpoint after this pause.
    Restart(Duration),
    /// Give up.
    Exhausted,
}

impl Budget {
    pub(crate) fn new(policy: FailoverPolicy) -> Self {
        Self { policy, errors: VecDeque::new(), outages: VecDeque::new() }
    }

    /// Counts an error.
    pub(crate) fn error(&mut self, now: Instant) -> Verdict {
        self.forget(now);
        if self.errors.len() >= usize::try_from(self.policy.restarts).unwrap_or(usize::MAX) {
            return Verdict::Exhausted;
        }
        let pause = pause_after(self.errors.len());
        self.errors.push_back(now);
        Verdict::Restart(pause)
    }

    /// The pause after a store did not answer: no error of the job, whatever it allows.
    pub(crate) fn outage(&mut self, now: Instant) -> Duration {
        self.forget(now);
        let pause = pause_after(self.outages.len());
        self.outages.push_back(now);
        pause
    }

    fn forget(&mut self, now: Instant) {
        let within = Duration::from_millis(self.policy.within_ms);
        for times in [&mut self.errors, &mut self.outages] {
            times.retain(|at| now.duration_since(*at) < within);
        }
    }
}

fn pause_after(earlier: usize) -> Duration {
    let doublings = u32::try_from(earlier).unwrap_or(u32::MAX).min(16);
    PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use weir_runtime::clock;

    use super::*;

    fn budget(restarts: u32) -> Budget {
        Budget::new(FailoverPolicy {
            timeout_ms: 5_000,
            restarts,
            within_ms: 60_000,
            min_survivors_percent: 50,
        })
    }

    #[test]
    fn outages_use_up_nothing_and_are_tried_again_ever_more_slowly() {
        let mut budget = budget(1);
        let now = clock::now();
        let pauses: Vec<u128> = (0..9).map(|_| budget.outage(now).as_millis()).collect();
        assert_eq!(pauses[..3], [100, 200, 400]);
        assert_eq!(pauses[8], 10_000);
        assert!(matches!(budget.error(now), Verdict::Restart(_)));
        assert_eq!(budget.error(now), Verdict::Exhausted);
    }

    #[test]
    fn pauses_double_and_the_budget_ends() {
        let now = clock::now();
        let mut budget = budget(3);
        assert_eq!(budget.error(now), Verdict::Restart(Duration::from_millis(100)));
        assert_eq!(budget.error(now), Verdict::Restart(Duration::from_millis(200)));
        assert_eq!(budget.error(now), Verdict::Restart(Duration::from_millis(400)));
        assert_eq!(budget.error(now), Verdict::Exhausted);
    }

    #[test]
    fn errors_outside_the_window_are_forgotten() {
        let now = clock::now();
        let mut budget = budget(1);
        assert_eq!(budget.error(now), Verdict::Restart(Duration::from_millis(100)));
        let later = now + Duration::from_secs(60);
        assert_eq!(budget.error(later), Verdict::Restart(Duration::from_millis(100)));
        assert_eq!(budget.error(later), Verdict::Exhausted);
    }

    #[test]
    fn a_budget_of_none_fails_at_the_first_error() {
        assert_eq!(budget(0).error(clock::now()), Verdict::Exhausted);
    }
}
