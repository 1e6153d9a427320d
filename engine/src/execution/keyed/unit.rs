//! Entries and units: what rows of a batch become before state is touched.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use weir_expr::{Aggregates, State};
use weir_state::Pending;
use weir_state::StateError;
use weir_state::key::StateKey;

use crate::execution::epochs::Epoch;
use crate::execution::window::Window;

/// What a partial value takes up in memory, roughly, in bytes.
const PARTIAL_BYTES: usize = 128;

/// Rows of one key that change a value in one step.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// What the rows add to the value.
    pub(crate) partial: State,
    /// The first time among them: of a session the least, of a life that of its first row.
    pub(crate) first_ms: i64,
    /// The greatest time among them.
    pub(crate) last_ms: i64,
    /// By which time it is judged what had ended when they arrived: the watermark, or the clock
    /// where rows have no time.
    pub(crate) now_ms: i64,
    /// How many rows there are.
    pub(crate) rows: usize,
}

/// The combined rows of one key in one place of the state.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Canonical key; shares its batch's memory.
    pub(crate) key: Bytes,
    /// Where the value lies.
    pub(crate) state_key: StateKey,
    /// The window; of sessions and groups without a window none.
    pub(crate) window: Window,
    /// What the rows do.
    pub(crate) piece: Piece,
    /// What later rows do that must not be combined with earlier ones, in order of arrival.
    pub(crate) later: Vec<Piece>,
    /// How many rows arrived, in which epoch.
    pub(crate) arrived: (Epoch, usize),
}

impl Entry {
    /// What it takes up while it is in flight, roughly.
    pub(crate) fn bytes(&self) -> usize {
        PARTIAL_BYTES * (1 + self.later.len()) + 2 * self.state_key.as_bytes().len()
    }

    /// What the rows do, in order of arrival.
    pub(crate) fn pieces(self) -> impl Iterator<Item = Piece> {
        std::iter::once(self.piece).chain(self.later)
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        let later: usize = self.later.iter().map(|piece| piece.rows).sum();
        self.piece.rows + later
    }

    /// Adds later rows of the same place.
    pub(crate) fn join(&mut self, later: Piece, how: Joining<'_>) {
        match how {
            Joining::Folded(aggregates) => {
                let into = &mut self.piece;
                aggregates.merge(&mut into.partial, &later.partial);
                into.last_ms = into.last_ms.max(later.last_ms);
                into.rows += later.rows;
            }
            Joining::InOrder => self.later.push(later),
        }
    }
}

/// How rows of one place that arrived apart are put together.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Joining<'a> {
    /// As one: nothing depends on what lies between them.
    Folded(&'a Aggregates),
    /// One behind the other.
    InOrder,
}

/// Entries that ask for their state together. Each key's are all in one unit.
#[derive(Debug, Default)]
pub(crate) struct Unit {
    /// Distinct keys.
    pub(crate) keys: Vec<Bytes>,
    /// Distinct (key, window) pairs.
    pub(crate) entries: Vec<Entry>,
    /// Rows by the epoch in which they arrived.
    pub(crate) arrived: Vec<(Epoch, usize)>,
    /// What its entries counted when they arrived, in bytes.
    pub(crate) bytes: usize,
}

impl Unit {
    /// Adds all entries of one key, in order of arrival; those of one window become one.
    pub(crate) fn add_key(&mut self, key: Bytes, entries: Vec<Entry>, how: Joining<'_>) {
        let first = self.entries.len();
        for entry in entries {
            self.count(&entry);
            let same = self.entries[first..].iter_mut().find(|have| have.window == entry.window);
            match same {
                Some(have) => entry.pieces().for_each(|piece| have.join(piece, how)),
                None => self.entries.push(entry),
            }
        }
        self.keys.push(key);
    }

    /// Adds an entry whose key and window are not in the unit; the caller adds the key.
    pub(crate) fn add(&mut self, entry: Entry) {
        self.count(&entry);
        self.entries.push(entry);
    }

    fn count(&mut self, entry: &Entry) {
        self.bytes += entry.bytes();
        let (epoch, rows) = entry.arrived;
        match self.arrived.last_mut() {
            Some((last, count)) if *last == epoch => *count += rows,
            _ => self.arrived.push((epoch, rows)),
        }
    }
}

/// A parked unit.
pub(crate) struct UnitRead {
    unit: Option<Unit>,
    read: Pending<Vec<Option<Bytes>>>,
}

impl UnitRead {
    /// `unit` waits for `read`.
    pub(crate) fn new(unit: Unit, read: Pending<Vec<Option<Bytes>>>) -> Self {
        Self { unit: Some(unit), read }
    }
}

impl Future for UnitRead {
    type Output = (Unit, Result<Vec<Option<Bytes>>, StateError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let read = &mut self.read;
        read.poll_unpin(cx).map(|values| (self.unit.take().unwrap_or_default(), values))
    }
}
