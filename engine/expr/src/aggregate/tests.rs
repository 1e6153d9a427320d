//! Aggregates against a slow obvious model, their refusals, their errors, their stored bytes.

use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int32Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;

use super::*;
use crate::types;

mod changes;
mod model;

const COLUMNS: [(&str, &str); 10] = [
    ("i", "int64"),
    ("small", "int32"),
    ("f", "float64"),
    ("d", "decimal(10,2)"),
    ("wide", "decimal(38,2)"),
    ("s", "string"),
    ("bin", "binary"),
    ("b", "boolean"),
    ("day", "date"),
    ("t", "timestamp"),
];

fn schema() -> Schema {
    let column =
        |(name, data_type): (&str, &str)| Field::new(name, types::parse(data_type).unwrap(), true);
    Schema::new(COLUMNS.map(column).to_vec())
}

/// Rows with event time that only come.
const PLAIN: InputMode = InputMode { has_time: true, retractable: false };

fn compile(items: &[&str]) -> Result<Aggregates, String> {
    compile_for(items, PLAIN)
}

fn compile_for(items: &[&str], mode: InputMode) -> Result<Aggregates, String> {
    let items: Vec<String> = items.iter().map(|item| (*item).to_owned()).collect();
    compile_aggregates(&schema(), &items, mode).map_err(|errors| {
        let lines = errors.iter().map(|error| format!("[{}] {error}", error.item));
        lines.collect::<Vec<_>>().join(", ")
    })
}

/// One row; each column may be null.
#[derive(Clone, Debug, Default)]
struct Row {
    i: Option<i64>,
    f: Option<f64>,
    d: Option<i64>,
    s: Option<String>,
}

fn batch(rows: &[Row]) -> RecordBatch {
    let ints = || rows.iter().map(|row| row.i);
    let small = |i: i64| i32::try_from(i.clamp(-1_000_000, 1_000_000)).unwrap();
    let decimals = |factor: i128| {
        rows.iter()
            .map(move |row| row.d.map(|d| i128::from(d) * factor))
            .collect::<Decimal128Array>()
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ints().collect::<Int64Array>()),
        Arc::new(ints().map(|i| i.map(small)).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.f).collect::<Float64Array>()),
        Arc::new(decimals(1).with_precision_and_scale(10, 2).unwrap()),
        Arc::new(decimals(10i128.pow(27)).with_precision_and_scale(38, 2).unwrap()),
        Arc::new(rows.iter().map(|row| row.s.clone()).collect::<StringArray>()),
        Arc::new(
            rows.iter().map(|row| row.s.clone().map(String::into_bytes)).collect::<BinaryArray>(),
        ),
        Arc::new(ints().map(|i| i.map(|i| i > 0)).collect::<BooleanArray>()),
        Arc::new(ints().map(|i| i.map(small)).collect::<Date32Array>()),
        Arc::new(ints().collect::<TimestampMillisecondArray>().with_timezone("UTC")),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns).unwrap()
}

fn show(array: &ArrayRef) -> String {
    let options = FormatOptions::default().with_null("null");
    let formatter = ArrayFormatter::try_new(array, &options).unwrap();
    let values: Vec<String> =
        (0..array.len()).map(|row| formatter.value(row).to_string()).collect();
    values.join(" | ")
}

/// The arguments over rows whose times ascend.
fn inputs_of(aggregates: &Aggregates, rows: &[Row]) -> Result<Inputs, RowError> {
    let times = Int64Array::from_iter_values((0..).take(rows.len()));
    aggregates.inputs(&batch(rows), Some(&times), None)
}

fn state_of(aggregates: &Aggregates, rows: &[Row]) -> State {
    let mut states = [aggregates.new_state()];
    let inputs = inputs_of(aggregates, rows).unwrap();
    aggregates.update_many(&mut states, &inputs, &vec![0; rows.len()]);
    let [state] = states;
    state
}

fn bytes_of(aggregates: &Aggregates, state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    aggregates.encode(state, &mut bytes);
    bytes
}

fn row(i: impl Into<Option<i64>>, f: impl Into<Option<f64>>) -> Row {
    let i = i.into();
    Row {
        i,
        f: f.into(),
        d: i.map(|i| i.clamp(-9_999_999_999, 9_999_999_999)),
        s: i.map(|i| format!("s{i}")),
    }
}

