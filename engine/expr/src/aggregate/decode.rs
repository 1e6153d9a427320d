//! A state's bytes read back; `encode.rs` wrote them.
//!
//! What must stay true: all versions are read; every prefix and every byte that is too many is
//! refused; reading never allocates more than the input justifies. Strings share the input's memory.

use arrow::datatypes::{DataType, i256};
use bytes::Bytes;

use super::bag::Bag;
use super::call::Call;
use super::encode::{
    ARRIVALS, BOOLEANS, COUNT, DECIMAL_SUM, EXTREME, FLOAT_SUM, Form, INT_SUM, MOMENT, MOMENTS,
    SIGNED, SPREAD, VALUES, VERSION,
};
use super::exact_sum::{Canonical, ExactSum, LIMBS_MAX, SPECIAL_MASK, SQUARE_LIMBS_MAX};
use super::spread::Spread;
use super::state::{Arrivals, Balance, Moment, Slot, State};
use super::value::{Item, Value};
use crate::error::StateError;

/// Reads the state of `calls` that is all of `bytes`.
pub(super) fn decode<'a>(
    calls: impl Iterator<Item = &'a Call>,
    form: Form,
    bytes: &Bytes,
) -> Result<State, StateError> {
    let mut reader = Reader { bytes, at: 0, signed: form.signed };
    let version = reader.byte("a version")?;
    if version > VERSION {
        return Err(StateError::Newer { found: version, known: VERSION });
    }
    if version != form.version {
        return Err(StateError::Damaged { offset: 0, what: "the version of these aggregates" });
    }
    let slots = calls.map(|call| reader.slot(call)).collect::<Result<_, _>>()?;
    if reader.at < bytes.len() {
        return Err(reader.damaged("more bytes than the aggregates have"));
    }
    Ok(State { slots })
}

struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    /// Over a changelog.
    signed: bool,
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
        // Most are short.
        if let Some(byte) = self.bytes.get(self.at).filter(|byte| **byte < 0x80) {
            self.at += 1;
            return Ok(u128::from(*byte));
        }
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

    fn zigzag(&mut self, what: &'static str) -> Result<i128, StateError> {
        let value = self.unsigned(what)?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn int64(&mut self, what: &'static str) -> Result<i64, StateError> {
        let value = self.zigzag(what)?;
        i64::try_from(value).map_err(|_| self.damaged(what))
    }

    fn count(&mut self) -> Result<i64, StateError> {
        if self.signed {
            return self.int64("a count");
        }
        let count = self.unsigned("a count")?;
        i64::try_from(count).map_err(|_| self.damaged("a count of 63 bits"))
    }

    /// A number of things that follow.
    fn length(&mut self) -> Result<usize, StateError> {
        let length = self.unsigned("a length")?;
        usize::try_from(length).map_err(|_| self.damaged("a length"))
    }

    fn flag(&mut self, what: &'static str) -> Result<bool, StateError> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.damaged(what)),
        }
    }

    fn slot(&mut self, call: &Call) -> Result<Slot, StateError> {
        const HAS_VALUE: &str = "whether there is a value";
        let tag = self.byte("a slot")?;
        let mut slot = call.empty();
        let signed = if self.signed { SIGNED } else { 0 };
        match (tag ^ signed, &mut slot) {
            (COUNT, Slot::Count(count)) => *count = self.count()?,
            (INT_SUM, Slot::IntSum { count, sum }) => {
                (*count, *sum) = (self.count()?, self.zigzag("a sum")?);
            }
            (DECIMAL_SUM, Slot::DecimalSum { count, sum }) => {
                (*count, *sum) = (self.count()?, self.short()?);
            }
            (FLOAT_SUM, Slot::FloatSum { count, sum }) => {
                *count = self.count()?;
                let special = self.byte("values that are no number")?;
                if special & !SPECIAL_MASK != 0 {
                    return Err(self.damaged("values that are no number"));
                }
                *sum = self.limbs(special, LIMBS_MAX)?;
            }
            (FLOAT_SUM, Slot::FloatBalance(balance)) => **balance = self.balance()?,
            (EXTREME, Slot::Extreme(kept)) => {
                if self.flag(HAS_VALUE)? {
                    *kept = Some(self.value(call.value_type())?);
                }
            }
            (BOOLEANS, Slot::Booleans { trues, falses }) => {
                (*trues, *falses) = (self.count()?, self.count()?);
            }
            (SPREAD, Slot::Spread(spread)) => **spread = self.spread()?,
            (VALUES, Slot::Values(bag)) => *bag = self.values(call.value_type())?,
            (MOMENT, Slot::Moment(kept)) => {
                if self.flag(HAS_VALUE)? {
                    *kept = Some(self.moment(call.value_type())?);
                }
            }
            (MOMENTS, Slot::Moments(bag)) => *bag = self.moments(call.value_type())?,
            (ARRIVALS, Slot::Arrivals(arrivals)) => {
                let items = self.items(call.value_type())?;
                let owed = self.items(call.value_type())?;
                **arrivals = Arrivals { items, owed };
            }
            _ => return Err(self.damaged("a slot of the aggregate's kind")),
        }
        Ok(slot)
    }

    fn short(&mut self) -> Result<i256, StateError> {
        let length = usize::from(self.byte("a length")?);
        if length > 32 {
            return Err(self.damaged("a sum of at most 32 bytes"));
        }
        let kept = self.take(length, "a sum")?;
        let sign = if kept.last().is_some_and(|last| last >> 7 == 1) { 0xff } else { 0 };
        let mut bytes = [sign; 32];
        bytes[..length].copy_from_slice(kept);
        Ok(i256::from_le_bytes(bytes))
    }

    fn balance(&mut self) -> Result<Balance, StateError> {
        Ok(Balance {
            count: self.count()?,
            nans: self.count()?,
            positive: self.count()?,
            negative: self.count()?,
            sum: self.limbs(0, LIMBS_MAX)?,
        })
    }

    fn spread(&mut self) -> Result<Spread, StateError> {
        Ok(Spread {
            count: self.count()?,
            special: self.count()?,
            sum: self.limbs(0, LIMBS_MAX)?,
            squares: self.limbs(0, SQUARE_LIMBS_MAX)?,
        })
    }

    /// An exact sum of at most `limbs_max` limbs.
    fn limbs(&mut self, special: u8, limbs_max: usize) -> Result<ExactSum, StateError> {
        let base = self.small("the place of a sum", limbs_max)?;
        let length = self.small("the length of a sum", limbs_max)?;
        if base + length > limbs_max {
            return Err(self.damaged("the length of a sum"));
        }
        let mut limbs = Vec::with_capacity(length);
        for _ in 0..length {
            limbs.push(u32::from_le_bytes(self.array("a sum")?));
        }
        Ok(ExactSum::of_canonical(&Canonical { special, base, limbs }))
    }

    /// A number of limbs.
    fn small(&mut self, what: &'static str, max: usize) -> Result<usize, StateError> {
        let value = self.unsigned(what)?;
        let small = usize::try_from(value).ok().filter(|value| *value <= max);
        small.ok_or_else(|| self.damaged(what))
    }

    fn values(&mut self, data_type: &DataType) -> Result<Bag<Value>, StateError> {
        let mut entries = Vec::new();
        for _ in 0..self.length()? {
            let value = self.value(data_type)?;
            let count = if self.signed { self.int64("a count")? } else { 1 };
            entries.push((value, count));
        }
        Bag::of_entries(entries).ok_or_else(|| self.damaged("values in order"))
    }

    fn moment(&mut self, data_type: &DataType) -> Result<Moment, StateError> {
        Ok(Moment { time: self.int64("a time")?, item: self.item(data_type)? })
    }

    fn moments(&mut self, data_type: &DataType) -> Result<Bag<Moment>, StateError> {
        let mut entries: Vec<(Moment, i64)> = Vec::new();
        for _ in 0..self.length()? {
            let moment = self.moment(data_type)?;
            let count = if self.signed { self.int64("a count")? } else { 1 };
            match entries.last_mut() {
                // Rows of one time and value stand one behind the other.
                Some((last, count)) if !self.signed && *last == moment => *count += 1,
                _ => entries.push((moment, count)),
            }
        }
        Bag::of_entries(entries).ok_or_else(|| self.damaged("rows in order of time"))
    }

    fn items(&mut self, data_type: &DataType) -> Result<Vec<Item>, StateError> {
        let mut items = Vec::new();
        for _ in 0..self.length()? {
            items.push(self.item(data_type)?);
        }
        Ok(items)
    }

    fn item(&mut self, data_type: &DataType) -> Result<Item, StateError> {
        let some = self.flag("a value or null")?;
        Ok(Item(if some { Some(self.value(data_type)?) } else { None }))
    }

    fn value(&mut self, data_type: &DataType) -> Result<Value, StateError> {
        Ok(match data_type {
            DataType::Boolean => Value::Boolean(self.flag("a boolean")?),
            DataType::Int32 | DataType::Date32 => {
                let value = self.zigzag("an int32")?;
                let value = i32::try_from(value).map_err(|_| self.damaged("an int32"))?;
                Value::Int(value.into())
            }
            DataType::Int64 | DataType::Timestamp(..) => Value::Int(self.int64("an int64")?),
            DataType::Float64 => {
                Value::float(f64::from_bits(u64::from_le_bytes(self.array("a float64")?)))
            }
            DataType::Decimal128(..) => Value::Decimal(self.zigzag("a decimal")?),
            DataType::List(element) => Value::Nested(self.items(element.data_type())?.into()),
            DataType::Struct(fields) => {
                if self.length()? != fields.len() {
                    return Err(self.damaged("as many fields as the struct has"));
                }
                let items = fields.iter().map(|field| self.item(field.data_type()));
                Value::Nested(items.collect::<Result<_, _>>()?)
            }
            _ => {
                let length = self.length()?;
                let bytes = self.take(length, "as many bytes as its length")?;
                if *data_type == DataType::Utf8 && std::str::from_utf8(bytes).is_err() {
                    return Err(self.damaged("a string in UTF-8"));
                }
                Value::Bytes(self.bytes.slice_ref(bytes))
            }
        })
    }
}
