//! The sweep: lists state and sink folders page by page, and deletes what is condemned.
//!
//! It acts on the journal's state as read by the caller. That is safe however old the state is:
//! what a dead generation left unnamed is never named later.

use std::collections::BTreeSet;
use std::path::{Path as FilePath, PathBuf};

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;
use object_store::path::Path;
use weir_runtime::task;

use super::choose::{Fate, Verdict};
use super::{GcError, SinkFolders};
use crate::ids::Seq;
use crate::journal::Journal;
use crate::names::{self, Incarnation};
use crate::objects::{Place, StoreOperation};

/// Objects looked at before what is condemned among them is deleted.
const PAGE_OBJECTS: usize = 1_000;

/// What a sweep found, and did or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Objects looked at.
    pub seen: u64,
    /// What goes, or went; and what stays though the journal does not name it.
    pub swept: Vec<Swept>,
}

/// One object that a sweep says something about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Swept {
    /// The object, as a user names it.
    pub object: String,
    /// What happens to it, and why.
    pub fate: Fate,
    /// Its size.
    pub bytes: u64,
}

impl SweepReport {
    /// The objects that go, or went.
    pub fn gone(&self) -> impl Iterator<Item = &Swept> {
        self.swept.iter().filter(|swept| matches!(swept.fate, Fate::Goes(_)))
    }
}

/// Deletes what dead generations left, below the incarnation's folder and the sinks' `_weir/`. To be
/// called at each new generation, at the end, and once a day.
pub async fn sweep(journal: &Journal, sinks: &SinkFolders) -> Result<SweepReport, GcError> {
    walk(journal, sinks, Sweeper::new(true), Depth::Sweep).await
}

/// What [`sweep`] would do now.
pub async fn plan_sweep(journal: &Journal, sinks: &SinkFolders) -> Result<SweepReport, GcError> {
    walk(journal, sinks, Sweeper::new(false), Depth::Sweep).await
}

/// How much goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// What dead generations left.
    Sweep,
    /// Also what records gave up and what lies below the journal's floor.
    Thorough {
        /// The last generation is dead too.
        none_lives: bool,
    },
}

pub(super) async fn walk(
    journal: &Journal,
    sinks: &SinkFolders,
    mut sweeper: Sweeper,
    depth: Depth,
) -> Result<SweepReport, GcError> {
    let run = journal.incarnation().id.clone();
    // Only earlier ones: to a coordinator that was superseded the present run is a later one.
    let earlier = |run: &Incarnation| run.number < journal.incarnation().number;
    let claimed = journal.root().claimed().await?;
    let dead_runs: BTreeSet<String> =
        claimed.into_iter().filter(earlier).map(|dead| dead.id).collect();
    let mut verdict = Verdict::new(journal.state(), &run, &dead_runs);
    if let Depth::Thorough { none_lives } = depth {
        verdict = verdict.thorough(journal.state(), none_lives);
    }

    let objects = journal.objects();
    sweeper.folder(&objects, &objects.prefix, |name| verdict.object(name)).await?;
    sweeper.leftovers(&objects, |name| verdict.leftover_object(name)).await?;
    for (uri, place) in sinks {
        let staging = place.path("_weir");
        sweeper.folder(place, &staging, |name| verdict.staged(uri, name)).await?;
        sweeper.leftovers(place, |name| verdict.leftover_in_sink(name)).await?;
        sweeper
            .empty_staging(place, |name| matches!(verdict.staged(uri, name), Fate::Goes(_)))
            .await;
    }
    let (place, end) = (journal.place(), journal.state().seq);
    let over = journal.state().finished.is_some() || depth == Depth::Thorough { none_lives: true };
    sweeper.leftovers(place, |name| leftover_record(name, end, over)).await?;
    let (root, present) = (&journal.root().place, journal.incarnation().number);
    sweeper.folder(root, &root.path("claims"), |name| claim_or_probe(name, present)).await?;
    let claims = root.folder("claims");
    sweeper.leftovers(&claims, |name| leftover_claim(name, present)).await?;
    if depth != Depth::Sweep {
        let below = journal.below_floor().await?;
        sweeper.objects(place, below, |_| Fate::Goes(super::Why::Replaced)).await?;
    } else if sweeper.delete {
        journal.delete_below_floor().await?;
    }
    Ok(sweeper.report)
}

