//! Single values: read from columns, ordered, put into columns again.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    Float64Array, GenericByteArray, Int32Array, Int64Array, ListArray, PrimitiveArray, StringArray,
    StructArray, TimestampMillisecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ByteArrayType, DataType, Date32Type, Decimal128Type, Fields, Float64Type, Int32Type, Int64Type,
    TimestampMillisecondType,
};
use bytes::Bytes;

/// A value that is not null.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Boolean(bool),
    /// int32, int64, date, timestamp.
    Int(i64),
    /// All NaNs are one, and greater than every number; −0.0 is less than 0.0.
    Float(f64),
    /// Unscaled.
    Decimal(i128),
    /// string (UTF-8, whose order is that of its bytes), binary. Shares the memory of what it was
    /// read from, a batch or a stored state.
    Bytes(Bytes),
    /// The elements of a list, the fields of a struct.
    Nested(Box<[Item]>),
}

/// A value or null, which comes behind all values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item(pub(super) Option<Value>);

impl Value {
    /// A float as states keep it: one NaN for all.
    pub(super) fn float(value: f64) -> Self {
        Self::Float(if value.is_nan() { f64::NAN } else { value })
    }

    /// Bytes beside the value itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Nested(items) => {
                size_of_val::<[Item]>(items) + items.iter().map(Item::heap_bytes).sum::<usize>()
            }
            _ => 0,
        }
    }

    /// The value as `distinct` compares it: −0.0 is 0.0.
    pub(super) fn unsigned_zero(self) -> Self {
        match self {
            // Both zeros are equal to this one.
            Self::Float(0.0) => Self::Float(0.0),
            Self::Nested(items) => Self::Nested(
                items.into_iter().map(|item| Item(item.0.map(Self::unsigned_zero))).collect(),
            ),
            other => other,
        }
    }
}

impl Item {
    /// Bytes beside the item itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, Value::heap_bytes)
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    /// The order of a type's values. Values of two types have none; no slot holds them.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(left), Self::Boolean(right)) => left.cmp(right),
            (Self::Int(left), Self::Int(right)) => left.cmp(right),
            (Self::Float(left), Self::Float(right)) => left.total_cmp(right),
            (Self::Decimal(left), Self::Decimal(right)) => left.cmp(right),
            (Self::Bytes(left), Self::Bytes(right)) => left.cmp(right),
            (Self::Nested(left), Self::Nested(right)) => left.cmp(right),
            _ => unreachable!("a slot has one type"),
        }
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Some(left), Some(right)) => left.cmp(right),
            (left, right) => left.is_none().cmp(&right.is_none()),
        }
    }
}

