//! What can go wrong in the state store, and what a caller should do about it.

use std::fmt;
use std::sync::Arc;

/// An operation on the object store, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Reading an object or a part of it.
    Read,
    /// Writing an object.
    Write,
}

impl fmt::Display for StoreOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// An error of the state store. Cheap to clone: several waiters get the same one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The object store refused, or did not answer in time after all retries.
    #[error("cannot {op} state object {object} (attempts: {attempts})")]
    Store {
        /// What was tried.
        op: StoreOp,
        /// Full name of the object.
        object: String,
        /// How often it was tried.
        attempts: u32,
        /// The last answer.
        #[source]
        source: Arc<object_store::Error>,
    },

    /// The object store gave no answer to the last of all retries.
    #[error(
        "cannot {op} state object {object}: no answer within {limit_ms} ms (attempts: {attempts})"
    )]
    NoAnswer {
        /// What was tried.
        op: StoreOp,
        /// Full name of the object.
        object: String,
        /// How often it was tried.
        attempts: u32,
        /// How long each attempt waited.
        limit_ms: u64,
    },

    /// An object that a version names is not in the store.
    #[error("state object {object} is named by a checkpoint but is not in the store")]
    Missing {
        /// Full name of the object.
        object: String,
    },

    /// The bytes of an object are not what was written. Never read as data.
    #[error(
        "state object {object} is damaged at byte {offset}: expected {expected}, found {found}"
    )]
    Damaged {
        /// Full name of the object.
        object: String,
        /// Offset in the object of the part that is damaged.
        offset: u64,
        /// What should have been there.
        expected: String,
        /// What was there.
        found: String,
    },

    /// The object was written by a newer Weir.
    #[error(
        "state object {object} has table format {found}, this Weir reads up to {known}: use a newer Weir"
    )]
    NewerFormat {
        /// Full name of the object.
        object: String,
        /// The object's format version.
        found: u32,
        /// The newest format version known here.
        known: u32,
    },

    /// A version, read from a record or about to be installed, breaks a rule of versions.
    #[error("state version of step {step} is not valid: {problem}")]
    BadVersion {
        /// The step whose state it is.
        step: String,
        /// Which rule, with the views' names.
        problem: String,
    },

    /// An order for a compaction can't be carried out as it was given.
    #[error("compaction {order} cannot be carried out: {problem}")]
    BadOrder {
        /// Which order: the beginning of its outputs' names.
        order: String,
        /// What is wrong with it.
        problem: String,
    },

    /// A background task ended without a result: it panicked or was aborted.
    #[error("{what} of step {step} ended without a result: {reason}")]
    TaskEnded {
        /// The step whose state it is.
        step: String,
        /// What the task did.
        what: &'static str,
        /// Why it ended.
        reason: String,
    },
}

/// What a caller should do about a [`StateError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Restart from the last checkpoint; the same may work then.
    Restart,
    /// The same would happen again: a human must look at the named object.
    AskHuman,
}

impl StateError {
    /// Whether the store does not answer: nothing that whoever asked could do better.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Store { source, .. } => crate::objects::is_outage(source),
            Self::NoAnswer { .. } => true,
            _ => false,
        }
    }

    /// What a caller should do.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Store { .. }
            | Self::NoAnswer { .. }
            | Self::TaskEnded { .. }
            | Self::BadOrder { .. } => Remedy::Restart,
            Self::Missing { .. }
            | Self::Damaged { .. }
            | Self::NewerFormat { .. }
            | Self::BadVersion { .. } => Remedy::AskHuman,
        }
    }
}
