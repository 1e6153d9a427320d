//! Time: the only file that reads a clock or sleeps.
//!
//! Under simulation the monotonic clock is tokio's paused one, and wall time is a fixed start plus
//! that clock plus the skew of the simulated process.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

use crate::sim;

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is where time is read")]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall time in milliseconds since 1970-01-01T00:00Z. A hint: nothing is decided from it alone.
#[expect(clippy::disallowed_methods, reason = "this is where time is read")]
pub fn wall_ms() -> i64 {
    if let Some(simulated) = sim::wall_ms() {
        return simulated;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Waits for `duration`. Cancel safe.
#[expect(clippy::disallowed_methods, reason = "this is where time is read")]
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until `deadline`. Cancel safe.
pub async fn sleep_until(deadline: Instant) {
    tokio::time::sleep_until(deadline).await;
}

/// Waits until `deadline`; without one for ever. Cancel safe.
pub async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The deadline of a [`timeout`] passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {0:?}")]
pub struct Elapsed(pub Duration);

/// Runs `future` for at most `limit`; then drops it.
#[expect(clippy::disallowed_methods, reason = "this is where time is read")]
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(limit, future).await.map_err(|_| Elapsed(limit))
}
