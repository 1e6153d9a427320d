//! Rows come back as they were; no damage is taken for rows, and none panics.

use arrow::array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, ListArray, NullArray, StringArray, StructArray, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::datatypes::{Fields, Int32Type};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Rows of every type that travels, some values null.
fn rows(values: &[Option<i64>], times: bool, origins: bool, kinds: bool) -> Rows {
    let ints = || values.iter().copied();
    let text = ints().map(|v| v.map(|v| format!("t{v}")));
    let lists = ints().map(|v| v.map(|v| (0..v.rem_euclid(3)).map(move |i| Some(i + v))));
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
    let inner: Fields = vec![Field::new("x", DataType::Int64, true)].into();
    let nested = StructArray::new(
        inner,
        vec![Arc::new(Int64Array::from_iter(ints()))],
        Some(ints().map(|v| v.is_some()).collect::<Vec<_>>().into()),
    );
    let decimals = Decimal128Array::from_iter(ints().map(|v| v.map(i128::from)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(ints())),
        Arc::new(Int32Array::from_iter(ints().map(|v| v.map(|v| (v % 1000) as i32)))),
        Arc::new(Float64Array::from_iter(ints().map(|v| v.map(|v| v as f64 / 3.0)))),
        Arc::new(decimals.with_precision_and_scale(30, 3).unwrap()),
        Arc::new(StringArray::from_iter(text.clone())),
        Arc::new(BinaryArray::from_iter(text)),
        Arc::new(Date32Array::from_iter(ints().map(|v| v.map(|v| (v % 1000) as i32)))),
        Arc::new(TimestampMillisecondArray::from_iter(ints())),
        Arc::new(BooleanArray::from_iter(ints().map(|v| v.map(|v| v % 2 == 0)))),
        Arc::new(lists),
        Arc::new(nested),
        Arc::new(NullArray::new(values.len())),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(i, column)| Field::new(format!("c{i}"), column.data_type().clone(), true))
        .collect();
    Rows {
        batch: RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(),
        times: times.then(|| Int64Array::from_iter_values(0..values.len() as i64)),
        origins: origins.then(|| UInt64Array::from_iter_values(0..values.len() as u64)),
        kinds: kinds.then(|| (0..values.len()).map(|row| Some(row as u8 % 4)).collect()),
    }
}

fn same(a: &Rows, b: &Rows) -> bool {
    a.batch == b.batch && a.times == b.times && a.origins == b.origins && a.kinds == b.kinds
}

fn patch(bytes: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    Bytes::from(bytes)
}

