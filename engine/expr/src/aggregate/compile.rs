//! Items of an aggregate step to calls, and to expressions over the calls' results.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Visit, VisitMut,
    Visitor, VisitorMut, visit_expressions,
};

use super::call::Call;
use super::{AggregateCall, Aggregates};
use crate::error::{ExprError, ItemError};
use crate::functions;
use crate::parse::{self, Item};
use crate::scalar::Compiled;

/// Compiles `items` for batches of `schema`; reports every item that is refused.
pub fn compile_aggregates(schema: &Schema, items: &[String]) -> Result<Aggregates, Vec<ItemError>> {
    let mut errors = Vec::new();
    let mut calls = Vec::new();
    let mut outer: Vec<(String, Expr, String)> = Vec::new();
    for (item, text) in items.iter().enumerate() {
        match pull_out(schema, text, &mut calls) {
            Ok((name, _)) if outer.iter().any(|(known, ..)| *known == name) => {
                let message = format!("there are two values `{name}`; rename one with `as`");
                errors.push(ItemError { item, error: ExprError(message) });
            }
            Ok((name, expr)) => outer.push((name, expr, text.clone())),
            Err(error) => errors.push(ItemError { item, error }),
        }
    }
    if items.is_empty() {
        let error = ExprError("at least one value is needed".into());
        errors.push(ItemError { item: 0, error });
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    finish(items, calls, outer)
}

fn finish(
    texts: &[String],
    calls: Vec<AggregateCall>,
    outer: Vec<(String, Expr, String)>,
) -> Result<Aggregates, Vec<ItemError>> {
    let result = |(slot, call): (usize, &AggregateCall)| {
        Field::new(slot_name(slot), call.call.data_type(), true)
    };
    let results = Schema::new(calls.iter().enumerate().map(result).collect::<Fields>());
    let mut errors = Vec::new();
    let mut fields = Vec::new();
    let mut items = Vec::new();
    for (item, (name, expr, text)) in outer.into_iter().enumerate() {
        match Compiled::new(expr, &text, &results).and_then(Compiled::column_type) {
            Ok(compiled) => {
                fields.push(Field::new(name, compiled.data_type().clone(), true));
                items.push(compiled);
            }
            Err(error) => errors.push(ItemError { item, error }),
        }
    }
    let described: Vec<String> = calls.iter().map(|call| call.call.describe()).collect();
    let mut canonical = Vec::with_capacity(texts.len());
    for (item, text) in texts.iter().enumerate() {
        match parse::canonical(text) {
            Ok(text) => canonical.push(text),
            Err(error) => errors.push(ItemError { item, error }),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let canonical = format!("{} over {}", canonical.join("; "), described.join("; "));
    let (fields, results) = (fields.into(), Arc::new(results));
    Ok(Aggregates { fields, canonical, calls, results, items })
}

/// Name of the column that holds a call's results. No user's column is there.
fn slot_name(slot: usize) -> String {
    format!("#{slot}")
}

/// The name of an item and what is left of it when its calls are columns.
fn pull_out(
    schema: &Schema,
    text: &str,
    calls: &mut Vec<AggregateCall>,
) -> Result<(String, Expr), ExprError> {
    let Item::One { expr, name } = parse::item(text)? else {
        return Err(ExprError("`*` is no aggregate; did you mean `count(*) as …`?".into()));
    };
    let mut expr = *expr;
    stray_columns(&expr, schema)?;
    let known = calls.len();
    let mut pull = Pull { schema, calls, found: false };
    if let ControlFlow::Break(error) = VisitMut::visit(&mut expr, &mut pull) {
        calls.truncate(known);
        return Err(error);
    }
    if !pull.found {
        let names = functions::AGGREGATES.join(", ");
        return Err(ExprError(format!("`{text}` has no aggregate (aggregates: {names})")));
    }
    let name =
        name.ok_or_else(|| ExprError(format!("`{text}` needs a name: write `{text} as name`")))?;
    Ok((name, expr))
}

/// Refuses columns outside of calls: a group has many values of them.
fn stray_columns(expr: &Expr, schema: &Schema) -> Result<(), ExprError> {
    match Visit::visit(expr, &mut Outside { calls: 0 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(name) if schema.column_with_name(&name).is_none() => {
            Err(parse::unknown_column(&name, schema))
        }
        ControlFlow::Break(name) => Err(ExprError(format!(
            "column `{name}` stands outside of an aggregate: a group has many values of it"
        ))),
    }
}

/// Looks for columns outside of aggregate calls.
struct Outside {
    /// How many calls are around the expression that is visited.
    calls: usize,
}

impl Visitor for Outside {
    type Break = String;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
        self.calls += usize::from(is_call(expr));
        let column = match expr {
            Expr::Identifier(ident) => Some(ident),
            Expr::CompoundIdentifier(idents) => idents.first(),
            _ => None,
        };
        match column {
            Some(ident) if self.calls == 0 => ControlFlow::Break(ident.value.clone()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
        self.calls -= usize::from(is_call(expr));
        ControlFlow::Continue(())
    }
}

fn is_call(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(call) if functions::is_aggregate(&parse::function_name(call)))
}

/// Replaces aggregate calls by columns of their results.
struct Pull<'a> {
    schema: &'a Schema,
    calls: &'a mut Vec<AggregateCall>,
    found: bool,
}

impl VisitorMut for Pull<'_> {
    type Break = ExprError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<ExprError> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        if !functions::is_aggregate(&parse::function_name(function)) {
            return ControlFlow::Continue(());
        }
        match self.call(function) {
            Ok(slot) => {
                self.found = true;
                *expr = Expr::Identifier(Ident::with_quote('"', slot_name(slot)));
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Pull<'_> {
    /// The slot of a call; the same call twice has one.
    fn call(&mut self, function: &Function) -> Result<usize, ExprError> {
        let name = parse::function_name(function);
        let text = function.to_string();
        if functions::AGGREGATES_LATER.contains(&name.as_str()) {
            return Err(ExprError(format!("aggregate `{name}` is not built yet")));
        }
        if !functions::AGGREGATES.contains(&name.as_str()) {
            return Err(ExprError(functions::unknown_aggregate(&name)));
        }
        let argument = match argument(function, &name)? {
            None => None,
            Some(tree) => {
                if let Some(inner) = nested(&tree) {
                    let message = format!("`{text}`: aggregate `{inner}` stands inside of another");
                    return Err(ExprError(message));
                }
                let compiled = Compiled::new(tree, &text, self.schema)?;
                if *compiled.data_type() == DataType::Null {
                    return Err(ExprError(format!("`{text}`: null has no type")));
                }
                Some(if name == "count" { compiled } else { compiled.column_type()? })
            }
        };
        let data_type = argument.as_ref().map(|argument| argument.data_type().clone());
        let call = Call::new(&name, data_type).map_err(ExprError)?;
        let same = |known: &AggregateCall| known.call == call && known.text == text;
        if let Some(slot) = self.calls.iter().position(same) {
            return Ok(slot);
        }
        self.calls.push(AggregateCall { call, argument, text });
        Ok(self.calls.len() - 1)
    }
}

/// The argument of a call; none for `*`.
fn argument(function: &Function, name: &str) -> Result<Option<Expr>, ExprError> {
    let later = |what: &str| Err(ExprError(format!("`{what}` in aggregates is not built yet")));
    if function.over.is_some() {
        return Err(ExprError(format!("`{name}(…) over …`: a window is given by the step")));
    }
    if function.filter.is_some() {
        return later("filter (where …)");
    }
    let one = || ExprError(format!("`{function}`: `{name}` takes one argument"));
    let FunctionArguments::List(list) = &function.args else {
        return Err(one());
    };
    if list.duplicate_treatment.is_some() {
        return later("distinct");
    }
    let plain = list.clauses.is_empty()
        && function.within_group.is_empty()
        && function.null_treatment.is_none();
    if !plain {
        return Err(ExprError(format!("`{function}`: `{name}` has no order and no clauses")));
    }
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => Ok(Some(expr.clone())),
        [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => Ok(None),
        _ => Err(one()),
    }
}

/// The name of an aggregate within `expr`.
fn nested(expr: &Expr) -> Option<String> {
    let found = visit_expressions(expr, |expr| match expr {
        Expr::Function(function) if functions::is_aggregate(&parse::function_name(function)) => {
            ControlFlow::Break(parse::function_name(function))
        }
        _ => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(name) => Some(name),
        ControlFlow::Continue(()) => None,
    }
}
