//! Rows as bytes on the wire, and back.
//!
//! An Arrow IPC record batch without its schema (both ends know it from the graph), with event
//! times, origins and kinds as further columns. In front of it stand 16 bytes: version, flags, length of
//! the IPC metadata, XXH3-64 of all that follows. docs/design/0005-protocol.md has the table.
//!
//! What must stay true: no bytes, however wrong, make `decode` panic or allocate more than they
//! hold. Arrow's reader trusts lengths in the metadata, so `layout.rs` checks them before.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt8Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{
    DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, UInt8Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::ipc::reader::RecordBatchDecoder;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::ipc::{MetadataVersion, root_as_message};
use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use crate::rows::{Kind, Rows};

mod layout;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 16;
const FLAG_TIMES: u8 = 1;
const FLAG_ORIGINS: u8 = 2;
const FLAG_KINDS: u8 = 4;
/// The IPC body begins at a multiple of this, so that columns can often be used where they lie.
const ALIGN_BYTES: usize = 8;

/// Greatest size of an encoded batch. Senders cut batches far below it; only a single row of
/// this size is refused.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// Rows can't be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A newer peer.
    #[error("rows in version {found} of the encoding, this worker reads up to {VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// The bytes are not what they should be.
    #[error("rows are damaged at byte {offset}: expected {expected}")]
    Damaged {
        /// Where.
        offset: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// A batch that can't be cut any smaller is beyond the limit.
    #[error("a batch of {rows} rows and {bytes} bytes is beyond the limit of {BATCH_BYTES_MAX}")]
    TooLarge {
        /// Its rows.
        rows: usize,
        /// Its encoded bytes.
        bytes: usize,
    },
    /// A column type that does not travel.
    #[error("a column of type {0} can't be sent")]
    Type(DataType),
    /// Arrow refuses.
    #[error("Arrow refuses the batch")]
    Arrow(#[source] ArrowError),
    /// A frame that is out of place.
    #[error("unexpected {0}")]
    Unexpected(&'static str),
}

/// Encodes `rows`; the columns' schema must be the edge's.
pub(crate) fn encode(rows: &Rows) -> Result<Bytes, CodecError> {
    let batch = with_extras(rows)?;
    for field in batch.schema().fields() {
        layout::check_type(field.data_type())?;
    }
    let mut tracker = DictionaryTracker::new(true);
    let (_, data) = IpcDataGenerator::default()
        .encode(&batch, &mut tracker, &IpcWriteOptions::default(), &mut IpcWriteContext::default())
        .map_err(CodecError::Arrow)?;
    let metadata_bytes = data.ipc_message.len().next_multiple_of(ALIGN_BYTES);
    let bytes = HEADER_BYTES + metadata_bytes + data.arrow_data.len();
    if bytes > BATCH_BYTES_MAX {
        return Err(CodecError::TooLarge { rows: rows.len(), bytes });
    }
    let mut out = BytesMut::with_capacity(bytes);
    out.put_u8(VERSION);
    out.put_u8(flags(rows));
    out.put_u16_le(0);
    out.put_u32_le(u32::try_from(metadata_bytes).unwrap_or(u32::MAX));
    out.put_u64_le(0);
    out.put_slice(&data.ipc_message);
    out.put_bytes(0, metadata_bytes - data.ipc_message.len());
    out.put_slice(&data.arrow_data);
    let checksum = xxh3_64(&out[HEADER_BYTES..]);
    out[8..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    Ok(out.freeze())
}

/// Decodes what [`encode`] made of rows whose columns have `schema`.
///
/// Errors: a newer version; bytes that are damaged or of another schema. Never panics.
pub(crate) fn decode(bytes: &Bytes, schema: &SchemaRef) -> Result<Rows, CodecError> {
    let header = Header::read(bytes)?;
    let wire = wire_schema(schema, header.flags);
    let metadata = &bytes[HEADER_BYTES..header.body_start];
    let body = Buffer::from(bytes.slice(header.body_start..));
    let damaged = |expected| CodecError::Damaged { offset: HEADER_BYTES, expected };
    let message = root_as_message(metadata).map_err(|_| damaged("an Arrow IPC message"))?;
    if message.version() != MetadataVersion::V5 {
        return Err(damaged("Arrow IPC of version 5"));
    }
    let batch = message.header_as_record_batch();
    let batch = batch.ok_or_else(|| damaged("a record batch"))?;
    layout::check(&batch, wire.fields(), body.len()).map_err(|wrong| match wrong {
        layout::Wrong::Type(data_type) => CodecError::Type(data_type),
        layout::Wrong::Metadata(expected) => damaged(expected),
    })?;
    let dictionaries = HashMap::new();
    let batch = RecordBatchDecoder::try_new(
        &body,
        batch,
        Arc::clone(&wire),
        &dictionaries,
        &MetadataVersion::V5,
    )
    .and_then(RecordBatchDecoder::read_record_batch)
    .map_err(CodecError::Arrow)?;
    without_extras(&batch, schema, header.flags)
}

struct Header {
    flags: u8,
    body_start: usize,
}

impl Header {
    fn read(bytes: &Bytes) -> Result<Self, CodecError> {
        let wrong = |offset, expected| CodecError::Damaged { offset, expected };
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(wrong(BATCH_BYTES_MAX, "the end of the batch"));
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(wrong(bytes.len(), "a header of 16 bytes"));
        };
        let [version, flags, zero1, zero2, m0, m1, m2, m3, checksum @ ..] = *header;
        if version > VERSION {
            return Err(CodecError::Version { found: version });
        }
        if version == 0 {
            return Err(wrong(0, "a version"));
        }
        if flags & !(FLAG_TIMES | FLAG_ORIGINS | FLAG_KINDS) != 0 || zero1 != 0 || zero2 != 0 {
            return Err(wrong(1, "known flags"));
        }
        if u64::from_le_bytes(checksum) != xxh3_64(&bytes[HEADER_BYTES..]) {
            return Err(wrong(8, "the checksum of the bytes that follow"));
        }
        let metadata_bytes = u32::from_le_bytes([m0, m1, m2, m3]) as usize;
        let body_start = HEADER_BYTES.saturating_add(metadata_bytes);
        if body_start > bytes.len() {
            return Err(wrong(4, "a length of metadata within the batch"));
        }
        Ok(Self { flags, body_start })
    }
}

fn flags(rows: &Rows) -> u8 {
    let times = if rows.times.is_some() { FLAG_TIMES } else { 0 };
    let origins = if rows.origins.is_some() { FLAG_ORIGINS } else { 0 };
    let kinds = if rows.kinds.is_some() { FLAG_KINDS } else { 0 };
    times | origins | kinds
}

fn wire_schema(schema: &SchemaRef, flags: u8) -> SchemaRef {
    let mut fields: Vec<FieldRef> = schema.fields().to_vec();
    if flags & FLAG_TIMES != 0 {
        fields.push(Arc::new(Field::new("$time", DataType::Int64, true)));
    }
    if flags & FLAG_ORIGINS != 0 {
        fields.push(Arc::new(Field::new("$origin", DataType::UInt64, true)));
    }
    if flags & FLAG_KINDS != 0 {
        fields.push(Arc::new(Field::new("$kind", DataType::UInt8, false)));
    }
    Arc::new(Schema::new(fields))
}

fn with_extras(rows: &Rows) -> Result<RecordBatch, CodecError> {
    let mut columns = rows.batch.columns().to_vec();
    columns.extend(rows.times.iter().map(|times| Arc::new(times.clone()) as ArrayRef));
    columns.extend(rows.origins.iter().map(|origins| Arc::new(origins.clone()) as ArrayRef));
    columns.extend(rows.kinds.iter().map(|kinds| Arc::new(kinds.clone()) as ArrayRef));
    let schema = wire_schema(&rows.batch.schema(), flags(rows));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(CodecError::Arrow)
}

fn without_extras(batch: &RecordBatch, schema: &SchemaRef, flags: u8) -> Result<Rows, CodecError> {
    let width = schema.fields().len();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = batch.columns()[..width].to_vec();
    let mut extras = batch.columns()[width..].iter();
    let times = (flags & FLAG_TIMES != 0).then(|| extras.next()).flatten();
    let origins = (flags & FLAG_ORIGINS != 0).then(|| extras.next()).flatten();
    let kinds = extras.next().map(|kinds| kinds.as_primitive::<UInt8Type>().clone());
    if kinds.as_ref().is_some_and(|kinds| !are_kinds(kinds)) {
        return Err(CodecError::Damaged { offset: HEADER_BYTES, expected: "kinds of rows" });
    }
    Ok(Rows {
        batch: RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .map_err(CodecError::Arrow)?,
        times: times.map(|times| times.as_primitive::<Int64Type>().clone()),
        origins: origins.map(|origins| origins.as_primitive::<UInt64Type>().clone()),
        kinds,
    })
}

fn are_kinds(kinds: &UInt8Array) -> bool {
    kinds.null_count() == 0 && kinds.values().iter().all(|kind| Kind::of(*kind).is_some())
}

#[cfg(test)]
mod tests;
