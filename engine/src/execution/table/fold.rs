//! What is kept of a key's rows, and how a row changes it. Pure.
//!
//! Rows are kept as their canonical bytes (`rows::key`), all columns in order. The stored form is
//! fixed by docs/design/0010-table-sink.md.
//!
//! What must stay true: the fold of a changelog does not depend on the order in which the rows of
//! several writers come. A retraction takes back an equal row, also one that is still to come.

use std::cmp::Ordering;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::{FieldRef, Schema};
use arrow::row::{RowConverter, SortField};
use bytes::{Buf, BufMut, Bytes};
use weir_runtime::sim::planted::{Planted, planted};

use crate::rows::Kind;
use crate::rows::key::{KeyError, decode_keys};

/// First byte of a stored value: the version.
const VERSION: u8 = 1;
const LATEST: u8 = 0;
const LIVE: u8 = 1;

/// What is kept of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Of inserts: the row that won, and its event time.
    Latest { time_ms: Option<i64>, row: Bytes },
    /// Of a changelog: distinct rows, how often each is there, in order of their bytes. Less than
    /// never: a retraction came first.
    Live(Vec<(Bytes, i64)>),
}

/// Why a stored value or a snapshot can't be made sense of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoldError {
    /// Stored bytes are not ours.
    #[error("{0}")]
    Damaged(&'static str),
    /// A row can't be read.
    #[error(transparent)]
    Row(#[from] KeyError),
    /// Rows can't be compared.
    #[error(transparent)]
    Compare(#[from] arrow::error::ArrowError),
}

/// The one row of a key, or why there is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Current {
    /// None.
    Gone,
    /// This one.
    Row(Bytes),
    /// So many; the first two of them.
    Several(i64, [Bytes; 2]),
    /// A row was taken back more often than it came.
    Missing(Bytes),
}

impl Held {
    /// Nothing yet.
    pub(crate) fn nothing() -> Self {
        Self::Live(Vec::new())
    }

    /// An insert: the greatest event time wins, of equal ones the least row; without event time the
    /// last arrival.
    pub(crate) fn upsert(
        &mut self,
        time_ms: Option<i64>,
        row: Bytes,
        columns: &Columns,
    ) -> Result<(), FoldError> {
        if let Self::Latest { time_ms: held, row: known } = self {
            let wins = match time_ms.cmp(held) {
                _ if time_ms.is_none() || planted(Planted::LastArrivalWins) => true,
                Ordering::Greater => true,
                Ordering::Less => false,
                Ordering::Equal => columns.compare(&row, known)? == Ordering::Less,
            };
            if !wins {
                return Ok(());
            }
        }
        *self = Self::Latest { time_ms, row };
        Ok(())
    }

    /// A row of a changelog.
    pub(crate) fn change(&mut self, kind: Kind, row: Bytes) {
        let Self::Live(rows) = self else {
            // A changelog's table holds nothing else.
            *self = Self::Live(Vec::new());
            return self.change(kind, row);
        };
        let by = if kind.retracts() { -1 } else { 1 };
        match rows.binary_search_by(|(known, _)| known.cmp(&row)) {
            Ok(place) => {
                rows[place].1 += by;
                if rows[place].1 == 0 {
                    rows.remove(place);
                }
            }
            Err(_) if by < 0 && planted(Planted::EarlyRetractionLost) => {}
            Err(place) => rows.insert(place, (row, by)),
        }
    }

    /// The row that the table shows.
    pub(crate) fn current(&self) -> Current {
        match self {
            Self::Latest { row, .. } => Current::Row(row.clone()),
            Self::Live(rows) => match rows.as_slice() {
                [] => Current::Gone,
                [(row, 1)] => Current::Row(row.clone()),
                several => match several.iter().find(|(_, count)| *count < 0) {
                    Some((row, _)) => Current::Missing(row.clone()),
                    None => {
                        let first = &several[0];
                        let second = if first.1 > 1 { first } else { &several[1] };
                        Current::Several(
                            several.iter().map(|(_, count)| count).sum(),
                            [first.0.clone(), second.0.clone()],
                        )
                    }
                },
            },
        }
    }

    /// As it is stored; `None`: not at all.
    pub(crate) fn encode(&self) -> Option<Bytes> {
        let mut bytes = vec![VERSION];
        match self {
            Self::Latest { time_ms, row } => {
                bytes.put_u8(LATEST);
                bytes.put_u8(u8::from(time_ms.is_some()));
                bytes.put_i64_le(time_ms.unwrap_or(0));
                bytes.put_slice(row);
            }
            Self::Live(rows) if rows.is_empty() => return None,
            Self::Live(rows) => {
                bytes.put_u8(LIVE);
                for (row, count) in rows {
                    bytes.put_i64_le(*count);
                    bytes.put_u32_le(u32::try_from(row.len()).unwrap_or(u32::MAX));
                    bytes.put_slice(row);
                }
            }
        }
        Some(bytes.into())
    }

    /// What [`Held::encode`] gave.
    pub(crate) fn decode(stored: &Bytes) -> Result<Self, FoldError> {
        const CUT: FoldError = FoldError::Damaged("a value of a table is cut off");
        let mut bytes = stored.clone();
        match bytes.try_get_u8() {
            Ok(VERSION) => {}
            Ok(_) => return Err(FoldError::Damaged("a newer version of Weir wrote it")),
            Err(_) => return Err(CUT),
        }
        match bytes.try_get_u8() {
            Ok(LATEST) => {
                let has_time = bytes.try_get_u8().map_err(|_| CUT)? != 0;
                let time_ms = bytes.try_get_i64_le().map_err(|_| CUT)?;
                Ok(Self::Latest { time_ms: has_time.then_some(time_ms), row: bytes })
            }
            Ok(LIVE) => {
                let mut rows = Vec::new();
                while bytes.has_remaining() {
                    let count = bytes.try_get_i64_le().map_err(|_| CUT)?;
                    let length = bytes.try_get_u32_le().map_err(|_| CUT)? as usize;
                    if bytes.remaining() < length {
                        return Err(CUT);
                    }
                    rows.push((bytes.split_to(length), count));
                }
                Ok(Self::Live(rows))
            }
            _ => Err(FoldError::Damaged("a value of a table has an unknown form")),
        }
    }
}

/// The columns of a table's rows.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    fields: Vec<FieldRef>,
    /// Their places in the order of their names.
    by_name: Vec<usize>,
}

