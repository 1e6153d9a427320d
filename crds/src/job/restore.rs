//! Whose state a job begins from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StoreSpec;

/// Whose state a job begins from while it has none of its own (one of `snapshotRef` and `uri`), and whose
/// it takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.snapshotRef) && has(self.uri)) && \
                                 (has(self.snapshotRef) || has(self.uri) || has(self.takeOver))")
    .message("restoreFrom is one of snapshotRef and uri, or takeOver, alone or beside it"),
    validation = Rule::new("!has(self.store) || has(self.uri)")
    .message("store stands beside uri; a JobSnapshot knows its store"))]
#[schemars(extend("x-weir" = "restoreFrom"))]
pub struct RestoreSpec {
    /// A `JobSnapshot` in the job's namespace; its own job need not be there any more. Not looked up
    /// under `weir run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_ref: Option<SnapshotRef>,

    /// State folder of another job, of which the newest completed checkpoint is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), extend("x-weir" = "uri"))]
    #[x_kube(validation = Rule::new(crate::rule::ABSOLUTE_URI).message(crate::rule::ABSOLUTE_URI_WORDS))]
    pub uri: Option<String>,

    /// How to reach the store of `uri`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreSpec>,

    /// Owner, as the condition StateOwnedElsewhere names it, whose state at `state.uri` this job takes
    /// over. What of that owner should run all the same is fenced. Without effect on any other owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub take_over: Option<String>,
}

/// A `JobSnapshot` in the job's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
