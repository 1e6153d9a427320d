//! `StatefulJob`: the resource, its policies and its state.
//!
//! Part of the custom resource definition: a field may be added, never renamed, never given a new
//! meaning. Doc comments are what `kubectl explain` prints. Rules that join several fields stand
//! here as CEL for an API server and in `manifest/rules.rs` for the command line.
//!
//! - `job/step.rs` — a step of the pipeline and its verb
//! - `job/source.rs`, `job/sink.rs` — where rows come from and go to
//! - `job/status.rs` — what the operator reports; `job/worker.rs` — the workers' pods

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule::{AT_LEAST_1S, AT_LEAST_100MS, set_once};
use crate::units::{Duration, Percent, Quantity};

mod compaction;
mod restore;
mod sink;
mod source;
mod status;
mod step;
mod upgrade;
mod worker;

pub use compaction::{CompactionMode, CompactionSpec};
pub use restore::{RestoreSpec, SnapshotRef};
pub use sink::{FilesSink, NoFields, PrintSink, SinkFormat, SinkSpec, TableSink};
pub use source::{
    EventTimeSpec, FilesSource, GenerateSource, KeysSource, NexmarkSource, OnError, SecretRef,
    SequenceSource, SourceFormat, SourceSpec, StoreSpec,
};
pub use status::{
    Acknowledged, CheckpointStatus, FailoverStatus, Phase, RescaleStatus, StatefulJobStatus,
    WidthStatus,
};
pub use step::{AggregateSpec, Emit, HopSpec, Inputs, StepSpec, Verb, WindowSpec};
pub use upgrade::{DiscardSpec, UpgradeSpec};
pub use worker::{DeletionPolicy, Opaque, PodMetadata, PodTemplate, WorkerSpec};

/// A streaming job whose state lives in an object store.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "StatefulJob",
    plural = "statefuljobs",
    shortname = "sj",
    namespaced,
    doc = "A streaming job whose state lives in an object store.",
    derive = "PartialEq",
    status = "StatefulJobStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Checkpoint", type_ = "date", json_path = ".status.lastCheckpoint.time"),
    printcolumn(name = "Restarts", type_ = "integer", json_path = ".status.restarts"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("metadata.name: a job's name has at most 40 characters"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: a job's name has lower-case letters, digits and -, begins with a \
                  letter and does not end with -")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.replicas * self.slots <= self.state.keyGroups")
    .message("replicas × slots is more than state.keyGroups: a subtask needs a key group")
    .field_path(".replicas"))]
#[schemars(extend("x-weir" = "spec"))]
pub struct StatefulJobSpec {
    /// Worker processes. Width, the number of subtasks of each step, is replicas × slots.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 32_768))]
    pub replicas: u32,

    /// Subtasks of each step per worker.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub slots: u32,

    /// The steps, in flow order: a step reads only steps above it.
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    #[x_kube(
        validation = Rule::new("self.all(s, self.exists_one(t, t.id == s.id))")
            .message("the id of a step is unique"),
        validation = Rule::new("self.exists(s, has(s.sink))").message("a pipeline has a sink")
    )]
    pub pipeline: Vec<StepSpec>,

    /// Where state lives and how it is cut.
    #[serde(default)]
    #[x_kube(
        validation = Rule::new(set_once("uri"))
            .message("state.uri is fixed for the job's life"),
        validation = Rule::new("self.keyGroups == oldSelf.keyGroups")
            .message("state.keyGroups is fixed for the job's life")
    )]
    pub state: StateSpec,

    /// When checkpoints are taken and how many are kept.
    #[serde(default)]
    pub checkpoint: CheckpointSpec,

    /// When a worker counts as lost, and how many errors a job may report.
    #[serde(default)]
    pub failover: FailoverSpec,

    /// How long a change of replicas or slots may take, and how soon the next may follow.
    #[serde(default)]
    pub rescale: RescaleSpec,

    /// Who merges the job's table files.
    #[serde(default)]
    #[x_kube(validation = Rule::new("!has(self.maxReplicas) || self.maxReplicas >= self.minReplicas")
        .message("compaction.maxReplicas is at least minReplicas")
        .field_path(".maxReplicas"))]
    pub compaction: CompactionSpec,

    /// True: a last checkpoint is taken, the workers end, and the job waits until this is false.
    #[serde(default)]
    pub suspend: bool,

    /// Whose state the job begins from while it has none of its own; without effect afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreSpec>,

    /// What a changed pipeline may cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeSpec>,

    /// What becomes of the state when this resource is deleted. Without effect under `weir run`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// How the workers' pods are. Without effect under `weir run`.
    #[serde(default)]
    pub worker: WorkerSpec,
}

