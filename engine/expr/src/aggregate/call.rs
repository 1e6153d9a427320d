//! One aggregate call: its slot, how a row changes it, what it gives.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, Date32Array,
    Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type,
    TimestampMillisecondType, i256,
};

use super::exact_sum::ExactSum;
use super::state::{End, Slot, State, Value};
use crate::types;

/// What is computed of the argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Count,
    Sum,
    Avg,
    Extreme(End),
}

/// An aggregate call with the type of its argument; `count(*)` has none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) function: Function,
    pub(super) argument: Option<DataType>,
}

impl Call {
    /// The call of that name, or why there is none for this type.
    pub(super) fn new(name: &str, argument: Option<DataType>) -> Result<Self, String> {
        let function = match name {
            "count" => Function::Count,
            "sum" => Function::Sum,
            "avg" => Function::Avg,
            "min" => Function::Extreme(End::Least),
            _ => Function::Extreme(End::Greatest),
        };
        let call = Self { function, argument };
        let Some(argument) = &call.argument else {
            let star = call.function == Function::Count;
            return if star { Ok(call) } else { Err(format!("`{name}(*)`: only count takes `*`")) };
        };
        let fits = match function {
            Function::Count => true,
            Function::Sum | Function::Avg => matches!(
                argument,
                DataType::Int32 | DataType::Int64 | DataType::Float64 | DataType::Decimal128(..)
            ),
            Function::Extreme(_) => !matches!(
                argument,
                DataType::List(_) | DataType::Struct(_) | DataType::Interval(_) | DataType::Null
            ),
        };
        if fits {
            return Ok(call);
        }
        let needs =
            if matches!(function, Function::Extreme(_)) { "an ordered type" } else { "numbers" };
        Err(format!("`{name}` needs {needs}, not {}", types::print(argument)))
    }

    /// The type of the result.
    pub(super) fn data_type(&self) -> DataType {
        let argument = self.argument.clone().unwrap_or(DataType::Int64);
        match (self.function, argument) {
            (Function::Count, _) => DataType::Int64,
            (Function::Extreme(_), argument) => argument,
            (Function::Sum, DataType::Decimal128(_, scale)) => DataType::Decimal128(38, scale),
            (Function::Avg, DataType::Decimal128(precision, scale)) => {
                DataType::Decimal128((precision + 4).min(38), (scale + 4).min(38))
            }
            (Function::Sum, DataType::Int32 | DataType::Int64) => DataType::Int64,
            _ => DataType::Float64,
        }
    }

    /// Words that tell this call from others, for signatures.
    pub(super) fn describe(&self) -> String {
        let name = match self.function {
            Function::Count => "count",
            Function::Sum => "sum",
            Function::Avg => "avg",
            Function::Extreme(End::Least) => "min",
            Function::Extreme(End::Greatest) => "max",
        };
        let argument = self.argument.as_ref().map_or_else(|| "*".to_owned(), types::print);
        format!("{name}({argument})")
    }

    pub(super) fn end(&self) -> Option<End> {
        match self.function {
            Function::Extreme(end) => Some(end),
            _ => None,
        }
    }

    /// The slot of a group without rows.
    pub(super) fn empty(&self) -> Slot {
        match (self.function, &self.argument) {
            (Function::Count, _) => Slot::Count(0),
            (Function::Extreme(_), _) => Slot::Extreme(None),
            (_, Some(DataType::Decimal128(..))) => Slot::DecimalSum { count: 0, sum: i256::ZERO },
            (_, Some(DataType::Float64)) => Slot::FloatSum { count: 0, sum: ExactSum::default() },
            _ => Slot::IntSum { count: 0, sum: 0 },
        }
    }

    /// Adds the rows to slot `slot` of their groups: pairs of a row and the index of its group.
    pub(super) fn update(
        &self,
        argument: Option<&ArrayRef>,
        rows: impl Iterator<Item = (usize, usize)>,
        states: &mut [State],
        slot: usize,
    ) {
        let Some(values) = argument else {
            rows.for_each(|(_, group)| add_one(&mut states[group].slots[slot]));
            return;
        };
        let nulls = values.nulls();
        let rows = rows.filter(|(row, _)| nulls.is_none_or(|nulls| nulls.is_valid(*row)));
        match self.function {
            Function::Count => rows.for_each(|(_, group)| add_one(&mut states[group].slots[slot])),
            Function::Sum | Function::Avg => add_numbers(values, rows, states, slot),
            Function::Extreme(end) => keep_extremes(values, rows, states, slot, end),
        }
    }

    /// The results of slot `slot` of all groups, or the first group that has none and why.
    pub(super) fn finish(
        &self,
        states: &[State],
        slot: usize,
    ) -> Result<ArrayRef, (usize, String)> {
        let slots = states.iter().map(|state| &state.slots[slot]);
        match self.function {
            Function::Count => Ok(Arc::new(slots.map(counted).collect::<Int64Array>())),
            Function::Extreme(_) => Ok(extremes(slots, &self.data_type())),
            Function::Sum | Function::Avg => self.sums(slots.enumerate()),
        }
    }

