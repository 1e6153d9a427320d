//! What is written reads back as it was.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, TimestampSecondArray,
};
use arrow::datatypes::{Field, Fields};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::source::ndjson::RowBuilder;

fn lines(batch: &RecordBatch) -> String {
    encoded(&Rows::plain(batch.clone()), false)
}

fn encoded(rows: &Rows, changelog: bool) -> String {
    let encoder = Encoder::new(&rows.batch.schema(), changelog).unwrap();
    let (lines, mut out) = (encoder.rows(rows), Vec::new());
    for row in 0..rows.len() {
        lines.line(row, &mut out);
    }
    String::from_utf8(out).unwrap()
}

fn column(array: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("a", array, true)]).unwrap()
}

fn writes(array: ArrayRef, values: &[&str]) {
    let expected: String = values.iter().map(|value| format!("{{\"a\":{value}}}\n")).collect();
    assert_eq!(lines(&column(array)), expected);
}

#[test]
fn times_and_dates_of_all_ages() {
    let ms = TimestampMillisecondArray::from(vec![
        0,
        -1,
        -62_167_219_200_000,
        253_402_300_799_999,
        253_402_300_800_000,
        i64::MIN,
        951_782_400_000,
    ]);
    writes(
        Arc::new(ms.with_data_type(weir_expr::types::timestamp())),
        &[
            "\"1970-01-01T00:00:00.000Z\"",
            "\"1969-12-31T23:59:59.999Z\"",
            "\"0000-01-01T00:00:00.000Z\"",
            "\"9999-12-31T23:59:59.999Z\"",
            "\"+010000-01-01T00:00:00.000Z\"",
            "\"-292275055-05-16T16:47:04.192Z\"",
            "\"2000-02-29T00:00:00.000Z\"",
        ],
    );
    let days = Date32Array::from(vec![Some(0), None, Some(-1), Some(-719_529)]);
    writes(Arc::new(days), &["\"1970-01-01\"", "null", "\"1969-12-31\"", "\"-000001-12-31\""]);
}

#[test]
fn numbers_are_plain_and_shortest() {
    let floats = [0.1, -0.0, 1e21, 1e-7, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX];
    writes(
        Arc::new(Float64Array::from_iter_values(floats)),
        &[
            "0.1",
            "-0.0",
            "1e21",
            "1e-7",
            "\"NaN\"",
            "\"Infinity\"",
            "\"-Infinity\"",
            "1.7976931348623157e308",
        ],
    );
    writes(Arc::new(Int64Array::from(vec![i64::MIN])), &["-9223372036854775808"]);
    let decimals = Decimal128Array::from(vec![5, -5, 0, -12_345, i128::from(i64::MAX)]);
    writes(
        Arc::new(decimals.with_precision_and_scale(38, 3).unwrap()),
        &["0.005", "-0.005", "0.000", "-12.345", "9223372036854775.807"],
    );
}

#[test]
fn text_is_escaped_where_it_must_be() {
    let text = StringArray::from(vec!["plain é😀", "a\"b\\c\nd\te\u{0}f\u{1f}/\u{7f}", ""]);
    writes(
        Arc::new(text),
        &["\"plain é😀\"", "\"a\\\"b\\\\c\\nd\\te\\u0000f\\u001f/\u{7f}\"", "\"\""],
    );
}

#[test]
fn columns_keep_their_order_and_names_are_escaped() {
    let one = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("z", one()), ("a \"b\"", one())]).unwrap();
    assert_eq!(lines(&batch), "{\"z\":1,\"a \\\"b\\\"\":1}\n");
}

#[test]
fn a_type_without_a_form_is_refused_by_name() {
    let batch = column(Arc::new(TimestampSecondArray::from(vec![1])));
    let refused = Encoder::new(&batch.schema(), false).unwrap_err();
    assert!(refused.starts_with("column a is "), "{refused}");
    assert!(refused.ends_with(", which can't be written as ndjson"), "{refused}");
}

const TYPES: [(&str, &str); 11] = [
    ("boolean", "boolean"),
    ("int32", "int32"),
    ("int64", "int64"),
    ("float64", "float64"),
    ("decimal", "decimal(20,4)"),
    ("string", "string"),
    ("binary", "binary"),
    ("date", "date"),
    ("timestamp", "timestamp"),
    ("list", "list<struct<a: int64, b: string>>"),
    ("struct", "struct<x: list<float64>, y: struct<z: boolean>>"),
];

