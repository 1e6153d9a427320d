//! A source's columns in pipeline types.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;

use crate::convert::convert;
use crate::error::{NormaliseError, RowError};
use crate::types;

/// The columns of `target` (by name, in its order), taken from `batch` and converted to its types.
///
/// `target` is what [`crate::types::normal_schema`] made of the source's schema, or some of its
/// columns. A value that has none in its pipeline type (a time out of range) is a row error.
pub fn normalise(batch: &RecordBatch, target: &SchemaRef) -> Result<RecordBatch, NormaliseError> {
    let mut columns = Vec::with_capacity(target.fields().len());
    for field in target.fields() {
        columns.push(column(batch, field)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(SchemaRef::clone(target), columns, &options)
        .map_err(|error| NormaliseError::Row(RowError { row: 0, message: error.to_string() }))
}

fn column(batch: &RecordBatch, field: &Field) -> Result<ArrayRef, NormaliseError> {
    if types::refused(field).is_some() {
        return Ok(new_null_array(&DataType::Null, batch.num_rows()));
    }
    let refuse = |message: String| NormaliseError::Column { column: field.name().clone(), message };
    let Some(array) = batch.column_by_name(field.name()) else {
        return Err(refuse("is missing".into()));
    };
    let wanted = field.data_type();
    if types::normal(array.data_type()).as_ref() != Some(wanted) {
        let found = array.data_type();
        return Err(refuse(format!("has type {found}, planned was {}", types::print(wanted))));
    }
    convert(array, wanted, false).map_err(|error| NormaliseError::Row(row_of(array, field, error)))
}

/// Finds the row by converting each one alone.
fn row_of(array: &ArrayRef, field: &Field, error: ArrowError) -> RowError {
    let alone = |row: &usize| convert(&array.slice(*row, 1), field.data_type(), false).err();
    let found = (0..array.len()).find_map(|row| alone(&row).map(|error| (row, error)));
    let (row, error) = found.unwrap_or((0, error));
    let what = match error {
        ArrowError::CastError(what) | ArrowError::ComputeError(what) => what,
        other => other.to_string(),
    };
    RowError { row, message: format!("column `{}`: {what}", field.name()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        AsArray, DictionaryArray, Float32Array, Int8Array, LargeStringArray, StringArray,
        Time32SecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
    };
    use arrow::datatypes::{Decimal128Type, Int8Type, Schema, TimestampMillisecondType};

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn normal(batch: &RecordBatch) -> Result<RecordBatch, NormaliseError> {
        normalise(batch, &Arc::new(types::normal_schema(batch.schema_ref())))
    }

    #[test]
    fn values_survive_and_time_is_floored() {
        let words: DictionaryArray<Int8Type> =
            vec![Some("a"), None, Some("a")].into_iter().collect();
        let times = TimestampNanosecondArray::from(vec![-1, 1_999_999, 0])
            .with_timezone("America/New_York");
        let source = batch(vec![
            ("i", Arc::new(Int8Array::from(vec![Some(-3), None, Some(7)]))),
            ("u", Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1]))),
            ("f", Arc::new(Float32Array::from(vec![0.5, f32::NAN, -0.0]))),
            ("d", Arc::new(words)),
            ("s", Arc::new(LargeStringArray::from(vec!["x", "", "é"]))),
            ("t", Arc::new(times)),
            ("odd", Arc::new(Time32SecondArray::from(vec![1, 2, 3]))),
        ]);
        let result = normal(&source).unwrap();
        assert_eq!(
            result.column(0).as_ref(),
            &arrow::array::Int32Array::from(vec![Some(-3), None, Some(7)])
        );
        assert_eq!(
            result.column(1).as_primitive::<Decimal128Type>().value(0),
            i128::from(u64::MAX)
        );
        assert_eq!(result.column(3).as_ref(), &StringArray::from(vec![Some("a"), None, Some("a")]));
        assert_eq!(result.column(4).as_ref(), &StringArray::from(vec!["x", "", "é"]));
        let times = result.column(5).as_primitive::<TimestampMillisecondType>();
        assert_eq!(times.values(), &[-1, 1, 0]);
        assert_eq!(result.column(6).logical_null_count(), 3);
    }

    #[test]
    fn columns_are_taken_by_name_in_the_target_order() {
        let source = batch(vec![
            ("a", Arc::new(Int8Array::from(vec![1]))),
            ("b", Arc::new(StringArray::from(vec!["x"]))),
        ]);
        let target = Schema::new(vec![Field::new("b", DataType::Utf8, true)]);
        let result = normalise(&source, &Arc::new(target)).unwrap();
        assert_eq!(result.num_columns(), 1);
        assert_eq!(result.column(0).as_ref(), &StringArray::from(vec!["x"]));
    }

    #[test]
    fn a_time_without_milliseconds_names_its_row() {
        let times = TimestampSecondArray::from(vec![0, 1, i64::MAX]);
        let error = normal(&batch(vec![("t", Arc::new(times))])).unwrap_err();
        let message = "column `t`: 9223372036854775807 seconds are no time in milliseconds".into();
        assert_eq!(error, NormaliseError::Row(RowError { row: 2, message }));
    }

    #[test]
    fn another_schema_than_planned_is_named() {
        let source = batch(vec![("a", Arc::new(StringArray::from(vec!["x"])))]);
        for (name, expected) in
            [("b", "column `b` is missing"), ("a", "column `a` has type Utf8, planned was int64")]
        {
            let target = Schema::new(vec![Field::new(name, DataType::Int64, true)]);
            let error = normalise(&source, &Arc::new(target)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
