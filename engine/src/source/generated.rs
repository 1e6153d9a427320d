//! Generated sources: rows that are functions of the event number, in blocks of consecutive ones.
//!
//! - `keys.rs`, `sequence` (here), `nexmark.rs` — the functions. They are part of the public form:
//!   a change of one changes every result.
//!
//! Blocks are the splits. They are small, because the watermark follows the first block that is not
//! done. Where events are of several kinds (`nexmark`), a stream has the rows of one kind, and its
//! blocks are cut by event number all the same, so that streams of one source keep abreast.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringBuilder,
    TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;

use crate::pipeline::spec::{NexmarkStream, SourceKind};
use crate::rows::Rows;
use crate::source::columns::Columns;
use crate::source::keys::Keys;
use crate::source::nexmark::{self, Nexmark};
use crate::source::{SourceError, SplitReader};

/// Event time of event 0.
pub(crate) const FIRST_TIME_MS: i64 = 1_436_918_400_000;
/// Events of a block.
pub(crate) const BLOCK_EVENTS: u64 = 1_024;
/// Events of a block of `nexmark`: a multiple of those that hold each kind once.
const NEXMARK_BLOCK_EVENTS: u64 = 20 * nexmark::EPOCH_EVENTS;

/// How event numbers are cut into splits, and which of them are rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Events; none: without end.
    events: Option<u64>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Every event is a row, so many milliseconds after the one before.
    Every {
        ms: u64,
    },
    Nexmark {
        stream: NexmarkStream,
        events_per_second: u64,
    },
}

impl Blocks {
    /// Each event is a row, `every_ms` after the one before it.
    pub(crate) const fn every(events: Option<u64>, every_ms: u64) -> Self {
        Self { events, kind: Kind::Every { ms: every_ms } }
    }

    /// Of a generated source; `None` of another.
    pub(crate) fn of(kind: &SourceKind) -> Option<Self> {
        match *kind {
            SourceKind::Files { .. } => None,
            SourceKind::Keys { count, .. } => Some(Self::every(count, 1)),
            SourceKind::Sequence { count, every_ms } => Some(Self::every(count, every_ms)),
            SourceKind::Nexmark { stream, events, events_per_second } => {
                let events_per_second = events_per_second.max(1);
                Some(Self { events, kind: Kind::Nexmark { stream, events_per_second } })
            }
        }
    }

    const fn block_events(&self) -> u64 {
        match self.kind {
            Kind::Every { .. } => BLOCK_EVENTS,
            Kind::Nexmark { .. } => NEXMARK_BLOCK_EVENTS,
        }
    }

    /// How many blocks there are; none: without end.
    pub fn count(&self) -> Option<u64> {
        self.events.map(|events| events.div_ceil(self.block_events()))
    }

    /// Rows of a block.
    pub(crate) fn rows(&self, block: u64) -> u64 {
        let rows = self.row_numbers(block);
        rows.end - rows.start
    }

    /// Numbers of a block's rows among all rows of the stream.
    fn row_numbers(&self, block: u64) -> Range<u64> {
        let first = block.saturating_mul(self.block_events());
        let end = first.saturating_add(self.block_events());
        let end = self.events.map_or(end, |events| end.min(events.max(first)));
        self.rows_before(first)..self.rows_before(end)
    }

    /// How many of the first `events` are rows.
    fn rows_before(&self, events: u64) -> u64 {
        match self.kind {
            Kind::Every { .. } => events,
            Kind::Nexmark { stream, .. } => {
                let (first, rows) = nexmark::place(stream);
                let (whole, rest) =
                    (events / nexmark::EPOCH_EVENTS, events % nexmark::EPOCH_EVENTS);
                whole * rows + rest.saturating_sub(first).min(rows)
            }
        }
    }

    /// Number of the event that is this row.
    fn event(&self, row: u64) -> u64 {
        match self.kind {
            Kind::Every { .. } => row,
            Kind::Nexmark { stream, .. } => {
                let (first, rows) = nexmark::place(stream);
                row / rows * nexmark::EPOCH_EVENTS + first + row % rows
            }
        }
    }

