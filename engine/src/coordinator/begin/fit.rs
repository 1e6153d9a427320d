//! Does a manifest fit the state that an earlier run left? Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use weir_state::ids::CheckpointId;
use weir_state::journal::JobState;

use super::discard::{self, Discard};
use crate::pipeline::checked::CheckedJob;
use crate::pipeline::spec::{JobSpec, StepSpec, Verb};
use crate::protocol::SourcePlan;

/// Why a manifest does not fit its job's state; the message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misfit {
    /// The job is finished, and its pipeline is another one now.
    #[error(
        "job {job} is finished and its pipeline was changed since; run it with --fresh, which \
         deletes the state and the output of earlier runs and begins anew"
    )]
    ChangedAfterFinish {
        /// Job.
        job: String,
    },
    /// The number of key groups is fixed for a job's life.
    #[error(
        "spec.state.keyGroups: it is {now} and the job's state has {before}, which is fixed for \
         its life; set it back, or begin anew with --fresh"
    )]
    KeyGroups {
        /// In the state.
        before: u16,
        /// In the manifest.
        now: u16,
    },
    /// A stateful step means something else now.
    #[error(
        "spec.pipeline[{index}]: the state of step {step} does not fit its changed key, window or \
         values; set them back, give the step another id, give its state up with `{line}` in spec, or \
         begin anew with --fresh"
    )]
    ChangedState {
        /// Index of the step.
        index: usize,
        /// Step.
        step: String,
        /// What to paste.
        line: String,
    },
    /// A stateful step is no more.
    #[error(
        "spec.pipeline: step {step}, which has state, was removed; put it back, give its state up with \
         `{line}` in spec, or begin anew with --fresh"
    )]
    RemovedState {
        /// Step.
        step: String,
        /// What to paste.
        line: String,
    },
    /// The state of a stateful step can't go or stay without that of another one.
    #[error(
        "spec.upgrade.discard: the states of steps {step} and {with} go together, as one folds what the \
         other revises: `{line}`"
    )]
    BoundState {
        /// Step.
        step: String,
        /// The other one, whose state goes.
        with: String,
        /// What to paste.
        line: String,
    },
    /// A source reads something else now.
    #[error(
        "spec.pipeline[{index}].source: step {step} reads something else than before; set it back, \
         give the step another id, or begin anew with --fresh"
    )]
    ChangedSource {
        /// Index of the step.
        index: usize,
        /// Step.
        step: String,
    },
    /// The journal's plan can't be read.
    #[error("the journal's plan cannot be read: {what}")]
    Unreadable {
        /// Why.
        what: String,
    },
}

/// What the journal says of the pipeline that ran before; empty for a new job.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorded {
    key_groups: Option<u16>,
    steps: Vec<StepSpec>,
    signatures: BTreeMap<String, Bytes>,
    /// The last checkpoint with state of a step that was given up.
    discarded: BTreeMap<String, u64>,
    pub(super) sources: BTreeMap<String, SourcePlan>,
}

/// A pipeline as the `Plan` record holds it.
pub(super) fn pipeline_bytes(steps: &[StepSpec]) -> Bytes {
    let steps: Vec<StepSpec> = steps.iter().map(StepSpec::without_secret).collect();
    serde_json::to_vec(&steps).expect("a pipeline is plain data").into()
}

impl Recorded {
    pub(super) fn of(state: &JobState) -> Result<Self, Misfit> {
        Self::at(state, None)
    }

    /// The same, with what state means in a checkpoint; none: to whoever goes on.
    pub(super) fn at(state: &JobState, checkpoint: Option<CheckpointId>) -> Result<Self, Misfit> {
        let unreadable = |what: String| Misfit::Unreadable { what };
        let mut recorded = Self {
            key_groups: (state.key_groups > 0).then_some(state.key_groups),
            ..Self::default()
        };
        let Some(plan) = &state.plan else { return Ok(recorded) };
        recorded.steps = serde_json::from_slice(&plan.pipeline)
            .map_err(|error| unreadable(error.to_string()))?;
        (recorded.signatures, recorded.discarded) = discard::meanings(plan, checkpoint);
        for source in &plan.sources {
            let plan = SourcePlan::decode(source.bytes.clone());
            let plan = plan.map_err(|error| unreadable(error.to_string()))?;
            recorded.sources.insert(source.step.clone(), plan);
        }
        Ok(recorded)
    }

    /// Whether the same step was there before.
    pub(super) fn has_step(&self, step: &StepSpec) -> bool {
        self.steps.contains(&step.without_secret())
    }

