//! What each type takes, and what it says of what it does not take.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Date32Type, Decimal128Type, Schema, TimestampMillisecondType};

use super::*;

fn schema(columns: &[(&str, &str)]) -> Schema {
    let columns: Vec<_> = columns.iter().map(|&(name, text)| (name.into(), text.into())).collect();
    weir_expr::types::read_schema(&columns).unwrap()
}

fn build(columns: &[(&str, &str)], lines: &[&str]) -> Result<RecordBatch, BadValue> {
    let schema = schema(columns);
    let mut builder = RowBuilder::new(schema.fields());
    for line in lines {
        builder.append(line.as_bytes(), None)?;
    }
    Ok(RecordBatch::try_new(schema.into(), builder.finish()).unwrap())
}

/// One column `a` of the type takes this value; written as a line it gives that text again.
fn takes(data_type: &str, json: &str, written: &str) {
    let batch = build(&[("a", data_type)], &[&format!(r#"{{"a":{json}}}"#)]).unwrap();
    let encoder = crate::sink::encode::Encoder::new(&batch.schema(), false).unwrap();
    let mut out = Vec::new();
    encoder.rows(&crate::rows::Rows::plain(batch)).line(0, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), format!("{{\"a\":{written}}}\n"));
}

fn refuses(data_type: &str, json: &str, what: &str) {
    let bad = build(&[("a", data_type)], &[&format!(r#"{{"a":{json}}}"#)]).unwrap_err();
    assert_eq!((bad.column.as_deref(), bad.what.as_str()), (Some("a"), what), "{data_type} {json}");
}

/// A line that is no JSON, or no object.
fn is_invalid(line: &str, what: &str) {
    let bad = build(&[("a", "int64")], &[line]).unwrap_err();
    assert_eq!((bad.column.as_deref(), bad.what.as_str()), (None, what), "{line}");
}

#[test]
fn integers() {
    takes("int64", "-9223372036854775808", "-9223372036854775808");
    takes("int64", "1e3", "1000");
    takes("int64", "12.0", "12");
    takes("int64", "-0", "0");
    takes("int32", "2147483647", "2147483647");
    refuses("int32", "2147483648", "2147483648 does not fit int32");
    refuses("int64", "9223372036854775808", "9223372036854775808 does not fit int64");
    refuses("int64", "1e400", "1e400 does not fit int64");
    refuses("int64", "1.5", "1.5 is no int64");
    refuses("int64", "1e-1", "1e-1 is no int64");
    refuses("int64", "\"7\"", "a string where int64 is expected");
    refuses("int64", "true", "a boolean where int64 is expected");
}

#[test]
fn floats() {
    takes("float64", "0.1", "0.1");
    takes("float64", "3", "3.0");
    takes("float64", "1e300", "1e300");
    takes("float64", "\"NaN\"", "\"NaN\"");
    takes("float64", "\"-Infinity\"", "\"-Infinity\"");
    refuses("float64", "1e999", "1e999 does not fit float64");
    refuses("float64", "\"1.5\"", "a string where float64 is expected");
}

#[test]
fn decimals_are_exact() {
    takes("decimal(10,2)", "1.5", "1.50");
    takes("decimal(10,2)", "-0.07", "-0.07");
    takes("decimal(10,2)", "12e-1", "1.20");
    takes("decimal(38,0)", &"9".repeat(38), &"9".repeat(38));
    refuses("decimal(10,2)", "1.005", "1.005 has more than 2 digits behind the point");
    refuses("decimal(3,1)", "100", "100 does not fit decimal(3,1)");
    refuses(
        "decimal(38,0)",
        &format!("1{}", "0".repeat(38)),
        &format!("1{} does not fit decimal(38,0)", "0".repeat(38)),
    );
    refuses("decimal(10,2)", "\"1.5\"", "a string where decimal(10,2) is expected");
}

#[test]
fn text_and_bytes() {
    takes("string", r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#, r#""a\"\\/\u0008\u000c\n\r\té😀""#);
    refuses("string", "5", "a number where string is expected");
    takes("binary", "\"AP8=\"", "\"AP8=\"");
    takes("binary", "\"AP8\"", "\"AP8=\"");
    refuses("binary", "\"*\"", "no base64: Invalid symbol 42, offset 0.");
    takes("boolean", "true", "true");
    refuses("boolean", "1", "a number where boolean is expected");
}

#[test]
fn times() {
    takes("timestamp", "\"2013-01-01T05:00:00+05:30\"", "\"2012-12-31T23:30:00.000Z\"");
    takes("timestamp", "\"2013-01-01 05:00:00.123456789\"", "\"2013-01-01T05:00:00.123Z\"");
    takes("timestamp", "\"1969-12-31T23:59:59.9999Z\"", "\"1969-12-31T23:59:59.999Z\"");
    takes("timestamp", "\"2013-01-01\"", "\"2013-01-01T00:00:00.000Z\"");
    takes("timestamp", "-1", "\"1969-12-31T23:59:59.999Z\"");
    refuses("timestamp", "\"yesterday\"", "\"yesterday\" is no timestamp");
    refuses("timestamp", "1.5", "1.5 is no count of milliseconds");
    takes("date", "\"2012-02-29\"", "\"2012-02-29\"");
    takes("date", "\"0001-01-01\"", "\"0001-01-01\"");
    refuses("date", "\"2013-02-29\"", "\"2013-02-29\" is no date (YYYY-MM-DD)");
    refuses("date", "\"2013-02-28T00:00:00Z\"", "\"2013-02-28T00:00:00Z\" is no date (YYYY-MM-DD)");
    refuses("date", "5", "a number where date is expected");
}

#[test]
fn nested_values() {
    takes("list<int64>", "[1, null, 3]", "[1,null,3]");
    takes("list<int64>", "[]", "[]");
    takes("list<list<string>>", r#"[["a"],null]"#, r#"[["a"],null]"#);
    takes("struct<a: int64, b: string>", r#"{"b":"x","z":[{}]}"#, r#"{"a":null,"b":"x"}"#);
    takes("struct<a: int64>", "null", "null");
    refuses("list<int64>", "{}", "an object where list<int64> is expected");
    let bad = build(&[("a", "list<struct<b: int64>>")], &[r#"{"a":[{"b":1},{"b":"x"}]}"#]);
    let bad = bad.unwrap_err();
    assert_eq!(bad.column.as_deref(), Some("a.1.b"));
    assert_eq!(bad.what, "a string where int64 is expected");
}

#[test]
fn missing_is_null_unknown_is_ignored_and_of_two_the_last_counts() {
    let columns = [("a", "int64"), ("b", "string"), ("c", "decimal(5,1)")];
    let lines = [r#"{"zz":{"a":9},"b":"x"}"#, r#"{"c":2,"a":1,"a":3}"#, "{}", r#"{"a":null}"#];
    let batch = build(&columns, &lines).unwrap();
    let a: Vec<_> = batch["a"].as_primitive::<arrow::datatypes::Int64Type>().iter().collect();
    assert_eq!(a, [None, Some(3), None, None]);
    let c: Vec<_> = batch["c"].as_primitive::<Decimal128Type>().iter().collect();
    assert_eq!(c, [None, Some(20), None, None]);
    assert_eq!(batch["b"].as_string::<i32>().value(0), "x");
}

#[test]
fn lines_that_are_not_json_say_where() {
    is_invalid("nonsense", "is not JSON: no JSON value begins like this at byte 0");
    is_invalid("[1]", "a list where an object is expected");
    is_invalid(
        "{\"a\":1",
        "is not JSON: an object goes on with neither a comma nor a brace at byte 6",
    );
    is_invalid("{\"a\":1}x", "is not JSON: something follows the object at byte 7");
    is_invalid("{\"a\" 1}", "is not JSON: a colon is missing behind the name of a field at byte 5");
    is_invalid("{a:1}", "is not JSON: the name of a field is missing at byte 1");
    is_invalid("{\"a\":}", "is not JSON: no JSON value begins like this at byte 5");
    is_invalid(
        "{\"b\":[1 2]}",
        "is not JSON: a list goes on with neither a comma nor a bracket at byte 8",
    );
    is_invalid("{\"b\":01}", "is not JSON: a number begins with a superfluous 0 at byte 6");
    is_invalid("{\"b\":1.}", "is not JSON: a digit is missing at byte 7");
    is_invalid("{\"b\":\"x}", "is not JSON: a string has no end at byte 8");
    is_invalid("{\"b\":\"\u{1}\"}", "is not JSON: a control character in a string at byte 6");
    is_invalid("{\"b\":\"\\x\"}", "is not JSON: an unknown escape in a string at byte 7");
    is_invalid(
        "{\"b\":\"\\ud800\"}",
        "is not JSON: half of a surrogate pair in a string at byte 12",
    );
    let deep = format!("{{\"b\":{}", "[".repeat(200));
    is_invalid(&deep, "is not JSON: values are nested too deeply at byte 69");
    let bad = RowBuilder::new(schema(&[("a", "int64")]).fields()).append(b"{\"a\":\"\xff\"}", None);
    assert_eq!(bad.unwrap_err().what, "is not UTF-8");
}

#[test]
fn an_event_time_must_be_there() {
    let schema = schema(&[("a", "int64"), ("t", "timestamp")]);
    for line in ["{\"a\":1}", "{\"t\":null}"] {
        let bad = RowBuilder::new(schema.fields()).append(line.as_bytes(), Some(1)).unwrap_err();
        assert_eq!(bad.column.as_deref(), Some("t"));
        assert_eq!(bad.what, "the event time is null");
    }
    let mut builder = RowBuilder::new(schema.fields());
    builder.append(b"{\"t\":0}", Some(1)).unwrap();
    let columns = builder.finish();
    assert_eq!(columns[1].as_primitive::<TimestampMillisecondType>().value(0), 0);
}

#[test]
fn dates_before_1970_are_floored() {
    let batch = build(&[("a", "date")], &["{\"a\":\"1969-12-31\"}"]).unwrap();
    assert_eq!(batch["a"].as_primitive::<Date32Type>().value(0), -1);
}
