//! Bytes sort as Arrow sorts the values, and their form is fixed.

use std::sync::Arc;

use arrow::array::{BinaryArray, Int64Builder, ListBuilder};
use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Fields};
use arrow::row::{RowConverter, SortField};
use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is stored stays readable: these bytes must never change.
#[test]
fn the_form_is_fixed() {
    let mut lists = ListBuilder::new(Int64Builder::new());
    lists.append_value([Some(7), None]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![5])),
        Arc::new(Int32Array::from(vec![-1])),
        Arc::new(StringArray::from(vec!["a\0b"])),
        Arc::new(Float64Array::from(vec![-0.0])),
        Arc::new(BooleanArray::from(vec![true])),
        Arc::new(Decimal128Array::from(vec![-2]).with_precision_and_scale(5, 1).unwrap()),
        Arc::new(Date32Array::from(vec![1])),
        Arc::new(TimestampMillisecondArray::from(vec![None])),
        Arc::new(lists.finish()),
    ];
    let of = |descending: bool| {
        let columns: Vec<_> =
            columns.iter().map(|column| (Arc::clone(column), descending)).collect();
        hex(&order_bytes(&columns, 1).unwrap()[0])
    };
    let ascending = [
        "018000000000000005",
        "017fffffffffffffff",
        "016100ff620000",
        "018000000000000000",
        "0101",
        "017ffffffffffffffffffffffffffffffe",
        "0180000001",
        "02",
        "010180000000000000070200",
    ];
    assert_eq!(of(false), ascending.concat());
    let descending = [
        "017ffffffffffffffa",
        "018000000000000000",
        "019eff009dffff",
        "017fffffffffffffff",
        "01fe",
        "0180000000000000000000000000000001",
        "017ffffffe",
        "02",
        "01fe7ffffffffffffff8fdff",
    ];
    assert_eq!(of(true), descending.concat());
}

fn arrow_order(column: &ArrayRef, descending: bool) -> Vec<Vec<u8>> {
    let options = SortOptions { descending, nulls_first: false };
    let field = SortField::new_with_options(column.data_type().clone(), options);
    let converter = RowConverter::new(vec![field]).unwrap();
    let rows = converter.convert_columns(std::slice::from_ref(column)).unwrap();
    rows.iter().map(|row| row.as_ref().to_vec()).collect()
}

fn agrees(column: &ArrayRef) -> Result<(), TestCaseError> {
    for descending in [false, true] {
        let ours = order_bytes(&[(Arc::clone(column), descending)], column.len()).unwrap();
        let theirs = arrow_order(column, descending);
        for one in 0..column.len() {
            for other in 0..column.len() {
                let (ours, theirs) = (ours[one].cmp(&ours[other]), theirs[one].cmp(&theirs[other]));
                prop_assert_eq!(ours, theirs, "{} {} descending {}", one, other, descending);
            }
        }
    }
    Ok(())
}

/// Arrow keeps −0.0 apart from 0.0; we do not.
fn float() -> impl Strategy<Value = Option<f64>> {
    let values = vec![0.0, 1.5, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN];
    proptest::option::of(proptest::sample::select(values))
}

fn text() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(
        proptest::sample::select(vec![0, 1, 0xff]),
        0..4,
    ))
}

proptest! {
    #[test]
    fn numbers_sort_as_arrow_sorts_them(values in proptest::collection::vec(any::<Option<i64>>(), 1..12)) {
        agrees(&(Arc::new(Int64Array::from(values)) as ArrayRef))?;
    }

    #[test]
    fn floats_sort_as_arrow_sorts_them(values in proptest::collection::vec(float(), 1..12)) {
        agrees(&(Arc::new(Float64Array::from(values)) as ArrayRef))?;
    }

    #[test]
    fn decimals_sort_as_arrow_sorts_them(values in proptest::collection::vec(any::<Option<i64>>(), 1..12)) {
        let values: Vec<Option<i128>> = values.into_iter().map(|value| value.map(i128::from)).collect();
        let column = Decimal128Array::from(values).with_precision_and_scale(38, 4).unwrap();
        agrees(&(Arc::new(column) as ArrayRef))?;
    }

    #[test]
    fn texts_sort_as_arrow_sorts_them(values in proptest::collection::vec(text(), 1..12)) {
        let column: BinaryArray = values.into_iter().collect();
        agrees(&(Arc::new(column) as ArrayRef))?;
    }

    /// A list that another one begins with comes first; structs go field by field.
    #[test]
    fn nested_values_sort_by_what_is_in_them(
        values in proptest::collection::vec(proptest::option::of(proptest::collection::vec(-2..3_i64, 0..3)), 1..10)
    ) {
        let mut lists = ListBuilder::new(Int64Builder::new());
        for value in &values {
            lists.append_option(value.clone().map(|value| value.into_iter().map(Some)));
        }
        let lists: ArrayRef = Arc::new(lists.finish());
        let bytes = order_bytes(&[(Arc::clone(&lists), false)], values.len()).unwrap();
        let key = |value: &Option<Vec<i64>>| (value.is_none(), value.clone());
        for one in 0..values.len() {
            for other in 0..values.len() {
                let expected = key(&values[one]).cmp(&key(&values[other]));
                prop_assert_eq!(bytes[one].cmp(&bytes[other]), expected);
            }
        }
        let fields: Fields = vec![Field::new("a", lists.data_type().clone(), true)].into();
        let structs: ArrayRef = Arc::new(StructArray::new(fields, vec![lists], None));
        let inside = order_bytes(&[(structs, false)], values.len()).unwrap();
        for one in 0..values.len() {
            for other in 0..values.len() {
                prop_assert_eq!(inside[one].cmp(&inside[other]), bytes[one].cmp(&bytes[other]));
            }
        }
    }
}