/// A column that values are read from, row by row.
pub(super) enum Column<'a> {
    Boolean(&'a BooleanArray),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Date(&'a Date32Array),
    Time(&'a TimestampMillisecondArray),
    Float(&'a Float64Array),
    Decimal(&'a Decimal128Array),
    Text(&'a StringArray, Bytes),
    Binary(&'a BinaryArray, Bytes),
    List(&'a ListArray, Box<Self>),
    Struct(&'a StructArray, Vec<Self>),
}

impl<'a> Column<'a> {
    /// Over a column of a pipeline type.
    pub(super) fn new(array: &'a dyn Array) -> Self {
        match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Int32 => Self::Int32(array.as_primitive::<Int32Type>()),
            DataType::Int64 => Self::Int64(array.as_primitive::<Int64Type>()),
            DataType::Date32 => Self::Date(array.as_primitive::<Date32Type>()),
            DataType::Timestamp(..) => Self::Time(array.as_primitive::<TimestampMillisecondType>()),
            DataType::Float64 => Self::Float(array.as_primitive::<Float64Type>()),
            DataType::Decimal128(..) => Self::Decimal(array.as_primitive::<Decimal128Type>()),
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                Self::Text(array, shared(array))
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Self::List(list, Box::new(Self::new(list.values().as_ref())))
            }
            DataType::Struct(_) => {
                let fields = array.as_struct();
                let columns = fields.columns().iter().map(|column| Self::new(column.as_ref()));
                Self::Struct(fields, columns.collect())
            }
            _ => {
                let array = array.as_binary::<i32>();
                Self::Binary(array, shared(array))
            }
        }
    }

    /// The value of a row.
    pub(super) fn item(&self, row: usize) -> Item {
        Item((!self.is_null(row)).then(|| self.value(row)))
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Boolean(array) => array.is_null(row),
            Self::Int32(array) => array.is_null(row),
            Self::Int64(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Time(array) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Decimal(array) => array.is_null(row),
            Self::Text(array, _) => array.is_null(row),
            Self::Binary(array, _) => array.is_null(row),
            Self::List(array, _) => array.is_null(row),
            Self::Struct(array, _) => array.is_null(row),
        }
    }

    /// The value of a row that is not null.
    pub(super) fn value(&self, row: usize) -> Value {
        match self {
            Self::Boolean(array) => Value::Boolean(array.value(row)),
            Self::Int32(array) => Value::Int(array.value(row).into()),
            Self::Int64(array) => Value::Int(array.value(row)),
            Self::Date(array) => Value::Int(array.value(row).into()),
            Self::Time(array) => Value::Int(array.value(row)),
            Self::Float(array) => Value::float(array.value(row)),
            Self::Decimal(array) => Value::Decimal(array.value(row)),
            Self::Text(array, all) => Value::Bytes(all.slice(place(array, row))),
            Self::Binary(array, all) => Value::Bytes(all.slice(place(array, row))),
            Self::List(array, elements) => {
                let offsets = array.value_offsets();
                let range = offsets[row]..offsets[row + 1];
                let items = range.map(|at| elements.item(usize::try_from(at).unwrap_or_default()));
                Value::Nested(items.collect())
            }
            Self::Struct(_, fields) => {
                Value::Nested(fields.iter().map(|field| field.item(row)).collect())
            }
        }
    }
}

/// The bytes of all rows.
fn shared<T: ByteArrayType>(array: &GenericByteArray<T>) -> Bytes {
    Bytes::from_owner(Shared(array.values().clone()))
}

struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Where a row's bytes are among those of all.
fn place<T: ByteArrayType<Offset = i32>>(array: &GenericByteArray<T>, row: usize) -> Range<usize> {
    let at = |offset: i32| usize::try_from(offset).unwrap_or_default();
    let offsets = array.value_offsets();
    at(offsets[row])..at(offsets[row + 1])
}

/// A column of `data_type`.
pub(super) fn column(data_type: &DataType, values: &[Option<&Value>]) -> ArrayRef {
    let int = |value: &Value| match value {
        Value::Int(value) => Some(*value),
        _ => None,
    };
    // Narrow types were widened when their values were read.
    let narrow = |value: &Value| int(value).and_then(|value| i32::try_from(value).ok());
    match data_type {
        DataType::Boolean => {
            let boolean = |value: &Value| matches!(value, Value::Boolean(true));
            Arc::new(values.iter().map(|value| value.map(boolean)).collect::<BooleanArray>())
        }
        DataType::Int32 => Arc::new(every(values, narrow).collect::<PrimitiveArray<Int32Type>>()),
        DataType::Date32 => Arc::new(every(values, narrow).collect::<Date32Array>()),
        DataType::Int64 => Arc::new(every(values, int).collect::<Int64Array>()),
        DataType::Timestamp(..) => {
            let times = every(values, int).collect::<TimestampMillisecondArray>();
            Arc::new(times.with_data_type(data_type.clone()))
        }
        DataType::Float64 => {
            let float = |value: &Value| match value {
                Value::Float(value) => Some(*value),
                _ => None,
            };
            Arc::new(every(values, float).collect::<Float64Array>())
        }
        DataType::Decimal128(..) => {
            let decimal = |value: &Value| match value {
                Value::Decimal(value) => Some(*value),
                _ => None,
            };
            let decimals = every(values, decimal).collect::<Decimal128Array>();
            Arc::new(decimals.with_data_type(data_type.clone()))
        }
        DataType::Utf8 => {
            // The bytes came from a string, or were checked when they were decoded.
            let text = values.iter().map(|value| value.and_then(bytes));
            let text = text.map(|bytes| bytes.map(String::from_utf8_lossy));
            Arc::new(text.collect::<StringArray>())
        }
        DataType::List(element) => {
            let lengths = values.iter().map(|value| value.map_or(0, |value| items(value).len()));
            let offsets = OffsetBuffer::from_lengths(lengths);
            let elements: Vec<Option<&Value>> =
                values.iter().flatten().flat_map(|value| items(value)).map(inner).collect();
            let elements = column(element.data_type(), &elements);
            Arc::new(ListArray::new(Arc::clone(element), offsets, elements, nulls(values)))
        }
        DataType::Struct(fields) => Arc::new(records(fields, values)),
        _ => Arc::new(values.iter().map(|value| value.and_then(bytes)).collect::<BinaryArray>()),
    }
}

fn every<'a, T>(
    values: &'a [Option<&'a Value>],
    read: impl Fn(&Value) -> Option<T> + 'a,
) -> impl Iterator<Item = Option<T>> + 'a {
    values.iter().map(move |value| value.and_then(&read))
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

fn items(value: &Value) -> &[Item] {
    match value {
        Value::Nested(items) => items,
        _ => &[],
    }
}

fn inner(item: &Item) -> Option<&Value> {
    item.0.as_ref()
}

fn nulls(values: &[Option<&Value>]) -> Option<NullBuffer> {
    Some(values.iter().map(Option::is_some).collect::<NullBuffer>())
}

fn records(fields: &Fields, values: &[Option<&Value>]) -> StructArray {
    let field = |at: usize| -> Vec<Option<&Value>> {
        values.iter().map(|value| inner(items((*value)?).get(at)?)).collect()
    };
    let columns = fields.iter().enumerate();
    let columns = columns.map(|(at, of)| column(of.data_type(), &field(at))).collect();
    StructArray::try_new_with_length(fields.clone(), columns, nulls(values), values.len())
        .unwrap_or_else(|_| StructArray::new_null(fields.clone(), values.len()))
}
