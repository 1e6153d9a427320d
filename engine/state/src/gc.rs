//! Clean-up: what may be deleted, and its deletion. docs/design/0004-clean-up.md.
//!
//! - `gc.rs` — retirement, and deletion of what the journal condemned.
//! - `gc/choose.rs` — which of the listed objects a sweep condemns. Pure.
//! - `gc/sweep.rs` — the sweep over state and sink folders.
//! - `gc/collect.rs` — all of it in one go, for a tool beside or after the job.
//! - `gc/incarnation.rs` — deletion of a whole incarnation and of sink files by name.
//!
//! # What must stay true
//!
//! 1. Nothing named by a held checkpoint, an unconfirmed piece or a living generation's unrecorded
//!    work is deleted.
//! 2. In the living generation an object that no record ever named goes only on its owner's report.
//! 3. Absence from the journal condemns only names of dead generations that the journal knows;
//!    names of later generations and foreign names stay.
//! 4. Every deletion may stop anywhere and be done again.

mod choose;
mod collect;
mod incarnation;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};

use object_store::path::Path;

pub use self::choose::{Fate, Why};
pub use self::collect::{Collect, collect};
pub use self::incarnation::{delete_incarnation, delete_sink_files, delete_staged, sink_files};
pub use self::sweep::{SweepReport, Swept, plan_sweep, sweep};
use crate::ids::{CheckpointId, Seq};
use crate::journal::{Doomed, JobState, Journal};
use crate::names::ObjectName;
use crate::objects::{Place, StoreError};

/// A job's sink folders: each `uri` as in the manifest, with the place that it means.
pub type SinkFolders = BTreeMap<String, Place>;

/// What can go wrong while cleaning up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// A piece lies in a folder that the caller does not know; name it among the sink folders.
    #[error("the sink folder {folder} is not known here, so what is staged in it stays")]
    UnknownFolder {
        /// The folder, as in the manifest.
        folder: String,
    },
    /// The incarnation is the present one and is not deleted.
    #[error("incarnation {incarnation} is the job's present one; it is not deleted")]
    Present {
        /// The incarnation.
        incarnation: String,
    },
    /// The store refuses or does not answer; what is left is deleted the next time.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A journal can't be read.
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
}

/// The checkpoints that are retired when one more completes and `retained` (at least 1) are kept,
/// oldest first.
pub fn retire(state: &JobState, retained: usize) -> Vec<CheckpointId> {
    let excess = (state.retained.len() + 1).saturating_sub(retained.max(1));
    state.retained.iter().take(excess).copied().collect()
}

/// Deletes all that the journal condemned so far. Afterwards tell the journal with
/// [`Journal::note_deleted`] the number that is returned, if any.
///
/// A crash anywhere resumes: what is not noted is deleted again.
pub async fn delete_condemned(
    journal: &Journal,
    sinks: &SinkFolders,
) -> Result<Option<Seq>, GcError> {
    let state = journal.state();
    let Some(through) = state.condemned.keys().next_back().copied() else { return Ok(None) };
    let objects = journal.objects();
    let (mut doomed, mut staged) = (Vec::new(), BTreeMap::<&str, Vec<Path>>::new());
    for one in state.condemned.values().flatten() {
        match one {
            Doomed::Object(name) => doomed.push(objects.path(name)),
            Doomed::Staged { folder, name } => {
                let place = place_of(sinks, folder)?;
                staged.entry(folder).or_default().push(place.path(name));
            }
        }
    }
    objects.delete(&doomed).await?;
    for (folder, paths) in staged {
        place_of(sinks, folder)?.delete(&paths).await?;
    }
    Ok(Some(through))
}

/// Deletes objects that workers of the living generation reported: no record names or will name
/// them, and nothing reads them. Names of other generations, and names that the state needs, are
/// left alone; they are returned.
pub async fn delete_unnamed(
    journal: &Journal,
    reported: &[String],
) -> Result<Vec<String>, GcError> {
    let state = journal.state();
    let (living, needed) = (state.living_generation(), state.named_objects());
    let of_living = |name: &str| ObjectName::parse(name).map(|name| name.generation) == living;
    let may_go =
        |name: &&String| living.is_some() && of_living(name) && !needed.contains(name.as_str());
    let (doomed, kept): (Vec<&String>, Vec<&String>) = reported.iter().partition(may_go);
    let objects = journal.objects();
    let doomed: BTreeSet<Path> = doomed.into_iter().map(|name| objects.path(name)).collect();
    let doomed: Vec<Path> = doomed.into_iter().collect();
    objects.delete(&doomed).await?;
    Ok(kept.into_iter().cloned().collect())
}

fn place_of<'a>(sinks: &'a SinkFolders, folder: &str) -> Result<&'a Place, GcError> {
    sinks.get(folder).ok_or_else(|| GcError::UnknownFolder { folder: folder.to_owned() })
}
