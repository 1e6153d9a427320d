//! Why a job can't begin, in words that say what to do.

use weir_state::journal::{JournalError, Remedy};
use weir_state::objects::StoreError;

use super::fit::Misfit;
use super::restore::RestoreError;
use crate::pipeline::check::Problem;
use crate::sink::SinkError;
use crate::source::SourceError;

/// Why a job can't begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// The manifest has problems.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// The manifest does not fit the state.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// A sink folder holds committed files of a run that the state does not know.
    #[error(
        "{path}: {folder} holds files of step {step} from another run ({file}); move them away, \
         choose another folder, or run with --fresh, which deletes them"
    )]
    ForeignFiles {
        /// Where in the manifest.
        path: String,
        /// The folder.
        folder: String,
        /// The sink's step.
        step: String,
        /// One of the files.
        file: String,
    },
    /// A source does not answer: not the manifest's fault.
    #[error("{path}: the source is unreachable")]
    Unreachable {
        /// Where in the manifest.
        path: String,
        /// Cause.
        #[source]
        cause: Box<SourceError>,
    },
    /// Nothing can be written in a sink's folder.
    #[error("{path}: nothing can be written in {folder}; choose another folder")]
    Unwritable {
        /// Where in the manifest.
        path: String,
        /// The folder.
        folder: String,
        /// Cause.
        #[source]
        cause: std::io::Error,
    },
    /// A sink's folder can't be looked at.
    #[error("{path}: the sink cannot be used")]
    Sink {
        /// Where in the manifest.
        path: String,
        /// Cause.
        #[source]
        cause: Box<SinkError>,
    },
    /// The state's store can't be used.
    #[error("spec.state.uri: the state cannot be used")]
    State(#[source] StoreError),
    /// Another owner has the state, and has not let go of it.
    #[error(
        "the state of job {job:?} is owned by {owner}; delete that job, or give this one another \
         state.uri. If the owner is gone for good, restoreFrom: {{takeOver: {owner:?}}} takes the state \
         over: what of it should run all the same is fenced and never claims it again"
    )]
    OwnedElsewhere {
        /// The job.
        job: String,
        /// Who owns it.
        owner: String,
    },
    /// The journal refuses.
    #[error(transparent)]
    Journal(JournalError),
    /// It can't begin from the other job's state.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

impl From<JournalError> for BeginError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::OwnedElsewhere { job, owner } => Self::OwnedElsewhere { job, owner },
            other => Self::Journal(other),
        }
    }
}

impl BeginError {
    /// Whether a source did not answer: that is no fault of the manifest, and may pass.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether trying again with the same manifest and folders gives the same.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Unreachable { .. } => false,
            Self::Sink { cause, .. } => cause.is_fatal(),
            Self::State(cause) => !cause.is_transient(),
            Self::Restore(cause) => cause.is_bad_input(),
            Self::Journal(cause) => matches!(cause.remedy(), Remedy::AskHuman),
            _ => true,
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
