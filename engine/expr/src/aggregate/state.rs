//! What one group has seen: one slot per aggregate call.
//!
//! A slot keeps enough that it depends on the set of rows alone: sums are exact, whatever their
//! size, and are fitted to their type only when they are read. Over changelogs a slot of a part of
//! the rows (those of a batch) may hold less than nothing, which is to be taken away from the rest.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::i256;

use super::bag::Bag;
use super::call::{Call, Function, Order};
use super::exact_sum::ExactSum;
use super::spread::Spread;
use super::value::{Item, Value};

/// What one group has seen so far.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub(super) slots: Box<[Slot]>,
}

/// What one aggregate call has seen so far. Sizes are those of the stored bytes; in memory a slot
/// takes 64 bytes and what is said to be beside it. A row costs a few instructions and, where
/// nothing else is said, no allocation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Slot {
    /// Rows, or values that are not null. 2 to 10 bytes; a row costs an increment.
    Count(i64),
    /// Integers: 2^63 of them fit. Up to 29 bytes; a row costs two additions.
    IntSum { count: i64, sum: i128 },
    /// Unscaled decimals: 2^63 of 38 digits fit. Up to 44 bytes; a row costs two additions.
    DecimalSum { count: i64, sum: i256 },
    /// Floats of insert-only rows. About 20 bytes, 300 where magnitudes differ most, and twice that
    /// beside it; a row costs additions to three limbs.
    FloatSum { count: i64, sum: ExactSum },
    /// Floats of a changelog. As above.
    FloatBalance(Box<Balance>),
    /// The least or greatest value of insert-only rows, its bytes beside it. A row costs a
    /// comparison; strings are copied only when they are kept.
    Extreme(Option<Value>),
    /// Values with their counts: of `distinct`, and of min and max over a changelog. All distinct
    /// values of the group, 48 bytes each beside it and the bytes of strings. A row costs its share
    /// of a sort, strings a copy; reading, merging and storing the whole comes with each batch that
    /// has rows of the group.
    Values(Bag<Value>),
    /// How many are true and false. 3 to 21 bytes; a row costs an increment.
    Booleans { trues: i64, falses: i64 },
    /// Sums for variance and deviation. About 40 bytes, and 200 beside it; a row costs additions to
    /// nine limbs, a wide decimal's to twenty-four.
    Spread(Box<Spread>),
    /// The first or last row so far of insert-only rows: one time and one value, its bytes beside
    /// it. A row costs a comparison of times; values are copied when they are kept. By arrival the
    /// time is 0.
    Moment(Option<Moment>),
    /// Rows by time: of `array_agg`, and of first and last over a changelog. All rows of the group
    /// (with `distinct` all distinct values), 64 bytes each beside it; costs as for `Values`.
    Moments(Bag<Moment>),
    /// The same where rows have no event time, 32 bytes each. What a row takes away is looked for
    /// from the end.
    Arrivals(Box<Arrivals>),
}

/// Floats of a changelog: what is no number is counted, so that it can be taken away.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Balance {
    pub(super) count: i64,
    pub(super) nans: i64,
    pub(super) positive: i64,
    pub(super) negative: i64,
    /// Of the numbers.
    pub(super) sum: ExactSum,
}

/// A row's value and its event time; in order of time, then value, nulls last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) time: i64,
    pub(super) item: Item,
}

/// Values in order of arrival.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Arrivals {
    pub(super) items: Vec<Item>,
    /// Taken away before they came: from what this is merged into.
    pub(super) owed: Vec<Item>,
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

    /// Whether a row takes the place of another by time. Of one time the smaller or larger value
    /// does; null is neither.
    pub(super) fn takes_moment(self, new: (i64, Option<&Value>), old: &Moment) -> bool {
        let by_time = new.0.cmp(&old.time);
        by_time.is_ne() && self.takes(by_time)
            || by_time.is_eq()
                && match (new.1, &old.item.0) {
                    (Some(new), Some(old)) => self.takes(new.cmp(old)),
                    (new, old) => new.is_some() && old.is_none(),
                }
    }
}

impl Balance {
    /// Adds a float, or takes it away with `sign` −1.
    pub(super) fn add(&mut self, value: f64, sign: i64) {
        self.count = self.count.wrapping_add(sign);
        let special = if value.is_nan() {
            &mut self.nans
        } else if value == f64::INFINITY {
            &mut self.positive
        } else if value == f64::NEG_INFINITY {
            &mut self.negative
        } else {
            self.sum.add(if sign < 0 { -value } else { value });
            return;
        };
        *special = special.wrapping_add(sign);
    }

