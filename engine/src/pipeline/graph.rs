//! A checked job cut into stages that exchange rows by key.
//!
//! A stage has a head (a source, or a step with keyed state) and a tree of stateless operators that
//! ends in sinks and in edges to other stages' heads. A union vanishes: what stands behind it is
//! instantiated on every path through it, and the columns of later inputs are put into the order of
//! the first's.
//!
//! What must stay true: the graph is a function of the checked job alone; an edge leads from a
//! stage to a later one, so there are no cycles; one sink's leaves have different `part` numbers
//! over all stages, so that no two writers of a subtask make the same object name.

use arrow::datatypes::SchemaRef;

use crate::pipeline::checked::{CheckedJob, CheckedVerb};

/// Stages and the keyed exchanges between them. Both are known by their index.
#[derive(Clone, Debug)]
pub struct Graph {
    /// In the order of their head's steps.
    pub stages: Vec<Stage>,
    /// In the order of the stages they come from.
    pub edges: Vec<Edge>,
}

/// What one task per subtask runs: a head and the operators behind it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Index of the head's step in the job.
    pub step: usize,
    /// What the head is.
    pub head: Head,
    /// Edges that lead to the head; none for a source.
    pub inputs: Vec<usize>,
    /// Where the head's rows go: to each of these.
    pub outputs: Vec<Node>,
}

/// The first step of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Reads splits.
    Source,
    /// Keyed state: aggregates, tables.
    Keyed,
}

/// An operator and where its rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Index of the step in the job; its compiled expressions stand there.
    pub step: usize,
    /// What is done with each batch.
    pub op: Op,
    /// Where the results go: to each of these. Empty for the leaves `Sink` and `Edge`.
    pub outputs: Vec<Node>,
}

/// What an operator does with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Keeps the rows of the step's predicate.
    Filter,
    /// Applies the step's projection.
    Select,
    /// Part of a union: takes these columns of its input, in this order; none: as they are.
    Union(Option<Vec<usize>>),
    /// Writes to the sink step.
    Sink {
        /// Number of this writer among all leaves of its sink.
        part: u32,
    },
    /// Sends to the head of another stage, by key.
    Edge(usize),
}

/// A keyed exchange from all subtasks of one stage to all of another.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Index of the sending stage. If its head is a source, progress of splits travels on the edge
    /// and rows carry origins; else watermarks.
    pub from: usize,
    /// Index of the receiving stage.
    pub to: usize,
    /// Which input of the receiving stage's head it is: a join has two.
    pub input: usize,
    /// Columns of the rows.
    pub schema: SchemaRef,
    /// Indices of the key's columns.
    pub key: Vec<usize>,
}

impl Graph {
    /// Cuts `job` into stages.
    pub fn new(job: &CheckedJob) -> Self {
        let heads: Vec<usize> =
            (0..job.steps.len()).filter(|step| head(job, *step).is_some()).collect();
        let mut builder =
            Builder { job, heads: &heads, edges: Vec::new(), parts: vec![0; job.steps.len()] };
        let mut stages = Vec::with_capacity(heads.len());
        for (from, step) in heads.iter().enumerate() {
            let outputs = builder.readers_of(*step, from);
            let head = head(job, *step).unwrap_or(Head::Source);
            stages.push(Stage { step: *step, head, inputs: Vec::new(), outputs });
        }
        let edges = builder.edges;
        for (index, edge) in edges.iter().enumerate() {
            stages[edge.to].inputs.push(index);
        }
        Self { stages, edges }
    }

    /// The stage whose head is `step`.
    pub fn stage_of(&self, step: usize) -> Option<usize> {
        self.stages.iter().position(|stage| stage.step == step)
    }
}

fn head(job: &CheckedJob, step: usize) -> Option<Head> {
    match job.steps[step].verb {
        CheckedVerb::Source(_) => Some(Head::Source),
        ref verb => verb.key(0).map(|_| Head::Keyed),
    }
}

struct Builder<'a> {
    job: &'a CheckedJob,
    heads: &'a [usize],
    edges: Vec<Edge>,
    /// Next part number of each sink step.
    parts: Vec<u32>,
}

impl Builder<'_> {
    /// A node for each input of a step that reads `step`; a step that reads it twice has two.
    fn readers_of(&mut self, step: usize, stage: usize) -> Vec<Node> {
        let job = self.job;
        let mut nodes = Vec::new();
        for (reader, checked) in job.steps.iter().enumerate().skip(step + 1) {
            for (input, from) in checked.inputs.iter().enumerate() {
                if *from == step {
                    nodes.push(self.node(reader, input, stage));
                }
            }
        }
        nodes
    }

    fn node(&mut self, step: usize, input: usize, stage: usize) -> Node {
        let op = self.op(step, input, stage);
        let outputs = match op {
            Op::Sink { .. } | Op::Edge(_) => Vec::new(),
            _ => self.readers_of(step, stage),
        };
        Node { step, op, outputs }
    }

    fn op(&mut self, step: usize, input: usize, stage: usize) -> Op {
        let checked = &self.job.steps[step];
        if let Some(key) = checked.verb.key(input) {
            return Op::Edge(self.edge(stage, step, input, key.to_vec()));
        }
        match &checked.verb {
            CheckedVerb::Filter(_) => Op::Filter,
            CheckedVerb::Select(_) => Op::Select,
            CheckedVerb::Union { reorder } => Op::Union(reorder[input].clone()),
            CheckedVerb::Sink(_) => {
                let part = self.parts[step];
                self.parts[step] += 1;
                Op::Sink { part }
            }
            CheckedVerb::Source(_) => unreachable!("a source reads no step"),
            _ => unreachable!("every step with a key is a head"),
        }
    }

    fn edge(&mut self, from: usize, step: usize, input: usize, key: Vec<usize>) -> usize {
        let read = self.job.steps[step].inputs[input];
        let schema = SchemaRef::clone(&self.job.steps[read].schema);
        let to = self.heads.iter().position(|head| *head == step);
        let to = to.expect("every step with keyed state is a head");
        self.edges.push(Edge { from, to, input, schema, key });
        self.edges.len() - 1
    }
}

#[cfg(test)]
mod tests;
