//! Which records may follow which, and what they add up to.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::super::base::BaseState;
use super::super::record::{Body, Discarded, Piece, Plan, StepBytes, SubtaskPlace};
use super::*;
use crate::version::record::{VersionRecord, ViewRecord};

fn record(term: u64, body: Body) -> Record {
    Record { term, body: Some(body), ..Record::default() }
}

fn created() -> Record {
    let (owner, job) = ("me".into(), "demo".into());
    record(0, Body::Created(Created { format: 1, owner, job, key_groups: 8 }))
}

fn coordinator(term: u64, owner: &str) -> Record {
    let owner = owner.to_owned();
    record(term, Body::Coordinator(Coordinator { term, owner, authority: 0 }))
}

fn generation(term: u64, number: u64, from: u64) -> Record {
    let place = SubtaskPlace { worker: "w".into(), group_start: 0, group_end: 8 };
    let subtasks = vec![place];
    record(term, Body::Generation(NewGeneration { number, subtasks, from, ..Default::default() }))
}

fn version(names: &[&str]) -> VersionRecord {
    let view = |name: &&str| ViewRecord {
        name: (*name).into(),
        group_start: 0,
        group_end: 8,
        ..ViewRecord::default()
    };
    let views = names.iter().map(view).collect();
    VersionRecord { step: "agg".into(), group_start: 0, group_end: 8, views, next_seq: 1 }
}

/// Checkpoint `id` of generation `number`, whose only shard has views of `names`.
fn checkpoint(state: &JobState, id: u64, names: &[&str], retired: &[u64]) -> Checkpoint {
    let (base, nothing) = (state.last_checkpoint(), Shards::new());
    let next = delta::shards([version(names)]).unwrap();
    let (shards, dropped) = delta::diff(base.map_or(&nothing, |base| &base.shards), &next).unwrap();
    Checkpoint {
        id,
        base: base.map_or(0, |base| base.id.0),
        generation: state.generation_number().0,
        shards,
        dropped,
        retired: retired.to_vec(),
        ..Checkpoint::default()
    }
}

fn fold(records: &[Record]) -> JobState {
    records.iter().fold(JobState::default(), |state, record| state.with(record).unwrap())
}

/// A job in term 1 and generation 1.
fn running() -> JobState {
    fold(&[created(), coordinator(1, "me"), generation(1, 1, 0)])
}

fn complete(state: &JobState, id: u64, names: &[&str], retired: &[u64]) -> JobState {
    let checkpoint = checkpoint(state, id, names, retired);
    state.with(&record(state.term.0, Body::Checkpoint(checkpoint))).unwrap()
}

fn refused(state: &JobState, record: &Record) -> String {
    let error = state.with(record).unwrap_err();
    super::super::reader::chain(&error)
}

#[test]
fn the_first_record_is_created_and_no_other() {
    assert!(refused(&JobState::default(), &coordinator(1, "me")).contains("must be Created"));
    assert!(refused(&running(), &created()).contains("must not be Created"));
}

#[test]
fn a_newer_incarnation_is_refused_by_version() {
    let Some(Body::Created(created)) = created().body else { unreachable!() };
    let newer = record(0, Body::Created(Created { format: 9, ..created }));
    assert!(refused(&JobState::default(), &newer).contains("format version 9"));
}

#[test]
fn only_the_reigning_term_writes() {
    let state = running().with(&coordinator(2, "other")).unwrap();
    assert_eq!((state.term, state.owner.as_str()), (Term(2), "other"));
    let stale = refused(&state, &generation(1, 2, 0));
    assert_eq!(stale, "term 1 wrote it, and term 2 reigns");
    assert!(refused(&state, &coordinator(2, "me")).contains("term 2 wrote it"));
    assert!(refused(&state, &coordinator(4, "me")).contains("term 4 wrote it"));
}

#[test]
fn a_generation_starts_from_the_last_checkpoint_or_restores_a_held_one() {
    let state = complete(&running(), 1, &["a"], &[]);
    assert!(refused(&state, &generation(1, 1, 1)).contains("the new generation cannot be 1"));
    let message = refused(&state, &generation(1, 2, 0));
    assert_eq!(message, "the generation starts from checkpoint 0, the last one is 1");
    let state = complete(&state, 2, &["a"], &[]);
    let restore = |from| {
        let body = NewGeneration { number: 2, from, restore: true, ..Default::default() };
        record(1, Body::Generation(body))
    };
    assert!(refused(&state, &restore(7)).contains("checkpoint 7, which is not held"));
    assert_eq!(state.with(&restore(1)).unwrap().generation_number(), Generation(2));
}

