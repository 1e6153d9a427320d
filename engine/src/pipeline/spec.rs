//! A job as it was declared, without Kubernetes: what the operator translates a manifest into and
//! what travels to workers as JSON. Nothing here is checked yet.

use serde::{Deserialize, Serialize};

/// Everything the engine needs to know of a `StatefulJob`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Name of the job.
    pub name: String,
    /// Worker processes.
    pub replicas: u32,
    /// Subtasks of each step per worker.
    pub slots: u32,
    /// Key groups; fixed for the job's life.
    pub key_groups: u16,
    /// In which order keyed steps take rows whose keys differ.
    #[serde(default)]
    pub order: Order,
    /// Memory limit of a worker's state (write buffers and cache), in bytes.
    pub state_memory_bytes: u64,
    /// When checkpoints are taken and how many are kept.
    pub checkpoint: CheckpointPolicy,
    /// When failing workers fail the job.
    pub failover: FailoverPolicy,
    /// How long a rescale may take, and how soon the next may follow.
    #[serde(default)]
    pub rescale: RescalePolicy,
    /// Who merges table files.
    #[serde(default)]
    pub compaction: CompactionPolicy,
    /// The steps, in flow order.
    pub pipeline: Vec<StepSpec>,
}

/// When checkpoints are taken and how many are kept. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPolicy {
    /// From the start of one checkpoint to the start of the next.
    pub interval_ms: u64,
    /// Without progress for this long an open checkpoint is aborted.
    pub timeout_ms: u64,
    /// Least time from the end of one checkpoint to the start of the next.
    pub min_pause_ms: u64,
    /// Completed checkpoints that are kept.
    pub retained: u32,
    /// Failures in a row beyond which the job fails; none: never.
    pub tolerable_failures: Option<u32>,
}

/// Who merges table files: the workers, or compactors beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionPolicy {
    /// Compactors do.
    pub remote: bool,
    /// Compactors that there are at least.
    pub min_replicas: u32,
    /// Compactors that there are at most, when workers find those that there are busy.
    pub max_replicas: u32,
}

/// When lost workers are given up and how many errors a job may report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverPolicy {
    /// A worker silent for this long is lost.
    pub timeout_ms: u64,
    /// Errors reported by workers within `within_ms` beyond which the job fails.
    pub restarts: u32,
    /// See `restarts`.
    pub within_ms: u64,
    /// Workers, in percent of those wanted and rounded up, on which a job goes on that lost the
    /// others.
    #[serde(default = "min_survivors_percent")]
    pub min_survivors_percent: u32,
}

/// Of texts that were stored before there was the field.
fn min_survivors_percent() -> u32 {
    50
}

/// How long a rescale may take, and how soon the next may follow. Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescalePolicy {
    /// From the decision to the record of the cut; then the old generation goes on.
    pub deadline_ms: u64,
    /// Least time from the end of one rescale to the beginning of the next.
    pub cooldown_ms: u64,
}

/// Also of texts that were stored before there was the field.
impl Default for RescalePolicy {
    fn default() -> Self {
        Self { deadline_ms: 600_000, cooldown_ms: 0 }
    }
}

impl JobSpec {
    /// Names of the fields, as they are stored, that a running job takes over.
    pub const LIVE: [&str; 5] = ["replicas", "slots", "checkpoint", "rescale", "compaction"];
}

/// One step: an id, its inputs, one verb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSpec {
    /// Unique; names the state, the metrics and the node in every picture.
    pub id: String,
    /// Steps read; empty for sources.
    pub from: Vec<String>,
    /// What it does.
    pub verb: Verb,
}

impl StepSpec {
    /// What the step is, whoever opens its store: a job whose credentials lie in another secret now
    /// is the same job.
    #[must_use]
    pub fn without_secret(&self) -> Self {
        let mut step = self.clone();
        match &mut step.verb {
            Verb::Source(SourceSpec { kind: SourceKind::Files { store, .. }, .. })
            | Verb::Sink(
                SinkSpec::Files { store, .. } | SinkSpec::Table(TableSpec { store, .. }),
            ) => {
                store.secret = None;
            }
            _ => {}
        }
        step
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Reads rows from outside.
    Source(SourceSpec),
    /// Keeps rows for which the expression is true.
    Filter(String),
    /// Projects to select items.
    Select(Vec<String>),
    /// Rows of both inputs.
    Union,
    /// One row per group.
    Aggregate(AggregateSpec),
    /// Writes rows to the outside.
    Sink(SinkSpec),
}

/// A source and its event time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSpec {
    /// Where rows come from.
    pub kind: SourceKind,
    /// Rows per second of all splits together; none: as fast as they are read.
    pub rate: Option<u64>,
    /// Event time; none: rows have no time (generated sources have theirs built in).
    pub event_time: Option<EventTimeSpec>,
}

