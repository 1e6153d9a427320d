//! The coordinator's decisions: events in, effects out.
//!
//! Pure: no I/O, no spawning, no clock of its own; the time comes with each event, and what the
//! machine waits for shows in [`Machine::deadline`]. Effects are done in order by `job.rs`; those
//! that write the journal answer with [`Event::Recorded`].
//!
//! - `machine/crew.rs` — the workers of one generation and who has answered.
//! - `machine/running.rs` — checkpoints and commits while a generation runs.
//! - `machine/failing.rs` — workers that are lost, silent or leave; errors and their budget.
//! - `machine/adopting.rs` — going on with a generation that an earlier coordinator left running.
//! - `machine/asked.rs` — a checkpoint that somebody asked for.
//! - `machine/naming.rs` — snapshots. `machine/shown.rs` — what there is to see.
//! - `machine/moving.rs` — from one generation to the next with a cut: rescale.
//!
//! What must stay true:
//!
//! 1. A generation is recorded before any worker hears of it, and a checkpoint before any commit.
//! 2. One checkpoint at a time; its number is never used again, whatever becomes of it.
//! 3. `Finished` comes only after the final checkpoint and the confirmation of every piece.
//! 4. Only errors that a worker reports, and processes that fail by themselves, use up the budget.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_runtime::clock::Instant;
use weir_runtime::sim::planted::{Planted, planted};
use weir_state::ids::{CheckpointId, Generation};

use self::adopting::{Adopting, Before};
use self::asked::Asked;
use self::crew::Crew;
use self::moving::Cut;
use self::naming::Naming;
use self::running::Running;
use super::budget::Budget;
use super::commits::Commits;
use super::layout::Layout;
use super::links::{Heard, LinkId};
use super::meters::Meters;
use super::run::Target;
use super::schedule::Schedule;
use super::snapshots::{Kept, Wishes};
use super::status::{CheckpointNumbers, Failover, Phase, Rescale};
use super::summary::Totals;
use super::tables::Tables;
use crate::cluster::{Member, WorkerState, WorkerView};
use crate::pipeline::spec::{CheckpointPolicy, FailoverPolicy, RescalePolicy};
use crate::plan::{self, JobView, Wish};
use crate::protocol::{Ack, Piece, ToCoordinator, to_coordinator, to_worker};

pub(crate) mod adopting;
mod asked;
mod crew;
mod failing;
mod moving;
mod naming;
mod running;
mod shown;
#[cfg(test)]
mod tests;

/// Longest time from sending a generation's plan to the last worker's answer.
const DEPLOY_MAX: Duration = Duration::from_secs(120);

/// What the machine has to know of a job.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) replicas: u32,
    pub(crate) slots: u32,
    pub(crate) stages: u32,
    /// Ids of the sources.
    pub(crate) sources: Vec<String>,
    /// Ids of the sinks.
    pub(crate) sinks: Vec<String>,
    /// Of each table, in the order of steps: from snapshot to snapshot; none: at the end alone.
    pub(crate) tables: Vec<Option<Duration>>,
    pub(crate) checkpoint: CheckpointPolicy,
    /// Keeps its checkpoints apart from those of other jobs ([`Schedule::new`]).
    pub(crate) spread: u64,
    pub(crate) failover: FailoverPolicy,
    pub(crate) rescale: RescalePolicy,
}

impl Shape {
    /// Replicas and slots.
    pub(crate) fn form(&self) -> (u32, u32) {
        (self.replicas, self.slots)
    }
}

