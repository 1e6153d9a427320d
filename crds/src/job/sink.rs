//! Sinks: where rows go.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StoreSpec;
use crate::units::Duration;

/// Where rows go: exactly one of `files`, `table`, `blackhole` and `print`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.files), has(self.table), has(self.blackhole), has(self.print)].filter(k, k).size() == 1")
    .message("a sink is exactly one of files, table, blackhole and print"))]
#[schemars(extend("x-weir" = "sink"))]
pub struct SinkSpec {
    /// Files below a folder, exactly once: a row is visible when the checkpoint that covers it is
    /// complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSink>,

    /// The current rows by key: one snapshot below a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<TableSink>,

    /// Counts rows and drops them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blackhole: Option<NoFields>,

    /// Lines of JSON on standard output of `weir run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub print: Option<PrintSink>,
}

/// Files below a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FilesSink {
    /// Folder: file://, s3://, or, under `weir run`, a path relative to the manifest.
    #[schemars(length(min = 1, max = 1024), extend("x-weir" = "uri"))]
    #[x_kube(validation = Rule::new(crate::rule::ABSOLUTE_URI).message(crate::rule::ABSOLUTE_URI_WORDS))]
    pub uri: String,

    /// Format of the files.
    #[serde(default)]
    pub format: SinkFormat,

    /// How to reach the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreSpec>,
}

/// The current rows by key: a changelog is folded; of inserts the greatest event time wins, without
/// event time the last arrival.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TableSink {
    /// Folder: file://, s3://, or, under `weir run`, a path relative to the manifest.
    #[schemars(length(min = 1, max = 1024), extend("x-weir" = "uri"))]
    #[x_kube(validation = Rule::new(crate::rule::ABSOLUTE_URI).message(crate::rule::ABSOLUTE_URI_WORDS))]
    pub uri: String,

    /// Columns that tell rows apart, at most 32: at any time one row is there for each key.
    #[schemars(with = "Vec<super::step::ColumnName>", length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub key: Vec<String>,

    /// Format of the files.
    #[serde(default)]
    pub format: SinkFormat,

    /// From snapshot to snapshot; at least 100ms. Absent: 1m, or of a job that ends only its end.
    /// At the end a snapshot is written in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-weir-min" = "100ms"))]
    #[x_kube(validation = Rule::new(crate::rule::AT_LEAST_100MS).message("every is at least 100ms"))]
    pub every: Option<Duration>,

    /// How to reach the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreSpec>,
}

/// Format of files that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SinkFormat {
    /// One JSON object per line.
    #[default]
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

/// Lines of JSON on standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrintSink {
    /// Rows that are printed at most. Absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub limit: Option<u64>,
}

/// Something that has no settings yet: written `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoFields {}
