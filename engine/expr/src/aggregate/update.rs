//! Rows into slots: a loop per kind of slot and type, without a choice per row.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type,
    TimestampMillisecondType, i256,
};
use bytes::Bytes;

use super::call::{Call, Function, Order};
use super::state::{End, Moment, Slot, State};
use super::value::{Column, Item, Value};

/// What one call gets of a batch.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// None for `count(*)`.
    pub(super) argument: Option<ArrayRef>,
    /// The rows that count; none: all.
    pub(super) selected: Option<NullBuffer>,
}

/// What is the same for all calls of a batch.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    pub(super) times: Option<Int64Array>,
    /// Rows that are taken away; none: no row is.
    pub(super) retracts: Option<BooleanArray>,
}

/// A row, the index of its group, and −1 where it is taken away, else 1.
type Row = (usize, usize, i64);

/// Adds the rows (with the indices of their groups) to slot `slot` of their groups.
pub(super) fn update(
    call: &Call,
    input: &Input,
    beside: &Beside,
    rows: impl Iterator<Item = (usize, usize)>,
    target: Target<'_>,
) {
    let times = beside.times.as_ref().map(|times| times.values().as_ref());
    let selected = input.selected.as_ref();
    let rows = rows.filter(|(row, _)| selected.is_none_or(|selected| selected.is_valid(*row)));
    let argument = input.argument.as_ref();
    match &beside.retracts {
        None => add(call, argument, times, rows.map(|(row, group)| (row, group, 1)), target),
        Some(retracts) => {
            let sign = |row| if retracts.value(row) { -1 } else { 1 };
            let rows = rows.map(|(row, group)| (row, group, sign(row)));
            add(call, argument, times, rows, target);
        }
    }
}

/// A slot in the states of all groups.
pub(super) struct Target<'a> {
    pub(super) states: &'a mut [State],
    pub(super) slot: usize,
}

impl Target<'_> {
    #[inline]
    fn of(&mut self, group: usize) -> &mut Slot {
        &mut self.states[group].slots[self.slot]
    }
}

fn add(
    call: &Call,
    argument: Option<&ArrayRef>,
    times: Option<&[i64]>,
    rows: impl Iterator<Item = Row>,
    mut target: Target<'_>,
) {
    let (Some(values), false) = (argument, call.function == Function::Count && !call.distinct)
    else {
        for (_, group, sign) in rows {
            if let Slot::Count(count) = target.of(group) {
                *count += sign;
            }
        }
        return;
    };
    match call.function {
        Function::Edge(_) | Function::ArrayAgg => add_rows(call, values, times, rows, target),
        _ if call.distinct => {
            let column = Column::new(values);
            add_values(|row| column.value(row).unsigned_zero(), rows, target);
        }
        Function::Extreme(_) if call.mode.retractable => {
            let column = Column::new(values);
            add_values(|row| column.value(row), rows, target);
        }
        Function::Extreme(end) => keep_extremes(values, rows, target, end),
        Function::Bool { .. } => {
            let values = values.as_boolean();
            for (row, group, sign) in rows {
                if let Slot::Booleans { trues, falses } = target.of(group) {
                    *(if values.value(row) { trues } else { falses }) += sign;
                }
            }
        }
        Function::Spread(_) => add_spreads(values, rows, target),
        Function::Count | Function::Sum | Function::Avg => add_numbers(values, rows, target),
    }
}

fn add_numbers(values: &ArrayRef, rows: impl Iterator<Item = Row>, mut target: Target<'_>) {
    match values.data_type() {
        DataType::Int32 => add_integers::<Int32Type>(values, rows, target),
        DataType::Int64 => add_integers::<Int64Type>(values, rows, target),
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            for (row, group, sign) in rows {
                match target.of(group) {
                    Slot::FloatSum { count, sum } => {
                        *count += 1;
                        sum.add(values.value(row));
                    }
                    Slot::FloatBalance(balance) => balance.add(values.value(row), sign),
                    _ => unreachable!("a slot has its call's kind"),
                }
            }
        }
        _ => {
            let values = values.as_primitive::<Decimal128Type>();
            for (row, group, sign) in rows {
                if let Slot::DecimalSum { count, sum } = target.of(group) {
                    let value = i256::from_i128(values.value(row));
                    *count += sign;
                    *sum = if sign < 0 { sum.wrapping_sub(value) } else { sum.wrapping_add(value) };
                }
            }
        }
    }
}

fn add_integers<T: ArrowPrimitiveType<Native: Into<i128>>>(
    values: &ArrayRef,
    rows: impl Iterator<Item = Row>,
    mut target: Target<'_>,
) {
    let values = values.as_primitive::<T>();
    for (row, group, sign) in rows {
        if let Slot::IntSum { count, sum } = target.of(group) {
            let value: i128 = values.value(row).into();
            *count += sign;
            *sum += if sign < 0 { -value } else { value };
        }
    }
}