    fn merge(&mut self, from: &Self) {
        self.count = self.count.wrapping_add(from.count);
        self.nans = self.nans.wrapping_add(from.nans);
        self.positive = self.positive.wrapping_add(from.positive);
        self.negative = self.negative.wrapping_add(from.negative);
        self.sum.merge(&from.sum);
    }

    fn is_possible(&self) -> bool {
        let special = [self.nans, self.positive, self.negative];
        let numbers = special.iter().fold(self.count, |rest, count| rest.saturating_sub(*count));
        let some = numbers > 0 || (numbers == 0 && self.sum == ExactSum::default());
        some && special.iter().all(|count| *count >= 0)
    }
}

impl Arrivals {
    /// Takes away the latest of equal values.
    pub(super) fn retract(&mut self, item: Item) {
        match self.items.iter().rposition(|known| *known == item) {
            Some(at) => drop(self.items.remove(at)),
            None => self.owed.push(item),
        }
    }

    fn merge(&mut self, from: &Self) {
        from.owed.iter().for_each(|item| self.retract(item.clone()));
        self.items.extend_from_slice(&from.items);
    }
}

impl Slot {
    /// Adds all that `from`, a slot of the same call, has seen. By arrival it came later.
    pub(super) fn merge(&mut self, from: &Self, call: &Call) {
        match (&mut *self, from) {
            (Self::Count(into), Self::Count(from)) => *into = into.wrapping_add(*from),
            (Self::IntSum { count, sum }, Self::IntSum { count: more, sum: addend }) => {
                *count = count.wrapping_add(*more);
                *sum = sum.wrapping_add(*addend);
            }
            (Self::DecimalSum { count, sum }, Self::DecimalSum { count: more, sum: addend }) => {
                *count = count.wrapping_add(*more);
                *sum = sum.wrapping_add(*addend);
            }
            (Self::FloatSum { count, sum }, Self::FloatSum { count: more, sum: addend }) => {
                *count = count.wrapping_add(*more);
                sum.merge(addend);
            }
            (Self::FloatBalance(into), Self::FloatBalance(from)) => into.merge(from),
            (Self::Extreme(into), Self::Extreme(Some(from))) => {
                let end = call.end();
                if into.as_ref().is_none_or(|into| end.takes(from.cmp(into))) {
                    *into = Some(from.clone());
                }
            }
            (Self::Extreme(_), Self::Extreme(None)) | (Self::Moment(_), Self::Moment(None)) => {}
            (Self::Values(into), Self::Values(from)) => into.merge(from),
            (
                Self::Booleans { trues, falses },
                Self::Booleans { trues: more_trues, falses: more_falses },
            ) => {
                *trues = trues.wrapping_add(*more_trues);
                *falses = falses.wrapping_add(*more_falses);
            }
            (Self::Spread(into), Self::Spread(from)) => into.merge(from),
            (Self::Moment(into), Self::Moment(Some(from))) => {
                if call.takes_moment(into.as_ref(), from.time, from.item.0.as_ref()) {
                    *into = Some(from.clone());
                }
            }
            (Self::Moments(into), Self::Moments(from)) => into.merge(from),
            (Self::Arrivals(into), Self::Arrivals(from)) => into.merge(from),
            _ => unreachable!("states of the same aggregates have the same slots"),
        }
        self.order(call);
    }

    /// Becomes what `from`, a slot of the same call, has seen, and then this.
    pub(super) fn put_behind(&mut self, from: &Self, call: &Call) {
        let stays = match (&*self, from) {
            (Self::Moment(Some(later)), Self::Moment(from)) => {
                call.takes_moment(from.as_ref(), later.time, later.item.0.as_ref())
            }
            (Self::Extreme(Some(later)), Self::Extreme(from)) => {
                from.as_ref().is_none_or(|from| call.end().takes(later.cmp(from)))
            }
            _ => false,
        };
        if !stays {
            let later = std::mem::replace(self, from.clone());
            self.merge(&later, call);
        }
    }

