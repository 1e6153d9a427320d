//! Timers and which of them are due.
//!
//! A timer is an entry whose key begins with its time. What is due is found by one short scan per
//! key group that may have something due. What is known of each group's earliest timer spares the
//! other groups, and lets a scan begin behind the tombstones of timers that have fired.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Shard;
use super::read::live;
use crate::access::Access;
use crate::ids::{KeyGroup, KeyGroupRange};
use crate::key::{self, Timer};
use crate::scan::{Chunk, Scans};
use crate::steps;

/// Timers of one key group that are looked for, at least.
const GROUP_TIMERS_MIN: usize = 64;

/// Timers that are due, in time order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueTimers {
    /// In time order; of one time, by key group, key and namespace.
    pub timers: Vec<Timer>,
    /// Whether more may be due, none of them earlier than these. Ask again once these are removed
    /// from the state. Where there is no timer, there is no more.
    pub more: bool,
}

/// What is known of the earliest timer of each key group, without reading. Shared with the scans
/// that sharpen it.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    first_group: u16,
    bounds: Arc<Mutex<Bounds>>,
}

#[derive(Debug)]
struct Bounds {
    /// Per key group: no timer comes before this key; `None`: the group has no timer.
    earliest: Vec<Option<Bytes>>,
    /// The earliest timer set since the last scan began.
    set_since: Vec<Option<Bytes>>,
    /// Number of the last scan.
    scan: u64,
}

impl Timers {
    pub(super) fn new(range: KeyGroupRange, unknown: bool) -> Self {
        let first = |group| unknown.then(|| key::timers_from(KeyGroup(group), i64::MIN));
        let earliest = (range.start..range.end).map(first).collect();
        let set_since = vec![None; usize::from(range.len())];
        let bounds = Bounds { earliest, set_since, scan: 0 };
        Self { first_group: range.start, bounds: Arc::new(Mutex::new(bounds)) }
    }

    fn lock(&self) -> MutexGuard<'_, Bounds> {
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, group: KeyGroup, timer: &Bytes) {
        let index = usize::from(group.0 - self.first_group);
        let mut bounds = self.lock();
        lower(&mut bounds.earliest[index], timer);
        lower(&mut bounds.set_since[index], timer);
    }

    /// Begins a scan: its number, and the groups that may have timers up to `up_to_ms`, with the
    /// key from which to look.
    fn begin(&self, up_to_ms: i64) -> (u64, Vec<(usize, Bytes)>) {
        let mut bounds = self.lock();
        bounds.scan += 1;
        bounds.set_since.fill(None);
        let groups = bounds.earliest.iter().enumerate();
        let known = groups.filter_map(|(index, key)| key.clone().map(|key| (index, key)));
        (bounds.scan, known.filter(|(_, key)| key::time_of(key) <= up_to_ms).collect())
    }

    /// Takes what scan number `scan` found: the key before which a group has no timer. Timers set
    /// meanwhile count, and so does a later scan.
    fn found(&self, scan: u64, index: usize, earliest: Option<Bytes>) {
        let mut bounds = self.lock();
        if bounds.scan == scan {
            let set_since = bounds.set_since[index].clone();
            bounds.earliest[index] = earliest;
            if let Some(timer) = set_since {
                lower(&mut bounds.earliest[index], &timer);
            }
        }
    }
}

/// Makes `bound` hold for `timer` too.
fn lower(bound: &mut Option<Bytes>, timer: &Bytes) {
    if bound.as_ref().is_none_or(|bound| timer < bound) {
        *bound = Some(timer.clone());
    }
}

impl Shard {
    /// Sets a timer for (key, namespace). Setting an equal one again changes nothing.
    pub fn set_timer(&mut self, group: KeyGroup, time_ms: i64, key: &[u8], namespace: &[u8]) {
        self.expect_own_group(group);
        let timer = key::timer_key(group, time_ms, key, namespace);
        self.timers.set(group, &timer);
        self.active.set_sorted(timer, Some(Bytes::new()));
    }

    /// Removes a timer. [`Shard::due_timers`] leaves timers in the state: the unit that runs one
    /// removes it.
    pub fn clear_timer(&mut self, group: KeyGroup, time_ms: i64, key: &[u8], namespace: &[u8]) {
        self.expect_own_group(group);
        self.active.set_sorted(key::timer_key(group, time_ms, key, namespace), None);
    }

    /// No timer is earlier than this; `i64::MAX` when there is none. A lower bound that
    /// [`Shard::due_timers`] sharpens (after a restore it is `i64::MIN`).
    pub fn next_timer_ms(&self) -> i64 {
        self.timers.lock().earliest.iter().flatten().map(key::time_of).min().unwrap_or(i64::MAX)
    }

    /// The earliest timers with a time up to and with `up_to_ms`, at most `limit` (at least
    /// one, if one is due). Sees the timers as they are when it is called.
    pub fn due_timers(&self, up_to_ms: i64, limit: usize) -> Access<DueTimers> {
        let (scan, due) = self.timers.begin(up_to_ms);
        if due.is_empty() {
            return Access::Ready(DueTimers::default());
        }
        let per_group = (limit / due.len() + 1).max(GROUP_TIMERS_MIN);
        let scans = due.iter().map(|(_, start)| {
            let end = key::group_start(u32::from(key::group_of(start).0) + 1);
            self.scan_sorted(start, &end, per_group)
        });
        let scans = Scans::new(scans.collect());
        let timers = self.timers.clone();
        steps::run(scans, self.parts()).map(move |chunks| {
            for ((index, _), chunk) in due.iter().zip(&chunks) {
                timers.found(scan, *index, earliest_of(chunk));
            }
            due_of(chunks, up_to_ms, limit)
        })
    }
}

/// The key before which a group has no timer, as its scan saw it.
fn earliest_of(chunk: &Chunk) -> Option<Bytes> {
    chunk.entries.first().map(|(key, _)| key.clone()).or_else(|| chunk.resume.clone())
}

/// The due timers of all groups, as far as all are known.
fn due_of(chunks: Vec<Chunk>, up_to_ms: i64, limit: usize) -> DueTimers {
    // Of the time where a scan broke off some timers may be missing, of earlier ones none.
    let broke_off_ms = chunks.iter().filter_map(|chunk| chunk.resume.as_ref().map(key::time_of));
    let broke_off_ms = broke_off_ms.min().unwrap_or(i64::MAX);
    let found = chunks.into_iter().flat_map(|chunk| live(chunk.entries));
    let found = found.filter_map(|(key, _)| Timer::from_composite(&key));
    let until_ms = broke_off_ms.min(up_to_ms);
    let mut timers: Vec<Timer> = found.filter(|timer| timer.time_ms <= until_ms).collect();
    timers.sort_unstable();
    let more = broke_off_ms <= up_to_ms && broke_off_ms < i64::MAX || timers.len() > limit;
    timers.truncate(limit);
    DueTimers { timers, more }
}
