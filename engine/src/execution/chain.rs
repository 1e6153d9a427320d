//! The stateless operators behind a stage's head: filter, select, reorder, down to its leaves.
//!
//! Synchronous: a batch goes in, what reaches each leaf comes out, in order. Sending and writing is
//! the business of `tail.rs`.

use std::sync::Arc;

use arrow::array::UInt64Array;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use weir_expr::{Predicate, Projection, RowError};

use super::counters::Counters;
use super::error::StageError;
use super::names::{RowNames, key_text};
use crate::pipeline::checked::{CheckedJob, CheckedVerb};
use crate::pipeline::graph;
use crate::rows::{Origin, Rows};

/// Where rows leave a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// The sink writer at this place in the stage.
    Sink(usize),
    /// The edge at this place in the stage.
    Edge(usize),
}

/// A writer of a sink step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SinkLeaf {
    /// Index of the step.
    pub(crate) step: usize,
    /// Number of this writer among all of its sink's.
    pub(crate) part: u32,
}

/// The compiled tree of one stage. Immutable but for its counters.
pub(crate) struct Chain {
    /// Of a keyed stage, which of its head's columns are the key.
    key_columns: Option<Vec<usize>>,
    nodes: Vec<Node>,
    roots: Vec<usize>,
    counters: Arc<Counters>,
    names: Arc<RowNames>,
}

/// Why a batch did not get through.
enum Failure {
    Row(Box<FailedRow>),
    Bug(Box<StageError>),
}

/// A step failed on one of these rows.
struct FailedRow {
    step: String,
    rows: Rows,
    error: RowError,
}

struct Node {
    step: usize,
    id: String,
    op: Op,
    outputs: Vec<usize>,
}

enum Op {
    Filter(Predicate),
    Select(Projection),
    Reorder(Vec<usize>, SchemaRef),
    Pass,
    Leaf(Leaf),
}

impl Chain {
    /// Compiles a stage's tree; gives its leaves too, in the order of their places: sinks, and edges
    /// by their index in the graph.
    pub(crate) fn new(
        job: &CheckedJob,
        stage: &graph::Stage,
        counters: Arc<Counters>,
        names: Arc<RowNames>,
    ) -> (Self, Vec<SinkLeaf>, Vec<usize>) {
        let mut builder = Builder { job, nodes: Vec::new(), sinks: Vec::new(), edges: Vec::new() };
        let roots = stage.outputs.iter().map(|node| builder.add(node)).collect();
        let key_columns = job.steps[stage.step].verb.key_in_output();
        let chain = Self { key_columns, nodes: builder.nodes, roots, counters, names };
        (chain, builder.sinks, builder.edges)
    }

    /// Runs a batch through the tree. What reaches the leaves is given in order of the tree.
    ///
    /// Errors: the first row that fails, named by its origin, or behind an aggregate by its key.
    pub(crate) fn run(&self, rows: Rows, out: &mut Vec<(Leaf, Rows)>) -> Result<(), StageError> {
        let Some(key_columns) = &self.key_columns else {
            return self.walk(rows, out).map_err(|failure| match failure {
                Failure::Row(row) => self.names.row_error(&row.step, &row.rows, &row.error),
                Failure::Bug(error) => *error,
            });
        };
        // Behind an aggregate rows have no origin: which row of the batch they come from stands in
        // its place, until they leave the stage.
        let numbers: UInt64Array = (0..rows.len() as u64).map(Some).collect();
        let head = rows.batch.clone();
        let first = out.len();
        let walked = self.walk(Rows { origins: Some(numbers), ..rows }, out);
        for (_, rows) in &mut out[first..] {
            rows.origins = None;
        }
        walked.map_err(|failure| match failure {
            Failure::Row(row) => {
                let FailedRow { step, rows, error } = *row;
                let row = rows.origin(error.row).map_or(0, |Origin(row)| row);
                let row = usize::try_from(row).unwrap_or_default();
                let key = key_columns.iter().map(|column| Arc::clone(head.column(*column)));
                let key = key_text(&key.collect::<Vec<_>>(), row);
                StageError::Key { step, key, message: error.message }
            }
            Failure::Bug(error) => *error,
        })
    }

