//! A sorted run of table files, walked by blocks: one flush of level 0, or one deeper level.

use std::sync::Arc;

use bytes::Bytes;

use crate::entry::Entry;
use crate::error::StateError;
use crate::key;
use crate::store::Parts;
use crate::table::{BlockCursor, Damage, Tail};
use crate::version::{LEVEL_MAX, Version, View};

/// Once a run is walked past a block, as many further blocks are asked for at once, twice as many
/// each time, up to this number.
const AHEAD_BLOCKS_MAX: usize = 16;

/// Views with disjoint keys, in key order, from one key up to another.
#[derive(Debug)]
pub(super) struct Run {
    views: std::vec::IntoIter<View>,
    start: Bytes,
    end: Bytes,
    open: Option<OpenView>,
    ahead: usize,
}

/// The view in which a run stands.
#[derive(Debug)]
struct OpenView {
    view: View,
    start: Bytes,
    end: Bytes,
    tail: Option<Arc<Tail>>,
    /// The block that comes next, once the tail was asked.
    next_block: Option<usize>,
    cursor: Option<BlockCursor>,
}

impl Run {
    /// The runs of a version that have views between the keys, newest first.
    pub(super) fn all(version: &Version, start: &Bytes, end: &Bytes) -> Vec<Self> {
        let flushes = version.level(0).chunk_by(|one, two| one.seq == two.seq);
        let levels = (1..=LEVEL_MAX).map(|level| version.level(level));
        let runs = flushes.chain(levels).map(|views| Self::of(views, start, end));
        runs.filter(|run| run.views.len() > 0).collect()
    }

    fn of(views: &[View], start: &Bytes, end: &Bytes) -> Self {
        let overlaps = |view: &&View| view.last >= *start && view.first < *end;
        let views: Vec<View> = views.iter().filter(overlaps).cloned().collect();
        Self {
            views: views.into_iter(),
            start: start.clone(),
            end: end.clone(),
            open: None,
            ahead: 0,
        }
    }

    /// Makes the run stand at an entry or its end; false while parts are wanted.
    pub(super) fn settle(&mut self, parts: &mut Parts) -> Result<bool, StateError> {
        loop {
            let Some(open) = &mut self.open else {
                let Some(view) = self.views.next() else { return Ok(true) };
                self.open = Some(OpenView::new(view, &self.start, &self.end));
                continue;
            };
            if open.cursor.is_some() {
                return Ok(true);
            }
            match open.find_entry(&mut self.ahead, parts)? {
                Found::Entry => return Ok(true),
                Found::Wanted => return Ok(false),
                Found::End => self.open = None,
            }
        }
    }

    /// The key where the settled run stands.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.open.as_ref()?.cursor.as_ref().map(BlockCursor::key)
    }

    /// The entry where the run stands; it must be settled again after.
    pub(super) fn take(&mut self, parts: &Parts) -> Result<Option<Entry>, StateError> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let Some(mut cursor) = open.cursor.take() else { return Ok(None) };
        let entry = cursor.entry();
        let more = cursor.advance();
        open.stand(cursor, more, parts)?;
        Ok(Some(entry))
    }
}

enum Found {
    Entry,
    Wanted,
    End,
}

impl OpenView {
    /// The part of a view between the keys, inside the view's key groups.
    fn new(view: View, start: &Bytes, end: &Bytes) -> Self {
        let (first, last) = key::range_keys(view.range);
        Self {
            start: first.max(start.clone()),
            end: last.min(end.clone()),
            view,
            tail: None,
            next_block: None,
            cursor: None,
        }
    }

    /// Opens blocks until one has an entry of the stretch.
    fn find_entry(&mut self, ahead: &mut usize, parts: &mut Parts) -> Result<Found, StateError> {
        let Some(tail) = self.tail.clone().or_else(|| parts.tail(&self.view.table)) else {
            return Ok(Found::Wanted);
        };
        self.tail = Some(Arc::clone(&tail));
        while self.cursor.is_none() {
            let first = || tail.block_for(&self.start).unwrap_or(usize::MAX);
            let number = self.next_block.unwrap_or_else(first);
            let Some(handle) = tail.block(number).filter(|_| self.reaches(&tail, number)) else {
                return Ok(Found::End);
            };
            self.next_block = Some(number);
            let Some(block) = parts.take_block(&self.view.table, handle) else {
                self.want_ahead(&tail, number, *ahead, parts);
                *ahead = (*ahead * 2).clamp(1, AHEAD_BLOCKS_MAX);
                return Ok(Found::Wanted);
            };
            self.next_block = Some(number + 1);
            let mut cursor = BlockCursor::new(block);
            let found = cursor.seek(&self.start);
            self.stand(cursor, found, parts)?;
        }
        Ok(Found::Entry)
    }

    /// Stands at the cursor's entry, if it found one before the end.
    fn stand(
        &mut self,
        cursor: BlockCursor,
        found: Result<bool, Damage>,
        parts: &Parts,
    ) -> Result<(), StateError> {
        let found = found.map_err(|damage| parts.damaged(&self.view.table, damage))?;
        let inside = found && cursor.key() < &self.end[..];
        self.cursor = inside.then_some(cursor);
        Ok(())
    }

    /// Whether a block may begin before the end.
    fn reaches(&self, tail: &Tail, number: usize) -> bool {
        number.checked_sub(1).is_none_or(|before| tail.last_key(before) < &self.end[..])
    }

    fn want_ahead(&self, tail: &Tail, number: usize, blocks: usize, parts: &mut Parts) {
        for next in number + 1..=number.saturating_add(blocks) {
            match tail.block(next).filter(|_| self.reaches(tail, next)) {
                Some(handle) => parts.want_block(&self.view.table, handle),
                None => return,
            }
        }
    }
}
