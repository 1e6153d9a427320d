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
use weir_state::key::{StateKey, Timer};
use weir_state::shard::{DueTimers, Shard};
use weir_state::{Access, Get};

use self::definition::Definition;
use self::operator::Operator;
use self::results::Change;
use self::unit::{Entry, Unit, UnitRead};
use super::admission::Admission;
use super::epochs::Epochs;
use super::error::StageError;
use super::names::RowNames;
use crate::pipeline::spec::Order;
use crate::rows::Rows;

mod applying;
mod arrivals;
#[expect(dead_code, reason = "the steps that keep rows are built on it")]
pub(crate) mod by_row;
pub(crate) mod definition;
mod firing;
mod group;
pub(crate) mod operator;
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

/// Whether a subtask with so much in flight may take more input.
fn has_room(rows: usize, bytes: usize, epochs: &Epochs, order: Order) -> bool {
    rows < ROWS_IN_FLIGHT_MAX && bytes < BYTES_IN_FLIGHT_MAX && epochs.open() <= epochs_max(order)
}

/// The state of one subtask of an aggregate, and what is under way in it.
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
}

impl Operator for Keyed {
    type Parked = UnitState;

    fn step(&self) -> usize {
        self.definition.step
    }

    fn id(&self) -> &str {
        &self.definition.id
    }

    fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    fn epochs(&mut self) -> &mut Epochs {
        &mut self.epochs
    }

    fn has_room(&self) -> bool {
        has_room(self.rows_in_flight, self.bytes_in_flight, &self.epochs, self.order)
    }

    fn is_drained(&self) -> bool {
        self.reads.is_empty() && self.admission.is_idle()
    }

    fn parked(&self) -> usize {
        self.reads.len()
    }

    /// An aggregate has one input.
    fn arrive(&mut self, _input: usize, rows: &Rows, names: &RowNames) -> Result<(), StageError> {
        self.take(rows, names)
    }

    async fn read(&mut self) -> UnitState {
        match self.reads.next().await {
            Some((unit, values)) => UnitState { unit, values },
            None => std::future::pending().await,
        }
    }

    fn unpark(&mut self, parked: UnitState) -> Result<(), StageError> {
        let UnitState { unit, values } = parked;
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

    fn take_changes(&mut self, names: &RowNames) -> Result<Option<Rows>, StageError> {
        self.changed_rows(names)
    }

    fn take_late(&mut self) -> usize {
        std::mem::take(&mut self.late)
    }

    fn due_at(&self, watermark: i64) -> Option<i64> {
        self.definition.due_at(watermark)
    }

    fn next_by_clock(&self) -> Option<i64> {
        let time = self.definition.goes_by_clock().then(|| self.shard.next_timer_ms());
        time.filter(|time| *time < i64::MAX)
    }

    fn claim(&mut self, due: DueTimers) -> DueTimers {
        self.claimed(due)
    }

    fn values_of(&self, timers: &[Timer]) -> Get {
        let keys: Vec<StateKey> = timers.iter().map(|timer| self.state_key(timer)).collect();
        self.shard.multi_get(&keys)
    }

    fn fire(
        &mut self,
        timers: &[Timer],
        values: &[Option<Bytes>],
        time_ms: i64,
        names: &RowNames,
    ) -> Result<Option<Rows>, StageError> {
        self.fired(timers, values, time_ms, names).map(Some)
    }

    fn forwarded(&self, watermark: i64) -> i64 {
        self.definition.forwarded(watermark)
    }
}

/// A parked unit whose state has come.
pub(crate) struct UnitState {
    unit: Unit,
    values: Result<Vec<Option<Bytes>>, weir_state::StateError>,
}