impl Columns {
    pub(crate) fn new(schema: &Schema) -> Self {
        let fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        let mut by_name: Vec<usize> = (0..fields.len()).collect();
        by_name.sort_by(|a, b| fields[*a].name().cmp(fields[*b].name()));
        Self { fields, by_name }
    }

    /// Rows as columns.
    pub(crate) fn read(&self, rows: &[Bytes]) -> Result<Vec<ArrayRef>, KeyError> {
        decode_keys(rows, &self.fields)
    }

    /// By all columns in alphabetical order, ascending, nulls last.
    fn compare(&self, one: &Bytes, other: &Bytes) -> Result<Ordering, FoldError> {
        if one == other {
            return Ok(Ordering::Equal);
        }
        let columns = self.read(&[one.clone(), other.clone()])?;
        let options = SortOptions { descending: false, nulls_first: false };
        let field = |place: &usize| {
            SortField::new_with_options(self.fields[*place].data_type().clone(), options)
        };
        let converter = RowConverter::new(self.by_name.iter().map(field).collect())?;
        let sorted: Vec<ArrayRef> =
            self.by_name.iter().map(|place| ArrayRef::clone(&columns[*place])).collect();
        let rows = converter.convert_columns(&sorted)?;
        Ok(rows.row(0).cmp(&rows.row(1)))
    }
}

#[cfg(test)]
mod tests;