    /// The steps that ran before.
    pub(super) fn steps(&self) -> &[StepSpec] {
        &self.steps
    }

    /// Replicas, slots and checkpoint policy are no change of a finished job.
    pub(super) fn check_finished(&self, spec: &JobSpec) -> Result<(), Misfit> {
        self.check_key_groups(spec)?;
        let now: Vec<StepSpec> = spec.pipeline.iter().map(StepSpec::without_secret).collect();
        if self.steps == now {
            return Ok(());
        }
        Err(Misfit::ChangedAfterFinish { job: spec.name.clone() })
    }

    /// What can be said of an unfinished job before its expressions are compiled.
    pub(super) fn check_unfinished(&self, spec: &JobSpec) -> Result<(), Misfit> {
        self.check_key_groups(spec)?;
        for (index, step) in spec.pipeline.iter().enumerate() {
            let before = self.steps.iter().find(|before| before.id == step.id);
            if let (Verb::Source(now), Some(Verb::Source(before))) =
                (&step.without_secret().verb, before.map(|before| &before.verb))
                && now.kind != before.kind
            {
                return Err(Misfit::ChangedSource { index, step: step.id.clone() });
            }
        }
        Ok(())
    }

    fn check_key_groups(&self, spec: &JobSpec) -> Result<(), Misfit> {
        match self.key_groups {
            Some(before) if before != spec.key_groups => {
                Err(Misfit::KeyGroups { before, now: spec.key_groups })
            }
            _ => Ok(()),
        }
    }

