//! Spawning: the only file that calls `tokio::spawn`.
//!
//! A task belongs to the simulated process of the task that spawned it, if there is one, so that
//! killing the process ends exactly its tasks.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::sim;

/// A running task. Dropping it aborts the task; `detach` lets it run on.
#[must_use = "dropping a task aborts it"]
#[derive(Debug)]
pub struct Task<T> {
    handle: Option<tokio::task::JoinHandle<T>>,
}

/// Why a task gave no result.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The task panicked; the message is the panic's.
    #[error("task panicked: {0}")]
    Panicked(String),
    /// The task was aborted, or its simulated process killed.
    #[error("task was aborted")]
    Aborted,
}

/// Starts `future` as a task of the current (simulated) process.
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Task { handle: Some(sim::spawn_in_current(future)) }
}

/// Starts `future` as a task of no process: what outlives every process, such as a store.
#[expect(clippy::disallowed_methods, reason = "this is where spawning lives")]
pub(crate) fn spawn_unowned<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

/// Runs blocking work on a thread of its own, or at once under simulation.
///
/// Errors: [`JoinError`] as for a task. Cancel safety: the work goes on when the future is dropped.
#[expect(clippy::disallowed_methods, reason = "this is where spawning lives")]
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if sim::is_active() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(JoinError::from)
}

impl<T> Task<T> {
    /// Lets the task run on without anyone waiting for it.
    pub fn detach(mut self) {
        self.handle = None;
    }

    /// Asks the task to end at its next await point.
    pub fn abort(&self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.handle {
            Some(handle) => Pin::new(handle).poll(cx).map_err(JoinError::from),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort();
    }
}

impl From<tokio::task::JoinError> for JoinError {
    fn from(error: tokio::task::JoinError) -> Self {
        if error.is_cancelled() {
            return Self::Aborted;
        }
        let panic = error.into_panic();
        let text = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Self::Panicked(text)
    }
}
