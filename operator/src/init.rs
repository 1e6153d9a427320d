//! `weir init`: writes a starter manifest that runs as it is. Nothing is overwritten.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::exit::{Exit, report, say};

/// The starter; the job's name stands in for [`NAME`].
const STARTER: &str = include_str!("init/starter.yaml");
const NAME: &str = "NAME";
/// The job's name when the file's own cannot be one.
const NAME_OTHERWISE: &str = "job";
const NAME_CHARACTERS_MAX: usize = 40;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum InitError {
    /// Something is there.
    #[error(
        "{file} is there already and `weir init` overwrites nothing; name another file, as in \
         `weir init other.yaml`"
    )]
    Exists {
        /// The file.
        file: String,
    },
    /// The operating system refuses.
    #[error("cannot write {file}")]
    Io {
        /// The file.
        file: String,
        /// Cause.
        #[source]
        cause: std::io::Error,
    },
}

/// Writes the starter manifest and says how to run it.
pub(crate) fn run(file: &Path) -> Exit {
    match write(file) {
        Ok(()) => {
            let (file, name) = (file.display(), job_name(file));
            say(&format!(
                "{file} is written; `weir run {file}` runs it, into out/{name} beside it"
            ));
            Exit::Done
        }
        Err(error) => {
            report(&error);
            Exit::BadInput
        }
    }
}

fn write(path: &Path) -> Result<(), InitError> {
    let file = || path.display().to_string();
    let failed = |cause| InitError::Io { file: file(), cause };
    let mut made = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(made) => made,
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {
            return Err(InitError::Exists { file: file() });
        }
        Err(cause) => return Err(failed(cause)),
    };
    made.write_all(starter(job_name(path)).as_bytes()).map_err(failed)
}

fn starter(name: &str) -> String {
    STARTER.replace(NAME, name)
}

/// The file's own name, if a job can be called so.
fn job_name(file: &Path) -> &str {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or(NAME_OTHERWISE);
    let all = stem.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let ends = stem.starts_with(|c: char| c.is_ascii_lowercase()) && !stem.ends_with('-');
    // A name that YAML reads as something else would need quotes.
    let is_word = !["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&stem);
    if all && ends && is_word && stem.len() <= NAME_CHARACTERS_MAX { stem } else { NAME_OTHERWISE }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::manifest::Manifest;

    #[test]
    fn the_starter_has_no_problem_whatever_its_file_is_called() {
        for (file, name) in [
            ("job.yaml", "job"),
            ("some/first-2.yml", "first-2"),
            ("My Job.yaml", "job"),
            ("-x.yaml", "job"),
            ("on.yaml", "job"),
            ("a234567890123456789012345678901234567890x.yaml", "job"),
        ] {
            assert_eq!(job_name(Path::new(file)), name, "{file}");
            let manifest = Manifest::of(PathBuf::new(), &starter(name));
            assert!(manifest.problems.is_empty(), "{:?}", manifest.problems);
            assert_eq!(manifest.spec.unwrap().name, name);
        }
    }
}
