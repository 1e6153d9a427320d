//! Key bytes back to column values, for the output of a keyed step and rows that were kept.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Float64Builder, Int32Builder, Int64Builder, ListArray, NullBuilder, StringBuilder, StructArray,
    TimestampMillisecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use bytes::Bytes;

use super::{
    BINARY, DATE, DECIMAL, FALSE, FLOAT, INTEGER, KeyError, LIST, NULL, STRING, STRUCT, TIMESTAMP,
    TRUE, canonical_type,
};

/// The columns of many keys: column i has type and name of `fields[i]`, row j comes from `keys[j]`.
///
/// Errors: bytes that are no key of these fields, or a field of a type that has none.
pub fn decode_keys<F: AsRef<Field>>(
    keys: &[Bytes],
    fields: &[F],
) -> Result<Vec<ArrayRef>, KeyError> {
    let mut columns = fields
        .iter()
        .map(|field| Column::new(field.as_ref().data_type(), keys.len()))
        .collect::<Result<Vec<_>, _>>()?;
    for key in keys {
        let mut reader = Reader { key, offset: 0 };
        for column in &mut columns {
            column.append(&mut reader)?;
        }
        if reader.offset != key.len() {
            return Err(reader.damaged("the end of the key"));
        }
    }
    columns.into_iter().zip(fields).map(|(column, field)| column.finish(field.as_ref())).collect()
}

enum Column {
    Null(NullBuilder),
    Boolean(BooleanBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Utf8(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMillisecondBuilder),
    List(Box<List>),
    Struct(Struct),
}

/// Lists: the ends of all of them among their elements.
struct List {
    field: FieldRef,
    elements: Column,
    count: i32,
    ends: Vec<i32>,
    valid: Vec<bool>,
}

struct Struct {
    fields: Fields,
    columns: Vec<Column>,
    valid: Vec<bool>,
}

impl Column {
    fn new(data_type: &DataType, rows: usize) -> Result<Self, KeyError> {
        let plain = match data_type {
            DataType::List(field) => {
                let elements = Self::new(field.data_type(), rows)?;
                let field = FieldRef::clone(field);
                let (ends, valid) = (vec![0], Vec::with_capacity(rows));
                return Ok(Self::List(Box::new(List { field, elements, count: 0, ends, valid })));
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().map(|field| Self::new(field.data_type(), rows));
                let columns = columns.collect::<Result<Vec<_>, _>>()?;
                let (fields, valid) = (fields.clone(), Vec::with_capacity(rows));
                return Ok(Self::Struct(Struct { fields, columns, valid }));
            }
            DataType::Dictionary(_, values) => values.as_ref(),
            other => other,
        };
        let unfit = || KeyError::Type(data_type.clone());
        Ok(match canonical_type(plain).ok_or_else(unfit)? {
            DataType::Null => Self::Null(NullBuilder::new()),
            DataType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Int32 => Self::Int32(Int32Builder::with_capacity(rows)),
            DataType::Int64 => Self::Int64(Int64Builder::with_capacity(rows)),
            DataType::Float64 => Self::Float64(Float64Builder::with_capacity(rows)),
            DataType::Decimal128(precision, scale) => {
                let builder = Decimal128Builder::with_capacity(rows)
                    .with_precision_and_scale(precision, scale)
                    .map_err(KeyError::Column)?;
                Self::Decimal(builder, precision, scale)
            }
            DataType::Utf8 => Self::Utf8(StringBuilder::with_capacity(rows, 0)),
            DataType::Binary => Self::Binary(BinaryBuilder::with_capacity(rows, 0)),
            DataType::Date32 => Self::Date(Date32Builder::with_capacity(rows)),
            DataType::Timestamp(TimeUnit::Millisecond, zone) => {
                let builder = TimestampMillisecondBuilder::with_capacity(rows);
                Self::Timestamp(builder.with_timezone_opt(zone))
            }
            _ => return Err(unfit()),
        })
    }