/// The fate of the temporary file of a journal record or base: numbers up to the end are taken.
fn leftover_record(name: &str, end: Seq, over: bool) -> Fate {
    let number = name.strip_prefix("journal/").or_else(|| name.strip_prefix("base/"));
    match number.and_then(names::number) {
        Some(number) if number <= end.0 || over => Fate::Goes(super::Why::Leftover),
        Some(_) => Fate::Stays(super::Why::Living),
        None => Fate::Stays(super::Why::Foreign),
    }
}

/// The fate of what lies among the claims: a probe that a crash cut off goes. (One that is still
/// under way is repeated by its prober.)
fn claim_or_probe(name: &str, present: u64) -> Fate {
    let name = name.strip_prefix("claims/").unwrap_or(name);
    match names::number(name) {
        Some(number) if number <= present => Fate::Stays(super::Why::Named),
        Some(_) => Fate::Stays(super::Why::Later),
        None if name.starts_with("probe-") => Fate::Goes(super::Why::Leftover),
        None => Fate::Stays(super::Why::Foreign),
    }
}

/// The fate of the temporary file of a claim's or probe's put.
fn leftover_claim(name: &str, present: u64) -> Fate {
    match claim_or_probe(name, present) {
        Fate::Stays(super::Why::Named) => Fate::Goes(super::Why::Leftover),
        fate => fate,
    }
}

pub(super) struct Sweeper {
    delete: bool,
    pub(super) report: SweepReport,
}

impl Sweeper {
    pub(super) fn new(delete: bool) -> Self {
        Self { delete, report: SweepReport::default() }
    }

    /// Looks at all objects below `folder`; names are below `place`.
    pub(super) async fn folder(
        &mut self,
        place: &Place,
        folder: &Path,
        fate: impl Fn(&str) -> Fate,
    ) -> Result<(), GcError> {
        place.count_request();
        let mut pages = place.store.list(Some(folder)).try_chunks(PAGE_OBJECTS).boxed();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| place.error(StoreOperation::List, folder, error.1))?;
            self.objects(place, page, &fate).await?;
        }
        Ok(())
    }

    /// Looks at these objects; names are below `place`.
    pub(super) async fn objects(
        &mut self,
        place: &Place,
        page: Vec<ObjectMeta>,
        fate: impl Fn(&str) -> Fate,
    ) -> Result<(), GcError> {
        let mut doomed = Vec::new();
        for ObjectMeta { location, size, .. } in page {
            let fate = fate(&place.name_of(&location).unwrap_or_default());
            if self.note(place.display(&location), fate, size) {
                doomed.push(location);
            }
        }
        if self.delete {
            place.delete(&doomed).await?;
        }
        Ok(())
    }

    /// Looks at the temporary files of puts in a local folder; `fate` gets the name of the object
    /// that was to be.
    async fn leftovers(
        &mut self,
        place: &Place,
        fate: impl Fn(&str) -> Fate,
    ) -> Result<(), GcError> {
        let Some(root) = place.local.clone() else { return Ok(()) };
        let found = task::blocking(move || temporary_files(&root)).await;
        let mut doomed = Vec::new();
        for (name, file) in found.unwrap_or_default() {
            let bytes = std::fs::metadata(&file).map_or(0, |meta| meta.len());
            if self.note(file.display().to_string(), fate(&name), bytes) {
                doomed.push(file);
            }
        }
        if self.delete {
            let removed = task::blocking(move || {
                for file in doomed {
                    // Gone already, or in the way of nothing: the next sweep sees it again.
                    drop(std::fs::remove_file(file));
                }
            });
            drop(removed.await);
        }
        Ok(())
    }

    /// Removes empty staging folders of a local sink; `dead` says so of a name in one.
    async fn empty_staging(&self, place: &Place, dead: impl Fn(&str) -> bool) {
        let Some(root) = place.local.as_ref().filter(|_| self.delete) else { return };
        let staging = root.join("_weir");
        let listed = task::blocking(move || staging_folders(&staging)).await.unwrap_or_default();
        let mut doomed = Vec::new();
        for (run, folder) in listed {
            let generations = folder.iter().filter(|name| dead(&format!("_weir/{run}/{name}/x")));
            let home = root.join("_weir").join(&run);
            let all = generations.clone().count() == folder.len();
            doomed.extend(generations.map(|name| home.join(name)));
            doomed.extend(all.then_some(home));
        }
        doomed.push(root.join("_weir"));
        let removed = task::blocking(move || {
            for folder in doomed {
                // A folder with something in it is not removed.
                drop(std::fs::remove_dir(folder));
            }
        });
        drop(removed.await);
    }

    /// Reports an object; whether it goes.
    fn note(&mut self, object: String, fate: Fate, bytes: u64) -> bool {
        self.report.seen += 1;
        let goes = matches!(fate, Fate::Goes(_));
        let told = [Fate::Stays(super::Why::Foreign), Fate::Stays(super::Why::Pinned)];
        if goes || told.contains(&fate) {
            self.report.swept.push(Swept { object, fate, bytes });
        }
        goes
    }
}

