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
//!
//! Rows are cut into blocks of consecutive numbers, which are the splits.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Array, RecordBatch, StringBuilder, TimestampMillisecondArray,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use zipf::Zipf;

use crate::pipeline::spec::SourceKind;
use crate::rows::Rows;
use crate::source::columns::Columns;
use crate::source::{SourceError, SplitReader};

mod zipf;

/// Rows of one block. Small, because the watermark follows the first block that is not done.
pub(crate) const BLOCK_ROWS: u64 = 1_024;
/// Event time of event 0.
pub(crate) const FIRST_TIME_MS: i64 = 1_436_918_400_000;
/// Column of the event time.
pub(crate) const TIME_COLUMN: &str = "time";

/// How event numbers are cut into splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Events; none: without end.
    pub(crate) events: Option<u64>,
}

impl Blocks {
    /// How many blocks there are; none: without end.
    pub fn count(&self) -> Option<u64> {
        self.events.map(|events| events.div_ceil(BLOCK_ROWS))
    }

    /// Rows of a block.
    pub(crate) fn rows(&self, block: u64) -> u64 {
        let first = block.saturating_mul(BLOCK_ROWS);
        self.events.map_or(BLOCK_ROWS, |events| events.saturating_sub(first).min(BLOCK_ROWS))
    }

    /// Event time of the last row of a block.
    pub(crate) fn max_time_ms(&self, block: u64) -> i64 {
        time_ms((block * BLOCK_ROWS + self.rows(block)).saturating_sub(1))
    }
}

fn time_ms(event: u64) -> i64 {
    FIRST_TIME_MS.saturating_add_unsigned(event)
}

/// The function from event numbers to rows.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) blocks: Blocks,
    distinct: u64,
    value_bytes: usize,
    zipf: Option<Zipf>,
}

impl Keys {
    /// Of a `generate.keys` source; `None` of another.
    pub(crate) fn of(kind: &SourceKind) -> Option<Self> {
        let SourceKind::Keys { count, distinct, value_bytes, skew_milli } = *kind else {
            return None;
        };
        let distinct = distinct.max(1);
        Some(Self {
            blocks: Blocks { events: count },
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
            Field::new(TIME_COLUMN, weir_expr::types::timestamp(), true),
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

    fn column(&self, name: &str, events: std::ops::Range<u64>) -> ArrayRef {
        match name {
            "key" => self.keys(events),
            "value" => self.values(events),
            "seq" => Arc::new(Int64Array::from_iter_values(
                events.map(|event| i64::try_from(event).unwrap_or(i64::MAX)),
            )),
            _ => Arc::new(
                TimestampMillisecondArray::from_iter_values(events.map(time_ms))
                    .with_data_type(weir_expr::types::timestamp()),
            ),
        }
    }

    fn keys(&self, events: std::ops::Range<u64>) -> ArrayRef {
        use std::fmt::Write as _;
        let rows = usize::try_from(events.end - events.start).unwrap_or(0);
        let mut keys = StringBuilder::with_capacity(rows, rows * 9);
        let mut text = String::new();
        for event in events {
            text.clear();
            write!(text, "k{:08}", self.key(event)).expect("a string takes any text");
            keys.append_value(&text);
        }
        Arc::new(keys.finish())
    }

    fn values(&self, events: std::ops::Range<u64>) -> ArrayRef {
        let rows = usize::try_from(events.end - events.start).unwrap_or(0);
        let mut values = BinaryBuilder::with_capacity(rows, rows * self.value_bytes);
        let mut value = Vec::with_capacity(self.value_bytes + 8);
        for event in events {
            value.clear();
            let seed = mix(event);
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

/// Generates the rest of one block.
pub(crate) struct KeysReader {
    keys: Keys,
    columns: Columns,
    first_event: u64,
    rows: u64,
    position: u64,
    source: u8,
}

impl KeysReader {
    /// Opens a block; `position` counts its rows.
    pub(crate) fn open(
        keys: Keys,
        columns: Columns,
        block: u64,
        position: u64,
        source: u8,
    ) -> Self {
        let rows = keys.blocks.rows(block);
        Self { keys, columns, first_event: block * BLOCK_ROWS, rows, position, source }
    }
}

#[async_trait]
impl SplitReader for KeysReader {
    async fn next(&mut self, rows_max: usize) -> Result<Option<Rows>, SourceError> {
        let taken = (self.rows.saturating_sub(self.position)).min(rows_max.max(1) as u64);
        if taken == 0 {
            return Ok(None);
        }
        let first = self.first_event + self.position;
        let events = first..first + taken;
        let fields = self.columns.read.fields().iter();
        let arrays = fields.map(|field| self.keys.column(field.name(), events.clone())).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.columns.read), arrays)
            .expect("every column has its type and a value for every event");
        // Origins of generated rows: source (8 bits), event number (56).
        let base = u64::from(self.source) << 56;
        let origins = UInt64Array::from_iter_values(events.map(|event| base | event));
        self.position += taken;
        Ok(Some(self.columns.rows(&batch, origins).expect("generated rows have event times")))
    }

    fn position(&self) -> u64 {
        self.position
    }
}

#[cfg(test)]
mod tests;
