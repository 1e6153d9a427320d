//! Sinks: what can be written, and that no two write one folder.

use std::collections::BTreeMap;

use super::{Outcome, Problem, Report, RowType, refused_column};
use crate::pipeline::checked::CheckedVerb;
use crate::pipeline::spec::{JobSpec, SinkSpec, Verb};
use crate::sink::KIND_COLUMN;

pub(super) fn check(sink: &SinkSpec, input: &RowType, report: &mut Report<'_>) -> Outcome {
    let before = report.problems.len();
    let place = match sink {
        SinkSpec::Files { .. } => "sink.files",
        SinkSpec::Print { .. } => "sink.print",
        // It counts rows and looks at no column.
        SinkSpec::Blackhole => {
            return Outcome::new(Some(CheckedVerb::Sink(sink.clone())), input.clone());
        }
    };
    for message in input.schema.fields().iter().filter_map(|field| refused_column(field)) {
        report.add(place, format!("{message}; leave it out with a select"));
    }
    if input.changelog && input.schema.column_with_name(KIND_COLUMN).is_some() {
        report.add(place, format!("these rows may be revised, and their kind is written as `{KIND_COLUMN}`, which is a column already; rename it with a select"));
    }
    let sound = report.problems.len() == before;
    Outcome::new(sound.then(|| CheckedVerb::Sink(sink.clone())), input.clone())
}

/// Two sinks in one folder would each delete what they take for leftovers of an earlier run.
pub(super) fn folders(job: &JobSpec, problems: &mut Vec<Problem>) {
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    for (index, step) in job.pipeline.iter().enumerate() {
        let Verb::Sink(SinkSpec::Files { uri, .. }) = &step.verb else {
            continue;
        };
        let path = format!("spec.pipeline[{index}].sink.files.uri");
        let folder = folder(uri);
        if folder.is_empty() {
            problems.push(Problem { path, message: "names no folder".into() });
            continue;
        }
        match first.get(&folder) {
            Some(other) => {
                let other = &job.pipeline[*other].id;
                let message = format!("sink `{other}` writes the folder `{uri}` too; take another");
                problems.push(Problem { path, message });
            }
            None => {
                first.insert(folder, index);
            }
        }
    }
}

/// One spelling for the ways to write a folder down.
fn folder(uri: &str) -> String {
    let (scheme, path) = match uri.split_once("://") {
        Some(("file", path)) => ("", path),
        Some((scheme, path)) => (scheme, path),
        None => ("", uri),
    };
    let root = if path.starts_with('/') && scheme.is_empty() { "/" } else { "" };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, parts.last()) {
            ("..", Some(last)) if *last != ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    let path = parts.join("/");
    match (scheme, path.as_str()) {
        ("", "") if root.is_empty() && !uri.is_empty() => ".".into(),
        _ => format!("{scheme}{}{root}{path}", if scheme.is_empty() { "" } else { "://" }),
    }
}