#[test]
fn a_checkpoint_is_of_the_last_generation_and_newer_than_all() {
    let state = complete(&running(), 5, &["a"], &[]);
    let old = Checkpoint { generation: 1, ..checkpoint(&state, 5, &["a"], &[]) };
    let message = refused(&state, &record(1, Body::Checkpoint(old)));
    assert_eq!(message, "the new checkpoint cannot be 5");
    let next = state.with(&generation(1, 2, 5)).unwrap();
    let stale = Checkpoint { generation: 1, ..checkpoint(&state, 6, &["a"], &[]) };
    let message = refused(&next, &record(1, Body::Checkpoint(stale)));
    assert_eq!(message, "checkpoint 6 is of generation 1, and 2 lives");
}

#[test]
fn what_only_retired_checkpoints_named_is_condemned_until_it_is_deleted() {
    let state = complete(&running(), 1, &["a", "b"], &[]);
    let state = complete(&state, 2, &["b", "c"], &[1]);
    assert_eq!(state.checkpoints.len(), 1);
    let condemned: Vec<&Doomed> = state.condemned.values().flatten().collect();
    assert_eq!(condemned, [&Doomed::Object("a".into())]);
    assert_eq!(state.named_objects(), BTreeSet::from(["b", "c"]));

    let through = *state.condemned.keys().next().unwrap();
    let noted = Record { deleted_through: through.0, ..record(1, Body::Plan(Plan::default())) };
    assert!(state.with(&noted).unwrap().condemned.is_empty());
    let too_far = Record { deleted_through: state.seq.0 + 1, ..noted };
    assert!(refused(&state, &too_far).contains("deleted_through cannot be"));
}

#[test]
fn a_checkpoint_cannot_need_what_was_given_up() {
    let state = complete(&running(), 1, &["a"], &[]);
    let state = complete(&state, 2, &["b"], &[1]);
    let again = checkpoint(&state, 3, &["a", "b"], &[]);
    let message = refused(&state, &record(1, Body::Checkpoint(again)));
    assert_eq!(message, "checkpoint 3 needs a, which was given up before");
}

#[test]
fn a_delta_against_something_else_is_refused() {
    let state = complete(&running(), 1, &["a"], &[]);
    let mut wrong = checkpoint(&state, 2, &["b"], &[]);
    wrong.shards[0].removed[0].name = "z".into();
    let message = refused(&state, &record(1, Body::Checkpoint(wrong)));
    assert!(message.contains("a view of z is not in the base checkpoint"), "{message}");
    let unheld = Checkpoint { base: 9, ..checkpoint(&state, 2, &["b"], &[]) };
    let message = refused(&state, &record(1, Body::Checkpoint(unheld)));
    assert!(message.contains("against checkpoint 9, which is not held"), "{message}");
}

#[test]
fn pieces_are_unconfirmed_until_a_record_says_otherwise_and_then_their_staging_goes() {
    let state = running();
    let piece = |folder: &str, staged: &str| Piece {
        folder: folder.into(),
        staged: staged.into(),
        ..Piece::default()
    };
    let pieces = vec![piece("out", "_weir/x"), piece("", "printed")];
    let with_pieces = Checkpoint { pieces, ..checkpoint(&state, 1, &["a"], &[]) };
    let state = state.with(&record(1, Body::Checkpoint(with_pieces))).unwrap();
    assert_eq!(state.staged_pieces().len(), 2);
    assert!(state.named_objects().contains("printed"));
    let finished = record(1, Body::Finished(Finished::default()));
    assert_eq!(refused(&state, &finished), "output of checkpoint 1 is not confirmed");

    let finished = Record { confirmed: vec![1], ..finished };
    let state = state.with(&finished).unwrap();
    let condemned: Vec<Doomed> = state.condemned.into_values().flatten().collect();
    let staged = Doomed::Staged { folder: "out".into(), name: "_weir/x".into() };
    assert_eq!(condemned, [Doomed::Object("printed".into()), staged]);
}