/// Each item has this type and this value over the rows.
#[track_caller]
fn check(rows: &[Row], cases: &[(&str, &str, &str)]) {
    for (item, data_type, expected) in cases {
        let aggregates = compile(&[&format!("{item} as x")]).unwrap();
        let field = &aggregates.output_fields()[0];
        assert_eq!(types::print(field.data_type()), *data_type, "{item}");
        let results = aggregates.finish(&[state_of(&aggregates, rows)]).unwrap();
        assert_eq!(results[0].data_type(), field.data_type(), "{item}");
        assert_eq!(show(&results[0]), *expected, "{item}");
    }
}

const STRUCTS: &str =
    "[{c0: 3, c1: true}, {c0: null, c1: null}, {c0: -4, c1: false}, {c0: 6, c1: true}]";

#[test]
fn every_aggregate_of_every_type() {
    let rows = [row(3, 0.1), row(None, None), row(-4, 0.2), row(6, f64::from(3) / 10.0)];
    check(
        &rows,
        &[
            ("count(*)", "int64", "4"),
            ("count(i)", "int64", "3"),
            ("COUNT(s)", "int64", "3"),
            ("count(1)", "int64", "4"),
            ("sum(i)", "int64", "5"),
            ("sum(small)", "int64", "5"),
            ("sum(f)", "float64", "0.6"),
            ("sum(d)", "decimal(38,2)", "0.05"),
            ("avg(i)", "float64", "1.6666666666666667"),
            ("avg(small)", "float64", "1.6666666666666667"),
            ("avg(f)", "float64", "0.19999999999999998"),
            ("avg(d)", "decimal(14,6)", "0.016667"),
            ("avg(wide)", "decimal(38,6)", "16666666666666666666666666.666667"),
            ("avg(-d)", "decimal(14,6)", "-0.016667"),
            ("min(i)", "int64", "-4"),
            ("max(small)", "int32", "6"),
            ("min(f)", "float64", "0.1"),
            ("max(f)", "float64", "0.3"),
            ("min(d)", "decimal(10,2)", "-0.04"),
            ("max(s)", "string", "s6"),
            ("min(s)", "string", "s-4"),
            ("max(bin)", "binary", "7336"),
            ("min(b)", "boolean", "false"),
            ("max(b)", "boolean", "true"),
            ("min(day)", "date", "1969-12-28"),
            ("max(t)", "timestamp", "1970-01-01T00:00:00.006Z"),
            ("sum(i) / count(*)", "int64", "1"),
            ("sum(i) / cast(count(*) as float64)", "float64", "1.25"),
            ("round(avg(f), 2)", "float64", "0.2"),
            ("max(i) - min(i)", "int64", "10"),
            ("coalesce(sum(i), 0)", "int64", "5"),
            ("sum(i * 2 + 1)", "int64", "13"),
            ("case when count(*) > 3 then 'many' else 'few' end", "string", "many"),
            ("first(i)", "int64", "3"),
            ("last(s)", "string", "s6"),
            ("first(f) filter (where i < 0)", "float64", "0.2"),
            ("array_agg(small)", "list<int32>", "[3, null, -4, 6]"),
            ("array_agg(s) filter (where i > 0)", "list<string>", "[s3, s6]"),
            ("array_agg(struct(i, b))", "list<struct<c0: int64, c1: boolean>>", STRUCTS),
            ("bool_and(i > 0)", "boolean", "false"),
            ("bool_or(b)", "boolean", "true"),
            ("var(i)", "float64", "26.333333333333332"),
            ("var_samp(small)", "float64", "26.333333333333332"),
            ("var_pop(i)", "float64", "17.555555555555557"),
            ("var_pop(d)", "float64", "0.0017555555555555558"),
            ("stddev(i * 1.0)", "float64", "5.131601439446884"),
            ("stddev_samp(f)", "float64", "0.09999999999999999"),
            ("stddev_pop(i / 2)", "float64", "2.0548046676563256"),
            ("count(distinct i % 2)", "int64", "2"),
            ("sum(distinct i * i)", "int64", "61"),
            ("avg(distinct d)", "decimal(14,6)", "0.016667"),
            ("array_agg(distinct i % 3)", "list<int64>", "[0, null, -1]"),
            ("count(*) filter (where i is null)", "int64", "1"),
            ("count(all i)", "int64", "3"),
            ("sum(i) FILTER (WHERE f < 0.15) + count(*)", "int64", "7"),
            ("sum(10 / i) filter (where i > 3)", "int64", "1"),
            ("min(i) filter (where i < -100)", "int64", "null"),
            ("count(i) filter (where i > 100)", "int64", "0"),
            ("array_agg(i) filter (where i > 100)", "list<int64>", "null"),
        ],
    );
}

