//! Point reads of many keys at once in the table files of a version.
//!
//! Keys are sorted, so keys of one block come together. Each key goes through the views that may
//! hold it, newest first, past filters, until its content is known. The first round asks for one
//! block a key; a key that needs more (an operand of a list, a filter's false positive) asks for
//! all its further candidates at once, so a read takes few rounds however deep the shard is.

use std::sync::Arc;

use bytes::Bytes;

use crate::access::Answers;
use crate::entry::{Entry, Fold};
use crate::error::StateError;
use crate::steps::Steps;
use crate::store::Parts;
use crate::table::{Block, BlockHandle, Tail};
use crate::version::{Version, View};

/// A point read that goes on.
#[derive(Debug)]
pub(crate) struct Lookup {
    version: Arc<Version>,
    /// Per view: its tail, and the block that was looked into last.
    views: Vec<OpenView>,
    open: Vec<OpenKey>,
    answers: Answers,
}

#[derive(Debug, Default)]
struct OpenView {
    tail: Option<Arc<Tail>>,
    block: Option<(usize, Arc<Block>)>,
}

/// A key that memory did not settle.
#[derive(Debug)]
pub(crate) struct Unsettled {
    /// Where its value goes.
    pub(crate) slot: usize,
    pub(crate) key: Bytes,
    pub(crate) hash: u64,
    /// What is known so far.
    pub(crate) fold: Fold,
}

/// A key whose content is not known yet.
#[derive(Debug)]
struct OpenKey {
    /// Where its value goes.
    slot: usize,
    key: Bytes,
    hash: u64,
    fold: Fold,
    /// Views still to be looked into, the newest last.
    views: Vec<usize>,
    /// Whether a block was already waited for.
    waited: bool,
}

/// What a view says about a key.
enum Looked {
    Found(Option<Entry>),
    Wanted,
}

impl Lookup {
    /// A read in `version`, for keys that memory did not settle; `answers` has the others.
    pub(crate) fn new(version: Arc<Version>, unsettled: Vec<Unsettled>, answers: Answers) -> Self {
        let mut views = Vec::new();
        let open = unsettled.into_iter().map(|Unsettled { slot, key, hash, fold }| {
            version.candidates(&key, &mut views);
            let views = views.iter().rev().copied().collect();
            OpenKey { slot, hash, key, fold, views, waited: false }
        });
        let mut open: Vec<OpenKey> = open.collect();
        open.sort_by(|one, two| one.key.cmp(&two.key));
        let mut views = Vec::new();
        views.resize_with(version.file_count(), OpenView::default);
        Self { version, views, open, answers }
    }

    /// Goes through a key's views as far as they are in memory; true once its content is known.
    fn advance(&mut self, key: &mut OpenKey, parts: &mut Parts) -> Result<bool, StateError> {
        while let Some(index) = key.views.last().copied() {
            match self.look(index, key, parts)? {
                Looked::Wanted => {
                    parts.look_ahead(true);
                    self.want_rest(key, parts);
                    parts.look_ahead(false);
                    key.waited = true;
                    return Ok(false);
                }
                Looked::Found(entry) => {
                    key.views.pop();
                    if entry.is_some_and(|entry| key.fold.push(entry)) {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(true)
    }

    /// What the view holds for the key.
    fn look(
        &mut self,
        index: usize,
        key: &OpenKey,
        parts: &mut Parts,
    ) -> Result<Looked, StateError> {
        let Some(block) = self.place(index, key, parts) else { return Ok(Looked::Wanted) };
        let Some((number, handle)) = block else { return Ok(Looked::Found(None)) };
        let view = &self.version.views()[index];
        let open = &mut self.views[index];
        let block = match &open.block {
            Some((last, block)) if *last == number => Arc::clone(block),
            _ => {
                let Some(block) = parts.block(&view.table, handle) else {
                    return Ok(Looked::Wanted);
                };
                open.block = Some((number, Arc::clone(&block)));
                block
            }
        };
        match block.get(&key.key) {
            Ok(entry) => Ok(Looked::Found(entry)),
            Err(damage) => Err(parts.damaged(&view.table, damage)),
        }
    }

    /// The block of the view that may hold the key, by index and filter; `None` while the tail is
    /// not in memory.
    fn place(
        &mut self,
        index: usize,
        key: &OpenKey,
        parts: &mut Parts,
    ) -> Option<Option<(usize, BlockHandle)>> {
        let view: &View = &self.version.views()[index];
        let open = &mut self.views[index];
        if open.tail.is_none() {
            open.tail = parts.tail(&view.table);
        }
        let tail = open.tail.as_ref()?;
        if !tail.may_contain(key.hash) {
            return Some(None);
        }
        let number = tail.block_for(&key.key);
        Some(number.and_then(|number| tail.block(number).map(|handle| (number, handle))))
    }

    /// Asks for what the key may need after its newest view: all tails, and all blocks if one
    /// block was not enough.
    fn want_rest(&mut self, key: &OpenKey, parts: &mut Parts) {
        let more = key.waited || key.fold.has_operands();
        for index in key.views.iter().rev().skip(1) {
            let place = self.place(*index, key, parts);
            if let (true, Some(Some((_, handle)))) = (more, place) {
                parts.block(&self.version.views()[*index].table, handle);
            }
        }
    }
}

impl Steps for Lookup {
    type Output = Vec<Option<Bytes>>;

    fn step(&mut self, parts: &mut Parts) -> Result<Option<Self::Output>, StateError> {
        let mut still_open = Vec::new();
        for mut key in std::mem::take(&mut self.open) {
            if self.advance(&mut key, parts)? {
                if let Some(value) = key.fold.value() {
                    self.answers.set(key.slot, &value);
                }
            } else {
                still_open.push(key);
            }
        }
        self.open = still_open;
        Ok(self.open.is_empty().then(|| std::mem::take(&mut self.answers).finish()))
    }
}
