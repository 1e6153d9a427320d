//! The task of a keyed stage: inputs in, units and timers through, results and marks out.
//!
//! Selects an event and applies it; then does all that can be done without waiting for state:
//! releases watermarks, runs timers, takes the checkpoint whose barriers are aligned.
//!
//! What must stay true:
//! 1. A watermark is forwarded when all rows before it are done and the windows it closes are
//!    written.
//! 2. At a barrier all units end first. A firing stops between two chunks: what is not written yet
//!    stays in the state with its timers, and the restored watermark fires it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join;
use prost::Message as _;
use weir_runtime::clock;
use weir_runtime::sim::planted::{Planted, planted};
use weir_state::ids::CheckpointId;
use weir_state::shard::DueTimers;
use weir_state::{Access, Pending, StateError};

use super::operator::Operator;
use crate::exchange::message::Message;
use crate::exchange::{ExchangeError, InputGate};
use crate::execution::alignment::Alignment;
use crate::execution::context::Context;
use crate::execution::counters::WatermarkGauge;
use crate::execution::error::StageError;
use crate::execution::marks::Marks;
use crate::execution::names::RowNames;
use crate::execution::orders::Orders;
use crate::execution::tail::Tail;
use crate::execution::window::{WATERMARK_END, WATERMARK_NONE};
use crate::protocol::RangeWatermark;
use crate::rows::Rows;

/// Timers that run together.
const FIRED_ROWS_MAX: usize = 1_024;
/// Timers that go by the clock are looked for this often at least.
const LOOK_MAX: Duration = Duration::from_secs(3_600);

/// One subtask of a keyed stage.
pub(crate) struct KeyedTask<O> {
    pub(crate) context: Context,
    pub(crate) keyed: O,
    pub(crate) gate: InputGate,
    pub(crate) tail: Tail,
    pub(crate) names: Arc<RowNames>,
    pub(crate) gauge: Arc<WatermarkGauge>,
    pub(crate) inputs: Inputs,
    pub(crate) outlet: Outlet,
}

/// How far the channels into the stage are.
pub(crate) struct Inputs {
    pub(crate) alignment: Alignment,
    pub(crate) marks: Marks,
    /// Of each channel, which input of the step it belongs to: a join has two.
    input_of_channel: Vec<usize>,
    /// Channels that have not ended.
    open: usize,
    /// The checkpoint whose barriers have come from everywhere; nothing is read until it is cut.
    cutting: Option<CheckpointId>,
}

impl Inputs {
    /// Of channels that belong to these inputs of the step, none of which has ended.
    pub(crate) fn new(alignment: Alignment, marks: Marks, input_of_channel: Vec<usize>) -> Self {
        let open = input_of_channel.len();
        Self { alignment, marks, input_of_channel, open, cutting: None }
    }

    fn input_of(&self, channel: usize) -> usize {
        self.input_of_channel.get(channel).copied().unwrap_or_default()
    }
}

/// How far the watermark is on its way out.
pub(crate) struct Outlet {
    /// Released: its timers are running, then it is forwarded.
    current: Option<i64>,
    firing: Option<Firing>,
    /// All timers that were found due have keys that rows hold; they wait for a unit to end.
    blocked: bool,
    /// Timers that are to run before more rows are taken: two for each row that was taken while some
    /// were due. Else rows that come faster than windows close leave the watermark behind for good.
    owed: usize,
    forwarded: i64,
    /// `End` was sent.
    ended: bool,
}

impl Outlet {
    /// `watermark` had been passed before; what it closes is fired first.
    pub(crate) fn new(watermark: i64) -> Self {
        let current = (watermark > WATERMARK_NONE).then_some(watermark);
        let (blocked, owed, forwarded) = (false, 0, WATERMARK_NONE);
        Self { current, firing: None, blocked, owed, forwarded, ended: false }
    }

    /// Whether the next look does something without any event: not while timers are read or their
    /// keys are held, nor while a cut waits for units, since what is fired belongs behind it.
    fn fires_on(&self, waits_to_cut: bool) -> bool {
        self.current.is_some() && self.firing.is_none() && !self.blocked && !waits_to_cut
    }

    fn is_firing(&self) -> bool {
        self.current.is_some() || self.firing.is_some()
    }

    /// Rows are taken.
    fn owe(&mut self, rows: usize) {
        self.owed = if self.is_firing() { 2 * rows } else { 0 };
    }

    /// Whether input waits for timers. What is blocked waits for units, not for input.
    fn holds_input(&self) -> bool {
        self.owed > 0 && self.is_firing() && !self.blocked
    }

