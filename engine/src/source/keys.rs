//! `generate.keys`: rows that are a function of the event number.
//!
//! Event `n` (from 0) has, `mix(i)` being output `i` of splitmix64 seeded with 0 (Steele et al. 2014):
//!
//! - `seq` = n; `time` = 2015-07-15T00:00:00.000Z (that of `nexmark`) + n milliseconds,
//! - `key` = `k` and the key's number in at least 8 digits. The number is `u × distinct`, `u` being
//!   uniform in [0, 1) from `mix(n)`; with `skew` s > 0 it follows Zipf's law instead (number `i`
//!   has probability proportional to `1 / (i + 1)^s`),
//! - `value` = `valueBytes` bytes: the little-endian numbers `mix(mix(n) + 1)`, `mix(mix(n) + 2)`, …
//!
//! The function uses no floating-point operation but `+ - × ÷` and comparisons, which are the same
//! on every machine. It is part of the public form: a change of it changes every result.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use zipf::Zipf;

use crate::pipeline::spec::SourceKind;

mod zipf;

/// The function from event numbers to rows.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    distinct: u64,
    value_bytes: usize,
    zipf: Option<Zipf>,
}

impl Keys {
    /// Of a `generate.keys` source; `None` of another.
    pub(crate) fn of(kind: &SourceKind) -> Option<Self> {
        let SourceKind::Keys { distinct, value_bytes, skew_milli, .. } = *kind else {
            return None;
        };
        let distinct = distinct.max(1);
        Some(Self {
            distinct,
            value_bytes: value_bytes as usize,
            zipf: (skew_milli > 0).then(|| Zipf::new(distinct, skew_milli)),
        })
    }

    /// The columns in order.
    pub(crate) fn schema() -> Schema {
        Schema::new(vec![
            Field::new("key", DataType::Utf8, true),
            Field::new("value", DataType::Binary, true),
            Field::new("seq", DataType::Int64, true),
            Field::new("time", weir_expr::types::timestamp(), true),
        ])
    }

    fn key(&self, event: u64) -> u64 {
        match &self.zipf {
            Some(zipf) => zipf.sample(mix(event)),
            None => {
                let scaled = u128::from(mix(event)) * u128::from(self.distinct);
                u64::try_from(scaled >> 64).unwrap_or(0)
            }
        }
    }

    /// The columns that are of this function alone.
    pub(crate) fn column(&self, name: &str, events: &[u64]) -> Option<ArrayRef> {
        match name {
            "key" => Some(self.keys(events)),
            "value" => Some(self.values(events)),
            _ => None,
        }
    }

    fn keys(&self, events: &[u64]) -> ArrayRef {
        use std::fmt::Write as _;
        let mut keys = StringBuilder::with_capacity(events.len(), events.len() * 9);
        let mut text = String::new();
        for event in events {
            text.clear();
            write!(text, "k{:08}", self.key(*event)).expect("a string takes any text");
            keys.append_value(&text);
        }
        Arc::new(keys.finish())
    }

    fn values(&self, events: &[u64]) -> ArrayRef {
        let bytes = events.len() * self.value_bytes;
        let mut values = BinaryBuilder::with_capacity(events.len(), bytes);
        let mut value = Vec::with_capacity(self.value_bytes + 8);
        for event in events {
            value.clear();
            let seed = mix(*event);
            let mut word = 0;
            while value.len() < self.value_bytes {
                word += 1;
                value.extend_from_slice(&mix(seed.wrapping_add(word)).to_le_bytes());
            }
            values.append_value(&value[..self.value_bytes]);
        }
        Arc::new(values.finish())
    }
}

/// splitmix64's output for the state `number × golden ratio`.
fn mix(number: u64) -> u64 {
    let state = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
