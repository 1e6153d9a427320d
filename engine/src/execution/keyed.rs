//! A keyed step: aggregates by key, in windows or none, with asynchronous access to their state.
//!
//! The rows of a batch are combined by (key, window) before state is touched; sessions and groups
//! without a window have one value per key. What remains is a
//! *unit*: if all its state is in memory it is applied on the spot, else it parks and others go on.
//! Rows of a key that a parked unit holds wait in order and then start together.
//!
//! - `unit.rs` — entries and units. Pure; start reading here.
//! - `arrivals.rs` — from a batch of rows to entries.
//! - `applying.rs` — entries and stored values to new values. `sessions.rs`, `group.rs` — of which
//!   kinds those are.
//! - `firing.rs` — from due timers to what closes. `results.rs` — rows of results and of changes.
//! - `task.rs` — the task around it: inputs, watermarks, barriers.
//!
//! What must stay true:
//! 1. Rows of one key are applied in the order in which they arrived.
//! 2. A window is written once: its value and its timer leave the state together with its result.
//! 3. Whether a row is late, a session closed for it or a group over is decided by the watermark that
//!    had arrived when it did. So a tumbling or hopping window that is due has no rows in flight, and
//!    its firing needs no admission; all other timers run while their key is held.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use weir_runtime::sim::planted::{Planted, planted};
use weir_state::shard::Shard;
use weir_state::{Access, Get};

use self::definition::Definition;
use self::results::Change;
use self::unit::{Entry, Unit, UnitRead};
use super::admission::Admission;
use super::epochs::Epochs;
use super::error::StageError;
use crate::pipeline::spec::Order;

mod applying;
mod arrivals;
pub(crate) mod definition;
mod firing;
mod group;
mod results;
mod sessions;
pub(crate) mod task;
#[cfg(test)]
mod tests;
mod unit;

/// Rows of units that are parked or wait for their key, per subtask.
pub(crate) const ROWS_IN_FLIGHT_MAX: usize = 64 * 1024;
/// Keys and partial values of those, per subtask.
pub(crate) const BYTES_IN_FLIGHT_MAX: usize = 16 << 20;
/// Watermarks that wait for units before them, per subtask.
pub(crate) const EPOCHS_MAX: usize = 256;

/// Epochs that may be open at a time.
fn epochs_max(order: Order) -> usize {
    match order {
        Order::Relaxed => EPOCHS_MAX,
        Order::Strict if planted(Planted::StrictRunsAhead) => EPOCHS_MAX,
        Order::Strict => 1,
    }
}

/// The state of one subtask of a keyed step, and what is under way in it.
pub(crate) struct Keyed {
    definition: Definition,
    shard: Shard,
    order: Order,
    admission: Admission<Entry>,
    epochs: Epochs,
    reads: FuturesUnordered<UnitRead>,
    rows_in_flight: usize,
    bytes_in_flight: usize,
    /// Changes of results that were not written yet.
    changes: Vec<Change>,
    /// Late rows that were not counted yet.
    late: usize,
    /// Reused for encoding values.
    scratch: Vec<u8>,
}

impl Keyed {
    /// Over an open shard, with `watermark` as passed before.
    pub(crate) fn new(definition: Definition, shard: Shard, order: Order, watermark: i64) -> Self {
        Self {
            definition,
            shard,
            order,
            admission: Admission::new(),
            epochs: Epochs::new(watermark),
            reads: FuturesUnordered::new(),
            rows_in_flight: 0,
            bytes_in_flight: 0,
            changes: Vec::new(),
            late: 0,
            scratch: Vec::new(),
        }
    }

    /// What the step is.
    pub(crate) fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The shard, for checkpoints and upkeep.
    pub(crate) fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// The watermarks of the input.
    pub(crate) fn epochs(&mut self) -> &mut Epochs {
        &mut self.epochs
    }

    /// Whether more input may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.rows_in_flight < ROWS_IN_FLIGHT_MAX
            && self.bytes_in_flight < BYTES_IN_FLIGHT_MAX
            && self.epochs.open() <= epochs_max(self.order)
    }

    /// Whether no unit is under way.
    pub(crate) fn is_drained(&self) -> bool {
        self.reads.is_empty() && self.admission.is_idle()
    }

    /// Units that wait for their state.
    pub(crate) fn parked(&self) -> usize {
        self.reads.len()
    }

    /// Waits until a parked unit has its state. Cancel safe; hand it to [`Keyed::unpark`].
    pub(crate) async fn read(&mut self) -> UnitState {
        match self.reads.next().await {
            Some((unit, values)) => UnitState { unit, values },
            None => std::future::pending().await,
        }
    }

    /// Applies a unit that was parked, and starts what waited for its keys.
    pub(crate) fn unpark(&mut self, state: UnitState) -> Result<(), StageError> {
        let UnitState { unit, values } = state;
        let values = values.map_err(|cause| self.definition.state_error("read state", cause))?;
        let keys = self.apply(unit, &values)?;
        let mut next = Unit::default();
        for key in keys {
            let waited = self.admission.end(&key);
            if !waited.is_empty() {
                next.add_key(key, waited, self.definition.joining());
            }
        }
        self.start(next)
    }

    /// Starts a unit all of whose keys are free.
    fn start(&mut self, unit: Unit) -> Result<(), StageError> {
        if unit.entries.is_empty() {
            return Ok(());
        }
        match self.get(&unit) {
            Access::Ready(values) => self.apply(unit, &values).map(|_| ()),
            Access::Pending(read) => {
                for key in &unit.keys {
                    self.admission.start(key.clone());
                }
                self.reads.push(UnitRead::new(unit, read));
                Ok(())
            }
        }
    }

    fn get(&self, unit: &Unit) -> Get {
        self.shard.multi_get(unit.entries.iter().map(|entry| &entry.state_key))
    }

    /// Writes the new values of a unit; gives its keys. Its rows are done.
    fn apply(&mut self, unit: Unit, values: &[Option<Bytes>]) -> Result<Vec<Bytes>, StageError> {
        for (entry, value) in unit.entries.into_iter().zip(values) {
            self.apply_entry(entry, value.as_ref())?;
        }
        for (epoch, rows) in &unit.arrived {
            self.epochs.done(*epoch, *rows);
            self.rows_in_flight -= rows;
        }
        self.bytes_in_flight -= unit.bytes;
        Ok(unit.keys)
    }

    /// How many rows were found late since the last call.
    pub(crate) fn take_late(&mut self) -> usize {
        std::mem::take(&mut self.late)
    }
}

/// A parked unit whose state has come.
pub(crate) struct UnitState {
    unit: Unit,
    values: Result<Vec<Option<Bytes>>, weir_state::StateError>,
}
