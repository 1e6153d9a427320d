//! From a batch of rows to entries: late rows out, windows, keys, partial values.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use weir_expr::RowError;
use weir_state::ids::KeyGroup;
use weir_state::key::StateKey;

use super::Keyed;
use super::definition::VALUES;
use super::unit::{Entry, Unit};
use crate::execution::error::StageError;
use crate::execution::grouping::{Grouping, group};
use crate::execution::names::{RowNames, key_text};
use crate::execution::window::{Tumble, Window};
use crate::rows::Rows;
use crate::rows::key::Keys;

impl Keyed {
    /// Takes a batch; gives how many of its rows are late and dropped.
    ///
    /// Errors: a row on which the values' arguments fail, damaged state.
    pub(crate) fn arrive(&mut self, rows: &Rows, names: &RowNames) -> Result<usize, StageError> {
        let InTime { rows, windows, late } = self.in_time(rows, names)?;
        if rows.is_empty() {
            return Ok(late);
        }
        let key_columns: Vec<ArrayRef> = self.key_columns(&rows);
        let inputs = self.definition.aggregates.inputs(&rows.batch, rows.times.as_ref(), None);
        let inputs = inputs.map_err(|error| self.row_error(&rows, &error, &key_columns, names))?;
        let keys = Keys::encode(&key_columns, rows.len());
        let keys = keys.map_err(|error| names.bug(&self.definition.id, &error))?;
        let grouping = group(&keys, &windows);
        let aggregates = &self.definition.aggregates;
        let mut partials = vec![aggregates.new_state(); grouping.entries.len()];
        aggregates.update_many(&mut partials, &inputs, &grouping.entry_of_row);
        let unit = self.admit(&keys, &grouping, partials);
        self.start(unit)?;
        Ok(late)
    }

    fn in_time(&self, rows: &Rows, names: &RowNames) -> Result<InTime, StageError> {
        let Some(times) = &rows.times else {
            return Err(names.bug(&self.definition.id, &NoTimes));
        };
        let mut windows = assign(self.definition.tumble, times.values());
        let (tumble, watermark) = (self.definition.tumble, self.epochs.arrived());
        let late = windows.iter().filter(|window| tumble.is_closed(**window, watermark)).count();
        if late == 0 {
            return Ok(InTime { rows: rows.clone(), windows, late });
        }
        let open = |window: &Window| !tumble.is_closed(*window, watermark);
        let mask: BooleanArray = windows.iter().map(|window| Some(open(window))).collect();
        windows.retain(open);
        let rows = rows.filter(&mask).map_err(|error| names.bug(&self.definition.id, &error))?;
        Ok(InTime { rows, windows, late })
    }

    fn key_columns(&self, rows: &Rows) -> Vec<ArrayRef> {
        let columns = self.definition.key.iter();
        columns.map(|column| Arc::clone(rows.batch.column(*column))).collect()
    }

    /// Behind the first aggregate rows have no origin: the key names them.
    fn row_error(
        &self,
        rows: &Rows,
        error: &RowError,
        key: &[ArrayRef],
        names: &RowNames,
    ) -> StageError {
        if rows.origins.is_some() {
            return names.row_error(&self.definition.id, rows, error);
        }
        StageError::Key {
            step: self.definition.id.clone(),
            key: key_text(key, error.row),
            message: error.message.clone(),
        }
    }

    /// Counts the entries of a batch in; those of busy keys wait, the others are given as a unit.
    fn admit(&mut self, keys: &Keys, grouping: &Grouping, partials: Vec<weir_expr::State>) -> Unit {
        let key_of = |number: u32| keys.key_bytes(grouping.row_of_key[number as usize] as usize);
        let mut unit = Unit::default();
        let idle = self.admission.is_idle();
        let mut busy = Vec::with_capacity(grouping.row_of_key.len());
        for number in (0..).take(grouping.row_of_key.len()) {
            let key = key_of(number);
            let is_busy = !idle && self.admission.is_busy(&key);
            busy.push(is_busy);
            if !is_busy {
                unit.keys.push(key);
            }
        }
        for (grouped, partial) in grouping.entries.iter().zip(partials) {
            let row = grouping.row_of_key[grouped.key as usize] as usize;
            let key = keys.key_bytes(row);
            let group = KeyGroup::of_hash(keys.hashes()[row], self.definition.groups);
            let state_key = StateKey::new(group, VALUES, &key, &grouped.window.namespace());
            let rows = grouped.rows as usize;
            let arrived = (self.epochs.arrive(rows), rows);
            let entry = Entry { key, state_key, window: grouped.window, partial, arrived };
            self.rows_in_flight += rows;
            self.bytes_in_flight += entry.bytes();
            if busy[grouped.key as usize] {
                let key = entry.key.clone();
                if let Some(free) = self.admission.wait(&key, entry) {
                    unit.add(free);
                }
            } else {
                unit.add(entry);
            }
        }
        unit
    }
}

/// The rows of a batch whose windows are open, with those, and the number of the others.
struct InTime {
    rows: Rows,
    windows: Vec<Window>,
    late: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("rows without event time reached a window")]
struct NoTimes;

/// The windows of all rows. Neighbours mostly fall into one window, which saves the division.
fn assign(tumble: Tumble, times: &[i64]) -> Vec<Window> {
    let mut windows = Vec::with_capacity(times.len());
    let mut last: Option<Window> = None;
    for time in times {
        let window = match last {
            Some(window) if window.start_ms <= *time && *time < window.end_ms => window,
            _ => tumble.assign(*time),
        };
        last = Some(window);
        windows.push(window);
    }
    windows
}
