//! Snapshots of a schedule: which one is due, and which ones are too many. Pure.

use chrono::{DateTime, Utc};

use super::{Snapshot, Snapshots};
use crate::schedule::{Schedule, minute_name, named_minute};

/// What a job says of its schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timed {
    pub(crate) schedule: Schedule,
    pub(crate) retained: usize,
}

/// The name of a job's snapshot of that minute.
pub(crate) fn name(job: &str, time: DateTime<Utc>) -> String {
    format!("{job}-{}", minute_name(time))
}

fn minute(snapshot: &Snapshot) -> Option<DateTime<Utc>> {
    let rest = snapshot.name.strip_prefix(&snapshot.job)?.strip_prefix('-')?;
    named_minute(rest).filter(|_| snapshot.is_timed)
}

/// The minute of the snapshot that is to be made now: the last one that the schedule names and that
/// came after `since` and after all that were made. `since`: when the job was made, or the last one
/// that this operator made.
pub(crate) fn due(
    timed: &Timed,
    all: &Snapshots,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let made = all.values().filter_map(minute).max();
    timed.schedule.last(made.map_or(since, |made| made.max(since)), now)
}

/// Names of those that are older than the newest `retained` that the journal keeps.
pub(crate) fn outdated(
    timed: &Timed,
    all: &Snapshots,
    is_kept: impl Fn(&Snapshot) -> bool,
) -> Vec<String> {
    let living = || all.values().filter(|its| its.deleted_at.is_none());
    let ready = living().filter(|its| is_kept(its));
    let mut ready: Vec<_> = ready.filter_map(minute).collect();
    ready.sort_unstable();
    let Some(first) = ready.len().checked_sub(timed.retained).and_then(|at| ready.get(at)) else {
        return Vec::new();
    };
    let outdated = living().filter(|its| minute(its).is_some_and(|minute| minute < *first));
    outdated.map(|its| its.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::object;
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn timed() -> Timed {
        Timed { schedule: Schedule::parse("0 * * * *", "UTC").unwrap(), retained: 2 }
    }

    fn all(hours: &[u32]) -> Snapshots {
        let made = hours.iter().map(|hour| {
            let name = format!("flights-20260101{hour:02}00");
            let snapshot = Snapshot::of(&object(&name, &name)).unwrap();
            (name, snapshot)
        });
        Arc::new(made.collect())
    }

    #[test]
    fn of_those_that_were_missed_the_last_one_is_made() {
        let made = at("2026-01-01T00:30:00Z");
        let due = |all: &Snapshots, since, now| due(&timed(), all, since, at(now));
        assert_eq!(due(&all(&[]), made, "2026-01-01T00:59:59Z"), None);
        let five = at("2026-01-01T05:00:00Z");
        assert_eq!(due(&all(&[]), made, "2026-01-01T05:10:00Z"), Some(five));
        assert_eq!(due(&all(&[1, 2]), made, "2026-01-01T05:10:00Z"), Some(five));
        assert_eq!(due(&all(&[1, 5]), made, "2026-01-01T05:10:00Z"), None, "it is there");
        let since = at("2026-01-01T05:00:00Z");
        assert_eq!(due(&all(&[]), since, "2026-01-01T05:10:00Z"), None, "somebody deleted it");
        assert_eq!(name("flights", five), "flights-202601010500");
    }

    #[test]
    fn the_oldest_go_when_enough_newer_ones_are_ready() {
        let outdated = |all: &Snapshots| outdated(&timed(), all, |_| true);
        let none = Vec::<String>::new();
        assert_eq!(outdated(&all(&[1, 2])), none);
        assert_eq!(outdated(&all(&[1, 2, 3])), ["flights-202601010100"]);
        let is_kept = |its: &Snapshot| its.name != "flights-202601010300";
        let found = super::outdated(&timed(), &all(&[1, 2, 3]), is_kept);
        assert_eq!(found, none, "the newest is not there yet");
        let mut manual = all(&[1, 2, 3]);
        Arc::make_mut(&mut manual).values_mut().for_each(|its| its.is_timed = false);
        assert_eq!(outdated(&manual), none, "somebody made them by hand");
    }
}
