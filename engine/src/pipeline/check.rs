//! Checks a declared job: every problem at once, each one sentence with its path.

use std::fmt;

use crate::pipeline::checked::{CheckedJob, SourceSchemas};
use crate::pipeline::spec::JobSpec;

/// Something in the declaration that cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `spec.pipeline[3].filter`.
    pub path: String,
    /// What, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Checks `job` against the columns of its sources. Problems come in the order of the steps.
///
/// A step behind one that has a problem is checked as far as that problem does not reach.
pub fn check(_job: &JobSpec, _sources: &SourceSchemas) -> Result<CheckedJob, Vec<Problem>> {
    unimplemented!()
}
