//! Who merges a job's table files.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who merges a job's table files: its workers, or processes beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-weir" = "compaction"))]
pub struct CompactionSpec {
    /// Local: the workers. Remote: compactors, processes (pods in a cluster) that read and write the
    /// state's store and keep nothing; while they do not answer the workers do it.
    #[serde(default)]
    pub mode: CompactionMode,

    /// Compactors that there are at least, with mode Remote.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 64))]
    pub min_replicas: u32,

    /// Compactors that there are at most: one more is started when workers find all others busy, and
    /// one is ended after five minutes in which they did not. Absent: as minReplicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub max_replicas: Option<u32>,
}

/// Who merges table files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CompactionMode {
    /// The workers.
    #[default]
    Local,
    /// Compactors.
    Remote,
}

impl Default for CompactionSpec {
    fn default() -> Self {
        Self { mode: CompactionMode::Local, min_replicas: one(), max_replicas: None }
    }
}

fn one() -> u32 {
    1
}