    pub(crate) fn time_ms(&self, event: u64) -> i64 {
        match self.kind {
            Kind::Every { ms } => FIRST_TIME_MS.saturating_add_unsigned(event.saturating_mul(ms)),
            Kind::Nexmark { events_per_second, .. } => nexmark::time_ms(event, events_per_second),
        }
    }

    /// Event time of the last row of a block; none: it has no row.
    pub(crate) fn max_time_ms(&self, block: u64) -> Option<i64> {
        let rows = self.row_numbers(block);
        (!rows.is_empty()).then(|| self.time_ms(self.event(rows.end - 1)))
    }

    /// So many of so many events are rows.
    pub(crate) const fn share(&self) -> (u64, u64) {
        match self.kind {
            Kind::Every { .. } => (1, 1),
            Kind::Nexmark { stream, .. } => (nexmark::place(stream).1, nexmark::EPOCH_EVENTS),
        }
    }
}

/// The columns of a generated source, and which is its event time; `None` of another.
pub(crate) fn schema(kind: &SourceKind) -> Option<Schema> {
    match kind {
        SourceKind::Files { .. } => None,
        SourceKind::Keys { .. } => Some(Keys::schema()),
        SourceKind::Sequence { .. } => Some(Schema::new(vec![
            Field::new("seq", DataType::Int64, true),
            Field::new("time", weir_expr::types::timestamp(), true),
        ])),
        SourceKind::Nexmark { stream, .. } => Some(nexmark::schema(*stream)),
    }
}

/// The column of a generated source's event time; `None` of another.
pub(crate) fn time_column(kind: &SourceKind) -> Option<&'static str> {
    match kind {
        SourceKind::Files { .. } => None,
        SourceKind::Keys { .. } | SourceKind::Sequence { .. } => Some("time"),
        SourceKind::Nexmark { .. } => Some("date_time"),
    }
}

/// What a generated source is called in errors.
pub(crate) fn name(kind: &SourceKind) -> &'static str {
    match kind {
        SourceKind::Files { .. } => "files",
        SourceKind::Keys { .. } => "generate.keys",
        SourceKind::Sequence { .. } => "generate.sequence",
        SourceKind::Nexmark { .. } => "generate.nexmark",
    }
}

/// A generated source that is ready to make rows.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    pub(crate) blocks: Blocks,
    function: Function,
}

#[derive(Clone, Debug)]
enum Function {
    Keys(Keys),
    Sequence,
    Nexmark(Nexmark),
}

impl Generated {
    /// `None` for a source that is not generated.
    pub(crate) fn of(kind: &SourceKind) -> Option<Self> {
        let blocks = Blocks::of(kind)?;
        let function = match *kind {
            SourceKind::Nexmark { stream, events_per_second, .. } => {
                let events_per_second = events_per_second.max(1);
                Function::Nexmark(Nexmark { stream, events_per_second, with_extra: true })
            }
            SourceKind::Sequence { .. } => Function::Sequence,
            _ => Function::Keys(Keys::of(kind)?),
        };
        Some(Self { blocks, function })
    }

    fn batch(&self, columns: &Columns, rows: Range<u64>) -> (RecordBatch, UInt64Array) {
        let events: Vec<u64> = rows.map(|row| self.blocks.event(row)).collect();
        let fields = columns.read.fields();
        let arrays = match &self.function {
            Function::Nexmark(nexmark) => nexmark_columns(nexmark, columns, &events),
            Function::Sequence => {
                fields.iter().map(|field| self.common(field.name(), &events)).collect()
            }
            Function::Keys(keys) => {
                let column = |name: &str| {
                    keys.column(name, &events).unwrap_or_else(|| self.common(name, &events))
                };
                fields.iter().map(|field| column(field.name())).collect()
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(events.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&columns.read), arrays, &options)
            .expect("every column has its type and a value for every event");
        (batch, UInt64Array::from(events))
    }

    /// The columns `seq` and `time`.
    fn common(&self, name: &str, events: &[u64]) -> ArrayRef {
        if name == "seq" {
            let number = |event: &u64| i64::try_from(*event).unwrap_or(i64::MAX);
            return Arc::new(Int64Array::from_iter_values(events.iter().map(number)));
        }
        let times = events.iter().map(|event| self.blocks.time_ms(*event));
        let times = TimestampMillisecondArray::from_iter_values(times);
        Arc::new(times.with_data_type(weir_expr::types::timestamp()))
    }
}

/// A value of a row that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Int(i64),
    Time(i64),
    /// A stretch of the row's text.
    Text(Range<usize>),
}

