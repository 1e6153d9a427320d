//! What a job would be, and what its state has of it, before anything is written: for `weir plan`.

use std::collections::BTreeSet;

use weir_state::ids::{CheckpointId, Generation};
use weir_state::journal::{JobState, Journal, Root};

use super::{BeginError, Discard, check_job, fit, plan_sources, unreachable};
use crate::objects::Objects;
use crate::pipeline::checked::{CheckedJob, CheckedVerb};
use crate::pipeline::graph::{Graph, Node, Op};
use crate::pipeline::spec::{JobSpec, StepSpec, Verb};
use crate::source::Source;

/// A job as it would be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// In flow order.
    pub steps: Vec<StepOutline>,
    /// What its state holds; none: there is none yet.
    pub before: Option<Before>,
    /// Steps whose state is given up.
    pub discarded: Vec<String>,
}

/// A step as it would be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepOutline {
    /// Its id.
    pub id: String,
    /// `source`, `filter`, …
    pub verb: &'static str,
    /// The stages that run it: several, where a union joins paths.
    pub stages: Vec<usize>,
    /// Whether it has keyed state.
    pub has_state: bool,
    /// Of a source: its splits; none while they are made without end.
    pub splits: Option<u64>,
    /// Columns of its rows.
    pub columns: Vec<String>,
}

/// What a job's state says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// The run: the name of its folder.
    pub run: String,
    /// It is finished, and nothing will be run.
    pub is_finished: bool,
    /// Nobody has it: it was suspended, or let go of.
    pub is_released: bool,
    /// Who owns it, or did last.
    pub owner: String,
    /// The last generation of workers; 0: none.
    pub generation: Generation,
    /// Its workers.
    pub workers: usize,
    /// Its subtasks of each stage.
    pub width: usize,
    /// The last checkpoint; 0: none.
    pub checkpoint: CheckpointId,
    /// Steps that are new, are no more, or are declared in another way.
    pub changed: Vec<String>,
}

/// Looks at sources and state, and writes nothing.
///
/// Errors: what is wrong with the manifest, or does not fit the state, in the words of
/// [`super::begin`]. Folders of sinks are not looked at.
pub async fn outline(
    spec: &JobSpec,
    discard: &[Discard],
    root: Option<&Root>,
    objects: &dyn Objects,
) -> Result<Outline, BeginError> {
    let journal = match root {
        Some(root) => Journal::open(root).await?,
        None => None,
    };
    let nothing = JobState::default();
    let state = journal.as_ref().map_or(&nothing, Journal::state);
    if let Some(journal) = &journal {
        journal.check_job(&spec.name)?;
    }
    let recorded = fit::Recorded::of(state)?;
    match state.finished {
        Some(_) => recorded.check_finished(spec)?,
        None => recorded.check_unfinished(spec)?,
    }
    let mut looked = plan_sources(spec, &recorded, objects).await;
    let checked = match (check_job(spec, &looked), looked.unreachable.pop()) {
        (Err(problems), _) if !problems.is_empty() => return Err(BeginError::Problems(problems)),
        (_, Some(silent)) => return Err(unreachable(silent)),
        (checked, None) => checked.map_err(BeginError::Problems)?,
    };
    let discarded = match (&journal, &state.finished) {
        (Some(journal), None) => {
            recorded.check_signatures(&checked, &journal.incarnation().id, discard)?
        }
        _ => BTreeSet::new(),
    };
    let splits = |id: &str| {
        let step = spec.pipeline.iter().find(|step| step.id == id)?;
        let Verb::Source(declared) = &step.verb else { return None };
        let source = Source::new(declared, looked.plans.get(id)?, 0, objects).ok()?;
        source.splits().count()
    };
    let steps = steps(&checked, splits);
    let before = journal.as_ref().map(|journal| Before {
        run: journal.incarnation().to_string(),
        changed: changed(recorded.steps(), &spec.pipeline),
        ..before(state)
    });
    Ok(Outline { steps, before, discarded: discarded.into_iter().collect() })
}

fn before(state: &JobState) -> Before {
    let generation = state.generation.as_deref();
    Before {
        run: String::new(),
        is_finished: state.finished.is_some(),
        is_released: state.released,
        owner: state.owner.clone(),
        generation: state.generation_number(),
        workers: generation.map_or(0, |generation| generation.workers.len()),
        width: generation.map_or(0, |generation| generation.subtasks.len()),
        checkpoint: state.last_checkpoint().map_or(CheckpointId(0), |last| last.id),
        changed: Vec::new(),
    }
}

fn steps(job: &CheckedJob, splits: impl Fn(&str) -> Option<u64>) -> Vec<StepOutline> {
    let graph = Graph::new(job);
    let mut stages: Vec<Vec<usize>> = vec![Vec::new(); job.steps.len()];
    for (index, stage) in graph.stages.iter().enumerate() {
        stages[stage.step].push(index);
        stage.outputs.iter().for_each(|node| note(node, index, &mut stages));
    }
    let steps = job.steps.iter().zip(stages).map(|(step, stages)| {
        let (verb, has_state) = match &step.verb {
            CheckedVerb::Source(_) => ("source", false),
            CheckedVerb::Filter(_) => ("filter", false),
            CheckedVerb::Select(_) => ("select", false),
            CheckedVerb::Union { .. } => ("union", false),
            CheckedVerb::Aggregate(_) => ("aggregate", true),
            CheckedVerb::Table(_) => ("sink", true),
            CheckedVerb::Sink(_) => ("sink", false),
        };
        StepOutline {
            id: step.id.clone(),
            verb,
            stages,
            has_state,
            splits: splits(&step.id),
            columns: step.schema.fields().iter().map(|field| field.name().clone()).collect(),
        }
    });
    steps.collect()
}

/// The stage runs this step, and those behind it up to the next exchange.
fn note(node: &Node, stage: usize, stages: &mut [Vec<usize>]) {
    if matches!(node.op, Op::Edge(_)) {
        return;
    }
    if !stages[node.step].contains(&stage) {
        stages[node.step].push(stage);
    }
    node.outputs.iter().for_each(|next| note(next, stage, stages));
}

/// Ids of steps that differ, in flow order; those that are no more come last.
fn changed(before: &[StepSpec], now: &[StepSpec]) -> Vec<String> {
    let differs = |step: &&StepSpec| !before.contains(&step.without_secret());
    let is_gone = |step: &&StepSpec| !now.iter().any(|its| its.id == step.id);
    let all = now.iter().filter(differs).chain(before.iter().filter(is_gone));
    all.map(|step| step.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(id: &str, verb: Verb) -> StepSpec {
        StepSpec { id: id.to_owned(), from: Vec::new(), verb }
    }

    #[test]
    fn steps_that_are_new_other_or_gone_are_changed() {
        let filter = |id: &str, what: &str| step(id, Verb::Filter(what.to_owned()));
        let before = [filter("a", "x"), filter("b", "x"), filter("c", "x")];
        let now = [filter("a", "x"), filter("d", "x"), filter("b", "y")];
        assert_eq!(changed(&before, &now), ["d", "b", "c"]);
        assert_eq!(changed(&before, &before), [""; 0]);
    }
}
