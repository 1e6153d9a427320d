//! Steps without state: filter, select, union.

use std::sync::Arc;

use arrow::datatypes::Schema;
use weir_expr::types;

use super::{Outcome, Report, RowType};
use crate::pipeline::checked::CheckedVerb;
use crate::pipeline::spec::StepSpec;

pub(super) fn filter(text: &str, input: &RowType, report: &mut Report<'_>) -> Outcome {
    match weir_expr::compile_predicate(&input.schema, text) {
        Ok(predicate) => Outcome::new(Some(CheckedVerb::Filter(predicate)), input.clone()),
        Err(error) => {
            report.add("filter", error.to_string());
            Outcome::new(None, input.clone())
        }
    }
}

pub(super) fn select(items: &[String], input: &RowType, report: &mut Report<'_>) -> Outcome {
    match weir_expr::compile_select(&input.schema, items) {
        Ok(projection) => {
            let schema = Arc::clone(projection.schema());
            let rows = RowType { schema, has_time: input.has_time, changelog: input.changelog };
            Outcome::new(Some(CheckedVerb::Select(projection)), rows)
        }
        Err(errors) => {
            report.items("select", errors);
            Outcome::unknown()
        }
    }
}

/// Rows have time if they have it in every input, and may be revised if they may be in one.
pub(super) fn union(step: &StepSpec, inputs: &[RowType], report: &mut Report<'_>) -> Outcome {
    let Some((first, others)) = inputs.split_first() else {
        return Outcome::unknown();
    };
    let mut reorder = vec![None];
    let mut sound = true;
    for (other, id) in others.iter().zip(step.from.iter().skip(1)) {
        match order(&first.schema, &other.schema) {
            Ok(order) => reorder.push(order),
            Err(difference) => {
                let first = step.from.first().map_or("", String::as_str);
                report.add("from", format!("`{first}` and `{id}` differ: {difference}"));
                sound = false;
            }
        }
    }
    let has_time = inputs.iter().all(|input| input.has_time);
    let changelog = inputs.iter().any(|input| input.changelog);
    let rows = RowType { schema: Arc::clone(&first.schema), has_time, changelog };
    Outcome::new(sound.then_some(CheckedVerb::Union { reorder }), rows)
}

/// Where the columns of `first` lie in `other`; none: at the same places.
fn order(first: &Schema, other: &Schema) -> Result<Option<Vec<usize>>, String> {
    let mut differences = Vec::new();
    let mut order = Vec::with_capacity(first.fields().len());
    for field in first.fields() {
        match other.column_with_name(field.name()) {
            None => differences.push(format!("only the first has column `{}`", field.name())),
            Some((index, same)) if words(same) == words(field) => order.push(index),
            Some((_, different)) => differences.push(format!(
                "column `{}` is {} in one and {} in the other",
                field.name(),
                words(field),
                words(different)
            )),
        }
    }
    for field in other.fields() {
        if first.column_with_name(field.name()).is_none() {
            differences.push(format!("only the second has column `{}`", field.name()));
        }
    }
    if !differences.is_empty() {
        return Err(differences.join(", "));
    }
    let in_order = order.iter().enumerate().all(|(place, index)| place == *index);
    Ok((!in_order).then_some(order))
}

fn words(field: &arrow::datatypes::Field) -> String {
    types::refused(field).map_or_else(|| types::print(field.data_type()), str::to_owned)
}
