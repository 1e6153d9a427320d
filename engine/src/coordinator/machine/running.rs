//! Checkpoints and commits while a generation runs. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_runtime::clock::Instant;
use weir_runtime::sim::planted::{Planted, planted};
use weir_state::ids::CheckpointId;

use super::crew::Crew;
use super::moving::Move;
use super::{Effect, Machine, State, Tally};
use crate::coordinator::commits::Commits;
use crate::coordinator::links::LinkId;
use crate::coordinator::open::Open;
use crate::coordinator::status::Phase;
use crate::coordinator::summary::Totals;
use crate::protocol::to_coordinator::Body;
use crate::protocol::{Abort, Piece, Trigger, to_worker};

/// An unconfirmed commit is ordered again after this long.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// An open checkpoint without progress is shown after three intervals, and not before this.
const STUCK_MIN: Duration = Duration::from_secs(30);

/// What a running generation has to do before it may end.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) crew: Crew,
    /// The generation that is to follow.
    pub(crate) next: Option<Move>,
    /// Fresh streams to workers that were silent together, each with the silent one.
    pub(crate) doubted: BTreeMap<LinkId, LinkId>,
    /// (stage, subtask) pairs.
    subtasks: usize,
    /// (stage, subtask) that saw the end of all their input.
    done: BTreeSet<(u32, u32)>,
    pub(crate) open: Option<Open>,
    /// Something happened that no checkpoint holds.
    pub(super) changed: bool,
    /// The checkpoint after the end of all input is complete.
    is_last_complete: bool,
    /// When unconfirmed commits are ordered (again); none: all is confirmed.
    next_commit: Option<Instant>,
}

impl Running {
    /// A generation that has just begun. Pieces that an earlier one left go out first.
    pub(crate) fn new(crew: Crew, stages: u32, commits: &Commits, now: Instant) -> Self {
        let subtasks = crew.layout.width() * stages;
        Self {
            crew,
            next: None,
            doubted: BTreeMap::new(),
            subtasks: usize::try_from(subtasks).unwrap_or(usize::MAX),
            done: BTreeSet::new(),
            open: None,
            // A new generation counts as a change once.
            changed: true,
            is_last_complete: false,
            next_commit: (!commits.is_settled()).then_some(now),
        }
    }
}

impl Running {
    /// Commits are ordered, and everybody is told what is complete, at this time.
    pub(super) fn commit_at(&mut self, at: Instant) {
        self.next_commit = Some(at);
    }

    /// Whether the checkpoint after the end of all input is complete.
    pub(super) fn is_last_complete(&self) -> bool {
        self.is_last_complete
    }

    /// Whether nothing but the last checkpoint and its commits is left to do.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_last_complete || self.done.len() >= self.subtasks
    }
}

impl Tally {
    /// The checkpoint that was being recorded is complete.
    pub(super) fn recorded(&mut self, now: Instant) {
        let Some((began, bytes)) = self.recording.take() else { return };
        let numbers = &mut self.checkpoint_numbers;
        numbers.last_ms = u64::try_from((now - began).as_millis()).unwrap_or(u64::MAX);
        numbers.last_bytes = bytes;
        numbers.total_ms += numbers.last_ms;
        numbers.total_bytes += bytes;
    }
}

impl Machine {
    /// A worker of the running generation reports.
    pub(super) fn report(
        &mut self,
        link: LinkId,
        worker: &str,
        body: Body,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let State::Running(running) = &mut self.state else { return };
        match body {
            Body::Ack(ack) => {
                if let Some(open) = &mut running.open {
                    open.ack(ack, now);
                }
            }
            Body::Declined(declined) => {
                if running.open.as_ref().is_some_and(|open| open.id.0 == declined.checkpoint) {
                    self.abort(&declined.reason, now, effects);
                }
            }
            Body::Committed(committed) => {
                self.commits.confirm(&committed.pieces);
                if committed.checkpoint == self.completed.0 {
                    running.crew.answer(link);
                }
            }
            Body::InputDone(done) => {
                running.done.insert((done.stage, done.subtask));
            }
            Body::Paused(paused) => {
                if let Some(next) = &mut running.next {
                    next.paused(&paused, now);
                }
            }
            Body::Progress(progress) => {
                running.changed |= self.meters.told(worker, progress);
            }
            Body::Hello(_)
            | Body::Deployed(_)
            | Body::Failed(_)
            | Body::Stopped(_)
            | Body::Leaving(_)
            | Body::Heartbeat(_) => {}
        }
    }

