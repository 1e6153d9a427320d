//! What a tool shows of a job's state, with no job running. Reads only.

use std::collections::BTreeSet;

use super::error::JournalError;
use super::state::{CheckpointState, JobState};
use super::{Folder, Root, claims, reader};
use crate::ids::{CheckpointId, Generation, KeyGroupRange, Seq, Term};
use crate::names::Incarnation;
use crate::version::record::VersionRecord;

/// All that lies in a job's state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSummary {
    /// The folder, as a user names it.
    pub uri: String,
    /// Every incarnation of which something is left, in order.
    pub incarnations: Vec<IncarnationSummary>,
}

/// One incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncarnationSummary {
    /// Its name.
    pub incarnation: Incarnation,
    /// It is the job's present one.
    pub present: bool,
    /// The job, as its users name it.
    pub job: String,
    /// Who owns it.
    pub owner: String,
    /// The owner let go.
    pub released: bool,
    /// The job is done.
    pub finished: bool,
    /// The journal's end.
    pub seq: Seq,
    /// The last term.
    pub term: Term,
    /// The last generation; 0: none yet.
    pub generation: Generation,
    /// Workers of the last generation.
    pub workers: usize,
    /// Subtasks of each step in the last generation.
    pub width: usize,
    /// Number of key groups.
    pub key_groups: u16,
    /// Held checkpoints, oldest first.
    pub checkpoints: Vec<CheckpointSummary>,
    /// Named snapshots with their checkpoints.
    pub snapshots: Vec<(String, CheckpointId)>,
    /// Committed pieces whose publication is not confirmed.
    pub unconfirmed_pieces: usize,
    /// Objects and staged pieces that are given up and may not be deleted yet.
    pub condemned: usize,
    /// The full state, for more.
    pub state: JobState,
}

/// One held checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSummary {
    /// Its number.
    pub id: CheckpointId,
    /// The record that completed it.
    pub seq: Seq,
    /// The generation that took it.
    pub generation: Generation,
    /// When it completed, by its coordinator's clock.
    pub wall_ms: i64,
    /// Different objects it needs.
    pub objects: usize,
    /// Bytes of these objects.
    pub bytes: u64,
    /// State bytes written for it.
    pub bytes_written: u64,
    /// Its shards.
    pub shards: Vec<ShardSummary>,
}

/// One shard of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSummary {
    /// Id of the step.
    pub step: String,
    /// Its key groups.
    pub range: KeyGroupRange,
    /// Number of views.
    pub views: usize,
    /// Bytes of the views' key groups.
    pub bytes: u64,
    /// Entries in the views' objects (operands and tombstones count).
    pub entries: u64,
}

/// Reads all that lies in a job's state folder.
///
/// Errors: [`JournalError::NoJob`] when there is neither a claim nor an incarnation.
pub async fn summarize(root: &Root) -> Result<JobSummary, JournalError> {
    let uri = root.place.uri.clone();
    let present = claims::present(root).await?;
    let present = present.and_then(|present| present.incarnation());
    let mut found: BTreeSet<Incarnation> = claims::folders(root).await?.into_iter().collect();
    found.extend(present.clone());
    if found.is_empty() {
        return Err(JournalError::NoJob { uri });
    }
    let mut incarnations = Vec::with_capacity(found.len());
    for incarnation in found {
        let folder = Folder::new(root, incarnation.clone());
        let state = reader::read(&folder).await?.state;
        let present = present.as_ref() == Some(&incarnation);
        incarnations.push(IncarnationSummary::of(incarnation, present, state));
    }
    Ok(JobSummary { uri, incarnations })
}

impl IncarnationSummary {
    fn of(incarnation: Incarnation, present: bool, state: JobState) -> Self {
        let generation = state.generation.as_deref();
        Self {
            incarnation,
            present,
            job: state.job.clone(),
            owner: state.owner.clone(),
            released: state.released,
            finished: state.finished.is_some(),
            seq: state.seq,
            term: state.term,
            generation: state.generation_number(),
            workers: generation.map_or(0, |generation| generation.workers.len()),
            width: generation.map_or(0, |generation| generation.subtasks.len()),
            key_groups: state.key_groups,
            checkpoints: state.checkpoints.values().map(|c| CheckpointSummary::of(c)).collect(),
            snapshots: state.snapshots.iter().map(|(name, id)| (name.clone(), *id)).collect(),
            unconfirmed_pieces: state.unconfirmed.values().map(Vec::len).sum(),
            condemned: state.condemned.values().map(BTreeSet::len).sum(),
            state,
        }
    }
}

impl CheckpointSummary {
    fn of(checkpoint: &CheckpointState) -> Self {
        let views = checkpoint.shards.values().flat_map(|version| &version.views);
        let sizes: BTreeSet<(&str, u64)> =
            views.map(|view| (view.name.as_str(), view.bytes)).collect();
        let shards = checkpoint.shards.iter();
        let shard = |step: &str, range, version: &VersionRecord| ShardSummary {
            step: step.to_owned(),
            range,
            views: version.views.len(),
            bytes: version.views.iter().map(|view| view.view_bytes).sum(),
            entries: version.views.iter().map(|view| view.entries).sum(),
        };
        Self {
            id: checkpoint.id,
            seq: checkpoint.seq,
            generation: checkpoint.generation,
            wall_ms: checkpoint.wall_ms,
            objects: checkpoint.objects().collect::<BTreeSet<_>>().len(),
            bytes: sizes.iter().map(|(_, bytes)| bytes).sum(),
            bytes_written: checkpoint.bytes_written,
            shards: shards.map(|(key, version)| shard(&key.step, key.range, version)).collect(),
        }
    }
}
