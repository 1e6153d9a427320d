//! Names of staged and final objects of a `files` sink, and what they say.
//!
//! Final: `<step>-<run>-<checkpoint, 12 digits>-<generation>-<subtask>-<part>.ndjson`, so that a
//! second commit writes the same object, another run never meets the first, and names sort in
//! checkpoint order within a run. Staged: `_weir/<run>/g<generation>/…`, which never ends in the
//! format's suffix and does not know the checkpoint yet. docs/design/0007 fixes both.

use std::fmt;

use weir_state::ids::{CheckpointId, Generation};

use crate::sink::WriterId;

/// Folder below a sink's folder where pieces are staged.
pub const STAGED_FOLDER: &str = "_weir";
/// What a committed file's name ends in.
pub const SUFFIX: &str = ".ndjson";
const STAGED_SUFFIX: &str = ".staged";

/// What the name of a committed file says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FinalName {
    /// Step of the sink.
    pub step: String,
    /// The incarnation's short id.
    pub run: String,
    /// Checkpoint at which the piece was cut.
    pub checkpoint: CheckpointId,
    /// Generation.
    pub generation: Generation,
    /// Subtask.
    pub subtask: u32,
    /// See [`WriterId::part`].
    pub part: u32,
}

impl FinalName {
    /// The name of what `writer` cut at `checkpoint`.
    pub fn new(writer: &WriterId, checkpoint: CheckpointId) -> Self {
        Self {
            step: writer.step.clone(),
            run: writer.run.clone(),
            checkpoint,
            generation: writer.generation,
            subtask: writer.subtask,
            part: writer.part,
        }
    }

    /// Reads a file's name; `None` when it is no name of ours.
    pub fn parse(name: &str) -> Option<Self> {
        let fields: Vec<&str> = name.strip_suffix(SUFFIX)?.split('-').collect();
        let [step, run, checkpoint, generation, subtask, part] = fields[..] else {
            return None;
        };
        let parsed = Self {
            step: step.to_owned(),
            run: run.to_owned(),
            checkpoint: CheckpointId(checkpoint.parse().ok()?),
            generation: Generation(generation.parse().ok()?),
            subtask: subtask.parse().ok()?,
            part: part.parse().ok()?,
        };
        // Only what is written exactly as we write it is ours, and may be deleted.
        let words = !step.is_empty() && !run.is_empty();
        (words && parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for FinalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, run, checkpoint, generation, subtask, part } = self;
        let checkpoint = checkpoint.0;
        write!(f, "{step}-{run}-{checkpoint:012}-{generation}-{subtask}-{part}{SUFFIX}")
    }
}

/// What the name of a staged object says, below the sink's folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StagedName {
    /// Step of the sink.
    pub step: String,
    /// The incarnation's short id.
    pub run: String,
    /// Generation.
    pub generation: Generation,
    /// Subtask, part, the writer's random id and its count of pieces.
    pub writer: String,
}

impl StagedName {
    /// The name of the `piece`th object of the writer with the random id `attempt`.
    pub fn new(writer: &WriterId, attempt: &str, piece: u64) -> Self {
        let WriterId { step, run, generation, subtask, part, .. } = writer;
        Self {
            step: step.clone(),
            run: run.clone(),
            generation: *generation,
            writer: format!("{subtask}-{part}-{attempt}-{piece}"),
        }
    }

    /// Reads a name below the sink's folder; `None` when it is no name of ours.
    pub fn parse(name: &str) -> Option<Self> {
        let fields: Vec<&str> = name.split('/').collect();
        let [STAGED_FOLDER, run, generation, file] = fields[..] else {
            return None;
        };
        let (step, writer) = file.strip_suffix(STAGED_SUFFIX)?.split_once('-')?;
        let generation = Generation(generation.strip_prefix('g')?.parse().ok()?);
        let parsed = Self {
            step: step.to_owned(),
            run: run.to_owned(),
            generation,
            writer: writer.to_owned(),
        };
        (!step.is_empty() && !run.is_empty() && parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for StagedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, run, generation, writer } = self;
        write!(f, "{STAGED_FOLDER}/{run}/g{generation}/{step}-{writer}{STAGED_SUFFIX}")
    }
}