#[test]
fn a_snapshot_keeps_its_checkpoint_until_its_name_is_given_up() {
    let snapshot = |name: &str, checkpoint, deleted| {
        let name = name.to_owned();
        record(1, Body::Snapshot(Snapshot { name, checkpoint, deleted }))
    };
    let state = complete(&running(), 1, &["a"], &[]);
    assert!(refused(&state, &snapshot("s", 3, false)).contains("checkpoint 3, which is not held"));
    let state = state.with(&snapshot("s", 1, false)).unwrap();
    assert!(refused(&state, &snapshot("s", 1, false)).contains("exists"));
    let state = complete(&state, 2, &["b"], &[1]);
    assert!(state.condemned.is_empty() && state.named_objects().contains("a"));
    assert_eq!(state.last_checkpoint().unwrap().id, CheckpointId(2));
    let state = state.with(&snapshot("s", 0, true)).unwrap();
    assert_eq!(state.condemned.values().flatten().count(), 1);
    assert!(refused(&state, &snapshot("s", 0, true)).contains("is unknown"));
}

#[test]
fn after_released_only_a_coordinator_follows_and_after_finished_only_names_of_snapshots() {
    let released = record(1, Body::Released(Released { owner: "me".into() }));
    let state = running().with(&released).unwrap();
    assert_eq!(state.living_generation(), None);
    assert_eq!(refused(&state, &generation(1, 2, 0)), "the job is released");
    let state = state.with(&coordinator(2, "other")).unwrap();
    assert!(!state.released);
    let finished = Finished { summary: bytes::Bytes::from_static(b"42 rows") };
    let state = state.with(&record(2, Body::Finished(finished))).unwrap();
    assert_eq!(state.finished.as_deref(), Some(&b"42 rows"[..]));
    assert_eq!(refused(&state, &generation(2, 2, 0)), "the job is finished");
    let state = state.with(&coordinator(3, "other")).unwrap();
    assert_eq!(refused(&state, &generation(3, 2, 0)), "the job is finished");
    assert_eq!(state.living_generation(), None);
    let name = "s".to_owned();
    let unknown = Body::Snapshot(Snapshot { name, checkpoint: 9, deleted: false });
    let refused = refused(&state, &record(3, unknown));
    assert!(refused.contains("is not held"), "{refused}");
}

#[test]
fn a_plan_replaces_the_last_one() {
    let plan = |text: &'static str| {
        let step = StepBytes { step: "agg".into(), bytes: bytes::Bytes::from_static(b"f") };
        let pipeline = bytes::Bytes::from_static(text.as_bytes());
        record(1, Body::Plan(Plan { pipeline, signatures: vec![step], ..Plan::default() }))
    };
    let state = running().with(&plan("one")).unwrap().with(&plan("two")).unwrap();
    assert_eq!(state.plan.unwrap().pipeline, "two");
}

#[test]
fn state_that_was_given_up_is_stored_so() {
    let lost = Discarded { step: "a".to_owned(), through: 7, signature: "s".into() };
    let plan = Plan { discarded: vec![lost], ..Plan::default() };
    let bytes = [0x22, 8, 0x0a, 1, b'a', 0x10, 7, 0x1a, 1, b's'];
    assert_eq!(plan.encode_to_vec(), bytes);
    assert_eq!(Plan::decode(&bytes[..]).unwrap(), plan);
    assert!(plan.has_discarded("a", CheckpointId(7)) && plan.has_discarded("a", CheckpointId(6)));
    assert!(!plan.has_discarded("a", CheckpointId(8)) && !plan.has_discarded("b", CheckpointId(7)));
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    /// A checkpoint that keeps those of the last one's tables whose bit is set, adds `new` ones,
    /// and retires all but `retained`.
    Complete {
        keep: u8,
        new: u8,
        retained: usize,
    },
    /// Names the oldest held checkpoint.
    Snapshot(u8),
    DropSnapshot(u8),
    /// Confirms the oldest unconfirmed one beside a plan.
    Confirm,
    Generation,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<u8>(), 0..3u8, 1..4usize)
            .prop_map(|(keep, new, retained)| Step::Complete { keep, new, retained }),
        1 => (0..3u8).prop_map(Step::Snapshot),
        1 => (0..3u8).prop_map(Step::DropSnapshot),
        1 => Just(Step::Confirm),
        1 => Just(Step::Generation),
    ]
}

