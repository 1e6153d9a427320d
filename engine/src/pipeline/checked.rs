//! A job whose columns, types and expressions hold. Only [`crate::pipeline::check`] makes one.

use std::collections::BTreeMap;

use arrow::datatypes::{Schema, SchemaRef};
use weir_expr::{Aggregates, Predicate, Projection};

use crate::pipeline::spec::{Emit, FileFormat, SinkSpec, SourceKind, TableSpec, WindowSpec};

/// Columns of each source by step id, in pipeline types (`weir_expr::types::normal_schema`).
///
/// Needed of parquet sources alone: the others' columns follow from the declaration.
pub type SourceSchemas = BTreeMap<String, Schema>;

/// A checked job. Steps are known by their index, which is that of the declaration.
#[derive(Clone, Debug)]
pub struct CheckedJob {
    /// The steps, in flow order.
    pub steps: Vec<CheckedStep>,
}

impl CheckedJob {
    /// Whether a row of this step may come anew though the one before was not taken back: a group
    /// that its `ttl` ended writes nothing, and its key begins another.
    pub fn forgets(&self, step: usize) -> bool {
        let step = &self.steps[step];
        let has_ttl = |verb: &CheckedVerb| matches!(verb, CheckedVerb::Aggregate(aggregate) if aggregate.ttl_ms.is_some());
        has_ttl(&step.verb) || step.inputs.iter().any(|input| self.forgets(*input))
    }
}

/// A step with its inputs and output.
#[derive(Clone, Debug)]
pub struct CheckedStep {
    /// Its id.
    pub id: String,
    /// Indices of the steps it reads; all are smaller than its own.
    pub inputs: Vec<usize>,
    /// What it does.
    pub verb: CheckedVerb,
    /// Columns of its rows; of a sink, those it writes.
    pub schema: SchemaRef,
    /// Whether its rows have event time.
    pub has_time: bool,
    /// Whether its rows may be revised: they have kinds, and a sink writes them.
    pub changelog: bool,
    /// Of a step with state: a fingerprint of what the state means. While it stays the same, the
    /// step takes up its old state.
    pub signature: Option<String>,
}

/// What a checked step does.
#[derive(Clone, Debug)]
pub enum CheckedVerb {
    /// Reads rows from outside.
    Source(CheckedSource),
    /// Keeps rows.
    Filter(Predicate),
    /// Projects.
    Select(Projection),
    /// Rows of all inputs.
    Union {
        /// For each input, which of its columns becomes column 0, 1, … of the output; none: its
        /// columns are in order already.
        reorder: Vec<Option<Vec<usize>>>,
    },
    /// One row per group.
    Aggregate(CheckedAggregate),
    /// Keeps the current rows by key and writes them as snapshots.
    Table(CheckedTable),
    /// Writes rows to the outside.
    Sink(SinkSpec),
}

impl CheckedVerb {
    /// Of a step with keyed state: the columns of its input with this number by which rows find
    /// their state. None: it has no such state.
    pub fn key(&self, input: usize) -> Option<&[usize]> {
        match self {
            Self::Aggregate(CheckedAggregate { key, .. })
            | Self::Table(CheckedTable { key, .. }) => (input == 0).then_some(key),
            _ => None,
        }
    }

    /// Of a step whose rows come out of keyed state: the key's columns among its own.
    pub fn key_in_output(&self) -> Option<Vec<usize>> {
        match self {
            Self::Aggregate(CheckedAggregate { key, .. }) => Some((0..key.len()).collect()),
            _ => None,
        }
    }
}

/// A source whose columns are known.
#[derive(Clone, Debug)]
pub struct CheckedSource {
    /// Where rows come from.
    pub kind: SourceKind,
    /// Format of a `files` source.
    pub format: Option<FileFormat>,
    /// Rows per second of all splits together; none: as fast as they are read.
    pub rate: Option<u64>,
    /// Event time, if rows have it.
    pub event_time: Option<CheckedEventTime>,
}

/// Where a source's event time lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedEventTime {
    /// Index of a timestamp column.
    pub column: usize,
    /// The watermark is the greatest time seen minus this.
    pub delay_ms: i64,
}

/// An aggregation. Columns: the key, with a window `window_start` and `window_end`, the values.
#[derive(Clone, Debug)]
pub struct CheckedAggregate {
    /// Indices of the key's columns in the input; empty: one global group.
    pub key: Vec<usize>,
    /// The window; none: all rows of a key are one group.
    pub window: Option<WindowSpec>,
    /// When results are written. At the close their event time is their window's end − 1 ms, else
    /// that of the row that caused the change.
    pub emit: Emit,
    /// How long after its last write a group without a window is kept, in milliseconds.
    pub ttl_ms: Option<i64>,
    /// Whether rows of the input have event time.
    pub input_has_time: bool,
    /// Whether rows of the input may be revised.
    pub input_changelog: bool,
    /// How long after its end a window still takes rows, in milliseconds.
    pub lateness_ms: i64,
    /// The values.
    pub aggregates: Aggregates,
}

/// A table: the rows of its input, one for each key.
#[derive(Clone, Debug)]
pub struct CheckedTable {
    /// Indices of the key's columns.
    pub key: Vec<usize>,
    /// What was declared.
    pub spec: TableSpec,
}