#[test]
fn nulls_alone_give_null_and_count_zero() {
    check(
        &[Row::default(), Row::default()],
        &[
            ("count(*)", "int64", "2"),
            ("count(i)", "int64", "0"),
            ("sum(i)", "int64", "null"),
            ("sum(f)", "float64", "null"),
            ("sum(d)", "decimal(38,2)", "null"),
            ("avg(i)", "float64", "null"),
            ("avg(f)", "float64", "null"),
            ("avg(d)", "decimal(14,6)", "null"),
            ("min(s)", "string", "null"),
            ("max(t)", "timestamp", "null"),
            ("first(i)", "int64", "null"),
            ("array_agg(i)", "list<int64>", "[null, null]"),
            ("array_agg(distinct i)", "list<int64>", "[null]"),
            ("bool_and(b)", "boolean", "null"),
            ("stddev_pop(i)", "float64", "null"),
            ("sum(distinct f)", "float64", "null"),
            ("count(distinct s)", "int64", "0"),
        ],
    );
}

#[test]
fn numbers_that_are_none_and_both_zeros() {
    let rows = |values: &[f64]| values.iter().map(|f| row(None, *f)).collect::<Vec<_>>();
    check(
        &rows(&[1.0, f64::NAN, -f64::NAN]),
        &[
            ("sum(f)", "float64", "NaN"),
            ("avg(f)", "float64", "NaN"),
            ("min(f)", "float64", "1.0"),
            ("max(f)", "float64", "NaN"),
        ],
    );
    check(
        &rows(&[f64::INFINITY, 1.0]),
        &[("sum(f)", "float64", "inf"), ("min(f)", "float64", "1.0")],
    );
    check(&rows(&[0.0, -0.0]), &[("min(f)", "float64", "-0.0"), ("max(f)", "float64", "0.0")]);
    check(
        &rows(&[-0.0, f64::NAN, 0.0, -f64::NAN]),
        &[
            ("count(distinct f)", "int64", "2"),
            ("array_agg(distinct f)", "list<float64>", "[0.0, NaN]"),
            ("array_agg(f)", "list<float64>", "[-0.0, NaN, 0.0, NaN]"),
            (
                "array_agg(distinct struct(f))",
                "list<struct<c0: float64>>",
                "[{c0: 0.0}, {c0: NaN}]",
            ),
            ("var_pop(f)", "float64", "NaN"),
        ],
    );
    check(
        &rows(&[f64::MAX, f64::MAX]),
        &[("sum(f)", "float64", "inf"), ("avg(f)", "float64", "1.7976931348623157e308")],
    );
}

#[test]
fn an_overflow_names_its_group_and_is_judged_at_the_end() {
    let cases: [(&str, Vec<Row>, Vec<Row>, &str); 3] = [
        (
            "sum(i) as x",
            vec![row(i64::MAX, None), row(1, None), row(-1, None)],
            vec![row(i64::MAX, None), row(1, None)],
            "`sum(i)`: the sum overflows int64",
        ),
        (
            "sum(wide * 1) as x",
            vec![row(9_999_999_999, None), row(-9_999_999_999, None)],
            vec![row(9_999_999_999, None); 11],
            "`sum(wide * 1)`: the sum overflows decimal(38,2)",
        ),
        (
            "sum(i) / count(f) as x",
            vec![row(1, 1.0)],
            vec![row(1, None)],
            "`sum(i) / count(f) as x`: division by zero",
        ),
    ];
    for (item, good, bad, message) in cases {
        let aggregates = compile(&[item]).unwrap();
        let good = state_of(&aggregates, &good);
        assert!(aggregates.finish(slice::from_ref(&good)).is_ok(), "{item}");
        let error = aggregates.finish(&[good, state_of(&aggregates, &bad)]).unwrap_err();
        assert_eq!(error, GroupError { group: 1, message: message.to_owned() });
    }
}