    /// Whether the open checkpoint has made no progress for so long that one should know.
    pub(super) fn waits_for_checkpoint(&self, now: Instant) -> bool {
        let State::Running(running) = &self.state else { return false };
        let limit = Duration::from_millis(self.shape.checkpoint.interval_ms * 3).max(STUCK_MIN);
        running.open.as_ref().is_some_and(|open| now >= open.progress + limit)
    }

    /// When something becomes due by itself while a generation runs.
    pub(super) fn running_deadline(&self) -> Option<Instant> {
        let State::Running(running) = &self.state else { return None };
        let checkpoint = match &running.open {
            Some(open) => Some(self.schedule.gives_up(open.progress)),
            None if self.has_changed() => Some(self.schedule.due()),
            None if self.is_asked() && !running.is_last_complete => Some(self.schedule.due()),
            None if running.is_last_complete => None,
            None => self.tables.due().map(|due| due.max(self.schedule.due())),
        };
        let next = running.next.as_ref().map(Move::deadline);
        let due = [checkpoint, running.next_commit, next, self.cool_until];
        due.into_iter().flatten().min()
    }

    pub(super) fn has_changed(&self) -> bool {
        let State::Running(running) = &self.state else { return false };
        !running.is_last_complete && (running.changed || self.commits.has_unrecorded())
    }

    /// What has become due by itself while a generation runs.
    pub(super) fn advance_running(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.order_commits(now, effects);
        self.cool_until.take_if(|until| now >= *until);
        self.expire_move(now, effects);
        let is_settled = self.is_settled();
        let State::Running(running) = &mut self.state else { return };
        if let Some(open) = &running.open {
            if open.is_complete() {
                self.record_checkpoint(effects);
            } else if now >= self.schedule.gives_up(open.progress) {
                let timeout = Duration::from_millis(self.shape.checkpoint.timeout_ms);
                self.abort(&format!("no progress for {timeout:?}"), now, effects);
            }
            return;
        }
        let all_done = running.done.len() >= running.subtasks;
        if all_done || self.suspend.is_some() {
            // There is nothing left to move.
            running.next = None;
        }
        if running.is_last_complete {
            if is_settled {
                self.close(effects);
            }
        } else if all_done || self.suspend.is_some() {
            self.trigger(true, false, now, effects);
        } else if self.advance_move(now, effects) {
            // Its checkpoints come first.
        } else if self.is_asked_at(now)
            || ((self.has_changed() || self.tables.due().is_some_and(|due| now >= due))
                && now >= self.schedule.due())
        {
            self.trigger(false, false, now, effects);
        }
    }

    /// Whether everything that was committed is known to be visible, and everyone was told.
    fn is_settled(&self) -> bool {
        let State::Running(running) = &self.state else { return false };
        self.commits.is_settled() && running.next_commit.is_none()
    }

    pub(super) fn trigger(
        &mut self,
        is_last: bool,
        pauses: bool,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let State::Running(running) = &mut self.state else { return };
        self.checkpoint = self.checkpoint.next();
        self.schedule.begin(now);
        self.asked.begin();
        self.naming.begin();
        // A cut writes no snapshots: rows stand still until it is complete.
        let tables = match pauses {
            true => self.tables.skip(running.changed, now),
            false => self.tables.begin(is_last, running.changed, now),
        };
        running.changed = false;
        running.open = Some(Open::new(self.checkpoint, running.subtasks, is_last, now));
        let trigger = Trigger { checkpoint: self.checkpoint.0, tables: tables.0, pauses };
        let trigger = to_worker::Body::Trigger(trigger);
        let links = running.crew.links().iter();
        effects
            .extend(links.map(|link| Effect::Send(*link, self.generation, trigger.clone().into())));
        if pauses {
            self.cut_ordered(self.checkpoint, now);
        }
    }

    fn abort(&mut self, why: &str, now: Instant, effects: &mut Vec<Effect>) {
        self.drop_checkpoint(why, now, effects);
        if !self.schedule.fail(now) {
            let why = format!(
                "{} checkpoints failed in a row (checkpoint.tolerableFailures); the last: {why}",
                self.schedule.failures()
            );
            self.end(Phase::Failed(why), effects);
        }
    }

