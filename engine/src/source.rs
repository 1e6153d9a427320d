//! Sources: splits, positions, readers.
//!
//! A source is a list of splits in (name, offset) order, pinned in the journal when the run begins
//! (generated ones: blocks of consecutive event numbers). Split `i` is dealt to subtask
//! `i mod width`; positions belong to splits, so they can be dealt anew at any width.
//!
//! - `dealing.rs` — which splits a subtask reads, from where, and how all positions become one.
//!   Pure; start reading here.
//! - `pacing.rs` — `rate`. Pure.
//! - `plan.rs` — a source's schema and splits, found when a run begins.
//! - `object.rs` — range reads of one object that must not have changed since then.
//! - `parquet.rs`, `ndjson.rs` — readers of the formats.
//! - `keys.rs` — generated rows.
//!
//! What must stay true: the rows of a split are a function of the pinned plan and the position
//! alone, so reading on from a position after a restart gives exactly the rest.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;

use crate::objects::Objects;
use crate::pipeline::spec::SourceSpec;
use crate::protocol::SourcePlan;
use crate::rows::{Origin, Rows};

pub mod dealing;
pub mod keys;
pub mod pacing;

/// Reads one split from a position. One reader per split; not shared.
#[async_trait]
pub trait SplitReader: Send {
    /// The next rows (at most `rows_max`, at least one), `None` at the end of the split.
    ///
    /// Rows carry origins, and event times when the source has them. Not cancel safe.
    async fn next(&mut self, rows_max: usize) -> Result<Option<Rows>, SourceError>;
    /// Where to go on after the rows returned so far: rows (parquet, generate) or bytes (ndjson)
    /// of the split.
    fn position(&self) -> u64;
}

/// What can go wrong while reading a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A row does not parse or its event time is null. Reading it again fails again.
    #[error("{step}: bad row in {place}: {what}")]
    BadRow {
        /// Step.
        step: String,
        /// Object, line or row, byte offset, column.
        place: String,
        /// What is wrong, with the text cut at 200 characters.
        what: String,
    },
    /// The object is missing, was changed after it was listed, or is damaged.
    #[error("{step}: {object}: {what}")]
    Object {
        /// Step.
        step: String,
        /// Object.
        object: String,
        /// What is wrong.
        what: String,
    },
    /// The store does not answer. Retry.
    #[error("{step}: cannot read {object}")]
    Unreachable {
        /// Step.
        step: String,
        /// Object.
        object: String,
        /// Cause.
        #[source]
        cause: object_store::Error,
    },
}

impl SourceError {
    /// Whether reading again fails again: the job fails at once instead of restarting.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Unreachable { .. })
    }
}

/// Looks at the source once, when a run begins: its columns and splits, to be pinned.
///
/// Errors: [`SourceError::Object`] for what the manifest's author must change (missing, damaged,
/// not supported), [`SourceError::Unreachable`] when the store refuses or does not answer.
pub async fn plan(
    step: &str,
    spec: &SourceSpec,
    objects: &dyn Objects,
) -> Result<SourcePlan, SourceError> {
    let _ = (step, spec, objects);
    unimplemented!()
}

/// The columns of a planned source.
pub fn schema(plan: &SourcePlan) -> Result<SchemaRef, SourceError> {
    let _ = plan;
    Ok(Arc::new(Schema::empty()))
}

/// A planned source, ready to open splits. Cheap to clone.
#[derive(Clone)]
pub struct Source {}

impl Source {
    /// A source as planned; `number` is its place among the job's sources, for origins.
    pub fn new(
        spec: &SourceSpec,
        plan: &SourcePlan,
        number: u8,
        objects: &dyn Objects,
    ) -> Result<Self, SourceError> {
        let _ = (spec, plan, number, objects);
        unimplemented!()
    }

    /// Reads only `columns` (in the source's order, whatever theirs is). The event time is read
    /// anyhow.
    #[must_use]
    pub fn with_columns(self, columns: &[String]) -> Self {
        let _ = columns;
        self
    }

    /// The columns of the batches that readers give.
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    /// The splits to be dealt.
    pub fn splits(&self) -> dealing::Splits {
        unimplemented!()
    }

    /// Opens split `split` at a position of its [`SplitReader::position`] (0: its beginning).
    pub async fn open_split(
        &self,
        split: u64,
        position: u64,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        let _ = (split, position);
        unimplemented!()
    }

    /// Names the row of an origin in the user's words: object and row or byte, or event number.
    pub fn place(&self, origin: Origin) -> String {
        let _ = origin;
        unimplemented!()
    }
}
