//! Rows as ndjson.
//!
//! Timestamps as RFC 3339 with milliseconds and `Z`, dates as YYYY-MM-DD (years beyond 0000–9999
//! with a sign and six digits, as in ISO 8601), integers and decimals as plain numbers, floats
//! shortest that reads back, NaN and infinities as strings, binary in base64, nulls as `null`. A
//! row of a changelog has its kind in front.

use std::io::Write as _;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, ListArray,
    PrimitiveArray, StringArray, StructArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float64Type, Int32Type, Int64Type, Schema,
    TimeUnit, TimestampMillisecondType,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::rows::Rows;
use crate::sink::KIND_COLUMN;

const MS_PER_DAY: i64 = 86_400_000;

/// Writes batches of one schema, row by row.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    schema: Schema,
    /// Rows have kinds.
    changelog: bool,
}

impl Encoder {
    /// Errors: the column of a type that has no form in ndjson.
    pub(crate) fn new(schema: &Schema, changelog: bool) -> Result<Self, String> {
        for field in schema.fields() {
            if !is_known(field.data_type()) {
                return Err(format!(
                    "column {} is {}, which can't be written as ndjson",
                    field.name(),
                    weir_expr::types::print(field.data_type())
                ));
            }
        }
        Ok(Self { schema: schema.clone(), changelog })
    }

    /// The rows of a batch, ready to be written one by one.
    pub(crate) fn rows<'a>(&self, rows: &'a Rows) -> RowEncoder<'a> {
        let batch = &rows.batch;
        debug_assert_eq!(batch.num_columns(), self.schema.fields().len());
        let fields = self.schema.fields().iter();
        let members = members(fields.map(AsRef::as_ref), batch.columns());
        RowEncoder { members, kinds: self.changelog.then_some(rows) }
    }
}

fn is_known(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null
        | DataType::Boolean
        | DataType::Int32
        | DataType::Int64
        | DataType::Float64
        | DataType::Decimal128(_, _)
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Timestamp(TimeUnit::Millisecond, _) => true,
        DataType::List(element) => is_known(element.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_known(field.data_type())),
        _ => false,
    }
}

/// Writes rows of one batch.
pub(crate) struct RowEncoder<'a> {
    members: Vec<Member<'a>>,
    /// The rows whose kinds are written too.
    kinds: Option<&'a Rows>,
}

impl RowEncoder<'_> {
    /// Appends row `row` as one line.
    pub(crate) fn line(&self, row: usize, out: &mut Vec<u8>) {
        match self.kinds {
            None => object(&self.members, row, out),
            Some(rows) => {
                let kind = rows.kind(row).text();
                text(out, format_args!("{{\"{KIND_COLUMN}\":\"{kind}\""));
                if !self.members.is_empty() {
                    out.push(b',');
                }
                members_of(&self.members, row, out);
                out.push(b'}');
            }
        }
        out.push(b'\n');
    }
}

struct Member<'a> {
    /// `"name":`, with a comma in front if it is not the first.
    name: Vec<u8>,
    values: Values<'a>,
}

enum Values<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a Decimal128Array, usize),
    String(&'a StringArray),
    Binary(&'a BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Timestamp(&'a PrimitiveArray<TimestampMillisecondType>),
    List(&'a ListArray, Box<Values<'a>>),
    Struct(&'a StructArray, Vec<Member<'a>>),
}

fn members<'a, 'f>(
    fields: impl Iterator<Item = &'f Field>,
    columns: &'a [ArrayRef],
) -> Vec<Member<'a>> {
    fields
        .zip(columns)
        .enumerate()
        .map(|(i, (field, column))| {
            let mut name = if i == 0 { Vec::new() } else { vec![b','] };
            string(field.name(), &mut name);
            name.push(b':');
            Member { name, values: Values::of(column) }
        })
        .collect()
}

