//! Deletion of a whole incarnation, and of sink files by their names.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use weir_runtime::clock;

use super::GcError;
use crate::journal::{Folder, Root, condemn, doomed};
use crate::names::{self, Incarnation};
use crate::objects::{Place, StoreOperation};

/// Objects per deletion.
const PAGE_OBJECTS: usize = 1_000;

/// Deletes all of an incarnation that is not the present one; its claim stays, so nothing of it is
/// ever taken for the present one. False: a pin or a snapshot holds it, and all of it stays.
///
/// A crash anywhere resumes: [`Root::dead`] names it until nothing is left.
pub async fn delete_incarnation(root: &Root, dead: &Incarnation) -> Result<bool, GcError> {
    if !root.is_dead(dead).await? {
        let incarnation = dead.to_string();
        return Err(GcError::Present { incarnation });
    }
    if !condemn(root, dead, clock::wall_ms()).await? {
        return Ok(false);
    }
    let (place, last) = (root.incarnation(dead), doomed(&Folder::new(root, dead.clone())));
    delete_below(&place, &place.prefix, Some(&last)).await?;
    place.delete(&[last]).await?;
    if let Some(folder) = place.local {
        // Temporary files of puts that a crash cut off are no objects.
        let removed = weir_runtime::task::blocking(move || std::fs::remove_dir_all(folder));
        drop(removed.await);
    }
    Ok(true)
}

/// The committed files of `step` in a sink's folder: their names and runs.
pub async fn sink_files(sink: &Place, step: &str) -> Result<Vec<(String, String)>, GcError> {
    let listed = sink.files().await?;
    let names = listed.iter().filter_map(|meta| meta.location.filename());
    let of_step = names.filter_map(|name| {
        let (by, run) = names::committed_by(name)?;
        (by == step).then(|| (name.to_owned(), run))
    });
    let mut files: Vec<_> = of_step.collect();
    files.sort();
    Ok(files)
}

/// Deletes, for `--fresh`, what earlier runs left in a sink's folder and nothing else: first the
/// staged pieces of `runs`, then all committed files of `step`, whatever their run.
pub async fn delete_sink_files(
    sink: &Place,
    step: &str,
    runs: &BTreeSet<String>,
) -> Result<(), GcError> {
    let mut dead = runs.clone();
    let committed = sink_files(sink, step).await?;
    dead.extend(committed.iter().map(|(_, run)| run.clone()));
    for run in &dead {
        delete_staged(sink, run).await?;
    }
    let paths: Vec<Path> = committed.iter().map(|(name, _)| sink.path(name)).collect();
    sink.delete(&paths).await?;
    if let Some(folder) = &sink.local {
        let (folder, step) = (folder.clone(), step.to_owned());
        let removed = weir_runtime::task::blocking(move || remove_temporary(&folder, &step, &dead));
        drop(removed.await);
    }
    Ok(())
}

/// Removes temporary files of cut-off copies of the step's files, and empty staging folders.
fn remove_temporary(folder: &std::path::Path, step: &str, dead: &BTreeSet<String>) {
    for run in dead {
        drop(std::fs::remove_dir_all(folder.join("_weir").join(run)));
    }
    drop(std::fs::remove_dir(folder.join("_weir")));
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((name, attempt)) = name.to_str().and_then(|name| name.rsplit_once('#')) else {
            continue;
        };
        let of_step = names::committed_by(name).is_some_and(|(by, _)| by == step);
        if of_step && names::number(attempt).is_some() {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

/// Deletes all that a run has staged in a sink's folder.
pub async fn delete_staged(sink: &Place, run: &str) -> Result<(), GcError> {
    delete_below(sink, &sink.path(&format!("_weir/{run}")), None).await
}

async fn delete_below(place: &Place, folder: &Path, but: Option<&Path>) -> Result<(), GcError> {
    place.count_request();
    let listing = place.store.list(Some(folder)).map_ok(|meta| meta.location);
    let mut pages = listing.try_chunks(PAGE_OBJECTS).boxed();
    while let Some(page) = pages.next().await {
        let mut page = page.map_err(|error| place.error(StoreOperation::List, folder, error.1))?;
        page.retain(|path| Some(path) != but);
        place.delete(&page).await?;
    }
    Ok(())
}
