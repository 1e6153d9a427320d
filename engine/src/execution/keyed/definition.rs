//! What a keyed step is: its key, window, values, and the columns of its results.

use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;
use weir_expr::Aggregates;
use weir_state::StateError;
use weir_state::key::StateId;

use crate::execution::error::StageError;
use crate::execution::names::key_text;
use crate::execution::window::Tumble;
use crate::pipeline::checked::{CheckedAggregate, CheckedStep};
use crate::rows::key::decode_keys;

/// The state that holds a window's values.
pub(crate) const VALUES: StateId = StateId(0);

/// A checked aggregate step, ready to run.
pub(crate) struct Definition {
    /// Index of the step in the job.
    pub(crate) step: usize,
    /// Its id.
    pub(crate) id: String,
    /// Columns of its key in its input.
    pub(crate) key: Vec<usize>,
    /// Its window.
    pub(crate) tumble: Tumble,
    /// Its values.
    pub(crate) aggregates: Aggregates,
    /// Columns of its results.
    pub(crate) schema: SchemaRef,
    /// Key groups of the job.
    pub(crate) groups: u16,
}

impl Definition {
    /// Of the step with index `step`.
    pub(crate) fn new(
        step: usize,
        checked: &CheckedStep,
        aggregate: &CheckedAggregate,
        groups: u16,
    ) -> Self {
        Self {
            step,
            id: checked.id.clone(),
            key: aggregate.key.clone(),
            tumble: Tumble::new(aggregate.window, aggregate.lateness_ms),
            aggregates: aggregate.aggregates.clone(),
            schema: SchemaRef::clone(&checked.schema),
            groups,
        }
    }

    /// Columns of the key in the results.
    pub(crate) fn key_fields(&self) -> &[FieldRef] {
        &self.schema.fields()[..self.key.len()]
    }

    /// A state access failed.
    pub(crate) fn state_error(&self, what: &'static str, cause: StateError) -> StageError {
        StageError::State { step: self.id.clone(), what, cause }
    }

    /// A stored value is not one of ours.
    pub(crate) fn value_error(&self, key: &Bytes, error: &dyn std::error::Error) -> StageError {
        StageError::StateValue {
            step: self.id.clone(),
            key: self.key_text(key),
            message: error.to_string(),
        }
    }

    /// The values of a key's columns, for messages.
    pub(crate) fn key_text(&self, key: &Bytes) -> String {
        match decode_keys(std::slice::from_ref(key), self.key_fields()) {
            Ok(columns) => key_text(&columns, 0),
            Err(error) => format!("{key:?} ({error})"),
        }
    }
}
