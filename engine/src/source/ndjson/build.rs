//! JSON values into Arrow columns, strictly by type.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder,
    Int32Builder, Int64Builder, ListArray, StringBuilder, StructArray, TimestampMillisecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::source::ndjson::json::{Invalid, Kind, Scanner};

const MS_PER_DAY: i64 = 86_400_000;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadValue {
    /// Path of the column, if the line is an object and one of its values is wrong.
    pub(crate) column: Option<String>,
    /// Byte within the line.
    pub(crate) at: usize,
    pub(crate) what: String,
}

impl From<Invalid> for BadValue {
    fn from(invalid: Invalid) -> Self {
        let what = format!("is not JSON: {} at byte {}", invalid.what, invalid.at);
        Self { column: None, at: invalid.at, what }
    }
}

impl BadValue {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Self { column: None, at, what: what.into() }
    }

    fn of_kind(at: usize, kind: Kind, expected: &DataType) -> Self {
        let expected = weir_expr::types::print(expected);
        Self::new(at, format!("{} where {expected} is expected", kind.words()))
    }

    fn in_column(mut self, name: &str) -> Self {
        self.column = Some(match self.column {
            Some(below) => format!("{name}.{below}"),
            None => name.to_owned(),
        });
        self
    }
}

/// Rows under construction.
pub(crate) struct RowBuilder {
    members: Members,
}

impl RowBuilder {
    /// A builder of rows with these columns, which must be of our types.
    pub(crate) fn new(fields: &Fields) -> Self {
        Self { members: Members::new(fields) }
    }

    /// Appends a row; `not_null` is the column that must have a value (the event time).
    ///
    /// After an error the builder holds part of a row and must not be used again.
    pub(crate) fn append(&mut self, line: &[u8], not_null: Option<usize>) -> Result<(), BadValue> {
        let text = std::str::from_utf8(line)
            .map_err(|cause| BadValue::new(cause.valid_up_to(), "is not UTF-8"))?;
        let mut scanner = Scanner::new(text);
        let kind = scanner.kind()?;
        if kind != Kind::Object {
            scanner.skip()?;
            let what = format!("{} where an object is expected", kind.words());
            return Err(BadValue::new(0, what));
        }
        let places = self.members.find(&mut scanner)?;
        scanner.end()?;
        if let Some(column) = not_null {
            let null = match places[column] {
                Some(at) => scanner.at(at).kind()? == Kind::Null,
                None => true,
            };
            if null {
                let name = self.members.fields[column].name();
                let at = places[column].unwrap_or(0);
                return Err(BadValue::new(at, "the event time is null").in_column(name));
            }
        }
        self.members.append(&scanner, &places)
    }

    /// The columns of the rows so far; begins anew.
    pub(crate) fn finish(&mut self) -> Vec<ArrayRef> {
        self.members.finish()
    }
}

/// The columns of rows or of a struct.
struct Members {
    fields: Fields,
    columns: Vec<Column>,
}

/// Where in the text the value of each column is.
type Places = Vec<Option<usize>>;

impl Members {
    fn new(fields: &Fields) -> Self {
        let columns = fields.iter().map(|field| Column::new(field.data_type())).collect();
        Self { fields: fields.clone(), columns }
    }

    /// Takes an object and remembers where its values are; of a repeated field the last counts.
    fn find(&self, scanner: &mut Scanner<'_>) -> Result<Places, Invalid> {
        let mut places = vec![None; self.fields.len()];
        let mut expected = 0;
        scanner.members(|scanner, name| {
            // Fields mostly come in the order of the schema.
            let is_next = self.fields.get(expected).is_some_and(|field| *field.name() == *name);
            let column = if is_next {
                Some(expected)
            } else {
                self.fields.iter().position(|field| *field.name() == *name)
            };
            scanner.blanks();
            let at = scanner.offset();
            if let Some(column) = column {
                places[column] = Some(at);
                expected = column + 1;
            }
            scanner.skip()
        })?;
        Ok(places)
    }

    fn append(&mut self, scanner: &Scanner<'_>, places: &Places) -> Result<(), BadValue> {
        for ((column, field), place) in self.columns.iter_mut().zip(&self.fields).zip(places) {
            match place {
                Some(at) => column
                    .append(&mut scanner.at(*at), field.data_type())
                    .map_err(|bad| bad.in_column(field.name()))?,
                None => column.append_null(),
            }
        }
        Ok(())
    }

    fn append_null(&mut self) {
        self.columns.iter_mut().for_each(Column::append_null);
    }

    fn finish(&mut self) -> Vec<ArrayRef> {
        let columns = self.columns.iter_mut().zip(&self.fields);
        columns.map(|(column, field)| column.finish(field.data_type())).collect()
    }
}

