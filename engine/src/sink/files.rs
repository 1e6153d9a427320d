//! The `files` sink: one object per cut, staged below the sink's folder.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::errors::ParquetError;
use weir_runtime::random;
use weir_state::ids::CheckpointId;

use crate::objects::Location;
use crate::pipeline::spec::SinkFormat;
use crate::protocol::Piece;
use crate::rows::Rows;
use crate::sink::encode::Encoder;
use crate::sink::names::{final_name, staged_name};
use crate::sink::parquet::{ParquetEncoder, ParquetFile};
use crate::sink::upload::Upload;
use crate::sink::{SinkError, SinkWriter, WriterId, below};

/// Rows in one of the formats.
#[derive(Clone, Debug)]
pub(crate) enum FileEncoder {
    Ndjson(Encoder),
    Parquet(ParquetEncoder),
}

impl FileEncoder {
    /// Errors: a column has no form in the format.
    pub(crate) fn new(
        format: SinkFormat,
        schema: &SchemaRef,
        changelog: bool,
    ) -> Result<Self, String> {
        match format {
            SinkFormat::Ndjson => Encoder::new(schema, changelog).map(Self::Ndjson),
            SinkFormat::Parquet => ParquetEncoder::new(schema, changelog).map(Self::Parquet),
        }
    }

    const fn format(&self) -> SinkFormat {
        match self {
            Self::Ndjson(_) => SinkFormat::Ndjson,
            Self::Parquet(_) => SinkFormat::Parquet,
        }
    }
}

/// A file on its way to the store, in bounded memory.
pub(crate) struct OpenFile {
    upload: Upload,
    body: Body,
    rows: u64,
}

enum Body {
    Ndjson(Encoder),
    Parquet(ParquetFile),
}

impl OpenFile {
    /// Begins a file; makes no request.
    pub(crate) fn new(encoder: &FileEncoder, upload: Upload) -> Result<Self, WriteError> {
        let body = match encoder {
            FileEncoder::Ndjson(encoder) => Body::Ndjson(encoder.clone()),
            FileEncoder::Parquet(encoder) => Body::Parquet(encoder.open()?),
        };
        Ok(Self { upload, body, rows: 0 })
    }

    /// Appends rows. Not cancel safe.
    pub(crate) async fn write(&mut self, rows: &Rows) -> Result<(), WriteError> {
        self.rows += rows.len() as u64;
        match &mut self.body {
            Body::Ndjson(encoder) => {
                let lines = encoder.rows(rows);
                for row in 0..rows.len() {
                    lines.line(row, self.upload.buffer());
                    if self.upload.is_full() {
                        self.upload.flush().await?;
                    }
                }
            }
            Body::Parquet(file) => {
                let complete = file.write(rows).map_err(no_parquet)?;
                self.upload.buffer().extend_from_slice(&complete);
                self.upload.flush().await?;
            }
        }
        Ok(())
    }

    /// Ends the file; gives its rows and bytes. It is durable then.
    pub(crate) async fn finish(mut self) -> Result<(u64, u64), WriteError> {
        if let Body::Parquet(file) = self.body {
            let rest = file.finish().map_err(no_parquet)?;
            self.upload.buffer().extend_from_slice(&rest);
        }
        Ok((self.rows, self.upload.finish().await?))
    }
}

/// Why a file can't be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// A value has no form in the format.
    #[error("{0}")]
    Value(String),
    /// The store refuses or does not answer.
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

impl From<String> for WriteError {
    fn from(what: String) -> Self {
        Self::Value(what)
    }
}

fn no_parquet(cause: ParquetError) -> WriteError {
    WriteError::Value(format!("can't be written as parquet: {cause}"))
}

impl WriteError {
    /// Of the object `name` of `step`.
    pub(crate) fn of(self, step: &str, name: &str) -> SinkError {
        match self {
            Self::Value(what) => SinkError::Value { step: step.to_owned(), what },
            Self::Store(cause) => SinkError::store(step, name, cause),
        }
    }
}

/// Stages what one subtask writes.
pub(crate) struct FilesWriter {
    writer: WriterId,
    /// The sink's URI as in the manifest.
    uri: String,
    folder: Location,
    encoder: FileEncoder,
    /// Makes names unique among all writers that ever were.
    attempt: String,
    begun: u64,
    piece: Option<OpenPiece>,
}

struct OpenPiece {
    staged: String,
    file: OpenFile,
}

impl FilesWriter {
    /// Makes no request.
    pub(crate) fn new(writer: WriterId, uri: &str, folder: Location, encoder: FileEncoder) -> Self {
        let uri = uri.to_owned();
        Self { writer, uri, folder, encoder, attempt: random::id(), begun: 0, piece: None }
    }

    fn begin(&mut self) -> Result<OpenPiece, SinkError> {
        let staged = staged_name(&self.writer, &self.attempt, self.begun);
        self.begun += 1;
        let path = below(&self.folder.path, &staged);
        let upload = Upload::new(Arc::clone(&self.folder.store), path);
        let file = OpenFile::new(&self.encoder, upload);
        let file = file.map_err(|error| error.of(&self.writer.step, &staged))?;
        Ok(OpenPiece { staged, file })
    }
}

#[async_trait]
impl SinkWriter for FilesWriter {
    async fn write(&mut self, rows: &Rows) -> Result<(), SinkError> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.piece.is_none() {
            self.piece = Some(self.begin()?);
        }
        let Some(piece) = &mut self.piece else { return Ok(()) };
        let written = piece.file.write(rows).await;
        written.map_err(|error| error.of(&self.writer.step, &piece.staged))
    }

    fn cut(
        &mut self,
        checkpoint: CheckpointId,
    ) -> BoxFuture<'static, Result<Vec<Piece>, SinkError>> {
        let Some(OpenPiece { staged, file }) = self.piece.take() else {
            return async { Ok(Vec::new()) }.boxed();
        };
        let (step, folder) = (self.writer.step.clone(), self.uri.clone());
        let suffix = self.encoder.format().suffix();
        let r#final = final_name(&self.writer, checkpoint, suffix).to_string();
        async move {
            let finished = file.finish().await;
            let (rows, bytes) =
                finished.map_err(|error| error.of(&step, &format!("{folder}/{staged}")))?;
            Ok(vec![Piece { step, folder, staged, r#final, rows, bytes }])
        }
        .boxed()
    }
}
