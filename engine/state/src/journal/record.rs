//! The journal's records as they are stored. docs/design/0003-journal.md explains them; a field may
//! be added, never renumbered or given a new meaning.
//!
//! Source plans, positions and pipelines are the engine's and pass through as bytes.

use bytes::Bytes;

use crate::ids::{CheckpointId, KeyGroupRange};
use crate::version::record::ViewRecord;

/// One numbered record.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Record {
    /// The term of the coordinator that wrote it; 0 in `Created`.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Checkpoints all of whose sink pieces are known to be published.
    #[prost(uint64, repeated, tag = "2")]
    pub confirmed: Vec<u64>,
    /// All that the records up to this number condemned is deleted; 0: nothing new.
    #[prost(uint64, tag = "3")]
    pub deleted_through: u64,
    /// What is recorded.
    #[prost(oneof = "Body", tags = "10, 11, 12, 13, 14, 15, 16, 17")]
    pub body: Option<Body>,
}

/// The kinds of records.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Body {
    /// The first record of an incarnation.
    #[prost(message, tag = "10")]
    Created(Created),
    /// What runs.
    #[prost(message, tag = "11")]
    Plan(Plan),
    /// A new term; fences older coordinators.
    #[prost(message, tag = "12")]
    Coordinator(Coordinator),
    /// A new set of workers; fences older workers.
    #[prost(message, tag = "13")]
    Generation(NewGeneration),
    /// A completed checkpoint.
    #[prost(message, tag = "14")]
    Checkpoint(Checkpoint),
    /// A checkpoint gets a name that keeps it, or loses it.
    #[prost(message, tag = "15")]
    Snapshot(Snapshot),
    /// The owner lets go.
    #[prost(message, tag = "16")]
    Released(Released),
    /// All input is read, all output committed and confirmed.
    #[prost(message, tag = "17")]
    Finished(Finished),
}

/// The first record of an incarnation.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Created {
    /// Version of all formats of this incarnation.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Who owns the job from the start: a resource's uid, or the id in a local data folder.
    #[prost(string, tag = "2")]
    pub owner: String,
    /// The job, as its users name it.
    #[prost(string, tag = "3")]
    pub job: String,
    /// Number of key groups, fixed for the incarnation's life.
    #[prost(uint32, tag = "4")]
    pub key_groups: u32,
}

/// What runs: a later one replaces an earlier one.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Plan {
    /// The checked job, in the engine's encoding.
    #[prost(bytes = "bytes", tag = "1")]
    pub pipeline: Bytes,
    /// Signature of each stateful step (key, window, values): state fits only an equal one.
    #[prost(message, repeated, tag = "2")]
    pub signatures: Vec<StepBytes>,
    /// Schema and splits of each source step, in the engine's encoding.
    #[prost(message, repeated, tag = "3")]
    pub sources: Vec<StepBytes>,
    /// State that was given up, the last of a step behind its earlier ones.
    #[prost(message, repeated, tag = "4")]
    pub discarded: Vec<Discarded>,
}

/// A step whose state was given up: checkpoints up to `through` have state of it that means something
/// else than what runs now.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Discarded {
    /// Id of the step.
    #[prost(string, tag = "1")]
    pub step: String,
    /// The last checkpoint with that state.
    #[prost(uint64, tag = "2")]
    pub through: u64,
    /// Its signature.
    #[prost(bytes = "bytes", tag = "3")]
    pub signature: Bytes,
}

impl Plan {
    /// Whether the state that a checkpoint has of a step is none of what runs now.
    pub fn has_discarded(&self, step: &str, checkpoint: CheckpointId) -> bool {
        self.discarded.iter().any(|its| its.step == step && its.through >= checkpoint.0)
    }
}

/// Something of the engine's that belongs to one step.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StepBytes {
    /// Id of the step.
    #[prost(string, tag = "1")]
    pub step: String,
    /// In the engine's encoding.
    #[prost(bytes = "bytes", tag = "2")]
    pub bytes: Bytes,
}

/// A coordinator begins to reign.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Coordinator {
    /// Its term: one more than the last.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// For whom it reigns.
    #[prost(string, tag = "2")]
    pub owner: String,
    /// By what right, see [`Authority`].
    #[prost(enumeration = "Authority", tag = "3")]
    pub authority: i32,
}

/// By what right a coordinator begins to reign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Authority {
    /// Its owner owns the job already, or the job was released.
    Owner = 0,
    /// The last owner provably is gone.
    PreviousOwnerGone = 1,
    /// The user said so (`takeOver`).
    TakeOver = 2,
}

/// A new set of workers with their key groups.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NewGeneration {
    /// Its number, greater than any before.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// The worker processes.
    #[prost(message, repeated, tag = "2")]
    pub workers: Vec<WorkerAddress>,
    /// The key-group map: index is the subtask.
    #[prost(message, repeated, tag = "3")]
    pub subtasks: Vec<SubtaskPlace>,
    /// The checkpoint it starts from: the last one before this record, 0 when there is none.
    #[prost(uint64, tag = "4")]
    pub from: u64,
    /// `from` was chosen explicitly: any held checkpoint.
    #[prost(bool, tag = "5")]
    pub restore: bool,
}

/// A worker process and where it listens.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WorkerAddress {
    /// Unique to the start of the process.
    #[prost(string, tag = "1")]
    pub incarnation: String,
    /// `host:port`.
    #[prost(string, tag = "2")]
    pub address: String,
}

/// Where a subtask runs, and its key groups.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SubtaskPlace {
    /// Incarnation of the worker.
    #[prost(string, tag = "1")]
    pub worker: String,
    /// First key group.
    #[prost(uint32, tag = "2")]
    pub group_start: u32,
    /// One past the last key group.
    #[prost(uint32, tag = "3")]
    pub group_end: u32,
}