/// One column under construction.
enum Column {
    Boolean(BooleanBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    String(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMillisecondBuilder),
    List {
        element: Box<Column>,
        lengths: Vec<usize>,
        valid: Vec<bool>,
    },
    Struct {
        members: Members,
        valid: Vec<bool>,
    },
    /// Of a type that is none of ours: nothing is read into it.
    Unsupported {
        rows: usize,
    },
}

impl Column {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(_, _) => {
                Self::Decimal(Decimal128Builder::new().with_data_type(data_type.clone()))
            }
            DataType::Utf8 => Self::String(StringBuilder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(_, _) => Self::Timestamp(
                TimestampMillisecondBuilder::new().with_data_type(data_type.clone()),
            ),
            DataType::List(element) => Self::List {
                element: Box::new(Self::new(element.data_type())),
                lengths: Vec::new(),
                valid: Vec::new(),
            },
            DataType::Struct(fields) => {
                Self::Struct { members: Members::new(fields), valid: Vec::new() }
            }
            _ => Self::Unsupported { rows: 0 },
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Decimal(builder) => builder.append_null(),
            Self::String(builder) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::List { lengths, valid, .. } => {
                lengths.push(0);
                valid.push(false);
            }
            Self::Struct { members, valid } => {
                members.append_null();
                valid.push(false);
            }
            Self::Unsupported { rows } => *rows += 1,
        }
    }

    /// Takes one value of a text that is known to be JSON.
    fn append(&mut self, text: &mut Scanner<'_>, data_type: &DataType) -> Result<(), BadValue> {
        let (kind, at) = (text.kind()?, text.offset());
        let bad = |what: String| BadValue::new(at, what);
        match (self, kind) {
            (column, Kind::Null) => {
                column.append_null();
                text.null()?;
            }
            (Self::Boolean(builder), Kind::Boolean) => builder.append_value(text.boolean()?),
            (Self::Int32(builder), Kind::Number) => {
                let value = whole(text.number()?, "int32").map_err(bad)?;
                builder.append_value(value);
            }
            (Self::Int64(builder), Kind::Number) => {
                let value = whole(text.number()?, "int64").map_err(bad)?;
                builder.append_value(value);
            }
            (Self::Float64(builder), Kind::Number) => {
                builder.append_value(float(text.number()?).map_err(bad)?);
            }
            (Self::Float64(builder), Kind::String) => {
                let value = named_float(&text.string()?);
                builder.append_value(value.ok_or(BadValue::of_kind(at, kind, data_type))?);
            }
            (Self::Decimal(builder), Kind::Number) => {
                builder.append_value(decimal(text.number()?, data_type).map_err(bad)?);
            }
            (Self::String(builder), Kind::String) => builder.append_value(text.string()?),
            (Self::Binary(builder), Kind::String) => {
                let bytes = BASE64.decode(text.string()?.as_bytes());
                builder.append_value(bytes.map_err(|cause| bad(format!("no base64: {cause}")))?);
            }
            (Self::Date(builder), Kind::String) => {
                builder.append_value(date(&text.string()?).map_err(bad)?);
            }
            (Self::Timestamp(builder), Kind::Number) => {
                let value = whole(text.number()?, "count of milliseconds").map_err(bad)?;
                builder.append_value(value);
            }
            (Self::Timestamp(builder), Kind::String) => {
                builder.append_value(timestamp(&text.string()?).map_err(bad)?);
            }
            (Self::List { element, lengths, valid }, Kind::Array) => {
                let mut length = 0;
                let element_type = list_element(data_type).data_type();
                text.elements(|text| {
                    element
                        .append(text, element_type)
                        .map_err(|bad| bad.in_column(&length.to_string()))?;
                    length += 1;
                    Ok::<_, BadValue>(())
                })?;
                lengths.push(length);
                valid.push(true);
            }
            (Self::Struct { members, valid }, Kind::Object) => {
                let places = members.find(text)?;
                members.append(text, &places)?;
                valid.push(true);
            }
            (Self::Unsupported { rows }, _) => {
                *rows += 1;
                text.skip()?;
            }
            _ => return Err(BadValue::of_kind(at, kind, data_type)),
        }
        Ok(())
    }

