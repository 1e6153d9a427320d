//! Who runs which subtask of a generation. Pure.
//!
//! Subtasks are dealt so that loads differ by one at most, and within that every worker that was
//! there before keeps as many of its key groups as it can.

use std::collections::BTreeMap;

use crate::cluster::Member;

/// The workers of a generation and what each of them runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// In order of their ordinals.
    pub(crate) workers: Vec<Member>,
    /// Index = subtask; value: place in `workers`.
    places: Vec<usize>,
}

impl Layout {
    /// Deals `width` subtasks to `workers`, given what they ran before.
    pub(crate) fn deal(workers: Vec<Member>, width: u32, before: &Self) -> Self {
        let subtasks = usize::try_from(width).unwrap_or(usize::MAX);
        let mut room = Room::new(subtasks, workers.len());
        let mut places: Vec<Option<usize>> = vec![None; subtasks];
        for (_, subtask, worker) in overlaps(&workers, width, before) {
            if places[subtask].is_none() && room.take(worker) {
                places[subtask] = Some(worker);
            }
        }
        let mut worker = 0;
        for place in &mut places {
            while place.is_none() && worker < workers.len() {
                if room.take(worker) {
                    *place = Some(worker);
                } else {
                    worker += 1;
                }
            }
        }
        Self { workers, places: places.into_iter().flatten().collect() }
    }

    /// As it was recorded: index = subtask, value = incarnation of its worker. None: somebody in it
    /// is not among the workers.
    pub(crate) fn recorded(workers: Vec<Member>, subtasks: &[&str]) -> Option<Self> {
        let place = |name: &&str| workers.iter().position(|its| its.incarnation == *name);
        let places = subtasks.iter().map(place).collect::<Option<Vec<_>>>()?;
        Some(Self { workers, places })
    }

    /// Subtasks of each stage.
    pub(crate) fn width(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    /// Index = subtask; value: incarnation of its worker.
    pub(crate) fn subtasks(&self) -> Vec<String> {
        let name = |place: &usize| self.workers[*place].incarnation.clone();
        self.places.iter().map(name).collect()
    }

    /// Incarnations of all workers.
    pub(crate) fn incarnations(&self) -> Vec<String> {
        self.workers.iter().map(|member| member.incarnation.clone()).collect()
    }
}

/// How many more subtasks each worker may get.
struct Room {
    left: Vec<usize>,
    /// Workers that may still get one more than the others.
    extra: usize,
}

impl Room {
    fn new(subtasks: usize, workers: usize) -> Self {
        let workers_max = workers.max(1);
        Self { left: vec![subtasks / workers_max; workers], extra: subtasks % workers_max }
    }

    fn take(&mut self, worker: usize) -> bool {
        match self.left[worker] {
            // Its share is used up, and so is its turn for one more.
            usize::MAX => false,
            0 if self.extra == 0 => false,
            0 => {
                self.extra -= 1;
                self.left[worker] = usize::MAX;
                true
            }
            left => {
                self.left[worker] = left - 1;
                true
            }
        }
    }
}

/// (common part of the key space, subtask, worker that ran that part before), the largest first.
///
/// Both widths cut the key space evenly, so in units of one over their product subtask `i` of
/// `width` is `[i × old, (i + 1) × old)`, and subtask `j` of `old` is `[j × width, (j + 1) × width)`.
fn overlaps(workers: &[Member], width: u32, before: &Layout) -> Vec<(u64, usize, usize)> {
    let (new, old) = (u64::from(width), u64::from(before.width()));
    if new == 0 || old == 0 {
        return Vec::new();
    }
    let by_name: BTreeMap<&str, usize> =
        workers.iter().enumerate().map(|(place, member)| (&*member.incarnation, place)).collect();
    let mut found: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for (j, place) in (0..).zip(&before.places) {
        let Some(worker) = by_name.get(&*before.workers[*place].incarnation) else { continue };
        let (start, end) = (j * new, (j + 1) * new);
        for i in start / old..end.div_ceil(old) {
            let common = end.min((i + 1) * old) - start.max(i * old);
            let subtask = usize::try_from(i).unwrap_or(usize::MAX);
            *found.entry((subtask, *worker)).or_default() += common;
        }
    }
    let mut found: Vec<_> =
        found.into_iter().map(|((subtask, worker), common)| (common, subtask, worker)).collect();
    found.sort_by_key(|(common, subtask, worker)| (std::cmp::Reverse(*common), *subtask, *worker));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(names: &[&str]) -> Vec<Member> {
        let member = |name: &&str| Member { incarnation: (*name).into(), address: (*name).into() };
        names.iter().map(member).collect()
    }

    fn first(names: &[&str], width: u32) -> Layout {
        Layout::deal(members(names), width, &Layout::default())
    }

    #[test]
    fn a_new_job_is_dealt_in_order() {
        assert_eq!(first(&["a", "b"], 4).subtasks(), ["a", "a", "b", "b"]);
        assert_eq!(first(&["a", "b", "c"], 4).subtasks(), ["a", "a", "b", "c"]);
    }

    #[test]
    fn workers_that_stay_keep_their_part_of_the_key_space() {
        let two = first(&["a", "b"], 2);
        let four = Layout::deal(members(&["a", "b", "c", "d"]), 4, &two);
        assert_eq!(four.subtasks(), ["a", "c", "b", "d"], "a had the first half, b the second");
        let one = Layout::deal(members(&["b"]), 1, &four);
        assert_eq!(one.subtasks(), ["b"]);
    }

    #[test]
    fn survivors_keep_all_they_had_and_share_the_rest() {
        let four = first(&["a", "b", "c", "d"], 4);
        let two = Layout::deal(members(&["b", "d"]), 4, &four);
        assert_eq!(two.subtasks(), ["b", "b", "d", "d"]);
        let back = Layout::deal(members(&["e", "b", "f", "d"]), 4, &two);
        assert_eq!(back.subtasks(), ["b", "e", "d", "f"]);
    }

    proptest! {
        /// Whatever was before: every subtask has a worker, loads differ by one at most, and what
        /// has not changed stays where it was.
        #[test]
        fn loads_are_even_and_the_same_again_is_the_same(
            old in 1..9usize, old_width in 1..40u32, skipped in 0..9usize, new in 1..9usize,
            new_width in 1..40u32,
        ) {
            let names: Vec<String> = (0..20).map(|n| format!("w{n:02}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let before = first(&names[..old], old_width);
            let after = Layout::deal(members(&names[skipped..skipped + new]), new_width, &before);
            prop_assert_eq!(after.width(), new_width);
            let mut loads: BTreeMap<String, usize> =
                after.incarnations().into_iter().map(|name| (name, 0)).collect();
            for name in after.subtasks() {
                *loads.get_mut(&name).expect("one of the workers") += 1;
            }
            let (least, most) = (loads.values().min().unwrap(), loads.values().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", loads);
            prop_assert_eq!(Layout::deal(after.workers.clone(), new_width, &after), after);
        }
    }
}