/// A row that is being made; reused for the next one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) cells: Vec<Cell>,
    pub(crate) text: String,
}

impl Row {
    pub(crate) fn int(&mut self, value: u64) {
        self.cells.push(Cell::Int(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    pub(crate) fn text(&mut self, write: impl FnOnce(&mut String)) {
        let begin = self.text.len();
        write(&mut self.text);
        self.cells.push(Cell::Text(begin..self.text.len()));
    }
}

enum Builder {
    Int(Vec<i64>),
    Time(Vec<i64>),
    Text(StringBuilder),
}

impl Builder {
    fn of(field: &Field, rows: usize) -> Self {
        match field.data_type() {
            DataType::Int64 => Self::Int(Vec::with_capacity(rows)),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            _ => Self::Time(Vec::with_capacity(rows)),
        }
    }

    fn append(&mut self, cell: &Cell, text: &str) {
        match (self, cell) {
            (Self::Int(values), Cell::Int(value)) | (Self::Time(values), Cell::Time(value)) => {
                values.push(*value);
            }
            (Self::Text(values), Cell::Text(at)) => values.append_value(&text[at.clone()]),
            _ => unreachable!("a row's cells have the types of its stream's columns"),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Int(values) => Arc::new(Int64Array::from(values)),
            Self::Time(values) => Arc::new(
                TimestampMillisecondArray::from(values)
                    .with_data_type(weir_expr::types::timestamp()),
            ),
            Self::Text(mut values) => Arc::new(values.finish()),
        }
    }
}

fn nexmark_columns(nexmark: &Nexmark, columns: &Columns, events: &[u64]) -> Vec<ArrayRef> {
    let all = nexmark::schema(nexmark.stream);
    let fields = columns.read.fields();
    let wanted: Vec<usize> =
        fields.iter().filter_map(|field| all.index_of(field.name()).ok()).collect();
    let mut builders: Vec<Builder> =
        fields.iter().map(|field| Builder::of(field, events.len())).collect();
    let with_extra = wanted.contains(&(all.fields().len() - 1));
    let nexmark = Nexmark { with_extra, ..nexmark.clone() };
    let mut row = Row::default();
    for event in events {
        row.cells.clear();
        row.text.clear();
        nexmark.fill(*event, &mut row);
        for (place, builder) in wanted.iter().zip(&mut builders) {
            builder.append(&row.cells[*place], &row.text);
        }
    }
    builders.into_iter().map(Builder::finish).collect()
}

/// Generates the rest of one block.
pub(crate) struct GeneratedReader {
    generated: Generated,
    columns: Columns,
    rows: Range<u64>,
    position: u64,
    source: u8,
}

impl GeneratedReader {
    /// Opens a block; `position` counts its rows.
    pub(crate) fn open(
        generated: Generated,
        columns: Columns,
        block: u64,
        position: u64,
        source: u8,
    ) -> Self {
        let rows = generated.blocks.row_numbers(block);
        Self { generated, columns, rows, position, source }
    }
}

#[async_trait]
impl SplitReader for GeneratedReader {
    async fn next(&mut self, rows_max: usize) -> Result<Option<Rows>, SourceError> {
        let first = self.rows.start + self.position;
        let taken = self.rows.end.saturating_sub(first).min(rows_max.max(1) as u64);
        if taken == 0 {
            return Ok(None);
        }
        let (batch, events) = self.generated.batch(&self.columns, first..first + taken);
        // Origins of generated rows: source (8 bits), event number (56).
        let base = u64::from(self.source) << 56;
        let origins = arrow::compute::unary(&events, |event| base | event);
        self.position += taken;
        Ok(Some(self.columns.rows(&batch, origins).expect("generated rows have event times")))
    }

    fn position(&self) -> u64 {
        self.position
    }
}

#[cfg(test)]
mod tests;
