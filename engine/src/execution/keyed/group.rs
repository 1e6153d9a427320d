//! The stored value of a group without a window: when it was written last, and its state.
//!
//! docs/design/0009-windows-and-changelogs.md has the bytes. The flags say what is there, so a `ttl`
//! may come and go while the state stays.

use bytes::Bytes;
use weir_expr::{Aggregates, State};

const FLAG_WRITTEN: u8 = 1;

/// A group as it is stored.
#[derive(Debug)]
pub(super) struct Group {
    /// When it was written last, where a `ttl` counts from that.
    pub(super) written_ms: Option<i64>,
    /// What its rows add up to.
    pub(super) state: State,
}

impl Group {
    /// Reads what [`Group::encode`] wrote.
    pub(super) fn decode(aggregates: &Aggregates, bytes: &Bytes) -> Result<Self, String> {
        let (flags, rest) = bytes.split_first().ok_or("the value of a group is empty")?;
        if flags & !FLAG_WRITTEN != 0 {
            return Err(format!("the value of a group has the unknown flags {flags:#04x}"));
        }
        let (written_ms, rest) = if flags & FLAG_WRITTEN == 0 {
            (None, rest)
        } else {
            let (time, rest) = rest.split_first_chunk().ok_or("the value of a group is cut")?;
            (Some(i64::from_be_bytes(*time)), rest)
        };
        let state =
            aggregates.decode_shared(&bytes.slice_ref(rest)).map_err(|error| error.to_string())?;
        Ok(Self { written_ms, state })
    }

    /// Appends the bytes.
    pub(super) fn encode(&self, aggregates: &Aggregates, out: &mut Vec<u8>) {
        out.push(if self.written_ms.is_some() { FLAG_WRITTEN } else { 0 });
        out.extend(self.written_ms.into_iter().flat_map(i64::to_be_bytes));
        aggregates.encode(&self.state, out);
    }

    /// Whether its `ttl` is over at `now_ms`.
    pub(super) fn is_over(&self, ttl_ms: Option<i64>, now_ms: i64) -> bool {
        let ends = self.written_ms.zip(ttl_ms);
        ends.is_some_and(|(written, ttl)| now_ms >= written.saturating_add(ttl))
    }
}
