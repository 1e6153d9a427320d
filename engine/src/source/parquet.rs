//! Reads row groups of parquet files: the needed columns alone, from any row on.
//!
//! Decoding is done by the parquet crate's push decoder, which makes no request itself: it says
//! which bytes it needs.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use async_trait::async_trait;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, RowSelection, RowSelector,
};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::file::metadata::ParquetMetaDataPushDecoder;
use weir_expr::NormaliseError;

use crate::protocol::Split;
use crate::rows::Rows;
use crate::source::columns::Columns;
use crate::source::object::PinnedObject;
use crate::source::{SourceError, SplitReader};

/// Bytes at the end of a file that are read first; most footers lie within.
const FOOTER_GUESS_BYTES: u64 = 64 * 1024;
/// Rows decoded at once.
const DECODE_ROWS: usize = 8_192;

/// The footer of a file: its columns and row groups.
#[derive(Clone, Debug)]
pub(crate) struct Footer {
    metadata: ArrowReaderMetadata,
}

impl Footer {
    /// Reads the footer with one request, or two when it is large.
    pub(crate) async fn read(object: &PinnedObject) -> Result<Self, SourceError> {
        let damaged = |cause| object.damaged(&format!("is no parquet file, or damaged: {cause}"));
        let mut decoder = ParquetMetaDataPushDecoder::try_new(object.bytes).map_err(&damaged)?;
        let tail = object.bytes.saturating_sub(FOOTER_GUESS_BYTES)..object.bytes;
        let bytes = object.read(tail.clone()).await?;
        decoder.push_range(tail, bytes).map_err(&damaged)?;
        loop {
            match decoder.try_decode().map_err(&damaged)? {
                DecodeResult::Data(metadata) => {
                    let options = ArrowReaderOptions::new();
                    let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), options)
                        .map_err(&damaged)?;
                    return Ok(Self { metadata });
                }
                DecodeResult::NeedsData(ranges) => {
                    if ranges.iter().any(|range| range.end > object.bytes) {
                        return Err(object.damaged("is no parquet file, or was cut"));
                    }
                    let bytes = object.read_ranges(&ranges).await?;
                    decoder.push_ranges(ranges, bytes).map_err(&damaged)?;
                }
                DecodeResult::Finished => {
                    return Err(object.damaged("is no parquet file: it has no footer"));
                }
            }
        }
    }

    /// The file's columns in Arrow's types.
    pub(crate) fn schema(&self) -> &arrow::datatypes::Schema {
        self.metadata.schema()
    }

    /// One split per row group that has rows.
    pub(crate) fn splits(&self, object: &PinnedObject) -> Vec<Split> {
        let mut first_row = 0;
        let mut splits = Vec::new();
        for (group, metadata) in (0..).zip(self.metadata.metadata().row_groups()) {
            let rows = u64::try_from(metadata.num_rows()).unwrap_or(0);
            if rows > 0 {
                splits.push(Split {
                    object: object.name.clone(),
                    start: group,
                    end: group + 1,
                    first_row,
                    object_bytes: object.bytes,
                    object_etag: object.etag.clone(),
                });
            }
            first_row += rows;
        }
        splits
    }
}

/// Reads the rest of one row group.
pub(crate) struct ParquetReader {
    object: PinnedObject,
    columns: Columns,
    decoder: ParquetPushDecoder,
    /// Decoded rows that were not returned yet.
    decoded: Option<RecordBatch>,
    position: u64,
    first_row: u64,
    origin_base: u64,
}

impl ParquetReader {
    /// Opens a split; `position` counts rows of the row group.
    pub(crate) fn open(
        object: PinnedObject,
        footer: &Footer,
        columns: Columns,
        split: &Split,
        position: u64,
        origin_base: u64,
    ) -> Result<Self, SourceError> {
        let damaged = |what: String| object.damaged(&what);
        let metadata = footer.metadata.metadata();
        let group = usize::try_from(split.start).unwrap_or(usize::MAX);
        let rows = metadata.row_groups().get(group).map_or(0, |group| group.num_rows());
        let rows = usize::try_from(rows).unwrap_or(0);
        let skip = usize::try_from(position).unwrap_or(usize::MAX);
        if skip > rows {
            return Err(damaged(format!("has no row {position} in row group {group}")));
        }
        let roots = footer.schema().fields().iter().enumerate();
        let wanted = roots.filter(|(_, field)| columns.read.field_with_name(field.name()).is_ok());
        let mask = ProjectionMask::roots(
            metadata.file_metadata().schema_descr(),
            wanted.map(|(root, _)| root),
        );
        let mut builder = ParquetPushDecoderBuilder::new_with_metadata(footer.metadata.clone())
            .with_row_groups(vec![group])
            .with_projection(mask)
            .with_batch_size(DECODE_ROWS);
        if skip > 0 {
            let rest = vec![RowSelector::skip(skip), RowSelector::select(rows - skip)];
            builder = builder.with_row_selection(RowSelection::from(rest));
        }
        let decoder = builder.build().map_err(|cause| damaged(format!("is damaged: {cause}")))?;
        Ok(Self {
            object,
            columns,
            decoder,
            decoded: None,
            position,
            first_row: split.first_row,
            origin_base,
        })
    }

    async fn decode(&mut self) -> Result<Option<RecordBatch>, SourceError> {
        loop {
            let step = self.decoder.try_decode();
            match step.map_err(|cause| self.object.damaged(&format!("is damaged: {cause}")))? {
                DecodeResult::NeedsData(ranges) => {
                    let bytes = self.object.read_ranges(&ranges).await?;
                    self.decoder
                        .push_ranges(ranges, bytes)
                        .map_err(|cause| self.object.damaged(&format!("is damaged: {cause}")))?;
                }
                DecodeResult::Data(batch) => {
                    let normal = weir_expr::normalise(&batch, &self.columns.read);
                    return normal.map(Some).map_err(|error| match error {
                        NormaliseError::Row(bad) => self.bad_row(bad.row, None, bad.message),
                        NormaliseError::Column { .. } => self.object.damaged(&error.to_string()),
                    });
                }
                DecodeResult::Finished => return Ok(None),
            }
        }
    }

    /// The error of the row `row` behind the rows returned so far.
    fn bad_row(&self, row: usize, column: Option<&str>, what: String) -> SourceError {
        let number = self.first_row + self.position + row as u64 + 1;
        let column = column.map(|name| format!(", column {name}")).unwrap_or_default();
        SourceError::BadRow {
            step: self.object.step.clone(),
            place: format!("{}, row {number}{column}", self.object.name),
            what,
        }
    }
}

#[async_trait]
impl SplitReader for ParquetReader {
    async fn next(&mut self, rows_max: usize) -> Result<Option<Rows>, SourceError> {
        let batch = match self.decoded.take() {
            Some(batch) => batch,
            None => match self.decode().await? {
                Some(batch) => batch,
                None => return Ok(None),
            },
        };
        let taken = batch.num_rows().min(rows_max.max(1));
        let first = self.origin_base + self.first_row + self.position;
        let origins = UInt64Array::from_iter_values(first..first + taken as u64);
        let rows = self.columns.rows(&batch.slice(0, taken), origins).map_err(|null| {
            let name = self.columns.time.map(|i| self.columns.read.field(i).name().as_str());
            self.bad_row(null.row, name, "the event time is null".to_owned())
        })?;
        if taken < batch.num_rows() {
            self.decoded = Some(batch.slice(taken, batch.num_rows() - taken));
        }
        self.position += taken as u64;
        Ok(Some(rows))
    }

    fn position(&self) -> u64 {
        self.position
    }
}
