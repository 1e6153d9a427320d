//! A running stage task, named, so that its end can be told.

use std::pin::Pin;
use std::task::{Context, Poll};

use weir_runtime::task::{JoinError, Task};

use super::error::StageError;
use super::orders::TaskId;

/// A stage task, named.
#[derive(Debug)]
pub(crate) struct StageTask {
    /// Which one.
    pub(crate) id: TaskId,
    /// Head step of its stage.
    pub(crate) step: String,
    /// Runs until it fails or is stopped.
    pub(crate) task: Task<StageError>,
}

impl Future for StageTask {
    type Output = Option<StageError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx).map(|ended| match ended {
            Ok(error) => Some(error),
            Err(JoinError::Aborted) => None,
            Err(JoinError::Panicked(message)) => {
                Some(StageError::Bug { step: self.step.clone(), subtask: self.id.subtask, message })
            }
        })
    }
}
