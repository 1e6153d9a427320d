//! Equal values have equal bytes, different values different ones, and the bytes never change.
//!
//! Method: single values are drawn from a small alphabet full of near-equals, put into columns of
//! every type that can hold them, and compared with an equality written down by hand.

use arrow::array::{
    BinaryArray, Date32Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
    LargeStringArray, ListArray, NullArray, StringArray, StructArray, TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::Field;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A value as a user means it.
#[derive(Clone, Debug)]
enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Decimal(i128, i8),
    Text(String),
    Binary(Vec<u8>),
    Date(i32),
    Time(i64),
}

fn value() -> impl Strategy<Value = Value> {
    let floats = [0.0, -0.0, 1.0, -1.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::MIN, 5e-324];
    let ints = prop_oneof![Just(0), Just(i64::MIN), Just(i64::MAX), -300..300_i64, any::<i64>()];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        ints.clone().prop_map(Value::Int),
        prop_oneof![prop::sample::select(floats.to_vec()), any::<f64>()].prop_map(Value::Float),
        (-1200..1200_i128, 0..4_i8).prop_map(|(value, scale)| Value::Decimal(value, scale)),
        (any::<i64>(), 0..4_i8).prop_map(|(value, scale)| {
            Value::Decimal(i128::from(value) * 1_000_000_007, scale)
        }),
        "[ab\u{0}é]{0,3}".prop_map(Value::Text),
        vec(0..3_u8, 0..3).prop_map(Value::Binary),
        (-3..3_i32).prop_map(Value::Date),
        ints.prop_map(Value::Time),
    ]
}

/// Equality of keys as pipeline.md means it.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) | (Value::Time(a), Value::Time(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
        (Value::Decimal(a, scale_a), Value::Decimal(b, scale_b)) => {
            a * 10_i128.pow((4 - scale_a).unsigned_abs().into())
                == b * 10_i128.pow((4 - scale_b).unsigned_abs().into())
        }
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Binary(a), Value::Binary(b)) => a == b,
        (Value::Date(a), Value::Date(b)) => a == b,
        _ => false,
    }
}

/// All columns of one row that hold the value; they must agree.
fn columns(value: &Value) -> Vec<ArrayRef> {
    match value {
        Value::Null => vec![
            Arc::new(NullArray::new(1)),
            Arc::new(Int32Array::from(vec![None])),
            Arc::new(StringArray::from(vec![None::<&str>])),
            Arc::new(BooleanArray::from(vec![None])),
            Arc::new(Float64Array::from(vec![None])),
            Arc::new(DictionaryArray::<Int32Type>::from_iter([None::<&str>])),
            Arc::new(BinaryArray::from(vec![None::<&[u8]>])),
            Arc::new(Decimal128Array::from(vec![None])),
        ],
        Value::Bool(value) => vec![Arc::new(BooleanArray::from(vec![*value]))],
        Value::Int(value) => {
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![*value]))];
            columns.extend(
                i32::try_from(*value)
                    .map(|value| Arc::new(Int32Array::from(vec![value])) as ArrayRef),
            );
            columns
        }
        Value::Float(value) => vec![Arc::new(Float64Array::from(vec![*value]))],
        Value::Decimal(value, scale) => {
            let column = Decimal128Array::from(vec![*value]);
            vec![Arc::new(column.with_precision_and_scale(38, *scale).unwrap())]
        }
        Value::Text(value) => vec![
            Arc::new(StringArray::from(vec![value.as_str()])),
            Arc::new(LargeStringArray::from(vec![value.as_str()])),
            Arc::new(DictionaryArray::<Int32Type>::from_iter([value.as_str()])),
        ],
        Value::Binary(value) => vec![Arc::new(BinaryArray::from(vec![value.as_slice()]))],
        Value::Date(value) => vec![Arc::new(Date32Array::from(vec![*value]))],
        Value::Time(value) => {
            let column = TimestampMillisecondArray::from(vec![*value]);
            vec![Arc::new(column.clone()), Arc::new(column.with_timezone("UTC"))]
        }
    }
}

fn encode(columns: &[ArrayRef]) -> Bytes {
    Keys::encode(columns, 1).unwrap().key_bytes(0)
}