    fn append(&mut self, reader: &mut Reader<'_>) -> Result<(), KeyError> {
        let tag = reader.tag()?;
        match (self, tag) {
            (Self::Null(builder), NULL) => builder.append_null(),
            (Self::Boolean(builder), NULL) => builder.append_null(),
            (Self::Boolean(builder), FALSE) => builder.append_value(false),
            (Self::Boolean(builder), TRUE) => builder.append_value(true),
            (Self::Int32(builder), NULL) => builder.append_null(),
            (Self::Int32(builder), INTEGER) => {
                let value = i32::try_from(reader.integer()?);
                builder.append_value(value.map_err(|_| reader.damaged("an int32"))?);
            }
            (Self::Int64(builder), NULL) => builder.append_null(),
            (Self::Int64(builder), INTEGER) => builder.append_value(reader.integer()?),
            (Self::Float64(builder), NULL) => builder.append_null(),
            (Self::Float64(builder), FLOAT) => builder.append_value(reader.float()?),
            (Self::Decimal(builder, ..), NULL) => builder.append_null(),
            (Self::Decimal(builder, precision, scale), DECIMAL) => {
                builder.append_value(reader.decimal(*precision, *scale)?);
            }
            (Self::Utf8(builder), NULL) => builder.append_null(),
            (Self::Utf8(builder), STRING) => {
                let value = std::str::from_utf8(reader.sized()?);
                builder.append_value(value.map_err(|_| reader.damaged("UTF-8"))?);
            }
            (Self::Binary(builder), NULL) => builder.append_null(),
            (Self::Binary(builder), BINARY) => builder.append_value(reader.sized()?),
            (Self::Date(builder), NULL) => builder.append_null(),
            (Self::Date(builder), DATE) => builder.append_value(reader.date()?),
            (Self::Timestamp(builder), NULL) => builder.append_null(),
            (Self::Timestamp(builder), TIMESTAMP) => builder.append_value(reader.integer()?),
            (Self::List(lists), tag) => lists.append(tag, reader)?,
            (Self::Struct(structs), tag) => structs.append(tag, reader)?,
            _ => return Err(reader.damaged("a value of the column's type")),
        }
        Ok(())
    }

    fn finish(self, field: &Field) -> Result<ArrayRef, KeyError> {
        let mut builder: Box<dyn ArrayBuilder> = match self {
            Self::List(lists) => return lists.finish(),
            Self::Struct(structs) => return structs.finish(),
            Self::Null(builder) => Box::new(builder),
            Self::Boolean(builder) => Box::new(builder),
            Self::Int32(builder) => Box::new(builder),
            Self::Int64(builder) => Box::new(builder),
            Self::Float64(builder) => Box::new(builder),
            Self::Decimal(builder, ..) => Box::new(builder),
            Self::Utf8(builder) => Box::new(builder),
            Self::Binary(builder) => Box::new(builder),
            Self::Date(builder) => Box::new(builder),
            Self::Timestamp(builder) => Box::new(builder),
        };
        let column = builder.finish();
        if column.data_type() == field.data_type() {
            return Ok(column);
        }
        compute::cast(&column, field.data_type()).map_err(KeyError::Column)
    }
}

impl List {
    fn append(&mut self, tag: u8, reader: &mut Reader<'_>) -> Result<(), KeyError> {
        if tag == LIST {
            let length = reader.sized()?.len();
            let end = reader.offset;
            let mut inside = Reader { key: &reader.key[..end], offset: end - length };
            while inside.offset < end {
                self.elements.append(&mut inside)?;
                let more = self.count.checked_add(1);
                self.count = more.ok_or_else(|| inside.damaged("fewer than 2^31 elements"))?;
            }
        } else if tag != NULL {
            return Err(reader.damaged("a list"));
        }
        self.ends.push(self.count);
        self.valid.push(tag == LIST);
        Ok(())
    }