fn add_spreads(values: &ArrayRef, rows: impl Iterator<Item = Row>, mut target: Target<'_>) {
    let float = values.as_primitive_opt::<Float64Type>();
    let column = Column::new(values);
    for (row, group, sign) in rows {
        let Slot::Spread(spread) = target.of(group) else { continue };
        match (float, &column) {
            (Some(values), _) => spread.add_float(values.value(row), sign),
            (None, Column::Int32(values)) => spread.add_integer(values.value(row).into(), sign),
            (None, Column::Int64(values)) => spread.add_integer(values.value(row).into(), sign),
            (None, Column::Decimal(values)) => spread.add_integer(values.value(row), sign),
            _ => unreachable!("only numbers have a variance"),
        }
    }
}

/// Values with their counts.
fn add_values(
    value: impl Fn(usize) -> Value,
    rows: impl Iterator<Item = Row>,
    mut target: Target<'_>,
) {
    for (row, group, sign) in rows {
        if let Slot::Values(bag) = target.of(group) {
            bag.take(value(row), sign);
        }
    }
}

/// Rows by time or arrival.
fn add_rows(
    call: &Call,
    values: &ArrayRef,
    times: Option<&[i64]>,
    rows: impl Iterator<Item = Row>,
    mut target: Target<'_>,
) {
    let column = Column::new(values);
    let item = |row: usize| {
        let item = column.item(row);
        if call.distinct { Item(item.0.map(Value::unsigned_zero)) } else { item }
    };
    let time = |row: usize| match call.order() {
        Order::Time => times.map_or(0, |times| times[row]),
        Order::Arrival => 0,
    };
    for (row, group, sign) in rows {
        match target.of(group) {
            Slot::Moment(kept) => keep_moment(call, kept, time(row), &column, row),
            Slot::Moments(bag) => bag.take(Moment { time: time(row), item: item(row) }, sign),
            Slot::Arrivals(arrivals) if sign < 0 => arrivals.retract(item(row)),
            Slot::Arrivals(arrivals) => arrivals.items.push(item(row)),
            _ => unreachable!("a slot has its call's kind"),
        }
    }
}

/// Copies a value only if it is kept, or if its time alone does not tell.
fn keep_moment(call: &Call, kept: &mut Option<Moment>, time: i64, column: &Column<'_>, row: usize) {
    if let Some(kept) = kept {
        let stays = match call.order() {
            Order::Time => kept.time != time && !call.end().takes(time.cmp(&kept.time)),
            Order::Arrival => call.end() == End::Least,
        };
        if stays {
            return;
        }
    }
    let item = column.item(row);
    if call.takes_moment(kept.as_ref(), time, item.0.as_ref()) {
        *kept = Some(Moment { time, item });
    }
}

fn keep_extremes(
    values: &ArrayRef,
    rows: impl Iterator<Item = Row>,
    mut target: Target<'_>,
    end: End,
) {
    let mut keep = |group: usize, value: Value| {
        if let Slot::Extreme(kept) = target.of(group)
            && kept.as_ref().is_none_or(|kept| end.takes(value.cmp(kept)))
        {
            *kept = Some(value);
        }
    };
    match values.data_type() {
        DataType::Boolean => {
            let values = values.as_boolean();
            rows.for_each(|(row, group, _)| keep(group, Value::Boolean(values.value(row))));
        }
        DataType::Int32 => keep_integers::<Int32Type>(values, rows, keep),
        DataType::Int64 => keep_integers::<Int64Type>(values, rows, keep),
        DataType::Date32 => keep_integers::<Date32Type>(values, rows, keep),
        DataType::Timestamp(..) => keep_integers::<TimestampMillisecondType>(values, rows, keep),
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            rows.for_each(|(row, group, _)| keep(group, Value::float(values.value(row))));
        }
        DataType::Decimal128(..) => {
            let values = values.as_primitive::<Decimal128Type>();
            rows.for_each(|(row, group, _)| keep(group, Value::Decimal(values.value(row))));
        }
        DataType::Utf8 => {
            let values = values.as_string::<i32>();
            keep_bytes(|row| values.value(row).as_bytes(), rows, target, end);
        }
        _ => {
            let values = values.as_binary::<i32>();
            keep_bytes(|row| values.value(row), rows, target, end);
        }
    }
}

fn keep_integers<T: ArrowPrimitiveType<Native: Into<i64>>>(
    values: &ArrayRef,
    rows: impl Iterator<Item = Row>,
    mut keep: impl FnMut(usize, Value),
) {
    let values = values.as_primitive::<T>();
    rows.for_each(|(row, group, _)| keep(group, Value::Int(values.value(row).into())));
}

/// Copies only the values that are kept.
fn keep_bytes<'a>(
    value: impl Fn(usize) -> &'a [u8],
    rows: impl Iterator<Item = Row>,
    mut target: Target<'_>,
    end: End,
) {
    for (row, group, _) in rows {
        let Slot::Extreme(kept) = target.of(group) else {
            continue;
        };
        let new = value(row);
        let takes = match kept {
            Some(Value::Bytes(kept)) => end.takes(new.cmp(&kept[..])),
            _ => true,
        };
        if takes {
            *kept = Some(Value::Bytes(Bytes::copy_from_slice(new)));
        }
    }
}
