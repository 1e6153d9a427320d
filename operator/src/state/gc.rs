//! `weir state gc`: deletes what a job needs no more, or says what would go and why.
//!
//! Nobody runs the job: what its last generation left unnamed goes too, after a record that ends it, so
//! that a process which sleeps somewhere can never name any of it. Somebody runs it, or that cannot be
//! known (a state folder that `weir run` has not made itself): the last generation's is left alone.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use weir_engine::coordinator::leftovers::{Leftovers, LeftoversError, collect};
use weir_engine::objects::RealObjects;
use weir_state::gc::{Collect, Fate, GcError};
use weir_state::journal::Root;
use weir_state::objects::{StoreOptions, open_existing};

use super::{out, unreadable};
use crate::cli::GcArgs;
use crate::exit::{Exit, report, say};
use crate::run::folder::{FolderError, JobFolder};

/// Deletes, or says what would go.
pub(crate) async fn run(args: GcArgs) -> Exit {
    let place = match open_existing(&args.uri, &StoreOptions::default()).await {
        Ok(place) => place,
        Err(error) => {
            report(&error);
            return Exit::BadInput;
        }
    };
    let state = place.local.as_deref().and_then(|folder| folder.canonicalize().ok());
    let folder = match state.as_deref().map_or(Ok(None), JobFolder::around) {
        Ok(folder) => folder,
        Err(FolderError::Held { pid, .. }) => {
            say(&format!(
                "the job is run by process {pid}, which cleans up after itself: what its living \
                 generation wrote is left alone"
            ));
            None
        }
        Err(error) => {
            report(&error);
            return Exit::BadInput;
        }
    };
    let base = args.base.or_else(|| state.as_deref().and_then(JobFolder::base_beside));
    let how = match &folder {
        folder if args.dry_run => Collect::Plan { none_lives: folder.is_some() },
        Some(folder) => Collect::Owner(&folder.owner),
        None => Collect::Beside,
    };
    let root = Root::new(place);
    match look(&root, base, how).await {
        Ok(found) => {
            for (uri, why) in &found.not_looked_at {
                say(&format!("{uri} is not looked at: {why}"));
            }
            out(&text(&found, args.dry_run))
        }
        Err(LeftoversError::Journal(error) | LeftoversError::Clean(GcError::Journal(error))) => {
            unreadable(&error)
        }
        Err(error) => {
            report(&error);
            match error {
                LeftoversError::Clean(GcError::Store(cause)) if cause.is_transient() => {
                    Exit::Failed
                }
                _ => Exit::BadInput,
            }
        }
    }
}

async fn look(
    root: &Root,
    base: Option<PathBuf>,
    how: Collect<'_>,
) -> Result<Leftovers, LeftoversError> {
    let base_is_known = base.is_some();
    let objects = RealObjects { base_folder: base.unwrap_or_else(|| Path::new(".").to_owned()) };
    collect(root, &objects, base_is_known, how).await
}

/// A line for each object, and what it comes to.
fn text(found: &Leftovers, is_dry: bool) -> String {
    let (mut text, mut count, mut bytes) = (String::new(), 0_u64, 0_u64);
    for swept in &found.report.swept {
        let (what, why) = match (swept.fate, is_dry) {
            (Fate::Goes(why), true) => ("would go", why),
            (Fate::Goes(why), false) => ("deleted", why),
            (Fate::Stays(why), _) => ("left alone", why),
        };
        if matches!(swept.fate, Fate::Goes(_)) {
            count += 1;
            bytes += swept.bytes;
        }
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{what:<10}  {why:<29}  {:>12} bytes  {}", swept.bytes, swept.object);
    }
    let held = found.held;
    let done = if is_dry { "would be deleted" } else { "deleted" };
    let _ = writeln!(
        text,
        "{count} objects, {bytes} bytes {done}; held by {} checkpoints, {} snapshots, {} pins",
        held.checkpoints, held.snapshots, held.pins
    );
    text
}
