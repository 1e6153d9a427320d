//! What a caller appends, and the record that it becomes at the journal's present end. Pure.

use bytes::Bytes;
use weir_runtime::clock;

use super::delta::{self, DeltaError};
use super::record::{
    Body, Checkpoint, Created, Finished, NewGeneration, Piece, Plan, RangeWatermark, Released,
    Snapshot, StepBytes,
};
use super::state::{JobState, Shards};
use crate::gc;
use crate::ids::CheckpointId;
use crate::version::record::VersionRecord;

/// What a new incarnation is created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// The job, as its users name it.
    pub job: String,
    /// Who owns it.
    pub owner: String,
    /// Number of key groups, fixed for the incarnation's life.
    pub key_groups: u16,
}

/// Something to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// What runs.
    Plan(Plan),
    /// A new set of workers.
    Generation(NewGeneration),
    /// A checkpoint is complete.
    Checkpoint(CompletedCheckpoint),
    /// A held checkpoint gets a name that keeps it.
    Snapshot {
        /// The name.
        name: String,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// A snapshot's name is given up; see [`super::release_snapshot`].
    DropSnapshot {
        /// The name.
        name: String,
    },
    /// The owner lets go; no generation lives.
    Released,
    /// The job is done; with its summary in the engine's encoding.
    Finished(Bytes),
}

/// All that a completed checkpoint consists of; the record holds its difference from the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompletedCheckpoint {
    /// Its number, greater than the last one's.
    pub id: CheckpointId,
    /// Every shard's version, as acknowledged.
    pub versions: Vec<VersionRecord>,
    /// Positions of each source step.
    pub sources: Vec<StepBytes>,
    /// Watermarks passed, per step and key-group range.
    pub watermarks: Vec<RangeWatermark>,
    /// Bare names of objects with rows that waited for a key.
    pub waiting_rows: Vec<String>,
    /// Staged output.
    pub pieces: Vec<Piece>,
    /// State bytes written for it.
    pub bytes_written: u64,
    /// What the run has counted up to it, in the engine's encoding.
    pub totals: Bytes,
    /// How many checkpoints are kept, this one included (at least 1); the others are retired.
    pub retained: usize,
}

impl NewJob {
    pub(super) fn created(&self) -> Created {
        Created {
            format: super::envelope::FORMAT.into(),
            owner: self.owner.clone(),
            job: self.job.clone(),
            key_groups: self.key_groups.into(),
        }
    }
}

impl Entry {
    /// The record's body when it is to follow `state`.
    pub(super) fn into_body(self, state: &JobState) -> Result<Body, DeltaError> {
        Ok(match self {
            Self::Plan(plan) => Body::Plan(plan),
            Self::Generation(generation) => Body::Generation(generation),
            Self::Checkpoint(completed) => Body::Checkpoint(completed.against_last(state)?),
            Self::Snapshot { name, checkpoint } => {
                Body::Snapshot(Snapshot { name, checkpoint: checkpoint.0, deleted: false })
            }
            Self::DropSnapshot { name } => {
                Body::Snapshot(Snapshot { name, checkpoint: 0, deleted: true })
            }
            Self::Released => Body::Released(Released { owner: state.owner.clone() }),
            Self::Finished(summary) => Body::Finished(Finished { summary }),
        })
    }
}

impl CompletedCheckpoint {
    fn against_last(self, state: &JobState) -> Result<Checkpoint, DeltaError> {
        let next = delta::shards(self.versions)?;
        let (base, nothing) = (state.last_checkpoint(), Shards::new());
        let (shards, dropped) = delta::diff(base.map_or(&nothing, |base| &base.shards), &next)?;
        let retired = gc::retire(state, self.retained);
        Ok(Checkpoint {
            id: self.id.0,
            base: base.map_or(0, |base| base.id.0),
            generation: state.generation_number().0,
            shards,
            dropped,
            sources: self.sources,
            waiting_rows: self.waiting_rows,
            watermarks: self.watermarks,
            pieces: self.pieces,
            retired: retired.iter().map(|id| id.0).collect(),
            bytes_written: self.bytes_written,
            wall_ms: clock::wall_ms(),
            totals: self.totals,
            seq: 0,
        })
    }
}
