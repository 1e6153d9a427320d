//! What one group has seen: one slot per aggregate call.
//!
//! A slot keeps enough that it depends on the set of values alone: sums are exact, whatever their
//! size, and are fitted to their type only when they are read.

use arrow::datatypes::i256;

use super::exact_sum::ExactSum;

/// What one group has seen so far.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub(super) slots: Box<[Slot]>,
}

/// What one aggregate call has seen so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Slot {
    /// Rows, or values that are not null.
    Count(u64),
    /// Integers: 2^64 of them fit.
    IntSum { count: u64, sum: i128 },
    /// Unscaled decimals: 2^64 of 38 digits fit.
    DecimalSum { count: u64, sum: i256 },
    /// Floats.
    FloatSum { count: u64, sum: ExactSum },
    /// The least or greatest value.
    Extreme(Option<Value>),
}

/// A value of an ordered type.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Boolean(bool),
    /// int32, int64, date, timestamp.
    Int(i64),
    /// All NaNs are one, and greater than every number.
    Float(f64),
    /// Unscaled.
    Decimal(i128),
    /// string (UTF-8, whose order is that of its bytes), binary.
    Bytes(Box<[u8]>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.order(other).is_eq()
    }
}

impl Value {
    /// The order of a type's values. Values of two types have none; no slot holds them.
    pub(super) fn order(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Boolean(left), Self::Boolean(right)) => left.cmp(right),
            (Self::Int(left), Self::Int(right)) => left.cmp(right),
            (Self::Float(left), Self::Float(right)) => left.total_cmp(right),
            (Self::Decimal(left), Self::Decimal(right)) => left.cmp(right),
            (Self::Bytes(left), Self::Bytes(right)) => left.cmp(right),
            _ => unreachable!("a slot has one type"),
        }
    }

    /// A float as slots keep it: one NaN for all.
    pub(super) fn float(value: f64) -> Self {
        Self::Float(if value.is_nan() { f64::NAN } else { value })
    }
}

/// Which end of an order is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Least,
    Greatest,
}

impl End {
    /// Whether `new` takes the place of `old`.
    pub(super) fn takes(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Least => order.is_lt(),
            Self::Greatest => order.is_gt(),
        }
    }
}

impl Slot {
    /// Adds all that `from`, a slot of the same call, has seen.
    pub(super) fn merge(&mut self, from: &Self, end: Option<End>) {
        match (self, from) {
            (Self::Count(into), Self::Count(from)) => *into += from,
            (Self::IntSum { count, sum }, Self::IntSum { count: more, sum: addend }) => {
                *count += more;
                *sum += addend;
            }
            (Self::DecimalSum { count, sum }, Self::DecimalSum { count: more, sum: addend }) => {
                *count += more;
                *sum = sum.wrapping_add(*addend);
            }
            (Self::FloatSum { count, sum }, Self::FloatSum { count: more, sum: addend }) => {
                *count += more;
                sum.merge(addend);
            }
            (Self::Extreme(into), Self::Extreme(Some(from))) => {
                let end = end.unwrap_or(End::Least);
                if into.as_ref().is_none_or(|into| end.takes(from.order(into))) {
                    *into = Some(from.clone());
                }
            }
            (Self::Extreme(_), Self::Extreme(None)) => {}
            _ => unreachable!("states of the same aggregates have the same slots"),
        }
    }
}
