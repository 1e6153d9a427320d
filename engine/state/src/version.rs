//! A version: the list of views that is a shard's content. Immutable values; metadata only.
//!
//! - `view.rs` — a table file clipped to a range of key groups, at its place in a shard.
//! - `change.rs` — the changes, each giving a new version: flush, compaction, clip, merge.
//! - `check.rs` — the rules below as functions; they run before a version is installed.
//! - `record.rs` — how versions are written into records and acknowledgements.
//!
//! # What must stay true
//!
//! 1. Level 0 holds flushes, newest (largest `seq`) first; files of one flush have disjoint keys.
//! 2. Each deeper level is sorted by key and its views are disjoint.
//! 3. Of two entries of one key, the one in the lower level is newer; within level 0 the one with
//!    the larger `seq`.
//! 4. Every view lies inside the version's range of key groups, and below `next_seq`.

mod change;
mod check;
pub mod record;
mod view;

use weir_runtime::sim::planted::{Planted, planted};

use crate::error::StateError;
use crate::ids::KeyGroupRange;

pub(crate) use self::view::{TableHandle, TableMeta, View};
use record::VersionRecord;

/// Levels are numbered from 0 to this one.
pub(crate) const LEVEL_MAX: u32 = 6;

/// The content of one shard at one moment, as views of table files. Cheap to share, never changed.
#[derive(Clone, Debug)]
pub struct Version {
    step: String,
    range: KeyGroupRange,
    /// Ordered by level; level 0 by `seq`, newest first; deeper levels by key.
    views: Vec<View>,
    next_seq: u64,
}

impl Version {
    /// The version of a shard that holds nothing.
    pub fn empty(step: &str, range: KeyGroupRange) -> Self {
        Self { step: step.to_owned(), range, views: Vec::new(), next_seq: 1 }
    }

    /// Reads a version as an acknowledgement or record carries it.
    ///
    /// Errors: [`StateError::BadVersion`] when it breaks a rule of versions.
    pub fn from_record(record: &VersionRecord) -> Result<Self, StateError> {
        let bad = |problem| StateError::BadVersion { step: record.step.clone(), problem };
        let range = view::range_of(record.group_start, record.group_end).map_err(bad)?;
        let views: Result<_, String> = record.views.iter().map(View::from_record).collect();
        let mut version = Self {
            step: record.step.clone(),
            range,
            views: views.map_err(bad)?,
            next_seq: record.next_seq,
        };
        version.sort();
        version.check().map_err(bad)?;
        Ok(version)
    }

    /// The version as acknowledgements and records carry it.
    pub fn to_record(&self) -> VersionRecord {
        VersionRecord {
            step: self.step.clone(),
            group_start: u32::from(self.range.start),
            group_end: u32::from(self.range.end),
            views: self.views.iter().map(View::to_record).collect(),
            next_seq: self.next_seq,
        }
    }

    /// The content of `range` of `step` that older shards' records hold: each is clipped and all
    /// are put side by side. Records of other steps and ranges are passed over.
    ///
    /// Errors: [`StateError::BadVersion`] when a record breaks a rule, or when the records hold
    /// only a part of `range` (none at all: the step is new and its state empty).
    pub fn restore(
        step: &str,
        range: KeyGroupRange,
        records: &[VersionRecord],
    ) -> Result<Self, StateError> {
        let mut parts = Vec::new();
        for record in records.iter().filter(|record| record.step == step) {
            parts.extend(Self::from_record(record)?.clip(range));
        }
        if parts.is_empty() {
            return Ok(Self::empty(step, range));
        }
        let mut whole = Self::merge(parts)?;
        if planted(Planted::RestoreIgnoresView) {
            whole.views.pop();
        }
        if whole.range == range {
            return Ok(whole);
        }
        let problem = format!("records hold key groups {} of {range}", whole.range);
        Err(StateError::BadVersion { step: step.to_owned(), problem })
    }

    /// Id of the step whose state this is.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// The key groups.
    pub fn range(&self) -> KeyGroupRange {
        self.range
    }

    /// How many views there are: the files of the shard.
    pub fn file_count(&self) -> usize {
        self.views.len()
    }

    /// Stored bytes of all views (estimated by key groups where a file is clipped).
    pub fn bytes(&self) -> u64 {
        self.views.iter().map(|view| view.bytes).sum()
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    pub(crate) fn views(&self) -> &[View] {
        &self.views
    }

    /// The views of one level, in the level's order.
    pub(crate) fn level(&self, level: u32) -> &[View] {
        let (start, end) = self.level_bounds(level);
        &self.views[start..end]
    }

    fn level_bounds(&self, level: u32) -> (usize, usize) {
        let start = self.views.partition_point(|view| view.level < level);
        let end = self.views.partition_point(|view| view.level <= level);
        (start, end)
    }

    /// Indices of the views that may hold `key`, newest first.
    pub(crate) fn candidates(&self, key: &[u8], found: &mut Vec<usize>) {
        found.clear();
        let (_, level_0_end) = self.level_bounds(0);
        found.extend((0..level_0_end).filter(|index| self.views[*index].covers(key)));
        let mut start = level_0_end;
        while let Some(level) = self.views.get(start).map(|view| view.level) {
            let (_, end) = self.level_bounds(level);
            let after = self.views[start..end].partition_point(|view| view.first <= key);
            if after > 0 && self.views[start + after - 1].covers(key) {
                found.push(start + after - 1);
            }
            start = end;
        }
    }

    fn sort(&mut self) {
        self.views.sort_by(View::order);
    }
}

#[cfg(test)]
mod tests;