    fn finish(&mut self, data_type: &DataType) -> ArrayRef {
        match self {
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::String(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::List { element, lengths, valid } => {
                let field = list_element(data_type);
                let values = element.finish(field.data_type());
                let offsets = OffsetBuffer::from_lengths(std::mem::take(lengths));
                Arc::new(ListArray::new(Arc::clone(field), offsets, values, nulls(valid)))
            }
            Self::Struct { members, valid } => {
                let rows = valid.len();
                let (fields, columns) = (members.fields.clone(), members.finish());
                Arc::new(
                    StructArray::try_new_with_length(fields, columns, nulls(valid), rows)
                        .expect("every member has a value for every row"),
                )
            }
            Self::Unsupported { rows } => {
                arrow::array::new_null_array(data_type, std::mem::take(rows))
            }
        }
    }
}

fn nulls(valid: &mut Vec<bool>) -> Option<NullBuffer> {
    Some(NullBuffer::from(std::mem::take(valid)))
}

fn list_element(data_type: &DataType) -> &FieldRef {
    match data_type {
        DataType::List(element) => element,
        other => unreachable!("a list column of type {other}"),
    }
}

/// A whole number; `1.0` and `1e3` are whole.
fn whole<T: TryFrom<i128>>(text: &str, name: &str) -> Result<T, String> {
    let value = match text.parse::<i64>() {
        Ok(value) => Some(i128::from(value)),
        Err(_) => match scaled(text, 0) {
            Scaled::Exactly(value) => Some(value),
            Scaled::TooLong => return Err(format!("{} is no {name}", shorten(text))),
            Scaled::TooLarge => None,
        },
    };
    value
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| format!("{} does not fit {name}", shorten(text)))
}

fn float(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{} is no number", shorten(text)))?;
    if value.is_infinite() {
        return Err(format!("{} does not fit float64", shorten(text)));
    }
    Ok(value)
}

/// The floats that JSON has no numbers for, as our sinks write them.
fn named_float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn decimal(text: &str, data_type: &DataType) -> Result<i128, String> {
    let DataType::Decimal128(precision, scale) = data_type else {
        unreachable!("a decimal column of type {data_type}");
    };
    match scaled(text, i32::from(*scale)) {
        Scaled::Exactly(value)
            if value.unsigned_abs() < 10_u128.pow(u32::from(*precision).min(38)) =>
        {
            Ok(value)
        }
        Scaled::Exactly(_) | Scaled::TooLarge => {
            Err(format!("{} does not fit {}", shorten(text), weir_expr::types::print(data_type)))
        }
        Scaled::TooLong => {
            Err(format!("{} has more than {scale} digits behind the point", shorten(text)))
        }
    }
}

/// A JSON number times a power of ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scaled {
    Exactly(i128),
    /// It is no whole number then.
    TooLong,
    TooLarge,
}

/// `text × 10^scale`, exactly.
fn scaled(text: &str, scale: i32) -> Scaled {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let negative = whole.starts_with('-');
    let digits = whole.trim_start_matches('-').bytes().chain(fraction.bytes());
    let digits: Vec<u8> =
        digits.map(|digit| digit - b'0').skip_while(|&digit| digit == 0).collect();
    if digits.is_empty() {
        return Scaled::Exactly(0);
    }
    // An exponent that does not fit an i64 is as good as the largest.
    let down = exponent.starts_with('-');
    let exponent =
        exponent.parse::<i64>().unwrap_or(if down { i64::MIN / 2 } else { i64::MAX / 2 });
    let shift = exponent + i64::from(scale) - i64::try_from(fraction.len()).unwrap_or(i64::MAX / 4);
    let zeros = digits.iter().rev().take_while(|&&digit| digit == 0).count();
    if shift + i64::try_from(zeros).unwrap_or(0) < 0 {
        return Scaled::TooLong;
    }
    let dropped = usize::try_from(-shift).unwrap_or(0);
    let appended = usize::try_from(shift).unwrap_or(0).min(40);
    let kept = digits[..digits.len() - dropped].iter().copied();
    let value = kept
        .chain(std::iter::repeat_n(0, appended))
        .try_fold(0_i128, |value, digit| value.checked_mul(10)?.checked_add(i128::from(digit)));
    match value {
        Some(value) => Scaled::Exactly(if negative { -value } else { value }),
        None => Scaled::TooLarge,
    }
}

fn timestamp(text: &str) -> Result<i64, String> {
    weir_expr::timestamp::parse(text).ok_or_else(|| format!("{:?} is no timestamp", shorten(text)))
}

fn date(text: &str) -> Result<i32, String> {
    let only_date = text.len() == "YYYY-MM-DD".len();
    let ms = only_date.then(|| weir_expr::timestamp::parse(text)).flatten();
    ms.and_then(|ms| i32::try_from(ms.div_euclid(MS_PER_DAY)).ok())
        .ok_or_else(|| format!("{:?} is no date (YYYY-MM-DD)", shorten(text)))
}

fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    if text.chars().count() <= CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CHARS_MAX).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests;