/// What a life should add up to, kept as plain sets.
#[derive(Default)]
struct Model {
    tables: BTreeMap<u64, BTreeSet<String>>,
    retained: BTreeSet<u64>,
    snapshots: BTreeMap<String, u64>,
    unconfirmed: BTreeSet<u64>,
    ever: BTreeSet<String>,
    last: u64,
}

impl Model {
    fn held(&self) -> BTreeSet<u64> {
        self.retained.iter().chain(self.snapshots.values()).copied().collect()
    }

    fn named(&self) -> BTreeSet<String> {
        self.held().iter().flat_map(|id| self.tables[id].clone()).collect()
    }

    /// The record of a step and its effect on the model; `None` when it makes no sense now.
    fn take(&mut self, step: &Step, state: &JobState) -> Option<Record> {
        match step {
            Step::Complete { keep, new, retained } => {
                let old = self.tables.get(&self.last).cloned().unwrap_or_default();
                let kept = old.into_iter().enumerate().filter(|(n, _)| keep >> (n % 8) & 1 == 1);
                let mut tables: BTreeSet<String> = kept.map(|(_, name)| name).collect();
                self.last += 1;
                tables.extend((0..*new).map(|n| format!("t{}-{n}", self.last)));
                let retired: Vec<u64> =
                    crate::gc::retire(state, *retained).iter().map(|id| id.0).collect();
                self.ever.extend(tables.clone());
                self.tables.insert(self.last, tables.clone());
                self.retained.insert(self.last);
                while self.retained.len() > *retained {
                    self.retained.pop_first();
                }
                self.unconfirmed.insert(self.last);
                let names: Vec<&str> = tables.iter().map(String::as_str).collect();
                let piece = Piece { folder: "out".into(), ..Piece::default() };
                let body = Checkpoint {
                    pieces: vec![piece],
                    ..checkpoint(state, self.last, &names, &retired)
                };
                Some(record(1, Body::Checkpoint(body)))
            }
            Step::Snapshot(name) => {
                let (name, id) = (name.to_string(), *self.held().first()?);
                if self.snapshots.contains_key(&name) {
                    return None;
                }
                self.snapshots.insert(name.clone(), id);
                Some(record(1, Body::Snapshot(Snapshot { name, checkpoint: id, deleted: false })))
            }
            Step::DropSnapshot(name) => {
                let name = name.to_string();
                self.snapshots.remove(&name)?;
                Some(record(1, Body::Snapshot(Snapshot { name, checkpoint: 0, deleted: true })))
            }
            Step::Confirm => {
                let confirmed = vec![self.unconfirmed.pop_first()?];
                Some(Record { confirmed, ..record(1, Body::Plan(Plan::default())) })
            }
            Step::Generation => Some(generation(1, state.generation_number().next().0, self.last)),
        }
    }
}

proptest! {
    /// The fold of any life is what the model says, through a base at every step.
    #[test]
    fn a_random_life_adds_up_to_its_model(steps in vec(step(), 0..40)) {
        let (mut state, mut model) = (running(), Model::default());
        for step in &steps {
            let Some(record) = model.take(step, &state) else { continue };
            state = state.with(&record).unwrap();
            let bytes = BaseState::of(&state).encode_to_vec();
            let restored = BaseState::decode(&bytes[..]).unwrap().into_state().unwrap();
            prop_assert_eq!(&restored, &state);
            state = restored;

            let held: BTreeSet<u64> = state.checkpoints.keys().map(|id| id.0).collect();
            prop_assert_eq!(held, model.held());
            prop_assert_eq!(state.last_checkpoint().map_or(0, |last| last.id.0), model.last);
            let named: BTreeSet<String> = owned(&state.named_objects());
            prop_assert_eq!(&named, &model.named());
            let unconfirmed: BTreeSet<u64> = state.unconfirmed.keys().map(|id| id.0).collect();
            prop_assert_eq!(&unconfirmed, &model.unconfirmed);
            let condemned = state.condemned.values().flatten();
            let condemned: BTreeSet<String> = condemned
                .filter_map(|doomed| match doomed {
                    Doomed::Object(name) => Some(name.clone()),
                    Doomed::Staged { .. } => None,
                })
                .collect();
            prop_assert_eq!(condemned, model.ever.difference(&named).cloned().collect());
        }
    }
}