#[test]
fn a_row_that_fails_is_named() {
    let aggregates = compile(&["sum(10 / i) as a", "max(100 / (i - 1)) as b"]).unwrap();
    let error = inputs_of(&aggregates, &[row(2, None), row(1, None), row(0, None)]).unwrap_err();
    assert_eq!(error.row, 1);
    assert_eq!(error.message, "`max(100 / (i - 1))`: division by zero");
}

const ALL_NAMES: &str = "count, sum, min, max, avg, first, last, array_agg, bool_and, bool_or, \
    stddev, stddev_samp, stddev_pop, var, var_samp, var_pop";

/// Each item is refused with that sentence.
fn refused(cases: &[(&str, &str)]) {
    for (item, expected) in cases {
        let expected = expected.replace("ALL", ALL_NAMES);
        assert_eq!(compile(&[item]).map(|_| ()).unwrap_err(), format!("[0] {expected}"), "{item}");
    }
}

#[test]
fn calls_that_are_refused_say_why() {
    refused(&[
        ("sum(s) as x", "`sum` needs numbers, not string"),
        ("avg(t) as x", "`avg` needs numbers, not timestamp"),
        ("sum(*) as x", "`sum(*)`: only count takes `*`"),
        ("sum() as x", "`sum()`: `sum` takes one argument"),
        ("min(i, f) as x", "`min(i, f)`: `min` takes one argument"),
        ("max(null) as x", "`max(NULL)`: null has no type"),
        (
            "max(t - t) as x",
            "`max(t - t)`: the difference of two times is no column: compare it with an interval, or take `cast(a as int64) - cast(b as int64)`, which is milliseconds",
        ),
        ("count(distinct *) as x", "`count(distinct *)`: name one column"),
        (
            "max(distinct i) as x",
            "`max` takes no `distinct`: only count, sum, avg and array_agg do",
        ),
        (
            "sum(i) filter (where s) as x",
            "`sum(i) FILTER (WHERE s)`: a filter must be boolean, this one is string",
        ),
        ("sum(i) filter (where smal > 1) as x", "there is no column `smal`; did you mean `small`?"),
        (
            "sum(i) filter (where count(*) > 1) as x",
            "`sum(i) FILTER (WHERE count(*) > 1)`: aggregate `count` stands inside of another",
        ),
        ("bool_and(i) as x", "`bool_and` needs boolean, not int64"),
        ("stddev(s) as x", "`stddev` needs numbers, not string"),
        ("first(*) as x", "`first(*)`: only count takes `*`"),
        (
            "array_agg(i order by f) as x",
            "`array_agg(i ORDER BY f)`: `array_agg` has no order and no clauses",
        ),
        (
            "first(i) ignore nulls as x",
            "`first(i) IGNORE NULLS`: `first` has no order and no clauses",
        ),
        ("count(distinct i, f) as x", "`count(DISTINCT i, f)`: `count` takes one argument"),
        ("first_value(i) as x", "there is no aggregate `first_value` (aggregates: ALL)"),
        ("sum(sum(i)) as x", "`sum(sum(i))`: aggregate `sum` stands inside of another"),
        ("sum(i order by f) as x", "`sum(i ORDER BY f)`: `sum` has no order and no clauses"),
        ("sum(i) over () as x", "`sum(…) over …`: a window is given by the step"),
        ("median(i) as x", "there is no aggregate `median` (aggregates: ALL)"),
        (
            "summ(i) as x",
            "column `i` stands outside of an aggregate: a group has many values of it",
        ),
        ("summ(count(*)) as x", "there is no function `summ`"),
        ("sum(i) + 's' as x", "there is no `int64 + string`; cast one of them"),
        (
            "sum(now()) as x",
            "`now` would give another result when rows are replayed; use a column instead",
        ),
        (
            "null + sum(i as x",
            "the parentheses of `null + sum(i as x` do not match; in a flow list (`[a, b]`) YAML splits an item at its commas: put it in quotes or use a block list",
        ),
    ]);
}