/// Where state lives and how it is cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateSpec {
    /// Folder of the job's state in an object store, as in s3://bucket/folder; fixed for the job's
    /// life. `weir run` keeps state in its data folder instead unless --state says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), extend("x-weir" = "uri"))]
    #[x_kube(validation = Rule::new(crate::rule::ABSOLUTE_URI).message(crate::rule::ABSOLUTE_URI_WORDS))]
    pub uri: Option<String>,

    /// How to reach the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreSpec>,

    /// Slices of the key space, the unit in which state moves between subtasks and so the greatest
    /// width; fixed for the job's life.
    #[serde(default = "key_groups")]
    #[schemars(range(min = 1, max = 32_768))]
    pub key_groups: u16,

    /// In which order steps with state take rows of different keys. Absent: Relaxed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,

    /// Memory per worker for write buffers, cache and reads in flight.
    #[serde(default = "memory")]
    #[schemars(extend("x-weir-min" = "1Mi"))]
    #[x_kube(validation = Rule::new("isQuantity(string(self)) && \
                                     quantity(string(self)).compareTo(quantity('1Mi')) >= 0")
        .message("memory is a quantity of at least 1Mi"))]
    pub memory: Quantity,
}

impl Default for StateSpec {
    fn default() -> Self {
        Self { uri: None, store: None, key_groups: key_groups(), order: None, memory: memory() }
    }
}

/// In which order steps with state take rows of different keys; results are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Order {
    /// Rows behind a watermark start while rows before it still wait for their state.
    Relaxed,
    /// At a watermark everything before it ends first.
    Strict,
}

/// When checkpoints are taken and how many are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSpec {
    /// From the start of one checkpoint to the start of the next; at least 100ms. Shorter: output
    /// is visible sooner and less is replayed after a failure. Longer: fewer requests to the store.
    /// The first interval is up to half shorter, so that jobs that begin at once stay apart.
    #[serde(default = "interval")]
    #[schemars(extend("x-weir-min" = "100ms"))]
    #[x_kube(validation = Rule::new(AT_LEAST_100MS).message("interval is at least 100ms"))]
    pub interval: Duration,

    /// A checkpoint that made no progress for this long is given up; at least 100ms.
    #[serde(default = "checkpoint_timeout")]
    #[schemars(extend("x-weir-min" = "100ms"))]
    #[x_kube(validation = Rule::new(AT_LEAST_100MS).message("timeout is at least 100ms"))]
    pub timeout: Duration,

    /// Least time from the end of one checkpoint to the start of the next.
    #[serde(default = "no_time")]
    pub min_pause: Duration,

    /// Completed checkpoints that are kept.
    #[serde(default = "retained")]
    #[schemars(range(min = 1, max = 1_000))]
    pub retained: u32,

    /// Failed checkpoints in a row that the job survives. Absent: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub tolerable_failures: Option<u32>,

    /// Snapshots by the clock. Without effect under `weir run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<SnapshotsSpec>,
}

