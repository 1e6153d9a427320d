//! What lies in the folders of a finished job is exactly what its journal names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use weir_state::journal::{Journal, Root};
use weir_state::objects::{StoreOptions, open_existing};

use crate::command::Folder;

/// All files below a folder, by path below it.
pub(crate) fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for entry in entries.flatten() {
            let path: PathBuf = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let below = path.strip_prefix(folder).expect("below the folder");
                found.insert(below.display().to_string());
            }
        }
    }
    found
}

#[track_caller]
pub(crate) fn assert_folders_are_as_the_journal_says(folder: &Folder, job: &str, sink: &str) {
    let state = folder.path().join("weir-data").join(job).join("state");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (run, named) = runtime.expect("a runtime").block_on(async {
        let place = open_existing(&state.display().to_string(), &StoreOptions::default()).await;
        let place = place.expect("the state folder is there");
        let journal = Journal::open(&Root::new(place)).await.expect("the journal is readable");
        let journal = journal.expect("the job has a journal");
        assert!(journal.state().finished.is_some(), "the job is finished");
        assert!(journal.state().staged_pieces().is_empty(), "all commits are confirmed");
        let named: BTreeSet<String> =
            journal.state().named_objects().into_iter().map(str::to_owned).collect();
        (journal.incarnation().to_string(), named)
    });
    let all = files(&state);
    let prefix = format!("{run}/objects/");
    let objects: BTreeSet<String> =
        all.iter().filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned).collect();
    assert_eq!(objects, named, "state objects and what the journal names");
    let foreign: Vec<_> = all
        .iter()
        .filter(|path| {
            let inside = [format!("{run}/journal/"), format!("{run}/base/"), prefix.clone()];
            !path.starts_with("claims/") && !inside.iter().any(|part| path.starts_with(part))
        })
        .collect();
    assert!(foreign.is_empty(), "files of nobody: {foreign:?}");
    let staged = files(&folder.path().join(sink).join("_weir"));
    assert!(staged.is_empty(), "staged pieces left: {staged:?}");
    let odd: Vec<_> = files(&folder.path().join(sink))
        .into_iter()
        .filter(|name| !name.ends_with(".ndjson"))
        .collect();
    assert!(odd.is_empty(), "files of nobody in the sink's folder: {odd:?}");
}
