//! Weir's custom resources: types, rules, defaults, and the generator of their definitions.
//!
//! No client and no engine: `operator` translates a [`StatefulJob`] into what the engine takes.
//!
//! - `job.rs` — `StatefulJob` with its schema, defaults and CEL rules; start reading here
//! - `snapshot.rs` — `JobSnapshot`
//! - `units.rs`, `columns.rs` — durations, sizes, ordered columns
//! - `rule.rs` — texts of CEL rules that several fields share
//! - `definition.rs` — the generated definition, for `weir crd` and the chart
//! - `manifest.rs` — a manifest's text becomes a `StatefulJob`, or all of its problems at once
//!
//! What must stay true: defaults and bounds stand in the types and nowhere else; the reader of
//! manifests takes them from the schema.

mod columns;
mod definition;
#[expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct, with its visibility, into a function"
)]
mod job;
mod manifest;
mod rule;
#[expect(
    unreachable_pub,
    reason = "KubeSchema copies each struct, with its visibility, into a function"
)]
#[expect(clippy::duplicated_attributes, reason = "each column is a list of its own")]
mod snapshot;
mod units;

pub use columns::Columns;
pub use definition::{chart_yaml, crd, crd_yaml, reference, snapshot_crd};
pub use job::{
    Acknowledged, AggregateSpec, CheckpointSpec, CheckpointStatus, CompactionMode, CompactionSpec,
    DeletionPolicy, DiscardSpec, Emit, EventTimeSpec, FailoverSpec, FailoverStatus, FilesSink,
    FilesSource, GenerateSource, HopSpec, Inputs, KeysSource, NexmarkSource, NoFields, OnError,
    Opaque, Order, Phase, PodMetadata, PodTemplate, PrintSink, RescaleStatus, RestoreSpec,
    SecretRef, SequenceSource, SinkFormat, SinkSpec, SnapshotRef, SnapshotsSpec, SourceFormat,
    SourceSpec, StateSpec, StatefulJob, StatefulJobSpec, StatefulJobStatus, StepSpec, StoreSpec,
    TableSink, UpgradeSpec, Verb, WidthStatus, WindowSpec, WorkerSpec,
};
pub use manifest::{Inspected, Problem, inspect_manifest, read_manifest};
pub use snapshot::{JobRef, JobSnapshot, JobSnapshotSpec, JobSnapshotStatus, SnapshotPhase};
pub use units::{Duration, InvalidUnit, Percent, Quantity};
