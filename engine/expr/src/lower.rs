//! A planned expression to one that runs: types, coercion, and operators that never wrap.
//!
//! After each node the type is one of ours again (or an interval, a duration, an untyped null, as
//! steps on the way), so every rule below is about few types.
//!
//! - `coerce.rs` — casts, and what two types have in common.
//! - `arithmetic.rs` — `+ - * / %`, bits, unary minus. `call.rs` — functions.
//!
//! What must stay true: a node that can fail in a row is marked `fallible`, and `and`, `or`,
//! `case` evaluate such a node only for rows that reach it, whatever else is in the batch.

mod arithmetic;
mod call;
mod coerce;

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{Case, InList, Like};
use datafusion_expr::{Expr, Operator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{
    BinaryExpr, CaseExpr, Column, LikeExpr, Literal, in_list, is_not_null, is_null, not,
};

use crate::error::ExprError;
use crate::kernel::{Kernel, Op};
use crate::parse::unknown_column;
use crate::plan;
use crate::types;

/// An expression that runs, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    pub(crate) data_type: DataType,
    /// Its value, if it is a constant that was written down.
    literal: Option<ScalarValue>,
    /// Whether a row can make it fail.
    fallible: bool,
}

impl Typed {
    fn new(expr: Arc<dyn PhysicalExpr>, data_type: DataType, fallible: bool) -> Self {
        Self { expr, data_type, literal: None, fallible }
    }

    fn literal(value: ScalarValue) -> Self {
        let expr = Arc::new(Literal::new(value.clone()));
        Self { expr, data_type: value.data_type(), literal: Some(value), fallible: false }
    }

    fn boolean(value: bool) -> Self {
        Self::literal(ScalarValue::Boolean(Some(value)))
    }

    fn is_null(&self) -> bool {
        self.data_type == DataType::Null
    }

    /// Replaces a constant by its value. One that fails stays: its row may never be reached.
    fn folded(self) -> Self {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let none = Arc::new(Schema::empty());
        let value = RecordBatch::try_new_with_options(none, Vec::new(), &options)
            .ok()
            .and_then(|batch| self.expr.evaluate(&batch).ok()?.into_array(1).ok())
            .and_then(|array| ScalarValue::try_from_array(&array, 0).ok());
        match value {
            Some(value) if value.data_type() == self.data_type => Self::literal(value),
            _ => self,
        }
    }

    fn type_name(&self) -> String {
        types::print(&self.data_type)
    }
}

fn refused<T>(message: impl Into<String>) -> Result<T, ExprError> {
    Err(ExprError(message.into()))
}

/// Turns planned expressions over `columns` into ones that run.
pub(crate) struct Lowering<'a> {
    pub(crate) columns: &'a Schema,
}

