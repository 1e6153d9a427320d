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
        Self { policy, errors: VecDeque::new() }
    }

    /// Counts an error.
    pub(crate) fn error(&mut self, now: Instant) -> Verdict {
        let within = Duration::from_millis(self.policy.within_ms);
        self.errors.retain(|at| now.duration_since(*at) < within);
        if self.errors.len() >= usize::try_from(self.policy.restarts).unwrap_or(usize::MAX) {
            return Verdict::Exhausted;
        }
        let doublings = u32::try_from(self.errors.len()).unwrap_or(u32::MAX).min(16);
        self.errors.push_back(now);
        Verdict::Restart(PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX))
    }
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