    /// The open checkpoint is given up, and that does not count as a failure of it.
    pub(super) fn drop_checkpoint(&mut self, why: &str, now: Instant, effects: &mut Vec<Effect>) {
        let State::Running(running) = &mut self.state else { return };
        let Some(open) = running.open.take() else { return };
        self.tally.checkpoint_numbers.aborted += 1;
        running.changed = true;
        if let Some(next) = &mut running.next {
            next.aborted(now);
        }
        self.tally.message = format!("checkpoint {} was aborted: {why}", open.id);
        tracing::warn!(checkpoint = open.id.0, "checkpoint was aborted: {why}");
        let abort = to_worker::Body::Abort(Abort { checkpoint: open.id.0 });
        let links = running.crew.links().iter();
        effects
            .extend(links.map(|link| Effect::Send(*link, self.generation, abort.clone().into())));
    }

    fn record_checkpoint(&mut self, effects: &mut Vec<Effect>) {
        let State::Running(running) = &mut self.state else { return };
        let Some(open) = running.open.take() else { return };
        running.is_last_complete = open.is_last;
        let (id, began, acks) = (open.id, open.began, open.into_acks());
        let bytes = acks.iter().map(|ack| ack.state_bytes_written).sum();
        self.tally.recording = Some((began, bytes));
        // If the record does not come about, this coordinator ends.
        self.meters.cover(&acks);
        let (before, requests_before) = self.meters.before();
        let totals = Totals {
            before: before.clone(),
            requests_before,
            generation: self.generation.0,
            steps: self.meters.covered().clone(),
            checkpoints: self.tally.checkpoints + 1,
            restarts: self.tally.restarts,
            rescales: self.tally.rescales,
            last_rescale: self.tally.last_rescale,
            requests: self.meters.requests(),
            answered: self.asked.would_answer(),
        };
        let confirmed = self.commits.confirmed();
        effects.push(Effect::RecordCheckpoint { id, acks, confirmed, totals });
    }

    /// The record is in the journal: this is the moment at which the checkpoint is complete.
    pub(super) fn checkpoint_complete(
        &mut self,
        id: CheckpointId,
        pieces: Vec<Piece>,
        confirmed: &[CheckpointId],
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.completed = id;
        self.schedule.complete(now);
        self.asked.complete();
        self.naming.complete(id, self.shape.checkpoint.retained);
        self.tables.complete();
        self.tally.checkpoints += 1;
        self.tally.recorded(now);
        self.commits.recorded(confirmed);
        self.commits.add(id, pieces);
        if let State::Running(running) = &mut self.state {
            running.crew = running.crew.ask_again(now);
            running.next_commit = Some(now);
        }
        self.after_checkpoint(id, now, effects);
        self.order_commits(now, effects);
    }

    pub(super) fn order_commits(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let State::Running(running) = &mut self.state else { return };
        if self.commits.is_settled() && running.crew.is_complete() {
            running.next_commit = None;
        }
        if running.next_commit.is_none_or(|next| now < next) {
            return;
        }
        running.next_commit = Some(now + COMMIT_EVERY);
        let orders = self.commits.orders(self.completed, running.crew.len());
        for (link, order) in running.crew.links().iter().zip(orders) {
            effects.push(Effect::Send(
                *link,
                self.generation,
                to_worker::Body::Commit(order).into(),
            ));
        }
        if planted(Planted::NotificationLost) {
            let links: Vec<LinkId> = running.crew.links().to_vec();
            links.into_iter().for_each(|link| running.crew.answer(link));
            self.commits.believe_all();
        }
        let printed = self.commits.printed();
        if !printed.is_empty() {
            effects.push(Effect::Print(printed));
        }
    }

    /// After the last checkpoint and all its commits.
    fn close(&mut self, effects: &mut Vec<Effect>) {
        let State::Running(running) = &self.state else { return };
        if self.suspend.is_some() && running.done.len() < running.subtasks {
            self.release(effects);
            return;
        }
        effects.push(Effect::Finish { confirmed: self.commits.confirmed() });
        self.state = State::Closing;
    }
}