#[test]
fn what_is_refused_says_why() {
    refused(&[
        ("count(*)", "`count(*)` needs a name: write `count(*) as name`"),
        ("i as x", "column `i` stands outside of an aggregate: a group has many values of it"),
        (
            "sum(i) + i as x",
            "column `i` stands outside of an aggregate: a group has many values of it",
        ),
        (
            "sum(i) + \"#0\" as x",
            "there is no column `#0`; columns: `i`, `small`, `f`, `d`, `wide`, `s`, `bin`, `b`, `day`, `t`",
        ),
        ("1 as x", "`1 as x` has no aggregate (aggregates: ALL)"),
        ("*", "`*` is no aggregate; did you mean `count(*) as …`?"),
        ("sum(smal) as x", "there is no column `smal`; did you mean `small`?"),
    ]);
    assert_eq!(
        compile(&["count(*) as n", "sum(x) as y", "max(i) as n", "mode(i) as z"]).unwrap_err(),
        "[1] there is no column `x`; columns: `i`, `small`, `f`, `d`, `wide`, `s`, `bin`, `b`, \
         `day`, `t`, [2] there are two values `n`; rename one with `as`, \
         [3] there is no aggregate `mode` (aggregates: ALL)"
            .replace("ALL", ALL_NAMES)
    );
    assert_eq!(compile(&[]).unwrap_err(), "[0] at least one value is needed");
}

#[test]
fn equal_calls_share_a_slot_and_layout_does_not_show() {
    let left = compile(&["sum(i)/count(*) as a", "count( * )  as b"]).unwrap();
    let right = compile(&["SUM(i) / count(*) as a", "count(*) as b"]).unwrap();
    assert_eq!(left.new_state().slots.len(), 2);
    assert_eq!(left.canonical(), right.canonical());
    assert_eq!(
        left.canonical(),
        "sum ( i ) / count ( * ) as a; count ( * ) as b over sum(int64); count(*)"
    );
    assert_ne!(left.canonical(), compile(&["count(*) as b"]).unwrap().canonical());
}

/// All kinds of slots at once.
const ALL: [&str; 16] = [
    "count(*) as c",
    "sum(i) as si",
    "avg(small) as ai",
    "sum(f) as sf",
    "avg(f) as af",
    "sum(d) as sd",
    "avg(wide) as aw",
    "min(i) as mi",
    "max(small) as ms",
    "min(f) as mf",
    "max(d) as md",
    "min(s) as mt",
    "max(bin) as mb",
    "max(b) as mo",
    "min(day) as my",
    "max(t) as mx",
];

/// States as release 0.1.0 wrote them. They must be read for ever.
#[test]
fn stored_states_are_still_read() {
    let aggregates = compile(&ALL).unwrap();
    let stored: [(&[u8], Vec<Row>); 3] = [
        (include_bytes!("../../testdata/aggregate-v1-empty.bin"), vec![]),
        (include_bytes!("../../testdata/aggregate-v1-nulls.bin"), vec![Row::default(); 3]),
        (include_bytes!("../../testdata/aggregate-v1-values.bin"), stored_rows()),
    ];
    for (bytes, rows) in stored {
        let state = aggregates.decode(bytes).unwrap();
        assert_eq!(state, state_of(&aggregates, &rows));
        assert_eq!(bytes_of(&aggregates, &state), bytes);
    }
}

fn stored_rows() -> Vec<Row> {
    let text = |text: &str| Some(text.to_owned());
    vec![
        Row { i: Some(i64::MIN), f: Some(-1e300), d: Some(-9_999_999_999), s: text("") },
        Row { i: Some(-1), f: Some(0.1), d: Some(1), s: text("Zoë") },
        Row { i: None, f: None, d: None, s: None },
        Row { i: Some(300), f: Some(5e-324), d: Some(77), s: text("\u{10ffff}") },
        Row { i: Some(i64::MAX), f: Some(2.5e17), d: Some(128), s: text("a") },
    ]
}

#[test]
fn damaged_states_are_refused() {
    let aggregates = compile(&ALL).unwrap();
    let bytes = bytes_of(&aggregates, &state_of(&aggregates, &stored_rows()));
    for end in 0..bytes.len() {
        let error = aggregates.decode(&bytes[..end]).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{end}: {error}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(
        aggregates.decode(&longer).unwrap_err().to_string(),
        format!(
            "aggregate state is damaged at byte {}: more bytes than the aggregates have",
            bytes.len()
        )
    );
    let mut newer = bytes.clone();
    newer[0] = 3;
    assert_eq!(
        aggregates.decode(&newer).unwrap_err().to_string(),
        "aggregate state has version 3; this build reads up to 2"
    );
    let other = compile(&["min(i) as x"]).unwrap();
    assert_eq!(
        other.decode(&[1, 1, 0]).unwrap_err().to_string(),
        "aggregate state is damaged at byte 2: a slot of the aggregate's kind"
    );
    // Whatever the bytes, reading ends with a state or an error.
    for at in 1..bytes.len() {
        for flip in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << flip;
            if let Ok(state) = aggregates.decode(&damaged) {
                let _ = aggregates.finish(&[state]);
            }
        }
    }
}

