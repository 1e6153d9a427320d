//! The whole state at one number, as a base stores it. Checkpoints are written each against the one
//! before, so a base is little larger than one checkpoint's metadata.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::delta;
use super::record::{Checkpoint, NewGeneration, Piece, Plan, Snapshot};
use super::state::{CheckpointState, Doomed, JobState, Shards};
use crate::ids::{CheckpointId, Seq, Term};

/// A state as it is stored; docs/design/0003-journal.md.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct BaseState {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(string, tag = "2")]
    job: String,
    #[prost(uint32, tag = "3")]
    format: u32,
    #[prost(uint32, tag = "4")]
    key_groups: u32,
    #[prost(string, tag = "5")]
    owner: String,
    #[prost(uint64, tag = "6")]
    term: u64,
    #[prost(bool, tag = "7")]
    released: bool,
    #[prost(bytes = "bytes", optional, tag = "8")]
    finished: Option<Bytes>,
    #[prost(message, optional, tag = "9")]
    plan: Option<Plan>,
    #[prost(message, optional, tag = "10")]
    generation: Option<NewGeneration>,
    #[prost(message, repeated, tag = "11")]
    checkpoints: Vec<Checkpoint>,
    #[prost(uint64, repeated, tag = "12")]
    retained: Vec<u64>,
    #[prost(message, repeated, tag = "13")]
    snapshots: Vec<Snapshot>,
    #[prost(message, repeated, tag = "14")]
    unconfirmed: Vec<Unconfirmed>,
    #[prost(message, repeated, tag = "15")]
    condemned: Vec<Condemned>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Unconfirmed {
    #[prost(uint64, tag = "1")]
    checkpoint: u64,
    #[prost(message, repeated, tag = "2")]
    pieces: Vec<Piece>,
}

/// What a record condemned; of pieces only folder and staged name are set.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Condemned {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(string, repeated, tag = "2")]
    objects: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pieces: Vec<Piece>,
}

impl BaseState {
    pub(crate) fn of(state: &JobState) -> Self {
        Self {
            seq: state.seq.0,
            job: state.job.clone(),
            format: state.format,
            key_groups: state.key_groups.into(),
            owner: state.owner.clone(),
            term: state.term.0,
            released: state.released,
            finished: state.finished.clone(),
            plan: state.plan.as_deref().cloned(),
            generation: state.generation.as_deref().cloned(),
            checkpoints: chained(state),
            retained: state.retained.iter().map(|id| id.0).collect(),
            snapshots: state.snapshots.iter().map(snapshot).collect(),
            unconfirmed: state.unconfirmed.iter().map(unconfirmed).collect(),
            condemned: state.condemned.iter().map(condemned).collect(),
        }
    }

    /// The state, or what is wrong with it.
    pub(crate) fn into_state(self) -> Result<JobState, String> {
        let key_groups = u16::try_from(self.key_groups).map_err(|error| error.to_string())?;
        let snapshots = self.snapshots.into_iter();
        let unconfirmed = self.unconfirmed.into_iter();
        let condemned = self.condemned.into_iter();
        let mut state = JobState {
            seq: Seq(self.seq),
            job: self.job,
            format: self.format,
            key_groups,
            owner: self.owner,
            term: Term(self.term),
            released: self.released,
            finished: self.finished,
            plan: self.plan.map(Arc::new),
            generation: self.generation.map(Arc::new),
            checkpoints: Default::default(),
            retained: self.retained.into_iter().map(CheckpointId).collect(),
            snapshots: snapshots.map(|s| (s.name, CheckpointId(s.checkpoint))).collect(),
            unconfirmed: unconfirmed.map(|u| (CheckpointId(u.checkpoint), u.pieces)).collect(),
            condemned: condemned.map(|c| (Seq(c.seq), c.into_doomed())).collect(),
        };
        for checkpoint in &self.checkpoints {
            let held = state.checkpoint_state(checkpoint, Seq(checkpoint.seq));
            let held = held.map_err(|error| error.to_string())?;
            state.checkpoints.insert(held.id, Arc::new(held));
        }
        let named = state.retained.iter().chain(state.snapshots.values());
        match named.copied().find(|id| !state.checkpoints.contains_key(id)) {
            Some(missing) => Err(format!("checkpoint {missing} is held and not there")),
            None => Ok(state),
        }
    }
}

/// All held checkpoints, each as its difference from the one before.
fn chained(state: &JobState) -> Vec<Checkpoint> {
    let nothing = CheckpointState::default();
    let mut before = &nothing;
    let mut checkpoints = Vec::with_capacity(state.checkpoints.len());
    for checkpoint in state.checkpoints.values() {
        checkpoints.push(against(checkpoint, before.id, &before.shards));
        before = checkpoint;
    }
    checkpoints
}

fn against(checkpoint: &CheckpointState, base: CheckpointId, shards: &Shards) -> Checkpoint {
    // Both sides passed the same checks when they were folded.
    let (shards, dropped) =
        delta::diff(shards, &checkpoint.shards).expect("held shards make sense");
    Checkpoint {
        id: checkpoint.id.0,
        base: base.0,
        generation: checkpoint.generation.0,
        shards,
        dropped,
        sources: checkpoint.sources.clone(),
        waiting_rows: checkpoint.waiting_rows.clone(),
        watermarks: checkpoint.watermarks.clone(),
        pieces: Vec::new(),
        retired: Vec::new(),
        bytes_written: checkpoint.bytes_written,
        wall_ms: checkpoint.wall_ms,
        totals: checkpoint.totals.clone(),
        seq: checkpoint.seq.0,
    }
}

fn snapshot((name, checkpoint): (&String, &CheckpointId)) -> Snapshot {
    Snapshot { name: name.clone(), checkpoint: checkpoint.0, deleted: false }
}

fn unconfirmed((checkpoint, pieces): (&CheckpointId, &Vec<Piece>)) -> Unconfirmed {
    Unconfirmed { checkpoint: checkpoint.0, pieces: pieces.clone() }
}

fn condemned((seq, doomed): (&Seq, &BTreeSet<Doomed>)) -> Condemned {
    let mut condemned = Condemned { seq: seq.0, ..Condemned::default() };
    for doomed in doomed.iter().cloned() {
        match doomed {
            Doomed::Object(name) => condemned.objects.push(name),
            Doomed::Staged { folder, name } => {
                condemned.pieces.push(Piece { folder, staged: name, ..Piece::default() });
            }
        }
    }
    condemned
}

impl Condemned {
    fn into_doomed(self) -> BTreeSet<Doomed> {
        let objects = self.objects.into_iter().map(Doomed::Object);
        let staged = |piece: Piece| Doomed::Staged { folder: piece.folder, name: piece.staged };
        objects.chain(self.pieces.into_iter().map(staged)).collect()
    }
}
