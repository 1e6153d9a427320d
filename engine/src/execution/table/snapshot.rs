//! Writes what a table holds at a barrier, beside processing.
//!
//! One part per subtask, staged like any piece. Part 0 is written also when it is empty, so that a
//! snapshot can always be told from none.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use weir_runtime::random;
use weir_state::ids::CheckpointId;
use weir_state::names::TableFile;
use weir_state::shard::ShardScan;

use super::fold::{Columns, Current, Held};
use crate::execution::error::StageError;
use crate::execution::names::key_text;
use crate::objects::Location;
use crate::pipeline::spec::SinkFormat;
use crate::protocol::Piece;
use crate::rows::Rows;
use crate::sink::encode::Encoder;
use crate::sink::files::{FileEncoder, OpenFile};
use crate::sink::names::staged_name;
use crate::sink::upload::Upload;
use crate::sink::{SinkError, WriterId, below};

/// Characters of a row that a message shows.
const ROW_CHARS_MAX: usize = 200;

/// What all snapshots of one subtask share.
#[derive(Clone)]
pub(crate) struct Snapshots {
    /// `part` is 0: a table has one writer per subtask.
    pub(crate) writer: WriterId,
    /// The sink's URI as in the manifest.
    pub(crate) uri: String,
    pub(crate) folder: Location,
    pub(crate) format: SinkFormat,
    pub(crate) encoder: FileEncoder,
    pub(crate) schema: SchemaRef,
    pub(crate) columns: Columns,
    /// Places of the key's columns.
    pub(crate) key: Vec<usize>,
}