impl Lowering<'_> {
    /// Lowers `expr`; its type is one of ours, or null, an interval, a duration.
    pub(crate) fn lower(&self, expr: &Expr) -> Result<Typed, ExprError> {
        match expr {
            Expr::Alias(alias) => self.lower(&alias.expr),
            Expr::Column(column) => self.column(&column.name),
            Expr::Literal(value, _) => literal(value.clone()),
            Expr::BinaryExpr(binary) => {
                let (left, right) = (self.lower(&binary.left)?, self.lower(&binary.right)?);
                self.binary(left, binary.op, right)
            }
            Expr::Not(inner) => self.not(self.lower(inner)?),
            Expr::IsNull(inner) | Expr::IsUnknown(inner) => self.null_test(inner, true),
            Expr::IsNotNull(inner) | Expr::IsNotUnknown(inner) => self.null_test(inner, false),
            Expr::IsTrue(inner) => self.truth_test(inner, Operator::IsNotDistinctFrom, true),
            Expr::IsFalse(inner) => self.truth_test(inner, Operator::IsNotDistinctFrom, false),
            Expr::IsNotTrue(inner) => self.truth_test(inner, Operator::IsDistinctFrom, true),
            Expr::IsNotFalse(inner) => self.truth_test(inner, Operator::IsDistinctFrom, false),
            Expr::Negative(inner) => arithmetic::negate(self.lower(inner)?),
            Expr::Like(like) => self.like(like),
            Expr::Between(between) => {
                let value = self.lower(&between.expr)?;
                let low = self.binary(value.clone(), Operator::GtEq, self.lower(&between.low)?)?;
                let high = self.binary(value, Operator::LtEq, self.lower(&between.high)?)?;
                let inside = self.binary(low, Operator::And, high)?;
                if between.negated { self.not(inside) } else { Ok(inside) }
            }
            Expr::Case(case) => self.case(case),
            Expr::InList(list) => self.in_list(list),
            Expr::Cast(cast) => {
                coerce::cast(self.lower(&cast.expr)?, cast.field.data_type(), Op::Cast)
            }
            Expr::TryCast(cast) => {
                coerce::cast(self.lower(&cast.expr)?, cast.field.data_type(), Op::TryCast)
            }
            Expr::ScalarFunction(function) => self.call(&function.func, &function.args),
            other => refused(format!("`{other}` is not available in an expression")),
        }
    }

    fn column(&self, name: &str) -> Result<Typed, ExprError> {
        let Some((index, field)) = self.columns.column_with_name(name) else {
            return Err(unknown_column(name, self.columns));
        };
        if let Some(source_type) = types::refused(field) {
            return refused(format!(
                "column `{name}` has type {source_type} in its source, which has no pipeline type"
            ));
        }
        let expr = Arc::new(Column::new(name, index));
        Ok(Typed::new(expr, field.data_type().clone(), false))
    }

    fn binary(&self, left: Typed, op: Operator, right: Typed) -> Result<Typed, ExprError> {
        match op {
            Operator::And | Operator::Or => {
                let left = coerce::to_boolean(left, &format!("`{op}`"))?;
                let right = coerce::to_boolean(right, &format!("`{op}`"))?;
                Ok(self.decide(left, op, right))
            }
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => {
                let (left, right) = coerce::comparable(left, right)?;
                Ok(plain_binary(left, op, right, DataType::Boolean, false))
            }
            Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch => {
                let (left, right) = (coerce::to_text(left, op)?, coerce::to_text(right, op)?);
                Ok(plain_binary(left, op, right, DataType::Boolean, true))
            }
            Operator::StringConcat => {
                let left = coerce::cast(left, &DataType::Utf8, Op::Cast)?;
                let right = coerce::cast(right, &DataType::Utf8, Op::Cast)?;
                Ok(plain_binary(left, op, right, DataType::Utf8, false))
            }
            _ => arithmetic::binary(left, op, right, self.columns),
        }
    }

    fn decide(&self, left: Typed, op: Operator, right: Typed) -> Typed {
        if !right.fallible {
            let fallible = left.fallible;
            return plain_binary(left, op, right, DataType::Boolean, fallible);
        }
        let lazy = if op == Operator::And { Op::And } else { Op::Or };
        let expr = Kernel::expr(lazy, vec![left.expr, right.expr], DataType::Boolean);
        Typed::new(expr, DataType::Boolean, true)
    }

    fn not(&self, inner: Typed) -> Result<Typed, ExprError> {
        let inner = coerce::to_boolean(inner, "`not`")?;
        let expr = not(inner.expr).map_err(|error| plan::refuse(&error))?;
        Ok(Typed::new(expr, DataType::Boolean, inner.fallible))
    }

    fn null_test(&self, inner: &Expr, null: bool) -> Result<Typed, ExprError> {
        let inner = self.lower(inner)?;
        let test = if null { is_null(inner.expr) } else { is_not_null(inner.expr) };
        let expr = test.map_err(|error| plan::refuse(&error))?;
        Ok(Typed::new(expr, DataType::Boolean, inner.fallible))
    }

    fn truth_test(&self, inner: &Expr, op: Operator, value: bool) -> Result<Typed, ExprError> {
        let inner = coerce::to_boolean(self.lower(inner)?, "`is true`")?;
        let fallible = inner.fallible;
        Ok(plain_binary(inner, op, Typed::boolean(value), DataType::Boolean, fallible))
    }

    fn like(&self, like: &Like) -> Result<Typed, ExprError> {
        if like.escape_char.is_some_and(|escape| escape != '\\') {
            return refused("`like` has no other escape character than `\\`");
        }
        let text = coerce::to_text(self.lower(&like.expr)?, "like")?;
        let pattern = coerce::to_text(self.lower(&like.pattern)?, "like")?;
        let fallible = text.fallible || pattern.fallible;
        let expr = LikeExpr::new(like.negated, like.case_insensitive, text.expr, pattern.expr);
        Ok(Typed::new(Arc::new(expr), DataType::Boolean, fallible))
    }

    /// `x in (…)` of constants is a set; else it is a chain of `or`, which stops at a match.
    fn in_list(&self, list: &InList) -> Result<Typed, ExprError> {
        let value = self.lower(&list.expr)?;
        let mut items = Vec::with_capacity(list.list.len());
        for item in &list.list {
            items.push(self.lower(item)?);
        }
        let (same, items) = coerce::same_for_all(value.clone(), items)?;
        if let (Some(same), true) = (same, items.iter().all(|item| item.literal.is_some())) {
            let values = items.into_iter().map(|item| item.expr).collect();
            let expr = in_list(same.expr, values, &list.negated, self.columns)
                .map_err(|error| plan::refuse(&error))?;
            return Ok(Typed::new(expr, DataType::Boolean, same.fallible));
        }
        let mut found = Typed::boolean(false);
        for item in items {
            let equal = self.binary(value.clone(), Operator::Eq, item)?;
            found = self.binary(found, Operator::Or, equal)?;
        }
        if list.negated { self.not(found) } else { Ok(found) }
    }

    fn case(&self, case: &Case) -> Result<Typed, ExprError> {
        let base = case.expr.as_ref().map(|base| self.lower(base)).transpose()?;
        let mut branches = Vec::with_capacity(case.when_then_expr.len());
        for (when, then) in &case.when_then_expr {
            let when = match &base {
                Some(base) => self.binary(base.clone(), Operator::Eq, self.lower(when)?)?,
                None => coerce::to_boolean(self.lower(when)?, "`when`")?,
            };
            branches.push((when, self.lower(then)?));
        }
        let otherwise = case.else_expr.as_ref().map(|expr| self.lower(expr)).transpose()?;
        self.branch(branches, otherwise)
    }

    /// The value of the first branch whose condition is true, else `otherwise`, else null.
    fn branch(
        &self,
        branches: Vec<(Typed, Typed)>,
        otherwise: Option<Typed>,
    ) -> Result<Typed, ExprError> {
        let fallible = branches.iter().any(|(when, then)| when.fallible || then.fallible)
            || otherwise.as_ref().is_some_and(|otherwise| otherwise.fallible);
        let (whens, mut thens): (Vec<Typed>, Vec<Typed>) = branches.into_iter().unzip();
        let has_else = otherwise.is_some();
        thens.extend(otherwise);
        let (data_type, mut thens) = coerce::common(thens)?;
        let otherwise = if has_else { thens.pop().map(|typed| typed.expr) } else { None };
        let pairs = whens.into_iter().map(|when| when.expr);
        let pairs = pairs.zip(thens.into_iter().map(|then| then.expr)).collect();
        let expr =
            CaseExpr::try_new(None, pairs, otherwise).map_err(|error| plan::refuse(&error))?;
        Ok(Typed::new(Arc::new(expr), data_type, fallible))
    }
}

