//! Sinks: rows are staged, listed in the checkpoint's record, and published after it.
//!
//! - `names.rs` — names of staged and final objects, and what they say. Pure; start reading here.
//! - `encode.rs` — rows as ndjson; `parquet.rs` — as parquet.
//! - `upload.rs` — one object of unknown length, in bounded memory.
//! - `files.rs`, `print.rs`, `blackhole.rs` — the writers.
//! - `publish.rs` — staged pieces get their final names.
//!
//! What must stay true: a row is visible only under a final name, and a final name is made only
//! from a piece that a completed checkpoint's record lists; publishing twice is publishing once.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::future::BoxFuture;
use object_store::ObjectStore;
use object_store::path::Path;
use weir_state::ids::{CheckpointId, Generation};
use weir_state::objects::is_outage;

use crate::objects::{Location, Objects, OpenError};
use crate::pipeline::spec::{SinkSpec, StoreSpec};
use crate::protocol::Piece;
use crate::rows::Rows;

use blackhole::BlackholeWriter;
use encode::Encoder;
use files::{FileEncoder, FilesWriter};
use print::PrintWriter;

mod blackhole;
pub(crate) mod encode;
pub(crate) mod files;
pub(crate) mod names;
mod parquet;
mod print;
pub mod publish;
pub(crate) mod upload;

/// Under this name the rows of a changelog have their kind, in front of their columns.
pub const KIND_COLUMN: &str = "_op";

/// One subtask's end of a sink step.
#[async_trait]
pub trait SinkWriter: Send {
    /// Takes rows in order. Not cancel safe.
    async fn write(&mut self, rows: &Rows) -> Result<(), SinkError>;
    /// Cuts at a barrier: all rows written since the last cut belong to `checkpoint`. Never blocks;
    /// the future ends when they are staged durably and may run beside later writes.
    ///
    /// No rows, no piece. When the checkpoint is aborted its pieces belong to the next one: the
    /// caller keeps them and acknowledges them again, under the names that they have.
    fn cut(
        &mut self,
        checkpoint: CheckpointId,
    ) -> BoxFuture<'static, Result<Vec<Piece>, SinkError>>;
}

/// What can go wrong while writing a sink.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The sink's URI leads nowhere.
    #[error("{step}: {cause}")]
    Uri {
        /// Step.
        step: String,
        /// What is wrong with it.
        cause: OpenError,
    },
    /// The store refuses or does not answer.
    #[error("{step}: cannot write {object}")]
    Store {
        /// Step.
        step: String,
        /// Object.
        object: String,
        /// Cause.
        #[source]
        cause: object_store::Error,
    },
    /// A folder can't be listed.
    #[error("{step}: cannot read {object}")]
    Read {
        /// Step.
        step: String,
        /// Folder.
        object: String,
        /// Cause.
        #[source]
        cause: object_store::Error,
    },
    /// Something that is not the piece already has its final name.
    #[error(
        "{step}: {object} exists with {found_bytes} bytes instead of {expected_bytes}: something \
         else wrote it; move it away"
    )]
    Conflict {
        /// Step.
        step: String,
        /// Object.
        object: String,
        /// Its size.
        found_bytes: u64,
        /// Size of the piece.
        expected_bytes: u64,
    },
    /// A column can't be written in the format.
    #[error("{step}: {what}")]
    Value {
        /// Step.
        step: String,
        /// What and why.
        what: String,
    },
}

impl SinkError {
    /// Whether writing again fails again: the job fails at once instead of restarting.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Uri { .. } | Self::Value { .. } | Self::Conflict { .. })
    }

    /// Whether the store does not answer.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Store { cause, .. } if is_outage(cause))
    }

    fn store(step: &str, object: &str, cause: object_store::Error) -> Self {
        Self::Store { step: step.to_owned(), object: object.to_owned(), cause }
    }
}

/// Who writes: goes into names, so that no two writers ever use one.
#[derive(Clone, Debug)]
pub struct WriterId {
    /// Step of the sink.
    pub step: String,
    /// The incarnation's short id.
    pub run: String,
    /// Generation.
    pub generation: Generation,
    /// Subtask.
    pub subtask: u32,
    /// Number of the path on which rows reach this sink's writer, unique within (step, subtask).
    pub part: u32,
    /// Worker incarnation.
    pub worker: String,
}

/// The incarnation's folder in the state store, where `print` stages.
#[derive(Clone, Debug)]
pub struct StateFolder {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The incarnation's folder (`<n>-<id>`) in it.
    pub path: Path,
}

/// Opens the writer of a sink step whose rows have `schema`, and kinds if they are a `changelog`.
/// Makes no request.
pub fn open(
    spec: &SinkSpec,
    writer: WriterId,
    schema: &SchemaRef,
    changelog: bool,
    objects: &dyn Objects,
    state: &StateFolder,
) -> Result<Box<dyn SinkWriter>, SinkError> {
    let encoder = || {
        let encoder = Encoder::new(schema, changelog);
        encoder.map_err(|what| SinkError::Value { step: writer.step.clone(), what })
    };
    match spec {
        SinkSpec::Files { uri, format, store } => {
            let encoder = FileEncoder::new(*format, schema, changelog);
            let step = &writer.step;
            let encoder = encoder.map_err(|what| SinkError::Value { step: step.clone(), what })?;
            let folder = open_folder(step, uri, store, objects)?;
            Ok(Box::new(FilesWriter::new(writer, uri, folder, encoder)))
        }
        SinkSpec::Print { limit } => {
            let encoder = encoder()?;
            Ok(Box::new(PrintWriter::new(writer, *limit, state.clone(), encoder)))
        }
        SinkSpec::Blackhole => Ok(Box::new(BlackholeWriter)),
        SinkSpec::Table(_) => unreachable!("a table is the head of a stage, not a leaf"),
    }
}

/// Where the folder of a `files` sink lies. Makes no request.
pub fn open_folder(
    step: &str,
    uri: &str,
    store: &StoreSpec,
    objects: &dyn Objects,
) -> Result<Location, SinkError> {
    let opened = objects.open(uri, store);
    opened.map_err(|cause| SinkError::Uri { step: step.to_owned(), cause })
}

/// The path of `name`, which may have several parts, below a folder.
pub(crate) fn below(folder: &Path, name: &str) -> Path {
    name.split('/').fold(folder.clone(), |path, part| path.join(part))
}

#[cfg(test)]
mod tests;
