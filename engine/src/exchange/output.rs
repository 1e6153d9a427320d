//! The sending ends of one edge of one source subtask: deals rows to their destinations by key.
//!
//! Rows wait for company until a batch is full, the sender has nothing else to do, or
//! [`FLUSH_AFTER`] has passed. Progress and watermarks wait behind the rows that they speak of,
//! and never beyond a barrier; `Barrier` and `End` send everything at once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use weir_runtime::clock::{self, Instant};
use weir_runtime::sim::planted::{Planted, planted};
use weir_state::ids::Generation;

use crate::exchange::channel::SenderEnd;
use crate::exchange::error::{ChannelId, ExchangeError};
use crate::exchange::message::Message;
use crate::exchange::partition::Partition;
use crate::exchange::progress;
use crate::exchange::registry::Registry;
use crate::protocol::SplitProgress;
use crate::rows::Rows;
use crate::rows::key::Keys;

/// A batch goes when it has this many rows,
pub const BATCH_ROWS: usize = 4096;
/// or this many bytes,
pub const BATCH_BYTES: usize = 1 << 20;
/// or its first row has waited this long.
pub const FLUSH_AFTER: Duration = Duration::from_millis(2);

/// One keyed edge as its source subtask sees it.
#[derive(Clone, Debug)]
pub struct OutputEdge {
    /// Ordinal of the edge in the job's graph.
    pub edge: u32,
    /// This subtask.
    pub from: u32,
    /// Number of destination subtasks.
    pub width: u32,
    /// Places of the key columns; none: all rows have one key.
    pub key_columns: Vec<usize>,
    /// Number of the job's key groups.
    pub key_groups: u16,
}

/// The channels of one edge from one subtask to all destinations.
#[derive(Debug)]
pub struct OutputChannels {
    edge: OutputEdge,
    partition: Partition,
    destinations: Vec<Destination>,
    /// When what waits must go.
    flush_at: Option<Instant>,
}

impl OutputChannels {
    /// Waits until every destination has opened its channel.
    ///
    /// Errors: one did not in time, or a newer generation began.
    pub async fn open(
        registry: &Arc<Registry>,
        generation: Generation,
        edge: OutputEdge,
    ) -> Result<Self, ExchangeError> {
        let channel = |to| ChannelId { generation, edge: edge.edge, from: edge.from, to };
        let ends = try_join_all((0..edge.width).map(|to| registry.accept(channel(to)))).await?;
        let destinations = ends.into_iter().map(Destination::new).collect();
        let partition = Partition::new(edge.width, edge.key_groups);
        Ok(Self { edge, partition, destinations, flush_at: None })
    }

    /// Takes rows and deals them to their destinations; waits while a full batch has no credit.
    ///
    /// Not cancel safe: rows may be lost, so whoever drops the future must give up the subtask.
    pub async fn send(&mut self, rows: Rows) -> Result<(), ExchangeError> {
        if rows.is_empty() {
            return Ok(());
        }
        let edge = self.edge.edge;
        let deal = |cause| ExchangeError::Deal { edge, cause };
        let columns = self.edge.key_columns.iter();
        let columns: Vec<_> =
            columns.map(|column| Arc::clone(rows.batch.column(*column))).collect();
        let keys = Keys::encode(&columns, rows.len())
            .map_err(|cause| ExchangeError::Key { edge, cause })?;
        for (to, part) in self.partition.deal(&rows, keys.hashes()).map_err(deal)? {
            self.destinations[to].add(part);
        }
        let now = clock::now();
        let late = *self.flush_at.get_or_insert(now + FLUSH_AFTER) <= now;
        if late {
            return self.flush().await;
        }
        let full = self.destinations.iter_mut().filter(|destination| destination.is_full());
        try_join_all(full.map(|destination| destination.flush(edge))).await?;
        if self.destinations.iter().all(Destination::is_empty) {
            self.flush_at = None;
        }
        Ok(())
    }

