//! Items of an aggregate step to calls, and to expressions over the calls' results.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion_sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion_sql::sqlparser::ast::{
    CaseWhen, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, Visit, VisitMut, Visitor, VisitorMut, visit_expressions,
};

use super::call::{Call, InputMode};
use super::{AggregateCall, Aggregates};
use crate::error::{ExprError, ItemError};
use crate::functions;
use crate::parse::{self, Item};
use crate::scalar::Compiled;
use crate::types;

/// Compiles `items` for batches of `schema`; reports every item that is refused.
///
/// States of the same items differ by `mode`, and so does [`Aggregates::canonical`] where the mode
/// matters.
pub fn compile_aggregates(
    schema: &Schema,
    items: &[String],
    mode: InputMode,
) -> Result<Aggregates, Vec<ItemError>> {
    let mut errors = Vec::new();
    let mut calls = Vec::new();
    let mut outer: Vec<(String, Expr, String)> = Vec::new();
    for (item, text) in items.iter().enumerate() {
        match pull_out(schema, text, mode, &mut calls) {
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
    finish(items, mode, calls, outer)
}

fn finish(
    texts: &[String],
    mode: InputMode,
    mut calls: Vec<AggregateCall>,
    outer: Vec<(String, Expr, String)>,
) -> Result<Aggregates, Vec<ItemError>> {
    let rows = mode.retractable.then(|| rows_slot(mode, &mut calls));
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
    let changes = if mode.retractable { " of changes" } else { "" };
    let canonical = format!("{} over {}{changes}", canonical.join("; "), described.join("; "));
    let (fields, results) = (fields.into(), Arc::new(results));
    Ok(Aggregates { fields, canonical, calls, results, items, rows })
}

/// The slot that counts the group's rows, which says when the group is gone.
fn rows_slot(mode: InputMode, calls: &mut Vec<AggregateCall>) -> usize {
    let call = Call::count_rows(mode);
    let counts_rows = |known: &AggregateCall| known.call == call && known.filter.is_none();
    calls.iter().position(counts_rows).unwrap_or_else(|| {
        calls.push(AggregateCall { call, argument: None, filter: None, text: "count(*)".into() });
        calls.len() - 1
    })
}

/// Name of the column that holds a call's results. No user's column is there.
fn slot_name(slot: usize) -> String {
    format!("#{slot}")
}

/// The name of an item and what is left of it when its calls are columns.
fn pull_out(
    schema: &Schema,
    text: &str,
    mode: InputMode,
    calls: &mut Vec<AggregateCall>,
) -> Result<(String, Expr), ExprError> {
    let Item::One { expr, name } = parse::item(text)? else {
        return Err(ExprError("`*` is no aggregate; did you mean `count(*) as …`?".into()));
    };
    let mut expr = *expr;
    stray_columns(&expr, schema)?;
    let known = calls.len();
    let mut pull = Pull { schema, mode, calls, found: false };
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
    mode: InputMode,
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
        if !functions::AGGREGATES.contains(&name.as_str()) {
            return Err(ExprError(functions::unknown_aggregate(&name)));
        }
        let Parts { argument, distinct, filter } = Parts::of(function, &name)?;
        for tree in argument.iter().chain(&filter) {
            if let Some(inner) = nested(tree) {
                let message = format!("`{text}`: aggregate `{inner}` stands inside of another");
                return Err(ExprError(message));
            }
        }
        let condition = filter.clone().map(|tree| self.condition(tree, &text)).transpose()?;
        let argument = match argument {
            None => None,
            Some(tree) => {
                let any_type = name == "count" && !distinct;
                Some(self.argument(tree, filter, &text, any_type)?)
            }
        };
        let data_type = argument.as_ref().map(|argument| argument.data_type().clone());
        let call = Call::new(&name, data_type, distinct, self.mode).map_err(ExprError)?;
        let same = |known: &AggregateCall| known.call == call && known.text == text;
        if let Some(slot) = self.calls.iter().position(same) {
            return Ok(slot);
        }
        self.calls.push(AggregateCall { call, argument, filter: condition, text });
        Ok(self.calls.len() - 1)
    }

    /// What is computed for each row. Behind a filter the rows that it leaves out are not looked
    /// at: `sum(10 / i) filter (where i <> 0)` does not divide by zero.
    fn argument(
        &self,
        tree: Expr,
        filter: Option<Expr>,
        text: &str,
        any_type: bool,
    ) -> Result<Compiled, ExprError> {
        let compiled = Compiled::new(tree.clone(), text, self.schema)?;
        if *compiled.data_type() == DataType::Null {
            return Err(ExprError(format!("`{text}`: null has no type")));
        }
        let compiled = if any_type { compiled } else { compiled.column_type()? };
        match (filter, &tree) {
            (None, _) | (Some(_), Expr::Identifier(_) | Expr::Value(_)) => Ok(compiled),
            (Some(filter), _) => Compiled::new(case(filter, tree), text, self.schema),
        }
    }

    /// The condition of a filter.
    fn condition(&self, tree: Expr, text: &str) -> Result<Compiled, ExprError> {
        let condition = Compiled::new(tree, text, self.schema)?;
        match condition.data_type() {
            DataType::Boolean => Ok(condition),
            other => Err(ExprError(format!(
                "`{text}`: a filter must be boolean, this one is {}",
                types::print(other)
            ))),
        }
    }
}

/// `case when condition then result end`
fn case(condition: Expr, result: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result }],
        else_result: None,
    }
}

/// What stands in an aggregate call.
struct Parts {
    /// None for `*`.
    argument: Option<Expr>,
    distinct: bool,
    filter: Option<Expr>,
}

impl Parts {
    fn of(function: &Function, name: &str) -> Result<Self, ExprError> {
        if function.over.is_some() {
            return Err(ExprError(format!("`{name}(…) over …`: a window is given by the step")));
        }
        let one = || ExprError(format!("`{function}`: `{name}` takes one argument"));
        let FunctionArguments::List(list) = &function.args else {
            return Err(one());
        };
        let plain = list.clauses.is_empty()
            && function.within_group.is_empty()
            && function.null_treatment.is_none();
        if !plain {
            return Err(ExprError(format!("`{function}`: `{name}` has no order and no clauses")));
        }
        let argument = match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => Some(expr.clone()),
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => None,
            _ => return Err(one()),
        };
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        Ok(Self { argument, distinct, filter: function.filter.as_deref().cloned() })
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
