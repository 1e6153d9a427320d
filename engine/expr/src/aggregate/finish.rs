//! Results from slots.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array};
use arrow::datatypes::{DataType, i256};

use super::call::{Call, Function};
use super::exact_sum::{ExactSum, NAN, NEGATIVE_INFINITY, POSITIVE_INFINITY};
use super::spread::Impossible;
use super::state::{Balance, End, Slot, State};
use super::value::{self, Item, Value};
use crate::types;

/// What is said of a value that was taken away and never there.
pub(super) const NOT_THERE: &str = "a row was retracted that is not there";

/// The numbers that a sum or mean is made of.
enum Total<'a> {
    Int { count: i64, sum: i128 },
    Decimal { count: i64, sum: i256 },
    Float { count: i64, sum: Cow<'a, ExactSum> },
}

impl<'a> Total<'a> {
    fn of(slot: &'a Slot, argument: Option<&DataType>) -> Self {
        match slot {
            Slot::IntSum { count, sum } => Self::Int { count: *count, sum: *sum },
            Slot::DecimalSum { count, sum } => Self::Decimal { count: *count, sum: *sum },
            Slot::FloatSum { count, sum } => Self::Float { count: *count, sum: Cow::Borrowed(sum) },
            Slot::FloatBalance(balance) => Self::of_balance(balance),
            Slot::Values(bag) => Self::of_values(bag.keys(), bag.entries().len(), argument),
            _ => unreachable!("a slot has its call's kind"),
        }
    }

    fn of_balance(balance: &Balance) -> Self {
        let mut special = 0;
        for (count, flag) in [
            (balance.nans, NAN),
            (balance.positive, POSITIVE_INFINITY),
            (balance.negative, NEGATIVE_INFINITY),
        ] {
            special |= if count == 0 { 0 } else { flag };
        }
        Self::Float { count: balance.count, sum: Cow::Owned(balance.sum.with_special(special)) }
    }

    /// Of distinct values.
    fn of_values<'b>(
        values: impl Iterator<Item = &'b Value>,
        count: usize,
        argument: Option<&DataType>,
    ) -> Self {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        match argument {
            Some(DataType::Float64) => {
                let mut sum = ExactSum::default();
                for value in values {
                    if let Value::Float(value) = value {
                        sum.add(*value);
                    }
                }
                Self::Float { count, sum: Cow::Owned(sum) }
            }
            Some(DataType::Decimal128(..)) => {
                let decimal = |value: &Value| match value {
                    Value::Decimal(value) => i256::from_i128(*value),
                    _ => i256::ZERO,
                };
                let sum = values.map(decimal).fold(i256::ZERO, i256::wrapping_add);
                Self::Decimal { count, sum }
            }
            _ => {
                let int = |value: &Value| match value {
                    Value::Int(value) => i128::from(*value),
                    _ => 0,
                };
                Self::Int { count, sum: values.map(int).sum() }
            }
        }
    }
}

impl Call {
    /// The results of slot `slot` of all groups, or the first group that has none and why.
    pub(super) fn finish(
        &self,
        states: &[State],
        slot: usize,
    ) -> Result<ArrayRef, (usize, String)> {
        let slots = states.iter().map(|state| &state.slots[slot]);
        match self.function {
            Function::Count => Ok(Arc::new(slots.map(counted).collect::<Int64Array>())),
            Function::Extreme(end) => {
                let values: Vec<Option<&Value>> = slots.map(|slot| extreme(slot, end)).collect();
                Ok(value::column(&self.data_type(), &values))
            }
            Function::Edge(end) => {
                let values: Vec<Option<&Value>> = slots.map(|slot| edge(slot, end)).collect();
                Ok(value::column(&self.data_type(), &values))
            }
            Function::ArrayAgg => {
                let lists: Vec<Option<Value>> = slots.map(|slot| self.list(slot)).collect();
                let lists: Vec<Option<&Value>> = lists.iter().map(Option::as_ref).collect();
                Ok(value::column(&self.data_type(), &lists))
            }
            Function::Bool { all } => {
                Ok(Arc::new(slots.map(|slot| decided(slot, all)).collect::<BooleanArray>()))
            }
            Function::Spread(measure) => {
                let measures = slots.enumerate().map(|(group, slot)| match slot {
                    Slot::Spread(spread) => spread
                        .measure(measure, self.unit())
                        .map_err(|Impossible| (group, NOT_THERE.to_owned())),
                    _ => unreachable!("a slot has its call's kind"),
                });
                Ok(Arc::new(measures.collect::<Result<Float64Array, _>>()?))
            }
            Function::Sum | Function::Avg => {
                let argument = self.argument.as_ref();
                self.sums(slots.map(|slot| Total::of(slot, argument)).enumerate())
            }
        }
    }

