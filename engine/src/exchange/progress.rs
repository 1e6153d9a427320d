//! Split progress: how two messages of one source subtask merge.
//!
//! A subtask speaks of its own splits only (`source/dealing.rs`), in the order in which it sends
//! rows; besides, every message repeats the frontier that the generation began with. It never
//! moves that frontier itself: that all rows of another subtask's splits have arrived only the
//! receiver can know.

use std::collections::BTreeMap;

use crate::protocol::{SplitPosition, SplitProgress};

/// Makes one message of two of the same sender, `later` sent after `earlier`.
pub(crate) fn merge(earlier: &mut SplitProgress, later: SplitProgress) {
    if later.frontier >= earlier.frontier {
        earlier.frontier = later.frontier;
        earlier.frontier_time_ms = later.frontier_time_ms;
        earlier.has_frontier_time = later.has_frontier_time;
    }
    earlier.all_dealt |= later.all_dealt;
    earlier.split_count = earlier.split_count.max(later.split_count);
    if let [split] = later.splits[..]
        && let Some(known) = earlier.splits.last_mut()
        && known.split == split.split
    {
        *known = split;
        return;
    }
    let mut splits: BTreeMap<u64, SplitPosition> =
        earlier.splits.iter().map(|split| (split.split, *split)).collect();
    splits.extend(later.splits.into_iter().map(|split| (split.split, split)));
    earlier.splits = splits.into_values().collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(split: u64, position: u64, done: bool) -> SplitPosition {
        SplitPosition { split, position, max_time_ms: 0, has_time: false, done }
    }

    #[test]
    fn the_later_word_on_each_split_counts() {
        let mut merged = SplitProgress {
            frontier: 2,
            splits: vec![split(2, 5, false), split(4, 1, false)],
            ..Default::default()
        };
        let one = SplitProgress {
            frontier: 2,
            frontier_time_ms: 9,
            has_frontier_time: true,
            splits: vec![split(4, 3, true)],
            all_dealt: true,
            split_count: 7,
        };
        merge(&mut merged, one);
        assert_eq!(merged.splits, [split(2, 5, false), split(4, 3, true)]);
        assert_eq!((merged.frontier_time_ms, merged.all_dealt, merged.split_count), (9, true, 7));
        let both = SplitProgress {
            splits: vec![split(2, 8, true), split(6, 1, false)],
            ..Default::default()
        };
        merge(&mut merged, both);
        let all = [split(2, 8, true), split(4, 3, true), split(6, 1, false)];
        assert_eq!(merged.splits, all);
        assert_eq!((merged.frontier, merged.split_count), (2, 7), "nothing goes back");
    }
}
