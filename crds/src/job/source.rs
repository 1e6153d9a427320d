//! Sources: files and generated rows, event time, and how a store is reached.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::units::Duration;

/// Where rows come from: exactly one of `files` and `generate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.files) != has(self.generate)")
        .message("a source is exactly one of files and generate"),
    validation = Rule::new("!has(self.eventTime) || !has(self.files) || has(self.eventTime.column)")
        .message("eventTime of files names a column"),
    validation = Rule::new("!has(self.eventTime) || !has(self.generate) || !has(self.eventTime.column)")
        .message("generated rows have their event time; eventTime takes only a delay here")
)]
#[schemars(extend("x-weir" = "source"))]
pub struct SourceSpec {
    /// Files of an object store or a file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSource>,

    /// Rows made up from their number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateSource>,

    /// Which column is the rows' time, and how late a row may be. Absent: rows have no time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTimeSpec>,
}

/// Files of an object store or a file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.format) || self.format != 'ndjson' || has(self.schema)")
    .message("ndjson needs a schema"))]
#[schemars(extend("x-weir" = "files"))]
pub struct FilesSource {
    /// File, folder (with all below it) or glob: file://, s3://, or, under `weir run`, a path
    /// relative to the manifest. Names that begin with . or _ are left out.
    #[schemars(length(min = 1, max = 1024), extend("x-weir" = "uri"))]
    #[x_kube(validation = Rule::new(crate::rule::ABSOLUTE_URI).message(crate::rule::ABSOLUTE_URI_WORDS))]
    pub uri: String,

    /// Format of the files. Absent: by their suffix; .gz and .zst behind it are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<SourceFormat>,

    /// Names and types of the columns; ndjson needs it. Types: boolean, int32, int64, float64,
    /// decimal(p,s), string, binary, date, timestamp, list<int64>, struct<a: int64, b: string>.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Columns>,

    /// What a row does that cannot be read: it stops the job and is named.
    #[serde(default)]
    pub on_error: OnError,

    /// Rows per second of all splits together. Absent: as fast as they are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub rate: Option<u64>,

    /// How to reach the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreSpec>,
}

/// Format of files that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SourceFormat {
    /// Apache Parquet.
    Parquet,
    /// One JSON object per line.
    Ndjson,
}

/// What a row does that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnError {
    /// It stops the job and is named.
    #[default]
    Fail,
}

/// Rows made up from their number: exactly one of `keys`, `sequence` and `nexmark`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.keys), has(self.sequence), has(self.nexmark)].filter(k, k).size() == 1")
    .message("generate is exactly one of keys, sequence and nexmark"))]
#[schemars(extend("x-weir" = "generate"))]
pub struct GenerateSource {
    /// Rows with columns key string, value binary, seq int64, time timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeysSource>,

    /// Rows with columns seq int64, time timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<SequenceSource>,

    /// Events of an auction house, as the Nexmark benchmark makes them, in three streams: a step
    /// reads `<id>.bid`, `<id>.auction` or `<id>.person`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nexmark: Option<NexmarkSource>,

    /// Rows (of nexmark: events of all streams) per second of all splits together. Absent: as fast
    /// as they are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub rate: Option<u64>,
}

/// Numbers from 0 on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SequenceSource {
    /// Rows in all. Absent: without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_u64))]
    pub count: Option<u64>,

    /// Event time from one row to the next; at least 1ms.
    #[serde(default = "every")]
    #[schemars(extend("x-weir-min" = "1ms"))]
    #[x_kube(validation = Rule::new(crate::rule::AT_LEAST_1MS).message("every is at least 1ms"))]
    pub every: Duration,
}

/// Events of an auction house: of each 50 in a row one person, three auctions and 46 bids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NexmarkSource {
    /// Events of all streams together. Absent: without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_u64))]
    pub events: Option<u64>,

    /// Events of all streams within one second of event time.
    #[serde(default = "events_per_second")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub events_per_second: u64,

    /// How far the watermark stays behind, as if events were out of order by so much. They are in
    /// order; `eventTime.delay` stands above it.
    #[serde(default = "super::no_time")]
    pub out_of_order: Duration,
}

/// Rows with keys from a given number of distinct ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeysSource {
    /// Rows in all. Absent: without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_u64))]
    pub count: Option<u64>,

    /// Distinct keys.
    #[serde(default = "distinct")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub distinct: u64,

    /// Bytes of each value.
    #[serde(default = "value_bytes")]
    #[schemars(range(min = 0, max = 1_048_576))]
    pub value_bytes: u32,

    /// Exponent of a Zipf distribution of the keys; 0 is uniform.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10))]
    pub skew: f64,
}

impl KeysSource {
    /// The exponent in thousandths.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the schema keeps it from 0 to 10"
    )]
    pub fn skew_milli(&self) -> u32 {
        (self.skew * 1_000.0).round() as u32
    }
}

/// Which column is the rows' time, and how late a row may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventTimeSpec {
    /// A timestamp column. Generated rows have their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<super::step::ColumnName>")]
    pub column: Option<String>,

    /// How far rows may be out of order: the watermark is the greatest time seen, minus this.
    #[serde(default = "super::no_time")]
    pub delay: Duration,
}

/// How to reach an object store. Absent fields: by the URI and the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreSpec {
    /// Secret with the credentials, in the job's namespace; not looked up under `weir run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,

    /// URL of the store's endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: Option<String>,

    /// Region.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub region: Option<String>,

    /// Whether plain HTTP is allowed.
    #[serde(default)]
    pub allow_http: bool,

    /// Whether the bucket stands in the path of a request, not in its host.
    #[serde(default)]
    pub path_style: bool,
}

/// A secret in the job's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

fn every() -> Duration {
    Duration::from_millis(1)
}

fn events_per_second() -> u64 {
    10_000
}

fn distinct() -> u64 {
    1_000
}

fn value_bytes() -> u32 {
    100
}
