//! Aggregates: key, window, values, the columns that come out, the signature of the state.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema};
use weir_expr::{Aggregates, InputMode, types};

use super::{Outcome, Report, RowType, refused_column};
use crate::pipeline::checked::{CheckedAggregate, CheckedVerb};
use crate::pipeline::spec::{AggregateSpec, Emit, WindowSpec};
use crate::rows::key::is_key_type;

/// Windows that a row can be in.
const WINDOWS_OF_ROW_MAX: i64 = 10_000;

/// Columns that a window adds.
const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

pub(super) fn check(
    aggregate: &AggregateSpec,
    input: &RowType,
    report: &mut Report<'_>,
) -> Outcome {
    let key = key(aggregate, &input.schema, report);
    let before = report.problems.len();
    match &aggregate.window {
        Some(spec) => window(aggregate, spec, input, report),
        None => no_window(aggregate, report),
    }
    let mut sound = report.problems.len() == before;
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
    sound &= clashes(aggregate, &values, report);
    let emit = aggregate.emit.unwrap_or(match aggregate.window {
        Some(_) => Emit::OnClose,
        None => Emit::OnUpdate,
    });
    let has_window = aggregate.window.is_some();
    let schema = output(&input.schema, &key, has_window, &values);
    let checked = CheckedAggregate {
        key,
        window: aggregate.window,
        emit,
        lateness_ms: aggregate.lateness_ms,
        ttl_ms: aggregate.ttl_ms,
        input_has_time: input.has_time,
        input_changelog: input.changelog,
        aggregates: values,
    };
    let signature = signature(&checked, &input.schema);
    let rows = RowType {
        schema: Arc::new(schema),
        has_time: has_window || input.has_time,
        changelog: emit == Emit::OnUpdate,
    };
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
        } else if aggregate.window.is_some() && WINDOW_COLUMNS.contains(&name.as_str()) {
            let hint = format!("rename it before with a select: `{name} as …`");
            report.add(&place, format!("`{name}` is a column that the window adds; {hint}"));
        } else {
            key.push(index);
        }
    }
    (key.len() == aggregate.key.len()).then_some(key)
}

fn window(
    aggregate: &AggregateSpec,
    window: &WindowSpec,
    input: &RowType,
    report: &mut Report<'_>,
) {
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
    let short = |place: &str| (format!("{PLACE}.{place}"), "a window is at least 1ms long".into());
    let wrong: Option<(String, String)> = match *window {
        WindowSpec::Tumble(tumble) if tumble.size_ms < 1 => Some(short("tumble")),
        WindowSpec::Hop { size_ms, .. } if size_ms < 1 => Some(short("hop.size")),
        WindowSpec::Hop { every_ms, .. } if every_ms < 1 => {
            Some((format!("{PLACE}.hop.every"), "is at least 1ms".into()))
        }
        WindowSpec::Hop { size_ms, every_ms, .. } if every_ms > size_ms => Some((
            format!("{PLACE}.hop.every"),
            "is longer than the window, so that rows between windows would be lost; make it at \
             most `size`"
                .into(),
        )),
        WindowSpec::Hop { size_ms, every_ms, .. } if size_ms / every_ms > WINDOWS_OF_ROW_MAX => {
            let message = format!(
                "each row would be in {} windows; at most {WINDOWS_OF_ROW_MAX} are allowed",
                size_ms / every_ms
            );
            Some((format!("{PLACE}.hop.every"), message))
        }
        WindowSpec::Session { gap_ms } if gap_ms < 1 => {
            Some((format!("{PLACE}.session"), "the gap of a session is at least 1ms".into()))
        }
        _ => None,
    };
    if let Some((place, message)) = wrong {
        report.add(&place, message);
    }
    if aggregate.lateness_ms < 0 {
        report.add("aggregate.lateness", "a lateness is not negative");
    }
    if aggregate.ttl_ms.is_some() {
        report.add(
            "aggregate.ttl",
            "a window's state ends with the window; `ttl` is for aggregates without one",
        );
    }
}

/// What only a window has.
fn no_window(aggregate: &AggregateSpec, report: &mut Report<'_>) {
    if aggregate.emit == Some(Emit::OnClose) {
        report.add(
            "aggregate.emit",
            "without a window nothing closes, so the only choice is `onUpdate`",
        );
    }
    if aggregate.lateness_ms != 0 {
        report.add("aggregate.lateness", "says how long a window stays, and there is no window");
    }
    if aggregate.ttl_ms.is_some_and(|ttl| ttl < 1) {
        report.add("aggregate.ttl", "is at least 1ms");
    }
}

/// Whether no value takes the name of another column; values among themselves were compared.
fn clashes(aggregate: &AggregateSpec, values: &Aggregates, report: &mut Report<'_>) -> bool {
    let before = report.problems.len();
    for (item, field) in values.output_fields().iter().enumerate() {
        let name = field.name().as_str();
        let place = format!("aggregate.values[{item}]");
        if aggregate.window.is_some() && WINDOW_COLUMNS.contains(&name) {
            report.add(&place, format!("`{name}` is a column that the window adds; name it anew"));
        } else if aggregate.key.iter().any(|key| key == name) {
            report.add(&place, format!("`{name}` is a column of the key; name it anew"));
        }
    }
    report.problems.len() == before
}

fn output(input: &Schema, key: &[usize], has_window: bool, values: &Aggregates) -> Schema {
    let mut fields: Vec<FieldRef> =
        key.iter().map(|index| Arc::clone(&input.fields()[*index])).collect();
    let border = |name: &str| Arc::new(Field::new(name, types::timestamp(), true));
    fields.extend(WINDOW_COLUMNS.iter().filter(|_| has_window).map(|name| border(name)));
    fields.extend(values.output_fields().iter().map(Arc::clone));
    Schema::new(fields)
}

/// A fingerprint of what the state means: key, window, values, whether a window's results were
/// written before it closes, and by the values whether rows can be taken back. Not of `lateness` and `ttl`, which
/// say how long state stays and not what is in it.
fn signature(aggregate: &CheckedAggregate, input: &Schema) -> String {
    let column = |index: &usize| {
        let field = input.field(*index);
        // The length keeps names with any signs in them apart.
        let (length, name) = (field.name().len(), field.name());
        format!("{length}:{name} {}", types::print(field.data_type()))
    };
    let key: Vec<String> = aggregate.key.iter().map(column).collect();
    let window = match &aggregate.window {
        Some(WindowSpec::Tumble(tumble)) => {
            format!("tumble {} offset {}", tumble.size_ms, tumble.offset_ms)
        }
        Some(WindowSpec::Hop { size_ms, every_ms, offset_ms }) => {
            format!("hop {size_ms} every {every_ms} offset {offset_ms}")
        }
        Some(WindowSpec::Session { gap_ms }) => format!("session {gap_ms}"),
        None => "no window".into(),
    };
    let updates = aggregate.window.is_some() && aggregate.emit == Emit::OnUpdate;
    let canonical = format!(
        "aggregate 1\nkey {}\n{window}{}\nvalues {}",
        key.join(", "),
        if updates { "\nupdates" } else { "" },
        aggregate.aggregates.canonical()
    );
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(canonical.as_bytes()))
}
