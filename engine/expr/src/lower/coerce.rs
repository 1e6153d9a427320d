//! Casts, and what two types have in common.
//!
//! Text is never taken for a number or a time by itself: only a constant that was written down
//! (`scheduled >= '2013-01-01'`) takes the other side's type.

use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion_common::ScalarValue;

use super::{Typed, refused};
use crate::convert::{castable, convertible, is_integer, is_number};
use crate::error::ExprError;
use crate::kernel::{Kernel, Op};
use crate::types;

/// `cast` or `try_cast` (`op`) as a user writes it.
pub(super) fn cast(from: Typed, to: &DataType, op: Op) -> Result<Typed, ExprError> {
    if !castable(&from.data_type, to) {
        return refused(format!("cannot cast {} to {}", from.type_name(), types::print(to)));
    }
    Ok(convert(from, to, op))
}

/// The conversion of types that are known to be convertible.
pub(super) fn convert(from: Typed, to: &DataType, op: Op) -> Typed {
    if from.data_type == *to {
        return from;
    }
    if from.is_null()
        && let Ok(null) = ScalarValue::try_from(to)
    {
        return Typed::literal(null);
    }
    let constant = from.literal.is_some();
    let fallible = from.fallible || (op == Op::Cast && !widens(&from.data_type, to));
    let expr = Kernel::expr(op, vec![from.expr], to.clone());
    let result = Typed::new(expr, to.clone(), fallible);
    if constant { result.folded() } else { result }
}

/// Whether every value of `from` has one in `to`.
fn widens(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Int32, DataType::Int64) => true,
        (_, DataType::Float64) => is_number(from),
        (_, DataType::Utf8) => *from != DataType::Binary,
        (DataType::Int32, DataType::Decimal128(precision, scale)) => {
            precision - scale.cast_unsigned() >= 10
        }
        (DataType::Int64, DataType::Decimal128(precision, scale)) => {
            precision - scale.cast_unsigned() >= 19
        }
        (DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)) => {
            s2 >= s1 && p2 - s2.cast_unsigned() >= p1 - s1.cast_unsigned()
        }
        (DataType::Decimal128(..), DataType::Decimal256(..)) => true,
        (DataType::Date32, DataType::Timestamp(..)) => *to == types::timestamp(),
        _ => false,
    }
}

/// A condition: a boolean, or null.
pub(super) fn to_boolean(typed: Typed, place: &str) -> Result<Typed, ExprError> {
    match typed.data_type {
        DataType::Boolean | DataType::Null => Ok(convert(typed, &DataType::Boolean, Op::Cast)),
        _ => refused(format!("{place} needs a boolean, not {}", typed.type_name())),
    }
}

/// A string, or null.
pub(super) fn to_text(typed: Typed, op: impl std::fmt::Display) -> Result<Typed, ExprError> {
    match typed.data_type {
        DataType::Utf8 | DataType::Null => Ok(convert(typed, &DataType::Utf8, Op::Cast)),
        _ => refused(format!("`{op}` needs strings, not {}", typed.type_name())),
    }
}

/// Both sides of a comparison in one type, floats in their canonical form.
pub(super) fn comparable(left: Typed, right: Typed) -> Result<(Typed, Typed), ExprError> {
    let Some(data_type) = compared_as(&left, &right) else {
        return refused(format!(
            "cannot compare {} with {}; cast one of them",
            left.type_name(),
            right.type_name()
        ));
    };
    if matches!(data_type, DataType::List(_) | DataType::Struct(_) | DataType::Interval(_)) {
        return refused(format!("values of type {} cannot be compared", types::print(&data_type)));
    }
    Ok((as_compared(left, &data_type)?, as_compared(right, &data_type)?))
}

/// One type for a value and all items of an `in` list; none: they need more than one.
pub(super) fn same_for_all(
    value: Typed,
    items: Vec<Typed>,
) -> Result<(Option<Typed>, Vec<Typed>), ExprError> {
    let mut data_type: Option<DataType> = None;
    let mut same = true;
    for item in &items {
        let (left, _) = comparable(value.clone(), item.clone())?;
        same &= data_type.as_ref().is_none_or(|known| *known == left.data_type);
        data_type = Some(left.data_type);
    }
    match data_type {
        Some(data_type) if same => {
            let as_one = |item| as_compared(item, &data_type);
            let items = items.into_iter().map(as_one).collect::<Result<_, _>>()?;
            Ok((Some(as_compared(value, &data_type)?), items))
        }
        _ => Ok((None, items)),
    }
}