/// Snapshots by the clock: `JobSnapshot`s that are named by the minute and outlive the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotsSpec {
    /// When, as five fields of cron: minute, hour, day of the month, month, day of the week. Of runs
    /// that were missed the last one is made up for.
    #[schemars(length(min = 9, max = 200))]
    #[x_kube(validation = Rule::new("self.matches('^[^ ]+( +[^ ]+){4}$')")
        .message("schedule has five fields: minute hour day month weekday"))]
    pub schedule: String,

    /// Time zone of the schedule, as in Europe/Vienna.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,

    /// Snapshots of the schedule that are kept; older ones are deleted.
    #[serde(default = "snapshots_retained")]
    #[schemars(range(min = 1, max = 1_000))]
    pub retained: u32,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self {
            interval: interval(),
            timeout: checkpoint_timeout(),
            min_pause: no_time(),
            retained: retained(),
            tolerable_failures: None,
            snapshots: None,
        }
    }
}

/// When a worker counts as lost, and how many errors a job may report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverSpec {
    /// A worker that is silent for this long is replaced; at least 100ms.
    #[serde(default = "failover_timeout")]
    #[schemars(extend("x-weir-min" = "100ms"))]
    #[x_kube(validation = Rule::new(AT_LEAST_100MS).message("timeout is at least 100ms"))]
    pub timeout: Duration,

    /// Errors that workers may report within `within` before the job fails. Lost connections and
    /// killed processes do not count.
    #[serde(default = "restarts")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub restarts: u32,

    /// The time over which `restarts` is counted; at least 1s.
    #[serde(default = "within")]
    #[schemars(extend("x-weir-min" = "1s"))]
    #[x_kube(validation = Rule::new(AT_LEAST_1S).message("within is at least 1s"))]
    pub within: Duration,

    /// A job that lost workers goes on at once on those that live if they are at least this part
    /// of `replicas`, rounded up, and takes its whole width again when the others are replaced.
    #[serde(default = "min_survivors")]
    pub min_survivors: Percent,

    /// A job that was ready and recovers stays so for this long. Without effect under
    /// `weir run`.
    #[serde(default = "ready_after")]
    pub ready_after: Duration,
}

impl Default for FailoverSpec {
    fn default() -> Self {
        Self {
            timeout: failover_timeout(),
            restarts: restarts(),
            within: within(),
            min_survivors: min_survivors(),
            ready_after: ready_after(),
        }
    }
}

/// How long a change of replicas or slots may take, and how soon the next may follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RescaleSpec {
    /// Without the cut by then the job goes on as it is, and it is tried again; the condition
    /// Stalled says so. At least 1s.
    #[serde(default = "rescale_deadline")]
    #[schemars(extend("x-weir-min" = "1s"))]
    #[x_kube(validation = Rule::new(AT_LEAST_1S).message("deadline is at least 1s"))]
    pub deadline: Duration,

    /// Least time from the end of one rescale to the beginning of the next. The way back to full
    /// width after a failure does not wait.
    #[serde(default = "no_time")]
    pub cooldown: Duration,
}

impl Default for RescaleSpec {
    fn default() -> Self {
        Self { deadline: rescale_deadline(), cooldown: no_time() }
    }
}

fn one() -> u32 {
    1
}

fn key_groups() -> u16 {
    128
}

fn memory() -> Quantity {
    Quantity::from_mebibytes(512)
}

fn interval() -> Duration {
    Duration::from_secs(10)
}

fn checkpoint_timeout() -> Duration {
    Duration::from_secs(600)
}

fn no_time() -> Duration {
    Duration::ZERO
}

fn retained() -> u32 {
    3
}

fn utc() -> String {
    "UTC".to_owned()
}

fn snapshots_retained() -> u32 {
    7
}

fn failover_timeout() -> Duration {
    Duration::from_secs(5)
}

fn restarts() -> u32 {
    10
}

fn min_survivors() -> Percent {
    Percent::HALF
}

fn ready_after() -> Duration {
    Duration::from_secs(60)
}

fn rescale_deadline() -> Duration {
    Duration::from_secs(600)
}

fn within() -> Duration {
    Duration::from_secs(600)
}
