//! The `files` sink: one object per cut, staged below the sink's folder.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use weir_runtime::random;
use weir_state::ids::CheckpointId;

use crate::objects::Location;
use crate::protocol::Piece;
use crate::rows::Rows;
use crate::sink::encode::Encoder;
use crate::sink::names::{final_name, staged_name};
use crate::sink::upload::Upload;
use crate::sink::{SinkError, SinkWriter, WriterId, below};

/// Stages what one subtask writes.
pub(crate) struct FilesWriter {
    writer: WriterId,
    /// The sink's URI as in the manifest.
    uri: String,
    folder: Location,
    encoder: Encoder,
    /// Makes names unique among all writers that ever were.
    attempt: String,
    begun: u64,
    piece: Option<OpenPiece>,
}

struct OpenPiece {
    staged: String,
    upload: Upload,
    rows: u64,
}

impl FilesWriter {
    /// Makes no request.
    pub(crate) fn new(writer: WriterId, uri: &str, folder: Location, encoder: Encoder) -> Self {
        let uri = uri.to_owned();
        Self { writer, uri, folder, encoder, attempt: random::id(), begun: 0, piece: None }
    }

    fn piece(&mut self) -> &mut OpenPiece {
        self.piece.get_or_insert_with(|| {
            let staged = staged_name(&self.writer, &self.attempt, self.begun);
            self.begun += 1;
            let path = below(&self.folder.path, &staged);
            let upload = Upload::new(Arc::clone(&self.folder.store), path);
            OpenPiece { staged, upload, rows: 0 }
        })
    }
}

#[async_trait]
impl SinkWriter for FilesWriter {
    async fn write(&mut self, rows: &Rows) -> Result<(), SinkError> {
        if rows.batch.num_rows() == 0 {
            return Ok(());
        }
        let encoder = self.encoder.clone();
        let lines = encoder.rows(rows);
        let step = self.writer.step.clone();
        let piece = self.piece();
        for row in 0..rows.batch.num_rows() {
            lines.line(row, piece.upload.buffer());
            piece.rows += 1;
            if piece.upload.is_full() {
                let sent = piece.upload.flush().await;
                sent.map_err(|cause| SinkError::store(&step, &piece.staged, cause))?;
            }
        }
        Ok(())
    }

    fn cut(
        &mut self,
        checkpoint: CheckpointId,
    ) -> BoxFuture<'static, Result<Vec<Piece>, SinkError>> {
        let Some(OpenPiece { staged, upload, rows }) = self.piece.take() else {
            return async { Ok(Vec::new()) }.boxed();
        };
        let (step, folder) = (self.writer.step.clone(), self.uri.clone());
        let r#final = final_name(&self.writer, checkpoint).to_string();
        async move {
            let bytes = upload
                .finish()
                .await
                .map_err(|cause| SinkError::store(&step, &format!("{folder}/{staged}"), cause))?;
            Ok(vec![Piece { step, folder, staged, r#final, rows, bytes }])
        }
        .boxed()
    }
}
