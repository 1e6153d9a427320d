//! Aggregates: select items over count, sum, min, max and avg, with our own states.
//!
//! An item is a scalar expression over aggregate calls (`sum(a) / count(*) as mean`). Compiling
//! pulls the calls out: each gets a slot in the state, and what is left of the item is compiled
//! over their results.
//!
//! - `compile.rs` — items to calls and expressions. `call.rs` — what one call does.
//! - `state.rs` — what a group has seen. `exact_sum.rs` — sums of floats. `encode.rs` — bytes.

mod call;
mod compile;
mod encode;
mod exact_sum;
mod state;

use std::slice;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Fields, SchemaRef};

use self::call::Call;
pub use self::compile::compile_aggregates;
pub use self::state::State;
use crate::error::{GroupError, RowError, StateError};
use crate::scalar::{self, Compiled};

/// Compiled items of an aggregate step.
#[derive(Clone, Debug)]
pub struct Aggregates {
    fields: Fields,
    canonical: String,
    calls: Vec<AggregateCall>,
    /// Columns of the calls' results.
    results: SchemaRef,
    /// What each item makes of the results.
    items: Vec<Compiled>,
}

#[derive(Clone, Debug)]
struct AggregateCall {
    call: Call,
    argument: Option<Compiled>,
    /// As the user wrote it.
    text: String,
}

/// The arguments of all aggregate calls, evaluated for one batch.
#[derive(Clone, Debug)]
pub struct Inputs {
    arguments: Vec<Option<ArrayRef>>,
}

impl Aggregates {
    /// Names and types of the results, one field per item.
    pub fn output_fields(&self) -> &Fields {
        &self.fields
    }

    /// What is computed, in words that do not change with spaces, library or release: part of the
    /// step's signature.
    pub fn canonical(&self) -> String {
        self.canonical.clone()
    }

    /// Evaluates the arguments of all calls. `batch` must have the schema compiled for.
    pub fn inputs(&self, batch: &RecordBatch) -> Result<Inputs, RowError> {
        let mut arguments = Vec::with_capacity(self.calls.len());
        let mut first: Option<RowError> = None;
        for call in &self.calls {
            match call.argument.as_ref().map(|argument| argument.evaluate(batch)).transpose() {
                Ok(argument) => arguments.push(argument),
                Err(error) if first.as_ref().is_none_or(|first| error.row < first.row) => {
                    first = Some(error);
                }
                Err(_) => {}
            }
        }
        first.map_or(Ok(Inputs { arguments }), Err)
    }

    /// The state of a group without rows.
    pub fn new_state(&self) -> State {
        State { slots: self.calls.iter().map(|call| call.call.empty()).collect() }
    }

    /// Adds one row to a group.
    pub fn update(&self, state: &mut State, inputs: &Inputs, row: usize) {
        for (slot, (call, argument)) in self.calls.iter().zip(&inputs.arguments).enumerate() {
            let rows = std::iter::once((row, 0));
            call.call.update(argument.as_ref(), rows, slice::from_mut(state), slot);
        }
    }

    /// Adds every row `i` to the group `states[groups[i]]`.
    ///
    /// `groups` must be as long as the batch of `inputs`.
    pub fn update_many(&self, states: &mut [State], inputs: &Inputs, groups: &[u32]) {
        for (slot, (call, argument)) in self.calls.iter().zip(&inputs.arguments).enumerate() {
            let rows = groups.iter().map(|group| *group as usize).enumerate();
            call.call.update(argument.as_ref(), rows, states, slot);
        }
    }

    /// Adds all rows that `from` has seen to `into`.
    pub fn merge(&self, into: &mut State, from: &State) {
        let slots = into.slots.iter_mut().zip(&from.slots).zip(&self.calls);
        slots.for_each(|((into, from), call)| into.merge(from, call.call.end()));
    }

    /// Appends the state's bytes (docs/design/0006). Equal sets of rows give equal bytes.
    pub fn encode(&self, state: &State, out: &mut Vec<u8>) {
        encode::encode(state, out);
    }

    /// Reads what [`Aggregates::encode`] wrote; all of `bytes` must be one state.
    pub fn decode(&self, bytes: &[u8]) -> Result<State, StateError> {
        encode::decode(self.calls.iter().map(|call| &call.call), bytes)
    }

    /// The results of all groups, one array per item, in the order of `states`.
    pub fn finish(&self, states: &[State]) -> Result<Vec<ArrayRef>, GroupError> {
        let mut results = Vec::with_capacity(self.calls.len());
        for (slot, call) in self.calls.iter().enumerate() {
            let result = call.call.finish(states, slot);
            results.push(result.map_err(|(group, what)| GroupError {
                group,
                message: format!("`{}`: {what}", call.text),
            })?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(states.len()));
        let schema = SchemaRef::clone(&self.results);
        let in_group = |error: RowError| GroupError { group: error.row, message: error.message };
        RecordBatch::try_new_with_options(schema, results, &options)
            .map_err(|error| GroupError { group: 0, message: error.to_string() })
            .and_then(|results| scalar::evaluate_all(&self.items, &results).map_err(in_group))
    }
}

#[cfg(test)]
mod tests;