fn as_compared(side: Typed, data_type: &DataType) -> Result<Typed, ExprError> {
    let side = match interval_ms(&side) {
        Some(ms) if matches!(data_type, DataType::Duration(_)) => {
            Typed::literal(ScalarValue::DurationMillisecond(Some(ms)))
        }
        _ => constant_as(side, data_type)?,
    };
    let side = convert(side, data_type, Op::Cast);
    if *data_type != DataType::Float64 {
        return Ok(side);
    }
    let (constant, fallible) = (side.literal.is_some(), side.fallible);
    let expr = Kernel::expr(Op::CanonicalFloat, vec![side.expr], DataType::Float64);
    let canonical = Typed::new(expr, DataType::Float64, fallible);
    Ok(if constant { canonical.folded() } else { canonical })
}

/// A constant text becomes a constant of the other side's type, now or never.
fn constant_as(side: Typed, data_type: &DataType) -> Result<Typed, ExprError> {
    let is_text = side.data_type == DataType::Utf8 && *data_type != DataType::Utf8;
    let Some(ScalarValue::Utf8(Some(text))) = side.literal.clone().filter(|_| is_text) else {
        return Ok(side);
    };
    let value = convert(side, data_type, Op::Cast);
    if value.literal.is_none() {
        return refused(format!("'{text}' is no {}", types::print(data_type)));
    }
    Ok(value)
}

fn compared_as(left: &Typed, right: &Typed) -> Option<DataType> {
    let (l, r) = (&left.data_type, &right.data_type);
    if l == r {
        return Some(if left.is_null() { DataType::Boolean } else { l.clone() });
    }
    let written = |side: &Typed| side.literal.is_some() && side.data_type == DataType::Utf8;
    let duration = DataType::Duration(TimeUnit::Millisecond);
    match (l, r) {
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        _ if is_number(l) && is_number(r) => Some(common_number(left, right, true)),
        _ if written(left) && castable(l, r) => Some(r.clone()),
        _ if written(right) && castable(r, l) => Some(l.clone()),
        (DataType::Date32, DataType::Timestamp(..)) => Some(r.clone()),
        (DataType::Timestamp(..), DataType::Date32) => Some(l.clone()),
        (DataType::Duration(_), DataType::Interval(_)) if interval_ms(right).is_some() => {
            Some(duration)
        }
        (DataType::Interval(_), DataType::Duration(_)) if interval_ms(left).is_some() => {
            Some(duration)
        }
        _ => None,
    }
}

/// The milliseconds of a constant interval without months.
fn interval_ms(side: &Typed) -> Option<i64> {
    let Some(ScalarValue::IntervalMonthDayNano(Some(interval))) = side.literal else {
        return None;
    };
    let IntervalMonthDayNano { months, days, nanoseconds } = interval;
    let day_ms = crate::timestamp::DAY_MS;
    (months == 0 && nanoseconds % 1_000_000 == 0)
        .then(|| i64::from(days) * day_ms + nanoseconds / 1_000_000)
}

/// The type of two numbers in one place. Comparisons may go beyond 38 digits.
pub(super) fn common_number(left: &Typed, right: &Typed, compared: bool) -> DataType {
    let (l, r) = (&left.data_type, &right.data_type);
    if *l == DataType::Float64 || *r == DataType::Float64 {
        return DataType::Float64;
    }
    if is_integer(l) && is_integer(r) {
        return if l == r { l.clone() } else { DataType::Int64 };
    }
    let ((p1, s1), (p2, s2)) = (digits(left), digits(right));
    let scale = s1.max(s2);
    let precision = (p1 - s1).max(p2 - s2) + scale;
    match (precision <= 38, compared) {
        (true, _) => DataType::Decimal128(precision, scale.cast_signed()),
        (false, true) => DataType::Decimal256(precision, scale.cast_signed()),
        (false, false) => DataType::Decimal128(38, scale.cast_signed()),
    }
}

