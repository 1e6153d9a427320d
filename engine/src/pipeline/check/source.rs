//! Sources: their columns, format and event time.

use std::sync::Arc;

use arrow::datatypes::Schema;
use weir_expr::types;

use super::{Outcome, Report, RowType, refused_column};
use crate::pipeline::checked::{CheckedEventTime, CheckedSource, CheckedVerb, SourceSchemas};
use crate::pipeline::spec::{EventTimeSpec, FileFormat, SourceKind, SourceSpec, StepSpec};
use crate::source::generated;

pub(super) fn check(
    step: &StepSpec,
    source: &SourceSpec,
    sources: &SourceSchemas,
    report: &mut Report<'_>,
) -> Outcome {
    let before = report.problems.len();
    let format = match &source.kind {
        SourceKind::Files { uri, format, .. } => {
            let format = format_of(uri, *format);
            // A folder tells it by its files: whoever looked there knows the columns.
            let is_file = uri.rsplit('/').next().is_some_and(|name| name.contains('.'));
            if format.is_none() && is_file && !sources.contains_key(&step.id) {
                let what = "tells no format; declare parquet or ndjson";
                report.add("source.files.format", format!("the suffix of `{uri}` {what}"));
            }
            format
        }
        _ => None,
    };
    let declared = declared(&source.kind, format, report);
    if source.rate == Some(0) {
        report.add("source.rate", "a rate of 0 rows per second never ends; leave it out");
    }
    let Some(schema) = sources.get(&step.id).cloned().or(declared) else {
        if report.problems.len() == before {
            let message = "its columns are not known, since its object could not be read";
            report.problems.push(super::Problem {
                path: format!("{}.source", report.path),
                message: message.into(),
            });
        }
        return Outcome::unknown();
    };
    duplicates(&schema, report);
    let event_time = event_time(source, &schema, report);
    let sound = report.problems.len() == before;
    let verb = CheckedVerb::Source(CheckedSource {
        kind: source.kind.clone(),
        format,
        rate: source.rate,
        event_time,
    });
    // An event time that is wrong is not missing: steps that need one are not to blame.
    let has_time = source.event_time.is_some() || generated::time_column(&source.kind).is_some();
    Outcome::new(
        sound.then_some(verb),
        RowType { schema: Arc::new(schema), has_time, changelog: false },
    )
}

fn format_of(uri: &str, declared: Option<FileFormat>) -> Option<FileFormat> {
    let name = uri.strip_suffix(".gz").or(uri.strip_suffix(".zst")).unwrap_or(uri);
    declared.or(match name.rsplit('/').next().and_then(|name| name.rsplit_once('.')) {
        Some((_, "parquet")) => Some(FileFormat::Parquet),
        Some((_, "ndjson" | "jsonl")) => Some(FileFormat::Ndjson),
        _ => None,
    })
}

/// The columns that follow from the declaration alone.
fn declared(
    kind: &SourceKind,
    format: Option<FileFormat>,
    report: &mut Report<'_>,
) -> Option<Schema> {
    let SourceKind::Files { schema, .. } = kind else {
        return generated::schema(kind);
    };
    match (format, schema) {
        (Some(FileFormat::Ndjson), None) => {
            report.add(
                "source.files",
                "ndjson without `schema` is not built yet; declare its columns as \
                 `schema: {name: type}`",
            );
            None
        }
        (Some(FileFormat::Parquet), Some(_)) => {
            report.add("source.files.schema", "a parquet file has its own schema");
            None
        }
        (_, None) => None,
        (_, Some(columns)) => {
            let mut fields = Vec::with_capacity(columns.len());
            for (name, words) in columns {
                match types::parse(words) {
                    Ok(data_type) => {
                        fields.push(arrow::datatypes::Field::new(name, data_type, true));
                    }
                    Err(error) => {
                        report.add(&format!("source.files.schema.{name}"), error.to_string());
                    }
                }
            }
            (fields.len() == columns.len()).then(|| Schema::new(fields))
        }
    }
}

fn duplicates(schema: &Schema, report: &mut Report<'_>) {
    for (index, field) in schema.fields().iter().enumerate() {
        let first = schema.fields().iter().position(|known| known.name() == field.name());
        if first != Some(index) {
            report.add("source", format!("there are two columns `{}`", field.name()));
        }
    }
}

fn event_time(
    source: &SourceSpec,
    schema: &Schema,
    report: &mut Report<'_>,
) -> Option<CheckedEventTime> {
    const PLACE: &str = "source.eventTime.column";
    let own = generated::time_column(&source.kind);
    let (column, delay_ms) = match (&source.event_time, own) {
        (None, Some(own)) => (own, 0),
        (None, None) => return None,
        (Some(EventTimeSpec { column, delay_ms }), own) => match column.as_deref().or(own) {
            Some(column) => (column, *delay_ms),
            None => {
                report.add(PLACE, "a `files` source has to name its column of event time");
                return None;
            }
        },
    };
    if delay_ms < 0 {
        report.add("source.eventTime.delay", "a delay is not negative");
    }
    let Some((index, field)) = schema.column_with_name(column) else {
        report.add(PLACE, weir_expr::unknown_column(column, schema).to_string());
        return None;
    };
    if let Some(message) = refused_column(field) {
        report.add(PLACE, message);
        return None;
    }
    if *field.data_type() != types::timestamp() {
        let found = types::print(field.data_type());
        report.add(PLACE, format!("event time is a timestamp; column `{column}` is {found}"));
        return None;
    }
    Some(CheckedEventTime { column: index, delay_ms })
}