fn rows() -> impl Strategy<Value = Vec<(Row, u32)>> {
    let int = prop_oneof![4 => -20i64..20, 1 => any::<i64>()];
    let float = prop_oneof![
        4 => (-1000i32..1000).prop_map(|value| f64::from(value) / 8.0),
        2 => any::<f64>().prop_filter("finite", |value| value.is_finite() && value.abs() < 1e100),
    ];
    let decimal = -9_999_999_999i64..=9_999_999_999;
    let text = prop_oneof![Just(String::new()), "[a-c]{0,3}", ".{0,4}"];
    let row = (
        proptest::option::of(int),
        proptest::option::of(float),
        proptest::option::of(decimal),
        proptest::option::of(text),
        0..4u32,
    );
    let row = row.prop_map(|(i, f, d, s, group)| (Row { i, f, d, s }, group));
    proptest::collection::vec(row, 0..60)
}

/// The model: what SQL says, computed with lists.
fn model(rows: &[Row]) -> Vec<String> {
    let ints: Vec<i128> = rows.iter().filter_map(|row| row.i).map(i128::from).collect();
    let floats: Vec<f64> = rows.iter().filter_map(|row| row.f).collect();
    let decimals: Vec<i64> = rows.iter().filter_map(|row| row.d).collect();
    let texts: Vec<&String> = rows.iter().filter_map(|row| row.s.as_ref()).collect();
    let or_null = |value: Option<String>| value.unwrap_or_else(|| "null".into());
    let sum: i128 = ints.iter().sum();
    vec![
        rows.len().to_string(),
        ints.len().to_string(),
        or_null((!ints.is_empty()).then(|| sum.to_string())),
        or_null(ints.iter().min().map(ToString::to_string)),
        or_null(ints.iter().max().map(ToString::to_string)),
        or_null((!decimals.is_empty()).then(|| decimals.iter().sum::<i64>().to_string())),
        or_null(floats.iter().copied().min_by(f64::total_cmp).map(|value| format!("{value:?}"))),
        or_null(texts.iter().min().map(|text| format!("{text:?}"))),
        or_null(texts.iter().max().map(|text| format!("{text:?}"))),
    ]
}

fn found(aggregates: &Aggregates, states: &[State], group: usize) -> Option<Vec<String>> {
    let results = aggregates.finish(&states[group..=group]).ok()?;
    let int = |at: usize| {
        let array = results[at].as_primitive::<Int64Type>();
        if array.is_null(0) { "null".into() } else { array.value(0).to_string() }
    };
    let decimal = |at: usize| {
        let array = results[at].as_primitive::<Decimal128Type>();
        if array.is_null(0) { "null".into() } else { array.value(0).to_string() }
    };
    let float = |at: usize| {
        let array = results[at].as_primitive::<Float64Type>();
        if array.is_null(0) { "null".into() } else { format!("{:?}", array.value(0)) }
    };
    let text = |at: usize| {
        let array = results[at].as_string::<i32>();
        if array.is_null(0) { "null".into() } else { format!("{:?}", array.value(0)) }
    };
    Some(vec![int(0), int(1), int(2), int(3), int(4), decimal(5), float(6), text(7), text(8)])
}

const MODELLED: [&str; 9] = [
    "count(*) as a",
    "count(i) as b",
    "sum(i) as c",
    "min(i) as d",
    "max(i) as e",
    "sum(d) as f",
    "min(f) as g",
    "min(s) as h",
    "max(s) as k",
];

