//! `--fresh`: a new run begins with nothing of the earlier ones left.
//!
//! The order makes a crash harmless: the claim of "no incarnation" comes first, so nothing of the
//! old state is ever continued; sink files go staged ones first; whatever is left is deleted by the
//! next `--fresh`, and refused by name without one. A run of which a snapshot is kept stays as it is
//! until the snapshot goes.

use std::collections::{BTreeMap, BTreeSet};

use weir_state::gc::{self, GcError};
use weir_state::journal::{Journal, JournalError, Root};

use super::{Misfit, fit};
use crate::coordinator::records::piece_from_record;
use crate::objects::{Objects, OpenError, place};
use crate::pipeline::spec::{JobSpec, StepSpec, StoreSpec, Verb};
use crate::sink::SinkError;
use crate::sink::publish::publish;

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
    /// Committed output can't be made visible.
    #[error(transparent)]
    Publish(#[from] SinkError),
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
        sinks.extend(recorded_sinks(journal));
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

/// Deletes the state of the job at `root` and what its sinks have staged; output stays. What a
/// checkpoint has committed is published first, so that the output has all of it. No worker of the job
/// may live any more. `spec` is the job as it is declared, if that is known.
///
/// Errors: as of [`fresh`]. A crash anywhere is made good by doing it again: the state goes last.
pub async fn delete_state(
    job: &str,
    spec: Option<&JobSpec>,
    root: &Root,
    owner: &str,
    objects: &dyn Objects,
) -> Result<(), FreshError> {
    if let Some(journal) = Journal::open(root).await? {
        check_ours(&journal, job, owner)?;
        let mut sinks = recorded_sinks(&journal);
        // Where the same folder is declared, so are its present credentials.
        sinks.extend(spec.map(|spec| self::sinks(&spec.pipeline)).unwrap_or_default());
        for record in journal.state().unconfirmed.values().flatten() {
            let sink = sinks.get(&(record.step.clone(), record.folder.clone()));
            // Rows of `print` lie in the state and go with it.
            let Some(store) = sink else { continue };
            publish(&objects.open(&record.folder, store)?, &piece_from_record(record)).await?;
        }
        for ((_, uri), store) in &sinks {
            gc::delete_staged(&place(objects, uri, store)?, &journal.incarnation().id).await?;
        }
        Journal::abandon(root, journal.incarnation()).await?;
    }
    for dead in root.dead().await? {
        gc::delete_incarnation(root, &dead).await?;
    }
    Ok(())
}

/// Of all steps that ran. A plan that can't be read names no folders.
fn recorded_sinks(journal: &Journal) -> BTreeMap<(String, String), StoreSpec> {
    let earlier = fit::Recorded::of(journal.state()).map_err(|_: Misfit| ()).unwrap_or_default();
    sinks(earlier.steps())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};
    use weir_state::ids::CheckpointId;
    use weir_state::journal::record::{Authority, NewGeneration, Piece, Plan};
    use weir_state::journal::{CompletedCheckpoint, Entry, NewJob};
    use weir_state::objects::Place;

    use super::*;
    use crate::objects::Location;
    use crate::pipeline::spec::{SinkFormat, SinkSpec};

    struct One(Arc<dyn ObjectStore>);

    impl Objects for One {
        fn open(&self, uri: &str, _: &StoreSpec) -> Result<Location, OpenError> {
            Ok(Location { store: Arc::clone(&self.0), path: Path::from(uri) })
        }
    }

    async fn names(store: &Arc<dyn ObjectStore>) -> Vec<String> {
        use futures::TryStreamExt;
        let mut all: Vec<String> =
            store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        all.retain(|name| !name.contains("claims/") && !name.contains("probe"));
        all.sort();
        all
    }

    fn piece(run: &str, number: u32) -> Piece {
        Piece {
            step: "out".to_owned(),
            folder: "rows".to_owned(),
            staged: format!("_weir/{run}/g1/out-{number}.staged"),
            final_name: format!("out-{number}.ndjson"),
            rows: 1,
            bytes: 4,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_job_leaves_its_committed_output_and_nothing_staged() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let root = Root::new(Place::new(Arc::clone(&store), Path::from("state"), "state"));
        let new = NewJob { job: "j".to_owned(), owner: "me".to_owned(), key_groups: 8 };
        let mut journal = Journal::create(&root, &new, None).await.unwrap();
        journal.claim("me", Authority::Owner).await.unwrap();
        let run = journal.incarnation().id.clone();
        let sink = SinkSpec::Files {
            uri: "rows".to_owned(),
            store: StoreSpec::default(),
            format: SinkFormat::Ndjson,
        };
        let step =
            StepSpec { id: "out".to_owned(), from: vec!["s".to_owned()], verb: Verb::Sink(sink) };
        let pipeline = fit::pipeline_bytes(&[step]);
        journal.append(Entry::Plan(Plan { pipeline, ..Plan::default() })).await.unwrap();
        let generation = NewGeneration { number: 1, ..NewGeneration::default() };
        journal.append(Entry::Generation(generation)).await.unwrap();
        let committed = piece(&run, 1);
        let pieces = vec![committed.clone()];
        let id = CheckpointId(1);
        let checkpoint = CompletedCheckpoint { id, pieces, retained: 1, ..Default::default() };
        journal.append(Entry::Checkpoint(checkpoint)).await.unwrap();
        let put = |name: String| {
            let store = Arc::clone(&store);
            async move { store.put(&Path::from(name), "row\n".into()).await.unwrap() }
        };
        put(format!("rows/{}", committed.staged)).await;
        put(format!("rows/{}", piece(&run, 2).staged)).await;
        // Another job's, in the same folder.
        put(format!("rows/{}", piece("0ther", 3).staged)).await;
        let objects = One(Arc::clone(&store));
        let stranger = delete_state("j", None, &root, "they", &objects).await.unwrap_err();
        assert!(matches!(stranger, FreshError::Journal(JournalError::OwnedElsewhere { .. })));
        for _ in 0..2 {
            delete_state("j", None, &root, "me", &objects).await.unwrap();
            let left = ["rows/_weir/0ther/g1/out-3.staged", "rows/out-1.ndjson"];
            assert_eq!(names(&store).await, left);
        }
    }
}
