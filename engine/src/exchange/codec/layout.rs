//! Checks an IPC record batch's metadata against the schema and the body before Arrow reads it.
//!
//! Arrow's reader slices the body as the metadata says and panics when it lies; after this check
//! every slice is inside the body, and what remains wrong Arrow reports as an error.

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use arrow::ipc::{Buffer, FieldNode, RecordBatch};

use super::CodecError;

/// Greatest number of rows in a batch; bounds types whose rows take no bytes.
const ROWS_MAX: i64 = 1 << 24;
/// Greatest depth of lists and structs in a column.
const DEPTH_MAX: usize = 32;

/// What is wrong with the metadata.
#[derive(Debug)]
pub(super) enum Wrong {
    /// A type that does not travel.
    Type(DataType),
    /// What was expected of the metadata.
    Metadata(&'static str),
}

/// Refuses types that the codec does not carry.
pub(super) fn check_type(data_type: &DataType) -> Result<(), CodecError> {
    match data_type {
        DataType::List(field) => check_type(field.data_type()),
        DataType::Struct(fields) => {
            fields.iter().try_for_each(|field| check_type(field.data_type()))
        }
        other if buffers_of(other).is_some() => Ok(()),
        other => Err(CodecError::Type(other.clone())),
    }
}

/// Buffers of a column of this type without its children; none: it does not travel.
fn buffers_of(data_type: &DataType) -> Option<usize> {
    use DataType as T;
    Some(match data_type {
        T::Null => 0,
        T::Struct(_) => 1,
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 => 2,
        T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 | T::Float32 | T::Float64 => 2,
        T::Decimal128(..) | T::Date32 | T::Timestamp(TimeUnit::Millisecond, _) | T::List(_) => 2,
        T::Utf8 | T::Binary | T::LargeUtf8 | T::LargeBinary => 3,
        _ => return None,
    })
}

/// Bytes of which the buffer behind the validity bits has a whole number.
fn unit_of(data_type: &DataType) -> u64 {
    match data_type {
        DataType::List(_) | DataType::Utf8 | DataType::Binary => 4,
        DataType::LargeUtf8 | DataType::LargeBinary => 8,
        other => other.primitive_width().map_or(1, |bytes| bytes as u64),
    }
}

/// Whether `batch` can be read as columns of `fields` from a body of `body_bytes`.
pub(super) fn check(
    batch: &RecordBatch<'_>,
    fields: &[FieldRef],
    body_bytes: usize,
) -> Result<(), Wrong> {
    if batch.compression().is_some() || batch.variadicBufferCounts().is_some_and(|v| !v.is_empty())
    {
        return Err(Wrong::Metadata("a plain record batch"));
    }
    if !(0..=ROWS_MAX).contains(&batch.length()) {
        return Err(Wrong::Metadata("a number of rows within the limit"));
    }
    let nodes = batch.nodes().ok_or(Wrong::Metadata("columns"))?;
    let buffers = batch.buffers().ok_or(Wrong::Metadata("buffers"))?;
    let mut walk = Walk { nodes: nodes.iter(), buffers: buffers.iter(), body_bytes };
    for field in fields {
        walk.column(field.data_type(), DEPTH_MAX)?;
    }
    if walk.nodes.next().is_some() || walk.buffers.next().is_some() {
        return Err(Wrong::Metadata("no more columns than the edge has"));
    }
    Ok(())
}

struct Walk<N, B> {
    nodes: N,
    buffers: B,
    body_bytes: usize,
}

impl<'a, N: Iterator<Item = &'a FieldNode>, B: Iterator<Item = &'a Buffer>> Walk<N, B> {
    fn column(&mut self, data_type: &DataType, depth: usize) -> Result<(), Wrong> {
        let unfit = || Wrong::Type(data_type.clone());
        let buffers = buffers_of(data_type).filter(|_| depth > 0).ok_or_else(unfit)?;
        let node = self.nodes.next().ok_or(Wrong::Metadata("a node for every column"))?;
        let (rows, nulls) = (node.length(), node.null_count());
        if !(0..=ROWS_MAX).contains(&rows) || !(0..=rows).contains(&nulls) {
            return Err(Wrong::Metadata("as many nulls as there are rows at most"));
        }
        for index in 0..buffers {
            let bytes = self.buffer()?;
            if index == 0 && nulls > 0 && bytes.saturating_mul(8) < rows.unsigned_abs() {
                return Err(Wrong::Metadata("a validity bit for every row"));
            }
            if index == 1 && bytes % unit_of(data_type) != 0 {
                return Err(Wrong::Metadata("whole values"));
            }
        }
        match data_type {
            DataType::List(field) => self.column(field.data_type(), depth - 1),
            DataType::Struct(fields) => {
                fields.iter().try_for_each(|field| self.column(field.data_type(), depth - 1))
            }
            _ => Ok(()),
        }
    }

    fn buffer(&mut self) -> Result<u64, Wrong> {
        let buffer = self.buffers.next().ok_or(Wrong::Metadata("all buffers of a column"))?;
        let (offset, length) = (u64::try_from(buffer.offset()), u64::try_from(buffer.length()));
        let (Ok(offset), Ok(length)) = (offset, length) else {
            return Err(Wrong::Metadata("buffers within the batch"));
        };
        let end = offset.checked_add(length).and_then(|end| usize::try_from(end).ok());
        if end.is_none_or(|end| end > self.body_bytes) {
            return Err(Wrong::Metadata("buffers within the batch"));
        }
        Ok(length)
    }
}