    fn sums<'a>(
        &self,
        totals: impl Iterator<Item = (usize, Total<'a>)>,
    ) -> Result<ArrayRef, (usize, String)> {
        let mean = self.function == Function::Avg;
        let data_type = self.data_type();
        let overflow = |group: usize| {
            let name = if mean { "avg" } else { "sum" };
            (group, format!("the {name} overflows {}", types::print(&data_type)))
        };
        match &data_type {
            DataType::Int64 => {
                let sums = totals.map(|(group, total)| match total {
                    Total::Int { count: 0, .. } => Ok(None),
                    Total::Int { sum, .. } => {
                        i64::try_from(sum).map(Some).map_err(|_| overflow(group))
                    }
                    _ => unreachable!("a slot has its call's kind"),
                });
                Ok(Arc::new(sums.collect::<Result<Int64Array, _>>()?))
            }
            DataType::Decimal128(precision, scale) => {
                let values = totals.map(|(group, total)| match total {
                    Total::Decimal { count: 0, .. } => Ok(None),
                    Total::Decimal { count, sum } => {
                        let value = if mean { self.mean(sum, count) } else { sum.to_i128() };
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
                let values = totals.map(|(_, total)| match total {
                    Total::Int { count: 0, .. } | Total::Float { count: 0, .. } => None,
                    Total::Int { count, sum } => Some(sum as f64 / count as f64),
                    Total::Float { count, sum } if mean => Some(sum.mean(count.unsigned_abs())),
                    Total::Float { sum, .. } => Some(sum.value()),
                    Total::Decimal { .. } => unreachable!("a slot has its call's kind"),
                });
                Ok(Arc::new(values.collect::<Float64Array>()))
            }
        }
    }

    /// A decimal mean with its further digits, halves away from zero.
    fn mean(&self, sum: i256, count: i64) -> Option<i128> {
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

    /// The rows of a group, in order; none: there is no row.
    fn list(&self, slot: &Slot) -> Option<Value> {
        let mut items: Vec<Item> = Vec::new();
        match slot {
            Slot::Moments(bag) => {
                for (moment, count) in bag.entries() {
                    let times = usize::try_from(*count).unwrap_or_default();
                    items.extend(std::iter::repeat_n(&moment.item, times).cloned());
                }
            }
            Slot::Arrivals(arrivals) => items.extend_from_slice(&arrivals.items),
            _ => unreachable!("a slot has its call's kind"),
        }
        if self.distinct && self.mode.retractable {
            let mut seen = BTreeSet::new();
            let first: Vec<bool> = items.iter().map(|item| seen.insert(item)).collect();
            let mut first = first.into_iter();
            items.retain(|_| first.next().unwrap_or(true));
        }
        (!items.is_empty()).then(|| Value::Nested(items.into()))
    }
}

fn counted(slot: &Slot) -> Option<i64> {
    match slot {
        Slot::Count(count) => Some(*count),
        Slot::Values(bag) => Some(i64::try_from(bag.entries().len()).unwrap_or(i64::MAX)),
        _ => unreachable!("a slot has its call's kind"),
    }
}

fn extreme(slot: &Slot, end: End) -> Option<&Value> {
    match (slot, end) {
        (Slot::Extreme(value), _) => value.as_ref(),
        (Slot::Values(bag), End::Least) => bag.keys().next(),
        (Slot::Values(bag), End::Greatest) => bag.keys().next_back(),
        _ => unreachable!("a slot has its call's kind"),
    }
}

fn edge(slot: &Slot, end: End) -> Option<&Value> {
    let item = match (slot, end) {
        (Slot::Moment(kept), _) => kept.as_ref().map(|moment| &moment.item),
        (Slot::Moments(bag), End::Least) => bag.keys().next().map(|moment| &moment.item),
        (Slot::Moments(bag), End::Greatest) => {
            // Nulls stand last among the rows of one time, where a value goes before them.
            let last = bag.keys().next_back()?;
            let mut of_last = bag.keys().rev().take_while(|moment| moment.time == last.time);
            of_last.find(|moment| moment.item.0.is_some()).or(Some(last)).map(|moment| &moment.item)
        }
        (Slot::Arrivals(arrivals), End::Least) => arrivals.items.first(),
        (Slot::Arrivals(arrivals), End::Greatest) => arrivals.items.last(),
        _ => unreachable!("a slot has its call's kind"),
    };
    item.and_then(|item| item.0.as_ref())
}

fn decided(slot: &Slot, all: bool) -> Option<bool> {
    match slot {
        Slot::Booleans { trues: 0, falses: 0 } => None,
        Slot::Booleans { trues, falses } => Some(if all { *falses == 0 } else { *trues != 0 }),
        _ => unreachable!("a slot has its call's kind"),
    }
}