/// Names of the folders below each run's staging folder.
fn staging_folders(staging: &FilePath) -> Vec<(String, Vec<String>)> {
    let names = |folder: &FilePath| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let runs = names(staging).into_iter();
    runs.map(|run| (run.clone(), names(&staging.join(run)))).collect()
}

/// Temporary files below `root` (`<name>#<n>`), each with the name of the object that was to be.
fn temporary_files(root: &FilePath) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let file = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(file);
                continue;
            }
            let Some(name) = file.strip_prefix(root).ok().and_then(FilePath::to_str) else {
                continue;
            };
            if let Some((name, attempt)) = name.rsplit_once('#')
                && names::number(attempt).is_some()
            {
                found.push((name.to_owned(), file.clone()));
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_cut_off_goes_once_its_number_is_taken() {
        let fate = |name: &str, over| leftover_record(name, Seq(7), over);
        assert!(matches!(fate("journal/00000000000000000007", false), Fate::Goes(_)));
        assert!(matches!(fate("journal/00000000000000000008", false), Fate::Stays(_)));
        assert!(matches!(fate("journal/00000000000000000008", true), Fate::Goes(_)));
        assert!(matches!(fate("base/00000000000000000003", false), Fate::Goes(_)));
        assert!(matches!(fate("objects/x", true), Fate::Stays(_)));
    }

    #[test]
    fn probes_go_and_claims_stay() {
        assert!(matches!(claim_or_probe("claims/3", 3), Fate::Stays(_)));
        assert!(matches!(claim_or_probe("claims/probe-ab", 3), Fate::Goes(_)));
        assert!(matches!(claim_or_probe("claims/notes", 3), Fate::Stays(_)));
        assert!(matches!(leftover_claim("3", 3), Fate::Goes(_)));
        assert!(matches!(leftover_claim("4", 3), Fate::Stays(_)));
    }

    #[test]
    fn temporary_files_are_found_wherever_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        for name in ["a/b/x.sst#1", "y#12", "plain", "a/z#", "a/z#1x"] {
            std::fs::write(root.join(name), "").unwrap();
        }
        let found: Vec<String> = temporary_files(root).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, ["a/b/x.sst", "y"]);
    }
}