fn encoded(value: &Value) -> Bytes {
    let columns = columns(value);
    let first = encode(&columns[..1]);
    for column in &columns {
        assert_eq!(encode(std::slice::from_ref(column)), first, "{column:?}");
    }
    first
}

proptest! {
    #[test]
    fn equal_values_have_equal_bytes_and_others_not(a in value(), b in value()) {
        prop_assert_eq!(encoded(&a) == encoded(&b), same(&a, &b), "{:?} {:?}", a, b);
    }

    /// Self-delimiting: the border between two columns can't move.
    #[test]
    fn pairs_are_equal_only_column_by_column(
        a in (value(), value()),
        b in (value(), value()),
    ) {
        let key = |pair: &(Value, Value)| {
            encode(&[columns(&pair.0).remove(0), columns(&pair.1).remove(0)])
        };
        let equal = same(&a.0, &b.0) && same(&a.1, &b.1);
        prop_assert_eq!(key(&a) == key(&b), equal);
    }

    #[test]
    fn keys_decode_to_values_that_encode_alike(pairs in vec((value(), value()), 1..4)) {
        for (left, right) in pairs {
            for (left, right) in columns(&left).iter().zip(columns(&right).iter().cycle()) {
                let key = encode(&[Arc::clone(left), Arc::clone(right)]);
                let field = |name: &str, column: &ArrayRef| {
                    Field::new(name, column.data_type().clone(), true)
                };
                let fields = [field("l", left), field("r", right)];
                let back = decode_keys(std::slice::from_ref(&key), &fields).unwrap();
                prop_assert_eq!(back[0].data_type(), left.data_type());
                prop_assert_eq!(encode(&back), key);
            }
        }
    }

    /// Any bytes, and any part of a key, decode to values or to an error, never to a panic.
    #[test]
    fn damaged_keys_are_refused(bytes in vec(any::<u8>(), 0..40), value in value(), cut in 0..40_usize) {
        let types = [
            DataType::Int32, DataType::Utf8, DataType::Binary, DataType::Float64,
            DataType::Decimal128(10, 2), DataType::Date32, DataType::Boolean,
        ];
        for data_type in types {
            let fields = [Field::new("a", data_type, true)];
            let _ = decode_keys(&[Bytes::from(bytes.clone())], &fields);
        }
        let key = encoded(&value);
        let column = &columns(&value)[0];
        let fields = [Field::new("a", column.data_type().clone(), true)];
        if cut < key.len() {
            prop_assert!(decode_keys(&[key.slice(..cut)], &fields).is_err());
        }
        let longer: Bytes = key.iter().copied().chain([0]).collect();
        prop_assert!(decode_keys(&[longer], &fields).is_err());
    }
}

/// The stored form. If this fails, the state of running jobs can't be found any more.
#[test]
fn golden_bytes() {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(-2), None])),
        Arc::new(Int64Array::from(vec![1, i64::MAX])),
        Arc::new(Float64Array::from(vec![-0.0, -1.5])),
        Arc::new(Decimal128Array::from(vec![12_300, -1]).with_precision_and_scale(9, 2).unwrap()),
        Arc::new(StringArray::from(vec!["é", &"x".repeat(3)])),
        Arc::new(BinaryArray::from(vec![b"".as_slice(), b"\x00\xff"])),
        Arc::new(Date32Array::from(vec![1, -1])),
        Arc::new(TimestampMillisecondArray::from(vec![1_000, -1])),
        Arc::new(BooleanArray::from(vec![true, false])),
    ];
    let keys = Keys::encode(&columns, 2).unwrap();
    let hex = |row: usize| keys.key(row).iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(
        hex(0),
        "037ffffffffffffffe0380000000000000010480000000000000000500017b\
         0602c3a90700088000000109800000000000\
         03e802"
    );
    assert_eq!(
        hex(1),
        "0003ffffffffffffffff044007ffffffffffff050201ff06037878780702\
         00ff087fffffff097fffffffffffffff01"
    );
    assert_eq!(keys.hashes(), [xxh3_64(keys.key(0)), xxh3_64(keys.key(1))]);
    let long = encode(&[Arc::new(StringArray::from(vec!["y".repeat(300)]))]);
    assert_eq!(long[..4], [6, 0xac, 0x02, b'y']);
}

