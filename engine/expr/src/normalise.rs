//! A source's columns in pipeline types.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::NormaliseError;

/// The columns of `target` (by name, in its order), taken from `batch` and converted to its types.
///
/// `target` is what [`crate::types::normal_schema`] made of the source's schema, or some of its
/// columns. A value that has none in its pipeline type (a time out of range) is a row error.
pub fn normalise(_batch: &RecordBatch, _target: &SchemaRef) -> Result<RecordBatch, NormaliseError> {
    unimplemented!()
}