    fn walk(&self, rows: Rows, out: &mut Vec<(Leaf, Rows)>) -> Result<(), Failure> {
        let mut work: Vec<(usize, Rows)> = Vec::with_capacity(self.roots.len());
        work.extend(self.roots.iter().rev().map(|root| (*root, rows.clone())));
        drop(rows);
        while let Some((place, rows)) = work.pop() {
            if rows.is_empty() {
                continue;
            }
            let node = &self.nodes[place];
            let counter = self.counters.step(node.step);
            // What is sent is counted where it arrives.
            if !matches!(node.op, Op::Leaf(Leaf::Edge(_))) {
                counter.add_in(rows.len());
            }
            if let Op::Leaf(leaf) = node.op {
                out.push((leaf, rows));
                continue;
            }
            let rows = self.apply(node, rows)?;
            counter.add_out(rows.len());
            work.extend(node.outputs.iter().rev().map(|output| (*output, rows.clone())));
        }
        Ok(())
    }

    fn apply(&self, node: &Node, rows: Rows) -> Result<Rows, Failure> {
        let bad_row = |error: RowError| {
            Failure::Row(Box::new(FailedRow { step: node.id.clone(), rows: rows.clone(), error }))
        };
        let bug = |error: ArrowError| Failure::Bug(Box::new(self.names.bug(&node.id, &error)));
        match &node.op {
            Op::Filter(predicate) => {
                let mask = predicate.evaluate(&rows.batch).map_err(bad_row)?;
                rows.filter(&mask).map_err(bug)
            }
            Op::Select(projection) => {
                let batch = projection.evaluate(&rows.batch).map_err(bad_row)?;
                Ok(Rows { batch, ..rows })
            }
            Op::Reorder(columns, schema) => {
                let columns = columns.iter().map(|column| Arc::clone(rows.batch.column(*column)));
                rows.with_columns(Arc::clone(schema), columns.collect()).map_err(bug)
            }
            Op::Pass | Op::Leaf(_) => Ok(rows),
        }
    }
}

struct Builder<'a> {
    job: &'a CheckedJob,
    nodes: Vec<Node>,
    sinks: Vec<SinkLeaf>,
    edges: Vec<usize>,
}

impl Builder<'_> {
    fn add(&mut self, node: &graph::Node) -> usize {
        let op = self.op(node);
        let outputs = node.outputs.iter().map(|output| self.add(output)).collect();
        let id = self.job.steps[node.step].id.clone();
        self.nodes.push(Node { step: node.step, id, op, outputs });
        self.nodes.len() - 1
    }

    fn op(&mut self, node: &graph::Node) -> Op {
        let step = &self.job.steps[node.step];
        match (&node.op, &step.verb) {
            (graph::Op::Sink { part }, _) => {
                self.sinks.push(SinkLeaf { step: node.step, part: *part });
                Op::Leaf(Leaf::Sink(self.sinks.len() - 1))
            }
            (graph::Op::Edge(edge), _) => {
                self.edges.push(*edge);
                Op::Leaf(Leaf::Edge(self.edges.len() - 1))
            }
            (graph::Op::Union(Some(columns)), _) => {
                Op::Reorder(columns.clone(), SchemaRef::clone(&step.schema))
            }
            (graph::Op::Filter, CheckedVerb::Filter(predicate)) => Op::Filter(predicate.clone()),
            (graph::Op::Select, CheckedVerb::Select(projection)) => Op::Select(projection.clone()),
            (graph::Op::Filter | graph::Op::Select | graph::Op::Union(None), _) => Op::Pass,
        }
    }
}