    /// Sends `message` to every destination, behind all rows sent so far. Progress and watermarks
    /// go with the next flush, all else at once. Not cancel safe, as `send`.
    pub async fn broadcast(&mut self, message: Message) -> Result<(), ExchangeError> {
        match message {
            Message::Rows(rows) => return self.send(rows).await,
            Message::Progress(progress) => {
                for destination in &mut self.destinations {
                    destination.progressed(&progress);
                }
            }
            Message::Watermark(watermark_ms) => {
                for destination in &mut self.destinations {
                    destination.watermark_ms = destination.watermark_ms.max(Some(watermark_ms));
                }
            }
            Message::Barrier(_) | Message::End => {
                if !planted(Planted::BarrierOvertakesRows) || matches!(message, Message::End) {
                    self.flush().await?;
                }
                let all = self.destinations.iter_mut();
                try_join_all(all.map(|destination| destination.end.tell(message.clone()))).await?;
                return Ok(());
            }
        }
        let now = clock::now();
        if *self.flush_at.get_or_insert(now + FLUSH_AFTER) <= now {
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends all that waits. Call it when the subtask has nothing else to do. Not cancel safe.
    pub async fn flush(&mut self) -> Result<(), ExchangeError> {
        if self.flush_at.is_none() {
            return Ok(());
        }
        let edge = self.edge.edge;
        let all = self.destinations.iter_mut();
        try_join_all(all.map(|destination| destination.flush(edge))).await?;
        self.flush_at = None;
        Ok(())
    }

    /// When to call [`OutputChannels::flush`] at the latest, if anything waits.
    pub fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }
}

/// One destination, with what waits for it.
#[derive(Debug)]
struct Destination {
    end: SenderEnd,
    parts: Vec<Rows>,
    rows: usize,
    bytes: usize,
    progress: Option<SplitProgress>,
    watermark_ms: Option<i64>,
}

impl Destination {
    fn new(end: SenderEnd) -> Self {
        Self { end, parts: Vec::new(), rows: 0, bytes: 0, progress: None, watermark_ms: None }
    }

    fn add(&mut self, part: Rows) {
        self.rows += part.len();
        self.bytes += part.size_bytes();
        self.parts.push(part);
    }

    fn progressed(&mut self, later: &SplitProgress) {
        match &mut self.progress {
            Some(progress) => progress::merge(progress, later.clone()),
            none => *none = Some(later.clone()),
        }
    }

    fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.progress.is_none() && self.watermark_ms.is_none()
    }

    fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Rows first, then what is said about them.
    async fn flush(&mut self, edge: u32) -> Result<(), ExchangeError> {
        if planted(Planted::WatermarkBeforeRows) {
            self.flush_marks().await?;
        }
        if !self.parts.is_empty() {
            let rows = Rows::concat(&self.parts);
            let rows = rows.map_err(|cause| ExchangeError::Deal { edge, cause })?;
            let pieces =
                self.rows.div_ceil(BATCH_ROWS * 2).max(self.bytes.div_ceil(BATCH_BYTES * 2));
            self.parts.clear();
            (self.rows, self.bytes) = (0, 0);
            let piece_rows = rows.len().div_ceil(pieces.max(1)).max(1);
            let mut start = 0;
            while start < rows.len() {
                let end = rows.cut((start + piece_rows).min(rows.len()));
                self.end.send(rows.slice(start, end - start)).await?;
                start = end;
            }
        }
        self.flush_marks().await
    }

    async fn flush_marks(&mut self) -> Result<(), ExchangeError> {
        if let Some(progress) = self.progress.take() {
            self.end.tell(Message::Progress(progress)).await?;
        }
        if let Some(watermark_ms) = self.watermark_ms.take() {
            self.end.tell(Message::Watermark(watermark_ms)).await?;
        }
        Ok(())
    }
}
