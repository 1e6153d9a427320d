//! Checks a declared job: every problem at once, each one sentence with its path.
//!
//! A step is checked as far as its inputs are known. A step with a problem still has an output if
//! its columns do not depend on what is wrong, so one mistake is reported once and hides little.
//!
//! - `source.rs`, `transform.rs` (filter, select, union), `aggregate.rs`, `sink.rs` — the verbs.
//!
//! What a manifest can say wrongly in its structure (ids, references, unknown fields) is reported
//! by `weir-crds`; here it must only never do harm.

mod aggregate;
mod sink;
mod source;
mod transform;

use std::fmt;

use arrow::datatypes::{Field, SchemaRef};
use weir_expr::types;

use crate::pipeline::checked::{CheckedJob, CheckedStep, CheckedVerb, SourceSchemas};
use crate::pipeline::spec::{JobSpec, SinkSpec, StepSpec, Verb};

/// Most ways that rows can take through unions; each is instantiated.
const PATHS_MAX: u64 = 1_000;

/// Something in the declaration that cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `spec.pipeline[3].filter`.
    pub path: String,
    /// What, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Checks `job` against the columns of its sources. Problems come in the order of the steps.
///
/// A step behind one that has a problem is checked as far as that problem does not reach.
pub fn check(job: &JobSpec, sources: &SourceSchemas) -> Result<CheckedJob, Vec<Problem>> {
    let mut check = Check { job, sources, problems: Vec::new(), outputs: Vec::new() };
    let steps: Vec<Option<CheckedStep>> =
        job.pipeline.iter().enumerate().map(|(index, step)| check.step(index, step)).collect();
    sink::folders(job, &mut check.problems);
    sink::tables(job, &mut check.problems);
    paths(&check.outputs, &mut check.problems);
    if !check.problems.is_empty() {
        return Err(check.problems);
    }
    // Without problems every step is there; this keeps indices right should that ever break.
    match steps.into_iter().collect() {
        Some(steps) => Ok(CheckedJob { steps }),
        None => Err(vec![Problem {
            path: "spec.pipeline".into(),
            message: "a step could not be checked".into(),
        }]),
    }
}

/// What is known of a step for those that read it.
#[derive(Clone, Debug)]
struct Output {
    /// Its columns; none: they depend on something that is wrong.
    rows: Option<RowType>,
    /// How many ways rows can take to it from heads of stages.
    paths: u64,
}

/// Columns, whether rows have event time, and whether they may be revised.
#[derive(Clone, Debug)]
struct RowType {
    schema: SchemaRef,
    has_time: bool,
    changelog: bool,
}

/// A step's checked verb, if nothing is wrong with it, and its output, as far as it is known.
struct Outcome {
    verb: Option<CheckedVerb>,
    rows: Option<RowType>,
    signature: Option<String>,
}

impl Outcome {
    fn unknown() -> Self {
        Self { verb: None, rows: None, signature: None }
    }

    fn new(verb: Option<CheckedVerb>, rows: RowType) -> Self {
        Self { verb, rows: Some(rows), signature: None }
    }
}

struct Check<'a> {
    job: &'a JobSpec,
    sources: &'a SourceSchemas,
    problems: Vec<Problem>,
    outputs: Vec<Output>,
}

/// Collects the problems of one step.
struct Report<'a> {
    path: String,
    problems: &'a mut Vec<Problem>,
}

impl Report<'_> {
    /// A problem at `place` below the step's path, such as `filter` or `aggregate.key[1]`.
    fn add(&mut self, place: &str, message: impl Into<String>) {
        let path = format!("{}.{place}", self.path);
        self.problems.push(Problem { path, message: message.into() });
    }

    /// Problems of items of the list at `place`.
    fn items(&mut self, place: &str, errors: Vec<weir_expr::ItemError>) {
        for error in errors {
            self.add(&format!("{place}[{}]", error.item), error.to_string());
        }
    }
}

