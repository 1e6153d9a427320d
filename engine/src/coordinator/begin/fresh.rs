//! `--fresh`: a new run begins with nothing of the earlier ones left.
//!
//! The order makes a crash harmless: the claim of "no incarnation" comes first, so nothing of the
//! old state is ever continued; sink files go staged ones first; whatever is left is deleted by the
//! next `--fresh`, and refused by name without one.

use std::collections::{BTreeMap, BTreeSet};

use weir_state::gc::{self, GcError};
use weir_state::journal::{Journal, JournalError, Root};

use super::{Misfit, fit};
use crate::objects::{Objects, OpenError, place};
use crate::pipeline::spec::{JobSpec, StepSpec, StoreSpec, Verb};

/// Why earlier runs could not be deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreshError {
    /// The state belongs to another owner, or can't be read or ended.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A folder can't be cleaned.
    #[error("the files of earlier runs cannot be deleted")]
    Clean(#[from] GcError),
    /// A sink's URI leads nowhere.
    #[error("a sink's folder cannot be opened")]
    Sink(#[from] OpenError),
}

/// Deletes the state of the job at `root` and all files that its sinks' steps have written.
///
/// Errors: [`JournalError::OtherJob`], and [`JournalError::OwnedElsewhere`] when another owner than
/// `owner` has not let go: then nothing was deleted.
pub async fn fresh(
    spec: &JobSpec,
    root: &Root,
    owner: &str,
    objects: &dyn Objects,
) -> Result<(), FreshError> {
    let journal = Journal::open(root).await?;
    let mut sinks = sinks(&spec.pipeline);
    if let Some(journal) = &journal {
        check_ours(journal, &spec.name, owner)?;
        // A plan that can't be read names no further folders.
        let earlier =
            fit::Recorded::of(journal.state()).map_err(|_: Misfit| ()).unwrap_or_default();
        sinks.extend(self::sinks(earlier.steps()));
        Journal::abandon(root, journal.incarnation()).await?;
    }
    let runs: BTreeSet<String> = root.claimed().await?.into_iter().map(|run| run.id).collect();
    for ((step, uri), store) in sinks {
        let folder = place(objects, &uri, &store)?;
        gc::delete_sink_files(&folder, &step, &runs).await?;
    }
    for dead in root.dead().await? {
        gc::delete_incarnation(root, &dead).await?;
    }
    Ok(())
}

/// Deletes the state of the job at `root`; what its sinks have written stays.
///
/// Errors: as of [`fresh`]. A crash anywhere is made good by doing it again.
pub async fn delete_state(job: &str, root: &Root, owner: &str) -> Result<(), FreshError> {
    if let Some(journal) = Journal::open(root).await? {
        check_ours(&journal, job, owner)?;
        Journal::abandon(root, journal.incarnation()).await?;
    }
    for dead in root.dead().await? {
        gc::delete_incarnation(root, &dead).await?;
    }
    Ok(())
}

fn check_ours(journal: &Journal, job: &str, owner: &str) -> Result<(), JournalError> {
    journal.check_job(job)?;
    let state = journal.state();
    if state.owner != owner && !state.released && state.finished.is_none() {
        let (job, owner) = (state.job.clone(), state.owner.clone());
        return Err(JournalError::OwnedElsewhere { job, owner });
    }
    Ok(())
}

/// Step and folder of each sink that has one.
fn sinks(steps: &[StepSpec]) -> BTreeMap<(String, String), StoreSpec> {
    let files = steps.iter().filter_map(|step| match &step.verb {
        Verb::Sink(sink) => {
            let (uri, store) = sink.folder()?;
            Some(((step.id.clone(), uri.to_owned()), store.clone()))
        }
        _ => None,
    });
    files.collect()
}
