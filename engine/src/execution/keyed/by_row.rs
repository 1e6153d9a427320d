//! A keyed step that keeps rows themselves: `dedup`, `topN`, joins.
//!
//! The rows that a batch has of one key are *work*: all of it is applied together, after what it
//! needs of the state was read. What that is the step's [`Logic`] says, as often as one answer
//! leads to the next question; what is in memory is answered on the spot. Work that must wait holds
//! its key, and later rows of that key wait behind it in order. Timers are work too, so a key's
//! rows and timers never run beside each other.
//!
//! - `work.rs` — work, what it asks and what it is told. Pure; start reading here.
//! - this file — admission, reads, epochs.
//!
//! What must stay true:
//! 1. Rows of one key are applied in the order in which they arrived.
//! 2. Reading changes nothing: only [`Logic::apply`] writes, when it has all that it asked for.
//! 3. What had ended for a row (a window, a `ttl`) is decided by the watermark or clock at its
//!    arrival, which stands beside it, and not by which timers have run.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use weir_runtime::clock;
use weir_state::ids::KeyGroup;
use weir_state::key::Timer;
use weir_state::shard::{DueTimers, Shard};
use weir_state::{Access, Get, StateError};

use self::work::{Answer, Asked, Item, Place, Reading, Running, Want, Work, ask};
use super::has_room;
use super::operator::Operator;
use crate::execution::admission::Admission;
use crate::execution::epochs::Epochs;
use crate::execution::error::StageError;
use crate::execution::grouping::number_all;
use crate::execution::names::RowNames;
use crate::pipeline::spec::Order;
use crate::rows::Rows;
use crate::rows::key::Keys;

pub(crate) mod work;

/// Changes that are written as one batch.
const CHANGES_MAX: usize = 2_048;

/// Rows of a batch that a step works on.
pub(crate) struct Taken<R> {
    /// With their places in the batch.
    pub(crate) rows: Vec<(usize, R)>,
    /// Rows that came too late and were dropped.
    pub(crate) late: usize,
}

/// Where [`Logic::apply`] puts what it does.
pub(crate) struct Effects<'a, C> {
    pub(crate) shard: &'a mut Shard,
    /// Results, in order.
    pub(crate) changes: &'a mut Vec<C>,
    /// Rows that are found late here are counted here.
    pub(crate) late: &'a mut usize,
}

/// What a step does with its rows. Pure but for the state that [`Logic::apply`] writes.
pub(crate) trait Logic: Send + Sync + 'static {
    /// A row on its way to the state.
    type Row: Send;
    /// What was read for a piece of work so far.
    type Loaded: Default + Send;
    /// One result, or what became of one; it never spans two batches.
    type Change: Send;

    /// Index of the step in the job.
    fn step(&self) -> usize;

    /// The step's id.
    fn id(&self) -> &str;

    /// Columns of the key in the input with this number.
    fn key(&self, input: usize) -> &[usize];

    /// The values of a key's columns, for messages.
    fn key_text(&self, key: &Bytes) -> String;

    /// The rows of a batch that the step works on; the watermark is the one that had arrived.
    fn take(
        &self,
        input: usize,
        rows: &Rows,
        watermark: i64,
        names: &RowNames,
    ) -> Result<Taken<Self::Row>, StageError>;

    /// What a row takes up while it is in flight, in bytes.
    fn bytes(&self, row: &Self::Row) -> usize;

    /// What must be read before this can be applied, given the answers to what was asked last (at
    /// first there are none). Nothing: all is there.
    ///
    /// Errors: what is wrong with the stored bytes.
    fn wants(
        &self,
        place: &Place,
        items: &[Item<Self::Row>],
        loaded: &mut Self::Loaded,
        answers: Vec<Answer>,
    ) -> Result<Vec<Want>, String>;

    /// Writes what changes in the state, timers included, and says what comes of it.
    ///
    /// Errors: what is wrong with the key's rows.
    fn apply(
        &self,
        place: &Place,
        items: Vec<Item<Self::Row>>,
        loaded: Self::Loaded,
        effects: &mut Effects<'_, Self::Change>,
    ) -> Result<(), String>;

    /// Changes as rows.
    fn rows(&self, changes: Vec<Self::Change>, names: &RowNames) -> Result<Rows, StageError>;

    /// Up to which time timers are due at `watermark`; none: no timer goes by watermarks.
    fn due_at(&self, watermark: i64) -> Option<i64>;

    /// Whether timers go by the clock.
    fn goes_by_clock(&self) -> bool;

    /// What is forwarded once everything up to `watermark` is written.
    fn forwarded(&self, watermark: i64) -> i64 {
        watermark
    }
}

