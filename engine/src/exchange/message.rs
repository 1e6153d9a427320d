//! What flows through a channel, in order.

use weir_state::ids::CheckpointId;

use crate::protocol::SplitProgress;
use crate::rows::Rows;

/// One message of a channel. A barrier overtakes nothing; watermarks never coalesce across it.
#[expect(clippy::large_enum_variant, reason = "nearly all messages are rows, a batch each")]
#[derive(Clone, Debug)]
pub enum Message {
    /// Rows.
    Rows(Rows),
    /// From a source stage: progress of its splits, from which the receiver makes the watermark.
    Progress(SplitProgress),
    /// From a keyed stage: no row with a time below this (milliseconds) will come.
    Watermark(i64),
    /// The marker that cuts a checkpoint.
    Barrier(CheckpointId),
    /// End of a bounded input; only barriers follow.
    End,
}
