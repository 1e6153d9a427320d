//! Bytes that sort as rows do: by columns that ascend or descend, nulls last in both directions.
//!
//! Equal values have equal bytes, by the rules of [`super::key`]: −0.0 is 0.0, all NaNs are equal
//! (and above all numbers). No value's bytes are the prefix of another's, so columns stand one
//! behind the other, and bytes that descend are those that ascend with every bit flipped. The bytes
//! are map keys in the state and fixed by docs/design/0018-row-steps.md and the golden test.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    Float64Array, Int32Array, Int64Array, ListArray, StringArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimeUnit, TimestampMillisecondType};
use bytes::Bytes;

use super::key::{KeyError, canonical_column, float_bytes, ordered};

/// Ends a list. Below every tag, so that a list stands before those that it begins.
const END: u8 = 0;
const VALUE: u8 = 1;
const NULL: u8 = 2;

/// A column by which rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderColumn {
    /// Index of the column.
    pub column: usize,
    /// Whether the greatest value comes first.
    pub descending: bool,
}

/// The bytes of each of `rows` rows by these columns.
///
/// Errors: a column of a type that has no canonical form.
pub fn order_bytes(columns: &[(ArrayRef, bool)], rows: usize) -> Result<Vec<Bytes>, KeyError> {
    let columns = columns
        .iter()
        .map(|(column, descending)| Column::new(column).map(|column| (column, *descending)));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(rows);
    for row in 0..rows {
        for (column, descending) in &columns {
            let start = bytes.len();
            column.put(row, &mut bytes);
            // The tag stays: nulls are last in both directions.
            if *descending {
                bytes[start + 1..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
        ends.push(bytes.len());
    }
    let bytes = Bytes::from(bytes);
    let mut start = 0;
    let cut = |end: usize| {
        let row = bytes.slice(start..end);
        start = end;
        row
    };
    Ok(ends.into_iter().map(cut).collect())
}

enum Column {
    Null,
    Boolean(BooleanArray),
    Int32(Int32Array),
    Int64(Int64Array),
    Float64(Float64Array),
    /// All values of a column have one scale.
    Decimal(Decimal128Array),
    Utf8(StringArray),
    Binary(BinaryArray),
    Date(Date32Array),
    Timestamp(TimestampMillisecondArray),
    List(ListArray, Box<Column>),
    Struct(StructArray, Vec<Column>),
}

impl Column {
    fn new(column: &ArrayRef) -> Result<Self, KeyError> {
        match column.data_type() {
            DataType::List(_) => {
                let lists = column.as_list::<i32>().clone();
                let elements = Self::new(lists.values())?;
                return Ok(Self::List(lists, Box::new(elements)));
            }
            DataType::Struct(_) => {
                let structs = column.as_struct().clone();
                let fields = structs.columns().iter().map(Self::new).collect::<Result<_, _>>()?;
                return Ok(Self::Struct(structs, fields));
            }
            _ => {}
        }
        let column = canonical_column(column)?;
        Ok(match column.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(column.as_boolean().clone()),
            DataType::Int32 => Self::Int32(column.as_primitive::<Int32Type>().clone()),
            DataType::Int64 => Self::Int64(column.as_primitive::<Int64Type>().clone()),
            DataType::Float64 => Self::Float64(column.as_primitive().clone()),
            DataType::Decimal128(..) => Self::Decimal(column.as_primitive().clone()),
            DataType::Utf8 => Self::Utf8(column.as_string::<i32>().clone()),
            DataType::Binary => Self::Binary(column.as_binary::<i32>().clone()),
            DataType::Date32 => Self::Date(column.as_primitive().clone()),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Self::Timestamp(column.as_primitive::<TimestampMillisecondType>().clone())
            }
            other => return Err(KeyError::Type(other.clone())),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Boolean(column) => column.is_null(row),
            Self::Int32(column) => column.is_null(row),
            Self::Int64(column) => column.is_null(row),
            Self::Float64(column) => column.is_null(row),
            Self::Decimal(column) => column.is_null(row),
            Self::Utf8(column) => column.is_null(row),
            Self::Binary(column) => column.is_null(row),
            Self::Date(column) => column.is_null(row),
            Self::Timestamp(column) => column.is_null(row),
            Self::List(column, _) => column.is_null(row),
            Self::Struct(column, _) => column.is_null(row),
        }
    }

    fn put(&self, row: usize, bytes: &mut Vec<u8>) {
        if self.is_null(row) {
            return bytes.push(NULL);
        }
        bytes.push(VALUE);
        match self {
            Self::Null => {}
            Self::Boolean(column) => bytes.push(u8::from(column.value(row))),
            Self::Int32(column) => bytes.extend(ordered(column.value(row).into())),
            Self::Int64(column) => bytes.extend(ordered(column.value(row))),
            Self::Float64(column) => bytes.extend(float_bytes(column.value(row))),
            Self::Decimal(column) => bytes.extend((column.value(row) ^ i128::MIN).to_be_bytes()),
            Self::Utf8(column) => put_text(column.value(row).as_bytes(), bytes),
            Self::Binary(column) => put_text(column.value(row), bytes),
            Self::Date(column) => bytes.extend((column.value(row) ^ i32::MIN).to_be_bytes()),
            Self::Timestamp(column) => bytes.extend(ordered(column.value(row))),
            Self::List(column, elements) => {
                let place = |index: usize| {
                    usize::try_from(column.value_offsets()[index]).unwrap_or_default()
                };
                (place(row)..place(row + 1)).for_each(|element| elements.put(element, bytes));
                bytes.push(END);
            }
            Self::Struct(_, fields) => fields.iter().for_each(|field| field.put(row, bytes)),
        }
    }
}

/// A zero byte becomes 00 ff, and 00 00 is the end.
fn put_text(text: &[u8], bytes: &mut Vec<u8>) {
    for byte in text {
        bytes.push(*byte);
        if *byte == 0 {
            bytes.push(0xff);
        }
    }
    bytes.extend([0, 0]);
}

#[cfg(test)]
mod tests;