/// Where the journal says that the job is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) generation: Generation,
    /// The last completed checkpoint.
    pub(crate) checkpoint: CheckpointId,
    /// Pieces that a completed checkpoint covers and no record confirms.
    pub(crate) unconfirmed: Vec<(CheckpointId, Piece)>,
    /// Snapshots by name.
    pub(crate) snapshots: BTreeMap<String, Kept>,
    /// What was counted up to the last completed checkpoint.
    pub(crate) totals: Totals,
    /// The generation that an earlier coordinator left, if there is one.
    pub(crate) before: Option<Before>,
}

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The workers that are there when this coordinator begins: before anything else.
    Found(Vec<Member>),
    /// The plan wants a generation of this width on these workers.
    Deploy(Vec<Member>, u32),
    /// The job is wanted in another form.
    Target(Target),
    /// A checkpoint is wanted at once; another number is another wish.
    Ask(u64),
    /// Snapshots are wanted, or wanted no more.
    Wish(Wishes),
    /// The snapshot is in the journal; none: its checkpoint is no longer kept.
    SnapshotNamed(String, Option<Kept>),
    /// The snapshot is no longer in the journal.
    SnapshotDropped(String),
    /// The snapshot cannot go yet; why.
    SnapshotHeld(String, String),
    /// From a control stream.
    Heard(LinkId, Heard),
    /// A worker process ended by its own fault.
    ProcessFault(String),
    /// A worker process could not be started; it is tried again.
    StartFailed(String),
    /// The new generation is in the journal.
    GenerationRecorded(Generation),
    /// The checkpoint is in the journal, and with it the confirmation of these earlier ones.
    CheckpointRecorded { id: CheckpointId, pieces: Vec<Piece>, confirmed: Vec<CheckpointId> },
    /// These pieces are on standard output.
    Printed(Vec<Piece>),
    /// Take a last checkpoint and pause, until this time at the latest.
    Suspend(Instant),
    /// The job's last record is in the journal, or it ends without one.
    Over(Phase),
    /// Time has passed.
    Tick,
}

/// Something to be done, in order.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Close all control streams.
    HangUp,
    /// Open a control stream.
    Dial(LinkId, Member),
    /// Tell a worker something about a generation.
    Send(LinkId, Generation, Box<to_worker::Body>),
    /// Write a `Generation` record and answer with its number.
    RecordGeneration(Generation, Layout),
    /// Tell these workers, each by its stream, to run the generation; close all other streams.
    Deploy(Generation, Layout, Vec<LinkId>),
    /// Write a `Checkpoint` record.
    RecordCheckpoint {
        id: CheckpointId,
        acks: Vec<Ack>,
        confirmed: Vec<CheckpointId>,
        totals: Totals,
    },
    /// Write a `Snapshot` record.
    NameSnapshot { name: String, checkpoint: CheckpointId },
    /// Write the record that gives up a snapshot's name.
    DropSnapshot(String),
    /// Write pieces to standard output.
    Print(Vec<Piece>),
    /// Write the `Finished` record.
    Finish { confirmed: Vec<CheckpointId> },
    /// Write the `Released` record.
    Release { confirmed: Vec<CheckpointId> },
}

/// What the job is doing.
#[derive(Debug)]
enum State {
    /// No generation: workers are missing, or the pause after an error has not passed.
    Idle,
    /// Workers that run a generation of an earlier coordinator were dialled.
    Adopting(Adopting),
    /// Workers were dialled.
    Greeting(Crew),
    /// All workers know us; the record is being written, or the workers set themselves up.
    Deploying(Crew),
    /// Rows flow.
    Running(Box<Running>),
    /// The last record is being written.
    Closing,
    /// Nothing more will happen.
    Over(Phase),
}

/// The decisions of one coordinator.
#[derive(Debug)]
pub(crate) struct Machine {
    shape: Shape,
    state: State,
    suspend: Option<Instant>,
    generation: Generation,
    /// The greatest checkpoint number ever used.
    checkpoint: CheckpointId,
    completed: CheckpointId,
    commits: Commits,
    schedule: Schedule,
    asked: Asked,
    naming: Naming,
    budget: Budget,
    meters: Meters,
    tables: Tables,
    lost: BTreeSet<String>,
    /// Workers that were asked to end.
    leaving: BTreeSet<String>,
    /// No generation begins before: the pause after an error.
    hold_until: Option<Instant>,
    /// Who ran what in the generation before, for those that stay.
    last: Layout,
    /// Replicas and slots of the last generation that had what was wanted.
    reached: Option<(u32, u32)>,
    /// No rescale begins before: the cooldown of the last.
    cool_until: Option<Instant>,
    /// The cut after which the next generation is being deployed.
    moving: Option<Cut>,
    next_link: u64,
    tally: Tally,
    rate: u64,
    /// The open checkpoint makes no progress.
    checkpoint_waits: bool,
    /// Whether a generation ran: under this coordinator, or workers of one are there.
    has_run: bool,
    /// Whether this coordinator went on with a generation that ran.
    is_adopted: bool,
    /// What an earlier coordinator left, until it is known who is there.
    before: Option<Before>,
}

