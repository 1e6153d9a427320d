//! Channels between subtasks: (edge, source subtask, destination subtask) with credit.
//!
//! A stage instance has one [`InputGate`] over all channels into it, and one [`OutputChannels`]
//! for each edge that leaves it. A channel is a queue when both ends are on one worker, else a
//! connection that the receiver opens; the [`Registry`] brings the two ends together.
//!
//! - `message.rs` — what flows.
//! - `gate.rs`, `inbox.rs` — receiving: fair, in channel order, with blocked channels.
//! - `output.rs`, `partition.rs`, `channel.rs` — sending: by key, in batches, within credit.
//! - `registry.rs` — where receivers' requests meet senders.
//! - `credit.rs` — how much may be on its way.
//! - `codec.rs` — rows as bytes.
//! - `progress.rs`, `watermark.rs` — from the progress of splits to event time.
//!
//! # What must stay true
//!
//! 1. A channel is in order and loses nothing: it delivers all, or ends with an error.
//! 2. What is on its way in a channel is within its window, or is one batch.
//! 3. Nothing but rows needs credit, so a barrier is never stuck behind a blocked channel's
//!    sender.
//! 4. Progress and watermarks never overtake the rows that they speak of, nor pass a barrier.

mod channel;
pub(crate) mod codec;
mod credit;
mod error;
mod gate;
mod inbox;
pub mod message;
mod output;
mod partition;
mod progress;
mod registry;
mod watermark;

pub use codec::{BATCH_BYTES_MAX, CodecError};
pub use credit::{Cost, WINDOW_MAX, WINDOW_MIN, WINDOW_START};
pub use error::{ChannelId, ExchangeError, Remedy};
pub use gate::{Input, InputGate};
pub use output::{BATCH_BYTES, BATCH_ROWS, FLUSH_AFTER, OutputChannels, OutputEdge};
pub use registry::{OPEN_WAIT, Registry};
pub use watermark::{MinWatermark, SourceWatermark};

#[cfg(test)]
mod tests;