/// DataFusion's own operator, which errors where it would wrap.
fn plain_binary(
    left: Typed,
    op: Operator,
    right: Typed,
    data_type: DataType,
    fallible: bool,
) -> Typed {
    let fallible = fallible || left.fallible || right.fallible;
    let expr = BinaryExpr::new(left.expr, op, right.expr).with_fail_on_overflow(true);
    Typed::new(Arc::new(expr), data_type, fallible)
}

/// A constant as it was written, in one of our types.
fn literal(value: ScalarValue) -> Result<Typed, ExprError> {
    let ours = match value {
        ScalarValue::UInt64(value) => ScalarValue::Decimal128(value.map(i128::from), 20, 0),
        ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => ScalarValue::Utf8(text),
        ScalarValue::Decimal256(Some(value), ..) => {
            return refused(format!("the number {value} has more than 38 digits"));
        }
        ScalarValue::Decimal128(Some(value), precision, scale) if scale < 0 => {
            let zeros = scale.unsigned_abs();
            let digits = precision.saturating_add(zeros);
            match 10i128.checked_pow(zeros.into()).and_then(|ten| ten.checked_mul(value)) {
                Some(value) if digits <= 38 => ScalarValue::Decimal128(Some(value), digits, 0),
                _ => return refused("a number has more than 38 digits"),
            }
        }
        value => value,
    };
    Ok(Typed::literal(ours))
}
