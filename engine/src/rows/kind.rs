//! What a row of a changelog says: the row is there, is replaced, or is gone.
//!
//! An update is two rows: the old one in full, directly followed by the new one. Where only one of
//! the two stays (a filter, another destination) it becomes a delete or an insert, so that whoever
//! reads a half always finds the other behind or before it.

use arrow::array::UInt8Array;
use weir_runtime::sim::planted::{Planted, planted};

/// The kind of one row of a changelog. The numbers travel (docs/design/0005-protocol.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// `+I`: a row that was not there.
    Insert = 0,
    /// `-U`: the old row of an update, in full; the new one follows directly.
    Before = 1,
    /// `+U`: the new row of an update.
    After = 2,
    /// `-D`: a row that is gone, in full.
    Delete = 3,
}

impl Kind {
    /// The kind with this number.
    pub fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Insert),
            1 => Some(Self::Before),
            2 => Some(Self::After),
            3 => Some(Self::Delete),
            _ => None,
        }
    }

    /// As `_op` says it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::Before => "-U",
            Self::After => "+U",
            Self::Delete => "-D",
        }
    }

    /// Whether the row is taken back.
    pub fn retracts(self) -> bool {
        matches!(self, Self::Before | Self::Delete)
    }
}

const BEFORE: u8 = Kind::Before as u8;
const AFTER: u8 = Kind::After as u8;

/// The kinds of the rows that stay, which are those at `stays`: a half of an update whose other
/// half is not directly beside it any more becomes a delete or an insert.
pub(super) fn stay(kinds: &UInt8Array, stays: impl Iterator<Item = usize>) -> UInt8Array {
    let mut out: Vec<u8> = Vec::new();
    let mut last: Option<usize> = None;
    // The row before is a `-U` that waits for its other half.
    let mut open = false;
    for row in stays {
        let kind = kinds.value(row);
        let follows = open && kind == AFTER && last.is_some_and(|last| last + 1 == row);
        if open
            && !follows
            && !planted(Planted::HalfUpdateKept)
            && let Some(before) = out.last_mut()
        {
            *before = Kind::Delete as u8;
        }
        out.push(if kind == AFTER && !follows { Kind::Insert as u8 } else { kind });
        open = kind == BEFORE;
        last = Some(row);
    }
    if open
        && !planted(Planted::HalfUpdateKept)
        && let Some(before) = out.last_mut()
    {
        *before = Kind::Delete as u8;
    }
    UInt8Array::from(out)
}

/// The first place from `at` on where a cut separates no update.
pub(super) fn cut(kinds: &UInt8Array, at: usize) -> usize {
    let inside = 0 < at && at < kinds.len() && kinds.value(at) == AFTER;
    at + usize::from(inside && kinds.value(at - 1) == BEFORE)
}
