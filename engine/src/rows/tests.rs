//! Operations on whole batches keep columns, times and origins together.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;

fn rows(range: std::ops::Range<i64>) -> Rows {
    let numbers: Vec<i64> = range.collect();
    let words: Vec<String> = numbers.iter().map(|n| format!("w{n}")).collect();
    let schema = Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("w", DataType::Utf8, true),
    ]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(numbers.clone())), Arc::new(StringArray::from(words))];
    Rows {
        batch: RecordBatch::try_new(Arc::new(schema), columns).unwrap(),
        times: Some(numbers.iter().map(|n| n * 10).collect()),
        origins: Some(numbers.iter().map(|n| n.unsigned_abs() + 100).collect()),
    }
}

/// All three parts agree row by row; gives the numbers.
fn numbers(rows: &Rows) -> Vec<i64> {
    let numbers = rows.batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    let times: Vec<i64> = numbers.iter().map(|n| n * 10).collect();
    let origins: Vec<u64> = numbers.iter().map(|n| n.unsigned_abs() + 100).collect();
    assert_eq!(rows.times.as_ref().unwrap().values().to_vec(), times);
    assert_eq!(rows.origins.as_ref().unwrap().values().to_vec(), origins);
    numbers
}

#[test]
fn filter_keeps_true_and_drops_false_and_null() {
    let mask = BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]);
    assert_eq!(numbers(&rows(0..4).filter(&mask).unwrap()), [0, 3]);
    let all = BooleanArray::from(vec![true; 4]);
    assert_eq!(numbers(&rows(0..4).filter(&all).unwrap()), [0, 1, 2, 3]);
    assert!(rows(0..3).filter(&all).is_err());
}

#[test]
fn take_slice_and_concat_agree_on_all_parts() {
    let taken = rows(0..5).take(&UInt32Array::from(vec![4, 0, 2])).unwrap();
    assert_eq!(numbers(&taken), [4, 0, 2]);
    assert!(rows(0..2).take(&UInt32Array::from(vec![2])).is_err());
    assert_eq!(numbers(&rows(0..9).slice(3, 2)), [3, 4]);
    let all = Rows::concat(&[rows(0..2), rows(7..7), rows(2..4)]).unwrap();
    assert_eq!(numbers(&all), [0, 1, 2, 3]);
    assert!(Rows::concat(&[]).is_err());
    let untimed = Rows { times: None, ..rows(0..1) };
    assert!(Rows::concat(&[rows(0..1), untimed]).is_err());
}

#[test]
fn rows_without_columns_keep_their_number() {
    let schema = Arc::new(Schema::empty());
    let bare = rows(0..5).with_columns(schema, Vec::new()).unwrap();
    assert_eq!(bare.len(), 5);
    assert_eq!(bare.take(&UInt32Array::from(vec![1, 3])).unwrap().len(), 2);
    assert_eq!(bare.slice(1, 3).len(), 3);
    assert_eq!(Rows::concat(&[bare.clone(), bare]).unwrap().len(), 10);
}

#[test]
fn size_of_a_slice_is_its_share() {
    let whole = rows(0..1000).size_bytes();
    let tenth = rows(0..1000).slice(100, 100).size_bytes();
    assert!(whole > 24 * 1000, "{whole}");
    assert!(tenth * 9 < whole && tenth * 11 > whole, "{tenth} of {whole}");
}

#[test]
fn greatest_time_and_origin_of_a_row() {
    assert_eq!(rows(0..4).max_time_ms(), Some(30));
    assert_eq!(rows(0..0).max_time_ms(), None);
    assert_eq!(rows(0..4).origin(3), Some(Origin(103)));
    assert_eq!(rows(0..4).origin(4), None);
    assert_eq!(Rows::plain(rows(0..4).batch).origin(0), None);
}
