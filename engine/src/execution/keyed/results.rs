//! Rows of results: at the close of windows, and as changes of what was written before.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt8Array, make_comparator,
};
use arrow::compute::{self, SortOptions};
use arrow::error::ArrowError;
use bytes::Bytes;
use weir_expr::State;

use super::Keyed;
use super::definition::Definition;
use crate::execution::error::StageError;
use crate::execution::names::RowNames;
use crate::execution::window::Window;
use crate::rows::key::decode_keys;
use crate::rows::{Kind, Rows};

/// Changes that are written as one batch, of two rows at most.
const CHANGES_MAX: usize = 2_048;

/// A result that is there, or was.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its window; without meaning for a group without one.
    pub(super) window: Window,
    /// What its rows add up to.
    pub(super) state: State,
}

/// What became of a result. At least one side is there.
#[derive(Debug)]
pub(super) struct Change {
    /// Whose.
    pub(super) key: Bytes,
    /// What was written before.
    pub(super) before: Option<Outcome>,
    /// What takes its place.
    pub(super) after: Option<Outcome>,
    /// The time of the row that caused it.
    pub(super) time_ms: i64,
}

/// Results on their way to becoming rows; all lists are equally long.
#[derive(Default)]
pub(super) struct Results {
    pub(super) keys: Vec<Bytes>,
    pub(super) windows: Vec<Window>,
    pub(super) states: Vec<State>,
    pub(super) times: Vec<i64>,
}

impl Results {
    pub(super) fn add(&mut self, key: &Bytes, outcome: Outcome, time_ms: i64) {
        self.keys.push(key.clone());
        self.windows.push(outcome.window);
        self.states.push(outcome.state);
        self.times.push(time_ms);
    }

    /// The rows, without kinds.
    ///
    /// Errors: a result that has no value of its type.
    pub(super) fn rows(
        self,
        definition: &Definition,
        names: &RowNames,
    ) -> Result<Rows, StageError> {
        let values =
            definition.aggregates.finish(&self.states).map_err(|error| StageError::Key {
                step: definition.id.clone(),
                key: self
                    .keys
                    .get(error.group)
                    .map_or_else(String::new, |k| definition.key_text(k)),
                message: error.message,
            })?;
        let bug = |error: &dyn std::error::Error| names.bug(&definition.id, error);
        let decoded = decode_keys(&self.keys, definition.key_fields());
        let mut columns = decoded.map_err(|error| bug(&error))?;
        if definition.has_window() {
            let starts: Int64Array = self.windows.iter().map(|window| window.start_ms).collect();
            let ends: Int64Array = self.windows.iter().map(|window| window.end_ms).collect();
            for times in [starts, ends] {
                let data_type = definition.schema.field(columns.len()).data_type();
                let column: ArrayRef = Arc::new(times);
                columns.push(compute::cast(&column, data_type).map_err(|error| bug(&error))?);
            }
        }
        columns.extend(values);
        let options = RecordBatchOptions::new().with_row_count(Some(self.keys.len()));
        let schema = Arc::clone(&definition.schema);
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)
            .map_err(|error| bug(&error))?;
        let times = definition.has_time.then(|| Int64Array::from(self.times));
        Ok(Rows { batch, times, origins: None, kinds: None })
    }
}

impl Keyed {
    /// Rows of the changes that were made and not given yet, a batch of them; none: there are none.
    pub(super) fn changed_rows(&mut self, names: &RowNames) -> Result<Option<Rows>, StageError> {
        if self.changes.is_empty() {
            return Ok(None);
        }
        let later = self.changes.split_off(self.changes.len().min(CHANGES_MAX));
        let changes = std::mem::replace(&mut self.changes, later);
        changed(changes, &self.definition, names).map(Some)
    }
}

/// `-U` directly followed by `+U`; nothing where both are equal.
fn changed(
    changes: Vec<Change>,
    definition: &Definition,
    names: &RowNames,
) -> Result<Rows, StageError> {
    let mut results = Results::default();
    let mut kinds: Vec<Kind> = Vec::with_capacity(2 * changes.len());
    for Change { key, before, after, time_ms } in changes {
        let both = before.is_some() && after.is_some();
        if let Some(outcome) = before {
            kinds.push(if both { Kind::Before } else { Kind::Delete });
            results.add(&key, outcome, time_ms);
        }
        if let Some(outcome) = after {
            kinds.push(if both { Kind::After } else { Kind::Insert });
            results.add(&key, outcome, time_ms);
        }
    }
    let rows = results.rows(definition, names)?;
    let bug = |error: ArrowError| names.bug(&definition.id, &error);
    let values = rows.batch.columns().iter().skip(definition.key.len());
    let compare = values.map(|column| make_comparator(column, column, SortOptions::default()));
    let compare = compare.collect::<Result<Vec<_>, _>>().map_err(bug)?;
    let same = |row: usize| compare.iter().all(|compare| compare(row, row + 1).is_eq());
    let mut kept = Vec::with_capacity(kinds.len());
    let mut row = 0;
    while let Some(kind) = kinds.get(row) {
        let length = if *kind == Kind::Before { 2 } else { 1 };
        let keeps = length == 1 || !same(row);
        kept.extend(std::iter::repeat_n(keeps, length));
        row += length;
    }
    let kinds: UInt8Array = kinds.iter().map(|kind| Some(*kind as u8)).collect();
    let rows = Rows { kinds: Some(kinds), ..rows };
    if kept.iter().all(|keeps| *keeps) {
        return Ok(rows);
    }
    rows.filter(&kept.into()).map_err(bug)
}
