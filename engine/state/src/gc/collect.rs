//! Everything that may be deleted of a job, in one go: for a tool, with or without the job running.
//!
//! Beside a running job it leaves alone what the living generation may still name. Whoever knows
//! that no process of the job's owner lives, having the job's lock, ends that generation first by a
//! record ([`Collect::Owner`]): from then on nothing that it still writes can ever be named, and
//! its coordinator, should it wake up, is fenced.

use weir_runtime::clock;

use super::sweep::{Depth, SweepReport, Sweeper, walk};
use super::{Fate, GcError, SinkFolders, Why, delete_incarnation};
use crate::journal::record::Authority;
use crate::journal::{Entry, Journal, Root, is_held};

/// What a collection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collect<'a> {
    /// Say what would go; `none_lives`: as for an owner of whom no process lives.
    Plan {
        /// Nobody runs the job.
        none_lives: bool,
    },
    /// Delete what goes whether the job runs or not.
    Beside,
    /// Delete as the owner of whom no other process lives.
    Owner(&'a str),
}

/// Collects what `root` holds of dead incarnations, and what the present one (`journal`, if there
/// is one) no longer needs in its state and sink folders. A crash anywhere resumes.
pub async fn collect(
    root: &Root,
    mut journal: Option<&mut Journal>,
    sinks: &SinkFolders,
    how: Collect<'_>,
) -> Result<SweepReport, GcError> {
    let delete = !matches!(how, Collect::Plan { .. });
    if let (Collect::Owner(owner), Some(journal)) = (how, journal.as_deref_mut())
        && journal.state().living_generation().is_some()
    {
        journal.claim(owner, Authority::Owner).await?;
        journal.append(Entry::Released).await?;
    }
    let mut dead = Sweeper::new(false);
    for incarnation in root.dead().await? {
        let is_pinned = is_held(root, &incarnation, clock::wall_ms()).await?;
        let fate = if is_pinned { Fate::Stays(Why::Pinned) } else { Fate::Goes(Why::DeadRun) };
        let place = root.incarnation(&incarnation);
        dead.folder(&place, &place.prefix, |_| fate).await?;
        if delete && !is_pinned {
            delete_incarnation(root, &incarnation).await?;
        }
    }
    let Some(journal) = journal else { return Ok(dead.report) };
    let none_lives = how == Collect::Plan { none_lives: true };
    let sweeper = Sweeper::new(delete);
    let swept = walk(journal, sinks, sweeper, Depth::Thorough { none_lives }).await?;
    dead.report.seen += swept.seen;
    dead.report.swept.extend(swept.swept);
    Ok(dead.report)
}
