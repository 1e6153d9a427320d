//! The rules of versions as functions: they run before a version is installed.

use super::{LEVEL_MAX, Version, View};

impl Version {
    /// Whether all rules of versions hold; the error names the rule and the views.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.views.iter().try_for_each(|view| self.check_view(view))?;
        check_level_0(self.level(0))?;
        (1..=LEVEL_MAX).try_for_each(|level| check_sorted(self.level(level)))
    }

    /// Rule 4, and that the view is one at all.
    fn check_view(&self, view: &View) -> Result<(), String> {
        let name = &view.table.name;
        if view.range.intersect(self.range) != Some(view.range) {
            return Err(format!("{name} has key groups {} outside {}", view.range, self.range));
        }
        if view.level > LEVEL_MAX {
            return Err(format!("{name} lies in level {} of {LEVEL_MAX}", view.level));
        }
        if view.seq >= self.next_seq {
            return Err(format!("{name} has seq {}, next is {}", view.seq, self.next_seq));
        }
        if view.first > view.last {
            return Err(format!("{name} ends before it begins"));
        }
        if u64::from(view.table.tail_bytes) > view.table.bytes {
            return Err(format!("{name} has a tail larger than itself"));
        }
        Ok(())
    }
}

/// Rule 1: newest first, and no key in two files of one flush.
fn check_level_0(views: &[View]) -> Result<(), String> {
    for run in views.chunk_by(|one, two| one.seq == two.seq) {
        check_sorted(run)?;
    }
    match views.windows(2).find(|pair| pair[0].seq < pair[1].seq) {
        Some(pair) => Err(format!("{} comes before a newer file", pair[0].table.name)),
        None => Ok(()),
    }
}

/// Rule 2: sorted by key and disjoint.
fn check_sorted(views: &[View]) -> Result<(), String> {
    let wrong = |pair: &&[View]| pair[0].first > pair[1].first || !pair[0].is_disjoint(&pair[1]);
    match views.windows(2).find(wrong) {
        Some(pair) => {
            let (one, two) = (&pair[0].table.name, &pair[1].table.name);
            Err(format!("{one} and {two} overlap in level {}", pair[0].level))
        }
        None => Ok(()),
    }
}
