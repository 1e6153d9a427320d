//! Sinks: rows are staged, listed in the checkpoint's record, and published after it.

use async_trait::async_trait;
use futures::future::BoxFuture;
use weir_state::ids::CheckpointId;

use crate::protocol::Piece;
use crate::rows::Rows;

/// One subtask's end of a sink step.
#[async_trait]
pub trait SinkWriter: Send {
    /// Takes rows in order. Not cancel safe.
    async fn write(&mut self, rows: &Rows) -> Result<(), SinkError>;
    /// Cuts at a barrier: all rows written so far belong to `checkpoint`. Never blocks; the future
    /// ends when they are staged durably and may run beside later writes.
    fn cut(&mut self, checkpoint: CheckpointId) -> BoxFuture<'static, Result<Vec<Piece>, SinkError>>;
}

/// What can go wrong while writing a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The store refuses or does not answer.
    #[error("{step}: cannot write {object}")]
    Store {
        /// Step.
        step: String,
        /// Object.
        object: String,
        /// Cause.
        #[source]
        cause: object_store::Error,
    },
    /// A value can't be written in the format.
    #[error("{step}: {what}")]
    Value {
        /// Step.
        step: String,
        /// What and why.
        what: String,
    },
}
