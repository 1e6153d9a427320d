//! The `print` sink: rows staged among the job's state objects, printed by the coordinator.
//!
//! A piece's `folder` is empty, `staged` is the bare name of a state object, and `final` sorts pieces
//! as the names of a `files` sink do. Nothing is published: the coordinator reads the piece once its
//! checkpoint is complete, prints its lines and then confirms it itself.

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use weir_state::ids::CheckpointId;
use weir_state::names::ObjectNamer;

use crate::pipeline::spec::SinkFormat;
use crate::protocol::Piece;
use crate::rows::Rows;
use crate::sink::encode::Encoder;
use crate::sink::names::final_name;
use crate::sink::upload::Upload;
use crate::sink::{SinkError, SinkWriter, StateFolder, WriterId};

/// Suffix of staged objects.
const SUFFIX: &str = "print";
/// Where state objects lie below the incarnation's folder.
const OBJECTS_FOLDER: &str = "objects";

/// Stages what one subtask writes.
pub(crate) struct PrintWriter {
    writer: WriterId,
    state: StateFolder,
    encoder: Encoder,
    namer: ObjectNamer,
    /// Rows that may still be staged: more than the limit is never printed.
    left: u64,
    piece: Option<OpenPiece>,
}

struct OpenPiece {
    staged: String,
    upload: Upload,
    rows: u64,
}

impl PrintWriter {
    /// Makes no request.
    pub(crate) fn new(
        writer: WriterId,
        limit: Option<u64>,
        state: StateFolder,
        encoder: Encoder,
    ) -> Self {
        let namer = ObjectNamer::new(writer.generation, &writer.worker);
        Self { writer, state, encoder, namer, left: limit.unwrap_or(u64::MAX), piece: None }
    }

    fn piece(&mut self) -> &mut OpenPiece {
        self.piece.get_or_insert_with(|| {
            let staged = self.namer.name(SUFFIX);
            let path = self.state.path.clone().join(OBJECTS_FOLDER).join(staged.as_str());
            let upload = Upload::new(Arc::clone(&self.state.store), path);
            OpenPiece { staged, upload, rows: 0 }
        })
    }
}

#[async_trait]
impl SinkWriter for PrintWriter {
    async fn write(&mut self, rows: &Rows) -> Result<(), SinkError> {
        let taken = rows.batch.num_rows().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if taken == 0 {
            return Ok(());
        }
        self.left -= taken as u64;
        let encoder = self.encoder.clone();
        let lines = encoder.rows(rows);
        let step = self.writer.step.clone();
        let piece = self.piece();
        for row in 0..taken {
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
        let step = self.writer.step.clone();
        let r#final = final_name(&self.writer, checkpoint, SinkFormat::Ndjson.suffix()).to_string();
        async move {
            let bytes = upload.finish().await;
            let bytes = bytes.map_err(|cause| SinkError::store(&step, &staged, cause))?;
            Ok(vec![Piece { step, folder: String::new(), staged, r#final, rows, bytes }])
        }
        .boxed()
    }
}
