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

/// The combined rows of one key in one window.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Canonical key; shares its batch's memory.
    pub(crate) key: Bytes,
    /// Where the value lies.
    pub(crate) state_key: StateKey,
    /// The window.
    pub(crate) window: Window,
    /// What the rows add to the value.
    pub(crate) partial: State,
    /// How many rows there are, of which epoch.
    pub(crate) arrived: (Epoch, usize),
}

impl Entry {
    /// What it takes up while it is in flight, roughly.
    pub(crate) fn bytes(&self) -> usize {
        PARTIAL_BYTES + 2 * self.state_key.as_bytes().len()
    }
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
    pub(crate) fn add_key(&mut self, key: Bytes, entries: Vec<Entry>, aggregates: &Aggregates) {
        let first = self.entries.len();
        for entry in entries {
            self.count(&entry);
            let same = self.entries[first..].iter_mut().find(|have| have.window == entry.window);
            match same {
                Some(have) => aggregates.merge(&mut have.partial, &entry.partial),
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
