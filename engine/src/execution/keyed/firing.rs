//! From due timers to the rows of closed windows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute;
use bytes::Bytes;
use weir_expr::State;
use weir_state::key::{StateKey, Timer};
use weir_state::shard::DueTimers;
use weir_state::{Access, Get};

use super::Keyed;
use super::definition::{Definition, VALUES};
use crate::execution::error::StageError;
use crate::execution::names::RowNames;
use crate::execution::window::Window;
use crate::rows::Rows;
use crate::rows::key::decode_keys;

/// Windows that are written as one batch.
pub(crate) const FIRED_ROWS_MAX: usize = 1_024;

impl Keyed {
    /// Whether a window may be due at `watermark`.
    pub(crate) fn may_be_due(&self, watermark: i64) -> bool {
        self.shard.next_timer_ms() <= watermark
    }

    /// The next windows that are due at `watermark`.
    pub(crate) fn due(&self, watermark: i64) -> Access<DueTimers> {
        self.shard.due_timers(watermark, FIRED_ROWS_MAX)
    }

    /// The values of windows.
    pub(crate) fn values_of(&self, timers: &[Timer]) -> Get {
        let keys: Vec<StateKey> = timers.iter().map(state_key).collect();
        self.shard.multi_get(&keys)
    }

    /// The rows of closed windows. Their values and timers leave the state.
    ///
    /// Errors: a result that has no value of its type, damaged state.
    pub(crate) fn fire(
        &mut self,
        timers: &[Timer],
        values: &[Option<Bytes>],
        names: &RowNames,
    ) -> Result<Rows, StageError> {
        let definition = &self.definition;
        let mut windows = Vec::with_capacity(timers.len());
        let mut states = Vec::with_capacity(timers.len());
        for (timer, value) in timers.iter().zip(values) {
            let (window, state) = closed(definition, timer, value.as_ref())?;
            windows.push(window);
            states.push(state);
        }
        let rows = results(definition, timers, &windows, &states, names)?;
        for timer in timers {
            self.shard.delete(&state_key(timer));
            self.shard.clear_timer(timer.group, timer.time_ms, &timer.key, &timer.namespace);
        }
        Ok(rows)
    }
}

fn state_key(timer: &Timer) -> StateKey {
    StateKey::new(timer.group, VALUES, &timer.key, &timer.namespace)
}

fn closed(
    definition: &Definition,
    timer: &Timer,
    value: Option<&Bytes>,
) -> Result<(Window, State), StageError> {
    let damaged = |message: String| StageError::StateValue {
        step: definition.id.clone(),
        key: definition.key_text(&timer.key),
        message,
    };
    let window = definition.tumble.named(&timer.namespace);
    let window = window.ok_or_else(|| damaged("a timer names no window of this step".into()))?;
    let value = value.ok_or_else(|| damaged("a timer has no value".into()))?;
    let state = definition.aggregates.decode(value).map_err(|error| damaged(error.to_string()))?;
    Ok((window, state))
}

fn results(
    definition: &Definition,
    timers: &[Timer],
    windows: &[Window],
    states: &[State],
    names: &RowNames,
) -> Result<Rows, StageError> {
    let values = definition.aggregates.finish(states).map_err(|error| StageError::Key {
        step: definition.id.clone(),
        key: timers
            .get(error.group)
            .map_or_else(String::new, |timer| definition.key_text(&timer.key)),
        message: error.message,
    })?;
    let bug = |error: &dyn std::error::Error| names.bug(&definition.id, error);
    let keys: Vec<Bytes> = timers.iter().map(|timer| timer.key.clone()).collect();
    let mut columns = decode_keys(&keys, definition.key_fields()).map_err(|error| bug(&error))?;
    let first = columns.len();
    let starts: Int64Array = windows.iter().map(|window| window.start_ms).collect();
    let ends: Int64Array = windows.iter().map(|window| window.end_ms).collect();
    for (place, times) in [(first, starts), (first + 1, ends)] {
        let data_type = definition.schema.field(place).data_type();
        let column: ArrayRef = Arc::new(times);
        columns.push(compute::cast(&column, data_type).map_err(|error| bug(&error))?);
    }
    columns.extend(values);
    let options = RecordBatchOptions::new().with_row_count(Some(timers.len()));
    let batch =
        RecordBatch::try_new_with_options(Arc::clone(&definition.schema), columns, &options)
            .map_err(|error| bug(&error))?;
    let times: Int64Array = windows.iter().map(|window| window.result_time_ms()).collect();
    Ok(Rows { batch, times: Some(times), origins: None, kinds: None })
}
