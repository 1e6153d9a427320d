//! The cut at the barrier, and the future that acknowledges.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::Shard;
use super::background::Background;
use super::flush::bytes_of;
use crate::error::StateError;
use crate::ids::CheckpointId;
use crate::obsolete::Obsolete;
use crate::version::Version;
use crate::version::record::VersionRecord;

/// What a shard acknowledges for a checkpoint: everything that it names is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointedShard {
    /// The content at the barrier.
    pub version: VersionRecord,
    /// Bare names of objects that this shard wrote, that no acknowledgement ever named, and that
    /// nothing needs any more. Repeated until a checkpoint that carried them is
    /// [`Shard::completed`].
    pub unnamed: Vec<String>,
    /// Bytes flushed for this checkpoint: what was written since the last one.
    pub bytes_written: u64,
}

/// The uploads of a checkpoint. Borrows nothing from its shard.
///
/// Cancel safety: may be dropped; the flush goes on while the shard lives, and its files stay in
/// the live version.
#[must_use = "a checkpoint is not durable before this future is done"]
pub struct ShardCheckpoint(BoxFuture<'static, Result<CheckpointedShard, StateError>>);

impl Future for ShardCheckpoint {
    type Output = Result<CheckpointedShard, StateError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(cx)
    }
}

/// What was captured at the barrier.
struct Captured {
    version: Arc<Version>,
    next_seq: u64,
    /// Flushes that are not in the version, oldest first; the bytes of some count.
    flushes: Vec<(Background, bool)>,
    bytes_written: u64,
}

impl Shard {
    /// Cuts the content for `checkpoint`: freezes the memtable (a pointer swap) and starts its
    /// flush. The future is done when all that the content needs is durable.
    ///
    /// Once the future was done, the files that it names are the coordinator's to retire, whether
    /// or not a notification follows: the acknowledgement may have become a record.
    ///
    /// Errors of the future: a flush failed for good.
    pub fn checkpoint(&mut self, checkpoint: CheckpointId) -> ShardCheckpoint {
        self.freeze();
        let count = |frozen: &mut super::flush::Frozen| {
            let counts = !std::mem::replace(&mut frozen.is_counted, true);
            (frozen.flush.clone(), counts)
        };
        let captured = Captured {
            version: Arc::clone(&self.version),
            next_seq: self.next_seq,
            flushes: self.frozen.iter_mut().map(count).collect(),
            bytes_written: std::mem::take(&mut self.spilled_bytes),
        };
        let obsolete = Arc::clone(&self.writer.obsolete);
        ShardCheckpoint(captured.acknowledge(checkpoint, obsolete).boxed())
    }

    /// Says that the record of `checkpoint` is in the journal: what it reported as unnamed is not
    /// reported again.
    pub fn completed(&mut self, checkpoint: CheckpointId) {
        self.writer.obsolete.completed(checkpoint);
    }
}

impl Captured {
    async fn acknowledge(
        self,
        checkpoint: CheckpointId,
        obsolete: Arc<Obsolete>,
    ) -> Result<CheckpointedShard, StateError> {
        let mut version = Version::clone(&self.version);
        let mut bytes_written = self.bytes_written;
        for (flush, counts) in self.flushes {
            let views = flush.await?;
            version = version.with_flush(&views)?;
            if counts {
                bytes_written += bytes_of(&views);
            }
        }
        version.views().iter().for_each(|view| view.table.set_named());
        let record = VersionRecord { next_seq: self.next_seq, ..version.to_record() };
        // Only now: what this checkpoint names is not among the unnamed.
        let unnamed = obsolete.report(checkpoint);
        Ok(CheckpointedShard { version: record, unnamed, bytes_written })
    }
}
