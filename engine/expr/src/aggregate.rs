//! Aggregates: select items over count, sum, first, stddev and so on, with our own states.
//!
//! An item is a scalar expression over aggregate calls (`sum(a) / count(*) as mean`). Compiling
//! pulls the calls out: each gets a slot in the state, and what is left of the item is compiled
//! over their results.
//!
//! - `compile.rs` — items to calls and expressions. `call.rs` — which calls there are.
//! - `state.rs` — what a group has seen. `update.rs` — rows into states. `finish.rs` — results.
//! - `exact_sum.rs` — sums of floats. `spread.rs` — variances. `bag.rs` — values with their counts.
//! - `value.rs` — single values. `encode.rs`, `decode.rs` — bytes.
//!
//! # Changelogs
//!
//! Compiled for [`InputMode::retractable`] rows, states form a group: what a row added, taking it
//! away removes without a trace, and the states of parts of the rows may hold less than nothing.
//! A part is merged into what is stored, [`Aggregates::settle`] then checks the whole, and
//! [`Aggregates::is_empty`] says that the last row is gone. States of insert-only rows are smaller
//! and need neither.

mod bag;
mod call;
mod compile;
mod decode;
mod encode;
mod exact_sum;
mod finish;
mod spread;
mod state;
mod update;
mod value;

use std::slice;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions,
};
use arrow::buffer::NullBuffer;
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{Fields, SchemaRef};
use bytes::Bytes;

use self::call::Call;
pub use self::call::InputMode;
pub use self::compile::compile_aggregates;
use self::encode::{Form, VERSION, VERSION_1};
use self::state::Slot;
pub use self::state::State;
use self::update::{Beside, Input, Target};
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
    /// The slot that counts the rows of a changelog.
    rows: Option<usize>,
}

#[derive(Clone, Debug)]
struct AggregateCall {
    call: Call,
    argument: Option<Compiled>,
    filter: Option<Compiled>,
    /// As the user wrote it.
    text: String,
}

/// The arguments of all aggregate calls, evaluated for one batch.
#[derive(Clone, Debug)]
pub struct Inputs {
    calls: Vec<Input>,
    beside: Beside,
}

impl AggregateCall {
    fn input(&self, batch: &RecordBatch) -> Result<Input, RowError> {
        let filter = self.filter.as_ref().map(|filter| filter.evaluate(batch)).transpose()?;
        let argument =
            self.argument.as_ref().map(|argument| argument.evaluate(batch)).transpose()?;
        let passes = filter.map(|filter| {
            let passes = filter.as_boolean();
            let passes = if passes.null_count() == 0 {
                passes.clone()
            } else {
                prep_null_mask_filter(passes)
            };
            NullBuffer::new(passes.values().clone())
        });
        let some = argument.as_ref().filter(|_| !self.call.takes_nulls());
        let some = some.and_then(|argument| argument.nulls().cloned());
        Ok(Input { argument, selected: NullBuffer::union(passes.as_ref(), some.as_ref()) })
    }
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
    ///
    /// `times` are the rows' event times in milliseconds, in [`InputMode::has_time`]. The rows where
    /// `retracts` is true are taken away from their groups instead of added, in
    /// [`InputMode::retractable`]; it has no nulls.
    pub fn inputs(
        &self,
        batch: &RecordBatch,
        times: Option<&Int64Array>,
        retracts: Option<&BooleanArray>,
    ) -> Result<Inputs, RowError> {
        let refuse = |message: &str| Err(RowError { row: 0, message: message.to_owned() });
        if times.is_none() && self.calls.iter().any(|call| call.call.needs_time()) {
            return refuse("rows without event time reached aggregates that go by it");
        }
        if retracts.is_some() && self.rows.is_none() {
            return refuse("changes reached aggregates of rows that only come");
        }
        let mut calls = Vec::with_capacity(self.calls.len());
        let mut first: Option<RowError> = None;
        for call in &self.calls {
            match call.input(batch) {
                Ok(input) => calls.push(input),
                Err(error) if first.as_ref().is_none_or(|first| error.row < first.row) => {
                    first = Some(error);
                }
                Err(_) => {}
            }
        }
        let retracts = retracts.filter(|retracts| retracts.has_true());
        let beside = Beside { times: times.cloned(), retracts: retracts.cloned() };
        first.map_or(Ok(Inputs { calls, beside }), Err)
    }