/// Where rows come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SourceKind {
    /// Objects of an object store or a file system.
    Files {
        /// File; relative to the manifest's folder under `weir run`.
        uri: String,
        /// Format; by suffix if absent.
        format: Option<FileFormat>,
        /// Column names and types in the words of pipeline.md; needed for ndjson here.
        schema: Option<Vec<(String, String)>>,
        /// How to reach the store.
        store: StoreSpec,
    },
    /// Generated rows: key string, value binary, seq int64, time timestamp.
    Keys {
        /// Rows; none: unbounded.
        count: Option<u64>,
        /// Distinct keys.
        distinct: u64,
        /// Length of each value.
        value_bytes: u32,
        /// Zipf exponent in thousandths; 0: uniform.
        skew_milli: u32,
    },
    /// Generated rows: seq int64, time timestamp.
    Sequence {
        /// Rows; none: unbounded.
        count: Option<u64>,
        /// Event time from one row to the next, in milliseconds.
        every_ms: u64,
    },
    /// One stream of the events of an auction house.
    Nexmark {
        /// Which events are rows.
        stream: NexmarkStream,
        /// Events of all streams together; none: unbounded.
        events: Option<u64>,
        /// Events of all streams within one second of event time.
        events_per_second: u64,
    },
}

/// A stream of `generate.nexmark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NexmarkStream {
    /// Bids.
    Bid,
    /// Auctions.
    Auction,
    /// Persons.
    Person,
}

/// Format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// One JSON object per line.
    Ndjson,
}

/// Which column is event time and how late rows may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTimeSpec {
    /// A timestamp column; none: the generated source's own.
    pub column: Option<String>,
    /// The watermark is the greatest time seen minus this.
    pub delay_ms: i64,
}

/// How to reach an object store; all absent: by URI and environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSpec {
    /// Endpoint URL.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Whether plain HTTP is allowed.
    pub allow_http: bool,
    /// Path-style requests.
    pub path_style: bool,
    /// Secret with the credentials, by name; what is in it is never in here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Grouping, window and values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregateSpec {
    /// Key columns; empty: one global group.
    pub key: Vec<String>,
    /// The windows in which rows are grouped by event time; none: all rows of a key are one group.
    pub window: Option<WindowSpec>,
    /// Select items of aggregates.
    pub values: Vec<String>,
    /// How long after its end a window still takes rows, in milliseconds.
    pub lateness_ms: i64,
    /// When results are written; none: at the close of a window, without one at every change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emit: Option<Emit>,
    /// How long after its last write a group without a window is kept, in milliseconds; none: for
    /// ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<i64>,
}

/// When an aggregate writes results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Emit {
    /// Once, when the window closes.
    OnClose,
    /// At every change: a changelog.
    OnUpdate,
}

/// In which order a keyed step takes rows of different keys while some wait for their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// Rows behind a watermark start while rows before it still wait; the watermark follows when it
    /// can.
    #[default]
    Relaxed,
    /// At a watermark everything before it ends first.
    Strict,
}

/// A window, in milliseconds. Its kind is told by its fields, as jobs of the first release have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WindowSpec {
    /// Windows that overlap.
    Hop {
        /// Length.
        size_ms: i64,
        /// From the start of one to the start of the next.
        every_ms: i64,
        /// Shift against 1970-01-01T00:00Z.
        offset_ms: i64,
    },
    /// Rows of a key with no longer gap between them.
    Session {
        /// The gap.
        gap_ms: i64,
    },
    /// Windows that follow each other.
    Tumble(TumbleSpec),
}

/// A tumbling window, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TumbleSpec {
    /// Length.
    pub size_ms: i64,
    /// Shift against 1970-01-01T00:00Z.
    pub offset_ms: i64,
}

/// Format of files that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SinkFormat {
    /// One JSON object per line.
    #[default]
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

impl SinkFormat {
    /// The suffix of its files.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
        }
    }

    /// What was written before there were others is not said in a journal.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SinkSpec {
    /// Pieces below a folder, exactly once.
    Files {
        /// Folder.
        uri: String,
        /// Format of the files.
        #[serde(default, skip_serializing_if = "SinkFormat::is_default")]
        format: SinkFormat,
        /// How to reach the store.
        store: StoreSpec,
    },
    /// The current rows by key, as snapshots below a folder.
    Table(TableSpec),
    /// Counts rows.
    Blackhole,
    /// ndjson on standard output of `weir run`.
    Print {
        /// Rows printed at most; none: all.
        limit: Option<u64>,
    },
}

impl SinkSpec {
    /// The folder below which it writes, and how to reach it; none: it has none.
    pub fn folder(&self) -> Option<(&str, &StoreSpec)> {
        match self {
            Self::Files { uri, store, .. } => Some((uri, store)),
            Self::Table(table) => Some((&table.uri, &table.store)),
            Self::Blackhole | Self::Print { .. } => None,
        }
    }
}

/// The current rows by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    /// Folder.
    pub uri: String,
    /// Key columns, at least one.
    pub key: Vec<String>,
    /// Format of the files.
    pub format: SinkFormat,
    /// From snapshot to snapshot, in milliseconds; none: of a job that ends at its end, else a
    /// minute.
    pub every_ms: Option<u64>,
    /// How to reach the store.
    pub store: StoreSpec,
}