/// The state of one subtask of such a step, and what is under way in it.
pub(crate) struct ByRow<L: Logic> {
    logic: L,
    groups: u16,
    shard: Shard,
    order: Order,
    admission: Admission<Work<L::Row>>,
    epochs: Epochs,
    reads: FuturesUnordered<Reading<L>>,
    rows_in_flight: usize,
    bytes_in_flight: usize,
    changes: Vec<L::Change>,
    late: usize,
}

impl<L: Logic> ByRow<L> {
    /// Over an open shard of a job with `groups` key groups, with `watermark` as passed before.
    pub(crate) fn new(logic: L, groups: u16, shard: Shard, order: Order, watermark: i64) -> Self {
        Self {
            logic,
            groups,
            shard,
            order,
            admission: Admission::new(),
            epochs: Epochs::new(watermark),
            reads: FuturesUnordered::new(),
            rows_in_flight: 0,
            bytes_in_flight: 0,
            changes: Vec::new(),
            late: 0,
        }
    }

    /// The work that the rows of a batch are, one for each key.
    fn works(
        &self,
        input: usize,
        rows: &Rows,
        taken: Vec<(usize, L::Row)>,
        names: &RowNames,
    ) -> Result<Vec<Work<L::Row>>, StageError> {
        let columns = self.logic.key(input).iter();
        let columns: Vec<_> =
            columns.map(|column| Arc::clone(rows.batch.column(*column))).collect();
        let keys = Keys::encode(&columns, rows.len());
        let keys = keys.map_err(|error| names.bug(self.logic.id(), &error))?;
        let mut row_of_key = Vec::new();
        let number_of_row = number_all(&keys, &mut row_of_key);
        let by_clock = self.logic.goes_by_clock();
        let now_ms = if by_clock { clock::wall_ms() } else { self.epochs.arrived() };
        let mut work_of_key: Vec<Option<usize>> = vec![None; row_of_key.len()];
        let mut works: Vec<Work<L::Row>> = Vec::new();
        for (row, taken) in taken {
            let work = *work_of_key[number_of_row[row] as usize].get_or_insert_with(|| {
                let group = KeyGroup::of_hash(keys.hashes()[row], self.groups);
                works.push(Work::new(Place { group, key: keys.key_bytes(row) }));
                works.len() - 1
            });
            works[work].bytes += self.logic.bytes(&taken);
            works[work].items.push(Item::Row { row: taken, now_ms });
        }
        Ok(works)
    }

    /// Does all that can be done without waiting; the rest is parked and holds its keys.
    fn advance(&mut self, mut open: Vec<Running<L>>) -> Result<(), StageError> {
        while !open.is_empty() {
            let (mut waiting, mut wants, mut freed) = (Vec::new(), Vec::new(), Vec::new());
            for mut running in open {
                let Running { work, loaded, answers, .. } = &mut running;
                let answers = std::mem::take(answers);
                let wanted = self.logic.wants(&work.place, &work.items, loaded, answers);
                let wanted = wanted.map_err(|message| self.damaged(&running.work, message))?;
                if wanted.is_empty() {
                    freed.extend(self.finish(running)?);
                } else {
                    wants.push(wanted);
                    waiting.push(running);
                }
            }
            match ask(&self.shard, wants) {
                Asked::Ready(answers) => {
                    open = waiting;
                    for (running, answers) in open.iter_mut().zip(answers) {
                        running.answers = answers;
                    }
                }
                Asked::Pending(read) => {
                    for running in waiting.iter_mut().filter(|running| !running.is_held) {
                        self.admission.start(running.work.place.key.clone());
                        running.is_held = true;
                    }
                    self.reads.push(Reading::new(waiting, read));
                    open = Vec::new();
                }
            }
            open.append(&mut freed);
        }
        Ok(())
    }

    /// Applies work that has all that it needs; gives what waited for its key.
    fn finish(&mut self, running: Running<L>) -> Result<Option<Running<L>>, StageError> {
        let Running { work, loaded, is_held, .. } = running;
        let Work { place, items, arrived, bytes } = work;
        let (shard, changes, late) = (&mut self.shard, &mut self.changes, &mut self.late);
        let mut effects = Effects { shard, changes, late };
        let applied = self.logic.apply(&place, items, loaded, &mut effects);
        applied.map_err(|message| StageError::Key {
            step: self.logic.id().to_owned(),
            key: self.logic.key_text(&place.key),
            message,
        })?;
        for (epoch, rows) in arrived {
            self.epochs.done(epoch, rows);
            self.rows_in_flight -= rows;
        }
        self.bytes_in_flight -= bytes;
        let waited = if is_held { self.admission.end(&place.key) } else { Vec::new() };
        let waited = waited.into_iter().reduce(|mut first, later| {
            first.join(later);
            first
        });
        Ok(waited.map(Running::new))
    }