    fn sums<'a>(
        &self,
        slots: impl Iterator<Item = (usize, &'a Slot)>,
    ) -> Result<ArrayRef, (usize, String)> {
        let mean = self.function == Function::Avg;
        let data_type = self.data_type();
        let overflow = |group: usize| {
            let name = if mean { "avg" } else { "sum" };
            (group, format!("the {name} overflows {}", types::print(&data_type)))
        };
        match &data_type {
            DataType::Int64 => {
                let sums = slots.map(|(group, slot)| match slot {
                    Slot::IntSum { count: 0, .. } => Ok(None),
                    Slot::IntSum { sum, .. } => {
                        i64::try_from(*sum).map(Some).map_err(|_| overflow(group))
                    }
                    _ => unreachable!("a slot has its call's kind"),
                });
                Ok(Arc::new(sums.collect::<Result<Int64Array, _>>()?))
            }
            DataType::Decimal128(precision, scale) => {
                let values = slots.map(|(group, slot)| match slot {
                    Slot::DecimalSum { count: 0, .. } => Ok(None),
                    Slot::DecimalSum { count, sum } => {
                        let value = if mean { self.mean(*sum, *count) } else { sum.to_i128() };
                        let fits =
                            |value: &i128| value.unsigned_abs() < 10u128.pow((*precision).into());
                        value.filter(fits).map(Some).ok_or_else(|| overflow(group))
                    }
                    _ => unreachable!("a slot has its call's kind"),
                });
                let values = values.collect::<Result<Decimal128Array, _>>()?;
                Ok(Arc::new(values.with_data_type(DataType::Decimal128(*precision, *scale))))
            }
            _ => {
                let values = slots.map(|(_, slot)| match slot {
                    Slot::IntSum { count: 0, .. } | Slot::FloatSum { count: 0, .. } => None,
                    Slot::IntSum { count, sum } => Some(*sum as f64 / *count as f64),
                    Slot::FloatSum { count, sum } if mean => Some(sum.mean(*count)),
                    Slot::FloatSum { sum, .. } => Some(sum.value()),
                    _ => unreachable!("a slot has its call's kind"),
                });
                Ok(Arc::new(values.collect::<Float64Array>()))
            }
        }
    }

    /// A decimal mean with its further digits, halves away from zero.
    fn mean(&self, sum: i256, count: u64) -> Option<i128> {
        let scale_of = |data_type: &DataType| match data_type {
            DataType::Decimal128(_, scale) => *scale,
            _ => 0,
        };
        let argument = self.argument.as_ref().map_or(0, scale_of);
        let more = u32::try_from(scale_of(&self.data_type()) - argument).ok()?;
        let count = i256::from_i128(count.into());
        let scaled = sum.checked_mul(i256::from_i128(10i128.pow(more)))?;
        let (quotient, rest) = (scaled.checked_div(count)?, scaled.checked_rem(count)?);
        let twice = rest.wrapping_abs().checked_mul(i256::from_i128(2))?;
        let away = if sum.is_negative() { i256::MINUS_ONE } else { i256::ONE };
        let rounded = if twice >= count { quotient.checked_add(away)? } else { quotient };
        rounded.to_i128()
    }
}

fn add_one(slot: &mut Slot) {
    match slot {
        Slot::Count(count) => *count += 1,
        _ => unreachable!("a slot has its call's kind"),
    }
}

fn counted(slot: &Slot) -> Option<i64> {
    match slot {
        Slot::Count(count) => Some(i64::try_from(*count).unwrap_or(i64::MAX)),
        _ => unreachable!("a slot has its call's kind"),
    }
}

fn add_numbers(
    values: &ArrayRef,
    rows: impl Iterator<Item = (usize, usize)>,
    states: &mut [State],
    slot: usize,
) {
    match values.data_type() {
        DataType::Int32 => add_integers::<Int32Type>(values, rows, states, slot),
        DataType::Int64 => add_integers::<Int64Type>(values, rows, states, slot),
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            for (row, group) in rows {
                if let Slot::FloatSum { count, sum } = &mut states[group].slots[slot] {
                    *count += 1;
                    sum.add(values.value(row));
                }
            }
        }
        _ => {
            let values = values.as_primitive::<Decimal128Type>();
            for (row, group) in rows {
                if let Slot::DecimalSum { count, sum } = &mut states[group].slots[slot] {
                    *count += 1;
                    *sum = sum.wrapping_add(i256::from_i128(values.value(row)));
                }
            }
        }
    }
}

fn add_integers<T: ArrowPrimitiveType<Native: Into<i128>>>(
    values: &ArrayRef,
    rows: impl Iterator<Item = (usize, usize)>,
    states: &mut [State],
    slot: usize,
) {
    let values = values.as_primitive::<T>();
    for (row, group) in rows {
        if let Slot::IntSum { count, sum } = &mut states[group].slots[slot] {
            *count += 1;
            *sum += values.value(row).into();
        }
    }
}

