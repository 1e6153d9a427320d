//! Canonical keys: one encoding of key columns for hashing, exchange and state. Whole rows that are
//! kept in state are encoded alike; only they may have lists and structs.
//!
//! Equal keys have equal bytes and different keys different ones: −0.0 equals 0.0, all NaNs are
//! equal, null equals itself, int32 equals int64, decimals equal by value whatever their scale, a
//! dictionary column equals its plain one. A column is a tag byte and its value; it says itself
//! where it ends, so columns stand one behind the other. The bytes are stored in state and fixed
//! by docs/design/0005-protocol.md and the golden test; the state store knows them only as bytes.
//!
//! - `key.rs` — [`Keys`]: all rows of a batch at once, with their hashes.
//! - `nested.rs` — lists and structs: what is in them is encoded first, as rows of its own.
//! - `decode.rs` — key bytes back to column values.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, AsArray, BooleanArray, Decimal128Array, PrimitiveArray,
};
use arrow::compute;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Float64Type, Int32Type, Int64Type, TimeUnit,
    TimestampMillisecondType,
};
use arrow::error::ArrowError;
use bytes::Bytes;
use nested::Prepared;
use xxhash_rust::xxh3::xxh3_64;

mod decode;
mod nested;

pub use decode::decode_keys;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INTEGER: u8 = 3;
const FLOAT: u8 = 4;
const DECIMAL: u8 = 5;
const STRING: u8 = 6;
const BINARY: u8 = 7;
const DATE: u8 = 8;
const TIMESTAMP: u8 = 9;
const LIST: u8 = 10;
const STRUCT: u8 = 11;

/// Key columns can't be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A type that has no canonical form. The check of a job refuses it before.
    #[error("a column of type {0} can't be kept")]
    Type(DataType),
    /// A value or a column is not what its type says.
    #[error("cannot read key column")]
    Column(#[source] ArrowError),
    /// Stored or received bytes are not the key that they should be.
    #[error("a key is damaged at byte {offset}: {what}")]
    Damaged {
        /// First byte that is wrong.
        offset: usize,
        /// What was expected.
        what: &'static str,
    },
}

/// The encoded keys of a batch's rows, and their XXH3-64 hashes.
#[derive(Clone, Debug)]
pub struct Keys {
    bytes: Bytes,
    /// Where each key begins, and the end of the last one.
    offsets: Vec<usize>,
    hashes: Vec<u64>,
}

/// Whether columns of this type can be keys: all of ours but lists and structs.
pub fn is_key_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_key_type(values),
        other => canonical_type(other).is_some(),
    }
}

impl Keys {
    /// Encodes `columns` of `rows` rows each. Without columns all keys are empty (and equal).
    ///
    /// Errors: a type that has no canonical form.
    pub fn encode(columns: &[ArrayRef], rows: usize) -> Result<Self, KeyError> {
        let Encoded { bytes, offsets } = Encoded::new(columns, rows)?;
        let hashes = offsets.windows(2).map(|key| xxh3_64(&bytes[key[0]..key[1]])).collect();
        Ok(Self { bytes: Bytes::from(bytes), offsets, hashes })
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The key of row `index`. Panics beyond the last row.
    pub fn key(&self, index: usize) -> &[u8] {
        &self.bytes[self.offsets[index]..self.offsets[index + 1]]
    }

    /// The key of row `index`, sharing the batch's memory. Panics beyond the last row.
    pub fn key_bytes(&self, index: usize) -> Bytes {
        self.bytes.slice(self.offsets[index]..self.offsets[index + 1])
    }

    /// XXH3-64 of each key.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }
}

/// The bytes of rows, one behind the other.
struct Encoded {
    bytes: Vec<u8>,
    /// Where each row begins, and the end of the last one.
    offsets: Vec<usize>,
}

impl Encoded {
    fn new(columns: &[ArrayRef], rows: usize) -> Result<Self, KeyError> {
        let columns = columns.iter().map(Prepared::new).collect::<Result<Vec<_>, _>>()?;
        let mut widths = vec![0; rows];
        for column in &columns {
            column.encode(&mut Measure { widths: &mut widths })?;
        }
        let mut offsets = Vec::with_capacity(rows + 1);
        let mut end = 0;
        offsets.push(end);
        for width in widths {
            end += width;
            offsets.push(end);
        }
        let mut bytes = vec![0; end];
        let mut cursors = offsets.clone();
        for column in &columns {
            column.encode(&mut Write { bytes: &mut bytes, cursors: &mut cursors })?;
        }
        Ok(Self { bytes, offsets })
    }

