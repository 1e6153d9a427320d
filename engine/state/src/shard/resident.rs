//! Rows that stay in memory after their flush: what was written lately is read again soon, and a
//! row in memory costs a fraction of one in a block.
//!
//! They share the cache's limit with the blocks and go, a whole memtable at a time and the oldest
//! first, when they do not fit.
//!
//! What must stay true: these are the memtables that were flushed last, without a gap, so that
//! what one of them has of a key is as new as what the files have. An operand of a list is in the
//! files as well: it ends the search here, or it would count twice.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::key::StateKey;
use crate::memtable::{Memtable, Point, Points};
use crate::store::StateStore;

/// Each one more is a further place where a row is looked for.
const RESIDENT_MAX: usize = 2;

/// Flushed memtables of one shard, newest first.
#[derive(Debug)]
pub(super) struct Resident {
    store: Arc<StateStore>,
    rows: VecDeque<Rows>,
}

#[derive(Debug)]
struct Rows {
    points: Points,
    bytes: usize,
}

impl Resident {
    pub(super) fn new(store: &Arc<StateStore>) -> Self {
        Self { store: Arc::clone(store), rows: VecDeque::new() }
    }

    /// The newest value of a key, if it is here.
    #[inline]
    pub(super) fn get(&self, key: &StateKey) -> Option<Point<'_>> {
        let mut points =
            self.rows.iter().filter_map(|rows| rows.points.get(key.hash(), key.as_bytes()));
        points.next().filter(|point| !matches!(point, Point::Append(_)))
    }

    /// Keeps a memtable whose files were installed just now, if it fits.
    pub(super) fn add(&mut self, memtable: Arc<Memtable>) {
        let Some(memtable) = Arc::into_inner(memtable) else {
            // Somebody still reads it. Without it the older ones are not the newest any more.
            return self.clear();
        };
        let points = memtable.into_points();
        let bytes = points.bytes();
        while self.rows.len() >= RESIDENT_MAX {
            self.drop_oldest();
        }
        while !self.store.reserve_rows(bytes) {
            if self.rows.is_empty() {
                return;
            }
            self.drop_oldest();
        }
        self.rows.push_front(Rows { points, bytes });
    }

    fn clear(&mut self) {
        while !self.rows.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.rows.pop_back() {
            self.store.release_rows(oldest.bytes);
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.clear();
    }
}
