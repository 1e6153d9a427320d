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
//! - `listing.rs` — which objects a file, a folder or a glob means.
//! - `object.rs` — range reads of one object that must not have changed since then.
//! - `columns.rs` — which columns are read, which is event time, which are passed on.
//! - `parquet.rs`, `ndjson.rs` — readers of the formats.
//! - `generated.rs` — generated rows; their functions are in `keys.rs` and `nexmark.rs`.
//!
//! What must stay true: the rows of a split are a function of the pinned plan and the position
//! alone, so reading on from a position after a restart gives exactly the rest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use weir_state::objects::is_outage;

use crate::objects::{Location, Objects};
use crate::pipeline::spec::{FileFormat, SourceKind, SourceSpec};
use crate::protocol::{SourcePlan, Split};
use crate::rows::{Origin, Rows};
use columns::{Columns, Reading};
use dealing::Splits;
use generated::{Generated, GeneratedReader};
use listing::Pattern;
use ndjson::stream::Compression;
use ndjson::{Lines, NdjsonReader};
use object::PinnedObject;
use parquet::{Footer, ParquetReader};

mod columns;
pub mod dealing;
pub mod generated;
mod keys;
mod listing;
pub(crate) mod ndjson;
mod nexmark;
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

    /// Whether the store does not answer.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { cause, .. } if is_outage(cause))
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
    Generated(Generated),
    Files(Arc<Files>),
}

struct Files {
    uri: String,
    /// Of the file, or of the folder below which all lie.
    location: Location,
    pattern: Pattern,
    format: FileFormat,
    splits: Vec<Split>,
    /// Names of the objects, in their order, which is that of the splits; their places are their
    /// numbers.
    objects: Vec<String>,
    /// Footers of parquet files read last, the newest at the end.
    footers: Mutex<VecDeque<(String, Footer)>>,
}

impl Files {
    fn new(
        step: &str,
        spec: &SourceSpec,
        plan: &SourcePlan,
        objects: &dyn Objects,
    ) -> Result<Option<Self>, SourceError> {
        let SourceKind::Files { uri, format, store, .. } = &spec.kind else { return Ok(None) };
        let glob = Pattern::of_glob(uri).map_err(|what| plan::object_error(step, uri, &what))?;
        let folder = glob.as_ref().map_or(uri, |glob| &glob.folder);
        let location = plan::open(step, folder, store, objects)?;
        let names = plan.splits.iter().map(|split| &split.object);
        let mut objects: Vec<String> = names.cloned().collect();
        objects.dedup();
        // A source without splits is never read, so any format will do.
        let named = objects.first().map(|name| plan::format_of(step, name, *format));
        Ok(Some(Self {
            uri: uri.clone(),
            location,
            pattern: glob.unwrap_or_else(|| Pattern::of_folder(uri)),
            format: named.transpose()?.or(*format).unwrap_or(FileFormat::Ndjson),
            splits: plan.splits.clone(),
            objects,
            footers: Mutex::default(),
        }))
    }

    /// The object of a split, and its number.
    fn object(&self, step: &str, split: &Split) -> Result<(PinnedObject, u16), SourceError> {
        let location = if split.object == self.uri {
            Some(self.location.clone())
        } else {
            self.pattern.locate(&self.location, &split.object)
        };
        let number = self.objects.binary_search(&split.object);
        let number = number.ok().and_then(|number| u16::try_from(number).ok());
        match (location, number) {
            (Some(location), Some(number)) => {
                Ok((PinnedObject::of_split(step, split, location), number))
            }
            _ => Err(plan::object_error(step, &split.object, "does not lie where it was found")),
        }
    }

    async fn footer(&self, object: &PinnedObject) -> Result<Footer, SourceError> {
        let known = |footers: &VecDeque<(String, Footer)>| {
            footers.iter().find(|(name, _)| *name == object.name).map(|(_, read)| read.clone())
        };
        if let Some(footer) = known(&self.footers.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(footer);
        }
        let footer = Footer::read(object).await?;
        let mut footers = self.footers.lock().unwrap_or_else(PoisonError::into_inner);
        if known(&footers).is_none() {
            footers.push_back((object.name.clone(), footer.clone()));
        }
        if footers.len() > FOOTERS_KEPT_MAX {
            footers.pop_front();
        }
        Ok(footer)
    }
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
        let kind = match Files::new(&step, spec, plan, objects)? {
            Some(files) => Kind::Files(Arc::new(files)),
            None => Kind::Generated(Generated::of(&spec.kind).expect("it is generated")),
        };
        Ok(Self { step, name, number, event_time, all, columns, kind })
    }

    /// Gives only `columns` (in the source's order, whatever theirs is) and reads no others, but for
    /// the event time, and in ndjson, where a row is bad whatever is used of it.
    #[must_use]
    pub fn with_columns(mut self, columns: &[String]) -> Self {
        let reading = match &self.kind {
            Kind::Files(files) if files.format == FileFormat::Ndjson => Reading::Whole,
            Kind::Files(_) | Kind::Generated(_) => Reading::Needed,
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
            Kind::Generated(generated) => Splits::generated(generated.blocks),
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
            Kind::Generated(generated) => {
                let (made, number) = (generated.clone(), self.number);
                Ok(Box::new(GeneratedReader::open(made, columns, split, position, number)))
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
        let (object, number) = files.object(&self.step, split)?;
        let base = origin_base(self.number, number);
        let columns = self.columns.clone();
        match files.format {
            FileFormat::Parquet => {
                let footer = files.footer(&object).await?;
                let reader = ParquetReader::open(object, &footer, columns, split, position, base)?;
                Ok(Box::new(reader))
            }
            FileFormat::Ndjson => {
                let (_, compression) = Compression::of_name(&split.object);
                let range = ndjson::Range { start: split.start, end: split.end };
                let lines = Lines::open(object, compression, range, position)?;
                Ok(Box::new(NdjsonReader::open(lines, columns, base)))
            }
        }
    }

    /// Names the row of an origin in the user's words: object and row or byte, or event number.
    pub fn place(&self, origin: Origin) -> String {
        match &self.kind {
            Kind::Generated(_) => format!("{}, event {}", self.name, origin.0 & ((1 << 56) - 1)),
            Kind::Files(files) => {
                let position = origin.0 & ((1 << ORIGIN_POSITION_BITS) - 1);
                let number = usize::from((origin.0 >> ORIGIN_POSITION_BITS) as u16);
                let name = files.objects.get(number).unwrap_or(&self.name);
                match files.format {
                    FileFormat::Parquet => format!("{name}, row {}", position + 1),
                    FileFormat::Ndjson => format!("{name}, byte {position}"),
                }
            }
        }
    }
}

const ORIGIN_POSITION_BITS: u32 = 40;
/// Footers of parquet files that are kept: a subtask reads its files one after another.
const FOOTERS_KEPT_MAX: usize = 64;

/// The origin of position 0 of an object.
fn origin_base(source: u8, object: u16) -> u64 {
    (u64::from(source) << 56) | (u64::from(object) << ORIGIN_POSITION_BITS)
}

#[cfg(test)]
mod tests;
