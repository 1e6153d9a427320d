//! Pipeline types and their Arrow types.

use arrow::datatypes::{DataType, Schema, TimeUnit};

use crate::error::ExprError;

/// The Arrow type of `timestamp`: milliseconds, UTC.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The Arrow type of a pipeline type such as `int64`, `decimal(10,2)` or `list<string>`.
pub fn parse(_text: &str) -> Result<DataType, ExprError> {
    unimplemented!()
}

/// The pipeline type of an Arrow type; of a type that is none, Arrow's own words.
pub fn print(_data_type: &DataType) -> String {
    unimplemented!()
}

/// The columns of a source in pipeline types, all nullable. A column of a type that has none is
/// kept as a marked column of nulls: compiling an expression that uses it is refused by name.
pub fn normal_schema(_source: &Schema) -> Schema {
    unimplemented!()
}

/// Names and types of `schema` in words, for a plan's record. [`read_schema`] reads them back.
pub fn write_schema(_schema: &Schema) -> Vec<(String, String)> {
    unimplemented!()
}

/// Reads what [`write_schema`] wrote, or names and types that a user wrote.
pub fn read_schema(_columns: &[(String, String)]) -> Result<Schema, ExprError> {
    unimplemented!()
}
