//! What changed between two checkpoints' shards, and back. Pure.
//!
//! A shard of the new checkpoint is compared with what its key groups held in the base: the shard
//! of the same range, or the clipped views of those that overlap it when the ranges changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{ShardDelta, ShardRef, ViewRef};
use super::state::{ShardKey, Shards};
use crate::ids::KeyGroupRange;
use crate::version::record::{VersionRecord, ViewRecord};

/// Why shards or a delta make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// Key groups that are no range.
    #[error("step {step}: {start}..{end} is no range of key groups")]
    NoRange {
        /// Step.
        step: String,
        /// First key group.
        start: u32,
        /// One past the last key group.
        end: u32,
    },
    /// Two shards of a step share key groups.
    #[error("step {step}: shards {first} and {second} overlap")]
    Overlap {
        /// Step.
        step: String,
        /// One range.
        first: KeyGroupRange,
        /// The other.
        second: KeyGroupRange,
    },
    /// One view comes twice in a shard.
    #[error("step {step}, shard {range}: view of {name} comes twice")]
    Twice {
        /// Step.
        step: String,
        /// The shard's key groups.
        range: KeyGroupRange,
        /// The object.
        name: String,
    },
    /// A delta removes or drops what is not there.
    #[error("step {step}, shard {range}: {what} is not in the base checkpoint")]
    NotThere {
        /// Step.
        step: String,
        /// The shard's key groups.
        range: KeyGroupRange,
        /// What is missing.
        what: String,
    },
}

type Views = BTreeMap<ViewRef, ViewRecord>;

/// The shards that versions (as acknowledged) make up; views are put in one order.
pub fn shards(versions: impl IntoIterator<Item = VersionRecord>) -> Result<Shards, DeltaError> {
    let mut shards = Shards::new();
    for version in versions {
        let key = ShardKey::of(&version).ok_or_else(|| DeltaError::NoRange {
            step: version.step.clone(),
            start: version.group_start,
            end: version.group_end,
        })?;
        let views = by_ref(&key, version.views.clone())?;
        let version = VersionRecord { views: in_order(views), ..version };
        if shards.insert(key.clone(), Arc::new(version)).is_some() {
            let (first, second) = (key.range, key.range);
            return Err(DeltaError::Overlap { step: key.step, first, second });
        }
    }
    disjoint(&shards)?;
    Ok(shards)
}

/// What takes `base` to `next`: deltas of changed shards, and shards that are no more.
pub fn diff(base: &Shards, next: &Shards) -> Result<(Vec<ShardDelta>, Vec<ShardRef>), DeltaError> {
    let mut deltas = Vec::new();
    for (key, version) in next {
        if base.get(key).is_some_and(|old| Arc::ptr_eq(old, version) || old == version) {
            continue;
        }
        let old = inherited(base, key)?;
        let new = by_ref(key, version.views.clone())?;
        let gone = |(view, record): &(&ViewRef, &ViewRecord)| new.get(*view) != Some(*record);
        let removed = old.iter().filter(gone).map(|(view, _)| view.clone()).collect();
        let fresh = |(view, record): &(&ViewRef, &ViewRecord)| old.get(*view) != Some(*record);
        let added = new.iter().filter(fresh).map(|(_, record)| record.clone()).collect();
        let next_seq = version.next_seq;
        deltas.push(ShardDelta { shard: key.to_ref(), removed, added, next_seq });
    }
    let dropped = base.keys().filter(|key| !next.contains_key(key)).map(ShardKey::to_ref).collect();
    Ok((deltas, dropped))
}

/// The shards that `deltas` and `dropped` make of `base`.
pub fn apply(
    base: &Shards,
    deltas: &[ShardDelta],
    dropped: &[ShardRef],
) -> Result<Shards, DeltaError> {
    let mut next = base.clone();
    for shard in dropped {
        let key = key_of(shard)?;
        if next.remove(&key).is_none() {
            return Err(not_there(&key, "the shard".to_owned()));
        }
    }
    for delta in deltas {
        let key = key_of(&delta.shard)?;
        let mut views = inherited(base, &key)?;
        for view in &delta.removed {
            if views.remove(view).is_none() {
                return Err(not_there(&key, format!("a view of {}", view.name)));
            }
        }
        for record in &delta.added {
            if views.insert(view_ref(record), record.clone()).is_some() {
                let (step, range, name) = (key.step, key.range, record.name.clone());
                return Err(DeltaError::Twice { step, range, name });
            }
        }
        let version = VersionRecord {
            step: key.step.clone(),
            group_start: key.range.start.into(),
            group_end: key.range.end.into(),
            views: in_order(views),
            next_seq: delta.next_seq,
        };
        next.insert(key, Arc::new(version));
    }
    disjoint(&next)?;
    Ok(next)
}

/// What the key groups of `key` held in `base`: its own shard's views, or those of overlapping
/// shards, clipped.
fn inherited(base: &Shards, key: &ShardKey) -> Result<Views, DeltaError> {
    if let Some(version) = base.get(key) {
        return by_ref(key, version.views.clone());
    }
    let of_step = base.iter().filter(|(old, _)| old.step == key.step);
    let overlapping = of_step.filter(|(old, _)| old.range.intersect(key.range).is_some());
    let clipped = overlapping.flat_map(|(_, version)| &version.views).filter_map(|view| {
        let group_start = view.group_start.max(key.range.start.into());
        let group_end = view.group_end.min(key.range.end.into());
        (group_start < group_end).then(|| ViewRecord { group_start, group_end, ..view.clone() })
    });
    by_ref(key, clipped.collect())
}

fn by_ref(key: &ShardKey, records: Vec<ViewRecord>) -> Result<Views, DeltaError> {
    let mut views = Views::new();
    for record in records {
        if let Some(other) = views.insert(view_ref(&record), record) {
            let (step, range) = (key.step.clone(), key.range);
            return Err(DeltaError::Twice { step, range, name: other.name });
        }
    }
    Ok(views)
}

/// The views, level by level, newest first, then by key group.
fn in_order(views: Views) -> Vec<ViewRecord> {
    let mut views: Vec<ViewRecord> = views.into_values().collect();
    views.sort_by(|a, b| {
        let place = |view: &ViewRecord| (view.level, u64::MAX - view.seq, view.group_start);
        place(a).cmp(&place(b)).then_with(|| a.first_key.cmp(&b.first_key)).then_with(|| a.cmp(b))
    });
    views
}

/// Shards are in order of step and first key group, so only neighbours can overlap first.
fn disjoint(shards: &Shards) -> Result<(), DeltaError> {
    for (first, second) in shards.keys().zip(shards.keys().skip(1)) {
        if first.step == second.step && first.range.intersect(second.range).is_some() {
            let step = first.step.clone();
            return Err(DeltaError::Overlap { step, first: first.range, second: second.range });
        }
    }
    Ok(())
}

fn view_ref(record: &ViewRecord) -> ViewRef {
    let (group_start, group_end) = (record.group_start, record.group_end);
    ViewRef { name: record.name.clone(), group_start, group_end }
}

fn key_of(shard: &ShardRef) -> Result<ShardKey, DeltaError> {
    ShardKey::from_ref(shard).ok_or_else(|| DeltaError::NoRange {
        step: shard.step.clone(),
        start: shard.group_start,
        end: shard.group_end,
    })
}

fn not_there(key: &ShardKey, what: String) -> DeltaError {
    DeltaError::NotThere { step: key.step.clone(), range: key.range, what }
}

#[cfg(test)]
mod tests;