/// A completed checkpoint; its size grows with the change since `base`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Checkpoint {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The completed checkpoint that the delta is against; 0: against nothing.
    #[prost(uint64, tag = "2")]
    pub base: u64,
    /// The generation that took it; 0 only in the state of a base.
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    /// Shards that differ from `base`.
    #[prost(message, repeated, tag = "4")]
    pub shards: Vec<ShardDelta>,
    /// Shards of `base` that are no more (their key groups went to others).
    #[prost(message, repeated, tag = "5")]
    pub dropped: Vec<ShardRef>,
    /// Positions of each source step, in the engine's encoding.
    #[prost(message, repeated, tag = "6")]
    pub sources: Vec<StepBytes>,
    /// Objects with rows that waited for a key.
    #[prost(string, repeated, tag = "7")]
    pub waiting_rows: Vec<String>,
    /// Watermarks passed, per step and key-group range.
    #[prost(message, repeated, tag = "8")]
    pub watermarks: Vec<RangeWatermark>,
    /// Staged output that this checkpoint commits.
    #[prost(message, repeated, tag = "9")]
    pub pieces: Vec<Piece>,
    /// Checkpoints that this one retires.
    #[prost(uint64, repeated, tag = "10")]
    pub retired: Vec<u64>,
    /// State bytes written for this checkpoint.
    #[prost(uint64, tag = "11")]
    pub bytes_written: u64,
    /// When it completed: milliseconds since 1970 by the coordinator's clock. Only shown.
    #[prost(int64, tag = "12")]
    pub wall_ms: i64,
    /// In the state of a base: the record that completed it.
    #[prost(uint64, tag = "13")]
    pub seq: u64,
    /// What the run has counted up to it, in the engine's encoding. Only shown.
    #[prost(bytes = "bytes", tag = "14")]
    pub totals: Bytes,
}

/// A shard by step and key groups.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct ShardRef {
    /// Id of the step.
    #[prost(string, tag = "1")]
    pub step: String,
    /// First key group.
    #[prost(uint32, tag = "2")]
    pub group_start: u32,
    /// One past the last key group.
    #[prost(uint32, tag = "3")]
    pub group_end: u32,
}

/// How a shard differs from what its key groups held in the base checkpoint.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ShardDelta {
    /// The shard.
    #[prost(message, required, tag = "1")]
    pub shard: ShardRef,
    /// Views that are no more.
    #[prost(message, repeated, tag = "2")]
    pub removed: Vec<ViewRef>,
    /// Views that are new.
    #[prost(message, repeated, tag = "3")]
    pub added: Vec<ViewRecord>,
    /// The next `seq` for a flush of the shard.
    #[prost(uint64, tag = "4")]
    pub next_seq: u64,
}

/// A view within a shard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct ViewRef {
    /// Object name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// First key group.
    #[prost(uint32, tag = "2")]
    pub group_start: u32,
    /// One past the last key group.
    #[prost(uint32, tag = "3")]
    pub group_end: u32,
}

/// The watermark that a step has passed for some of its key groups.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RangeWatermark {
    /// Id of the step.
    #[prost(string, tag = "1")]
    pub step: String,
    /// First key group.
    #[prost(uint32, tag = "2")]
    pub group_start: u32,
    /// One past the last key group.
    #[prost(uint32, tag = "3")]
    pub group_end: u32,
    /// Milliseconds since 1970.
    #[prost(sint64, tag = "4")]
    pub watermark_ms: i64,
}

/// A piece of a sink's output: staged, then published under its final name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct Piece {
    /// Id of the sink's step.
    #[prost(string, tag = "1")]
    pub step: String,
    /// The sink's folder, as in the manifest; empty: `staged` is a bare object name of the state.
    #[prost(string, tag = "2")]
    pub folder: String,
    /// Name below the folder while it is staged.
    #[prost(string, tag = "3")]
    pub staged: String,
    /// Name below the folder once it is published.
    #[prost(string, tag = "4")]
    pub final_name: String,
    /// Rows in it.
    #[prost(uint64, tag = "5")]
    pub rows: u64,
    /// Its size in bytes.
    #[prost(uint64, tag = "6")]
    pub bytes: u64,
}

/// A checkpoint gets a name that keeps it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Snapshot {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The checkpoint, held at that moment.
    #[prost(uint64, tag = "2")]
    pub checkpoint: u64,
    /// The name is given up instead (after its tombstone, when no pin is there).
    #[prost(bool, tag = "3")]
    pub deleted: bool,
}

/// The owner lets go; no generation lives.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Released {
    /// Who lets go.
    #[prost(string, tag = "1")]
    pub owner: String,
}

/// The job is done; nothing follows.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Finished {
    /// The run's summary, in the engine's encoding.
    #[prost(bytes = "bytes", tag = "1")]
    pub summary: Bytes,
}

impl Checkpoint {
    /// Its number.
    pub fn checkpoint_id(&self) -> CheckpointId {
        CheckpointId(self.id)
    }
}

impl SubtaskPlace {
    /// The subtask's key groups; `None` when they are no range.
    pub fn range(&self) -> Option<KeyGroupRange> {
        range(self.group_start, self.group_end)
    }
}

/// A stored key-group range; `None` when it is none.
pub(crate) fn range(start: u32, end: u32) -> Option<KeyGroupRange> {
    let range = KeyGroupRange { start: u16::try_from(start).ok()?, end: u16::try_from(end).ok()? };
    (range.start < range.end).then_some(range)
}
