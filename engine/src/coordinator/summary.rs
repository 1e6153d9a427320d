//! What a run has counted: its summary, shown at the end and kept in the `Finished` record for
//! whoever asks again; and its totals, kept in each checkpoint's record for the run's next process.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::status::{Rescale, Status, StepRows};

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Rows read by sources.
    pub rows_in: u64,
    /// Rows taken by sinks.
    pub rows_out: u64,
    /// Rows that came after all their windows had closed.
    pub late_rows: u64,
    /// Rows that did not parse.
    pub bad_rows: u64,
    /// Completed checkpoints.
    pub checkpoints: u64,
    /// Errors after which the job went on.
    pub restarts: u64,
    /// Changes of replicas or slots.
    pub rescales: u64,
    /// The last of them.
    pub last_rescale: Option<Rescale>,
    /// Requests to the state store, by coordinator and workers.
    pub requests: u64,
}

impl Summary {
    /// Of a status.
    pub fn of(status: &Status) -> Self {
        Self {
            rows_in: status.rows_in,
            rows_out: status.rows_out,
            late_rows: status.late_rows(),
            bad_rows: status.bad_rows(),
            checkpoints: status.checkpoints,
            restarts: status.restarts,
            rescales: status.rescales,
            last_rescale: status.last_rescale,
            requests: status.requests,
        }
    }

    pub(crate) fn to_bytes(self) -> Bytes {
        serde_json::to_vec(&self).expect("numbers are JSON").into()
    }

    /// A summary that can't be read is shown as zeros: nothing is decided from it.
    pub(crate) fn from_bytes(bytes: &Bytes) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }
}

/// What a run has counted up to a checkpoint. Errors and requests after it are forgotten when the
/// coordinator's process is lost; rows are counted again, as they are processed again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Totals {
    pub(crate) steps: BTreeMap<String, StepRows>,
    pub(crate) checkpoints: u64,
    pub(crate) restarts: u64,
    pub(crate) rescales: u64,
    pub(crate) last_rescale: Option<Rescale>,
    pub(crate) requests: u64,
    /// The generation that ran.
    pub(crate) generation: u64,
    /// Rows that had been counted when it began: its workers count from there.
    pub(crate) before: BTreeMap<String, StepRows>,
    /// The same for requests.
    pub(crate) requests_before: u64,
    /// The last wish for a checkpoint that was answered; 0: none.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) answered: u64,
}

impl Totals {
    pub(crate) fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("names and numbers are JSON").into()
    }

    /// Totals that can't be read begin anew: nothing is decided from them.
    pub(crate) fn from_bytes(bytes: &Bytes) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }
}

fn is_none(wish: &u64) -> bool {
    *wish == 0
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rows in {}, rows out {}, late rows {}, bad rows {}, checkpoints {}, restarts {}, \
             rescales {}",
            self.rows_in,
            self.rows_out,
            self.late_rows,
            self.bad_rows,
            self.checkpoints,
            self.restarts,
            self.rescales,
        )?;
        if let Some(last) = &self.last_rescale {
            write!(f, " (last {last})")?;
        }
        write!(f, ", requests {}", self.requests)
    }
}