fn with_checksum(bytes: &Bytes) -> Bytes {
    patch(bytes, |bytes| {
        let checksum = xxh3_64(&bytes[HEADER_BYTES..]);
        bytes[8..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    })
}

proptest! {
    #[test]
    fn rows_come_back(
        values in vec(proptest::option::of(any::<i64>()), 0..40),
        times in any::<bool>(),
        origins in any::<bool>(),
        kinds in any::<bool>(),
        cut in 0..40_usize,
    ) {
        let whole = rows(&values, times, origins, kinds);
        let start = cut.min(whole.len());
        for rows in [whole.slice(start, whole.len() - start), whole] {
            let bytes = encode(&rows).unwrap();
            let back = decode(&bytes, &rows.batch.schema()).unwrap();
            prop_assert!(same(&rows, &back), "{:?} {:?}", rows, back);
            // Bytes that lie anywhere in memory are read as well.
            let shifted = patch(&bytes, |bytes| bytes.insert(0, 7)).slice(1..);
            prop_assert!(same(&rows, &decode(&shifted, &rows.batch.schema()).unwrap()));
        }
    }

    #[test]
    fn one_wrong_byte_is_noticed(place in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let rows = rows(&[Some(1), None, Some(-7)], true, true, true);
        let bytes = encode(&rows).unwrap();
        let bad = patch(&bytes, |bytes| { let i = place.index(bytes.len()); bytes[i] ^= flip; });
        prop_assert!(decode(&bad, &rows.batch.schema()).is_err());
    }

    /// Even when the checksum fits, so that Arrow sees the damage.
    #[test]
    fn no_bytes_make_it_panic(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let rows = rows(&[Some(1), None, Some(-7), Some(3)], true, true, true);
        let bytes = encode(&rows).unwrap();
        let bad = patch(&bytes, |bytes| {
            for (place, byte) in &changes {
                let place = 1 + place.index(bytes.len() - 1);
                bytes[place] = *byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(HEADER_BYTES + cut.index(bytes.len() - HEADER_BYTES));
            }
        });
        if let Ok(rows) = decode(&with_checksum(&bad), &rows.batch.schema()) {
            for column in rows.batch.columns() {
                column.to_data().validate_full().unwrap();
            }
        }
    }
}

/// Arrow's reader panics at offsets that are no whole numbers.
#[test]
fn buffers_of_broken_values_are_refused() {
    let rows = rows(&[Some(1), None, Some(-7), Some(3)], true, true, true);
    let bytes = encode(&rows).unwrap();
    let length = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let mut refused = 0;
    // Whatever number in the metadata looks like a length in whole values becomes one that is not.
    for place in HEADER_BYTES..bytes.len() - 8 {
        let number = length(&bytes[place..place + 8]);
        if number > 0 && number < 100 && number % 4 == 0 {
            let bad = patch(&bytes, |bytes| bytes[place] -= 1);
            let decoded = decode(&with_checksum(&bad), &rows.batch.schema());
            refused += u32::from(decoded.is_err_and(|error| error.to_string().contains("whole")));
        }
    }
    assert!(refused > 3, "{refused}");
}

#[test]
fn every_cut_is_an_error() {
    let rows = rows(&[Some(1), Some(2)], true, false, false);
    let bytes = encode(&rows).unwrap();
    for length in 0..bytes.len() {
        assert!(decode(&bytes.slice(..length), &rows.batch.schema()).is_err(), "{length}");
    }
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let rows = rows(&[Some(1)], false, false, false);
    let bytes = patch(&encode(&rows).unwrap(), |bytes| bytes[0] = 2);
    let error = decode(&bytes, &rows.batch.schema()).unwrap_err();
    assert_eq!(error.to_string(), "rows in version 2 of the encoding, this worker reads up to 1");
}

#[test]
fn rows_of_another_schema_are_refused() {
    let rows = rows(&[Some(1), None], true, true, true);
    let bytes = encode(&rows).unwrap();
    let fewer = Schema::new(rows.batch.schema().fields()[..2].to_vec());
    let error = decode(&bytes, &Arc::new(fewer)).unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn types_that_do_not_travel_are_named() {
    let words = arrow::array::DictionaryArray::<Int32Type>::from_iter(["a"]);
    let field = Field::new("w", words.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(words)]).unwrap();
    let error = encode(&Rows::plain(batch)).unwrap_err().to_string();
    assert!(error.contains("Dictionary") && error.contains("can't be sent"), "{error}");
}

#[test]
fn a_batch_beyond_the_limit_is_refused() {
    let text = "x".repeat(BATCH_BYTES_MAX / 2 + 1);
    let column = StringArray::from(vec![text.as_str(), text.as_str()]);
    let schema = Arc::new(Schema::new(vec![Field::new("t", DataType::Utf8, false)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(column)]).unwrap();
    let error = encode(&Rows::plain(batch)).unwrap_err();
    assert!(matches!(error, CodecError::TooLarge { rows: 2, .. }), "{error}");
}

#[test]
fn a_number_that_is_no_kind_is_damage() {
    let rows = Rows {
        kinds: Some(UInt8Array::from(vec![0, 4])),
        ..rows(&[Some(1), Some(2)], true, false, false)
    };
    let error = decode(&encode(&rows).unwrap(), &rows.batch.schema()).unwrap_err().to_string();
    assert!(error.contains("kinds of rows"), "{error}");
}