impl Check<'_> {
    fn step(&mut self, index: usize, step: &StepSpec) -> Option<CheckedStep> {
        let mut report =
            Report { path: format!("spec.pipeline[{index}]"), problems: &mut self.problems };
        let inputs = inputs(self.job, index, step, &mut report);
        let known: Option<Vec<RowType>> = match &inputs {
            Some(inputs) => inputs.iter().map(|input| self.outputs[*input].rows.clone()).collect(),
            None => None,
        };
        let outcome = match (&step.verb, known.as_deref()) {
            (Verb::Source(source), _) => source::check(step, source, self.sources, &mut report),
            (_, None) => Outcome::unknown(),
            (Verb::Union, Some(inputs)) => transform::union(step, inputs, &mut report),
            (verb, Some([input])) => match verb {
                Verb::Filter(text) => transform::filter(text, input, &mut report),
                Verb::Select(items) => transform::select(items, input, &mut report),
                Verb::Aggregate(aggregate) => aggregate::check(aggregate, input, &mut report),
                Verb::Sink(sink) => sink::check(sink, input, &mut report),
                Verb::Source(_) | Verb::Union => Outcome::unknown(),
            },
            (_, Some(_)) => Outcome::unknown(),
        };
        let paths = self.paths_to(step, inputs.as_deref().unwrap_or_default());
        self.outputs.push(Output { rows: outcome.rows.clone(), paths });
        let rows = outcome.rows?;
        Some(CheckedStep {
            id: step.id.clone(),
            inputs: inputs?,
            verb: outcome.verb?,
            schema: rows.schema,
            has_time: rows.has_time,
            changelog: rows.changelog,
            signature: outcome.signature,
        })
    }

    /// A head begins anew: its rows come from one place.
    fn paths_to(&self, step: &StepSpec, inputs: &[usize]) -> u64 {
        match step.verb {
            Verb::Source(_) | Verb::Aggregate(_) | Verb::Sink(SinkSpec::Table(_)) => 1,
            _ => inputs
                .iter()
                .fold(0, |sum: u64, input| sum.saturating_add(self.outputs[*input].paths)),
        }
    }
}

/// Indices of the steps read; none: a reference is wrong, or there are too few or too many.
fn inputs(
    job: &JobSpec,
    index: usize,
    step: &StepSpec,
    report: &mut Report<'_>,
) -> Option<Vec<usize>> {
    let mut inputs = Vec::with_capacity(step.from.len());
    for id in &step.from {
        match job.pipeline[..index].iter().position(|above| above.id == *id) {
            Some(input) if matches!(job.pipeline[input].verb, Verb::Sink(_)) => {
                report.add("from", format!("step `{id}` is a sink; nothing comes out of it"));
            }
            Some(input) => inputs.push(input),
            None => report.add("from", format!("there is no step `{id}` above")),
        }
    }
    if inputs.len() < step.from.len() {
        return None;
    }
    let fits = match step.verb {
        Verb::Source(_) => inputs.is_empty(),
        Verb::Union => inputs.len() >= 2,
        _ => inputs.len() == 1,
    };
    if !fits {
        let wanted = match step.verb {
            Verb::Source(_) => "a source reads no step",
            Verb::Union => "a union reads at least two steps",
            _ => "exactly one step is read here",
        };
        report.add("from", wanted);
        return None;
    }
    Some(inputs)
}

/// Every path through a union is instantiated, and unions of unions multiply.
fn paths(outputs: &[Output], problems: &mut Vec<Problem>) {
    let total = outputs.iter().fold(0, |sum: u64, output| sum.saturating_add(output.paths));
    if total > PATHS_MAX {
        problems.push(Problem {
            path: "spec.pipeline".into(),
            message: format!(
                "rows can take {total} ways through its unions; at most {PATHS_MAX} are allowed"
            ),
        });
    }
}

/// "column `x` has type … in its source", for a column that is used and cannot be.
fn refused_column(field: &Field) -> Option<String> {
    let source_type = types::refused(field)?;
    Some(format!(
        "column `{}` has type {source_type} in its source, which has no pipeline type",
        field.name()
    ))
}

#[cfg(test)]
pub(crate) mod tests;
