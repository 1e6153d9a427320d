//! What one sees of a worker from outside, for probes and metrics. Nothing is decided from it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::execution::counters::Board;
pub use crate::execution::counters::StoreNumbers;
use crate::protocol::Progress;

/// Where a worker shows itself. Clones show and see the same.
#[derive(Clone, Debug, Default)]
pub struct Sight(watch::Sender<Seen>);

impl Sight {
    /// As it is now.
    pub fn now(&self) -> Seen {
        self.0.borrow().clone()
    }

    /// Shows something else, if it is something else.
    pub(crate) fn show(&self, shown: Shown, board: impl FnOnce() -> Option<Arc<Board>>) {
        self.0.send_if_modified(|seen| {
            let differs = seen.shown != shown;
            if differs {
                *seen = Seen { shown, board: board() };
            }
            differs
        });
    }
}

/// A worker at one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All that is no counter.
    pub shown: Shown,
    board: Option<Arc<Board>>,
}

impl Seen {
    /// What its tasks have counted since the generation began.
    pub fn progress(&self) -> Progress {
        self.board.as_ref().map(|board| board.read()).unwrap_or_default()
    }

    /// What the generation has asked of the state's store.
    pub fn store(&self) -> StoreNumbers {
        self.board.as_ref().map(|board| board.store()).unwrap_or_default()
    }
}

/// What a worker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// A coordinator's control stream is open.
    pub has_coordinator: bool,
    /// The generation that it has; 0: none.
    pub generation: u64,
    /// How far that is.
    pub doing: Doing,
    /// It was asked to end, and works until others have its work.
    pub is_leaving: bool,
    /// Its sources stand, since no coordinator came for too long.
    pub is_held: bool,
}

/// How far a worker is with its generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// It has none.
    #[default]
    Nothing,
    /// Opens shards, sources and sinks.
    Starting,
    /// Rows flow.
    Running,
    /// A task failed; it waits for the coordinator's next word.
    Failed,
}
