//! What can go wrong in a channel.

use std::fmt;
use std::time::Duration;

use arrow::error::ArrowError;
use weir_state::ids::Generation;

use crate::exchange::codec::CodecError;
use crate::network::Unreachable;
use crate::protocol::OpenChannel;
use crate::rows::key::KeyError;

/// Names a channel within its incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelId {
    /// Generation that the channel belongs to.
    pub generation: Generation,
    /// Ordinal of the edge in the job's graph.
    pub edge: u32,
    /// Source subtask.
    pub from: u32,
    /// Destination subtask.
    pub to: u32,
}

impl ChannelId {
    /// The channel that a receiver asks for.
    pub(crate) fn of(open: &OpenChannel) -> Self {
        let generation = Generation(open.generation);
        Self { generation, edge: open.edge, from: open.from, to: open.to }
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, edge, from, to } = self;
        write!(f, "edge {edge} from subtask {from} to subtask {to} of generation {generation}")
    }
}

/// What can go wrong in a channel.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The sender's worker can't be dialled.
    #[error("cannot open {channel}")]
    Unreachable {
        /// Channel.
        channel: ChannelId,
        /// Cause.
        #[source]
        cause: Unreachable,
    },
    /// The other end does not take part: another incarnation, an old generation, a wrong token.
    #[error("{channel} was refused: {reason}")]
    Refused {
        /// Channel.
        channel: ChannelId,
        /// The other end's words.
        reason: String,
    },
    /// The other end did not come in time.
    #[error("{channel}: the other end did not open it within {waited:?}")]
    NotOpened {
        /// Channel.
        channel: ChannelId,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The connection broke, or the other end went away before its end of input.
    #[error("{channel} broke before the end of its input")]
    Disconnected {
        /// Channel.
        channel: ChannelId,
    },
    /// What came is not what the protocol says.
    #[error("{channel}: damaged message")]
    Damaged {
        /// Channel.
        channel: ChannelId,
        /// Cause.
        #[source]
        cause: CodecError,
    },
    /// Rows can't be sent as they are. Sending them again would fail again.
    #[error("{channel}: cannot send rows")]
    Unsendable {
        /// Channel.
        channel: ChannelId,
        /// Cause.
        #[source]
        cause: CodecError,
    },
    /// The key of an edge can't be computed. Trying again would fail again.
    #[error("edge {edge}: cannot compute the key")]
    Key {
        /// Edge.
        edge: u32,
        /// Cause.
        #[source]
        cause: KeyError,
    },
    /// Rows can't be dealt to their destinations. Trying again would fail again.
    #[error("edge {edge}: cannot deal rows to subtasks")]
    Deal {
        /// Edge.
        edge: u32,
        /// Cause.
        #[source]
        cause: ArrowError,
    },
}

/// What follows from an [`ExchangeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A peer is gone: start a new generation from the last checkpoint.
    NewGeneration,
    /// The same rows would fail again: fail the job.
    FailJob,
}

impl ExchangeError {
    /// What the caller should do.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unsendable { .. } | Self::Key { .. } | Self::Deal { .. } => Remedy::FailJob,
            _ => Remedy::NewGeneration,
        }
    }
}
