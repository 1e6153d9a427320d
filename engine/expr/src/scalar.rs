//! Predicates and projections: compiled scalar expressions over batches of one schema.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};

use crate::error::{ExprError, ItemError, RowError};

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct Predicate {}

impl Predicate {
    /// Which rows of `batch` to keep: an array without nulls, where null counts as false.
    ///
    /// `batch` must have the schema that the filter was compiled for.
    pub fn evaluate(&self, _batch: &RecordBatch) -> Result<BooleanArray, RowError> {
        unimplemented!()
    }
}

/// Compiled select items.
#[derive(Clone, Debug)]
pub struct Projection {
    schema: SchemaRef,
}

impl Projection {
    /// Columns of the result.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The projected rows, as many as `batch` has.
    ///
    /// `batch` must have the schema that the items were compiled for.
    pub fn evaluate(&self, _batch: &RecordBatch) -> Result<RecordBatch, RowError> {
        unimplemented!()
    }
}

/// Compiles a filter for batches of `schema`.
pub fn compile_predicate(_schema: &Schema, _text: &str) -> Result<Predicate, ExprError> {
    unimplemented!()
}

/// Compiles select items for batches of `schema`; reports every item that is refused.
pub fn compile_select(_schema: &Schema, _items: &[String]) -> Result<Projection, Vec<ItemError>> {
    unimplemented!()
}
