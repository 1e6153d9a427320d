//! The changes of a version: each gives a new one and touches metadata only.

use weir_runtime::sim::planted::{Planted, planted};

use super::{Version, View};
use crate::error::StateError;
use crate::ids::KeyGroupRange;

impl Version {
    /// The content of the key groups in `range` alone; `None` if the shard has none of them.
    #[must_use]
    pub fn clip(&self, range: KeyGroupRange) -> Option<Self> {
        let range = self.range.intersect(range)?;
        let whole = planted(Planted::ViewNotClipped);
        let clip = |view: &View| if whole { Some(view.clone()) } else { view.clip(range) };
        let views = self.views.iter().filter_map(clip).collect();
        let mut clipped = Self { step: self.step.clone(), range, views, next_seq: self.next_seq };
        clipped.sort();
        Some(clipped)
    }

    /// The contents of several shards of one step side by side. Where a file was clipped for
    /// several of them, its views are joined again.
    ///
    /// Errors: [`StateError::BadVersion`] unless the ranges are disjoint and touch.
    pub fn merge(mut parts: Vec<Self>) -> Result<Self, StateError> {
        parts.sort_by_key(|part| part.range);
        let mut parts = parts.into_iter();
        let Some(mut whole) = parts.next() else {
            let problem = "nothing to merge".to_owned();
            return Err(StateError::BadVersion { step: String::new(), problem });
        };
        for part in parts {
            if part.step != whole.step || part.range.start != whole.range.end {
                let (one, two) = (whole.range, part.range);
                let problem = format!("{one} cannot be merged with {two} of step {}", part.step);
                return Err(StateError::BadVersion { step: whole.step, problem });
            }
            whole.range.end = part.range.end;
            whole.next_seq = whole.next_seq.max(part.next_seq);
            whole.views.extend(part.views);
        }
        whole.join_views();
        whole.sort();
        match whole.check() {
            Ok(()) => Ok(whole),
            Err(problem) => Err(StateError::BadVersion { step: whole.step, problem }),
        }
    }

    /// The version after a flush: its files in front of all others in level 0.
    pub(crate) fn with_flush(&self, flushed: &[View]) -> Result<Self, StateError> {
        let mut next = self.clone();
        next.views.splice(0..0, flushed.iter().cloned());
        let seq = flushed.iter().map(|view| view.seq + 1).max().unwrap_or_default();
        next.next_seq = next.next_seq.max(seq);
        next.installed()
    }

    /// The version after a compaction; `None` when an input is not live any more.
    pub(crate) fn with_replaced(
        &self,
        inputs: &[View],
        outputs: &[View],
    ) -> Result<Option<Self>, StateError> {
        let mut next = self.clone();
        for input in inputs {
            let live = |view: &View| view.is_same(input) && view.level == input.level;
            let Some(index) = next.views.iter().position(live) else {
                return Ok(None);
            };
            next.views.remove(index);
        }
        next.views.extend(outputs.iter().cloned());
        next.sort();
        next.installed().map(Some)
    }

    /// A version of the same shard with these views alone.
    pub(crate) fn of_views(&self, views: Vec<View>) -> Self {
        let mut version =
            Self { step: self.step.clone(), range: self.range, views, next_seq: self.next_seq };
        version.sort();
        version
    }

    fn installed(self) -> Result<Self, StateError> {
        match self.check() {
            Ok(()) => Ok(self),
            Err(problem) => Err(StateError::BadVersion { step: self.step, problem }),
        }
    }

    fn join_views(&mut self) {
        let place = |view: &View| (view.table.id, view.level, view.seq, view.range.start);
        self.views.sort_by_key(place);
        let mut joined: Vec<View> = Vec::with_capacity(self.views.len());
        for view in self.views.drain(..) {
            match joined.last_mut().and_then(|last| last.joined(&view)) {
                Some(both) => {
                    joined.pop();
                    joined.push(both);
                }
                None => joined.push(view),
            }
        }
        self.views = joined;
    }
}
