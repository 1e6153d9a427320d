//! Barrier alignment: when has a checkpoint's barrier come from every input of a stage.
//!
//! Pure. The caller feeds what its inputs deliver and reads only inputs that are not held. Inputs
//! are numbered from 0; each is one channel.
//!
//! What must stay true:
//! 1. An input that delivered the open barrier is held until the alignment completes, is aborted,
//!    or is overtaken by a newer barrier.
//! 2. A checkpoint completes at most once, and never after it was aborted or overtaken.
//! 3. `End` ends no alignment: barriers still follow it, since ended tasks go on passing them.

use weir_state::ids::CheckpointId;

/// The alignment of one stage's inputs.
#[derive(Debug)]
pub(crate) struct Alignment {
    held: Vec<bool>,
    missing: usize,
    open: Option<CheckpointId>,
    /// Barriers up to this one are over: completed, aborted or overtaken.
    closed: CheckpointId,
}

impl Alignment {
    /// Of `inputs` channels; barriers up to `closed` are ignored.
    pub(crate) fn new(inputs: usize, closed: CheckpointId) -> Self {
        Self { held: vec![false; inputs], missing: 0, open: None, closed }
    }

    /// Whether `input` waits for the others and must not be read.
    pub(crate) fn is_held(&self, input: usize) -> bool {
        self.held[input]
    }

    /// The checkpoint whose barriers are being collected.
    #[cfg(test)]
    pub(crate) fn open(&self) -> Option<CheckpointId> {
        self.open
    }

    /// `input` delivered the barrier of `id`. Gives `id` when it was the last one missing: take the
    /// checkpoint before reading on. All inputs flow again then.
    pub(crate) fn barrier(&mut self, input: usize, id: CheckpointId) -> Option<CheckpointId> {
        if id <= self.closed || self.open.is_some_and(|open| id < open) {
            return None;
        }
        if self.open != Some(id) {
            // A newer barrier overtakes an open one: its abort was lost or is still under way.
            self.release();
            self.open = Some(id);
            self.missing = self.held.len();
        }
        if std::mem::replace(&mut self.held[input], true) {
            return None;
        }
        self.missing -= 1;
        (self.missing == 0).then(|| {
            self.release();
            self.closed = id;
            id
        })
    }

    /// Checkpoint `id` was given up: its barriers, those to come included, mean nothing any more.
    pub(crate) fn abort(&mut self, id: CheckpointId) {
        if self.open.is_some_and(|open| open <= id) {
            self.release();
        }
        self.closed = self.closed.max(id);
    }

    fn release(&mut self) {
        self.open = None;
        self.held.fill(false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: CheckpointId = CheckpointId(1);
    const TWO: CheckpointId = CheckpointId(2);

    fn of(inputs: usize) -> Alignment {
        Alignment::new(inputs, CheckpointId(0))
    }

    #[test]
    fn one_input_completes_at_once() {
        let mut one = of(1);
        assert_eq!(one.barrier(0, ONE), Some(ONE));
        assert!(!one.is_held(0));
    }

    #[test]
    fn inputs_that_delivered_are_held_until_the_last_one_did() {
        let mut three = of(3);
        assert_eq!(three.barrier(1, ONE), None);
        assert_eq!((three.is_held(0), three.is_held(1)), (false, true));
        assert_eq!(three.barrier(2, ONE), None);
        assert_eq!(three.barrier(0, ONE), Some(ONE));
        assert!((0..3).all(|input| !three.is_held(input)));
    }

    #[test]
    fn repeated_barrier_of_one_input_counts_once() {
        let mut two = of(2);
        assert_eq!(two.barrier(0, ONE), None);
        assert_eq!(two.barrier(0, ONE), None);
        assert_eq!(two.barrier(1, ONE), Some(ONE));
        assert_eq!(two.barrier(1, ONE), None, "over");
        assert!(!two.is_held(1));
    }

    #[test]
    fn abort_releases_and_the_next_checkpoint_aligns() {
        let mut two = of(2);
        assert_eq!(two.barrier(0, ONE), None);
        two.abort(ONE);
        assert!(!two.is_held(0));
        assert_eq!(two.barrier(1, ONE), None, "a barrier of an aborted checkpoint holds nothing");
        assert!(!two.is_held(1));
        assert_eq!(two.barrier(1, TWO), None);
        assert_eq!(two.barrier(0, TWO), Some(TWO));
    }

    #[test]
    fn abort_before_any_barrier_counts_too() {
        let mut two = of(2);
        two.abort(ONE);
        assert_eq!(two.barrier(0, ONE), None);
        assert_eq!(two.barrier(1, ONE), None);
        assert_eq!(two.open(), None);
    }

    #[test]
    fn newer_barrier_overtakes_an_open_one() {
        let mut two = of(2);
        assert_eq!(two.barrier(0, ONE), None);
        assert_eq!(two.barrier(1, TWO), None, "the abort of 1 was lost");
        assert_eq!((two.is_held(0), two.is_held(1)), (false, true));
        assert_eq!(two.barrier(0, ONE), None, "older than the open one");
        assert!(!two.is_held(0));
        assert_eq!(two.barrier(0, TWO), Some(TWO));
    }

    #[test]
    fn late_abort_of_an_older_checkpoint_leaves_the_open_one() {
        let mut two = of(2);
        assert_eq!(two.barrier(0, TWO), None);
        two.abort(ONE);
        assert!(two.is_held(0));
        assert_eq!(two.barrier(1, TWO), Some(TWO));
    }

    proptest! {
        /// Whatever comes in whatever order: ids complete in growing order, only when every input
        /// delivered them, and never after their abort.
        #[test]
        fn completes_once_and_in_order(
            events in prop::collection::vec((0..4usize, 1..6u64), 0..200)
        ) {
            const INPUTS: usize = 3;
            let mut alignment = of(INPUTS);
            let mut delivered = std::collections::BTreeSet::new();
            let mut last = CheckpointId(0);
            for (what, id) in events {
                let id = CheckpointId(id);
                if what == INPUTS {
                    alignment.abort(id);
                    last = last.max(id);
                    continue;
                }
                delivered.insert((what, id));
                if let Some(complete) = alignment.barrier(what, id) {
                    prop_assert_eq!(complete, id);
                    prop_assert!(last < id);
                    prop_assert!((0..INPUTS).all(|input| delivered.contains(&(input, id))));
                    last = id;
                }
                prop_assert!((0..INPUTS).any(|input| !alignment.is_held(input)), "all held");
            }
        }
    }
}
