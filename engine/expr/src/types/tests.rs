//! Types in words and Arrow's types, both ways.

use super::*;

#[test]
fn every_type_reads_back() {
    for text in [
        "boolean",
        "int32",
        "int64",
        "float64",
        "decimal(38,0)",
        "decimal(1,1)",
        "string",
        "binary",
        "date",
        "timestamp",
        "list<int64>",
        "list<list<decimal(10,2)>>",
        "struct<a: int64, b: string>",
        "struct<a: list<struct<x: date>>, \"b, c\": string, \"say \"\"x\"\"\": binary>",
    ] {
        assert_eq!(print(&parse(text).unwrap()), text);
    }
    assert_eq!(parse(" decimal ( 10 , 2 ) ").unwrap(), DataType::Decimal128(10, 2));
    assert_eq!(parse("struct<a:int64,b:string>"), parse("struct<a: int64, b: string>"));
}

#[test]
fn bad_types_are_refused_with_a_hint() {
    let types = NAMES.join(", ");
    for (text, expected) in [
        ("", "type ``: expected a type at its end".to_owned()),
        ("int", format!("there is no type `int`; did you mean `int32`? (types: {types})")),
        ("BIGINT", format!("there is no type `BIGINT`; did you mean `int64`? (types: {types})")),
        ("strnig", format!("there is no type `strnig`; did you mean `string`? (types: {types})")),
        ("Int64", format!("there is no type `Int64`; did you mean `int64`? (types: {types})")),
        ("complex", format!("there is no type `complex` (types: {types})")),
        ("int64 x", "type `int64 x`: expected nothing more before `x`".to_owned()),
        ("list<int64", "type `list<int64`: expected `>` at its end".to_owned()),
        ("list", "type `list`: expected `<` at its end".to_owned()),
        ("decimal", "type `decimal`: expected `(` at its end".to_owned()),
        (
            "decimal(999,2)",
            "type `decimal(999,2)`: expected a number up to 38 before `999,2)`".to_owned(),
        ),
        (
            "decimal(39,2)",
            "type `decimal(39,2)`: decimal(p,s) needs 1 <= p <= 38 and 0 <= s <= p".to_owned(),
        ),
        (
            "decimal(2,3)",
            "type `decimal(2,3)`: decimal(p,s) needs 1 <= p <= 38 and 0 <= s <= p".to_owned(),
        ),
        ("struct<>", "type `struct<>`: expected a field's name before `>`".to_owned()),
        ("struct<a>", "type `struct<a>`: expected `:` before `>`".to_owned()),
        (
            "struct<\"a: int64>",
            "type `struct<\"a: int64>`: expected a closing `\"` before `a: int64>`".to_owned(),
        ),
        (
            "struct<a: date, a: date>",
            "type `struct<a: date, a: date>` has two fields `a`".to_owned(),
        ),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
    let deep = format!("{}int64{}", "list<".repeat(20), ">".repeat(20));
    assert!(parse(&deep).unwrap_err().to_string().contains("nested deeper than 16 levels"));
}

#[test]
fn foreign_types_become_ours() {
    let zone = || Some("America/New_York".into());
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8));
    let large = DataType::LargeList(Arc::new(Field::new("x", DataType::Int16, false)));
    for (source, expected) in [
        (DataType::Int8, "int32"),
        (DataType::UInt16, "int32"),
        (DataType::UInt32, "int64"),
        (DataType::UInt64, "decimal(20,0)"),
        (DataType::Float32, "float64"),
        (DataType::Decimal32(9, 2), "decimal(9,2)"),
        (DataType::Decimal256(38, 4), "decimal(38,4)"),
        (DataType::Decimal128(10, -3), "decimal(13,0)"),
        (DataType::Utf8View, "string"),
        (DataType::FixedSizeBinary(3), "binary"),
        (DataType::Date64, "date"),
        (DataType::Timestamp(TimeUnit::Nanosecond, None), "timestamp"),
        (DataType::Timestamp(TimeUnit::Second, zone()), "timestamp"),
        (dictionary, "string"),
        (large, "list<int32>"),
    ] {
        assert_eq!(print(&normal(&source).unwrap()), expected, "{source}");
    }
    for source in [
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Decimal256(50, 4),
        DataType::Duration(TimeUnit::Second),
        DataType::Null,
    ] {
        assert_eq!(normal(&source), None, "{source}");
    }
}

#[test]
fn a_schema_reads_back_with_its_refused_columns() {
    let source = Schema::new(vec![
        Field::new("a", DataType::UInt8, false),
        Field::new("b", DataType::Time32(TimeUnit::Second), true),
    ]);
    let schema = normal_schema(&source);
    let words = write_schema(&schema);
    assert_eq!(
        words,
        [("a".to_owned(), "int32".to_owned()), ("b".to_owned(), "refused Time32(s)".to_owned()),]
    );
    assert_eq!(read_schema(&words).unwrap(), schema);
    assert_eq!(refused(schema.field(1)), Some("Time32(s)"));
    assert_eq!(refused(schema.field(0)), None);
}
