//! The `table` sink: a keyed step whose state is the current rows by key, written as snapshots.
//!
//! - `fold.rs` — what is kept of a key's rows. Pure; start reading here.
//! - `snapshot.rs` — all rows of a subtask as one part of a snapshot.
//! - this file — the task around them: inputs, state, barriers.
//!
//! Which checkpoints are snapshots is the coordinator's decision, which comes with the trigger: a
//! snapshot's parts have to be of one checkpoint, and no subtask can know what the others do.
//!
//! What must stay true: a part holds the rows of all batches before its barrier and of none after
//! it. The walk over the state begins at the barrier, so what comes later does not show in it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use arrow::array::ArrayRef;
use bytes::Bytes;
use futures::future::try_join;
use prost::Message as _;
use weir_state::Access;
use weir_state::ids::{CheckpointId, KeyGroup};
use weir_state::key::{StateId, StateKey};
use weir_state::shard::Shard;

use self::fold::{FoldError, Held};
use self::snapshot::Snapshots;
use super::alignment::Alignment;
use super::context::Context;
use super::error::StageError;
use super::names::{RowNames, key_text};
use super::orders::Orders;
use crate::exchange::InputGate;
use crate::exchange::message::Message;
use crate::rows::key::Keys;
use crate::rows::{Kind, Rows};

pub(crate) mod fold;
pub(crate) mod snapshot;

/// The state that holds what is kept of a key.
const ROWS: StateId = StateId(0);

/// One subtask of a table.
pub(crate) struct TableTask {
    pub(crate) context: Context,
    /// Index of the step in the job.
    pub(crate) step: usize,
    /// Its place among the job's tables.
    pub(crate) number: u32,
    /// Whether its rows are a changelog; else they are upserts.
    pub(crate) changelog: bool,
    /// Whether a row may come anew though the one before was not taken back.
    pub(crate) forgets: bool,
    /// Key groups of the job.
    pub(crate) groups: u16,
    pub(crate) shard: Shard,
    pub(crate) gate: InputGate,
    pub(crate) alignment: Alignment,
    pub(crate) snapshots: Snapshots,
    pub(crate) names: Arc<RowNames>,
    /// Channels that have not ended.
    pub(crate) open: usize,
    /// The checkpoint whose barriers have come from everywhere; nothing is read until it is cut.
    pub(crate) cutting: Option<CheckpointId>,
}