/// Precision and scale of a number as a decimal; of a constant integer, those it needs.
fn digits(side: &Typed) -> (u8, u8) {
    match (&side.data_type, &side.literal) {
        (DataType::Decimal128(precision, scale), _) => (*precision, scale.cast_unsigned()),
        (_, Some(ScalarValue::Int64(Some(value)))) => {
            let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
            (u8::try_from(digits).unwrap_or(19), 0)
        }
        (DataType::Int32, _) => (10, 0),
        _ => (19, 0),
    }
}

/// A number as a decimal of as many digits as it needs.
pub(super) fn to_decimal(side: Typed) -> Typed {
    let (precision, scale) = digits(&side);
    convert(side, &DataType::Decimal128(precision, scale.cast_signed()), Op::Cast)
}

/// The values of several branches in one type.
pub(super) fn common(branches: Vec<Typed>) -> Result<(DataType, Vec<Typed>), ExprError> {
    let mut known: Option<Typed> = None;
    for branch in branches.iter().filter(|branch| !branch.is_null()) {
        let Some(so_far) = &known else {
            known = Some(branch.clone());
            continue;
        };
        let Some(data_type) = common_type(so_far, branch) else {
            return refused(format!(
                "the values have no common type: {} and {}; cast one of them",
                so_far.type_name(),
                branch.type_name()
            ));
        };
        if data_type != so_far.data_type {
            let mut wider = so_far.clone();
            (wider.data_type, wider.literal) = (data_type, None);
            known = Some(wider);
        }
    }
    let Some(known) = known else {
        return Ok((DataType::Null, branches));
    };
    let data_type = known.data_type;
    let as_one = |branch| Ok(convert(constant_as(branch, &data_type)?, &data_type, Op::Cast));
    let branches = branches.into_iter().map(as_one).collect::<Result<_, ExprError>>()?;
    Ok((data_type, branches))
}

fn common_type(left: &Typed, right: &Typed) -> Option<DataType> {
    let (l, r) = (&left.data_type, &right.data_type);
    match (l, r) {
        _ if l == r => Some(l.clone()),
        _ if is_number(l) && is_number(r) => Some(common_number(left, right, false)),
        (DataType::Date32, DataType::Timestamp(..)) => Some(r.clone()),
        (DataType::Timestamp(..), DataType::Date32) => Some(l.clone()),
        (DataType::Utf8, DataType::Date32 | DataType::Timestamp(..)) => {
            left.literal.is_some().then(|| r.clone())
        }
        (DataType::Date32 | DataType::Timestamp(..), DataType::Utf8) => {
            right.literal.is_some().then(|| l.clone())
        }
        _ => None,
    }
}

/// An argument in the type that a function wants, if that loses nothing without being asked to.
pub(super) fn argument(side: Typed, to: &DataType, function: &str) -> Result<Typed, ExprError> {
    use DataType::{
        Binary, BinaryView, Date32, Float64, LargeBinary, LargeUtf8, Null, Utf8, Utf8View,
    };
    let from = side.data_type.clone();
    // Functions take a timestamp of any unit; all of ours have one.
    let ours = types::timestamp();
    let to = if matches!(to, DataType::Timestamp(..)) { &ours } else { to };
    let text = matches!(to, Utf8 | LargeUtf8 | Utf8View);
    let natural = match &from {
        Null => true,
        Utf8 => text || side.literal.is_some(),
        from if is_integer(from) => to.is_numeric() || text,
        DataType::Decimal128(..) => to.is_floating() || to.is_decimal() || text,
        Float64 => to.is_floating() || text,
        Date32 => to.is_temporal() || text,
        DataType::Timestamp(..) => matches!(to, DataType::Timestamp(..)) || text,
        Binary => matches!(to, LargeBinary | BinaryView),
        DataType::Interval(_) => matches!(to, DataType::Interval(IntervalUnit::MonthDayNano)),
        DataType::Boolean => text,
        _ => false,
    };
    if from == *to || (natural && convertible(&from, to)) {
        return Ok(convert(constant_as(side, to)?, to, Op::Cast));
    }
    let wanted = types::normal(to).unwrap_or_else(|| to.clone());
    refused(format!(
        "`{function}` needs {}, not {}; cast it",
        types::print(&wanted),
        types::print(&from)
    ))
}
