//! What a job has left that may be deleted, for a tool: with or without the job running.
//!
//! The journal says which pipeline ran and so where its sinks wrote; a manifest is not needed.

use std::collections::{BTreeMap, BTreeSet};

use object_store::ObjectStoreExt;
use weir_runtime::clock;
use weir_state::gc::{self, Collect, Fate, GcError, SinkFolders, SweepReport, Swept, Why};
use weir_state::journal::{Doomed, JobState, Journal, JournalError, Root, holders};

use super::begin::{Misfit, recorded_steps};
use super::tables;
use crate::objects::{Objects, place};
use crate::pipeline::spec::{SinkSpec, StepSpec, StoreSpec, Verb};

/// What was found, and deleted if that was asked for.
#[derive(Clone, Debug, Default)]
pub struct Leftovers {
    /// What goes, or went, and what stays for a reason to be told.
    pub report: SweepReport,
    /// What keeps objects from being deleted.
    pub held: Held,
    /// Sink folders that were not looked at, each with the reason.
    pub not_looked_at: Vec<(String, String)>,
}

/// What keeps objects from being deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Checkpoints that are kept, those of snapshots too.
    pub checkpoints: usize,
    /// Named snapshots.
    pub snapshots: usize,
    /// Pins of readers and forks.
    pub pins: usize,
}

/// Why it could not be found out or deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeftoversError {
    /// The folder holds no job's state, or its journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal's plan can't be read.
    #[error(transparent)]
    Plan(#[from] Misfit),
    /// Something can't be listed or deleted.
    #[error(transparent)]
    Clean(#[from] GcError),
}

/// Finds, and deletes unless `how` only plans, what is left at `root` and in the sink folders of its
/// job. Without the manifest's folder (`base_is_known`) relative sinks are not looked at.
pub async fn collect(
    root: &Root,
    objects: &dyn Objects,
    base_is_known: bool,
    how: Collect<'_>,
) -> Result<Leftovers, LeftoversError> {
    let mut journal = Journal::open(root).await?;
    if journal.is_none() && root.dead().await?.is_empty() && root.claimed().await?.is_empty() {
        return Err(JournalError::NoJob { uri: root.place.uri.clone() }.into());
    }
    let mut found = Leftovers::default();
    let (mut sinks, mut outdated) = (SinkFolders::new(), Vec::new());
    if let Some(journal) = &journal {
        let steps = recorded_steps(journal.state())?;
        found.held = held(root, journal).await?;
        for (uri, store) in folders(&steps, journal.state()) {
            if !base_is_known && is_relative(&uri) {
                let why = "it is relative to the manifest's folder, which --base names";
                found.not_looked_at.push((uri, why.to_owned()));
                continue;
            }
            match place(objects, &uri, &store) {
                Ok(place) => drop(sinks.insert(uri, place)),
                Err(error) => found.not_looked_at.push((uri, error.to_string())),
            }
        }
        outdated = replaced(journal, &steps, &sinks, how).await?;
    }
    found.report = gc::collect(root, journal.as_mut(), &sinks, how).await?;
    found.report.swept.extend(outdated);
    found.report.swept.sort();
    Ok(found)
}

fn is_relative(uri: &str) -> bool {
    !uri.contains("://") && !uri.starts_with('/')
}

async fn held(root: &Root, journal: &Journal) -> Result<Held, JournalError> {
    let state = journal.state();
    let pins = holders(root, journal.incarnation(), clock::wall_ms()).await?;
    Ok(Held {
        checkpoints: state.checkpoints.len(),
        snapshots: state.snapshots.len(),
        pins: pins.len(),
    })
}

/// Where the job's sinks wrote, and where an earlier pipeline's left something.
fn folders(steps: &[StepSpec], state: &JobState) -> BTreeMap<String, StoreSpec> {
    let condemned = state.condemned.values().flatten().filter_map(|doomed| match doomed {
        Doomed::Staged { folder, .. } => Some(folder),
        Doomed::Object(_) => None,
    });
    let unconfirmed = state.unconfirmed.values().flatten().map(|piece| &piece.folder);
    let earlier = condemned.chain(unconfirmed).filter(|folder| !folder.is_empty());
    let mut folders: BTreeMap<String, StoreSpec> =
        earlier.map(|folder| (folder.clone(), StoreSpec::default())).collect();
    for step in steps {
        if let Verb::Sink(sink) = &step.verb
            && let Some((uri, store)) = sink.folder()
        {
            folders.insert(uri.to_owned(), store.clone());
        }
    }
    folders
}

/// Snapshots of tables that newer ones have replaced; deleted unless `how` only plans.
async fn replaced(
    journal: &Journal,
    steps: &[StepSpec],
    sinks: &SinkFolders,
    how: Collect<'_>,
) -> Result<Vec<Swept>, GcError> {
    let mut swept = BTreeSet::new();
    for step in steps {
        let Verb::Sink(SinkSpec::Table(table)) = &step.verb else { continue };
        let Some(place) = sinks.get(&table.uri) else { continue };
        let outdated = tables::find_outdated(journal, &step.id, place).await?;
        for name in outdated {
            let path = place.path(&name);
            let object = place.display(&path);
            // Gone meanwhile: then it has no size.
            let bytes = place.store.head(&path).await.map_or(0, |meta| meta.size);
            swept.insert(Swept { object, fate: Fate::Goes(Why::Replaced), bytes });
            if !matches!(how, Collect::Plan { .. }) {
                place.delete(&[path]).await?;
            }
        }
    }
    Ok(swept.into_iter().collect())
}
