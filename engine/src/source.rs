//! Sources: splits, positions, readers.
//!
//! A source is a list of splits in (name, offset) order, pinned in the journal when the run begins
//! (generated ones: blocks of consecutive event numbers without end). Split `i` is dealt to subtask
//! `i mod width`; positions belong to splits, so they can be dealt anew at any width.

use async_trait::async_trait;

use crate::rows::Rows;

/// Reads one split from a position. One reader per split; not shared.
#[async_trait]
pub trait SplitReader: Send {
    /// The next rows (at most about `rows_max`), `None` at the end of the split.
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
