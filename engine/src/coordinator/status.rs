//! What a coordinator tells the world: a value behind a `watch`, never decided from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use weir_state::ids::{CheckpointId, Generation};

use super::snapshots::Kept;

/// Where a job is in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Waits for workers, or deploys the first generation.
    #[default]
    Starting,
    /// Asks the workers of a generation that runs already whether all is as it was.
    Adopting,
    /// Processes rows.
    Running,
    /// Lost workers or met an error, and comes back from the last checkpoint.
    Recovering,
    /// Processes rows, and moves to other workers or another width.
    Rescaling,
    /// Takes its last checkpoint before it pauses.
    Suspending,
    /// Paused; its state can be taken over.
    Suspended,
    /// All bounded input is read and all output committed.
    Finished,
    /// Gave up; the sentence says why and where.
    Failed(String),
    /// Another owner or a newer coordinator has taken over; this one has stopped.
    Fenced(String),
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Adopting => "adopting",
            Self::Running => "running",
            Self::Recovering => "recovering",
            Self::Rescaling => "rescaling",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Finished => "finished",
            Self::Failed(_) => "failed",
            Self::Fenced(_) => "fenced",
        })
    }
}

impl Phase {
    /// Whether the job will not go on by itself.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Suspended | Self::Finished | Self::Failed(_) | Self::Fenced(_))
    }
}

/// Rows of one step, since the run began: committed ones and those of the running generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepRows {
    /// Rows taken in.
    pub rows_in: u64,
    /// Rows given on.
    pub rows_out: u64,
    /// Rows that came after all their windows had closed.
    pub late: u64,
    /// Rows that did not parse.
    pub bad: u64,
    /// Bytes written (sinks).
    pub bytes_out: u64,
}

impl StepRows {
    /// The greater of each count.
    pub(crate) fn at_least(self, other: Self) -> Self {
        Self {
            rows_in: self.rows_in.max(other.rows_in),
            rows_out: self.rows_out.max(other.rows_out),
            late: self.late.max(other.late),
            bad: self.bad.max(other.bad),
            bytes_out: self.bytes_out.max(other.bytes_out),
        }
    }
}

impl std::ops::AddAssign for StepRows {
    fn add_assign(&mut self, other: Self) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.late += other.late;
        self.bad += other.bad;
        self.bytes_out += other.bytes_out;
    }
}

/// A change of replicas or slots of a running job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rescale {
    /// Replicas and slots before.
    pub from: (u32, u32),
    /// Replicas and slots since.
    pub to: (u32, u32),
    /// From the first subtask that stopped for the cut until all could process again. None: it
    /// came with a failover, which needs no cut.
    pub pause_ms: Option<u64>,
    /// How long the order to cut travelled before the first subtask stopped.
    pub cut_wait_ms: Option<u64>,
}

/// The return of a job that had lost workers or met an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// The generation that runs since.
    pub generation: Generation,
    /// From the moment in which the loss or error was noticed until all subtasks ran again.
    pub recovery_ms: u64,
}

impl fmt::Display for Rescale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((replicas_before, slots_before), (replicas, slots)) = (self.from, self.to);
        write!(
            f,
            "from {replicas_before} replicas with {slots_before} slots to {replicas} with {slots}"
        )?;
        match (self.pause_ms, self.cut_wait_ms) {
            (Some(pause), Some(wait)) => write!(f, ", pause {pause} ms, cutWait {wait} ms"),
            _ => f.write_str(", with a failover"),
        }
    }
}

/// Checkpoints that this coordinator has taken, for showing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointNumbers {
    /// Given up, whether they count as failed or not.
    pub aborted: u64,
    /// From trigger to record: all of them together, in milliseconds.
    pub total_ms: u64,
    /// Bytes written to the state store for them: all of them together.
    pub total_bytes: u64,
    /// From trigger to record: the last one.
    pub last_ms: u64,
    /// Bytes written to the state store for the last one.
    pub last_bytes: u64,
}

/// Compaction by compactors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Compactors wanted.
    pub wanted: u32,
    /// Compactors that can be dialled.
    pub ready: u32,
    /// Compactions that they carried out in this generation.
    pub elsewhere: u64,
    /// Compactions that workers carried out, since no compactor did.
    pub here: u64,
    /// Attempts of compactors that came to nothing.
    pub given_up: u64,
    /// Why workers compact themselves; empty: they do not.
    pub problem: String,
}

/// Everything worth showing of a job, as of now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Where it is.
    pub phase: Phase,
    /// The generation that runs or is being deployed.
    pub generation: Generation,
    /// Worker processes wanted.
    pub workers_wanted: u32,
    /// Worker processes that answer.
    pub workers_ready: u32,
    /// Counters by step.
    pub steps: BTreeMap<String, StepRows>,
    /// Rows read by sources.
    pub rows_in: u64,
    /// Rows taken by sinks.
    pub rows_out: u64,
    /// Rows read per second, over the last few seconds.
    pub rows_per_second: u64,
    /// The least watermark of the keyed steps in milliseconds; none: no step has one yet.
    pub watermark_ms: Option<i64>,
    /// The last completed checkpoint; 0: none.
    pub checkpoint: CheckpointId,
    /// Completed checkpoints.
    pub checkpoints: u64,
    /// How long they took, and what they wrote.
    pub checkpoint_numbers: CheckpointNumbers,
    /// Checkpoints that failed one after the other.
    pub checkpoint_failures: u32,
    /// Whether the open checkpoint has made no progress for three intervals, and 30 s at least.
    pub checkpoint_waits: bool,
    /// Errors reported by workers after which the job went on.
    pub restarts: u64,
    /// Generations that ended since a worker was lost or an error was reported.
    pub failovers: u64,
    /// Workers that were lost and replaced.
    pub replaced: u64,
    /// Changes of replicas or slots.
    pub rescales: u64,
    /// The last of them.
    pub last_rescale: Option<Rescale>,
    /// The last return of a job that had lost workers or met an error, under this coordinator.
    pub last_failover: Option<Failover>,
    /// Requests to the state store, by coordinator and workers.
    pub requests: u64,
    /// The last wish for a checkpoint ([`super::run::Outside::asked`]) that one has answered.
    pub answered: u64,
    /// Snapshots by name.
    pub snapshots: BTreeMap<String, Kept>,
    /// Why those that are to go are still there.
    pub snapshots_held: BTreeMap<String, String>,
    /// The last thing worth saying.
    pub message: String,
    /// Whether this coordinator went on with a generation that an earlier one had begun.
    pub is_adopted: bool,
    /// Incarnations of the workers that run the generation, or are to.
    pub serving: BTreeSet<String>,
    /// Of a job with compactors.
    pub compaction: Option<Compaction>,
}

impl Status {
    /// Rows that came too late, over all steps.
    pub fn late_rows(&self) -> u64 {
        self.steps.values().map(|step| step.late).sum()
    }

    /// Rows that did not parse, over all steps.
    pub fn bad_rows(&self) -> u64 {
        self.steps.values().map(|step| step.bad).sum()
    }
}
