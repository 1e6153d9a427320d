//! Aggregates: select items over count, sum, min, max and avg, with our own states.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Fields, Schema};

use crate::error::{GroupError, ItemError, RowError, StateError};

/// Compiled items of an aggregate step.
#[derive(Clone, Debug)]
pub struct Aggregates {
    fields: Fields,
}

/// The arguments of all aggregate calls, evaluated for one batch.
#[derive(Clone, Debug)]
pub struct Inputs {}

/// What one group has seen so far.
#[derive(Clone, Debug, PartialEq)]
pub struct State {}

/// Compiles `items` for batches of `schema`; reports every item that is refused.
pub fn compile_aggregates(
    _schema: &Schema,
    _items: &[String],
) -> Result<Aggregates, Vec<ItemError>> {
    unimplemented!()
}

impl Aggregates {
    /// Names and types of the results, one field per item.
    pub fn output_fields(&self) -> &Fields {
        &self.fields
    }

    /// What is computed, in words that do not change with spaces, library or release: part of the
    /// step's signature.
    pub fn canonical(&self) -> String {
        unimplemented!()
    }

    /// Evaluates the arguments of all calls. `batch` must have the schema compiled for.
    pub fn inputs(&self, _batch: &RecordBatch) -> Result<Inputs, RowError> {
        unimplemented!()
    }

    /// The state of a group without rows.
    pub fn new_state(&self) -> State {
        unimplemented!()
    }

    /// Adds one row to a group.
    pub fn update(&self, _state: &mut State, _inputs: &Inputs, _row: usize) {
        unimplemented!()
    }

    /// Adds every row `i` to the group `states[groups[i]]`.
    ///
    /// `groups` must be as long as the batch of `inputs`.
    pub fn update_many(&self, _states: &mut [State], _inputs: &Inputs, _groups: &[u32]) {
        unimplemented!()
    }

    /// Adds all rows that `from` has seen to `into`.
    pub fn merge(&self, _into: &mut State, _from: &State) {
        unimplemented!()
    }

    /// Appends the state's bytes (docs/design/0006). Equal sets of rows give equal bytes.
    pub fn encode(&self, _state: &State, _out: &mut Vec<u8>) {
        unimplemented!()
    }

    /// Reads what [`Aggregates::encode`] wrote; all of `bytes` must be one state.
    pub fn decode(&self, _bytes: &[u8]) -> Result<State, StateError> {
        unimplemented!()
    }

    /// The results of all groups, one array per item, in the order of `states`.
    pub fn finish(&self, _states: &[State]) -> Result<Vec<ArrayRef>, GroupError> {
        unimplemented!()
    }
}
