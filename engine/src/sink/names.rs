//! Names of staged objects of a `files` sink. Final names are [`SinkFile`]s.
//!
//! Staged: `_weir/<run>/g<generation>/<step>-<subtask>-<part>-<attempt>-<number>.staged`, which
//! never ends in the format's suffix and does not know the checkpoint yet. `<attempt>` is random,
//! so that no two writers ever use one name. docs/design/0007 fixes both forms.

use std::fmt;

use weir_state::ids::{CheckpointId, Generation};
use weir_state::names::{SinkFile, staged_by, staging_folder};

use crate::sink::WriterId;

/// Folder below a sink's folder where pieces are staged.
pub(crate) const STAGED_FOLDER: &str = "_weir";
const FORMAT_SUFFIX: &str = "ndjson";
const STAGED_SUFFIX: &str = ".staged";

/// The final name of what `writer` cut at `checkpoint`.
pub(crate) fn final_name(writer: &WriterId, checkpoint: CheckpointId) -> SinkFile {
    SinkFile {
        step: writer.step.clone(),
        run: writer.run.clone(),
        checkpoint,
        generation: writer.generation,
        subtask: writer.subtask,
        part: writer.part,
        suffix: FORMAT_SUFFIX.to_owned(),
    }
}

/// What the name of a staged object says; written as the name below the sink's folder.
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
    /// The name of the `number`th object of the writer with the random id `attempt`.
    pub(crate) fn new(writer: &WriterId, attempt: &str, number: u64) -> Self {
        let WriterId { step, run, generation, subtask, part, .. } = writer;
        Self {
            step: step.clone(),
            run: run.clone(),
            generation: *generation,
            writer: format!("{subtask}-{part}-{attempt}-{number}"),
        }
    }

    /// Reads a name below the sink's folder; `None` when it is no name of ours.
    pub fn parse(name: &str) -> Option<Self> {
        let (run, generation) = staged_by(name)?;
        let file = name.rsplit('/').next()?.strip_suffix(STAGED_SUFFIX)?;
        let (step, writer) = file.split_once('-')?;
        let parsed = Self {
            step: step.to_owned(),
            run: run.to_owned(),
            generation,
            writer: writer.to_owned(),
        };
        (!step.is_empty() && parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for StagedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, run, generation, writer } = self;
        write!(f, "{}/{step}-{writer}{STAGED_SUFFIX}", staging_folder(run, *generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> WriterId {
        WriterId {
            step: "out".to_owned(),
            run: "ab12".to_owned(),
            generation: Generation(3),
            subtask: 4,
            part: 1,
            worker: "w".to_owned(),
        }
    }

    #[test]
    fn a_final_name_is_that_of_the_reference_and_reads_back() {
        let name = final_name(&writer(), CheckpointId(17));
        assert_eq!(name.to_string(), "out-ab12-000000000017-3-4-1.ndjson");
        assert_eq!(SinkFile::parse(&name.to_string()), Some(name));
    }

    #[test]
    fn a_staged_name_reads_back_and_is_no_final_one() {
        let name = StagedName::new(&writer(), "00ff", 9);
        let text = name.to_string();
        assert_eq!(text, "_weir/ab12/g3/out-4-1-00ff-9.staged");
        assert_eq!(StagedName::parse(&text), Some(name));
        assert!(!text.ends_with(".ndjson"));
    }

    #[test]
    fn names_that_are_not_ours_are_left_alone() {
        for name in [
            "_weir/ab12/g3/out-4-1-00ff-9.staged#1",
            "_weir/ab12/g03/out-4-1-00ff-9.staged",
            "_weir/ab12/g3/x/out-4-1-00ff-9.staged",
            "_weir/ab12/g3/out.staged",
            "_weir/ab12/out-4.staged",
            "notes.txt",
        ] {
            assert_eq!(StagedName::parse(name), None, "{name}");
        }
    }
}
