//! What a journal says: the fold of its records. A plain value; `fold.rs` moves it on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::record::{NewGeneration, Piece, Plan, RangeWatermark, ShardRef, StepBytes};
use crate::ids::{CheckpointId, Generation, KeyGroupRange, Seq, Term};
use crate::version::record::VersionRecord;

/// All shards of a checkpoint with their versions.
pub type Shards = BTreeMap<ShardKey, Arc<VersionRecord>>;

/// The state of a job after record `seq`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobState {
    /// The last record folded in; 0: none.
    pub seq: Seq,
    /// The job, as its users name it.
    pub job: String,
    /// Version of the incarnation's formats.
    pub format: u32,
    /// Number of key groups.
    pub key_groups: u16,
    /// Who owns the job.
    pub owner: String,
    /// The term that may write; 0: no coordinator yet.
    pub term: Term,
    /// The owner let go and nobody has claimed since.
    pub released: bool,
    /// The job is done; its summary in the engine's encoding.
    pub finished: Option<Bytes>,
    /// What runs.
    pub plan: Option<Arc<Plan>>,
    /// The last generation.
    pub generation: Option<Arc<NewGeneration>>,
    /// Checkpoints that are held: retained, or by a snapshot.
    pub checkpoints: BTreeMap<CheckpointId, Arc<CheckpointState>>,
    /// The held checkpoints that no record has retired.
    pub retained: BTreeSet<CheckpointId>,
    /// Named snapshots.
    pub snapshots: BTreeMap<String, CheckpointId>,
    /// Committed pieces whose publication no record has confirmed, by checkpoint.
    pub unconfirmed: BTreeMap<CheckpointId, Vec<Piece>>,
    /// What nothing needs since that record and may be deleted; no record has said yet that it is.
    pub condemned: BTreeMap<Seq, BTreeSet<Doomed>>,
}

/// A held checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointState {
    /// Its number.
    pub id: CheckpointId,
    /// The record that completed it.
    pub seq: Seq,
    /// The generation that took it.
    pub generation: Generation,
    /// All shards with their versions.
    pub shards: Shards,
    /// Positions of each source step.
    pub sources: Vec<StepBytes>,
    /// Watermarks passed.
    pub watermarks: Vec<RangeWatermark>,
    /// Objects with rows that waited for a key.
    pub waiting_rows: Vec<String>,
    /// State bytes written for it.
    pub bytes_written: u64,
    /// When it completed, by its coordinator's clock.
    pub wall_ms: i64,
    /// What the run has counted up to it, in the engine's encoding.
    pub totals: Bytes,
}

/// A shard by step and key groups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey {
    /// Id of the step.
    pub step: String,
    /// Its key groups.
    pub range: KeyGroupRange,
}

/// Something that may be deleted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Doomed {
    /// A state object, by bare name.
    Object(String),
    /// A staged piece of a sink.
    Staged {
        /// The sink's folder, as in the manifest.
        folder: String,
        /// Name below the folder.
        name: String,
    },
}

impl JobState {
    /// The last completed checkpoint.
    pub fn last_checkpoint(&self) -> Option<&Arc<CheckpointState>> {
        self.retained.last().and_then(|id| self.checkpoints.get(id))
    }

    /// The number of the last generation; 0: none yet.
    pub fn generation_number(&self) -> Generation {
        self.generation.as_ref().map_or(Generation(0), |generation| Generation(generation.number))
    }

    /// Whether no workers ever ran and no checkpoint is held: it can begin from another job's state.
    pub fn is_untouched(&self) -> bool {
        let has_run = self.generation.as_ref().is_some_and(|its| !its.workers.is_empty());
        !has_run && self.checkpoints.is_empty() && self.finished.is_none()
    }

    /// The generation that may be alive: none after `Finished` or `Released`.
    pub fn living_generation(&self) -> Option<Generation> {
        let over = self.finished.is_some() || self.released;
        self.generation.as_ref().filter(|_| !over).map(|living| Generation(living.number))
    }

    /// Bare names of all state objects that something still needs: held checkpoints, their
    /// waiting rows, and unconfirmed pieces that lie in the state's own folder.
    pub fn named_objects(&self) -> BTreeSet<&str> {
        let held = self.checkpoints.values().flat_map(|checkpoint| checkpoint.objects());
        let printed = self.unconfirmed.values().flatten().filter(|piece| piece.folder.is_empty());
        held.chain(printed.map(|piece| piece.staged.as_str())).collect()
    }

    /// (folder, staged name) of all pieces that are committed and not yet confirmed.
    pub fn staged_pieces(&self) -> BTreeSet<(&str, &str)> {
        let pieces = self.unconfirmed.values().flatten();
        pieces.map(|piece| (piece.folder.as_str(), piece.staged.as_str())).collect()
    }
}

impl CheckpointState {
    /// Bare names of all objects it needs; a name may come more than once.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        let views = self.shards.values().flat_map(|version| &version.views);
        views.map(|view| view.name.as_str()).chain(self.waiting_rows.iter().map(String::as_str))
    }
}

impl ShardKey {
    /// The shard that a version says it is of; `None` when its key groups are no range.
    pub fn of(version: &VersionRecord) -> Option<Self> {
        let range = super::record::range(version.group_start, version.group_end)?;
        Some(Self { step: version.step.clone(), range })
    }

    pub(crate) fn from_ref(shard: &ShardRef) -> Option<Self> {
        let range = super::record::range(shard.group_start, shard.group_end)?;
        Some(Self { step: shard.step.clone(), range })
    }

    pub(crate) fn to_ref(&self) -> ShardRef {
        ShardRef {
            step: self.step.clone(),
            group_start: self.range.start.into(),
            group_end: self.range.end.into(),
        }
    }
}
