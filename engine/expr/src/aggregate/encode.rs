//! A state's bytes; docs/design/0006 describes them. The only files that may change them are this
//! one and `decode.rs`.
//!
//! What must stay true: equal sets of rows give equal bytes; a state of calls that version 1 knew
//! has the form of version 1.

use super::exact_sum::{Canonical, ExactSum};
use super::state::{Slot, State};
use super::value::{Item, Value};

/// The version of the calls that insert-only count, sum, min, max and avg are.
pub(super) const VERSION_1: u8 = 1;
/// The newest version.
pub(super) const VERSION: u8 = 2;

pub(super) const COUNT: u8 = 1;
pub(super) const INT_SUM: u8 = 2;
pub(super) const DECIMAL_SUM: u8 = 3;
pub(super) const FLOAT_SUM: u8 = 4;
pub(super) const EXTREME: u8 = 5;
pub(super) const BOOLEANS: u8 = 6;
pub(super) const SPREAD: u8 = 7;
pub(super) const VALUES: u8 = 8;
pub(super) const MOMENT: u8 = 9;
pub(super) const MOMENTS: u8 = 10;
pub(super) const ARRIVALS: u8 = 11;
/// Beside the others: over a changelog. Counts have signs.
pub(super) const SIGNED: u8 = 0x40;

/// How a state is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) version: u8,
    /// Over a changelog.
    pub(super) signed: bool,
}

/// Appends the bytes of `state`.
pub(super) fn encode(state: &State, form: Form, out: &mut Vec<u8>) {
    out.push(form.version);
    for slot in &state.slots {
        encode_slot(slot, form.signed, out);
    }
}

fn encode_slot(slot: &Slot, signed: bool, out: &mut Vec<u8>) {
    let tag = if signed { SIGNED } else { 0 };
    match slot {
        Slot::Count(value) => {
            out.push(COUNT | tag);
            count(*value, signed, out);
        }
        Slot::IntSum { count: number, sum } => {
            out.push(INT_SUM | tag);
            count(*number, signed, out);
            zigzag(*sum, out);
        }
        Slot::DecimalSum { count: number, sum } => {
            out.push(DECIMAL_SUM | tag);
            count(*number, signed, out);
            short(sum.to_le_bytes(), out);
        }
        Slot::FloatSum { count: number, sum } => {
            out.push(FLOAT_SUM | tag);
            count(*number, signed, out);
            let sum = sum.canonical();
            out.push(sum.special);
            limbs(&sum, out);
        }
        Slot::FloatBalance(balance) => {
            out.push(FLOAT_SUM | tag);
            for number in [balance.count, balance.nans, balance.positive, balance.negative] {
                count(number, signed, out);
            }
            limbs(&balance.sum.canonical(), out);
        }
        Slot::Booleans { trues, falses } => {
            out.push(BOOLEANS | tag);
            count(*trues, signed, out);
            count(*falses, signed, out);
        }
        Slot::Spread(spread) => {
            out.push(SPREAD | tag);
            count(spread.count, signed, out);
            count(spread.special, signed, out);
            let sums: [&ExactSum; 2] = [&spread.sum, &spread.squares];
            sums.iter().for_each(|sum| limbs(&sum.canonical(), out));
        }
        _ => encode_values(slot, signed, out),
    }
}

/// Slots that keep values of the rows.
fn encode_values(slot: &Slot, signed: bool, out: &mut Vec<u8>) {
    let tag = if signed { SIGNED } else { 0 };
    match slot {
        Slot::Extreme(kept) => {
            out.push(EXTREME | tag);
            out.push(kept.is_some().into());
            kept.iter().for_each(|kept| value(kept, out));
        }
        Slot::Values(bag) => {
            out.push(VALUES | tag);
            unsigned(bag.entries().len() as u128, out);
            for (key, number) in bag.entries() {
                value(key, out);
                if signed {
                    zigzag((*number).into(), out);
                }
            }
        }
        Slot::Moment(kept) => {
            out.push(MOMENT | tag);
            out.push(kept.is_some().into());
            if let Some(kept) = kept {
                zigzag(kept.time.into(), out);
                item(&kept.item, out);
            }
        }
        Slot::Moments(bag) => {
            out.push(MOMENTS | tag);
            let times = |number: i64| if signed { 1 } else { number.max(0) };
            let rows: i128 =
                bag.entries().iter().map(|(_, number)| i128::from(times(*number))).sum();
            unsigned(rows.unsigned_abs(), out);
            for (moment, number) in bag.entries() {
                for _ in 0..times(*number) {
                    zigzag(moment.time.into(), out);
                    item(&moment.item, out);
                }
                if signed {
                    zigzag((*number).into(), out);
                }
            }
        }
        Slot::Arrivals(arrivals) => {
            out.push(ARRIVALS | tag);
            for items in [&arrivals.items, &arrivals.owed] {
                unsigned(items.len() as u128, out);
                items.iter().for_each(|element| item(element, out));
            }
        }
        _ => unreachable!("the other slots keep no values"),
    }
}

fn count(value: i64, signed: bool, out: &mut Vec<u8>) {
    if signed {
        zigzag(value.into(), out);
    } else {
        unsigned(value.unsigned_abs().into(), out);
    }
}

/// Two's complement, as short as its sign allows, behind its length.
fn short(bytes: [u8; 32], out: &mut Vec<u8>) {
    let negative = bytes[31] >> 7 == 1;
    let sign = if negative { 0xff } else { 0 };
    let needed = bytes.iter().rposition(|byte| *byte != sign).map_or(0, |last| last + 1);
    // The highest bit kept says the sign.
    let signed = needed > 0 && bytes[needed - 1] >> 7 == sign >> 7;
    let length = if signed || (needed == 0 && sign == 0) { needed } else { needed + 1 };
    out.push(u8::try_from(length).unwrap_or(32));
    out.extend_from_slice(&bytes[..length]);
}

fn limbs(sum: &Canonical, out: &mut Vec<u8>) {
    unsigned(sum.base as u128, out);
    unsigned(sum.limbs.len() as u128, out);
    sum.limbs.iter().for_each(|limb| out.extend_from_slice(&limb.to_le_bytes()));
}

fn item(item: &Item, out: &mut Vec<u8>) {
    out.push(item.0.is_some().into());
    item.0.iter().for_each(|kept| value(kept, out));
}

fn value(kept: &Value, out: &mut Vec<u8>) {
    match kept {
        Value::Boolean(value) => out.push((*value).into()),
        Value::Int(value) => zigzag((*value).into(), out),
        Value::Float(value) => out.extend_from_slice(&value.to_bits().to_le_bytes()),
        Value::Decimal(value) => zigzag(*value, out),
        Value::Bytes(value) => {
            unsigned(value.len() as u128, out);
            out.extend_from_slice(value);
        }
        Value::Nested(items) => {
            unsigned(items.len() as u128, out);
            items.iter().for_each(|element| item(element, out));
        }
    }
}

/// LEB128: seven bits a byte, the least first, the highest bit says that more follow.
fn unsigned(mut value: u128, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Zigzag: 0, −1, 1, −2, … as 0, 1, 2, 3, …
fn zigzag(value: i128, out: &mut Vec<u8>) {
    unsigned(((value << 1) ^ (value >> 127)).cast_unsigned(), out);
}
