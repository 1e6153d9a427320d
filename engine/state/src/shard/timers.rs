//! Timers and which of them are due.

use bytes::Bytes;

use super::Shard;
use crate::access::Access;
use crate::entry::Entry;
use crate::ids::{KeyGroup, KeyGroupRange};
use crate::key::{self, Timer};

/// Timers that are due, in time order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueTimers {
    /// At least one if any timer is due.
    pub timers: Vec<Timer>,
    /// Whether more may be due, none of them earlier than the last of these.
    pub more: bool,
}

/// What is known of the earliest timer of each key group, without reading.
#[derive(Debug)]
pub(super) struct Timers {
    first_group: u16,
    /// No timer of the group is earlier. `i64::MAX`: the group has none.
    bounds: Vec<i64>,
}

impl Timers {
    pub(super) fn new(range: KeyGroupRange, unknown: bool) -> Self {
        let bound = if unknown { i64::MIN } else { i64::MAX };
        Self { first_group: range.start, bounds: vec![bound; usize::from(range.len())] }
    }

    fn set(&mut self, group: KeyGroup, time_ms: i64) {
        let bound = &mut self.bounds[usize::from(group.0 - self.first_group)];
        *bound = time_ms.min(*bound);
    }
}

impl Shard {
    /// Sets a timer for (key, namespace). Setting an equal one again changes nothing.
    pub fn set_timer(&mut self, group: KeyGroup, time_ms: i64, key: &[u8], namespace: &[u8]) {
        assert!(self.spec.range.contains(group), "key group {} is not of this shard", group.0);
        self.timers.set(group, time_ms);
        self.active.set_sorted(key::timer_key(group, time_ms, key, namespace), Some(Bytes::new()));
    }

    /// Removes a timer. [`Shard::due_timers`] leaves timers in the state: the unit that runs one
    /// removes it.
    pub fn clear_timer(&mut self, group: KeyGroup, time_ms: i64, key: &[u8], namespace: &[u8]) {
        assert!(self.spec.range.contains(group), "key group {} is not of this shard", group.0);
        self.active.set_sorted(key::timer_key(group, time_ms, key, namespace), None);
    }

    /// No timer is earlier than this; `i64::MAX` when there is none. A lower bound:
    /// [`Shard::due_timers`] sharpens it (after a restore it is `i64::MIN`).
    pub fn next_timer_ms(&self) -> i64 {
        self.timers.bounds.iter().copied().min().unwrap_or(i64::MAX)
    }

    /// The timers with a time up to and with `up_to_ms`, in time order (ties: key group, key,
    /// namespace within a group), about `limit` at most.
    pub fn due_timers(&self, up_to_ms: i64, limit: usize) -> Access<DueTimers> {
        let mut due = DueTimers::default();
        for group in self.spec.range.start..self.spec.range.end {
            let start = key::timers_from(KeyGroup(group), i64::MIN);
            let end = key::group_start(u32::from(group) + 1);
            for (composite, entry) in self.active.sorted_range(&start, &end, usize::MAX) {
                match Timer::from_composite(&composite) {
                    Some(timer) if timer.time_ms <= up_to_ms && entry != Entry::Delete => {
                        due.timers.push(timer);
                    }
                    _ => {}
                }
            }
        }
        due.timers.sort();
        due.more = due.timers.len() > limit;
        due.timers.truncate(limit);
        Access::Ready(due)
    }
}