    /// The bytes of these rows.
    fn rows(&self, first: usize, end: usize) -> &[u8] {
        &self.bytes[self.offsets[first]..self.offsets[end]]
    }
}

/// The type that columns of `data_type` are encoded as; none: they can't be keys.
fn canonical_type(data_type: &DataType) -> Option<DataType> {
    use DataType as T;
    Some(match data_type {
        T::Null | T::Boolean | T::Int32 | T::Int64 | T::Float64 | T::Utf8 | T::Binary => {
            data_type.clone()
        }
        T::Decimal128(..) | T::Date32 | T::Timestamp(TimeUnit::Millisecond, _) => data_type.clone(),
        T::Int8 | T::Int16 | T::UInt8 | T::UInt16 | T::UInt32 => T::Int64,
        T::Float32 => T::Float64,
        T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::LargeBinary | T::BinaryView => T::Binary,
        _ => return None,
    })
}

pub(super) fn canonical_column(column: &ArrayRef) -> Result<ArrayRef, KeyError> {
    let plain = match column.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let wanted = canonical_type(plain).ok_or_else(|| KeyError::Type(column.data_type().clone()))?;
    if wanted == *column.data_type() {
        return Ok(Arc::clone(column));
    }
    compute::cast(column, &wanted).map_err(KeyError::Column)
}

/// What to do with one value's bytes: measure them, then write them.
trait Target {
    fn put(&mut self, row: usize, tag: u8, value: &[u8]);
    fn put_sized(&mut self, row: usize, tag: u8, value: &[u8]);
}

struct Measure<'a> {
    widths: &'a mut [usize],
}

impl Target for Measure<'_> {
    fn put(&mut self, row: usize, _tag: u8, value: &[u8]) {
        self.widths[row] += 1 + value.len();
    }

    fn put_sized(&mut self, row: usize, _tag: u8, value: &[u8]) {
        self.widths[row] += 1 + length_width(value.len()) + value.len();
    }
}

struct Write<'a> {
    bytes: &'a mut [u8],
    cursors: &'a mut [usize],
}

impl Write<'_> {
    fn copy(&mut self, row: usize, part: &[u8]) {
        let start = self.cursors[row];
        self.bytes[start..start + part.len()].copy_from_slice(part);
        self.cursors[row] += part.len();
    }
}

impl Target for Write<'_> {
    fn put(&mut self, row: usize, tag: u8, value: &[u8]) {
        self.copy(row, &[tag]);
        self.copy(row, value);
    }

    fn put_sized(&mut self, row: usize, tag: u8, value: &[u8]) {
        self.copy(row, &[tag]);
        let mut rest = value.len();
        while rest >= 0x80 {
            self.copy(row, &[low_bits(rest) | 0x80]);
            rest >>= 7;
        }
        self.copy(row, &[low_bits(rest)]);
        self.copy(row, value);
    }
}

fn low_bits(length: usize) -> u8 {
    length.to_le_bytes()[0] & 0x7f
}

