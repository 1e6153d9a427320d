//! The journal: a job's log of numbered records, the only authority.
//!
//! `<uri>/claims/<n>` says which incarnation is present; `<uri>/<n>-<id>/journal/<seq>` are its
//! records, each created if absent; `<uri>/<n>-<id>/base/<seq>` hold the whole state at a number and
//! are the floor below which records may be gone. docs/design/0003-journal.md fixes the bytes.
//!
//! - `journal/record.rs` — the records. `journal/state.rs` — what they add up to: start reading here.
//! - `journal/fold.rs`, `journal/delta.rs` — how a record moves the state on. Pure.
//! - `journal/base.rs`, `journal/envelope.rs` — bytes.
//! - `journal/claims.rs`, `journal/reader.rs`, `journal/writer.rs`, `journal/pins.rs` — requests.
//! - `journal/entry.rs` — what a caller appends. `journal/summary.rs` — what a tool shows.
//!
//! # What must stay true
//!
//! 1. One linear history: a number belongs to the record that was created there first.
//! 2. Success means: the id and content at the number are mine, no base at or above it exists, and
//!    no later claim.
//! 3. A record that was sent stays the only candidate for its number until the winner is read.
//! 4. A lost number voids the record: the caller decides again from the new end.
//! 5. Records and bases go only below a floor that was written and read back.

mod base;
mod claims;
mod delta;
mod entry;
mod envelope;
mod error;
mod fold;
mod pins;
mod reader;
pub mod record;
pub mod state;
mod summary;
mod writer;

use std::time::Duration;

use object_store::path::Path;

pub use self::delta::{DeltaError, apply, diff, shards};
pub use self::entry::{CompletedCheckpoint, Entry, NewJob};
pub use self::error::{JournalError, Remedy};
pub use self::fold::FoldError;
pub(crate) use self::pins::{condemn, doomed};
pub use self::pins::{holders, is_held, pin, release_snapshot, unpin};
pub use self::state::{CheckpointState, Doomed, JobState, ShardKey, Shards};
pub use self::summary::{
    CheckpointSummary, IncarnationSummary, JobSummary, ShardSummary, summarize,
};
pub use self::writer::Journal;
use crate::ids::Seq;
use crate::names::Incarnation;
use crate::objects::{Place, RETRY_MAX};

/// Records between two bases. A cold start reads at most about twice as many.
pub const BASE_EVERY_RECORDS: u64 = 64;

/// A job's state folder: claims and incarnations lie below it.
#[derive(Clone, Debug)]
pub struct Root {
    /// Where it is.
    pub place: Place,
    /// Records between two bases.
    pub base_every: u64,
    /// How long a put whose outcome is unknown is followed up before the error is the answer.
    pub settle_max: Duration,
}

impl Root {
    /// The state folder at `place`.
    pub fn new(place: Place) -> Self {
        Self { place, base_every: BASE_EVERY_RECORDS, settle_max: RETRY_MAX }
    }

    /// The folder of one incarnation.
    pub fn incarnation(&self, incarnation: &Incarnation) -> Place {
        self.place.folder(&incarnation.to_string())
    }

    /// The present incarnation's number and name, if the job has one. No record is read.
    pub async fn present(&self) -> Result<Option<Incarnation>, JournalError> {
        Ok(claims::present(self).await?.and_then(|present| present.incarnation()))
    }

    /// All claimed incarnations, dead ones too (their ids are needed to know their sink files).
    pub async fn claimed(&self) -> Result<Vec<Incarnation>, JournalError> {
        let mut claimed = Vec::new();
        for number in claims::numbers(self, 0).await? {
            if let Some(claim) = claims::read(self, number).await? {
                claimed.push(Incarnation { number, id: claim.id });
            }
        }
        Ok(claimed)
    }

    /// Incarnations that are not the present one and of which something is left.
    pub async fn dead(&self) -> Result<Vec<Incarnation>, JournalError> {
        let Some(present) = claims::present(self).await? else { return Ok(Vec::new()) };
        let mut folders = claims::folders(self).await?;
        // A later one than the claim just read is being created at this moment.
        folders.retain(|incarnation| present.voids(incarnation));
        Ok(folders)
    }

    /// Whether an incarnation is dead for good: a later claim exists, or its own says so.
    pub(crate) async fn is_dead(&self, incarnation: &Incarnation) -> Result<bool, JournalError> {
        let present = claims::present(self).await?;
        Ok(present.is_some_and(|present| present.voids(incarnation)))
    }

    fn claim_path(&self, number: u64) -> Path {
        self.place.path(&format!("claims/{number}"))
    }
}

/// The paths within one incarnation's folder.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) place: Place,
    pub(crate) incarnation: Incarnation,
}

impl Folder {
    pub(crate) fn new(root: &Root, incarnation: Incarnation) -> Self {
        Self { place: root.incarnation(&incarnation), incarnation }
    }

    pub(crate) fn record(&self, seq: Seq) -> Path {
        self.place.path(&format!("journal/{:020}", seq.0))
    }

    pub(crate) fn base(&self, seq: Seq) -> Path {
        self.place.path(&format!("base/{:020}", seq.0))
    }
}
