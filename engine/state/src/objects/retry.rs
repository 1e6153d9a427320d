//! Waiting between repeated requests: longer each time, with jitter, up to a deadline.

use std::time::Duration;

use weir_runtime::clock::{self, Instant};
use weir_runtime::random;

const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The waits of one request's repetitions.
#[derive(Debug)]
pub(crate) struct Backoff {
    deadline: Instant,
    next: Duration,
}

impl Backoff {
    /// Waits until `limit` from now at most.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { deadline: clock::now() + limit, next: WAIT_FIRST }
    }

    /// Waits before the next repetition; false when the deadline does not allow one.
    pub(crate) async fn wait(&mut self) -> bool {
        let half_ms = u64::try_from(self.next.as_millis() / 2).unwrap_or(u64::MAX);
        let wait = Duration::from_millis(half_ms + random::below(half_ms + 1));
        self.next = (self.next * 2).min(WAIT_MAX);
        if clock::now() + wait > self.deadline {
            return false;
        }
        clock::sleep(wait).await;
        true
    }
}
