//! Expressions over one small table, by what they give, why they are refused, where they fail.

use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    ListArray, NullArray, StringArray, StructArray, TimestampMillisecondArray,
};
use arrow::datatypes::Int64Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;

/// Three rows; the second is null in every column but `i`, `zero` and `text`.
fn table() -> RecordBatch {
    let refused = types::normal_schema(&Schema::new(vec![Field::new(
        "odd",
        DataType::Time32(arrow::datatypes::TimeUnit::Second),
        true,
    )]));
    let point = StructArray::from(vec![(
        Arc::new(Field::new("x", DataType::Int64, true)),
        Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef,
    )]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("i", Arc::new(Int64Array::from(vec![7, -7, i64::MAX]))),
        ("n", Arc::new(Int64Array::from(vec![Some(2), None, Some(0)]))),
        ("small", Arc::new(Int32Array::from(vec![Some(5), None, Some(i32::MIN)]))),
        ("zero", Arc::new(Int64Array::from(vec![0, 0, 0]))),
        ("f", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-0.0)]))),
        (
            "d",
            Arc::new(
                Decimal128Array::from(vec![Some(12345), None, Some(-1)])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
        ),
        (
            "wide",
            Arc::new(
                Decimal128Array::from(vec![Some(10i128.pow(38) - 1), None, Some(1)])
                    .with_precision_and_scale(38, 0)
                    .unwrap(),
            ),
        ),
        ("s", Arc::new(StringArray::from(vec![Some("abc"), None, Some("Zoë")]))),
        ("text", Arc::new(StringArray::from(vec!["12", "x", "9223372036854775808"]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("bin", Arc::new(BinaryArray::from(vec![Some(&b"\xff"[..]), None, Some(b"ok")]))),
        ("day", Arc::new(Date32Array::from(vec![Some(15_706), None, Some(-1)]))),
        (
            "t",
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(1_357_034_400_123), None, Some(-1)])
                    .with_timezone("UTC"),
            ),
        ),
        (
            "l",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
                Some(vec![Some(1)]),
                None,
                Some(vec![]),
            ])),
        ),
        ("p", Arc::new(point)),
        ("Case", Arc::new(StringArray::from(vec!["upper", "U", "u"]))),
        ("odd one", Arc::new(Int64Array::from(vec![1, 2, 3]))),
    ];
    let plain = RecordBatch::try_from_iter(columns).unwrap();
    let mut fields: Vec<Field> =
        plain.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    fields.push(refused.field(0).clone());
    let mut columns = plain.columns().to_vec();
    columns.push(Arc::new(NullArray::new(3)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn compile(text: &str) -> Result<Compiled, ExprError> {
    Compiled::new(parse::expression(text)?, text, &table().schema())
}

fn show(array: &ArrayRef) -> String {
    let options = FormatOptions::default().with_null("null");
    let formatter = ArrayFormatter::try_new(array, &options).unwrap();
    let values: Vec<String> =
        (0..array.len()).map(|row| formatter.value(row).to_string()).collect();
    values.join(" | ")
}

/// Each expression has this type and these values, for the table as a whole and in pieces.
#[track_caller]
fn check(cases: &[(&str, &str, &str)]) {
    let table = table();
    let mut wrong = Vec::new();
    for (text, data_type, values) in cases {
        let found = match compile(text) {
            Err(error) => format!("refused: {error}"),
            Ok(compiled) => {
                let name = types::print(compiled.data_type());
                match compiled.evaluate(&table) {
                    Err(error) => format!("row {}: {error}", error.row),
                    Ok(array) => {
                        assert_eq!(array.data_type(), compiled.data_type(), "{text}");
                        for row in 0..3 {
                            let alone = compiled.evaluate(&table.slice(row, 1)).unwrap();
                            assert_eq!(show(&alone), show(&array.slice(row, 1)), "{text}");
                        }
                        format!("{name}: {}", show(&array))
                    }
                }
            }
        };
        if found != format!("{data_type}: {values}") {
            wrong.push(format!("{text}\n   expected {data_type}: {values}\n   found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Each expression compiles and fails in this row with this sentence.
#[track_caller]
fn check_rows(cases: &[(&str, usize, &str)]) {
    let table = table();
    let mut wrong = Vec::new();
    for (text, row, sentence) in cases {
        let found = match compile(text) {
            Err(error) => format!("refused: {error}"),
            Ok(compiled) => match compiled.evaluate(&table) {
                Err(error) => format!("{} {}", error.row, error.message),
                Ok(array) => show(&array),
            },
        };
        let expected = format!("{row} `{text}`: {sentence}");
        if found != expected {
            wrong.push(format!("{text}\n   expected {expected}\n   found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Each expression is refused with this sentence.
#[track_caller]
fn check_refused(cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (text, sentence) in cases {
        let found = match compile(text).and_then(Compiled::column_type) {
            Err(error) => error.to_string(),
            Ok(compiled) => format!("accepted as {}", types::print(compiled.data_type())),
        };
        if found != *sentence {
            wrong.push(format!("{text}\n   expected {sentence}\n   found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn literals_and_columns() {
    check(&[
        ("1", "int64", "1 | 1 | 1"),
        ("-9223372036854775808", "int64", &["-9223372036854775808"; 3].join(" | ")),
        ("9223372036854775808", "decimal(20,0)", &["9223372036854775808"; 3].join(" | ")),
        ("1.50", "decimal(3,2)", "1.50 | 1.50 | 1.50"),
        ("1e3", "float64", "1000.0 | 1000.0 | 1000.0"),
        ("-2E-1", "float64", "-0.2 | -0.2 | -0.2"),
        ("'a''b'", "string", "a'b | a'b | a'b"),
        ("true", "boolean", "true | true | true"),
        ("\"Case\"", "string", "upper | U | u"),
        ("Case", "string", "upper | U | u"),
        ("\"odd one\"", "int64", "1 | 2 | 3"),
        ("s", "string", "abc | null | Zoë"),
        ("p.x", "int64", "1 | null | 3"),
        (
            "timestamp '2013-01-01 10:00:00.5'",
            "timestamp",
            &["2013-01-01T10:00:00.500Z"; 3].join(" | "),
        ),
        ("date '2013-01-01'", "date", &["2013-01-01"; 3].join(" | ")),
    ]);
}

#[test]
fn arithmetic() {
    check(&[
        ("i / 2", "int64", "3 | -3 | 4611686018427387903"),
        ("i % 4", "int64", "3 | -3 | 3"),
        ("7 / 2", "int64", "3 | 3 | 3"),
        ("small + n", "int64", "7 | null | -2147483648"),
        ("small / cast(2 as int32)", "int32", "2 | null | -1073741824"),
        ("n * 2.5", "decimal(22,1)", "5.0 | null | 0.0"),
        ("n * 2.0", "decimal(22,1)", "4.0 | null | 0.0"),
        ("d + 1", "decimal(11,2)", "124.45 | null | 0.99"),
        ("d * d", "decimal(21,4)", "15239.9025 | null | 0.0001"),
        ("d / 3", "decimal(14,6)", "41.150000 | null | -0.003333"),
        ("7 / 2.0", "decimal(6,4)", "3.5000 | 3.5000 | 3.5000"),
        ("d % 10", "decimal(4,2)", "3.45 | null | -0.01"),
        ("f * 2", "float64", "3.0 | null | -0.0"),
        ("f + 0.5", "float64", "2.0 | null | 0.5"),
        ("f / 2", "float64", "0.75 | null | -0.0"),
        ("n / null", "int64", "null | null | null"),
        ("null / 0.0", "decimal(6,5)", "null | null | null"),
        ("-n", "int64", "-2 | null | 0"),
        ("- -d", "decimal(10,2)", "123.45 | null | -0.01"),
        ("+n", "int64", "2 | null | 0"),
        ("abs(n - 5)", "int64", "3 | null | 5"),
        ("n & 3 | 4", "int64", "6 | null | 4"),
        ("1 << n", "int64", "4 | null | 1"),
        ("f / nullif(n, 0)", "float64", "0.75 | null | null"),
    ]);
}

#[test]
fn arithmetic_that_fails_names_the_row() {
    check_rows(&[
        ("i + 1", 2, "overflow in 9223372036854775807 + 1"),
        ("-i - 2", 2, "overflow in -9223372036854775807 - 2"),
        ("i * 2", 2, "overflow in 9223372036854775807 * 2"),
        ("-small", 2, "overflow in - -2147483648"),
        ("abs(small)", 2, "int32 overflow on abs(-2147483648)"),
        ("small * cast(2 as int32)", 2, "overflow in -2147483648 * 2"),
        ("-(-i - 1)", 2, "overflow in - -9223372036854775808"),
        ("(-i - 1) / -1", 2, "overflow in -9223372036854775808 / -1"),
        ("i / zero", 0, "division by zero"),
        ("i % n", 2, "division by zero"),
        ("f / zero", 0, "division by zero"),
        ("f % zero", 0, "division by zero"),
        ("d / n", 2, "division by zero"),
        ("d / 0.0", 0, "division by zero"),
        ("wide + 1", 0, "overflow: the result has more than 38 digits"),
        ("wide * 10", 0, "overflow in 99999999999999999999999999999999999999 * 10"),
        (
            "wide * wide",
            0,
            "overflow in 99999999999999999999999999999999999999 * 99999999999999999999999999999999999999",
        ),
        ("1 << i", 1, "a shift by -7 bits: allowed are 0 to 63"),
        ("factorial(i)", 1, "factorial of a negative number is undefined"),
    ]);
}

#[test]
fn casts() {
    check(&[
        ("cast(n as int32)", "int32", "2 | null | 0"),
        ("n::string", "string", "2 | null | 0"),
        ("cast(f as bigint)", "int64", "1 | null | 0"),
        ("cast(d as int64)", "int64", "123 | null | 0"),
        ("cast(d as decimal(12,1))", "decimal(12,1)", "123.5 | null | 0.0"),
        ("cast(f as decimal(5,2))", "decimal(5,2)", "1.50 | null | 0.00"),
        ("cast(d as double)", "float64", "123.45 | null | -0.01"),
        ("try_cast(text as int64)", "int64", "12 | null | null"),
        ("try_cast(text as float64)", "float64", "12.0 | null | 9.223372036854776e18"),
        ("cast(b as int64)", "int64", "1 | null | 0"),
        ("cast(b as string)", "string", "true | null | false"),
        (
            "cast(t as string)",
            "string",
            "2013-01-01T10:00:00.123Z | null | 1969-12-31T23:59:59.999Z",
        ),
        ("cast(t as date)", "date", "2013-01-01 | null | 1969-12-31"),
        (
            "cast(day as timestamp)",
            "timestamp",
            "2013-01-01T00:00:00Z | null | 1969-12-31T00:00:00Z",
        ),
        ("cast(day as string)", "string", "2013-01-01 | null | 1969-12-31"),
        ("cast(t as int64)", "int64", "1357034400123 | null | -1"),
        (
            "cast(n as timestamp)",
            "timestamp",
            "1970-01-01T00:00:00.002Z | null | 1970-01-01T00:00:00Z",
        ),
        (
            "cast('2013-01-01T12:00:00.999999+02:00' as timestamp)",
            "timestamp",
            &["2013-01-01T10:00:00.999Z"; 3].join(" | "),
        ),
        ("try_cast(s as timestamp)", "timestamp", "null | null | null"),
        ("cast(s as binary)", "binary", "616263 | null | 5a6fc3ab"),
        ("try_cast(bin as string)", "string", "null | null | ok"),
        ("cast(null as string)", "string", "null | null | null"),
    ]);
    check_rows(&[
        ("cast(text as int64)", 1, "cannot cast string 'x' to value of int64 type"),
        ("cast(i as int32)", 2, "can't cast value 9223372036854775807 to type int32"),
        (
            "cast(i as decimal(5,2))",
            2,
            "9223372036854775807.00 is too large to store in a decimal of precision 5. Max is 999.99",
        ),
        ("cast(s as timestamp)", 0, "'abc' is no timestamp"),
        ("cast(s as date)", 0, "'abc' is no date"),
        ("cast('2013-02-30' as date)", 0, "'2013-02-30' is no date"),
        ("cast(f / 1e-300 * 1e300 as int64)", 0, "can't cast value inf to type int64"),
        ("cast(cast('NaN' as float64) as int64)", 0, "can't cast value NaN to type int64"),
        (
            "cast(cast('NaN' as float64) as decimal(5,2))",
            0,
            "cannot cast to decimal(5, 2). Overflowing on NaN",
        ),
        (
            "cast(bin as string)",
            0,
            "encountered non UTF-8 data: invalid utf-8 sequence of 1 bytes from index 0",
        ),
        ("cast(s as boolean)", 0, "cannot cast value 'abc' to value of boolean type"),
        ("cast(cast(i as timestamp) as date)", 2, "+292278994-08-17T07:12:55.807Z has no date"),
    ]);
}

#[test]
fn comparisons_and_logic() {
    check(&[
        ("n = 2", "boolean", "true | null | false"),
        ("n = 2.0", "boolean", "true | null | false"),
        ("small < n", "boolean", "false | null | true"),
        ("d > 100", "boolean", "true | null | false"),
        ("d = wide", "boolean", "false | null | false"),
        ("f = 0", "boolean", "false | null | true"),
        ("f < 0", "boolean", "false | null | false"),
        ("cast('NaN' as float64) = -cast('NaN' as float64)", "boolean", "true | true | true"),
        ("f < cast('NaN' as float64)", "boolean", "true | null | true"),
        ("s = 'abc'", "boolean", "true | null | false"),
        ("s < 'b'", "boolean", "true | null | true"),
        ("t >= '2013-01-01'", "boolean", "true | null | false"),
        ("t >= date '2013-01-01'", "boolean", "true | null | false"),
        ("day = '2013-01-01'", "boolean", "true | null | false"),
        ("n = '2'", "boolean", "true | null | false"),
        ("n is null", "boolean", "false | true | false"),
        ("n is not distinct from null", "boolean", "false | true | false"),
        ("b is true", "boolean", "true | false | false"),
        ("b is not false", "boolean", "true | true | false"),
        ("b is unknown", "boolean", "false | true | false"),
        ("not b", "boolean", "false | null | true"),
        ("b or n is null", "boolean", "true | true | false"),
        ("b and null", "boolean", "null | null | false"),
        ("n between 1 and 2", "boolean", "true | null | false"),
        ("n not between 1 and 2", "boolean", "false | null | true"),
        ("n in (1, 2, 3)", "boolean", "true | null | false"),
        ("n not in (1, null)", "boolean", "null | null | null"),
        ("n in (i - 5, 1)", "boolean", "true | null | false"),
        ("f in (0.0, 7)", "boolean", "false | null | true"),
        ("f in (zero, 1.5)", "boolean", "true | null | true"),
        ("s in ('abc', 'x')", "boolean", "true | null | false"),
        ("s like 'a%'", "boolean", "true | null | false"),
        ("s ilike 'zo_'", "boolean", "false | null | true"),
        ("s not like '%b%'", "boolean", "false | null | true"),
        ("s ~ '^a.c$'", "boolean", "true | null | false"),
        ("t - cast(day as timestamp) > interval '1 hour'", "boolean", "true | null | true"),
        ("null = 1", "boolean", "null | null | null"),
    ]);
}

#[test]
fn a_branch_is_evaluated_only_for_its_rows() {
    check(&[
        ("case when n = 0 then null else i / n end", "int64", "3 | null | null"),
        ("case when n <> 0 then 10 / n end", "int64", "5 | null | null"),
        ("case n when 0 then -1 when 10 / n then 5 else 1 / n end", "int64", "0 | null | -1"),
        ("nvl(s, 'none')", "string", "abc | none | Zoë"),
        ("nvl2(n, 'some', 'none')", "string", "some | none | some"),
        ("coalesce(null, d, 1)", "decimal(10,2)", "123.45 | 1.00 | -0.01"),
        ("10 / nullif(n, 0)", "int64", "5 | null | null"),
        ("n <> 0 and 10 / n > 1", "boolean", "true | null | false"),
        ("n is null or n = 0 or 10 / n > 1", "boolean", "true | true | true"),
        ("n is not null and n not in (0, 10 / nullif(n, 0))", "boolean", "true | false | false"),
        ("case when b then cast(text as int64) end", "int64", "12 | null | null"),
        ("case when b then 'x' end", "string", "x | null | null"),
        ("case when b then 1 else 2.5 end", "decimal(2,1)", "1.0 | 2.5 | 2.5"),
        (
            "case when b then t else '2013-01-01' end",
            "timestamp",
            "2013-01-01T10:00:00.123Z | 2013-01-01T00:00:00Z | 2013-01-01T00:00:00Z",
        ),
    ]);
    check_rows(&[
        ("coalesce(n, 10 / zero)", 1, "division by zero"),
        ("n is not null and 10 / n > 1", 2, "division by zero"),
        ("b or 10 / zero > 1", 1, "division by zero"),
    ]);
}

#[test]
fn functions_of_text_and_time() {
    check(&[
        ("upper(s)", "string", "ABC | null | ZOË"),
        ("UPPER(s)", "string", "ABC | null | ZOË"),
        ("length(s)", "int32", "3 | null | 3"),
        ("s || '-' || n", "string", "abc-2 | null | Zoë-0"),
        ("concat(s, '!')", "string", "abc! | ! | Zoë!"),
        ("substring(s from 2 for 1)", "string", "b | null | o"),
        ("substr(s, 2)", "string", "bc | null | oë"),
        ("left(s, 1)", "string", "a | null | Z"),
        ("trim(both 'a' from s)", "string", "bc | null | Zoë"),
        ("position('b' in s)", "int32", "2 | null | 0"),
        ("split_part(s, 'b', 2)", "string", "c | null | "),
        ("starts_with(s, 'a')", "boolean", "true | null | false"),
        ("regexp_replace(s, '[a-c]+', '-')", "string", "- | null | Zoë"),
        ("lpad(s, 5, '.')", "string", "..abc | null | ..Zoë"),
        ("round(f)", "float64", "2.0 | null | -0.0"),
        ("floor(d)", "decimal(10,2)", "123.00 | null | -1.00"),
        ("greatest(n, 1)", "int64", "2 | 1 | 1"),
        (
            "date_trunc('hour', t)",
            "timestamp",
            "2013-01-01T10:00:00Z | null | 1969-12-31T23:00:00Z",
        ),
        (
            "date_trunc('month', day)",
            "timestamp",
            "2013-01-01T00:00:00Z | null | 1969-12-01T00:00:00Z",
        ),
        ("extract(hour from t)", "int32", "10 | null | 23"),
        ("date_part('year', day)", "int32", "2013 | null | 1969"),
        (
            "t + interval '1 day'",
            "timestamp",
            "2013-01-02T10:00:00.123Z | null | 1970-01-01T23:59:59.999Z",
        ),
        (
            "day - interval '1 hour'",
            "timestamp",
            "2012-12-31T23:00:00Z | null | 1969-12-30T23:00:00Z",
        ),
        ("day - date '2013-01-01'", "int64", "0 | null | -15707"),
        (
            "date_bin(interval '15 minutes', t)",
            "timestamp",
            "2013-01-01T10:00:00Z | null | 1969-12-31T23:45:00Z",
        ),
        ("to_timestamp(n)", "timestamp", "1970-01-01T00:00:02Z | null | 1970-01-01T00:00:00Z"),
        ("encode(bin, 'hex')", "string", "ff | null | 6f6b"),
        ("make_date(2013, 1, 1)", "date", &["2013-01-01"; 3].join(" | ")),
    ]);
}

#[test]
fn what_is_refused_says_why() {
    let compare = "cannot compare string with int64; cast one of them";
    check_refused(&[
        ("smal", "there is no column `smal`; did you mean `small`?"),
        ("case", "there is no column `case`; did you mean `Case`?"),
        ("S", "there is no column `S`; did you mean `s`?"),
        (
            "q.x",
            "there is no column `q`; columns: `i`, `n`, `small`, `zero`, `f`, `d`, `wide`, `s`, `text`, `b`, `bin`, `day`, `t`, `l`, `p`, `Case`, `odd one`, `odd`",
        ),
        ("p.y", "there is no field `y`"),
        ("p['x']", "`p['x']`: write `a.b` for field b of struct a; lists have no access by number"),
        ("odd", "column `odd` has type Time32(s) in its source, which has no pipeline type"),
        (
            "odd is null",
            "column `odd` has type Time32(s) in its source, which has no pipeline type",
        ),
        ("s = 1", compare),
        ("text > n", compare),
        ("n in (1, text)", "cannot compare int64 with string; cast one of them"),
        ("n between 1 and b", "cannot compare int64 with boolean; cast one of them"),
        ("n = 'x'", "'x' is no int64"),
        ("t > 'soon'", "'soon' is no timestamp"),
        ("t > 1", "cannot compare timestamp with int64; cast one of them"),
        ("l = l", "values of type list<int64> cannot be compared"),
        ("p = p", "values of type struct<x: int64> cannot be compared"),
        ("s + 1", "there is no `string + int64`; cast one of them"),
        ("t + 1", "there is no `timestamp + int64`; cast one of them"),
        ("t + t", "there is no `timestamp + timestamp`; cast one of them"),
        ("day + 1", "add days to a date with `+ interval '1 day'`"),
        ("f & 1", "there is no `float64 & int64`; cast one of them"),
        ("-s", "unary operator '-' only supports signed numeric, interval and timestamp types"),
        ("-t", "`-` needs a number, not timestamp"),
        ("n and b", "`AND` needs a boolean, not int64"),
        ("not n", "unary operator 'NOT' requires a boolean expression, got int64"),
        ("case when n then 1 end", "`when` needs a boolean, not int64"),
        (
            "case when b then 1 else 'x' end",
            "the values have no common type: int64 and string; cast one of them",
        ),
        ("coalesce(n, s)", "the values have no common type: int64 and string; cast one of them"),
        ("n like 'x'", "`like` needs strings, not int64"),
        ("s like 'x' escape '#'", "`like` has no other escape character than `\\`"),
        ("s similar to 'x'", "`s SIMILAR TO Utf8(\"x\")` is not available in an expression"),
    ]);
}

#[test]
fn casts_functions_and_syntax_that_are_refused() {
    check_refused(&[
        ("cast(l as string)", "cannot cast list<int64> to string"),
        ("cast(day as int64)", "cannot cast date to int64"),
        (
            "cast(n as uuid)",
            "there is no type `uuid` (types: boolean, int32, int64, float64, decimal, string, binary, date, timestamp, list, struct)",
        ),
        (
            "cast(s as varchar(3))",
            "there is no type `varchar`; did you mean `string`? (types: boolean, int32, int64, float64, decimal, string, binary, date, timestamp, list, struct)",
        ),
        ("cast(n as decimal)", "decimal needs its digits: decimal(p,s)"),
        (
            "cast(n as decimal(40,2))",
            "type `decimal(40,2)`: decimal(p,s) needs 1 <= p <= 38 and 0 <= s <= p",
        ),
        ("now()", "`now` would give another result when rows are replayed; use a column instead"),
        (
            "t > NOW()",
            "`now` would give another result when rows are replayed; use a column instead",
        ),
        (
            "current_date",
            "`current_date` would give another result when rows are replayed; use a column instead",
        ),
        (
            "current_timestamp",
            "`current_timestamp` would give another result when rows are replayed; use a column instead",
        ),
        (
            "random()",
            "`random` would give another result when rows are replayed; use a column instead",
        ),
        ("uuid()", "`uuid` would give another result when rows are replayed; use a column instead"),
    ]);
}

#[test]
fn what_belongs_elsewhere_is_refused() {
    check_refused(&[
        ("count(*)", "`count` is an aggregate and belongs into the `values` of an aggregate step"),
        ("1 + sum(n)", "`sum` is an aggregate and belongs into the `values` of an aggregate step"),
        (
            "median(n)",
            "there is no aggregate `median` (aggregates: count, sum, min, max, avg, \
             first, last, array_agg, bool_and, bool_or, stddev, stddev_samp, stddev_pop, var, \
             var_samp, var_pop)",
        ),
        ("uper(s)", "there is no function `uper`; did you mean `upper`?"),
        ("arrow_typeof(s)", "there is no function `arrow_typeof`"),
        (
            "row_number() over ()",
            "`row_number(…) over …` is a window function: use an aggregate step",
        ),
        (
            "upper(distinct s)",
            "`upper(DISTINCT s)`: only aggregates take `distinct`, `filter` or an order, and `upper` is none",
        ),
        (
            "(select 1)",
            "`(SELECT 1)` is a subquery: an expression sees one row; use a join or another step",
        ),
        (
            "exists (select 1)",
            "`EXISTS (SELECT 1)` is a subquery: an expression sees one row; use a join or another step",
        ),
        (
            "n in (select 1)",
            "`n IN (SELECT 1)` is a subquery: an expression sees one row; use a join or another step",
        ),
        (
            "date_trunc('fortnight', t)",
            "unsupported date_trunc granularity: 'fortnight'. Supported values are: microsecond, millisecond, \
             second, minute, hour, day, week, month, quarter, year",
        ),
        ("n = $1", "`$1` is a placeholder, which nothing fills"),
        ("upper(s, s)", "there is no `upper(string, string)`"),
        ("abs(s)", "there is no `abs(string)`"),
        ("repeat(s, f)", "there is no `repeat(string, float64)`"),
    ]);
}

#[test]
fn what_is_no_column_or_no_sql_is_refused() {
    check_refused(&[
        ("null", "`null`: null has no type: write `cast(null as string)`"),
        (
            "t - t",
            "`t - t`: the difference of two times is no column: compare it with an interval, or take `cast(a as int64) - cast(b as int64)`, which is milliseconds",
        ),
        ("interval '1 day'", "`interval '1 day'`: an interval is no column: add it to a time"),
        ("", "the expression is empty"),
        ("n +", "`n +` is not SQL: expected an expression, found: the end"),
        ("n n", "`n n` is not SQL: nothing may follow before `n`"),
        ("n;", "`n;`: an expression has no `;`"),
        ("'n", "`'n` is not SQL: Unterminated string literal"),
        (
            "coalesce(n",
            "the parentheses of `coalesce(n` do not match; in a flow list (`[a, b]`) YAML splits an item at its commas: put it in quotes or use a block list",
        ),
        (
            "d * d * d * d * d * d * d * d * d * d * d * d * d * d * d * d * d * d * d * d",
            "cannot get result type for decimal operation decimal(38, 38) * decimal(10, 2): Invalid argument error: Output scale of decimal(38, 38) * decimal(10, 2) would exceed max scale of 38",
        ),
        (
            "12345678901234567890123456789012345678901",
            "the number 12345678901234567890123456789012345678901 has more than 38 digits",
        ),
    ]);
    let long = format!("n = {}", "1".repeat(5000));
    check_refused(&[(&long, "an expression has at most 4096 bytes, this one has 5004")]);
}

#[track_caller]
fn check_select(items: &[&str], expected: &str) {
    let table = table();
    let items: Vec<String> = items.iter().map(|item| (*item).to_owned()).collect();
    let found = match compile_select(&table.schema(), &items) {
        Err(errors) => {
            errors.iter().map(|error| format!("[{}] {error}", error.item)).collect::<Vec<_>>()
        }
        Ok(projection) => {
            let result = projection.evaluate(&table).unwrap();
            assert_eq!(result.schema(), *projection.schema());
            types::write_schema(&result.schema())
                .into_iter()
                .map(|(name, data_type)| format!("{name}: {data_type}"))
                .collect()
        }
    };
    assert_eq!(found.join(", "), expected);
}

#[test]
fn select_items_have_names() {
    check_select(&["n", "s as S", "n + 1 late"], "n: int64, S: string, late: int64");
    check_select(&["\"odd one\""], "odd one: int64");
    check_select(&["n as \"a b\""], "a b: int64");
    check_select(
        &["* except (odd, l, p, wide, bin, day, t, text, \"Case\", \"odd one\")", "upper(s) as u"],
        "i: int64, n: int64, small: int32, zero: int64, f: float64, d: decimal(10,2), s: string, \
         b: boolean, u: string",
    );
    check_select(
        &["* exclude (i, odd)", "d as i2"],
        "n: int64, small: int32, zero: int64, \
         f: float64, d: decimal(10,2), wide: decimal(38,0), s: string, text: string, b: boolean, \
         bin: binary, day: date, t: timestamp, l: list<int64>, p: struct<x: int64>, Case: string, \
         odd one: int64, i2: decimal(10,2)",
    );
}

#[test]
fn every_bad_item_is_reported() {
    check_select(
        &["n + 1", "m", "n", "f as n", "null as x", "coalesce(n"],
        "\
        [0] `n + 1` needs a name: write `n + 1 as name`, \
        [1] there is no column `m`; columns: `i`, `n`, `small`, `zero`, `f`, `d`, `wide`, `s`, `text`, `b`, `bin`, `day`, `t`, `l`, `p`, `Case`, `odd one`, `odd`, \
        [3] there are two columns `n`; rename one with `as`, \
        [4] `null as x`: null has no type: write `cast(null as string)`, \
        [5] the parentheses of `coalesce(n` do not match; in a flow list (`[a, b]`) YAML splits an \
        item at its commas: put it in quotes or use a block list",
    );
    check_select(
        &["*"],
        "[0] column `odd` has type Time32(s) in its source, which has no \
        pipeline type; leave it out with `* except (odd)`",
    );
    check_select(
        &["* except (odd, ii)"],
        "[0] there is no column `ii`; columns: `i`, `n`, `small`, `zero`, `f`, `d`, `wide`, `s`, `text`, `b`, `bin`, `day`, `t`, `l`, `p`, `Case`, `odd one`, `odd`",
    );
    check_select(&["* replace (1 as n)"], "[0] after `*` only `except (a, b)` is understood");
    check_select(&["p.*"], "[0] `p.*` is no select item: write `*`, or an expression");
    check_select(&[], "[0] at least one item is needed");
}

#[test]
fn a_projection_names_the_first_row_of_all_items() {
    let items = ["i + 1 as a", "10 / n as b", "cast(text as int64) as c"].map(str::to_owned);
    let projection = compile_select(&table().schema(), &items).unwrap();
    let error = projection.evaluate(&table()).unwrap_err();
    assert_eq!(error.row, 1);
    assert_eq!(
        error.message,
        "`cast(text as int64) as c`: cannot cast string 'x' to value of int64 type"
    );
    assert_eq!(projection.evaluate(&table().slice(0, 0)).unwrap().num_rows(), 0);
}

#[test]
fn filters_keep_true_rows() {
    let keep = |text| {
        compile_predicate(&table().schema(), text).map(|filter| {
            let kept = filter.evaluate(&table()).unwrap();
            assert_eq!(kept.null_count(), 0);
            kept.iter().map(|keep| keep == Some(true)).collect::<Vec<bool>>()
        })
    };
    assert_eq!(keep("n = 2").unwrap(), [true, false, false]);
    assert_eq!(keep("not b").unwrap(), [false, false, true]);
    assert_eq!(keep("true").unwrap(), [true, true, true]);
    assert_eq!(keep("null").unwrap(), [false, false, false]);
    assert_eq!(
        keep("n + 1").unwrap_err().to_string(),
        "a filter must be boolean; `n + 1` is int64"
    );
}

/// A function that is offered can be called: none waits for a rewrite that nobody makes.
#[test]
fn every_function_can_be_called() {
    let arguments = [
        "",
        "n",
        "f",
        "s",
        "t",
        "bin",
        "day",
        "s, s",
        "n, n",
        "f, f",
        "s, n",
        "s, s, s",
        "s, s, n",
        "s, n, n",
        "s, n, s",
        "n, n, n",
        "'day', t",
        "'x', n",
        "p, 'x'",
        "bin, 'hex'",
        "'6162', 'hex'",
        "t, '%Y'",
        "interval '1 hour', t",
        "2013, 1, 1",
        "s, 'a', 'b'",
        "f, n",
    ];
    let runs = |name: &str| {
        arguments.iter().any(|arguments| {
            let compiled = compile(&format!("{name}({arguments})"));
            compiled.is_ok_and(|compiled| compiled.evaluate(&table().slice(1, 1)).is_ok())
        })
    };
    let idle: Vec<&str> = crate::functions::scalar_names().filter(|name| !runs(name)).collect();
    assert_eq!(idle, Vec::<&str>::new());
}

#[test]
fn deep_expressions_have_a_limit_and_small_stacks_hold_it() {
    let chain = |count: usize| vec!["n"; count].join("+");
    let worker = std::thread::Builder::new().stack_size(2 << 20);
    let run = move || {
        compile(&chain(501)).unwrap().evaluate(&table()).unwrap();
        let ors = vec!["n/n=1"; 160].join(" or ");
        compile(&ors).unwrap().evaluate(&table()).unwrap_err();
        let nested = format!("{}n{}", "(".repeat(30), ")".repeat(30));
        compile(&nested).unwrap();
        let error = compile(&chain(502)).unwrap_err().to_string();
        assert_eq!(
            error,
            "the expression has more than 500 operators; use `in (…)` or several steps"
        );
        let error = compile(&format!("{}n{}", "(".repeat(60), ")".repeat(60))).unwrap_err();
        assert!(error.to_string().ends_with("nested deeper than 40 levels"), "{error}");
    };
    worker.spawn(run).unwrap().join().unwrap();
}
