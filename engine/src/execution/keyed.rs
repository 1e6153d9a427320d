//! A keyed step: windows of aggregates by key, with asynchronous access to their state.
//!
//! The rows of a batch are combined by (key, window) before state is touched. What remains is a
//! *unit*: if all its state is in memory it is applied on the spot, else it parks and others go on.
//! Rows of a key that a parked unit holds wait in order and then start together.
//!
//! - `unit.rs` — entries and units. Pure; start reading here.
//! - `arrivals.rs` — from a batch of rows to entries.
//! - `firing.rs` — from due timers to result rows.
//! - `task.rs` — the task around it: inputs, watermarks, barriers.
//!
//! What must stay true:
//! 1. Rows of one key are applied in the order in which they arrived.
//! 2. A window is written once: its value and its timer leave the state together with its result.
//! 3. Whether a row is late is decided at its arrival, by the watermark that had arrived then. So a
//!    window that is due has no rows in flight, and its firing needs no admission.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use weir_state::shard::Shard;
use weir_state::{Access, Get};

use self::definition::Definition;
use self::unit::{Entry, Unit, UnitRead};
use super::admission::Admission;
use super::epochs::Epochs;
use super::error::StageError;

mod arrivals;
pub(crate) mod definition;
mod firing;
pub(crate) mod task;
mod unit;

/// Rows of units that are parked or wait for their key, per subtask.
pub(crate) const ROWS_IN_FLIGHT_MAX: usize = 64 * 1024;
/// Keys and partial values of those, per subtask.
pub(crate) const BYTES_IN_FLIGHT_MAX: usize = 16 << 20;
/// Watermarks that wait for units before them, per subtask.
pub(crate) const EPOCHS_MAX: usize = 256;

/// Whether rows of a later epoch start while earlier ones wait for state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// They do; the watermark follows when it can. The default of built-in steps.
    #[default]
    Relaxed,
    /// At a watermark everything before it ends first.
    #[allow(dead_code, reason = "user functions need it; until then tests compare")]
    Strict,
}

impl Order {
    fn epochs_max(self) -> usize {
        match self {
            Self::Relaxed => EPOCHS_MAX,
            Self::Strict => 1,
        }
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
            && self.epochs.open() <= self.order.epochs_max()
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
        self.apply(&unit, &values)?;
        let mut next = Unit::default();
        for key in unit.keys {
            let waited = self.admission.end(&key);
            if !waited.is_empty() {
                next.add_key(key, waited, &self.definition.aggregates);
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
            Access::Ready(values) => self.apply(&unit, &values),
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
        let keys: Vec<_> = unit.entries.iter().map(|entry| entry.state_key.clone()).collect();
        self.shard.multi_get(&keys)
    }

    /// Writes the new values of a unit. Its rows are done.
    fn apply(&mut self, unit: &Unit, values: &[Option<Bytes>]) -> Result<(), StageError> {
        for (entry, value) in unit.entries.iter().zip(values) {
            self.apply_entry(entry, value.as_ref())?;
        }
        for (epoch, rows) in &unit.arrived {
            self.epochs.done(*epoch, *rows);
            self.rows_in_flight -= rows;
        }
        self.bytes_in_flight -= unit.bytes;
        Ok(())
    }

    fn apply_entry(&mut self, entry: &Entry, value: Option<&Bytes>) -> Result<(), StageError> {
        let aggregates = &self.definition.aggregates;
        self.scratch.clear();
        match value {
            None => {
                let time = self.definition.tumble.closes_at(entry.window);
                let namespace = entry.window.namespace();
                self.shard.set_timer(entry.state_key.group(), time, &entry.key, &namespace);
                aggregates.encode(&entry.partial, &mut self.scratch);
            }
            Some(bytes) => {
                let mut state = aggregates
                    .decode(bytes)
                    .map_err(|error| self.definition.value_error(&entry.key, &error))?;
                aggregates.merge(&mut state, &entry.partial);
                aggregates.encode(&state, &mut self.scratch);
            }
        }
        self.shard.put(&entry.state_key, Bytes::copy_from_slice(&self.scratch));
        Ok(())
    }
}

/// A parked unit whose state has come.
pub(crate) struct UnitState {
    unit: Unit,
    values: Result<Vec<Option<Bytes>>, weir_state::StateError>,
}