/// As a number; what is beyond all bounds is the greatest.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a worker says that it was asked to end.
fn says_leaving(message: &ToCoordinator) -> bool {
    match &message.body {
        Some(to_coordinator::Body::Leaving(_)) => true,
        Some(to_coordinator::Body::Hello(reply)) => reply.leaving,
        _ => false,
    }
}

/// Counts for the status.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) checkpoints: u64,
    pub(crate) restarts: u64,
    pub(crate) replaced: u64,
    pub(crate) failovers: u64,
    pub(crate) checkpoint_numbers: CheckpointNumbers,
    /// When the checkpoint that is being recorded was triggered, and what it wrote.
    pub(crate) recording: Option<(Instant, u64)>,
    pub(crate) rescales: u64,
    pub(crate) last_rescale: Option<Rescale>,
    /// Since when the job recovers.
    pub(crate) recovers_since: Option<Instant>,
    pub(crate) last_failover: Option<Failover>,
    pub(crate) message: String,
}

impl Machine {
    /// A coordinator that has just read its journal.
    pub(crate) fn new(shape: Shape, recorded: Recorded, now: Instant) -> Self {
        let mut commits = Commits::default();
        for (checkpoint, piece) in recorded.unconfirmed {
            commits.add(checkpoint, [piece]);
        }
        Self {
            state: State::Idle,
            suspend: None,
            generation: recorded.generation,
            checkpoint: recorded.checkpoint,
            completed: recorded.checkpoint,
            commits,
            schedule: Schedule::new(shape.checkpoint, shape.spread, now),
            asked: Asked::after(recorded.totals.answered),
            naming: Naming::after(recorded.snapshots),
            budget: Budget::new(shape.failover),
            meters: Meters::after(&recorded.totals),
            tables: Tables::new(shape.tables.clone(), now),
            lost: BTreeSet::new(),
            leaving: BTreeSet::new(),
            hold_until: None,
            last: Layout::default(),
            reached: None,
            cool_until: None,
            moving: None,
            next_link: 0,
            tally: Tally {
                checkpoints: recorded.totals.checkpoints,
                restarts: recorded.totals.restarts,
                rescales: recorded.totals.rescales,
                last_rescale: recorded.totals.last_rescale,
                ..Tally::default()
            },
            rate: 0,
            checkpoint_waits: false,
            has_run: false,
            is_adopted: false,
            before: recorded.before,
            shape,
        }
    }

    /// What the plan has to know.
    pub(crate) fn view(&self) -> JobView {
        let wish = match &self.state {
            State::Over(_) => Wish::End,
            State::Idle if self.hold_until.is_some() => Wish::Hold,
            State::Closing => Wish::Hold,
            _ => Wish::Run,
        };
        let crew =
            |layout: &Layout| plan::Crew { workers: layout.incarnations(), width: layout.width() };
        JobView {
            replicas: self.shape.replicas,
            slots: self.shape.slots,
            wish,
            deployed: self.crew().map(|now| crew(&now.layout)),
            next: self.next_crew().map(|next| crew(&next.layout)),
            enough: self.enough(),
            lost: self.lost.clone(),
            leaving: self.leaving.clone(),
        }
    }