#[test]
fn without_columns_all_keys_are_one() {
    let keys = Keys::encode(&[], 3).unwrap();
    assert_eq!((keys.len(), keys.key(2), keys.is_empty()), (3, &[][..], false));
    assert_eq!(keys.hashes()[0], keys.hashes()[2]);
    assert!(decode_keys::<Field>(&[keys.key_bytes(0)], &[]).unwrap().is_empty());
}

#[test]
fn types_that_cannot_be_keys_are_named() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    assert!(!is_key_type(&list) && is_key_type(&DataType::Utf8));
    let column = arrow::array::new_null_array(&DataType::Time32(TimeUnit::Second), 1);
    let error = Keys::encode(&[column], 1).unwrap_err();
    assert!(error.to_string().contains("Time32(s) can't be kept"), "{error}");
}

/// `[[1, null], null, [], [2]]` and a struct of such lists and a text, one of them null.
fn nested() -> Vec<ArrayRef> {
    let numbers = [Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(2)])];
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(numbers);
    let lists: ArrayRef = Arc::new(lists);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), Some("y"), None, Some("z")]));
    let fields = vec![
        Field::new("l", lists.data_type().clone(), true),
        Field::new("t", DataType::Utf8, true),
    ];
    let columns = vec![Arc::clone(&lists), texts];
    let valid = NullBuffer::from(vec![true, true, true, false]);
    let structs: ArrayRef = Arc::new(StructArray::new(fields.into(), columns, Some(valid)));
    let item = Arc::new(Field::new("item", structs.data_type().clone(), true));
    let ends = OffsetBuffer::new(vec![0, 1, 1, 4, 4].into());
    let valid = NullBuffer::from(vec![true, false, true, true]);
    let deep = ListArray::new(item, ends, Arc::clone(&structs), Some(valid));
    vec![lists, structs, Arc::new(deep)]
}

#[test]
fn lists_and_structs_come_back_as_they_were_from_any_slice() {
    let columns = nested();
    for (first, count) in [(0, 4), (1, 3), (2, 1), (4, 0)] {
        let columns: Vec<ArrayRef> =
            columns.iter().map(|column| column.slice(first, count)).collect();
        let rows = Keys::encode(&columns, count).unwrap();
        let rows: Vec<Bytes> = (0..count).map(|row| rows.key_bytes(row)).collect();
        let field = |column: &ArrayRef| Field::new("c", column.data_type().clone(), true);
        let fields: Vec<Field> = columns.iter().map(field).collect();
        assert_eq!(decode_keys(&rows, &fields).unwrap(), columns);
        for row in rows {
            let cut = decode_keys(&[row.slice(..row.len() - 1)], &fields).unwrap_err();
            assert!(cut.to_string().contains("damaged"), "{cut}");
        }
    }
}

#[test]
fn the_bytes_of_lists_and_structs_never_change() {
    let columns = nested();
    let hex = |column: usize, row: usize| -> String {
        let keys = Keys::encode(&columns[column..=column], 4).unwrap();
        keys.key(row).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let one = "0a0a03800000000000000100";
    assert_eq!([hex(0, 0), hex(0, 1), hex(0, 2)], [one, "00", "0a00"]);
    assert_eq!([hex(1, 0), hex(1, 2)], [&format!("0b{one}060178"), "0b0a0000"]);
    assert_eq!(hex(1, 3), "00");
    assert_eq!(hex(2, 2), "0a0a0b000601790b0a000000");
}

#[test]
fn a_key_of_another_type_is_damage() {
    let key = encode(&[Arc::new(Int64Array::from(vec![1 << 40]))]);
    let read =
        |data_type| decode_keys(std::slice::from_ref(&key), &[Field::new("a", data_type, true)]);
    assert_eq!(
        read(DataType::Int32).unwrap_err().to_string(),
        "a key is damaged at byte 9: an int32"
    );
    assert!(read(DataType::Utf8).unwrap_err().to_string().contains("the column's type"));
    let key = encode(&[Arc::new(
        Decimal128Array::from(vec![12_345]).with_precision_and_scale(9, 3).unwrap(),
    )]);
    let fields = [Field::new("a", DataType::Decimal128(9, 2), true)];
    assert!(decode_keys(&[key], &fields).is_err(), "a digit would be lost");
}
