//! Names rows and keys in error messages, in the user's words.

use arrow::array::ArrayRef;
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use weir_expr::RowError;

use super::error::StageError;
use crate::rows::Rows;
use crate::source::Source;

/// The longest key that is written out, in characters.
const KEY_CHARS_MAX: usize = 200;

/// What names rows: the sources by their number in origins.
pub(crate) struct RowNames {
    sources: Vec<(String, Source)>,
    subtask: u32,
}

impl RowNames {
    /// Of a job with these sources (step id and source), on subtask `subtask`.
    pub(crate) fn new(sources: Vec<(String, Source)>, subtask: u32) -> Self {
        Self { sources, subtask }
    }

    /// The error of `step` on one row of `rows`.
    pub(crate) fn row_error(&self, step: &str, rows: &Rows, error: &RowError) -> StageError {
        StageError::Row {
            step: step.to_owned(),
            place: self.place(rows, error.row),
            message: error.message.clone(),
        }
    }

    fn place(&self, rows: &Rows, row: usize) -> String {
        let origin = rows.origin(row);
        let source = origin.and_then(|origin| self.sources.get(usize::from(origin.source())));
        match origin.zip(source) {
            Some((origin, (step, source))) => format!("row of {step}, {}", source.place(origin)),
            None => "row".to_owned(),
        }
    }

    /// Something that can't happen to checked columns.
    pub(crate) fn bug(&self, step: &str, error: &dyn std::error::Error) -> StageError {
        StageError::Bug {
            step: step.to_owned(),
            subtask: self.subtask,
            message: super::error::chain(error),
        }
    }
}

/// Which key row `row` has, by the values of its columns: `key (EWR, 7)`, or `key EWR` when there is
/// one; `the global group` when there is none.
pub(crate) fn key_text(columns: &[ArrayRef], row: usize) -> String {
    let value = |column: &ArrayRef| -> Result<String, ArrowError> {
        if column.is_null(row) { Ok("null".to_owned()) } else { array_value_to_string(column, row) }
    };
    let values = columns.iter().map(|column| value(column).unwrap_or_else(|_| "?".to_owned()));
    let values: Vec<String> = values.collect();
    let text = match values.as_slice() {
        [] => "the global group".to_owned(),
        [one] => format!("key {one}"),
        several => format!("key ({})", several.join(", ")),
    };
    text.chars().take(KEY_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn keys_are_named_by_their_values() {
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("EWR"), None]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7, -1]));
        assert_eq!(key_text(&[Arc::clone(&names)], 0), "key EWR");
        assert_eq!(key_text(&[names, numbers], 1), "key (null, -1)");
        assert_eq!(key_text(&[], 0), "the global group");
    }
}