proptest! {
    #[test]
    fn groups_agree_with_the_model(rows in rows()) {
        let aggregates = compile(&MODELLED).unwrap();
        let (values, groups): (Vec<Row>, Vec<u32>) = rows.iter().cloned().unzip();
        let mut states = vec![aggregates.new_state(); 4];
        let inputs = inputs_of(&aggregates, &values).unwrap();
        aggregates.update_many(&mut states, &inputs, &groups);
        for group in 0..4u32 {
            let of_group = rows.iter().filter(|(_, of)| *of == group);
            let expected = model(&of_group.map(|(row, _)| row.clone()).collect::<Vec<_>>());
            let overflows = expected[2].parse::<i128>().is_ok_and(|sum| i64::try_from(sum).is_err());
            match found(&aggregates, &states, group as usize) {
                None => prop_assert!(overflows),
                Some(found) => prop_assert_eq!(found, expected),
            }
        }
    }

    /// One batch, row by row, merged from parts in another order, through bytes: one state.
    #[test]
    fn the_way_there_does_not_matter(rows in rows(), seed in any::<u64>()) {
        let aggregates = compile(&ALL).unwrap();
        let values: Vec<Row> = rows.iter().map(|(row, _)| row.clone()).collect();
        let whole = state_of(&aggregates, &values);

        let mut single = aggregates.new_state();
        let inputs = inputs_of(&aggregates, &values).unwrap();
        (0..values.len()).rev().for_each(|row| aggregates.update(&mut single, &inputs, row));
        prop_assert_eq!(&single, &whole);

        let mut parts = vec![aggregates.new_state(); 3];
        let mut at = seed;
        for row in 0..values.len() {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            aggregates.update(&mut parts[(at >> 33) as usize % 3], &inputs, row);
        }
        let mut merged = aggregates.new_state();
        for part in parts.iter().rev() {
            let stored = aggregates.decode(&bytes_of(&aggregates, part)).unwrap();
            prop_assert_eq!(&stored, part);
            aggregates.merge(&mut merged, &stored);
        }
        prop_assert_eq!(&merged, &whole);
        prop_assert_eq!(bytes_of(&aggregates, &merged), bytes_of(&aggregates, &whole));
    }

    #[test]
    fn means_are_right(rows in rows()) {
        let aggregates = compile(&["avg(i) as i", "avg(f) as f", "avg(d) as d"]).unwrap();
        let values: Vec<Row> = rows.into_iter().map(|(row, _)| row).collect();
        let results = aggregates.finish(&[state_of(&aggregates, &values)]).unwrap();
        let ints: Vec<i128> = values.iter().filter_map(|row| row.i).map(i128::from).collect();
        if !ints.is_empty() {
            let expected = ints.iter().sum::<i128>() as f64 / ints.len() as f64;
            prop_assert_eq!(results[0].as_primitive::<Float64Type>().value(0), expected);
        }
        let decimals: Vec<i128> = values.iter().filter_map(|row| row.d).map(i128::from).collect();
        if !decimals.is_empty() {
            let (sum, count) = (decimals.iter().sum::<i128>() * 10_000, decimals.len() as i128);
            let half_up = (sum.abs() * 2 + count) / (count * 2);
            let expected = half_up * sum.signum();
            prop_assert_eq!(results[2].as_primitive::<Decimal128Type>().value(0), expected);
        }
        let floats: Vec<f64> = values.iter().filter_map(|row| row.f).collect();
        if !floats.is_empty() {
            let expected = floats.iter().sum::<f64>() / floats.len() as f64;
            let magnitude = floats.iter().map(|value| value.abs()).sum::<f64>();
            let found = results[1].as_primitive::<Float64Type>().value(0);
            prop_assert!((found - expected).abs() <= magnitude * 1e-12);
        }
    }
}

#[test]
fn types_of_results_hold_at_the_limits() {
    for (argument, sum, avg) in [
        ("decimal(1,0)", "decimal(38,0)", "decimal(5,4)"),
        ("decimal(36,2)", "decimal(38,2)", "decimal(38,6)"),
        ("decimal(38,36)", "decimal(38,36)", "decimal(38,38)"),
    ] {
        let schema = Schema::new(vec![Field::new("x", types::parse(argument).unwrap(), true)]);
        let items = ["sum(x) as s", "avg(x) as a"].map(str::to_owned);
        let aggregates = compile_aggregates(&schema, &items, PLAIN).unwrap();
        let found: Vec<String> = aggregates
            .output_fields()
            .iter()
            .map(|field| types::print(field.data_type()))
            .collect();
        assert_eq!(found, [sum, avg]);
    }
    assert_eq!(compile(&["count(null) as x"]).unwrap_err(), "[0] `count(NULL)`: null has no type");
    assert!(
        compile(&["count(t - t) as x"])
            .is_ok_and(|x| *x.output_fields()[0].data_type() == DataType::Int64)
    );
}
