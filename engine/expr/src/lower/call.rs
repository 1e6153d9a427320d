//! Function calls.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::ScalarValue;
use datafusion_expr::type_coercion::functions::fields_with_udf;
use datafusion_expr::{Expr, Operator, ScalarUDF};
use datafusion_physical_expr::ScalarFunctionExpr;
use datafusion_physical_expr::expressions::is_not_null;

use super::{Lowering, Typed, coerce, refused};
use crate::error::ExprError;
use crate::kernel::Op;
use crate::near;
use crate::plan;
use crate::types;

impl Lowering<'_> {
    pub(super) fn call(
        &self,
        function: &Arc<ScalarUDF>,
        args: &[Expr],
    ) -> Result<Typed, ExprError> {
        let args = args.iter().map(|arg| self.lower(arg)).collect::<Result<Vec<_>, _>>()?;
        match (function.name(), args.as_slice()) {
            ("coalesce", [_, ..]) | ("nvl", [_, _]) => self.first_not_null(args),
            ("nvl2", [test, value, otherwise]) => {
                let branch = (self.not_null(test)?, value.clone());
                self.branch(vec![branch], Some(otherwise.clone()))
            }
            ("nullif", [value, other]) => {
                let equal = self.binary(value.clone(), Operator::Eq, other.clone())?;
                let null = Typed::literal(ScalarValue::Null);
                self.branch(vec![(equal, null)], Some(value.clone()))
            }
            ("get_field", [_, ..]) => self.vectorised(function, args, get_field_type),
            _ => self.vectorised(function, args, |_| Ok(())),
        }
    }

    fn not_null(&self, value: &Typed) -> Result<Typed, ExprError> {
        let expr = is_not_null(Arc::clone(&value.expr)).map_err(|error| plan::refuse(&error))?;
        Ok(Typed::new(expr, DataType::Boolean, value.fallible))
    }

    /// Later arguments are evaluated only for rows where the earlier ones are null.
    fn first_not_null(&self, mut args: Vec<Typed>) -> Result<Typed, ExprError> {
        let last = args.pop();
        let mut branches = Vec::with_capacity(args.len());
        for arg in args {
            branches.push((self.not_null(&arg)?, arg));
        }
        match (last, branches.is_empty()) {
            (Some(only), true) => Ok(only),
            (last, _) => self.branch(branches, last),
        }
    }

    fn vectorised(
        &self,
        function: &Arc<ScalarUDF>,
        args: Vec<Typed>,
        check: impl FnOnce(&[Typed]) -> Result<(), ExprError>,
    ) -> Result<Typed, ExprError> {
        check(&args)?;
        let name = function.name();
        let field =
            |arg: &Typed| -> FieldRef { Arc::new(Field::new("", arg.data_type.clone(), true)) };
        let fields: Vec<FieldRef> = args.iter().map(field).collect();
        let given: Vec<String> = args.iter().map(Typed::type_name).collect();
        let Ok(wanted) = fields_with_udf(&fields, function.as_ref()) else {
            return refused(format!("there is no `{name}({})`", given.join(", ")));
        };
        let mut exprs = Vec::with_capacity(args.len());
        for (arg, wanted) in args.into_iter().zip(&wanted) {
            exprs.push(coerce::argument(arg, wanted.data_type(), name)?.expr);
        }
        let call =
            ScalarFunctionExpr::try_new(Arc::clone(function), exprs, self.columns, plan::options())
                .map_err(|error| plan::refuse(&error))?;
        let data_type = call.return_type().clone();
        ours(Typed::new(Arc::new(call), data_type, true), name)
    }
}

/// A result in one of our types.
fn ours(result: Typed, function: &str) -> Result<Typed, ExprError> {
    if matches!(result.data_type, DataType::Interval(_) | DataType::Duration(_)) {
        return Ok(result);
    }
    match types::normal(&result.data_type) {
        Some(data_type) => Ok(coerce::convert(result, &data_type, Op::Cast)),
        None => refused(format!(
            "`{function}` gives {}, which has no pipeline type",
            types::print(&result.data_type)
        )),
    }
}

/// `a.b`: the struct must have the field.
fn get_field_type(args: &[Typed]) -> Result<(), ExprError> {
    let mut data_type = args[0].data_type.clone();
    for arg in &args[1..] {
        let Some(ScalarValue::Utf8(Some(name))) = &arg.literal else {
            return refused("a field is named by a constant");
        };
        let DataType::Struct(fields) = &data_type else {
            return refused(format!(
                "{} has no fields, so no `{name}` either",
                types::print(&data_type)
            ));
        };
        let Some((_, field)) = fields.find(name) else {
            let near = near::nearest(name, fields.iter().map(|field| field.name().as_str()));
            let hint =
                near.first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return refused(format!("there is no field `{name}`{hint}"));
        };
        data_type = field.data_type().clone();
    }
    Ok(())
}