/// A JSON text of a value of the type, sometimes null.
fn value(data_type: &DataType) -> BoxedStrategy<String> {
    let text = match data_type {
        DataType::Boolean => any::<bool>().prop_map(|v| v.to_string()).boxed(),
        DataType::Int32 => any::<i32>().prop_map(|v| v.to_string()).boxed(),
        DataType::Int64 => any::<i64>().prop_map(|v| v.to_string()).boxed(),
        DataType::Float64 => any::<f64>().prop_map(|v| serde_json::json!(v).to_string()).boxed(),
        DataType::Decimal128(_, _) => (any::<i64>(), 0..9999_u32)
            .prop_map(|(whole, fraction)| format!("{}.{fraction:04}", whole / 1000))
            .boxed(),
        DataType::Utf8 => any::<String>().prop_map(|v| serde_json::json!(v).to_string()).boxed(),
        DataType::Binary => {
            vec(any::<u8>(), 0..9).prop_map(|v| format!("\"{}\"", BASE64.encode(v))).boxed()
        }
        DataType::Date32 => (1..9999_i32, 1..13_i32, 1..29_i32)
            .prop_map(|(y, m, d)| format!("\"{y:04}-{m:02}-{d:02}\""))
            .boxed(),
        DataType::Timestamp(_, _) => {
            (-60_000_000_000_000..250_000_000_000_000_i64).prop_map(|v| v.to_string()).boxed()
        }
        DataType::List(element) => vec(value(element.data_type()), 0..4)
            .prop_map(|elements| format!("[{}]", elements.join(",")))
            .boxed(),
        DataType::Struct(fields) => object_of(fields),
        other => unreachable!("{other}"),
    };
    option::weighted(0.9, text).prop_map(|text| text.unwrap_or("null".to_owned())).boxed()
}

fn object_of(fields: &Fields) -> BoxedStrategy<String> {
    let member = |field: &Arc<Field>| {
        let name = field.name().clone();
        value(field.data_type()).prop_map(move |value| format!("\"{name}\": {value}"))
    };
    let members: Vec<_> = fields.iter().map(member).collect();
    members.prop_map(|members| format!("{{ {} }}", members.join(" ,"))).boxed()
}

fn schema() -> Schema {
    let columns = TYPES.map(|(name, text)| (name.to_owned(), text.to_owned()));
    weir_expr::types::read_schema(&columns).unwrap()
}

fn build(lines: &[&str]) -> RecordBatch {
    let schema = schema();
    let mut builder = RowBuilder::new(schema.fields());
    for line in lines {
        builder.append(line.as_bytes(), None).unwrap();
    }
    RecordBatch::try_new(schema.into(), builder.finish()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_was_written_reads_back_the_same(rows in vec(object_of(schema().fields()), 1..6)) {
        let batch = build(&rows.iter().map(String::as_str).collect::<Vec<_>>());
        let text = lines(&batch);
        let again = build(&text.lines().collect::<Vec<_>>());
        prop_assert_eq!(&again, &batch);
        // Another reader of JSON understands the same.
        for (ours, given) in text.lines().zip(&rows) {
            let ours: serde_json::Value = serde_json::from_str(ours).unwrap();
            let given: serde_json::Value = serde_json::from_str(given).unwrap();
            for name in ["boolean", "int32", "int64", "float64", "string", "binary", "date", "list", "struct"] {
                prop_assert!(alike(&ours[name], &given[name]), "{} is {} and was {}", name, ours[name], given[name]);
            }
        }
    }
}

/// The same value, but for what serde_json loses of a float's last bits
/// unless it is built with `float_roundtrip`: two ways to write one float
/// then read as two. That ours are exact is for our own reader to show.
fn alike(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Number(a), Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 2.0 * f64::EPSILON * a.abs()
        }
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| alike(a, b)))
        }
        (a, b) => a == b,
    }
}

#[test]
fn a_float_with_seventeen_digits_reads_back_the_same() {
    let given = ["{\"float64\":133076199964960.63}", "{\"float64\":1.3307619996496062e14}"];
    let text = lines(&build(&given));
    assert_eq!(text.matches("133076199964960.6").count(), 2, "{text}");
    assert_eq!(build(&text.lines().collect::<Vec<_>>()), build(&given));
}

#[test]
fn rows_of_a_changelog_have_their_kind_in_front() {
    let batch = column(Arc::new(Int64Array::from(vec![1, 2, 3])));
    let inserts = Rows::plain(batch.clone());
    let kinds = Some(vec![1, 2, 3].into());
    let changes = Rows { kinds, ..Rows::plain(batch) };
    assert_eq!(
        encoded(&changes, true),
        "{\"_op\":\"-U\",\"a\":1}\n{\"_op\":\"+U\",\"a\":2}\n{\"_op\":\"-D\",\"a\":3}\n"
    );
    let first = encoded(&inserts.slice(0, 1), true);
    assert_eq!(first, "{\"_op\":\"+I\",\"a\":1}\n");
    assert_eq!(encoded(&inserts.slice(0, 1), false), "{\"a\":1}\n");
}