    /// Every step that has state must still be there and mean the same, or its state may be given up.
    /// Gives the steps of which that is so; `run` is the one whose state it is.
    pub(super) fn check_signatures(
        &self,
        checked: &CheckedJob,
        run: &str,
        said: &[Discard],
    ) -> Result<BTreeSet<String>, Misfit> {
        let position = |step: &String| checked.steps.iter().position(|now| now.id == *step);
        let fits = |step: &String, before: &Bytes| {
            let now = position(step).and_then(|index| checked.steps[index].signature.as_deref());
            now.is_some_and(|now| now.as_bytes() == before)
        };
        let lost = self.signatures.iter().filter(|(step, before)| !fits(step, before));
        let lost: BTreeSet<String> = lost.map(|(step, _)| step.clone()).collect();
        let bound = discard::bound(&self.steps, |id| self.signatures.contains_key(id), checked);
        let more = discard::with_bound(&lost, &bound, &self.signatures);
        let all: BTreeSet<String> = lost.iter().chain(more.keys()).cloned().collect();
        let fingerprint = |step: &str| {
            let signature = self.signatures.get(step).map(|its| &its[..]).unwrap_or_default();
            let last = self.discarded.get(step).copied().unwrap_or_default();
            discard::fingerprint(run, step, signature, last)
        };
        let is_said = |step: &str| {
            let fingerprint = fingerprint(step);
            said.iter().any(|its| its.step == step && its.fingerprint == fingerprint)
        };
        let line = || discard::line(all.iter().map(|step| (step.as_str(), fingerprint(step))));
        if let Some(step) = lost.iter().find(|step| !is_said(step)).cloned() {
            return Err(match position(&step) {
                Some(index) => Misfit::ChangedState { index, step, line: line() },
                None => Misfit::RemovedState { step, line: line() },
            });
        }
        match more.into_iter().find(|(step, _)| !is_said(step)) {
            Some((step, with)) => Err(Misfit::BoundState { step, with, line: line() }),
            None => Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_state::journal::record::{Plan, StepBytes};

    use super::*;
    use crate::pipeline::spec::{
        CheckpointPolicy, CompactionPolicy, FailoverPolicy, Order, RescalePolicy, SinkFormat,
        SinkSpec, SourceKind, SourceSpec, StoreSpec,
    };

    fn keys(distinct: u64) -> Verb {
        let kind = SourceKind::Keys { count: Some(1), distinct, value_bytes: 1, skew_milli: 0 };
        Verb::Source(SourceSpec { kind, rate: None, event_time: None })
    }

    fn step(id: &str, from: &[&str], verb: Verb) -> StepSpec {
        StepSpec { id: id.into(), from: from.iter().map(|id| (*id).into()).collect(), verb }
    }

    fn spec() -> JobSpec {
        JobSpec {
            name: "job".into(),
            replicas: 1,
            slots: 1,
            key_groups: 128,
            order: Order::default(),
            state_memory_bytes: 1,
            checkpoint: CheckpointPolicy {
                interval_ms: 1,
                timeout_ms: 1,
                min_pause_ms: 0,
                retained: 1,
                tolerable_failures: None,
            },
            compaction: CompactionPolicy::default(),
            failover: FailoverPolicy {
                timeout_ms: 1,
                restarts: 1,
                within_ms: 1,
                min_survivors_percent: 50,
            },
            rescale: RescalePolicy::default(),
            pipeline: vec![
                step("s", &[], keys(10)),
                step("out", &["s"], Verb::Sink(SinkSpec::Blackhole)),
            ],
        }
    }

    fn recorded(spec: &JobSpec) -> Recorded {
        let signature = StepBytes { step: "a".into(), bytes: "one".into() };
        let plan = Plan {
            pipeline: pipeline_bytes(&spec.pipeline),
            signatures: vec![signature],
            sources: vec![],
            discarded: vec![],
        };
        let state = JobState {
            key_groups: spec.key_groups,
            plan: Some(plan.into()),
            ..JobState::default()
        };
        Recorded::of(&state).unwrap()
    }

    #[test]
    fn a_finished_job_may_change_its_width_but_not_its_pipeline() {
        let before = recorded(&spec());
        let wider = JobSpec { replicas: 5, slots: 2, ..spec() };
        assert_eq!(before.check_finished(&wider), Ok(()));
        let mut other = spec();
        other.pipeline[0].verb = keys(11);
        let refused = before.check_finished(&other).unwrap_err();
        assert!(refused.to_string().contains("--fresh"), "{refused}");
    }

    #[test]
    fn key_groups_are_fixed() {
        let refused = recorded(&spec()).check_unfinished(&JobSpec { key_groups: 64, ..spec() });
        assert_eq!(refused, Err(Misfit::KeyGroups { before: 128, now: 64 }));
    }

    #[test]
    fn a_source_cannot_become_another_one() {
        let mut other = spec();
        other.pipeline[0].verb = keys(11);
        let refused = recorded(&spec()).check_unfinished(&other);
        assert_eq!(refused, Err(Misfit::ChangedSource { index: 0, step: "s".into() }));
    }

    #[test]
    fn a_removed_stateful_step_is_named() {
        let nothing = CheckedJob { steps: Vec::new() };
        let refused = recorded(&spec()).check_signatures(&nothing, "run", &[]).unwrap_err();
        let Misfit::RemovedState { step, line } = &refused else { panic!("{refused}") };
        assert_eq!(step, "a");
        assert!(
            refused.to_string().contains(line)
                && line.starts_with("upgrade: {discard: [{step: a, ")
        );
        let (_, rest) = line.split_once("fingerprint: ").unwrap();
        let fingerprint = rest.trim_end_matches(['}', ']']).to_owned();
        let said =
            |step: &str| [Discard { step: step.to_owned(), fingerprint: fingerprint.clone() }];
        let check =
            |run: &str, said: &[Discard]| recorded(&spec()).check_signatures(&nothing, run, said);
        assert_eq!(check("run", &said("a")), Ok(BTreeSet::from(["a".to_owned()])));
        assert!(check("run", &said("b")).is_err(), "it is of another step");
        assert!(check("another run", &said("a")).is_err(), "it is of another run");
    }

    #[test]
    fn a_new_job_fits_everything() {
        let nothing = Recorded::of(&JobState::default()).unwrap();
        assert_eq!(nothing.check_unfinished(&spec()), Ok(()));
        let empty = CheckedJob { steps: Vec::new() };
        assert_eq!(nothing.check_signatures(&empty, "", &[]), Ok(BTreeSet::new()));
    }

    #[test]
    fn credentials_in_another_secret_are_no_change() {
        let sink = |secret: &str| {
            let store = StoreSpec { secret: Some(secret.to_owned()), ..StoreSpec::default() };
            let (uri, format) = ("s3://b/out".to_owned(), SinkFormat::Ndjson);
            step("out", &["s"], Verb::Sink(SinkSpec::Files { uri, format, store }))
        };
        let mut one = spec();
        one.pipeline[1] = sink("one");
        let before = recorded(&one);
        assert!(!String::from_utf8_lossy(&pipeline_bytes(&one.pipeline)).contains("one"));
        one.pipeline[1] = sink("two");
        assert!(before.has_step(&one.pipeline[1]));
        assert_eq!(before.check_finished(&one), Ok(()));
    }
}
