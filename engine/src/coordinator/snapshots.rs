//! Snapshots of a job: what is wished of a running one, and the same done for one that does not run.
//!
//! Of a running job its coordinator names and drops snapshots, since it writes the journal. When none
//! runs, these functions visit the journal in its owner's name; should a coordinator run after all, it
//! is fenced, begins again, and has lost nothing. docs/design/0015-snapshots.md.

use std::collections::BTreeMap;

use weir_runtime::clock;
use weir_state::gc::{self, Collect, GcError};
use weir_state::ids::CheckpointId;
use weir_state::journal::{Entry, JobState, Journal, JournalError, Root, release_snapshot};
use weir_state::names::Incarnation;

use super::leftovers::{self, LeftoversError};
use crate::objects::Objects;

/// Longest name of a snapshot, in characters.
const NAME_MAX: usize = 120;

/// What is wished of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It is there: if not yet, a checkpoint is taken and gets the name.
    Keep,
    /// It is not there.
    Drop,
}

/// Wishes by the snapshot's name. A name that was dropped is never used again.
pub type Wishes = BTreeMap<String, Wish>;

/// A snapshot that a journal keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its checkpoint.
    pub checkpoint: CheckpointId,
    /// When that was complete, in milliseconds since 1970.
    pub wall_ms: i64,
}

/// Where a snapshot was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The run that it is of; not the job's present one when that was begun anew or deleted.
    pub incarnation: Incarnation,
    /// The snapshot.
    pub kept: Kept,
}

/// Why a snapshot can't be named or dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It could not be a name of objects.
    #[error("{name:?} is no name of a snapshot: up to {NAME_MAX} letters, digits, `.`, `_`, `-`")]
    BadName {
        /// The name.
        name: String,
    },
    /// There is nothing to name.
    #[error("{uri} has no completed checkpoint yet")]
    NoCheckpoint {
        /// The state folder.
        uri: String,
    },
    /// The journal refuses, or does not answer.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What the snapshot held can't be deleted; `weir state gc` does it.
    #[error("what the snapshot held was not deleted")]
    Clean(#[from] GcError),
    /// The same, of what else is left.
    #[error("what the snapshot held was not deleted")]
    Leftovers(#[from] LeftoversError),
}

/// The snapshots that a state keeps.
pub(crate) fn kept(state: &JobState) -> BTreeMap<String, Kept> {
    let named = state.snapshots.iter().filter_map(|(name, id)| {
        let checkpoint = state.checkpoints.get(id)?;
        Some((name.clone(), Kept { checkpoint: *id, wall_ms: checkpoint.wall_ms }))
    });
    named.collect()
}

/// Looks for a snapshot in the job's present run, and in earlier ones of which something is left.
pub async fn find(root: &Root, name: &str) -> Result<Option<Found>, JournalError> {
    Ok(read(root, name)
        .await?
        .map(|(journal, kept)| Found { incarnation: journal.incarnation().clone(), kept }))
}

/// The journal, to be read only, of the run that has the snapshot.
pub(crate) async fn read(root: &Root, name: &str) -> Result<Option<(Journal, Kept)>, JournalError> {
    let present = root.present().await?;
    let dead = root.dead().await?.into_iter().rev();
    for incarnation in present.into_iter().chain(dead) {
        let journal = Journal::read_only(root, &incarnation).await?;
        if let Some(kept) = kept(journal.state()).get(name).copied() {
            return Ok(Some((journal, kept)));
        }
    }
    Ok(None)
}

/// Names the last checkpoint of a job that nobody runs. Again is the same as once.
pub async fn name(root: &Root, name: &str) -> Result<Kept, SnapshotError> {
    check_name(name)?;
    let uri = || root.place.uri.clone();
    let journal = Journal::open(root).await?;
    let mut journal = journal.ok_or_else(|| JournalError::NoJob { uri: uri() })?;
    let of = |journal: &Journal| kept(journal.state()).get(name).copied();
    if let Some(kept) = of(&journal) {
        return Ok(kept);
    }
    if journal.state().last_checkpoint().is_none() {
        return Err(SnapshotError::NoCheckpoint { uri: uri() });
    }
    let was_released = journal.state().released;
    journal.visit().await?;
    if of(&journal).is_none() {
        let last = journal.state().last_checkpoint().map(|last| last.id);
        let checkpoint = last.ok_or_else(|| SnapshotError::NoCheckpoint { uri: uri() })?;
        journal.append(Entry::Snapshot { name: name.to_owned(), checkpoint }).await?;
    }
    leave(&mut journal, was_released).await?;
    of(&journal).ok_or_else(|| SnapshotError::NoCheckpoint { uri: uri() })
}

/// Drops a snapshot of a job that nobody runs, or of which only an earlier run is left, and deletes
/// what it alone held. One that is not there is no error.
///
/// Errors: [`JournalError::Pinned`]: a fork copies it at this moment.
pub async fn drop_snapshot(
    root: &Root,
    objects: &dyn Objects,
    name: &str,
) -> Result<(), SnapshotError> {
    check_name(name)?;
    let Some((found, _)) = read(root, name).await? else { return Ok(()) };
    let incarnation = found.incarnation().clone();
    release_snapshot(root, &incarnation, name, clock::wall_ms()).await?;
    if root.present().await?.as_ref() != Some(&incarnation) {
        // Nothing can be recorded there any more; it goes when nothing holds it.
        gc::delete_incarnation(root, &incarnation).await?;
        return Ok(());
    }
    let Some(mut journal) = Journal::open(root).await? else { return Ok(()) };
    let was_released = journal.state().released;
    journal.visit().await?;
    if journal.state().snapshots.contains_key(name) {
        journal.append(Entry::DropSnapshot { name: name.to_owned() }).await?;
    }
    leave(&mut journal, was_released).await?;
    leftovers::collect(root, objects, false, Collect::Beside).await?;
    Ok(())
}

/// Leaves the journal as it was found: released, or its owner's.
async fn leave(journal: &mut Journal, was_released: bool) -> Result<(), JournalError> {
    if was_released && journal.state().finished.is_none() {
        journal.append(Entry::Released).await?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), SnapshotError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_sound = !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(is_plain);
    match is_sound && !name.starts_with('.') {
        true => Ok(()),
        false => Err(SnapshotError::BadName { name: name.to_owned() }),
    }
}
