//! What the control side tells all stage tasks of a generation, and what they tell it.
//!
//! Orders are numbers that only grow, so that the newest value says everything: a task that was
//! busy misses nothing, a repeated message changes nothing, and nobody ever waits to give an order.

use tokio::sync::{mpsc, watch};
use weir_state::ids::CheckpointId;

use super::error::StageError;
use crate::protocol::{Ack, InputDone, Paused};

/// The newest of each order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Source stages inject the barrier of this checkpoint.
    pub(crate) triggered: CheckpointId,
    /// Tables that write a snapshot at `triggered`.
    pub(crate) tables: TableSet,
    /// Source stages stop behind the barrier of this checkpoint.
    pub(crate) pausing: CheckpointId,
    /// Checkpoints up to this one that are not complete were given up.
    pub(crate) aborted: CheckpointId,
    /// Checkpoints up to this one are complete.
    pub(crate) completed: CheckpointId,
    /// Source stages read nothing: nobody has come for too long who could complete a checkpoint.
    pub(crate) held: bool,
}

/// Some of a job's tables, which are numbered in the order of their steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableSet(pub(crate) u64);

impl TableSet {
    /// Whether table `number` is among them.
    pub(crate) fn holds(self, number: u32) -> bool {
        self.0.checked_shr(number).is_some_and(|bits| bits & 1 == 1)
    }

    /// Adds table `number`, which is below 64.
    pub(crate) fn add(&mut self, number: u32) {
        self.0 |= 1_u64.checked_shl(number).unwrap_or(0);
    }
}

/// One stage task's ear.
pub(crate) type OrdersReceiver = watch::Receiver<Orders>;

/// Which task of a generation says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId {
    /// Index in the graph.
    pub(crate) stage: u32,
    /// Of the whole width.
    pub(crate) subtask: u32,
}

/// What a stage task reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// Everything before a barrier is done and durable.
    Acked(Box<Ack>),
    /// All input is over and all that follows from it is written.
    InputDone(InputDone),
    /// A source stopped behind a barrier.
    Paused(Paused),
    /// An upload failed; the task itself may be running on.
    Failed(StageError),
}

/// Reports that may wait for the control side, of all tasks of a generation together.
pub(crate) const REPORTS_MAX: usize = 256;

/// One stage task's mouth.
pub(crate) type ReportSender = mpsc::Sender<Report>;

/// Which barrier a source injects next, given the orders and what it injected before.
#[derive(Debug, Default)]
pub(crate) struct Barriers {
    injected: CheckpointId,
}

impl Barriers {
    /// With barriers up to `injected` as over.
    pub(crate) fn after(injected: CheckpointId) -> Self {
        Self { injected }
    }

    /// The barrier that is due, once.
    pub(crate) fn due(&mut self, orders: &Orders) -> Option<CheckpointId> {
        let id = orders.triggered;
        if id <= self.injected || id <= orders.aborted {
            return None;
        }
        self.injected = id;
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(triggered: u64, aborted: u64) -> Orders {
        Orders {
            triggered: CheckpointId(triggered),
            tables: TableSet::default(),
            pausing: CheckpointId(0),
            aborted: CheckpointId(aborted),
            completed: CheckpointId(0),
            held: false,
        }
    }

    #[test]
    fn a_set_holds_the_tables_that_were_added() {
        let mut set = TableSet::default();
        set.add(0);
        set.add(63);
        assert!(set.holds(0) && set.holds(63) && !set.holds(1) && !set.holds(64));
    }

    #[test]
    fn a_barrier_is_injected_once() {
        let mut barriers = Barriers::after(CheckpointId(3));
        assert_eq!(barriers.due(&orders(3, 0)), None);
        assert_eq!(barriers.due(&orders(4, 0)), Some(CheckpointId(4)));
        assert_eq!(barriers.due(&orders(4, 0)), None);
    }

    #[test]
    fn an_aborted_one_is_skipped_and_the_next_one_comes() {
        let mut barriers = Barriers::default();
        assert_eq!(barriers.due(&orders(1, 1)), None);
        assert_eq!(barriers.due(&orders(2, 1)), Some(CheckpointId(2)));
    }
}