impl TableTask {
    /// Runs until it fails.
    pub(crate) async fn run(mut self) -> StageError {
        match self.work().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn work(&mut self) -> Result<Infallible, StageError> {
        let orders = self.context.orders();
        self.obey(orders);
        loop {
            let orders = self.context.orders();
            // A barrier may come before the trigger that says what is to be written.
            if let Some(id) = self.cutting.filter(|id| orders.triggered >= *id) {
                self.cutting = None;
                self.cut(id, orders).await?;
            }
            let takes_input = self.cutting.is_none();
            tokio::select! {
                biased;
                orders = self.context.ordered() => self.obey(orders),
                input = self.gate.next(), if takes_input => {
                    let (channel, message) =
                        input.map_err(|cause| StageError::exchange(self.id(), cause))?;
                    self.received(channel, message).await?;
                }
            }
            let kept = self.shard.maintain();
            kept.map_err(|cause| self.state_error("write state", cause))?;
        }
    }

    fn id(&self) -> &str {
        &self.snapshots.writer.step
    }

    fn state_error(&self, what: &'static str, cause: weir_state::StateError) -> StageError {
        StageError::State { step: self.id().to_owned(), what, cause }
    }

    fn obey(&mut self, orders: Orders) {
        self.alignment.abort(orders.aborted);
        self.cutting = self.cutting.filter(|id| *id > orders.aborted);
        self.sync_gate();
        self.shard.completed(orders.completed);
    }

    /// Reads those channels that the alignment does not hold.
    fn sync_gate(&mut self) {
        self.gate.unblock_all();
        for channel in 0..self.gate.inputs().len() {
            if self.alignment.is_held(channel) {
                self.gate.block(channel);
            }
        }
    }

    async fn received(&mut self, channel: usize, message: Message) -> Result<(), StageError> {
        match message {
            Message::Rows(rows) => return self.rows(&rows).await,
            Message::Barrier(id) => {
                self.cutting = self.alignment.barrier(channel, id);
                self.sync_gate();
            }
            Message::End => {
                self.open -= 1;
                if self.open == 0 {
                    self.context.input_done().await;
                }
            }
            // Nothing here waits for time.
            Message::Progress(_) | Message::Watermark(_) => {}
        }
        Ok(())
    }

    async fn rows(&mut self, rows: &Rows) -> Result<(), StageError> {
        let room = self.shard.make_room().await;
        room.map_err(|cause| self.state_error("write state", cause))?;
        self.context.counters().step(self.step).add_in(rows.len());
        let bug = |error| self.names.bug(&self.snapshots.writer.step, &error);
        let key: Vec<ArrayRef> =
            self.snapshots.key.iter().map(|place| Arc::clone(rows.batch.column(*place))).collect();
        let keys = Keys::encode(&key, rows.len()).map_err(bug)?;
        let values = Keys::encode(rows.batch.columns(), rows.len()).map_err(bug)?;

        let (mut first, mut entry_of_row) = (Vec::new(), Vec::with_capacity(rows.len()));
        let mut known: HashMap<&[u8], usize> = HashMap::new();
        for row in 0..rows.len() {
            let entry = *known.entry(keys.key(row)).or_insert_with(|| {
                first.push(row);
                first.len() - 1
            });
            entry_of_row.push(entry);
        }
        let state_key = |row: &usize| {
            let group = KeyGroup::of_hash(keys.hashes()[*row], self.groups);
            StateKey::new(group, ROWS, keys.key(*row), &[])
        };
        let state_keys: Vec<StateKey> = first.iter().map(state_key).collect();
        let stored = match self.shard.multi_get(&state_keys) {
            Access::Ready(stored) => stored,
            Access::Pending(read) => {
                read.await.map_err(|cause| self.state_error("read state", cause))?
            }
        };
        let mut held = Vec::with_capacity(stored.len());
        for (row, stored) in first.iter().zip(&stored) {
            held.push(match stored {
                Some(stored) => {
                    Held::decode(stored).map_err(|error| self.damaged(&key, *row, &error))?
                }
                None => Held::nothing(),
            });
        }
        for (row, entry) in entry_of_row.iter().enumerate() {
            let changed = self.fold(&mut held[*entry], rows, row, values.key(row));
            changed.map_err(|error| self.damaged(&key, row, &error))?;
        }
        for (state_key, held) in state_keys.iter().zip(&held) {
            match held.encode() {
                Some(value) => self.shard.put(state_key, value),
                None => self.shard.delete(state_key),
            }
        }
        Ok(())
    }

    fn fold(
        &self,
        held: &mut Held,
        rows: &Rows,
        row: usize,
        value: &[u8],
    ) -> Result<(), FoldError> {
        let value = Bytes::copy_from_slice(value);
        if self.changelog {
            let number = rows.kinds.as_ref().map_or(0, |kinds| kinds.value(row));
            let kind = Kind::of(number).ok_or(FoldError::Damaged("a row has no kind"))?;
            if self.forgets && kind == Kind::Insert {
                // The row before it was of a group that ended without a word.
                *held = Held::nothing();
            }
            held.change(kind, value);
            return Ok(());
        }
        let time_ms = rows.times.as_ref().map(|times| times.value(row));
        held.upsert(time_ms, value, &self.snapshots.columns)
    }

    fn damaged(&self, key: &[ArrayRef], row: usize, error: &FoldError) -> StageError {
        StageError::StateValue {
            step: self.id().to_owned(),
            key: key_text(key, row),
            message: error.to_string(),
        }
    }

    async fn cut(&mut self, id: CheckpointId, orders: Orders) -> Result<(), StageError> {
        let is_snapshot = orders.triggered == id && orders.tables.holds(self.number);
        let scan = is_snapshot.then(|| self.shard.scan());
        let frozen = self.shard.checkpoint(id);
        let (snapshots, step) = (self.snapshots.clone(), self.id().to_owned());
        let mut ack = self.context.ack(id);
        let uploaded = async move {
            let state = async {
                let what = "write state";
                frozen.await.map_err(|cause| StageError::State { step, what, cause })
            };
            let pieces = async {
                match scan {
                    Some(scan) => snapshots.write(id, scan).await,
                    None => Ok(Vec::new()),
                }
            };
            let (state, pieces) = try_join(state, pieces).await?;
            ack.version = state.version.encode_to_vec().into();
            ack.unnamed = state.unnamed;
            ack.state_bytes_written = state.bytes_written;
            ack.pieces = pieces;
            Ok(ack)
        };
        self.context.acknowledge(uploaded).await;
        Ok(())
    }
}
