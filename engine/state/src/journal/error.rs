//! What can go wrong with a journal, and what a caller should do about it.

use crate::ids::{Seq, Term};
use crate::objects::StoreError;

/// What can go wrong with a journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// No job's state lies there.
    #[error("{uri} holds no job's state")]
    NoJob {
        /// Where.
        uri: String,
    },
    /// Another process made a job there first.
    #[error("{uri}: another process made the job's state at the same moment; open it")]
    CreatedElsewhere {
        /// Where.
        uri: String,
    },
    /// The state belongs to another job.
    #[error(
        "{uri} holds the state of job {found:?}, not of {expected:?}; give each job a state folder of its own"
    )]
    OtherJob {
        /// Where.
        uri: String,
        /// The job that was asked for.
        expected: String,
        /// The job whose state it is.
        found: String,
    },
    /// An object of another incarnation lies in this one's folder.
    #[error(
        "{object} belongs to incarnation {found}, not to {expected}; it was copied or moved there"
    )]
    OtherIncarnation {
        /// The object.
        object: String,
        /// The incarnation whose folder it lies in.
        expected: String,
        /// The incarnation it says.
        found: String,
    },
    /// Stored bytes are not what was written. Keep the object for inspection.
    #[error("{object} is damaged at byte {offset}: expected {expected}, found {found}")]
    Damaged {
        /// The object.
        object: String,
        /// Where in it.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Written by a newer Weir.
    #[error("{object} has format version {found}, this Weir reads up to {known}; use a newer Weir")]
    NewerFormat {
        /// The object.
        object: String,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A record of the journal says what cannot follow from those before it.
    #[error("{object}: {what}")]
    Contradiction {
        /// The record.
        object: String,
        /// What is wrong.
        what: String,
    },
    /// The record to append cannot follow; nothing was written.
    #[error("this record cannot be written after record {after}: {what}")]
    Refused {
        /// The journal's end.
        after: Seq,
        /// Why.
        what: String,
    },
    /// The number went to another record; the state was read again up to the new end. Nothing of
    /// the record holds: decide again.
    #[error("journal number {seq} went to another record")]
    Lost {
        /// The number.
        seq: Seq,
    },
    /// A newer coordinator of the same owner reigns. Stop writing.
    #[error("coordinator term {ours} was ended by term {theirs}")]
    Fenced {
        /// Our term.
        ours: Term,
        /// The newer term.
        theirs: Term,
    },
    /// Another owner has the job. Never claim again.
    #[error(
        "the state of job {job:?} is owned by {owner}; it has to be released there, or taken over explicitly"
    )]
    OwnedElsewhere {
        /// The job.
        job: String,
        /// Who owns it.
        owner: String,
    },
    /// A later incarnation replaced this one, or it was deleted. Stop writing.
    #[error("incarnation {incarnation} was replaced or deleted (claim {claim} exists)")]
    Superseded {
        /// The incarnation.
        incarnation: String,
        /// The later claim.
        claim: u64,
    },
    /// The job is finished; nothing can follow.
    #[error("job {job:?} is finished")]
    Finished {
        /// The job.
        job: String,
    },
    /// The caller has not claimed the journal, or has released it.
    #[error("the journal was not claimed by this coordinator")]
    NotClaimed,
    /// The floor moved faster than the journal could be read.
    #[error("{folder} changes faster than it can be read")]
    Unsettled {
        /// The incarnation's folder.
        folder: String,
    },
    /// A snapshot is pinned.
    #[error("snapshot {snapshot:?} is pinned by {holder}")]
    Pinned {
        /// The snapshot.
        snapshot: String,
        /// Who pins it.
        holder: String,
    },
    /// A snapshot is being deleted and can't be pinned.
    #[error("snapshot {snapshot:?} is being deleted")]
    SnapshotGone {
        /// The snapshot.
        snapshot: String,
    },
    /// The store refuses or does not answer. After an append its outcome is unknown; the next
    /// append or refresh settles it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Try again later.
    Retry,
    /// Look at the state again and decide anew.
    DecideAgain,
    /// Stop writing for good: somebody else reigns.
    StopWriting,
    /// A human has to look.
    AskHuman,
}

impl JournalError {
    /// What a caller should do about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Store(error) if error.is_transient() => Remedy::Retry,
            Self::Unsettled { .. } | Self::Pinned { .. } => Remedy::Retry,
            Self::Lost { .. } | Self::CreatedElsewhere { .. } => Remedy::DecideAgain,
            Self::Fenced { .. }
            | Self::OwnedElsewhere { .. }
            | Self::Superseded { .. }
            | Self::Finished { .. }
            | Self::NotClaimed => Remedy::StopWriting,
            _ => Remedy::AskHuman,
        }
    }
}
