//! Names of staged objects of a `files` sink. Final names are [`SinkFile`]s.
//!
//! Staged: `_weir/<run>/g<generation>/<step>-<subtask>-<part>-<attempt>-<number>.staged`, which
//! never ends in the format's suffix and does not know the checkpoint yet. `<attempt>` is random,
//! so that no two writers ever use one name. docs/design/0007 fixes both forms.

use weir_state::ids::CheckpointId;
use weir_state::names::{SinkFile, staging_folder};

use crate::sink::WriterId;

const STAGED_SUFFIX: &str = ".staged";

/// The final name of what `writer` cut at `checkpoint`, in the format of that suffix.
pub(crate) fn final_name(writer: &WriterId, checkpoint: CheckpointId, suffix: &str) -> SinkFile {
    SinkFile {
        step: writer.step.clone(),
        run: writer.run.clone(),
        checkpoint,
        generation: writer.generation,
        subtask: writer.subtask,
        part: writer.part,
        suffix: suffix.to_owned(),
    }
}

/// The name, below the sink's folder, of the `number`th object of the writer with the random id
/// `attempt`.
pub(crate) fn staged_name(writer: &WriterId, attempt: &str, number: u64) -> String {
    let WriterId { step, run, generation, subtask, part, .. } = writer;
    let folder = staging_folder(run, *generation);
    format!("{folder}/{step}-{subtask}-{part}-{attempt}-{number}{STAGED_SUFFIX}")
}

#[cfg(test)]
mod tests {
    use weir_state::ids::Generation;
    use weir_state::names::staged_by;

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
        let name = final_name(&writer(), CheckpointId(17), "ndjson");
        assert_eq!(name.to_string(), "out-ab12-000000000017-3-4-1.ndjson");
        assert_eq!(SinkFile::parse(&name.to_string()), Some(name));
    }

    #[test]
    fn a_staged_name_says_its_run_and_generation_and_is_no_final_one() {
        let name = staged_name(&writer(), "00ff", 9);
        assert_eq!(name, "_weir/ab12/g3/out-4-1-00ff-9.staged");
        assert_eq!(staged_by(&name), Some(("ab12", Generation(3))));
        assert!(!name.ends_with(".ndjson"));
    }
}