/// Bytes of a length in LEB128.
fn length_width(length: usize) -> usize {
    let bits = usize::BITS - (length | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn encode_column(column: &ArrayRef, target: &mut impl Target) -> Result<(), KeyError> {
    match column.data_type() {
        DataType::Null => (0..column.len()).for_each(|row| target.put(row, NULL, &[])),
        DataType::Boolean => encode_booleans(column.as_boolean(), target),
        DataType::Int32 => each::<Int32Type, _>(column, target, |row, value, target| {
            target.put(row, INTEGER, &ordered(value.into()));
        }),
        DataType::Int64 => each::<Int64Type, _>(column, target, |row, value, target| {
            target.put(row, INTEGER, &ordered(value));
        }),
        DataType::Float64 => each::<Float64Type, _>(column, target, |row, value, target| {
            target.put(row, FLOAT, &float_bytes(value));
        }),
        DataType::Decimal128(..) => encode_decimals(column.as_primitive(), target),
        DataType::Date32 => each::<Date32Type, _>(column, target, |row, value, target| {
            target.put(row, DATE, &(value ^ i32::MIN).to_be_bytes());
        }),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            each::<TimestampMillisecondType, _>(column, target, |row, value, target| {
                target.put(row, TIMESTAMP, &ordered(value));
            });
        }
        DataType::Utf8 => {
            encode_sized(column.as_string::<i32>(), target, STRING, |value| value.as_bytes());
        }
        DataType::Binary => encode_sized(column.as_binary::<i32>(), target, BINARY, |value| value),
        other => return Err(KeyError::Type(other.clone())),
    }
    Ok(())
}

fn each<P: ArrowPrimitiveType, T: Target>(
    column: &ArrayRef,
    target: &mut T,
    put: impl Fn(usize, P::Native, &mut T),
) {
    let column: &PrimitiveArray<P> = column.as_primitive();
    for row in 0..column.len() {
        if column.is_null(row) {
            target.put(row, NULL, &[]);
        } else {
            put(row, column.value(row), target);
        }
    }
}

fn encode_booleans(column: &BooleanArray, target: &mut impl Target) {
    for (row, value) in column.iter().enumerate() {
        let tag = match value {
            None => NULL,
            Some(false) => FALSE,
            Some(true) => TRUE,
        };
        target.put(row, tag, &[]);
    }
}

/// Scale byte, then the shortest two's complement of the value without trailing decimal zeros.
fn encode_decimals(column: &Decimal128Array, target: &mut impl Target) {
    let scale = column.scale();
    for row in 0..column.len() {
        if column.is_null(row) {
            target.put(row, NULL, &[]);
            continue;
        }
        let (value, scale) = without_trailing_zeros(column.value(row), scale);
        let bytes = value.to_be_bytes();
        let mut out = [0; 18];
        let length = shortest(value);
        out[0] = scale.to_be_bytes()[0];
        out[1] = u8::try_from(length).unwrap_or(u8::MAX);
        out[2..2 + length].copy_from_slice(&bytes[16 - length..]);
        target.put(row, DECIMAL, &out[..2 + length]);
    }
}

fn without_trailing_zeros(mut value: i128, mut scale: i8) -> (i128, i8) {
    if value == 0 {
        return (0, 0);
    }
    while value % 10 == 0 && scale > i8::MIN {
        value /= 10;
        scale -= 1;
    }
    (value, scale)
}

/// Bytes of the shortest two's complement that still holds `value`; none for 0.
fn shortest(value: i128) -> usize {
    if value == 0 {
        return 0;
    }
    let magnitude = if value < 0 { !value } else { value };
    let bits = i128::BITS - magnitude.leading_zeros() + 1;
    bits.div_ceil(8) as usize
}

fn encode_sized<'a, A: ArrayAccessor + 'a>(
    column: A,
    target: &mut impl Target,
    tag: u8,
    bytes: impl Fn(&A::Item) -> &[u8],
) {
    for row in 0..column.len() {
        if column.is_null(row) {
            target.put(row, NULL, &[]);
        } else {
            target.put_sized(row, tag, bytes(&column.value(row)));
        }
    }
}

/// Big-endian with the sign flipped: bytes sort as numbers do.
pub(super) fn ordered(value: i64) -> [u8; 8] {
    (value ^ i64::MIN).to_be_bytes()
}

/// Big-endian bits that sort as numbers do, −0.0 as 0.0, every NaN as one, above all others.
pub(super) fn float_bytes(value: f64) -> [u8; 8] {
    let value = if value.is_nan() { f64::NAN.abs() } else { value + 0.0 };
    let bits = value.to_bits();
    let negative = bits >> 63 == 1;
    (if negative { !bits } else { bits | 1 << 63 }).to_be_bytes()
}

#[cfg(test)]
mod tests;
