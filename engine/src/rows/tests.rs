//! Operations on whole batches keep columns, times, origins and kinds together.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::collection::vec;
use proptest::prelude::*;

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
        kinds: None,
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

/// Inserts, updates and deletes; two rows of an update have numbers one behind the other.
fn changelog(changes: &[u8]) -> Rows {
    let kinds: Vec<u8> = changes
        .iter()
        .flat_map(|change| match change {
            0 => vec![Kind::Insert as u8],
            1 => vec![Kind::Delete as u8],
            _ => vec![Kind::Before as u8, Kind::After as u8],
        })
        .collect();
    let length = i64::try_from(kinds.len()).unwrap();
    Rows { kinds: Some(UInt8Array::from(kinds)), ..rows(0..length) }
}

fn kinds(rows: &Rows) -> Vec<&'static str> {
    (0..rows.len()).map(|row| rows.kind(row).text()).collect()
}

#[test]
fn of_an_update_one_half_becomes_an_insert_or_a_delete() {
    let updates = changelog(&[2, 2]);
    let mask = |kept: [bool; 4]| BooleanArray::from(kept.to_vec());
    let halves = updates.filter(&mask([true, false, false, true])).unwrap();
    assert_eq!((numbers(&halves), kinds(&halves)), (vec![0, 3], vec!["-D", "+I"]));
    let one = updates.filter(&mask([false, true, true, true])).unwrap();
    assert_eq!((numbers(&one), kinds(&one)), (vec![1, 2, 3], vec!["+I", "-U", "+U"]));
    let last = updates.filter(&mask([true, true, true, false])).unwrap();
    assert_eq!((numbers(&last), kinds(&last)), (vec![0, 1, 2], vec!["-U", "+U", "-D"]));
    let taken = updates.take(&UInt32Array::from(vec![0, 2])).unwrap();
    assert_eq!((numbers(&taken), kinds(&taken)), (vec![0, 2], vec!["-D", "-D"]));
}

#[test]
fn rows_without_kinds_are_inserts_beside_others() {
    let all = Rows::concat(&[rows(0..1), changelog(&[2]), rows(3..4)]).unwrap();
    assert_eq!(kinds(&all), ["+I", "-U", "+U", "+I"]);
    assert!(Rows::concat(&[rows(0..1), rows(1..2)]).unwrap().kinds.is_none());
}

proptest! {
    /// Whatever stays of a changelog is one: each `-U` directly before its `+U`, and no row turns
    /// from one that comes into one that goes.
    #[test]
    fn what_stays_of_a_changelog_is_a_changelog(
        changes in vec(0..3_u8, 0..20), kept in vec(any::<bool>(), 40)
    ) {
        let all = changelog(&changes);
        let mask = BooleanArray::from(kept[..all.len()].to_vec());
        let indices: UInt32Array =
            (0..).zip(&kept[..all.len()]).filter(|(_, kept)| **kept).map(|(row, _)| row).collect();
        let taken = all.take(&indices).unwrap();
        let rest = all.filter(&mask).unwrap();
        prop_assert_eq!(kinds(&taken), kinds(&rest));
        let numbers = numbers(&rest);
        for (row, number) in numbers.iter().enumerate() {
            let old = all.kind(usize::try_from(*number).unwrap());
            prop_assert_eq!(rest.kind(row).retracts(), old.retracts());
            let next = (row + 1 < rest.len()).then(|| (rest.kind(row + 1), numbers[row + 1]));
            prop_assert_eq!(
                rest.kind(row) == Kind::Before,
                old == Kind::Before && next == Some((Kind::After, number + 1))
            );
        }
        for at in 0..=rest.len() {
            let cut = rest.cut(at);
            prop_assert!(cut == at || cut == at + 1);
            prop_assert!(cut == 0 || rest.kind(cut - 1) != Kind::Before);
        }
    }
}
