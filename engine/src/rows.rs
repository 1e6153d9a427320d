//! A batch of rows as it moves through a job: columns, event times, origins, kinds.
//!
//! - `key.rs` — the canonical encoding of key columns, and back.
//! - `order.rs` — bytes that sort as rows do.
//! - `kind.rs` — what a row of a changelog says.
//! - `origin.rs` — where a row was read, and its name for error messages.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt8Array,
    UInt32Array, UInt64Array,
};
use arrow::compute::{self, FilterBuilder, FilterPredicate, TakeOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

pub mod key;
mod kind;
pub mod order;
mod origin;

pub use kind::Kind;
pub use origin::{Origin, OriginNames, OriginSource, PositionKind};

/// An index beyond the last row is an error, not a panic.
const CHECKED: Option<TakeOptions> = Some(TakeOptions { check_bounds: true });

/// Rows with what travels beside their columns. All parts have the same number of rows.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The user's columns.
    pub batch: RecordBatch,
    /// Event time of each row in milliseconds since 1970-01-01T00:00Z; none: rows have no time.
    pub times: Option<Int64Array>,
    /// [`Origin`] of each row, up to the first aggregate.
    pub origins: Option<UInt64Array>,
    /// [`Kind`] of each row, none of them null; none: every row is an insert.
    pub kinds: Option<UInt8Array>,
}

impl Rows {
    /// Inserts without event times and origins.
    pub fn plain(batch: RecordBatch) -> Self {
        Self { batch, times: None, origins: None, kinds: None }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows where `mask` is true (not null, not false), in their order. An update of which only
    /// one half stays becomes a delete or an insert.
    ///
    /// Errors: `mask` has another length.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self, ArrowError> {
        if mask.len() != self.len() {
            return Err(ArrowError::InvalidArgumentError(format!(
                "a mask of {} rows does not fit a batch of {}",
                mask.len(),
                self.len()
            )));
        }
        if mask.true_count() == self.len() {
            return Ok(self.clone());
        }
        let predicate = FilterBuilder::new(mask).optimize().build();
        Ok(Self {
            batch: predicate.filter_record_batch(&self.batch)?,
            times: filtered(self.times.as_ref(), &predicate)?,
            origins: filtered(self.origins.as_ref(), &predicate)?,
            kinds: self.kinds.as_ref().map(|kinds| kind::stay(kinds, kept(mask))),
        })
    }

    /// The rows at `indices`, in that order. An update of which only one half is taken becomes a
    /// delete or an insert.
    ///
    /// Errors: an index beyond the last row.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self, ArrowError> {
        let columns = self
            .batch
            .columns()
            .iter()
            .map(|column| compute::take(column, indices, CHECKED))
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
        Ok(Self {
            batch: RecordBatch::try_new_with_options(self.batch.schema(), columns, &options)?,
            times: taken(self.times.as_ref(), indices)?,
            origins: taken(self.origins.as_ref(), indices)?,
            kinds: self
                .kinds
                .as_ref()
                .map(|kinds| kind::stay(kinds, indices.values().iter().map(|row| *row as usize))),
        })
    }

    /// `length` rows from `offset`, without copying. Panics when they are not all there. Cut a
    /// changelog only where [`Rows::cut`] says.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self {
            batch: self.batch.slice(offset, length),
            times: self.times.as_ref().map(|times| times.slice(offset, length)),
            origins: self.origins.as_ref().map(|origins| origins.slice(offset, length)),
            kinds: self.kinds.as_ref().map(|kinds| kinds.slice(offset, length)),
        }
    }

    /// The first place from `at` on where a cut leaves the halves of every update together.
    pub fn cut(&self, at: usize) -> usize {
        self.kinds.as_ref().map_or(at, |kinds| kind::cut(kinds, at))
    }

    /// All rows of `parts` in order. One part alone is not copied.
    ///
    /// Errors: no part; parts whose columns differ, or of which only some have times or origins.
    pub fn concat(parts: &[Self]) -> Result<Self, ArrowError> {
        let [first, rest @ ..] = parts else {
            return Err(ArrowError::InvalidArgumentError("no rows to put together".to_owned()));
        };
        if rest.is_empty() {
            return Ok(first.clone());
        }
        let batches = parts.iter().map(|part| &part.batch);
        Ok(Self {
            batch: compute::concat_batches(first.batch.schema_ref(), batches)?,
            times: joined(parts, |part| part.times.as_ref())?,
            origins: joined(parts, |part| part.origins.as_ref())?,
            kinds: kinds_of(parts),
        })
    }

    /// Bytes that the rows take up, columns, times, origins and kinds together; of a slice, its share.
    pub fn size_bytes(&self) -> usize {
        let columns: usize = self.batch.columns().iter().map(column_bytes).sum();
        let beside = usize::from(self.times.is_some()) + usize::from(self.origins.is_some());
        let kinds = if self.kinds.is_some() { self.len() } else { 0 };
        columns + beside * size_of::<u64>() * self.len() + kinds
    }

    /// The same rows with other columns.
    ///
    /// Errors: columns that do not fit `schema` or have another number of rows.
    pub fn with_columns(
        &self,
        schema: SchemaRef,
        columns: Vec<ArrayRef>,
    ) -> Result<Self, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.len()));
        Ok(Self {
            batch: RecordBatch::try_new_with_options(schema, columns, &options)?,
            times: self.times.clone(),
            origins: self.origins.clone(),
            kinds: self.kinds.clone(),
        })
    }

    /// What row `index` says.
    pub fn kind(&self, index: usize) -> Kind {
        let number = self.kinds.as_ref().map(|kinds| kinds.value(index));
        number.and_then(Kind::of).unwrap_or(Kind::Insert)
    }

    /// The greatest event time, if rows have times and there is a row.
    pub fn max_time_ms(&self) -> Option<i64> {
        self.times.as_ref().and_then(compute::max)
    }

    /// Where row `index` was read, as far as that is known.
    pub fn origin(&self, index: usize) -> Option<Origin> {
        let origins = self.origins.as_ref()?;
        (index < origins.len() && origins.is_valid(index)).then(|| Origin(origins.value(index)))
    }
}

