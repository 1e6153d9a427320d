//! What the operator reports of a job. Nothing is ever decided from it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator reports of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatefulJobStatus {
    /// Generation of the spec that this status speaks of; -1 before the operator saw any.
    #[serde(default = "unobserved")]
    pub observed_generation: i64,

    /// Where the job is in its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,

    /// Workers that take part.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<u32>,

    /// Selects the pods of workers that take part; for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// Number of the living set of workers; it grows with each failover and rescale.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub generation: Option<u64>,

    /// The last completed checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<CheckpointStatus>,

    /// The last change of replicas or slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rescale: Option<RescaleStatus>,

    /// The last return after a loss of workers or an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<FailoverStatus>,

    /// Restarts after errors that workers reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub restarts: Option<u32>,

    /// Requests by annotation that were done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,

    /// One line with numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// Ready, Reconciling, Stalled, Suspended, CheckpointsHealthy and CompactionHealthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl Default for StatefulJobStatus {
    fn default() -> Self {
        Self {
            observed_generation: unobserved(),
            phase: None,
            replicas: None,
            selector: None,
            generation: None,
            last_checkpoint: None,
            last_rescale: None,
            last_failover: None,
            restarts: None,
            acknowledged: None,
            message: None,
            conditions: Vec::new(),
        }
    }
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Accepted, nothing started.
    Pending,
    /// Workers start.
    Starting,
    /// Rows are processed.
    Running,
    /// Subtasks move to another set of workers.
    Rescaling,
    /// Lost workers are replaced.
    Recovering,
    /// The last checkpoint before a pause is taken.
    Suspending,
    /// Paused; state is kept, no worker runs.
    Suspended,
    /// All input was read and all output is committed.
    Finished,
    /// Given up; `message` says why.
    Failed,
    /// The resource is being deleted.
    Deleting,
}

/// A completed checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Its number.
    #[schemars(range(min = 0))]
    pub id: u64,

    /// When it was complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// Replicas and slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WidthStatus {
    /// Workers.
    #[schemars(range(min = 0))]
    pub replicas: u32,

    /// Subtasks of each step on each of them.
    #[schemars(range(min = 0))]
    pub slots: u32,
}

/// A change of replicas or slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RescaleStatus {
    /// Before.
    pub from: WidthStatus,

    /// Since.
    pub to: WidthStatus,

    /// Milliseconds in which no subtask processed rows. Absent: it came with a failover.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub pause_ms: Option<u64>,

    /// Milliseconds that the order to cut travelled before the first subtask stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cut_wait_ms: Option<u64>,
}

/// A return after a loss of workers or an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// Number of the set of workers that runs since.
    #[schemars(range(min = 0))]
    pub generation: u64,

    /// Milliseconds from the moment in which the loss or error was noticed until all subtasks ran
    /// again.
    #[schemars(range(min = 0))]
    pub recovery_ms: u64,

    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// Requests by annotation that were done: the annotations' values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    /// Of `weir.dev/restart`: all workers have been started since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,

    /// Of `weir.dev/checkpoint`: a checkpoint was completed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

fn unobserved() -> i64 {
    -1
}
