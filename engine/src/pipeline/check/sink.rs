//! Sinks: what can be written, and that no two write one folder.

use std::collections::BTreeMap;

use arrow::datatypes::FieldRef;
use weir_expr::types;

use super::{Outcome, Problem, Report, RowType, refused_column};
use crate::pipeline::checked::{CheckedTable, CheckedVerb};
use crate::pipeline::spec::{JobSpec, SinkSpec, TableSpec, Verb};
use crate::rows::key::is_key_type;
use crate::sink::KIND_COLUMN;

/// Tables of a job.
const TABLES_MAX: usize = 64;

pub(super) fn check(sink: &SinkSpec, input: &RowType, report: &mut Report<'_>) -> Outcome {
    let before = report.problems.len();
    let place = match sink {
        SinkSpec::Files { .. } => "sink.files",
        SinkSpec::Table(table) => return self::table(table, input, report),
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

/// A table keeps whole rows in its state, so all their columns have to be of types that fit there.
fn table(table: &TableSpec, input: &RowType, report: &mut Report<'_>) -> Outcome {
    const PLACE: &str = "sink.table";
    let before = report.problems.len();
    let mut key = Vec::with_capacity(table.key.len());
    for (item, name) in table.key.iter().enumerate() {
        match input.schema.column_with_name(name) {
            Some((index, field)) => {
                // A column without a type of ours is named below.
                if refused_column(field).is_none() && !is_key_type(field.data_type()) {
                    let kind = types::print(field.data_type());
                    let message = format!("column `{name}` is {kind}, which cannot be a key");
                    report.add(&format!("{PLACE}.key[{item}]"), message);
                }
                key.push(index);
            }
            None => {
                let message = weir_expr::unknown_column(name, &input.schema).to_string();
                report.add(&format!("{PLACE}.key[{item}]"), message);
            }
        }
    }
    if table.key.is_empty() {
        report.add(&format!("{PLACE}.key"), "a table needs a key");
    }
    if table.every_ms == Some(0) {
        report.add(&format!("{PLACE}.every"), "is at least 1ms");
    }
    for field in input.schema.fields() {
        if let Some(message) = refused_column(field) {
            report.add(PLACE, format!("{message}; leave it out with a select"));
        }
    }
    let sound = report.problems.len() == before;
    let signature = signature(table, input);
    let checked = CheckedTable { key, spec: table.clone() };
    let verb = sound.then_some(CheckedVerb::Table(checked));
    Outcome { signature: Some(signature), ..Outcome::new(verb, input.clone()) }
}

/// A fingerprint of what the state means: key, columns, and how rows change it.
fn signature(table: &TableSpec, input: &RowType) -> String {
    let column = |field: &FieldRef| {
        // The length keeps names with any signs in them apart.
        let (length, name) = (field.name().len(), field.name());
        format!("{length}:{name} {}", types::print(field.data_type()))
    };
    let columns: Vec<String> = input.schema.fields().iter().map(column).collect();
    let key: Vec<String> = table.key.iter().map(|name| format!("{}:{name}", name.len())).collect();
    let canonical = format!(
        "table 1\nkey {}\ncolumns {}\ntime {} changelog {}",
        key.join(", "),
        columns.join(", "),
        input.has_time,
        input.changelog
    );
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(canonical.as_bytes()))
}

/// Two sinks in one folder would each delete what they take for leftovers of an earlier run.
pub(super) fn folders(job: &JobSpec, problems: &mut Vec<Problem>) {
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    for (index, step) in job.pipeline.iter().enumerate() {
        let Verb::Sink(sink) = &step.verb else { continue };
        let Some((uri, _)) = sink.folder() else { continue };
        let kind = if matches!(sink, SinkSpec::Table(_)) { "table" } else { "files" };
        let path = format!("spec.pipeline[{index}].sink.{kind}.uri");
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

/// Which tables write at a checkpoint travels as one number.
pub(super) fn tables(job: &JobSpec, problems: &mut Vec<Problem>) {
    let is_table = |verb: &Verb| matches!(verb, Verb::Sink(SinkSpec::Table(_)));
    let count = job.pipeline.iter().filter(|step| is_table(&step.verb)).count();
    if count > TABLES_MAX {
        let message = format!("there are {count} tables; a job has at most {TABLES_MAX}");
        problems.push(Problem { path: "spec.pipeline".into(), message });
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
