//! A manifest file becomes a job, or all of its problems: those of its form, and those that show
//! only when its sources are looked at.

use std::path::{Path, PathBuf};

use weir_crds::{Inspected, StatefulJob};
use weir_engine::coordinator::begin::{self, BeginError};
use weir_engine::objects::RealObjects;
use weir_engine::pipeline::spec::JobSpec;

use crate::exit::chain;
use crate::operator::template::Template;
use crate::schedule::Schedule;
use crate::translate::{self, Beginning};

/// A manifest that was read.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// The resource, if anything sound is left of it.
    pub(crate) job: Option<StatefulJob>,
    /// The same, as the engine takes it.
    pub(crate) spec: Option<JobSpec>,
    /// It is to wait until this is set back.
    pub(crate) suspend: bool,
    /// What counts when it begins.
    pub(crate) beginning: Beginning,
    /// What relative URIs are relative to.
    pub(crate) base_folder: PathBuf,
    /// Problems so far, each with its path.
    pub(crate) problems: Vec<String>,
    /// For each step of `spec` its index in the manifest.
    steps: Vec<usize>,
}

/// The file can't be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {file}")]
pub(crate) struct Unreadable {
    file: String,
    #[source]
    cause: std::io::Error,
}

impl Manifest {
    /// Reads a file and checks its form.
    pub(crate) fn read(file: &Path) -> Result<Self, Unreadable> {
        let failed = |cause| Unreadable { file: file.display().to_string(), cause };
        let text = std::fs::read_to_string(file).map_err(failed)?;
        let file = file.canonicalize().map_err(failed)?;
        let base_folder = file.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self::of(base_folder, &text))
    }

    /// Checks the form of a text that lies in `base_folder`.
    pub(crate) fn of(base_folder: PathBuf, text: &str) -> Self {
        let Inspected { job, steps, problems } = weir_crds::inspect_manifest(text);
        let told = problems.iter().map(ToString::to_string);
        let bad_worker = job.as_ref().and_then(Template::problem);
        let problems = told.chain(bad_schedule(job.as_ref())).chain(bad_worker).collect();
        let (spec, from) = job.as_ref().map(translate::job_spec).unzip();
        let suspend = job.as_ref().is_some_and(|job| job.spec.suspend);
        let beginning = job.as_ref().map(translate::beginning).unwrap_or_default();
        let from = from.unwrap_or_default();
        let steps = from.into_iter().filter_map(|step: usize| steps.get(step).copied()).collect();
        Self { job, spec, suspend, beginning, base_folder, problems, steps }
    }

    /// Looks at the sources and checks what is left with their columns. Gives what could not be
    /// checked, in one sentence each.
    pub(crate) async fn check(&mut self) -> Vec<String> {
        let Some(spec) = &self.spec else { return Vec::new() };
        if spec.pipeline.is_empty() {
            return Vec::new();
        }
        let objects = RealObjects { base_folder: self.base_folder.clone() };
        let (problems, unreachable) = begin::problems(spec, &objects).await;
        let is_partial = !self.problems.is_empty();
        for problem in problems {
            // Of a part of the pipeline, only what is said of a step itself is sure.
            if is_partial && !problem.path.starts_with("spec.pipeline[") {
                continue;
            }
            let path = self.path_in_manifest(&problem.path);
            self.problems.push(format!("{path}: {}", problem.message));
        }
        let sentence = |error: &BeginError| match error {
            BeginError::Unreachable { path, cause } => {
                format!("{}: {}", self.path_in_manifest(path), chain(cause))
            }
            other => chain(other),
        };
        unreachable.iter().map(sentence).collect()
    }

    /// A path of the engine, which knows only the sound steps, as the manifest's.
    fn path_in_manifest(&self, path: &str) -> String {
        let parts = path.strip_prefix("spec.pipeline[").and_then(|rest| rest.split_once(']'));
        let index = |index: &str| self.steps.get(index.parse::<usize>().ok()?).copied();
        match parts.and_then(|(step, rest)| Some((index(step)?, rest))) {
            Some((step, rest)) => format!("spec.pipeline[{step}]{rest}"),
            None => path.to_owned(),
        }
    }
}

/// What is wrong with the times of snapshots.
fn bad_schedule(job: Option<&StatefulJob>) -> Option<String> {
    let declared = job?.spec.checkpoint.snapshots.as_ref()?;
    let error = Schedule::parse(&declared.schedule, &declared.time_zone).err()?;
    Some(format!("spec.checkpoint.snapshots.{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_the_steps_of_the_manifest() {
        let manifest = Manifest {
            job: None,
            spec: None,
            suspend: false,
            beginning: Beginning::default(),
            base_folder: PathBuf::new(),
            problems: Vec::new(),
            steps: vec![0, 2],
        };
        let path = manifest.path_in_manifest("spec.pipeline[1].filter");
        assert_eq!(path, "spec.pipeline[2].filter");
        assert_eq!(manifest.path_in_manifest("spec.replicas"), "spec.replicas");
    }
}
