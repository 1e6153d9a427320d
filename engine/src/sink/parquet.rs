//! Rows as parquet: one file per piece, in memory only its last row group.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::rows::{Kind, Rows};
use crate::sink::KIND_COLUMN;

/// Rows of a row group.
const GROUP_ROWS: usize = 256 * 1024;
/// Bytes of a row group, roughly, before it ends early.
const GROUP_BYTES: usize = 32 * 1024 * 1024;

/// Begins files of one schema.
#[derive(Clone, Debug)]
pub(crate) struct ParquetEncoder {
    schema: SchemaRef,
    /// Rows have kinds, which are the first column.
    changelog: bool,
}

impl ParquetEncoder {
    /// Errors: the columns have no form in parquet.
    pub(crate) fn new(schema: &Schema, changelog: bool) -> Result<Self, String> {
        let kind = changelog.then(|| Arc::new(Field::new(KIND_COLUMN, DataType::Utf8, false)));
        let fields = kind.into_iter().chain(schema.fields().iter().cloned());
        let encoder = Self { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), changelog };
        encoder.open()?;
        Ok(encoder)
    }

    /// Begins a file.
    pub(crate) fn open(&self) -> Result<ParquetFile, String> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let schema = Arc::clone(&self.schema);
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties));
        let writer = writer.map_err(|cause| format!("can't be written as parquet: {cause}"))?;
        Ok(ParquetFile { writer: Box::new(writer), encoder: self.clone() })
    }
}

/// A file being written.
pub(crate) struct ParquetFile {
    writer: Box<ArrowWriter<Vec<u8>>>,
    encoder: ParquetEncoder,
}

impl ParquetFile {
    /// Appends rows; gives the bytes that are complete.
    pub(crate) fn write(&mut self, rows: &Rows) -> Result<Vec<u8>, ParquetError> {
        let kinds = self.encoder.changelog.then(|| kinds(rows));
        let columns = kinds.into_iter().chain(rows.batch.columns().iter().cloned()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = Arc::clone(&self.encoder.schema);
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        self.writer.write(&batch)?;
        if self.writer.in_progress_size() > GROUP_BYTES {
            self.writer.flush()?;
        }
        // The writer counts what it wrote by itself: what is complete can be taken away.
        Ok(std::mem::take(self.writer.inner_mut()))
    }

    /// Ends the file; gives the rest of its bytes.
    pub(crate) fn finish(self) -> Result<Vec<u8>, ParquetError> {
        self.writer.into_inner()
    }
}

fn kinds(rows: &Rows) -> ArrayRef {
    let text = |row: usize| {
        let number = rows.kinds.as_ref().map_or(0, |kinds| kinds.value(row));
        Kind::of(number).unwrap_or(Kind::Insert).text()
    };
    Arc::new(StringArray::from_iter_values((0..rows.len()).map(text)))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        AsArray, Decimal128Array, Int64Array, TimestampMillisecondArray, UInt8Array,
    };
    use arrow::datatypes::Int64Type;
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn read(bytes: Vec<u8>) -> Vec<RecordBatch> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
        reader.build().unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn rows(from: i64, count: i64) -> Rows {
        let times = TimestampMillisecondArray::from_iter_values((0..count).map(|i| from + i))
            .with_timezone("UTC");
        let prices = Decimal128Array::from_iter((0..count).map(|i| (i > 0).then_some(i.into())))
            .with_precision_and_scale(10, 2)
            .unwrap();
        let columns: [(&str, ArrayRef); 3] = [
            ("seq", Arc::new(Int64Array::from_iter_values(from..from + count))),
            ("at", Arc::new(times)),
            ("price", Arc::new(prices)),
        ];
        let columns = columns.map(|(name, column)| (name, column, true));
        Rows::plain(RecordBatch::try_from_iter_with_nullable(columns).unwrap())
    }

    #[test]
    fn what_is_written_reads_back_with_its_types() {
        let first = rows(0, 1_000);
        let encoder = ParquetEncoder::new(&first.batch.schema(), false).unwrap();
        let mut file = encoder.open().unwrap();
        let mut bytes = file.write(&first).unwrap();
        bytes.extend(file.write(&rows(1_000, 24)).unwrap());
        bytes.extend(file.finish().unwrap());
        let read = arrow::compute::concat_batches(&first.batch.schema(), &read(bytes)).unwrap();
        assert_eq!(read.slice(0, 1_000), first.batch);
        assert_eq!(read["seq"].as_primitive::<Int64Type>().value(1_023), 1_023);
    }

    #[test]
    fn row_groups_are_complete_before_the_file_is() {
        let big = rows(0, i64::try_from(GROUP_ROWS + 1).unwrap());
        let mut file = ParquetEncoder::new(&big.batch.schema(), false).unwrap().open().unwrap();
        let mut bytes = file.write(&big).unwrap();
        assert!(bytes.len() > 100_000, "{} bytes of a full group", bytes.len());
        bytes.extend(file.finish().unwrap());
        let count: usize = read(bytes).iter().map(RecordBatch::num_rows).sum();
        assert_eq!(count, GROUP_ROWS + 1);
    }

    #[test]
    fn the_kind_of_a_changelogs_row_is_the_first_column() {
        let mut rows = rows(0, 4);
        rows.kinds = Some(UInt8Array::from(vec![0, 1, 2, 3]));
        let mut file = ParquetEncoder::new(&rows.batch.schema(), true).unwrap().open().unwrap();
        let mut bytes = file.write(&rows).unwrap();
        bytes.extend(file.finish().unwrap());
        let read = read(bytes).remove(0);
        assert_eq!(read.schema().field(0).name(), "_op");
        let kinds: Vec<_> = read.column(0).as_string::<i32>().iter().flatten().collect();
        assert_eq!(kinds, ["+I", "-U", "+U", "-D"]);
        assert_eq!(read.num_columns(), 4);
    }
}
