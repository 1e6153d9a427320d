//! What a keyed stage's task drives: the step between its inputs and its outputs.
//!
//! [`super::Keyed`] combines rows to partial values before state is touched; [`super::by_row::ByRow`]
//! keeps rows themselves. Both admit rows by key, park units that wait for their state, and keep
//! the epochs between watermarks.

use bytes::Bytes;
use weir_state::Get;
use weir_state::key::Timer;
use weir_state::shard::{DueTimers, Shard};

use crate::execution::epochs::Epochs;
use crate::execution::error::StageError;
use crate::execution::names::RowNames;
use crate::rows::Rows;

/// One subtask of a step with keyed state.
pub(crate) trait Operator: Send + 'static {
    /// A parked unit whose state has come.
    type Parked: Send;

    /// Index of the step in the job.
    fn step(&self) -> usize;

    /// The step's id.
    fn id(&self) -> &str;

    /// The shard, for checkpoints and upkeep.
    fn shard(&mut self) -> &mut Shard;

    /// The watermarks of the input.
    fn epochs(&mut self) -> &mut Epochs;

    /// Whether more input may be taken.
    fn has_room(&self) -> bool;

    /// Whether no unit is under way.
    fn is_drained(&self) -> bool;

    /// Units that wait for their state.
    fn parked(&self) -> usize;

    /// Takes a batch of the input with this number.
    ///
    /// Errors: a row that the step can't take, damaged state.
    fn arrive(&mut self, input: usize, rows: &Rows, names: &RowNames) -> Result<(), StageError>;

    /// Waits until a parked unit has its state. Cancel safe; hand it to [`Operator::unpark`].
    fn read(&mut self) -> impl Future<Output = Self::Parked> + Send;

    /// Applies a unit that was parked, and starts what waited for its keys.
    fn unpark(&mut self, parked: Self::Parked) -> Result<(), StageError>;

    /// Rows of the changes that were made and not given yet, a batch of them; none: there are none.
    fn take_changes(&mut self, names: &RowNames) -> Result<Option<Rows>, StageError>;

    /// How many rows were found late since the last call.
    fn take_late(&mut self) -> usize;

    /// Up to which time timers are due at `watermark`; none: no timer goes by watermarks.
    fn due_at(&self, watermark: i64) -> Option<i64>;

    /// The next timer that goes by the clock, if there may be one.
    fn next_by_clock(&self) -> Option<i64>;

    /// Leaves out timers whose keys are held by rows in flight: they run when the rows are done.
    fn claim(&mut self, due: DueTimers) -> DueTimers;

    /// What timers need to run, where that is known before.
    fn values_of(&self, timers: &[Timer]) -> Get;

    /// Runs claimed timers, which are due at `time_ms`; rows that are written at once are given.
    fn fire(
        &mut self,
        timers: &[Timer],
        values: &[Option<Bytes>],
        time_ms: i64,
        names: &RowNames,
    ) -> Result<Option<Rows>, StageError>;

    /// What is forwarded once everything up to `watermark` is written.
    fn forwarded(&self, watermark: i64) -> i64;
}