    /// When [`Event::Tick`] is due; none: only another event can change anything.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Idle => self.hold_until,
            State::Adopting(adopting) => Some(self.adopting_deadline(adopting)),
            State::Greeting(crew) => Some(crew.since + self.greeting_max()),
            State::Deploying(crew) => Some(crew.since + DEPLOY_MAX),
            State::Running(_) => self.running_deadline(),
            State::Closing | State::Over(_) => return None,
        };
        own.into_iter().chain(self.suspend).chain(self.naming.deadline()).min()
    }

    /// Takes an event; gives what has to be done.
    pub(crate) fn on(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if matches!(self.state, State::Over(_)) {
            return effects;
        }
        match event {
            Event::Found(found) => self.found(&found, now, &mut effects),
            Event::Deploy(workers, width) => {
                self.asked_to_deploy(workers, width, now, &mut effects)
            }
            Event::Target(target) => self.retarget(target, &mut effects),
            Event::Ask(wish) => self.asked.ask(wish),
            Event::Wish(wishes) => self.naming.wish(wishes),
            Event::SnapshotNamed(name, kept) => self.naming.named(name, kept),
            Event::SnapshotDropped(name) => self.naming.dropped(&name),
            Event::SnapshotHeld(name, why) => self.naming.held(name, why),
            Event::Heard(link, heard) => self.heard(link, heard, now, &mut effects),
            Event::ProcessFault(why) => self.process_fault(why, now, &mut effects),
            Event::StartFailed(why) => self.tally.message = why,
            Event::GenerationRecorded(generation) => self.deploy(generation, now, &mut effects),
            Event::CheckpointRecorded { id, pieces, confirmed } => {
                self.checkpoint_complete(id, pieces, &confirmed, now, &mut effects);
            }
            Event::Printed(pieces) => {
                self.commits.confirm(&pieces);
            }
            Event::Suspend(until) => self.suspend = Some(until),
            Event::Over(phase) => self.end(phase, &mut effects),
            Event::Tick => {}
        }
        self.advance(now, &mut effects);
        if self.phase() == Phase::Recovering {
            self.tally.recovers_since.get_or_insert(now);
        }
        effects
    }

    /// What has become due by itself.
    fn advance(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.hold_until.take_if(|until| now >= *until);
        if !matches!(self.state, State::Closing | State::Over(_)) {
            self.advance_naming(now, effects);
        }
        match &self.state {
            State::Idle => {}
            State::Adopting(_) => self.expire_adopting(now, effects),
            State::Greeting(crew) => {
                if now >= crew.since + self.greeting_max() {
                    self.drop_silent(effects);
                }
            }
            State::Deploying(_) => self.expire_deployment(now, effects),
            State::Running(_) => self.advance_running(now, effects),
            State::Closing | State::Over(_) => return,
        }
        if matches!(self.state, State::Closing | State::Over(_)) {
            return;
        }
        let is_late = self.suspend.is_some_and(|until| now >= until);
        let may_run = matches!(self.state, State::Running(_) | State::Adopting(_));
        if is_late || (self.suspend.is_some() && !may_run) {
            self.release(effects);
        }
    }

    fn greeting_max(&self) -> Duration {
        Duration::from_millis(self.shape.failover.timeout_ms) * 2
    }

    fn crew(&self) -> Option<&Crew> {
        match &self.state {
            State::Greeting(crew) | State::Deploying(crew) => Some(crew),
            State::Adopting(adopting) => Some(&adopting.crew),
            State::Running(running) => Some(&running.crew),
            State::Idle | State::Closing | State::Over(_) => None,
        }
    }

    /// Workers that suffice for a generation.
    fn enough(&self) -> u32 {
        let FailoverPolicy { min_survivors_percent, .. } = self.shape.failover;
        match self.has_run {
            true => self.shape.replicas.saturating_mul(min_survivors_percent).div_ceil(100),
            false => self.shape.replicas,
        }
    }

    /// Lost workers that are gone need not be remembered.
    pub(crate) fn note_gone(&mut self, seen: &[WorkerView]) {
        let is_there = |gone: &String| {
            seen.iter().any(|worker| match &worker.state {
                WorkerState::Ready(member) => member.incarnation == *gone,
                WorkerState::Starting | WorkerState::Dead(_) => false,
            })
        };
        self.lost.retain(is_there);
        self.leaving.retain(is_there);
    }

    fn greet(&mut self, workers: Vec<Member>, width: u32, now: Instant, effects: &mut Vec<Effect>) {
        if !matches!(self.state, State::Idle) {
            self.stop_generation(None, effects);
        }
        effects.push(Effect::HangUp);
        self.moving = None;
        let layout = Layout::deal(workers, width, &self.last);
        let first = self.next_link;
        self.next_link += layout.workers.len() as u64;
        let crew = Crew::new(layout, (first..self.next_link).map(LinkId).collect(), now);
        let dial = |(link, member): (LinkId, &Member)| Effect::Dial(link, member.clone());
        effects.extend(crew.members().map(dial));
        self.state = State::Greeting(crew);
    }

    /// All workers of the next generation know this coordinator.
    fn begin_generation(&mut self, crew: Crew, now: Instant, effects: &mut Vec<Effect>) {
        let crew = crew.at(now);
        let next = self.generation.next();
        effects.push(Effect::RecordGeneration(next, crew.layout.clone()));
        self.state = State::Greeting(crew);
    }

    fn heard(&mut self, link: LinkId, heard: Heard, now: Instant, effects: &mut Vec<Effect>) {
        let Some(worker) = self.crew().and_then(|crew| crew.incarnation(link)) else {
            if self.heard_of_doubted(link, &heard, now, effects) {
                return;
            }
            return self.heard_of_next(link, heard, effects);
        };
        if let State::Running(running) = &mut self.state
            && matches!(heard, Heard::Beat | Heard::Said(_))
        {
            running.crew.hear(link, now);
        }
        match heard {
            Heard::Beat => {}
            Heard::Silent(why) => self.silent(link, worker, &why, now, effects),
            Heard::Lost(why) => self.lose(worker, &why, effects),
            Heard::Said(message) => self.said(link, &worker, *message, now, effects),
        }
    }

    fn said(
        &mut self,
        link: LinkId,
        worker: &str,
        message: ToCoordinator,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        use to_coordinator::Body;
        let is_current =
            message.generation == self.generation.0 || planted(Planted::OldGenerationBelieved);
        if says_leaving(&message) {
            self.note_leaving(worker);
        }
        if matches!(self.state, State::Adopting(_)) {
            return self.said_to_adopt(link, worker, message, now, effects);
        }
        match (message.body, &mut self.state) {
            (Some(Body::Hello(reply)), _) if !reply.refused.is_empty() => {
                let why = format!("worker {worker} refused this coordinator: {}", reply.refused);
                self.end(Phase::Fenced(why), effects);
            }
            (Some(Body::Hello(reply)), _) if reply.worker != worker => {
                self.lose(worker.to_owned(), "its address answers as another worker", effects);
            }
            (Some(Body::Hello(_)), State::Greeting(crew)) => {
                crew.answer(link);
                if crew.is_complete() {
                    let crew = crew.clone();
                    self.begin_generation(crew, now, effects);
                }
            }
            (Some(Body::Deployed(_)), State::Deploying(crew)) if is_current => {
                crew.answer(link);
                if crew.is_complete() {
                    self.run(now);
                }
            }
            (Some(Body::Failed(failed)), _) if is_current && failed.fatal => {
                self.end(Phase::Failed(failed.message), effects);
            }
            // Of the generation before: that it is over is known, and a new one is about to begin.
            (Some(Body::Failed(_)), State::Greeting(_)) => {}
            (Some(Body::Failed(failed)), _) if is_current => match failed.outage {
                true => self.outage(&failed.message, now, effects),
                false => self.fault(failed.message, now, effects),
            },
            (Some(body), State::Running(_)) if is_current => {
                self.report(link, worker, body, now, effects);
            }
            // Of an older generation, or too late to matter.
            _ => {}
        }
    }

    fn deploy(&mut self, generation: Generation, now: Instant, effects: &mut Vec<Effect>) {
        self.generation = generation;
        let State::Greeting(crew) = &mut self.state else { return };
        let crew = crew.ask_again(now);
        self.last = crew.layout.clone();
        effects.push(Effect::Deploy(generation, crew.layout.clone(), crew.links().to_vec()));
        self.state = State::Deploying(crew);
    }

    fn run(&mut self, now: Instant) {
        let State::Deploying(crew) = &mut self.state else { return };
        let crew = crew.ask_again(now);
        self.has_run = true;
        self.tally.message.clear();
        let running = Running::new(crew, self.shape.stages, &self.commits, now);
        self.state = State::Running(Box::new(running));
        if let Some(since) = self.tally.recovers_since.take() {
            let last = Failover { generation: self.generation, recovery_ms: millis(now - since) };
            tracing::info!("recovered after {} ms", last.recovery_ms);
            self.tally.last_failover = Some(last);
        }
        self.arrived(now);
    }

    fn release(&mut self, effects: &mut Vec<Effect>) {
        if let State::Running(running) = &mut self.state {
            running.open = None;
        }
        self.stop_generation(None, effects);
        effects.push(Effect::Release { confirmed: self.commits.confirmed() });
        self.state = State::Closing;
    }

    fn end(&mut self, phase: Phase, effects: &mut Vec<Effect>) {
        self.stop_generation(None, effects);
        self.state = State::Over(phase);
    }

    /// How the job ended, once nothing more will happen.
    pub(crate) fn ended(&self) -> Option<&Phase> {
        match &self.state {
            State::Over(phase) => Some(phase),
            _ => None,
        }
    }
}
