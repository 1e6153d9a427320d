//! A state's bytes, version 1; docs/design/0006 describes them. The only file that may change them.
//!
//! What must stay true: equal sets of rows give equal bytes; every prefix and every byte that is
//! too many is refused; reading never allocates more than the input justifies.

use arrow::datatypes::{DataType, i256};

use super::call::Call;
use super::exact_sum::{Canonical, ExactSum, LIMBS_MAX, SPECIAL_MASK};
use super::state::{Slot, State, Value};
use crate::error::StateError;

/// The version that is written, and the newest that is read.
const VERSION: u8 = 1;

const COUNT: u8 = 1;
const INT_SUM: u8 = 2;
const DECIMAL_SUM: u8 = 3;
const FLOAT_SUM: u8 = 4;
const EXTREME: u8 = 5;

/// Appends the bytes of `state`.
pub(super) fn encode(state: &State, out: &mut Vec<u8>) {
    out.push(VERSION);
    for slot in &state.slots {
        encode_slot(slot, out);
    }
}

fn encode_slot(slot: &Slot, out: &mut Vec<u8>) {
    match slot {
        Slot::Count(count) => {
            out.push(COUNT);
            unsigned((*count).into(), out);
        }
        Slot::IntSum { count, sum } => {
            out.push(INT_SUM);
            unsigned((*count).into(), out);
            signed(*sum, out);
        }
        Slot::DecimalSum { count, sum } => {
            out.push(DECIMAL_SUM);
            unsigned((*count).into(), out);
            let bytes = sum.to_le_bytes();
            let sign = if sum.is_negative() { 0xff } else { 0 };
            let needed = bytes.iter().rposition(|byte| *byte != sign).map_or(0, |last| last + 1);
            // The highest bit kept says the sign.
            let signed = needed > 0 && bytes[needed - 1] >> 7 == sign >> 7;
            let length = if signed || (needed == 0 && sign == 0) { needed } else { needed + 1 };
            out.push(u8::try_from(length).unwrap_or(32));
            out.extend_from_slice(&bytes[..length]);
        }
        Slot::FloatSum { count, sum } => {
            out.push(FLOAT_SUM);
            unsigned((*count).into(), out);
            let Canonical { special, base, limbs } = sum.canonical();
            out.push(special);
            unsigned(base as u128, out);
            unsigned(limbs.len() as u128, out);
            limbs.iter().for_each(|limb| out.extend_from_slice(&limb.to_le_bytes()));
        }
        Slot::Extreme(value) => {
            out.push(EXTREME);
            out.push(value.is_some().into());
            match value {
                None => {}
                Some(Value::Boolean(value)) => out.push((*value).into()),
                Some(Value::Int(value)) => signed((*value).into(), out),
                Some(Value::Float(value)) => out.extend_from_slice(&value.to_bits().to_le_bytes()),
                Some(Value::Decimal(value)) => signed(*value, out),
                Some(Value::Bytes(value)) => {
                    unsigned(value.len() as u128, out);
                    out.extend_from_slice(value);
                }
            }
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
fn signed(value: i128, out: &mut Vec<u8>) {
    unsigned(((value << 1) ^ (value >> 127)).cast_unsigned(), out);
}

/// Reads the state of `calls` that is all of `bytes`.
pub(super) fn decode<'a>(
    calls: impl Iterator<Item = &'a Call>,
    bytes: &[u8],
) -> Result<State, StateError> {
    let mut reader = Reader { bytes, at: 0 };
    let version = reader.byte("a version")?;
    if version > VERSION {
        return Err(StateError::Newer { found: version, known: VERSION });
    }
    if version == 0 {
        return Err(StateError::Damaged { offset: 0, what: "there is no version 0" });
    }
    let slots = calls.map(|call| reader.slot(call)).collect::<Result<_, _>>()?;
    if reader.at < bytes.len() {
        return Err(reader.damaged("more bytes than the aggregates have"));
    }
    Ok(State { slots })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn damaged(&self, what: &'static str) -> StateError {
        StateError::Damaged { offset: self.at, what }
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], StateError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.damaged(what))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], StateError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, StateError> {
        Ok(self.array::<1>(what)?[0])
    }

    fn unsigned(&mut self, what: &'static str) -> Result<u128, StateError> {
        let mut value = 0u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u128::from(byte & 0x7f);
            let padded = byte == 0 && shift > 0;
            if padded || bits << shift >> shift != bits {
                return Err(self.damaged(what));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged(what))
    }

    fn signed(&mut self, what: &'static str) -> Result<i128, StateError> {
        let value = self.unsigned(what)?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn count(&mut self) -> Result<u64, StateError> {
        let count = self.unsigned("a count")?;
        u64::try_from(count).map_err(|_| self.damaged("a count of 64 bits"))
    }

    fn slot(&mut self, call: &Call) -> Result<Slot, StateError> {
        let tag = self.byte("a slot")?;
        let empty = call.empty();
        match (tag, &empty) {
            (COUNT, Slot::Count(_)) => Ok(Slot::Count(self.count()?)),
            (INT_SUM, Slot::IntSum { .. }) => {
                Ok(Slot::IntSum { count: self.count()?, sum: self.signed("a sum")? })
            }
            (DECIMAL_SUM, Slot::DecimalSum { .. }) => self.decimal_sum(),
            (FLOAT_SUM, Slot::FloatSum { .. }) => self.float_sum(),
            (EXTREME, Slot::Extreme(_)) => match self.byte("whether there is a value")? {
                0 => Ok(empty),
                1 => Ok(Slot::Extreme(Some(self.value(call)?))),
                _ => Err(self.damaged("whether there is a value")),
            },
            _ => Err(self.damaged("a slot of the aggregate's kind")),
        }
    }

    fn decimal_sum(&mut self) -> Result<Slot, StateError> {
        let count = self.count()?;
        let length = usize::from(self.byte("a length")?);
        if length > 32 {
            return Err(self.damaged("a sum of at most 32 bytes"));
        }
        let kept = self.take(length, "a sum")?;
        let sign = if kept.last().is_some_and(|last| last >> 7 == 1) { 0xff } else { 0 };
        let mut bytes = [sign; 32];
        bytes[..length].copy_from_slice(kept);
        Ok(Slot::DecimalSum { count, sum: i256::from_le_bytes(bytes) })
    }

    fn float_sum(&mut self) -> Result<Slot, StateError> {
        let count = self.count()?;
        let special = self.byte("values that are no number")?;
        if special & !SPECIAL_MASK != 0 {
            return Err(self.damaged("values that are no number"));
        }
        let base = self.small("the place of a sum")?;
        let length = self.small("the length of a sum")?;
        if base + length > LIMBS_MAX {
            return Err(self.damaged("the length of a sum"));
        }
        let mut limbs = Vec::with_capacity(length);
        for _ in 0..length {
            limbs.push(u32::from_le_bytes(self.array("a sum")?));
        }
        let sum = ExactSum::of_canonical(&Canonical { special, base, limbs });
        Ok(Slot::FloatSum { count, sum })
    }

    /// A number of limbs.
    fn small(&mut self, what: &'static str) -> Result<usize, StateError> {
        let value = self.unsigned(what)?;
        let small = usize::try_from(value).ok().filter(|value| *value <= LIMBS_MAX);
        small.ok_or_else(|| self.damaged(what))
    }

    fn value(&mut self, call: &Call) -> Result<Value, StateError> {
        let data_type = call.argument.as_ref().unwrap_or(&DataType::Null);
        Ok(match data_type {
            DataType::Boolean => match self.byte("a boolean")? {
                0 => Value::Boolean(false),
                1 => Value::Boolean(true),
                _ => return Err(self.damaged("a boolean")),
            },
            DataType::Int32 | DataType::Date32 => {
                let value = self.signed("an int32")?;
                let value = i32::try_from(value).map_err(|_| self.damaged("an int32"))?;
                Value::Int(value.into())
            }
            DataType::Int64 | DataType::Timestamp(..) => {
                let value = self.signed("an int64")?;
                Value::Int(i64::try_from(value).map_err(|_| self.damaged("an int64"))?)
            }
            DataType::Float64 => {
                Value::float(f64::from_bits(u64::from_le_bytes(self.array("a float64")?)))
            }
            DataType::Decimal128(..) => Value::Decimal(self.signed("a decimal")?),
            _ => {
                let length = self.unsigned("a length")?;
                let length = usize::try_from(length).map_err(|_| self.damaged("a length"))?;
                let bytes = self.take(length, "as many bytes as its length")?;
                if *data_type == DataType::Utf8 && std::str::from_utf8(bytes).is_err() {
                    return Err(self.damaged("a string in UTF-8"));
                }
                Value::Bytes(bytes.into())
            }
        })
    }
}
