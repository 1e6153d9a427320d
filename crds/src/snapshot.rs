//! `JobSnapshot`: a checkpoint of a job with a name and a life of its own.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DeletionPolicy;

/// A named snapshot of a job's state; a job can begin from it (`restoreFrom`), also when its own job is
/// gone.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "JobSnapshot",
    plural = "jobsnapshots",
    shortname = "jsnap",
    namespaced,
    doc = "A named snapshot of a job's state; it outlives its job, and another one can begin from it.",
    derive = "PartialEq",
    status = "JobSnapshotStatus",
    printcolumn(name = "Job", type_ = "string", json_path = ".spec.jobRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Checkpoint", type_ = "integer", json_path = ".status.checkpoint"),
    printcolumn(name = "Taken", type_ = "date", json_path = ".status.time"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct JobSnapshotSpec {
    /// The job, in the snapshot's namespace; fixed.
    #[x_kube(validation = Rule::new("self == oldSelf").message("jobRef is fixed"))]
    pub job_ref: JobRef,

    /// What becomes of the state that it holds when this resource is deleted.
    #[serde(default = "delete")]
    pub deletion_policy: DeletionPolicy,
}

/// A job in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRef {
    /// Its name.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// What the operator reports of a snapshot. Nothing is ever decided from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSnapshotStatus {
    /// Generation of the spec that this status speaks of; -1 before the operator saw any.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// Where the snapshot is in its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<SnapshotPhase>,

    /// The checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub checkpoint: Option<u64>,

    /// When the checkpoint was complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,

    /// The state folder that it lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,

    /// Its name in there, as `weir state show` tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,

    /// One line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// Ready, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl Default for JobSnapshotStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            phase: None,
            checkpoint: None,
            time: None,
            uri: None,
            snapshot: None,
            message: None,
            conditions: Vec::new(),
        }
    }
}

/// Where a snapshot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SnapshotPhase {
    /// Its checkpoint is not complete yet.
    Pending,
    /// A job can begin from it.
    Ready,
    /// There is nothing that it could be of.
    Failed,
    /// It is being deleted.
    Deleting,
}

fn delete() -> DeletionPolicy {
    DeletionPolicy::Delete
}

fn unobserved() -> i64 {
    -1
}