impl Snapshots {
    /// Writes all that `scan` walks over as the part of this subtask; gives none when it is empty.
    ///
    /// Errors: two live rows of a key, damaged state, the store.
    pub(crate) async fn write(
        self,
        checkpoint: CheckpointId,
        mut scan: ShardScan,
    ) -> Result<Vec<Piece>, StageError> {
        let staged = staged_name(&self.writer, &random::id(), 0);
        let mut file = None;
        if self.writer.subtask == 0 {
            file = Some(self.begin(&staged)?);
        }
        loop {
            let chunk = scan.next_chunk().await;
            let chunk = chunk.map_err(|cause| StageError::State {
                step: self.writer.step.clone(),
                what: "read state",
                cause,
            })?;
            let Some(chunk) = chunk else { break };
            let rows = self.current(chunk.into_iter().map(|(_, stored)| stored))?;
            if rows.is_empty() {
                continue;
            }
            let open = match &mut file {
                Some(open) => open,
                none => none.insert(self.begin(&staged)?),
            };
            let written = open.write(&rows).await;
            written.map_err(|error| failed(error.of(&self.writer.step, &staged)))?;
        }
        let Some(file) = file else { return Ok(Vec::new()) };
        let (rows, bytes) =
            file.finish().await.map_err(|error| failed(error.of(&self.writer.step, &staged)))?;
        let r#final = TableFile {
            step: self.writer.step.clone(),
            run: self.writer.run.clone(),
            checkpoint,
            part: self.writer.subtask,
            suffix: self.format.suffix().to_owned(),
        };
        let (step, folder, r#final) = (self.writer.step, self.uri, r#final.to_string());
        Ok(vec![Piece { step, folder, staged, r#final, rows, bytes }])
    }

    fn begin(&self, staged: &str) -> Result<OpenFile, StageError> {
        let path = below(&self.folder.path, staged);
        let upload = Upload::new(Arc::clone(&self.folder.store), path);
        OpenFile::new(&self.encoder, upload)
            .map_err(|error| failed(error.of(&self.writer.step, staged)))
    }

    /// The rows that keys have.
    fn current(&self, stored: impl Iterator<Item = Bytes>) -> Result<Rows, StageError> {
        let mut rows = Vec::new();
        for value in stored {
            let held = Held::decode(&value).map_err(|error| self.damaged(&error))?;
            match held.current() {
                Current::Gone => {}
                Current::Row(row) => rows.push(row),
                Current::Several(count, [one, other]) => {
                    let message = format!(
                        "{count} rows of this key are live at once, {} and {}, and a table has one \
                         for each key; take a `key` that tells them apart",
                        self.text(&one),
                        self.text(&other)
                    );
                    return Err(self.of_key(&one, message));
                }
                Current::Missing(row) => {
                    let message = "a row of this key was taken back that never came".to_owned();
                    return Err(self.of_key(&row, message));
                }
            }
        }
        let columns = self.columns.read(&rows).map_err(|error| self.damaged(&error))?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let schema = SchemaRef::clone(&self.schema);
        let batch = RecordBatch::try_new_with_options(schema, columns, &options);
        Ok(Rows::plain(batch.map_err(|error| self.damaged(&error))?))
    }

    fn of_key(&self, row: &Bytes, message: String) -> StageError {
        let key = match self.columns.read(std::slice::from_ref(row)) {
            Ok(columns) => {
                let key = self.key.iter().map(|place| Arc::clone(&columns[*place]));
                key_text(&key.collect::<Vec<_>>(), 0)
            }
            Err(error) => format!("{row:?} ({error})"),
        };
        StageError::Key { step: self.writer.step.clone(), key, message }
    }

    /// A row as ndjson, cut.
    fn text(&self, row: &Bytes) -> String {
        let text = || {
            let columns = self.columns.read(std::slice::from_ref(row)).ok()?;
            let batch = RecordBatch::try_new(SchemaRef::clone(&self.schema), columns).ok()?;
            let mut line = Vec::new();
            let encoder = Encoder::new(&self.schema, false).ok()?;
            encoder.rows(&Rows::plain(batch)).line(0, &mut line);
            Some(String::from_utf8_lossy(&line).trim_end().to_owned())
        };
        let text = text().unwrap_or_else(|| format!("{row:?}"));
        if text.chars().count() <= ROW_CHARS_MAX {
            return text;
        }
        text.chars().take(ROW_CHARS_MAX).chain(['…']).collect()
    }

    fn damaged(&self, error: &dyn std::error::Error) -> StageError {
        let (step, message) = (self.writer.step.clone(), error.to_string());
        StageError::StateValue { step, key: "a key".to_owned(), message }
    }
}

fn failed(error: SinkError) -> StageError {
    StageError::Sink(Arc::new(error))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use weir_state::ids::Generation;

    use super::*;
    use crate::rows::Kind;
    use crate::rows::key::Keys;

    fn batch() -> RecordBatch {
        let columns: [(&str, ArrayRef); 2] = [
            ("key", Arc::new(StringArray::from(vec!["N1", "N1", "N2"]))),
            ("n", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ];
        let columns = columns.map(|(name, column)| (name, column, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn snapshots() -> Snapshots {
        let schema = batch().schema();
        Snapshots {
            writer: WriterId {
                step: "latest".to_owned(),
                run: "ab12".to_owned(),
                generation: Generation(1),
                subtask: 0,
                part: 0,
                worker: "w".to_owned(),
            },
            uri: "out".to_owned(),
            folder: Location { store: Arc::new(InMemory::new()), path: Path::from("out") },
            format: SinkFormat::Ndjson,
            encoder: FileEncoder::new(SinkFormat::Ndjson, &schema, false).unwrap(),
            columns: Columns::new(&schema),
            schema,
            key: vec![0],
        }
    }

    /// The stored value after these rows of the batch came with these kinds.
    fn stored(changes: &[(usize, Kind)]) -> Bytes {
        let rows = Keys::encode(batch().columns(), 3).unwrap();
        let mut held = Held::nothing();
        for (row, kind) in changes {
            held.change(*kind, rows.key_bytes(*row));
        }
        held.encode().unwrap()
    }

    #[test]
    fn the_rows_of_a_snapshot_are_those_that_are_live() {
        let moved = stored(&[(0, Kind::Insert), (0, Kind::Before), (1, Kind::After)]);
        let values = [moved, stored(&[(2, Kind::Insert)])];
        let rows = snapshots().current(values.into_iter()).unwrap();
        assert_eq!(rows.batch, batch().slice(1, 2));
    }

    #[test]
    fn a_key_with_two_live_rows_is_named_and_so_is_one_that_lost_a_row() {
        let said = |value: Bytes| {
            let error = snapshots().current(std::iter::once(value)).unwrap_err();
            assert_eq!(error.remedy(), crate::execution::error::Remedy::FailJob);
            error.to_string()
        };
        assert_eq!(
            said(stored(&[(0, Kind::Insert), (1, Kind::Insert)])),
            "latest: key N1: 2 rows of this key are live at once, {\"key\":\"N1\",\"n\":1} and \
             {\"key\":\"N1\",\"n\":2}, and a table has one for each key; take a `key` that tells \
             them apart"
        );
        assert_eq!(
            said(stored(&[(2, Kind::Delete)])),
            "latest: key N2: a row of this key was taken back that never came"
        );
    }
}