fn column_bytes(column: &ArrayRef) -> usize {
    let data = column.to_data();
    // Types whose slices Arrow can't measure are counted whole.
    data.get_slice_memory_size().unwrap_or_else(|_| data.get_buffer_memory_size())
}

fn filtered<A: Array + Clone + 'static>(
    array: Option<&A>,
    predicate: &FilterPredicate,
) -> Result<Option<A>, ArrowError> {
    array.map(|array| downcast(predicate.filter(array)?)).transpose()
}

fn taken<A: Array + Clone + 'static>(
    array: Option<&A>,
    indices: &UInt32Array,
) -> Result<Option<A>, ArrowError> {
    array.map(|array| downcast(compute::take(array, indices, CHECKED)?)).transpose()
}

fn joined<A: Array + Clone + 'static>(
    parts: &[Rows],
    of: impl Fn(&Rows) -> Option<&A>,
) -> Result<Option<A>, ArrowError> {
    let arrays: Vec<&dyn Array> =
        parts.iter().filter_map(&of).map(|array| array as &dyn Array).collect();
    if arrays.is_empty() {
        return Ok(None);
    }
    if arrays.len() != parts.len() {
        let text = "only some of the rows to put together have times or origins";
        return Err(ArrowError::InvalidArgumentError(text.to_owned()));
    }
    downcast(compute::concat(&arrays)?).map(Some)
}

/// Of parts of which only some have kinds, the others are inserts.
fn kinds_of(parts: &[Rows]) -> Option<UInt8Array> {
    if parts.iter().all(|part| part.kinds.is_none()) {
        return None;
    }
    let mut kinds = Vec::with_capacity(parts.iter().map(Rows::len).sum());
    for part in parts {
        match &part.kinds {
            Some(own) => kinds.extend_from_slice(own.values()),
            None => kinds.resize(kinds.len() + part.len(), Kind::Insert as u8),
        }
    }
    Some(UInt8Array::from(kinds))
}

/// Places where `mask` is true.
fn kept(mask: &BooleanArray) -> impl Iterator<Item = usize> {
    (0..mask.len()).filter(|row| mask.is_valid(*row) && mask.value(*row))
}

fn downcast<A: Array + Clone + 'static>(array: ArrayRef) -> Result<A, ArrowError> {
    match Arc::clone(&array).as_any().downcast_ref::<A>() {
        Some(array) => Ok(array.clone()),
        None => Err(ArrowError::CastError(format!("unexpected type {}", array.data_type()))),
    }
}

#[cfg(test)]
mod tests;