impl<'a> Values<'a> {
    fn of(array: &'a ArrayRef) -> Self {
        match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Int32 => Self::Int32(array.as_primitive()),
            DataType::Int64 => Self::Int64(array.as_primitive()),
            DataType::Float64 => Self::Float64(array.as_primitive()),
            DataType::Decimal128(_, scale) => Self::Decimal(
                array.as_primitive::<Decimal128Type>(),
                usize::try_from(*scale).unwrap_or(0),
            ),
            DataType::Utf8 => Self::String(array.as_string()),
            DataType::Binary => Self::Binary(array.as_binary()),
            DataType::Date32 => Self::Date(array.as_primitive()),
            DataType::Timestamp(_, _) => Self::Timestamp(array.as_primitive()),
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Self::List(list, Box::new(Self::of(list.values())))
            }
            DataType::Struct(fields) => {
                let value = array.as_struct();
                let fields = fields.iter().map(AsRef::as_ref);
                Self::Struct(value, members(fields, value.columns()))
            }
            _ => Self::Null,
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Boolean(array) => array.is_null(row),
            Self::Int32(array) => array.is_null(row),
            Self::Int64(array) => array.is_null(row),
            Self::Float64(array) => array.is_null(row),
            Self::Decimal(array, _) => array.is_null(row),
            Self::String(array) => array.is_null(row),
            Self::Binary(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Timestamp(array) => array.is_null(row),
            Self::List(array, _) => array.is_null(row),
            Self::Struct(array, _) => array.is_null(row),
        }
    }

    fn value(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Boolean(array) => {
                out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
            }
            Self::Int32(array) => text(out, format_args!("{}", array.value(row))),
            Self::Int64(array) => text(out, format_args!("{}", array.value(row))),
            Self::Float64(array) => float(array.value(row), out),
            Self::Decimal(array, scale) => decimal(array.value(row), *scale, out),
            Self::String(array) => string(array.value(row), out),
            Self::Binary(array) => {
                text(out, format_args!("\"{}\"", BASE64.encode(array.value(row))));
            }
            Self::Date(array) => {
                out.push(b'"');
                date(i64::from(array.value(row)), out);
                out.push(b'"');
            }
            Self::Timestamp(array) => timestamp(array.value(row), out),
            Self::List(array, elements) => {
                let offsets = array.value_offsets();
                let places =
                    [offsets[row], offsets[row + 1]].map(|at| usize::try_from(at).unwrap_or(0));
                out.push(b'[');
                for at in places[0]..places[1] {
                    if at > places[0] {
                        out.push(b',');
                    }
                    elements.value(at, out);
                }
                out.push(b']');
            }
            Self::Struct(_, members) => object(members, row, out),
        }
    }
}

fn object(members: &[Member<'_>], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    members_of(members, row, out);
    out.push(b'}');
}

fn members_of(members: &[Member<'_>], row: usize, out: &mut Vec<u8>) {
    for member in members {
        out.extend_from_slice(&member.name);
        member.values.value(row, out);
    }
}

fn text(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes any text");
}

fn float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        // Debug is the shortest form that reads back, with an exponent when that is shorter.
        text(out, format_args!("{value:?}"));
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    }
}

fn decimal(value: i128, scale: usize, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    out.extend_from_slice(whole.as_bytes());
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
}

fn string(value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in value.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&value.as_bytes()[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => text(out, format_args!("\\u{control:04x}")),
        }
    }
    out.extend_from_slice(&value.as_bytes()[plain..]);
    out.push(b'"');
}

fn timestamp(ms: i64, out: &mut Vec<u8>) {
    let of_day = ms.rem_euclid(MS_PER_DAY);
    out.push(b'"');
    date(ms.div_euclid(MS_PER_DAY), out);
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (seconds, millis) = (of_day / 1_000 % 60, of_day % 1_000);
    text(out, format_args!("T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z\""));
}

fn date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    if (0..=9999).contains(&year) {
        text(out, format_args!("{year:04}-{month:02}-{day:02}"));
    } else {
        text(out, format_args!("{year:+07}-{month:02}-{day:02}"));
    }
}

/// Year, month and day of a day since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