    /// The state of a group without rows.
    pub fn new_state(&self) -> State {
        State { slots: self.calls.iter().map(|call| call.call.empty()).collect() }
    }

    /// Adds one row to a group, or takes it away if its batch says so.
    pub fn update(&self, state: &mut State, inputs: &Inputs, row: usize) {
        self.add(slice::from_mut(state), inputs, std::iter::once((row, 0)));
    }

    /// Adds every row `i` to the group `states[groups[i]]`, or takes it away if its batch says so.
    ///
    /// `groups` must be as long as the batch of `inputs`.
    pub fn update_many(&self, states: &mut [State], inputs: &Inputs, groups: &[u32]) {
        self.add(states, inputs, groups.iter().map(|group| *group as usize).enumerate());
    }

    fn add(
        &self,
        states: &mut [State],
        inputs: &Inputs,
        rows: impl Iterator<Item = (usize, usize)> + Clone,
    ) {
        for (slot, (call, input)) in self.calls.iter().zip(&inputs.calls).enumerate() {
            let target = Target { states: &mut *states, slot };
            update::update(&call.call, input, &inputs.beside, rows.clone(), target);
            if call.call.keeps_rows() {
                states.iter_mut().for_each(|state| state.slots[slot].order(&call.call));
            }
        }
    }

    /// Adds all rows that `from` has seen to `into`. By arrival they came after those of `into`.
    pub fn merge(&self, into: &mut State, from: &State) {
        let slots = into.slots.iter_mut().zip(&from.slots).zip(&self.calls);
        slots.for_each(|((into, from), call)| into.merge(from, &call.call));
    }

    /// What `from` and then `later` have seen: [`Aggregates::merge`] without a copy of what is
    /// replaced.
    pub fn merged(&self, from: &State, mut later: State) -> State {
        let slots = later.slots.iter_mut().zip(&from.slots).zip(&self.calls);
        slots.for_each(|((later, from), call)| later.put_behind(from, &call.call));
        later
    }

    /// Checks the state of a whole group after changes; needed before it is stored or read, in
    /// [`InputMode::retractable`] alone.
    ///
    /// Errors: a row was taken away that is not there, as far as the states tell: counts, distinct
    /// values, the values of min and max, first, last and `array_agg`, and sums of what is then no
    /// row. The message names the call.
    pub fn settle(&self, state: &mut State) -> Result<(), GroupError> {
        if self.rows.is_none() {
            return Ok(());
        }
        let refuse = |call: &AggregateCall| GroupError {
            group: 0,
            message: format!("`{}`: {}", call.text, finish::NOT_THERE),
        };
        for (slot, call) in state.slots.iter_mut().zip(&self.calls) {
            if !slot.settle() {
                return Err(refuse(call));
            }
        }
        let left = |(slot, call): (&Slot, &AggregateCall)| *slot != call.call.empty();
        if self.is_empty(state)
            && let Some(slot) = state.slots.iter().zip(&self.calls).position(left)
        {
            return Err(refuse(&self.calls[slot]));
        }
        Ok(())
    }

    /// Whether the last row of a group was taken away, in [`InputMode::retractable`].
    pub fn is_empty(&self, state: &State) -> bool {
        self.rows.is_some_and(|rows| state.slots[rows] == Slot::Count(0))
    }

    /// Appends the state's bytes (docs/design/0006). Equal sets of rows give equal bytes.
    pub fn encode(&self, state: &State, out: &mut Vec<u8>) {
        encode::encode(state, self.form(), out);
    }

    /// Reads what [`Aggregates::encode`] wrote; all of `bytes` must be one state.
    pub fn decode(&self, bytes: &[u8]) -> Result<State, StateError> {
        self.decode_shared(&Bytes::copy_from_slice(bytes))
    }

    /// [`Aggregates::decode`] without a copy: the state shares the memory of `bytes`.
    pub fn decode_shared(&self, bytes: &Bytes) -> Result<State, StateError> {
        decode::decode(self.calls.iter().map(|call| &call.call), self.form(), bytes)
    }

    /// Calls that version 1 knew go on in its form, which older releases read.
    fn form(&self) -> Form {
        let known = self.calls.iter().all(|call| call.call.is_version_1());
        Form { version: if known { VERSION_1 } else { VERSION }, signed: self.rows.is_some() }
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