    /// Puts in order what a batch or a merge has left.
    pub(super) fn order(&mut self, call: &Call) {
        let distinct = call.distinct && !call.mode.retractable;
        match self {
            Self::Values(bag) => {
                bag.order();
                if distinct {
                    once(bag);
                }
            }
            Self::Moments(bag) => {
                bag.order();
                if distinct {
                    let mut seen = BTreeSet::new();
                    let first: Vec<bool> =
                        bag.keys().map(|moment| seen.insert(&moment.item)).collect();
                    let mut first = first.into_iter();
                    bag.retain(|_| first.next().unwrap_or(true));
                    once(bag);
                }
            }
            Self::Arrivals(arrivals) if distinct => {
                let mut seen = BTreeSet::new();
                let first: Vec<bool> =
                    arrivals.items.iter().map(|item| seen.insert(item)).collect();
                let mut first = first.into_iter();
                arrivals.items.retain(|_| first.next().unwrap_or(true));
            }
            _ => {}
        }
    }

    /// Whether some rows can have left this, as far as it tells. Rows by time that were taken away
    /// under another time than theirs are sought out first.
    pub(super) fn settle(&mut self) -> bool {
        match self {
            Self::Count(count) => *count >= 0,
            Self::IntSum { count, sum } => *count > 0 || (*count == 0 && *sum == 0),
            Self::DecimalSum { count, sum } => *count > 0 || (*count == 0 && *sum == i256::ZERO),
            Self::FloatBalance(balance) => balance.is_possible(),
            Self::Values(bag) => !bag.owes(),
            Self::Booleans { trues, falses } => *trues >= 0 && *falses >= 0,
            Self::Spread(spread) => spread.is_possible(),
            Self::Moments(bag) => !bag.owes() || pay(bag),
            Self::Arrivals(arrivals) => arrivals.owed.is_empty(),
            Self::FloatSum { .. } | Self::Extreme(_) | Self::Moment(_) => true,
        }
    }

    /// Bytes beside the slot itself, roughly.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::FloatSum { sum, .. } => sum.heap_bytes(),
            Self::FloatBalance(balance) => size_of::<Balance>() + balance.sum.heap_bytes(),
            Self::Extreme(Some(value)) => value.heap_bytes(),
            Self::Values(bag) => bag.heap_bytes(Value::heap_bytes),
            Self::Spread(spread) => {
                size_of::<Spread>() + spread.sum.heap_bytes() + spread.squares.heap_bytes()
            }
            Self::Moment(Some(moment)) => moment.item.heap_bytes(),
            Self::Moments(bag) => bag.heap_bytes(|moment| moment.item.heap_bytes()),
            Self::Arrivals(arrivals) => {
                let items = || arrivals.items.iter().chain(&arrivals.owed);
                let values: usize = items().map(Item::heap_bytes).sum();
                size_of::<Arrivals>() + items().count() * size_of::<Item>() + values
            }
            _ => 0,
        }
    }
}

/// A set: each key once.
fn once<K: Ord>(bag: &mut Bag<K>) {
    bag.retain(|(_, count)| {
        *count = 1;
        true
    });
}

/// Takes each value that is owed from the oldest row that has it. A row may be taken away under
/// another time than its own: an updating step gives a change the time of the row that caused it.
/// Whether there was one for each.
fn pay(bag: &mut Bag<Moment>) -> bool {
    let mut debts: BTreeMap<Item, i64> = BTreeMap::new();
    for (moment, count) in bag.entries().iter().filter(|(_, count)| *count < 0) {
        *debts.entry(moment.item.clone()).or_default() -= count;
    }
    bag.retain(|(moment, count)| {
        if let Some(debt) = debts.get_mut(&moment.item)
            && *count > 0
        {
            let paid = (*debt).min(*count);
            *debt -= paid;
            *count -= paid;
        }
        *count > 0
    });
    debts.values().all(|debt| *debt == 0)
}

impl Call {
    /// Whether a row takes the place of the first or last so far.
    pub(super) fn takes_moment(
        &self,
        old: Option<&Moment>,
        time: i64,
        value: Option<&Value>,
    ) -> bool {
        let Some(old) = old else { return true };
        match (self.function, self.order()) {
            (Function::Edge(end), Order::Time) => end.takes_moment((time, value), old),
            (Function::Edge(end), Order::Arrival) => end == End::Greatest,
            _ => unreachable!("only first and last keep a row"),
        }
    }
}

impl State {
    /// Bytes that the state takes up in memory, roughly.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val::<[Slot]>(&self.slots)
            + self.slots.iter().map(Slot::heap_bytes).sum::<usize>()
    }
}
