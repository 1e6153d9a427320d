//! Aggregates: key, window, values, the columns that come out, the signature of the state.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema};
use weir_expr::{Aggregates, InputMode, types};

use super::{Outcome, Report, RowType, refused_column};
use crate::pipeline::checked::{CheckedAggregate, CheckedVerb};
use crate::pipeline::spec::AggregateSpec;
use crate::rows::key::is_key_type;

/// Columns that a window adds.
const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

pub(super) fn check(
    aggregate: &AggregateSpec,
    input: &RowType,
    report: &mut Report<'_>,
) -> Outcome {
    let key = key(aggregate, &input.schema, report);
    window(aggregate, input, report);
    let mode = InputMode { has_time: input.has_time, retractable: input.changelog };
    let values = match weir_expr::compile_aggregates(&input.schema, &aggregate.values, mode) {
        Ok(values) => Some(values),
        Err(errors) => {
            report.items("aggregate.values", errors);
            None
        }
    };
    // Without its key or values the columns that come out are not known.
    let (Some(key), Some(values)) = (key, values) else {
        return Outcome::unknown();
    };
    let sound = clashes(aggregate, &values, report);
    let schema = output(&input.schema, &key, &values);
    let signature = signature(aggregate, &input.schema, &key, &values);
    let checked = CheckedAggregate {
        key,
        window: aggregate.window,
        lateness_ms: aggregate.lateness_ms,
        aggregates: values,
    };
    let rows = RowType { schema: Arc::new(schema), has_time: true, changelog: false };
    let verb = sound.then_some(CheckedVerb::Aggregate(checked));
    Outcome { signature: Some(signature), ..Outcome::new(verb, rows) }
}

/// The key's columns; none if one of them cannot be a key.
fn key(aggregate: &AggregateSpec, schema: &Schema, report: &mut Report<'_>) -> Option<Vec<usize>> {
    let mut key = Vec::with_capacity(aggregate.key.len());
    for (item, name) in aggregate.key.iter().enumerate() {
        let place = format!("aggregate.key[{item}]");
        let Some((index, field)) = schema.column_with_name(name) else {
            report.add(&place, weir_expr::unknown_column(name, schema).to_string());
            continue;
        };
        if let Some(message) = refused_column(field) {
            report.add(&place, message);
        } else if !is_key_type(field.data_type()) {
            let data_type = types::print(field.data_type());
            report.add(&place, format!("column `{name}` is {data_type}, which cannot be a key"));
        } else if key.contains(&index) {
            report.add(&place, format!("column `{name}` is in the key already"));
        } else if WINDOW_COLUMNS.contains(&name.as_str()) {
            let hint = format!("rename it before with a select: `{name} as …`");
            report.add(&place, format!("`{name}` is a column that the window adds; {hint}"));
        } else {
            key.push(index);
        }
    }
    (key.len() == aggregate.key.len()).then_some(key)
}

fn window(aggregate: &AggregateSpec, input: &RowType, report: &mut Report<'_>) {
    const PLACE: &str = "aggregate.window";
    if !input.has_time {
        report.add(
            PLACE,
            "a window needs event time, and these rows have none; give every source of them an \
             `eventTime`",
        );
    }
    if input.changelog {
        report.add(
            PLACE,
            "an aggregate with a window takes no changelog, and these rows may be revised; leave \
             the window out, or put the aggregate above the step that revises",
        );
    }
    if aggregate.window.size_ms < 1 {
        report.add(&format!("{PLACE}.tumble"), "a window is at least 1ms long");
    }
    if aggregate.lateness_ms < 0 {
        report.add("aggregate.lateness", "a lateness is not negative");
    }
}

/// Whether no value takes the name of another column; values among themselves were compared.
fn clashes(aggregate: &AggregateSpec, values: &Aggregates, report: &mut Report<'_>) -> bool {
    let before = report.problems.len();
    for (item, field) in values.output_fields().iter().enumerate() {
        let name = field.name().as_str();
        let place = format!("aggregate.values[{item}]");
        if WINDOW_COLUMNS.contains(&name) {
            report.add(&place, format!("`{name}` is a column that the window adds; name it anew"));
        } else if aggregate.key.iter().any(|key| key == name) {
            report.add(&place, format!("`{name}` is a column of the key; name it anew"));
        }
    }
    report.problems.len() == before
}

fn output(input: &Schema, key: &[usize], values: &Aggregates) -> Schema {
    let mut fields: Vec<FieldRef> =
        key.iter().map(|index| Arc::clone(&input.fields()[*index])).collect();
    let border = |name: &str| Arc::new(Field::new(name, types::timestamp(), true));
    fields.extend(WINDOW_COLUMNS.map(border));
    fields.extend(values.output_fields().iter().map(Arc::clone));
    Schema::new(fields)
}

/// A fingerprint of what the state means: key, window, values. Not of `lateness`, which says how
/// long a window stays and not what is in it.
fn signature(
    aggregate: &AggregateSpec,
    input: &Schema,
    key: &[usize],
    values: &Aggregates,
) -> String {
    let column = |index: &usize| {
        let field = input.field(*index);
        // The length keeps names with any signs in them apart.
        let (length, name) = (field.name().len(), field.name());
        format!("{length}:{name} {}", types::print(field.data_type()))
    };
    let key: Vec<String> = key.iter().map(column).collect();
    let canonical = format!(
        "aggregate 1\nkey {}\ntumble {} offset {}\nvalues {}",
        key.join(", "),
        aggregate.window.size_ms,
        aggregate.window.offset_ms,
        values.canonical()
    );
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(canonical.as_bytes()))
}
