//! `+ - * / %`, bits and unary minus over numbers and time.

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_expr::binary::BinaryTypeCoercer;

use super::{Typed, coerce, plain_binary, refused};
use crate::convert::{is_integer, is_number};
use crate::error::ExprError;
use crate::kernel::{Kernel, Op};
use crate::plan;
use crate::types;

/// `-x`.
pub(super) fn negate(inner: Typed) -> Result<Typed, ExprError> {
    let signed = is_number(&inner.data_type) || matches!(inner.data_type, DataType::Interval(_));
    if !signed {
        return refused(format!("`-` needs a number, not {}", inner.type_name()));
    }
    let data_type = inner.data_type.clone();
    let fallible = inner.fallible || data_type != DataType::Float64;
    let constant = inner.literal.is_some();
    let expr = Kernel::expr(Op::Negate, vec![inner.expr], data_type.clone());
    let result = Typed::new(expr, data_type, fallible);
    Ok(if constant { result.folded() } else { result })
}

/// `left op right`, neither a comparison nor logic.
pub(super) fn binary(
    left: Typed,
    op: Operator,
    right: Typed,
    _columns: &Schema,
) -> Result<Typed, ExprError> {
    let (left, right) = typed_nulls(left, right);
    match op {
        Operator::Plus
        | Operator::Minus
        | Operator::Multiply
        | Operator::Divide
        | Operator::Modulo => {
            if is_number(&left.data_type) && is_number(&right.data_type) {
                numbers(left, op, right)
            } else {
                time(left, op, right)
            }
        }
        Operator::BitwiseAnd
        | Operator::BitwiseOr
        | Operator::BitwiseXor
        | Operator::BitwiseShiftLeft
        | Operator::BitwiseShiftRight => bits(left, op, right),
        _ => refused(format!("there is no operator `{op}`")),
    }
}

/// An untyped null takes the type of the other side.
fn typed_nulls(left: Typed, right: Typed) -> (Typed, Typed) {
    match (left.is_null(), right.is_null()) {
        (true, true) => {
            let null = || Typed::literal(ScalarValue::Int64(None));
            (null(), null())
        }
        (true, false) if is_number(&right.data_type) => {
            let data_type = right.data_type.clone();
            (coerce::convert(left, &data_type, Op::Cast), right)
        }
        (false, true) if is_number(&left.data_type) => {
            let data_type = left.data_type.clone();
            let right = coerce::convert(right, &data_type, Op::Cast);
            (left, right)
        }
        _ => (left, right),
    }
}

fn no_operator<T>(left: &Typed, op: Operator, right: &Typed) -> Result<T, ExprError> {
    refused(format!(
        "there is no `{} {op} {}`; cast one of them",
        left.type_name(),
        right.type_name()
    ))
}

fn numbers(left: Typed, op: Operator, right: Typed) -> Result<Typed, ExprError> {
    let common = coerce::common_number(&left, &right, false);
    if matches!(common, DataType::Decimal128(..)) {
        return decimals(coerce::to_decimal(left), op, coerce::to_decimal(right));
    }
    let left = coerce::convert(left, &common, Op::Cast);
    let right = coerce::convert(right, &common, Op::Cast);
    let floats = match op {
        Operator::Divide => Op::DivideFloats,
        Operator::Modulo => Op::ModuloFloats,
        _ => {
            let fallible = common != DataType::Float64;
            return Ok(plain_binary(left, op, right, common, fallible));
        }
    };
    if common == DataType::Float64 {
        let expr = Kernel::expr(floats, vec![left.expr, right.expr], common.clone());
        return Ok(Typed::new(expr, common, true));
    }
    Ok(plain_binary(left, op, right, common, true))
}

/// Decimals keep their scales; the result has as many digits as it may need, at most 38, and where
/// it may need more each value is checked.
fn decimals(left: Typed, op: Operator, right: Typed) -> Result<Typed, ExprError> {
    let data_type = BinaryTypeCoercer::new(&left.data_type, &op, &right.data_type)
        .get_result_type()
        .map_err(|error| plan::refuse(&error))?;
    let result = plain_binary(left, op, right, data_type.clone(), true);
    if !matches!(data_type, DataType::Decimal128(38, _)) {
        return Ok(result);
    }
    let expr = Kernel::expr(Op::FitDecimal, vec![result.expr], data_type.clone());
    Ok(Typed::new(expr, data_type, true))
}

/// Times and intervals. A date with an interval is a timestamp, as an interval may have hours.
fn time(left: Typed, op: Operator, right: Typed) -> Result<Typed, ExprError> {
    use DataType::{Date32, Duration, Interval, Timestamp};
    let timestamp = |side| coerce::convert(side, &types::timestamp(), Op::Cast);
    let data_type = match (&left.data_type, op, &right.data_type) {
        (Date32, Operator::Minus, Date32) => DataType::Int64,
        (Date32 | Timestamp(..), Operator::Minus, Date32 | Timestamp(..)) => {
            Duration(TimeUnit::Millisecond)
        }
        (Date32 | Timestamp(..), Operator::Plus | Operator::Minus, Interval(_) | Duration(_)) => {
            types::timestamp()
        }
        (Interval(_) | Duration(_), Operator::Plus, Date32 | Timestamp(..)) => types::timestamp(),
        (Date32, Operator::Plus | Operator::Minus, days) if is_integer(days) => {
            return refused(format!("add days to a date with `{op} interval '1 day'`"));
        }
        _ => return no_operator(&left, op, &right),
    };
    if data_type == DataType::Int64 {
        return Ok(plain_binary(left, op, right, data_type, true));
    }
    let moment = |side: Typed| if side.data_type == Date32 { timestamp(side) } else { side };
    Ok(plain_binary(moment(left), op, moment(right), data_type, true))
}

fn bits(left: Typed, op: Operator, right: Typed) -> Result<Typed, ExprError> {
    if !is_integer(&left.data_type) || !is_integer(&right.data_type) {
        return no_operator(&left, op, &right);
    }
    let common = coerce::common_number(&left, &right, false);
    let left = coerce::convert(left, &common, Op::Cast);
    let mut right = coerce::convert(right, &common, Op::Cast);
    let shift = matches!(op, Operator::BitwiseShiftLeft | Operator::BitwiseShiftRight);
    if shift {
        let expr = Kernel::expr(Op::ShiftBits, vec![right.expr], common.clone());
        right = Typed::new(expr, common.clone(), true);
    }
    Ok(plain_binary(left, op, right, common, shift))
}