    fn finish(self) -> Result<ArrayRef, KeyError> {
        let elements = self.elements.finish(&self.field)?;
        let ends = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        let valid = NullBuffer::from(self.valid);
        let lists = ListArray::try_new(self.field, ends, elements, Some(valid));
        Ok(Arc::new(lists.map_err(KeyError::Column)?))
    }
}

impl Struct {
    fn append(&mut self, tag: u8, reader: &mut Reader<'_>) -> Result<(), KeyError> {
        for column in &mut self.columns {
            match tag {
                STRUCT => column.append(reader)?,
                NULL => column.append(&mut Reader { key: &[NULL], offset: 0 })?,
                _ => return Err(reader.damaged("a struct")),
            }
        }
        self.valid.push(tag == STRUCT);
        Ok(())
    }

    fn finish(self) -> Result<ArrayRef, KeyError> {
        let rows = self.valid.len();
        let columns = self.columns.into_iter().zip(&self.fields);
        let columns =
            columns.map(|(column, field)| column.finish(field)).collect::<Result<_, _>>()?;
        let valid = Some(NullBuffer::from(self.valid));
        let structs = StructArray::try_new_with_length(self.fields, columns, valid, rows);
        Ok(Arc::new(structs.map_err(KeyError::Column)?))
    }
}

/// Reads one key from front to back.
struct Reader<'a> {
    key: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn damaged(&self, what: &'static str) -> KeyError {
        KeyError::Damaged { offset: self.offset, what }
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], KeyError> {
        let end = self.offset.checked_add(length);
        let part = end.and_then(|end| self.key.get(self.offset..end));
        let part = part.ok_or_else(|| self.damaged(what))?;
        self.offset += length;
        Ok(part)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], KeyError> {
        let part = self.take(N, what)?;
        part.try_into().map_err(|_| self.damaged(what))
    }

    fn tag(&mut self) -> Result<u8, KeyError> {
        Ok(self.array::<1>("a tag")?[0])
    }

    fn integer(&mut self) -> Result<i64, KeyError> {
        Ok(i64::from_be_bytes(self.array("eight bytes")?) ^ i64::MIN)
    }

    fn date(&mut self) -> Result<i32, KeyError> {
        Ok(i32::from_be_bytes(self.array("four bytes")?) ^ i32::MIN)
    }

    fn float(&mut self) -> Result<f64, KeyError> {
        let bits = u64::from_be_bytes(self.array("eight bytes")?);
        let positive = bits >> 63 == 1;
        Ok(f64::from_bits(if positive { bits & !(1 << 63) } else { !bits }))
    }

    fn decimal(&mut self, precision: u8, scale: i8) -> Result<i128, KeyError> {
        let [key_scale, length] = self.array("a scale and a length")?;
        let part = self.take(usize::from(length), "a decimal's digits")?;
        if part.len() > 16 {
            return Err(self.damaged("a decimal of at most 16 bytes"));
        }
        let sign = if part.first().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut bytes = [sign; 16];
        bytes[16 - part.len()..].copy_from_slice(part);
        let value = i128::from_be_bytes(bytes);
        let zeros = i32::from(scale) - i32::from(i8::from_be_bytes([key_scale]));
        if value == 0 {
            return Ok(0);
        }
        let power = u32::try_from(zeros).ok().and_then(|zeros| 10_i128.checked_pow(zeros));
        let scaled = power.and_then(|power| value.checked_mul(power));
        let limit = 10_i128.checked_pow(precision.into()).unwrap_or(i128::MAX);
        let fits = scaled.filter(|scaled| scaled.unsigned_abs() < limit.unsigned_abs());
        fits.ok_or_else(|| self.damaged("a decimal that fits the column"))
    }

    fn sized(&mut self) -> Result<&'a [u8], KeyError> {
        let mut length = 0_usize;
        for shift in (0..).step_by(7).take(5) {
            let [byte] = self.array("a length")?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return self.take(length, "as many bytes as the length says");
            }
        }
        Err(self.damaged("a length of at most five bytes"))
    }
}
