//! An open checkpoint: acknowledgements until all subtasks of all stages have given theirs. Pure.

use std::collections::BTreeMap;

use weir_runtime::clock::Instant;
use weir_runtime::sim::planted::{Planted, planted};
use weir_state::ids::CheckpointId;

use crate::protocol::Ack;

/// A checkpoint between its trigger and its record.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) id: CheckpointId,
    /// When it was triggered.
    pub(crate) began: Instant,
    /// When the last new acknowledgement came.
    pub(crate) progress: Instant,
    /// Whether all input was over when it was triggered: nothing can follow it.
    pub(crate) is_last: bool,
    wanted: usize,
    acks: BTreeMap<(u32, u32), Ack>,
}

impl Open {
    /// A checkpoint that `wanted` subtasks have to acknowledge.
    pub(crate) fn new(id: CheckpointId, wanted: usize, is_last: bool, now: Instant) -> Self {
        Self { id, began: now, progress: now, is_last, wanted, acks: BTreeMap::new() }
    }

    /// Takes an acknowledgement; those of other checkpoints and repeated ones change nothing.
    pub(crate) fn ack(&mut self, ack: Ack, now: Instant) {
        if ack.checkpoint != self.id.0 {
            return;
        }
        let place = (ack.stage, ack.subtask);
        if self.acks.insert(place, ack).is_none() {
            self.progress = now;
        }
    }

    /// Whether all have acknowledged.
    pub(crate) fn is_complete(&self) -> bool {
        let missing = usize::from(planted(Planted::AckMissing) && self.wanted > 1);
        self.acks.len() + missing >= self.wanted
    }

    /// All acknowledgements, in order of stage and subtask.
    pub(crate) fn into_acks(self) -> Vec<Ack> {
        self.acks.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use weir_runtime::clock;

    use super::*;

    #[test]
    fn complete_only_with_every_subtask_of_this_checkpoint() {
        let now = clock::now();
        let ack = |checkpoint, stage, subtask| Ack { checkpoint, stage, subtask, ..Ack::default() };
        let mut open = Open::new(CheckpointId(5), 3, false, now);
        for other in [ack(4, 0, 1), ack(5, 0, 0), ack(5, 0, 0), ack(5, 1, 0)] {
            open.ack(other, now);
            assert!(!open.is_complete());
        }
        open.ack(ack(5, 0, 1), now);
        assert!(open.is_complete());
        let places: Vec<_> = open.into_acks().iter().map(|ack| (ack.stage, ack.subtask)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (1, 0)]);
    }
}
