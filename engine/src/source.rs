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
//! - `columns.rs` — which columns are read, which is event time, which are passed on.
//! - `parquet.rs`, `ndjson.rs` — readers of the formats.
//! - `keys.rs` — generated rows.
//!
//! What must stay true: the rows of a split are a function of the pinned plan and the position
//! alone, so reading on from a position after a restart gives exactly the rest.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::objects::{Location, Objects};
use crate::pipeline::spec::{FileFormat, SourceKind, SourceSpec};
use crate::protocol::{SourcePlan, Split};
use crate::rows::{Origin, Rows};
use columns::{Columns, Reading};
use dealing::Splits;
use keys::{Keys, KeysReader};
use ndjson::stream::Compression;
use ndjson::{Lines, NdjsonReader};
use object::PinnedObject;
use parquet::{Footer, ParquetReader};

mod columns;
pub mod dealing;
pub mod keys;
pub(crate) mod ndjson;
mod object;
pub mod pacing;
mod parquet;
mod plan;

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
    /// What the manifest says of the source is wrong. The check of the pipeline says it too, with
    /// the path of the field.
    #[error("{step}: {object}: {what}")]
    Declaration {
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
/// The event time's column is not looked for: that is the check's, which knows its path.
///
/// Errors: [`SourceError::Object`] and [`SourceError::Declaration`] for what the manifest's author
/// must change (missing, damaged, not supported), [`SourceError::Unreachable`] when the store
/// refuses or does not answer.
pub async fn plan(
    step: &str,
    spec: &SourceSpec,
    objects: &dyn Objects,
) -> Result<SourcePlan, SourceError> {
    plan::plan(step, spec, objects).await
}

/// All columns of a planned source, in pipeline types.
pub fn schema(plan: &SourcePlan) -> Result<SchemaRef, SourceError> {
    plan::schema(plan).map(Arc::new)
}

/// A planned source, ready to open splits. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    step: String,
    name: String,
    number: u8,
    event_time: Option<String>,
    all: Schema,
    columns: Columns,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Keys(Keys),
    Files(Arc<Files>),
}

struct Files {
    location: Location,
    format: FileFormat,
    splits: Vec<Split>,
    /// The parquet footer; read once.
    footer: OnceCell<Footer>,
}

impl Source {
    /// A source as planned; `number` is its place among the job's sources, for origins.
    pub fn new(
        spec: &SourceSpec,
        plan: &SourcePlan,
        number: u8,
        objects: &dyn Objects,
    ) -> Result<Self, SourceError> {
        let (step, name) = (plan.step.clone(), plan::spec_name(spec).to_owned());
        let all = plan::schema(plan)?;
        let event_time = plan::event_time_column(spec).map(str::to_owned);
        let columns = Columns::new(&all, None, event_time.as_deref(), Reading::Whole)
            .map_err(|what| plan::object_error(&step, &name, &what))?;
        let kind = match &spec.kind {
            SourceKind::Files { uri, format, store, .. } => Kind::Files(Arc::new(Files {
                location: plan::open(&step, uri, store, objects)?,
                format: plan::format_of(&step, uri, *format)?,
                splits: plan.splits.clone(),
                footer: OnceCell::new(),
            })),
            kind @ SourceKind::Keys { .. } => {
                Kind::Keys(Keys::of(kind).expect("the kind is generate.keys"))
            }
        };
        Ok(Self { step, name, number, event_time, all, columns, kind })
    }

    /// Gives only `columns` (in the source's order, whatever theirs is) and reads no others, but for
    /// the event time, and in ndjson, where a row is bad whatever is used of it.
    #[must_use]
    pub fn with_columns(mut self, columns: &[String]) -> Self {
        let reading = match &self.kind {
            Kind::Files(files) if files.format == FileFormat::Ndjson => Reading::Whole,
            Kind::Files(_) | Kind::Keys(_) => Reading::Needed,
        };
        let event_time = self.event_time.as_deref();
        self.columns = Columns::new(&self.all, Some(columns), event_time, reading)
            .expect("the event time's column was found by `new`");
        self
    }

    /// The columns of the batches that readers give.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.schema)
    }

    /// The splits to be dealt.
    pub fn splits(&self) -> Splits {
        match &self.kind {
            Kind::Keys(keys) => Splits::generated(keys.blocks),
            Kind::Files(files) => Splits::listed(files.splits.len() as u64),
        }
    }

    /// Opens split `split` at a position of its [`SplitReader::position`] (0: its beginning).
    pub async fn open_split(
        &self,
        split: u64,
        position: u64,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        let columns = self.columns.clone();
        match &self.kind {
            Kind::Keys(keys) => {
                let keys = keys.clone();
                Ok(Box::new(KeysReader::open(keys, columns, split, position, self.number)))
            }
            Kind::Files(files) => {
                let index = usize::try_from(split).unwrap_or(usize::MAX);
                let Some(split) = files.splits.get(index) else {
                    let what = format!("has no split {split}");
                    return Err(plan::object_error(&self.step, &self.name, &what));
                };
                self.open_file(files, split, position).await
            }
        }
    }

    async fn open_file(
        &self,
        files: &Files,
        split: &Split,
        position: u64,
    ) -> Result<Box<dyn SplitReader>, SourceError> {
        let object = PinnedObject::of_split(&self.step, split, files.location.clone());
        let columns = self.columns.clone();
        match files.format {
            FileFormat::Parquet => {
                let footer = files.footer.get_or_try_init(|| Footer::read(&object)).await?;
                let reader =
                    ParquetReader::open(object, footer, columns, split, position, self.number)?;
                Ok(Box::new(reader))
            }
            FileFormat::Ndjson => {
                let (_, compression) = Compression::of_name(&split.object);
                let range = ndjson::Range { start: split.start, end: split.end };
                let lines = Lines::open(object, compression, range, position)?;
                Ok(Box::new(NdjsonReader::open(lines, columns, self.number)))
            }
        }
    }

    /// Names the row of an origin in the user's words: object and row or byte, or event number.
    pub fn place(&self, origin: Origin) -> String {
        match &self.kind {
            Kind::Keys(_) => format!("{}, event {}", self.name, origin.0 & ((1 << 56) - 1)),
            Kind::Files(files) => {
                let position = origin.0 & ((1 << ORIGIN_POSITION_BITS) - 1);
                match files.format {
                    FileFormat::Parquet => format!("{}, row {}", self.name, position + 1),
                    FileFormat::Ndjson => format!("{}, byte {position}", self.name),
                }
            }
        }
    }
}

const ORIGIN_POSITION_BITS: u32 = 40;

/// The origin of position 0 of an object.
fn origin_base(source: u8, object: u16) -> u64 {
    (u64::from(source) << 56) | (u64::from(object) << ORIGIN_POSITION_BITS)
}

#[cfg(test)]
mod tests;