    /// Nothing is due at `watermark` any more, so it goes on. One that was released since the
    /// state was asked stays: nobody has asked for what it closes.
    fn pass(&mut self, watermark: i64) {
        self.current = self.current.filter(|current| *current > watermark);
    }
}

/// By what timers are due.
#[derive(Clone, Copy)]
enum Until {
    Watermark(i64),
    /// The wall clock, in milliseconds.
    Clock(i64),
}

impl Until {
    fn time_ms(self) -> i64 {
        match self {
            Self::Watermark(time) | Self::Clock(time) => time,
        }
    }
}

/// A chunk of due timers on its way through the state.
enum Firing {
    Asking(Until, Pending<DueTimers>),
    Reading(Until, DueTimers, Pending<Vec<Option<Bytes>>>),
}

#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
enum Event<P> {
    Orders(Orders),
    Due(Until, Result<DueTimers, StateError>),
    Values(Result<Vec<Option<Bytes>>, StateError>),
    Unit(P),
    Input(Result<(usize, Message), ExchangeError>),
    Settle,
}

impl<O: Operator> KeyedTask<O> {
    /// Runs until it fails.
    pub(crate) async fn run(mut self) -> StageError {
        match self.work().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn work(&mut self) -> Result<Infallible, StageError> {
        let orders = self.context.orders();
        self.obey(orders);
        loop {
            self.settle().await?;
            if !self.takes_input() || !self.gate.is_ready() {
                self.tail.flush().await?;
            }
            let event = self.next().await;
            self.apply(event).await?;
        }
    }

    fn takes_input(&self) -> bool {
        self.inputs.cutting.is_none() && self.keyed.has_room() && !self.outlet.holds_input()
    }

    /// Whether a checkpoint waits for units that are under way.
    fn waits_to_cut(&self) -> bool {
        self.inputs.cutting.is_some() && !self.keyed.is_drained()
    }

    async fn next(&mut self) -> Event<O::Parked> {
        let takes_input = self.takes_input();
        let parked = self.keyed.parked() > 0;
        let waits_to_cut = self.waits_to_cut();
        let fires_on = self.outlet.fires_on(waits_to_cut);
        let looks = self.outlet.firing.is_none() && !self.outlet.blocked && !waits_to_cut;
        let until_timer = self.keyed.next_by_clock().filter(|_| looks).map(until);
        tokio::select! {
            biased;
            orders = self.context.ordered() => Event::Orders(orders),
            event = fires(&mut self.outlet.firing) => event,
            state = self.keyed.read(), if parked => Event::Unit(state),
            input = self.gate.next(), if takes_input => Event::Input(input),
            // Others run between two chunks.
            () = tokio::task::yield_now(), if fires_on => Event::Settle,
            () = clock::sleep(until_timer.unwrap_or_default()), if until_timer.is_some() => {
                Event::Settle
            }
        }
    }

    async fn apply(&mut self, event: Event<O::Parked>) -> Result<(), StageError> {
        match event {
            Event::Settle => {}
            Event::Orders(orders) => self.obey(orders),
            Event::Unit(state) => {
                self.outlet.blocked = false;
                self.keyed.unpark(state)?;
                self.write_changes().await?;
            }
            Event::Due(until, due) => {
                self.outlet.firing = None;
                let due = due.map_err(|cause| self.state_error("read timers", cause))?;
                self.found(until, due).await?;
            }
            Event::Values(values) => {
                let values = values.map_err(|cause| self.state_error("read state", cause))?;
                if let Some(Firing::Reading(until, due, _)) = self.outlet.firing.take() {
                    self.fire(until, &due, &values).await?;
                }
            }
            Event::Input(input) => {
                let (channel, message) =
                    input.map_err(|cause| StageError::exchange(&self.step(), cause))?;
                self.received(channel, message).await?;
            }
        }
        self.upkeep()
    }

    fn step(&self) -> String {
        self.keyed.id().to_owned()
    }

    fn state_error(&self, what: &'static str, cause: StateError) -> StageError {
        StageError::State { step: self.step(), what, cause }
    }

    fn upkeep(&mut self) -> Result<(), StageError> {
        let kept = self.keyed.shard().maintain();
        kept.map_err(|cause| self.state_error("write state", cause))
    }

    fn obey(&mut self, orders: Orders) {
        self.inputs.alignment.abort(orders.aborted);
        self.sync_gate();
        self.keyed.shard().completed(orders.completed);
    }

    /// Reads those channels that the alignment does not hold.
    fn sync_gate(&mut self) {
        self.gate.unblock_all();
        for channel in 0..self.gate.inputs().len() {
            if self.inputs.alignment.is_held(channel) {
                self.gate.block(channel);
            }
        }
    }

    async fn received(&mut self, channel: usize, message: Message) -> Result<(), StageError> {
        match message {
            Message::Rows(rows) => return self.rows(channel, &rows).await,
            Message::Progress(progress) => {
                let moved = self.inputs.marks.progress(channel, &progress);
                self.arrived(moved);
            }
            Message::Watermark(watermark) => {
                let moved = self.inputs.marks.watermark(channel, watermark);
                self.arrived(moved);
            }
            Message::Barrier(id) => {
                self.inputs.cutting = self.inputs.alignment.barrier(channel, id);
                self.sync_gate();
            }
            Message::End => {
                self.inputs.open -= 1;
                if self.inputs.open == 0 {
                    self.arrived(Some(WATERMARK_END));
                }
            }
        }
        Ok(())
    }

    async fn rows(&mut self, channel: usize, rows: &Rows) -> Result<(), StageError> {
        let room = self.keyed.shard().make_room().await;
        room.map_err(|cause| self.state_error("write state", cause))?;
        let counter = self.context.counters().step(self.keyed.step());
        counter.add_in(rows.len());
        self.outlet.owe(rows.len());
        self.keyed.arrive(self.inputs.input_of(channel), rows, &self.names)?;
        self.write_changes().await
    }

    /// Writes what changed in results, and counts what was late.
    async fn write_changes(&mut self) -> Result<(), StageError> {
        let step = self.keyed.step();
        self.context.counters().step(step).add_late(self.keyed.take_late());
        while let Some(rows) = self.keyed.take_changes(&self.names)? {
            self.context.counters().step(step).add_out(rows.len());
            self.tail.emit(rows).await?;
        }
        Ok(())
    }

    fn arrived(&mut self, watermark: Option<i64>) {
        if let Some(watermark) = watermark {
            self.keyed.epochs().watermark(watermark);
        }
    }

    /// Does all that can be done now besides reading input.
    async fn settle(&mut self) -> Result<(), StageError> {
        loop {
            self.outlet.current = self.outlet.current.max(self.keyed.epochs().release());
            if self.outlet.firing.is_some() || self.outlet.blocked || self.waits_to_cut() {
                return Ok(());
            }
            if let Some(id) = self.inputs.cutting.take() {
                self.cut(id).await?;
            }
            let Some(until) = self.due_until() else { break };
            let up_to = match until {
                Until::Watermark(watermark) => self.keyed.due_at(watermark),
                Until::Clock(now) => Some(now),
            };
            let Some(up_to) = up_to.filter(|time| self.keyed.shard().next_timer_ms() <= *time)
            else {
                self.pass(until).await?;
                continue;
            };
            match self.keyed.shard().due_timers(up_to, FIRED_ROWS_MAX) {
                Access::Ready(due) => {
                    let fires = !due.timers.is_empty();
                    self.found(until, due).await?;
                    if fires {
                        // One chunk at a time: a barrier must not wait for all windows.
                        return Ok(());
                    }
                }
                Access::Pending(read) => {
                    self.outlet.firing = Some(Firing::Asking(until, read));
                }
            }
        }
        self.end().await
    }

    /// The watermark on its way out, else the clock when a timer may be due by it.
    fn due_until(&self) -> Option<Until> {
        if let Some(watermark) = self.outlet.current {
            return Some(Until::Watermark(watermark));
        }
        let now = clock::wall_ms();
        let due = self.keyed.next_by_clock().filter(|time| *time <= now);
        due.map(|_| Until::Clock(now))
    }

    /// Nothing is due any more.
    async fn pass(&mut self, until: Until) -> Result<(), StageError> {
        match until {
            Until::Watermark(watermark) => self.forward(watermark).await,
            Until::Clock(_) => Ok(()),
        }
    }

    /// Timers are due: gets their values. None are: the watermark can go on.
    async fn found(&mut self, until: Until, due: DueTimers) -> Result<(), StageError> {
        if due.timers.is_empty() {
            return self.pass(until).await;
        }
        let due = self.keyed.claim(due);
        if due.timers.is_empty() {
            self.outlet.blocked = true;
            return Ok(());
        }
        if let Until::Watermark(watermark) = until
            && planted(Planted::WatermarkBeforeWindows)
        {
            let forwarded = self.keyed.forwarded(watermark);
            self.tail.tell(Message::Watermark(forwarded)).await?;
        }
        match self.keyed.values_of(&due.timers) {
            Access::Ready(values) => self.fire(until, &due, &values).await,
            Access::Pending(read) => {
                self.outlet.firing = Some(Firing::Reading(until, due, read));
                Ok(())
            }
        }
    }

    /// Writes windows that are due. When they were the last ones, the watermark goes on at the
    /// next look.
    async fn fire(
        &mut self,
        until: Until,
        due: &DueTimers,
        values: &[Option<Bytes>],
    ) -> Result<(), StageError> {
        self.outlet.owed = self.outlet.owed.saturating_sub(due.timers.len());
        let rows = self.keyed.fire(&due.timers, values, until.time_ms(), &self.names)?;
        if let Some(rows) = rows.filter(|rows| !rows.is_empty()) {
            self.context.counters().step(self.keyed.step()).add_out(rows.len());
            self.tail.emit(rows).await?;
        }
        self.write_changes().await
    }

    async fn forward(&mut self, watermark: i64) -> Result<(), StageError> {
        self.outlet.pass(watermark);
        self.gauge.set(watermark);
        let forwarded = self.keyed.forwarded(watermark);
        if forwarded > self.outlet.forwarded {
            self.outlet.forwarded = forwarded;
            self.tail.tell(Message::Watermark(forwarded)).await?;
        }
        Ok(())
    }

    /// Says once that all is over: every input ended, everything written.
    async fn end(&mut self) -> Result<(), StageError> {
        if self.inputs.open > 0 || self.outlet.ended || self.outlet.forwarded < WATERMARK_END {
            return Ok(());
        }
        self.outlet.ended = true;
        self.tail.tell(Message::End).await?;
        self.context.input_done().await;
        Ok(())
    }

    async fn cut(&mut self, id: CheckpointId) -> Result<(), StageError> {
        let pieces = self.tail.cut(id, self.context.orders().completed)?;
        let step = self.step();
        let range = self.keyed.shard().range();
        let frozen = self.keyed.shard().checkpoint(id);
        let mut ack = self.context.ack(id);
        ack.watermark = Some(RangeWatermark {
            step: step.clone(),
            group_start: range.start.into(),
            group_end: range.end.into(),
            watermark_ms: self.keyed.epochs().arrived(),
        });
        self.tail.tell(Message::Barrier(id)).await?;
        let uploaded = async move {
            let state = async {
                let what = "write state";
                frozen.await.map_err(|cause| StageError::State { step, what, cause })
            };
            let (state, pieces) = try_join(state, pieces).await?;
            ack.version = state.version.encode_to_vec().into();
            ack.unnamed = state.unnamed;
            ack.state_bytes_written = state.bytes_written;
            ack.pieces = pieces;
            Ok(ack)
        };
        self.context.acknowledge(uploaded).await;
        Ok(())
    }
}

/// How long it is until the wall clock says `time_ms`, at most an hour.
fn until(time_ms: i64) -> Duration {
    let left = time_ms.saturating_sub(clock::wall_ms()).max(0);
    Duration::from_millis(left.unsigned_abs()).min(LOOK_MAX)
}

/// Waits for the chunk that is on its way. Cancel safe.
async fn fires<P>(firing: &mut Option<Firing>) -> Event<P> {
    match firing {
        Some(Firing::Asking(until, read)) => Event::Due(*until, read.await),
        Some(Firing::Reading(_, _, read)) => Event::Values(read.await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_keys_of_timers_are_held_the_task_sleeps() {
        let mut outlet = Outlet::new(5);
        outlet.blocked = true;
        assert!(!outlet.fires_on(false));
    }

    #[test]
    fn while_a_cut_waits_for_units_the_task_sleeps_although_windows_are_due() {
        let outlet = Outlet::new(5);
        assert!(outlet.fires_on(false));
        assert!(!outlet.fires_on(true), "it would look again and again and let nobody else run");
    }

    #[test]
    fn rows_that_come_while_windows_are_due_wait_until_twice_as_many_have_closed() {
        let mut outlet = Outlet::new(5);
        outlet.owe(500);
        assert!(outlet.holds_input());
        outlet.owed -= 999;
        assert!(outlet.holds_input());
        outlet.blocked = true;
        assert!(!outlet.holds_input(), "its keys are held by units: rows may come");
        outlet.blocked = false;
        outlet.pass(5);
        assert!(!outlet.holds_input(), "nothing is due any more");
        outlet.owe(500);
        outlet.current = Some(6);
        assert!(!outlet.holds_input(), "nothing was due when they came");
    }

    #[test]
    fn a_watermark_released_while_timers_were_read_is_not_passed_with_the_one_asked_for() {
        let mut outlet = Outlet::new(5);
        outlet.current = outlet.current.max(Some(WATERMARK_END));
        outlet.pass(5);
        assert_eq!(outlet.current, Some(WATERMARK_END), "its windows are still to be fired");
        outlet.pass(WATERMARK_END);
        assert_eq!(outlet.current, None);
    }
}
