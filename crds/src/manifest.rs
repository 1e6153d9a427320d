//! A manifest's text becomes a [`StatefulJob`], or every problem of it at once.
//!
//! A problem is one sentence with its path. Nothing is read from disk or network, and no
//! expression is looked into: types and columns are the engine's to check.
//!
//! # Where things are
//!
//! - `text.rs` — YAML or JSON to a tree; `node.rs` — the tree, which remembers quotes
//! - `walk.rs` — the tree against the schema that is generated from the types: unknown fields,
//!   types, bounds; start reading here; `split.rs` — items that YAML cut at their commas
//! - `later.rs` — what the public form has and is not built yet
//! - `rules.rs` — what joins several fields of one object; `graph.rs` — what joins steps
//! - `header.rs` — apiVersion, kind, metadata
//!
//! # What must stay true
//!
//! 1. A bound or a default stands in the types alone; the walk takes it from the schema.
//! 2. One mistake gives one problem: what follows from a reported one is not reported again.
//! 3. What the public form knows is never called unknown.

use std::collections::BTreeSet;
use std::fmt;

use serde_yaml::Value as Yaml;

use crate::{StatefulJob, StatefulJobSpec};
use node::Node;

mod graph;
mod header;
mod later;
mod node;
mod rules;
mod split;
mod text;
mod walk;

/// Something wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `spec.pipeline[3].filter`, or a line of the text.
    pub path: String,
    /// What, in one sentence.
    pub message: String,
}

impl Problem {
    fn new(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A manifest as far as it can be understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspected {
    /// The job without what is wrong, so that what is left can be checked further: without steps
    /// that have a problem and those that read them, and with defaults for other fields. None if
    /// nothing is left.
    pub job: Option<StatefulJob>,
    /// For each step of `job` its index in the manifest.
    pub steps: Vec<usize>,
    /// All problems, in the order of the manifest where they have one.
    pub problems: Vec<Problem>,
}

/// Reads a manifest, YAML or JSON.
///
/// # Errors
///
/// All problems that can be told without data and types.
pub fn read_manifest(text: &str) -> Result<StatefulJob, Vec<Problem>> {
    let Inspected { job, problems, .. } = inspect_manifest(text);
    match job {
        Some(job) if problems.is_empty() => Ok(job),
        _ => Err(problems),
    }
}

/// Reads a manifest and keeps what is sound in one that is refused.
#[must_use]
pub fn inspect_manifest(text: &str) -> Inspected {
    let mut problems = Problems::default();
    let read = text::parse(text)
        .map_err(|problem| problems.list.push(problem))
        .ok()
        .and_then(|document| read_document(&document, &mut problems));
    let (job, steps) = match read {
        Some((job, steps)) => (Some(job), steps),
        None => (None, Vec::new()),
    };
    Inspected { job, steps, problems: problems.list }
}

fn read_document(document: &Node, problems: &mut Problems) -> Option<(StatefulJob, Vec<usize>)> {
    let metadata = header::check(document, problems)?;
    let spec = document.get("spec").filter(|spec| !spec.is_null());
    let Some(spec) = spec else {
        problems.add("spec", "is missing; it holds the job's pipeline");
        return None;
    };
    let mut values = walk::spec(spec, problems);
    let inputs = graph::check(spec, problems);
    let steps = problems.sound_steps(&inputs);
    problems.drop_unsound(&mut values, &steps);
    match serde_yaml::from_value::<StatefulJobSpec>(Yaml::Mapping(values)) {
        Ok(spec) => Some((StatefulJob { metadata, spec, status: None }, steps)),
        // With a problem reported, what is left may be no job; without one this is the problem.
        Err(error) => {
            if problems.list.is_empty() {
                problems.add("spec", error.to_string());
            }
            None
        }
    }
}

/// What was found so far.
#[derive(Default)]
struct Problems {
    list: Vec<Problem>,
    /// Paths of those after which their object cannot be used.
    unsound: BTreeSet<String>,
}

impl Problems {
    /// Something after which its object cannot be used.
    fn add(&mut self, path: &str, message: impl Into<String>) {
        self.unsound.insert(path.to_owned());
        self.note(path, message);
    }

    /// Something that can be left aside when the rest is checked.
    fn note(&mut self, path: &str, message: impl Into<String>) {
        self.list.push(Problem::new(path, message));
    }

    /// Whether something at or below `path` cannot be used.
    fn is_unsound(&self, path: &str) -> bool {
        self.unsound.iter().any(|wrong| {
            wrong
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// The steps without a problem that read only such steps; `inputs` are indices.
    fn sound_steps(&self, inputs: &[Vec<usize>]) -> Vec<usize> {
        let mut sound = Vec::new();
        for (index, reads) in inputs.iter().enumerate() {
            let path = walk::item("spec.pipeline", index);
            if !self.is_unsound(&path) && reads.iter().all(|input| sound.contains(input)) {
                sound.push(index);
            }
        }
        sound
    }

    /// Takes out of the spec's values what cannot be used.
    fn drop_unsound(&self, values: &mut serde_yaml::Mapping, steps: &[usize]) {
        if let Some(Yaml::Sequence(pipeline)) = values.get_mut("pipeline") {
            let kept = steps.iter().filter_map(|index| pipeline.get(*index).cloned()).collect();
            *pipeline = kept;
        }
        values.retain(|name, _| {
            let name = name.as_str().unwrap_or("");
            name == "pipeline" || !self.is_unsound(&walk::field("spec", name))
        });
    }
}

#[cfg(test)]
mod tests;