    fn damaged(&self, work: &Work<L::Row>, message: String) -> StageError {
        let key = self.logic.key_text(&work.place.key);
        StageError::StateValue { step: self.logic.id().to_owned(), key, message }
    }
}

impl<L: Logic> Operator for ByRow<L> {
    type Parked = (Vec<Running<L>>, Result<Vec<Vec<Answer>>, StateError>);

    fn step(&self) -> usize {
        self.logic.step()
    }

    fn id(&self) -> &str {
        self.logic.id()
    }

    fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    fn epochs(&mut self) -> &mut Epochs {
        &mut self.epochs
    }

    fn has_room(&self) -> bool {
        has_room(self.rows_in_flight, self.bytes_in_flight, &self.epochs, self.order)
    }

    fn is_drained(&self) -> bool {
        self.reads.is_empty() && self.admission.is_idle()
    }

    fn parked(&self) -> usize {
        self.reads.len()
    }

    fn arrive(&mut self, input: usize, rows: &Rows, names: &RowNames) -> Result<(), StageError> {
        let Taken { rows: taken, late } =
            self.logic.take(input, rows, self.epochs.arrived(), names)?;
        self.late += late;
        if taken.is_empty() {
            return Ok(());
        }
        let mut open = Vec::new();
        for mut work in self.works(input, rows, taken, names)? {
            let count = work.items.len();
            work.arrived.push((self.epochs.arrive(count), count));
            self.rows_in_flight += count;
            self.bytes_in_flight += work.bytes;
            let key = work.place.key.clone();
            open.extend(self.admission.wait(&key, work).map(Running::new));
        }
        self.advance(open)
    }

    async fn read(&mut self) -> Self::Parked {
        match self.reads.next().await {
            Some(parked) => parked,
            None => std::future::pending().await,
        }
    }

    fn unpark(&mut self, (mut open, answers): Self::Parked) -> Result<(), StageError> {
        let answers = answers.map_err(|cause| StageError::State {
            step: self.logic.id().to_owned(),
            what: "read state",
            cause,
        })?;
        for (running, answers) in open.iter_mut().zip(answers) {
            running.answers = answers;
        }
        self.advance(open)
    }

    fn take_changes(&mut self, names: &RowNames) -> Result<Option<Rows>, StageError> {
        if self.changes.is_empty() {
            return Ok(None);
        }
        let later = self.changes.split_off(self.changes.len().min(CHANGES_MAX));
        let changes = std::mem::replace(&mut self.changes, later);
        self.logic.rows(changes, names).map(Some)
    }

    fn take_late(&mut self) -> usize {
        std::mem::take(&mut self.late)
    }

    fn due_at(&self, watermark: i64) -> Option<i64> {
        self.logic.due_at(watermark)
    }

    fn next_by_clock(&self) -> Option<i64> {
        let time = self.logic.goes_by_clock().then(|| self.shard.next_timer_ms());
        time.filter(|time| *time < i64::MAX)
    }

    fn claim(&mut self, mut due: DueTimers) -> DueTimers {
        due.timers.retain(|timer| !self.admission.is_busy(&timer.key));
        due
    }

    /// Timers ask for what they need as rows do.
    fn values_of(&self, timers: &[Timer]) -> Get {
        Access::Ready(vec![None; timers.len()])
    }

    fn fire(
        &mut self,
        timers: &[Timer],
        _values: &[Option<Bytes>],
        time_ms: i64,
        _names: &RowNames,
    ) -> Result<Option<Rows>, StageError> {
        let mut by_key: BTreeMap<&Bytes, Work<L::Row>> = BTreeMap::new();
        for timer in timers {
            let place = || Place { group: timer.group, key: timer.key.clone() };
            let work = by_key.entry(&timer.key).or_insert_with(|| Work::new(place()));
            let (set_ms, namespace) = (timer.time_ms, timer.namespace.clone());
            work.items.push(Item::Timer { set_ms, namespace, now_ms: time_ms });
        }
        self.advance(by_key.into_values().map(Running::new).collect())?;
        Ok(None)
    }

    fn forwarded(&self, watermark: i64) -> i64 {
        self.logic.forwarded(watermark)
    }
}
