//! Which columns are read, which one is event time, and which are passed on.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{
    DataType, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType,
};

use crate::rows::Rows;

/// The columns of a reader.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    /// What is read from the object.
    pub(crate) read: SchemaRef,
    /// Index of the event time in `read`.
    pub(crate) time: Option<usize>,
    /// Indices in `read` of what is passed on; the rest is only read.
    output: Vec<usize>,
    /// What is passed on.
    pub(crate) schema: SchemaRef,
}

/// What of a row is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// What is needed.
    Needed,
    /// All: whether a row is bad must not depend on what the pipeline uses of it.
    Whole,
}

/// A row without event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NullTime {
    /// Its index in the batch.
    pub(crate) row: usize,
}

impl Columns {
    /// Passes on those of `all` that are `wanted` (none: every one), and reads them and the event
    /// time's; the others too when rows must be checked whole.
    ///
    /// Errors: what is wrong with the event time's column, as a sentence about the object.
    pub(crate) fn new(
        all: &Schema,
        wanted: Option<&[String]>,
        event_time: Option<&str>,
        reading: Reading,
    ) -> Result<Self, String> {
        if let Some(name) = event_time {
            check_event_time(all, name)?;
        }
        let is_wanted =
            |name: &String| wanted.is_none_or(|wanted| wanted.iter().any(|column| column == name));
        let is_time = |name: &String| event_time.is_some_and(|time| time == name);
        let read: Vec<_> = all
            .fields()
            .iter()
            .filter(|field| {
                reading == Reading::Whole || is_wanted(field.name()) || is_time(field.name())
            })
            .cloned()
            .collect();
        let output: Vec<_> = (0..read.len()).filter(|&i| is_wanted(read[i].name())).collect();
        let schema = Schema::new(output.iter().map(|&i| Arc::clone(&read[i])).collect::<Vec<_>>());
        Ok(Self {
            time: read.iter().position(|field| is_time(field.name())),
            read: Schema::new(read).into(),
            output,
            schema: schema.into(),
        })
    }

    /// Makes rows of a batch with the columns of `read`.
    pub(crate) fn rows(&self, batch: &RecordBatch, origins: UInt64Array) -> Result<Rows, NullTime> {
        let times = self.time.map(|i| times(batch, i)).transpose()?;
        let batch = batch
            .project(&self.output)
            .expect("the batch has the columns of `read`, of which `output` are some");
        Ok(Rows { batch, times, origins: Some(origins), kinds: None })
    }
}

fn check_event_time(all: &Schema, name: &str) -> Result<(), String> {
    let Ok(field) = all.field_with_name(name) else {
        return Err(format!("has no column {name} for the event time"));
    };
    match field.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => Ok(()),
        other => Err(format!(
            "its column {name} is {}, but event time needs a timestamp",
            weir_expr::types::print(other)
        )),
    }
}

fn times(batch: &RecordBatch, column: usize) -> Result<Int64Array, NullTime> {
    let column = batch.column(column).as_primitive::<TimestampMillisecondType>();
    if let Some(row) = (0..column.len()).find(|&row| column.is_null(row)) {
        return Err(NullTime { row });
    }
    Ok(column.reinterpret_cast::<Int64Type>())
}
