//! Why a stage task stops, in the user's words, and what to do about it.

use std::error::Error;
use std::sync::Arc;

use weir_state::StateError;

use super::staged::CUTS_MAX;
use crate::exchange::{self, ExchangeError};
use crate::sink::SinkError;
use crate::source::SourceError;

/// Why a stage task stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// The source can't be read, or one of its rows not understood.
    #[error(transparent)]
    Source(SourceError),

    /// A step failed on a row that still has its origin.
    #[error("{step}: {place}: {message}")]
    Row {
        /// Step.
        step: String,
        /// Source step, object and row or byte.
        place: String,
        /// What happened.
        message: String,
    },

    /// A step failed behind the first aggregate.
    #[error("{step}: {key}: {message}")]
    Key {
        /// Step.
        step: String,
        /// Which key.
        key: String,
        /// What happened.
        message: String,
    },

    /// Output can't be written.
    #[error(transparent)]
    Sink(Arc<SinkError>),

    /// Checkpoints kept failing; their output would pile up without limit.
    #[error("{step}: {CUTS_MAX} checkpoints in a row were not completed")]
    TooManyCuts {
        /// Head step of the stage.
        step: String,
    },

    /// State can't be read or written.
    #[error("{step}: {what}")]
    State {
        /// Step.
        step: String,
        /// What was tried.
        what: &'static str,
        /// Cause.
        #[source]
        cause: StateError,
    },

    /// A value in the state is not what this step writes.
    #[error("{step}: state of {key}: {message}")]
    StateValue {
        /// Step.
        step: String,
        /// Which key.
        key: String,
        /// What is wrong.
        message: String,
    },

    /// A channel failed. When it broke, the worker at its other end is usually gone.
    #[error("{step}")]
    Exchange {
        /// Step.
        step: String,
        /// Cause.
        #[source]
        cause: ExchangeError,
    },

    /// A panic, or a rule of ours that does not hold.
    #[error("bug in Weir, please report it: stage of step {step}, subtask {subtask}: {message}")]
    Bug {
        /// Head step of the stage.
        step: String,
        /// Subtask.
        subtask: u32,
        /// The panic's message.
        message: String,
    },
}

/// What the worker does about a [`StageError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The same rows would fail again: the job fails.
    FailJob,
    /// Restart from the last checkpoint, counted against the budget.
    Restart,
    /// The coordinator will see it by itself; report it only if it does not.
    AwaitCoordinator,
}

impl StageError {
    /// A channel of the stage headed by `step` failed.
    pub(crate) fn exchange(step: &str, cause: ExchangeError) -> Self {
        Self::Exchange { step: step.to_owned(), cause }
    }

    /// Whether it is a store that does not answer, which is no fault of the job.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Source(error) => error.is_outage(),
            Self::Sink(error) => error.is_outage(),
            Self::State { cause, .. } => cause.is_outage(),
            _ => false,
        }
    }

    /// What the worker does about it.
    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Self::Source(error) if error.is_fatal() => Remedy::FailJob,
            Self::Row { .. } | Self::Key { .. } | Self::StateValue { .. } => Remedy::FailJob,
            Self::Sink(error) if error.is_fatal() => Remedy::FailJob,
            Self::Exchange { cause, .. } => match cause.remedy() {
                exchange::Remedy::FailJob => Remedy::FailJob,
                exchange::Remedy::NewGeneration => Remedy::AwaitCoordinator,
            },
            Self::State { cause, .. } => match cause.remedy() {
                weir_state::Remedy::AskHuman => Remedy::FailJob,
                weir_state::Remedy::Restart => Remedy::Restart,
            },
            Self::Source(_) | Self::Sink(_) | Self::TooManyCuts { .. } | Self::Bug { .. } => {
                Remedy::Restart
            }
        }
    }
}

/// An error with all its causes, in one line. A cause that its error quotes already is not
/// repeated.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let next = inner.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write x")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the store says: {0}")]
    struct Inner(#[source] std::io::Error);

    #[test]
    fn a_chain_names_each_cause_once() {
        let error = Outer(Inner(std::io::Error::other("disk full")));
        assert_eq!(chain(&error), "cannot write x: the store says: disk full");
    }
}
