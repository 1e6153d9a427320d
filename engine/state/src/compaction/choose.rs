//! What to merge next: a pure function of a version's metadata.

use super::{Compaction, RUNS_MAX, TIER_RUNS};
use crate::version::{LEVEL_MAX, Version, View};

/// A level may be this many times as large as the one above.
const LEVEL_RATIO: u64 = 10;
/// Level 0 goes to level 1 once this many times its bytes are at least those it overlaps there.
const OVERLAP_RATIO: u64 = 4;
/// Runs are of like size when together they are at least this many times as large as the oldest.
const TIER_RATIO: u64 = 3;

/// The compaction that the version needs most; `None` if it needs none. Level 1 may have
/// `level_bytes`, each deeper one ten times the one above.
pub(crate) fn choose(version: &Version, level_bytes: u64) -> Option<Compaction> {
    if let Some(compaction) = merge_level_0(version) {
        return Some(compaction);
    }
    let mut limit = level_bytes;
    for level in 1..LEVEL_MAX {
        let views = version.level(level);
        if bytes_of(views) > limit {
            return push_down(version, views);
        }
        limit = limit.saturating_mul(LEVEL_RATIO);
    }
    None
}

/// Number of runs in level 0.
pub(crate) fn run_count(version: &Version) -> usize {
    runs(version).len()
}

/// The flushes (or merges of them) in level 0, newest first.
fn runs(version: &Version) -> Vec<&[View]> {
    version.level(0).chunk_by(|one, two| one.seq == two.seq).collect()
}

fn merge_level_0(version: &Version) -> Option<Compaction> {
    let runs = runs(version);
    if runs.len() < TIER_RUNS {
        return None;
    }
    let level_0 = version.level(0);
    let below = overlapping(version.level(1), level_0);
    if bytes_of(level_0) * OVERLAP_RATIO >= bytes_of(&below) {
        return Some(compaction(version, [level_0.to_vec(), below].concat(), 1));
    }
    let sizes: Vec<u64> = runs.iter().map(|run| bytes_of(run)).collect();
    tier(&sizes).map(|newest| compaction(version, runs[..newest].concat(), 0))
}

/// How many of the newest runs to merge: the most whose sizes are alike. If there are too many
/// runs, those before the steepest rise of sizes.
///
/// With runs of any sizes a byte is rewritten about as often as the logarithm of their number
/// says; the tests hold it to that.
fn tier(sizes: &[u64]) -> Option<usize> {
    let sums = sizes.iter().scan(0, |sum, bytes| {
        *sum += bytes;
        Some(*sum)
    });
    let sums: Vec<u64> = sums.collect();
    let alike = |newest: &usize| sums[newest - 1] >= TIER_RATIO * sizes[newest - 1];
    if let Some(newest) = (TIER_RUNS..=sizes.len()).rev().find(alike) {
        return Some(newest);
    }
    // In hundredths.
    let rise = |newest: &usize| {
        let next = sizes.get(*newest).unwrap_or(&sums[newest - 1]);
        next * 100 / sums[newest - 1].max(1)
    };
    let steepest = (2..=sizes.len()).rev().max_by_key(rise);
    steepest.filter(|_| sizes.len() >= RUNS_MAX)
}

/// The view of an overfull level that costs least to merge into the next one.
fn push_down(version: &Version, views: &[View]) -> Option<Compaction> {
    let level = views.first()?.level + 1;
    let below = |view: &View| overlapping(version.level(level), std::slice::from_ref(view));
    // Bytes rewritten for each byte moved down, in hundredths.
    let cost = |view: &View| bytes_of(&below(view)) * 100 / view.bytes.max(1);
    let cheapest = views.iter().min_by_key(|view| cost(view))?;
    Some(compaction(version, [vec![cheapest.clone()], below(cheapest)].concat(), level))
}

fn compaction(version: &Version, inputs: Vec<View>, level: u32) -> Compaction {
    let seq = inputs.iter().map(|view| view.seq).max().unwrap_or_default();
    let oldest = inputs.iter().filter(|view| view.level == 0).map(|view| view.seq).min();
    let is_input = |view: &View| inputs.iter().any(|input| input.is_same(view));
    let is_older = |view: &View| match view.level {
        0 => oldest.is_some_and(|oldest| view.seq < oldest),
        _ => !is_input(view),
    };
    let older: Vec<View> = version.views().iter().filter(|view| is_older(view)).cloned().collect();
    let is_bottom = overlapping(&older, &inputs).is_empty();
    Compaction { inputs, level, seq, is_bottom }
}

/// The views that overlap the stretch of keys from the first to the last of `hull`: outputs of a
/// merge may span all of it.
fn overlapping(views: &[View], hull: &[View]) -> Vec<View> {
    let first = hull.iter().map(|view| &view.first).min();
    let last = hull.iter().map(|view| &view.last).max();
    let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
    let overlaps = |view: &&View| view.first <= *last && *first <= view.last;
    views.iter().filter(overlaps).cloned().collect()
}

fn bytes_of(views: &[View]) -> u64 {
    views.iter().map(|view| view.bytes).sum()
}

#[cfg(test)]
mod tests;