fn keep_extremes(
    values: &ArrayRef,
    rows: impl Iterator<Item = (usize, usize)>,
    states: &mut [State],
    slot: usize,
    end: End,
) {
    let mut keep = |group: usize, value: Value| {
        if let Slot::Extreme(kept) = &mut states[group].slots[slot]
            && kept.as_ref().is_none_or(|kept| end.takes(value.order(kept)))
        {
            *kept = Some(value);
        }
    };
    match values.data_type() {
        DataType::Boolean => {
            let values = values.as_boolean();
            rows.for_each(|(row, group)| keep(group, Value::Boolean(values.value(row))));
        }
        DataType::Int32 => keep_integers::<Int32Type>(values, rows, keep),
        DataType::Int64 => keep_integers::<Int64Type>(values, rows, keep),
        DataType::Date32 => keep_integers::<Date32Type>(values, rows, keep),
        DataType::Timestamp(..) => keep_integers::<TimestampMillisecondType>(values, rows, keep),
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            rows.for_each(|(row, group)| keep(group, Value::float(values.value(row))));
        }
        DataType::Decimal128(..) => {
            let values = values.as_primitive::<Decimal128Type>();
            rows.for_each(|(row, group)| keep(group, Value::Decimal(values.value(row))));
        }
        DataType::Utf8 => {
            let values = values.as_string::<i32>();
            keep_bytes(|row| values.value(row).as_bytes(), rows, states, slot, end);
        }
        _ => {
            let values = values.as_binary::<i32>();
            keep_bytes(|row| values.value(row), rows, states, slot, end);
        }
    }
}

fn keep_integers<T: ArrowPrimitiveType<Native: Into<i64>>>(
    values: &ArrayRef,
    rows: impl Iterator<Item = (usize, usize)>,
    mut keep: impl FnMut(usize, Value),
) {
    let values = values.as_primitive::<T>();
    rows.for_each(|(row, group)| keep(group, Value::Int(values.value(row).into())));
}

/// Copies only the values that are kept.
fn keep_bytes<'a>(
    value: impl Fn(usize) -> &'a [u8],
    rows: impl Iterator<Item = (usize, usize)>,
    states: &mut [State],
    slot: usize,
    end: End,
) {
    for (row, group) in rows {
        let Slot::Extreme(kept) = &mut states[group].slots[slot] else {
            continue;
        };
        let new = value(row);
        let takes = match kept {
            Some(Value::Bytes(kept)) => end.takes(new.cmp(kept)),
            _ => true,
        };
        if takes {
            *kept = Some(Value::Bytes(new.into()));
        }
    }
}

fn extremes<'a>(slots: impl Iterator<Item = &'a Slot>, data_type: &DataType) -> ArrayRef {
    let values = slots.map(|slot| match slot {
        Slot::Extreme(value) => value.as_ref(),
        _ => unreachable!("a slot has its call's kind"),
    });
    let int = |value: Option<&Value>| match value {
        Some(Value::Int(value)) => Some(*value),
        _ => None,
    };
    // Narrow types were widened when their values were kept.
    let narrow = |value| int(value).and_then(|value| i32::try_from(value).ok());
    match data_type {
        DataType::Boolean => {
            let values = values.map(|value| match value {
                Some(Value::Boolean(value)) => Some(*value),
                _ => None,
            });
            Arc::new(values.collect::<BooleanArray>())
        }
        DataType::Int32 => Arc::new(values.map(narrow).collect::<Int32Array>()),
        DataType::Date32 => Arc::new(values.map(narrow).collect::<Date32Array>()),
        DataType::Int64 => Arc::new(values.map(int).collect::<Int64Array>()),
        DataType::Timestamp(..) => {
            let times = values.map(int).collect::<TimestampMillisecondArray>();
            Arc::new(times.with_data_type(data_type.clone()))
        }
        DataType::Float64 => {
            let values = values.map(|value| match value {
                Some(Value::Float(value)) => Some(*value),
                _ => None,
            });
            Arc::new(values.collect::<Float64Array>())
        }
        DataType::Decimal128(..) => {
            let values = values.map(|value| match value {
                Some(Value::Decimal(value)) => Some(*value),
                _ => None,
            });
            let values = values.collect::<Decimal128Array>();
            Arc::new(values.with_data_type(data_type.clone()))
        }
        _ => {
            let values = values.map(|value| match value {
                Some(Value::Bytes(value)) => Some(value.as_ref()),
                _ => None,
            });
            if *data_type == DataType::Binary {
                return Arc::new(values.collect::<BinaryArray>());
            }
            // The bytes came from a string, or were checked when they were decoded.
            let text = values.map(|value| value.map(|value| String::from_utf8_lossy(value)));
            Arc::new(text.collect::<StringArray>())
        }
    }
}
