//! From one generation to the next while rows flow: a rescale, or the way back to full width. Pure.
//!
//! *Preparing*: new workers are dialled and a normal checkpoint is taken while the job runs, so
//! that the cut has little to flush. *Cutting*: a checkpoint at whose barrier the sources pause.
//! *Moving*: its record is in the journal; the generation's record and the deployment follow, as
//! for any other. Until the cut's record nothing is lost by giving up: [`Machine::stay`].

use std::time::Duration;

use weir_runtime::clock::Instant;
use weir_runtime::sim::planted::{Planted, planted};
use weir_state::ids::CheckpointId;

use super::crew::Crew;
use super::{Effect, Machine, State, millis};
use crate::cluster::Member;
use crate::coordinator::commits::Commits;
use crate::coordinator::layout::Layout;
use crate::coordinator::links::{Heard, LinkId};
use crate::coordinator::run::Target;
use crate::coordinator::status::{Phase, Rescale};
use crate::protocol::{Abort, Paused, Stop, to_coordinator, to_worker};

/// Pause before the next try after a checkpoint of a move was given up.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A generation that is to follow the running one.
#[derive(Debug)]
pub(crate) struct Move {
    /// Its workers; those have answered that know this coordinator.
    pub(crate) crew: Crew,
    /// The cut is in the journal by then, or the move is given up.
    until: Instant,
    /// No checkpoint is tried before: one was given up.
    not_before: Option<Instant>,
    /// Whether a checkpoint was completed since then.
    is_flushed: bool,
    cut: Option<Cut>,
}

/// The checkpoint that pauses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    id: CheckpointId,
    ordered: Instant,
    /// When the first subtask had stopped.
    paused: Option<Instant>,
}

/// What a move does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    Flush,
    Cut,
}

impl Move {
    /// Whether `id` is the checkpoint that pauses.
    pub(crate) fn is_cut(&self, id: CheckpointId) -> bool {
        self.cut.is_some_and(|cut| cut.id == id)
    }

    fn next(&self, has_changed: bool) -> Next {
        if self.not_before.is_some() {
            Next::Wait
        } else if !self.is_flushed && has_changed {
            Next::Flush
        } else if self.crew.is_complete() {
            Next::Cut
        } else {
            Next::Wait
        }
    }

    /// When something becomes due by itself.
    pub(super) fn deadline(&self) -> Instant {
        self.not_before.unwrap_or(self.until)
    }

    /// A checkpoint was given up.
    pub(super) fn aborted(&mut self, now: Instant) {
        self.cut = None;
        self.not_before = Some(now + RETRY_AFTER);
    }

    /// A subtask has stopped for the cut.
    pub(super) fn paused(&mut self, paused: &Paused, now: Instant) {
        if let Some(cut) = &mut self.cut
            && cut.id.0 == paused.checkpoint
        {
            cut.paused.get_or_insert(now);
        }
    }
}

impl Machine {
    /// The crew that is to follow the running one.
    pub(super) fn next_crew(&self) -> Option<&Crew> {
        match &self.state {
            State::Running(running) => running.next.as_ref().map(|next| &next.crew),
            _ => None,
        }
    }

    /// The job is wanted in another form.
    pub(super) fn retarget(&mut self, target: Target, effects: &mut Vec<Effect>) {
        if (self.shape.replicas, self.shape.slots) != (target.replicas, target.slots) {
            // What is not cut yet is replaced, or cancelled.
            self.stay(None, effects);
        }
        (self.shape.replicas, self.shape.slots) = (target.replicas, target.slots);
        (self.shape.checkpoint, self.shape.rescale) = (target.checkpoint, target.rescale);
        self.schedule.set_policy(target.checkpoint);
    }

    /// The plan wants this generation.
    pub(super) fn asked_to_deploy(
        &mut self,
        workers: Vec<Member>,
        width: u32,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match &self.state {
            // It is about to end.
            State::Running(running) if self.suspend.is_some() || running.is_ending() => {}
            State::Running(_) => self.prepare(workers, width, now, effects),
            // Its workers are about to run; the way on from there is a move.
            State::Deploying(_) | State::Adopting(_) => {}
            _ => self.greet(workers, width, now, effects),
        }
    }

    /// From a worker that has no part in the generation that runs, but in the one to come.
    pub(super) fn heard_of_next(&mut self, link: LinkId, heard: Heard, effects: &mut Vec<Effect>) {
        let Some(worker) = self.next_crew().and_then(|crew| crew.incarnation(link)) else { return };
        let why = match heard {
            Heard::Beat => return,
            Heard::Lost(why) | Heard::Silent(why) => why,
            Heard::Said(message) => match message.body {
                Some(to_coordinator::Body::Hello(reply)) if !reply.refused.is_empty() => {
                    let why =
                        format!("worker {worker} refused this coordinator: {}", reply.refused);
                    return self.end(Phase::Fenced(why), effects);
                }
                Some(to_coordinator::Body::Leaving(_)) => return self.note_leaving(&worker),
                Some(to_coordinator::Body::Hello(reply)) if reply.worker == worker => {
                    if let State::Running(running) = &mut self.state
                        && let Some(next) = &mut running.next
                    {
                        next.crew.answer(link);
                    }
                    return;
                }
                Some(to_coordinator::Body::Hello(_)) => {
                    "its address answers as another worker".to_owned()
                }
                _ => return,
            },
        };
        self.stay(Some(&format!("lost new worker {worker}: {why}")), effects);
        self.lost.insert(worker);
    }

    /// The plan wants another generation while one runs.
    fn prepare(
        &mut self,
        workers: Vec<Member>,
        width: u32,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.stay(None, effects);
        if self.is_cooling() {
            let cooldown = Duration::from_millis(self.shape.rescale.cooldown_ms);
            self.tally.message =
                format!("a rescale waits until {cooldown:?} (rescale.cooldown) after the last");
            return;
        }
        let until = now + Duration::from_millis(self.shape.rescale.deadline_ms);
        let State::Running(running) = &mut self.state else { return };
        let before = &running.crew.layout;
        let is_same = |layout: &Layout| layout.workers == workers && layout.width() == width;
        if is_same(before) {
            return;
        }
        let layout = Layout::deal(workers, width, before);
        let mut links = Vec::with_capacity(layout.workers.len());
        let mut known = Vec::new();
        for member in &layout.workers {
            let link = running.crew.link(&member.incarnation).inspect(|link| known.push(*link));
            links.push(link.unwrap_or_else(|| {
                let link = LinkId(self.next_link);
                self.next_link += 1;
                effects.push(Effect::Dial(link, member.clone()));
                link
            }));
        }
        let mut crew = Crew::new(layout, links, now);
        known.into_iter().for_each(|link| crew.answer(link));
        running.next = Some(Move { crew, until, not_before: None, is_flushed: false, cut: None });
    }

    /// Whether it is too early for another form. The way back to the one that was reached before
    /// does not wait.
    fn is_cooling(&self) -> bool {
        self.cool_until.is_some() && self.reached.is_some_and(|its| its != self.shape.form())
    }

    /// The running generation goes on as it is: the move is given up, whatever was begun of it.
    pub(super) fn stay(&mut self, why: Option<&str>, effects: &mut Vec<Effect>) {
        let State::Running(running) = &mut self.state else { return };
        let Some(given_up) = running.next.take() else { return };
        if let Some(why) = why {
            self.tally.message = format!("the job goes on as it is: {why}");
            tracing::warn!("a move to another generation was given up: {why}");
        }
        let Some(open) = running.open.take_if(|open| given_up.is_cut(open.id)) else { return };
        running.changed = true;
        // Whoever has paused for it goes on.
        let abort = to_worker::Body::Abort(Abort { checkpoint: open.id.0 });
        let links = running.crew.links().iter();
        let send = |link: &LinkId| Effect::Send(*link, self.generation, abort.clone().into());
        effects.extend(links.map(send));
    }

    /// A move that takes too long is given up; the plan may begin it anew.
    pub(super) fn expire_move(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let State::Running(running) = &mut self.state else { return };
        let Some(next) = &mut running.next else { return };
        next.not_before.take_if(|until| now >= *until);
        if now >= next.until {
            let max = Duration::from_millis(self.shape.rescale.deadline_ms);
            let why =
                format!("no cut was complete within {max:?} (rescale.deadline); it is tried again");
            self.stay(Some(&why), effects);
        }
    }

    /// What is to be done for a move now, while no checkpoint is open. Gives whether anything was.
    pub(super) fn advance_move(&mut self, now: Instant, effects: &mut Vec<Effect>) -> bool {
        let has_changed = self.has_changed();
        let State::Running(running) = &mut self.state else { return false };
        let Some(next) = &running.next else { return false };
        match next.next(has_changed) {
            Next::Wait => return false,
            Next::Flush => self.trigger(false, false, now, effects),
            Next::Cut => self.trigger(false, true, now, effects),
        }
        true
    }

    /// The checkpoint `id` was ordered; does it pause, it is the move's cut.
    pub(super) fn cut_ordered(&mut self, id: CheckpointId, now: Instant) {
        if let State::Running(running) = &mut self.state
            && let Some(next) = &mut running.next
        {
            next.cut = Some(Cut { id, ordered: now, paused: None });
        }
    }

    /// A checkpoint is in the journal. If it was the cut, the next generation begins.
    pub(super) fn after_checkpoint(
        &mut self,
        id: CheckpointId,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let State::Running(running) = &mut self.state else { return };
        let Some(next) = &mut running.next else { return };
        next.is_flushed = true;
        let Some(cut) = next.cut.filter(|cut| cut.id == id) else { return };
        if self.suspend.is_some() {
            self.stay(None, effects);
            return;
        }
        let Some(Move { crew, .. }) = running.next.take() else { return };
        if planted(Planted::UnpublishedLostInMove) {
            self.commits = Commits::default();
        }
        self.moving = Some(cut);
        // Those that have no part in what comes are free; the others hear of it with their orders.
        for (link, member) in running.crew.members() {
            if crew.link(&member.incarnation).is_none() {
                let stop = to_worker::Body::Stop(Stop {}).into();
                effects.push(Effect::Send(link, self.generation, stop));
            }
        }
        self.meters.generation_over();
        self.begin_generation(crew, now, effects);
    }

    /// All workers of a new generation run. Says so if the job has another form than before.
    pub(super) fn arrived(&mut self, now: Instant) {
        let pause = self.moving.take().and_then(|cut| Some((cut, cut.paused?)));
        let to = self.shape.form();
        let State::Running(running) = &self.state else { return };
        let layout = &running.crew.layout;
        if layout.width() != to.0 * to.1 || layout.workers.len() != to.0 as usize {
            return;
        }
        let Some(from) = self.reached.replace(to).filter(|from| *from != to) else { return };
        let rescale = Rescale {
            from,
            to,
            pause_ms: pause.map(|(_, paused)| millis(now - paused)),
            cut_wait_ms: pause.map(|(cut, paused)| millis(paused - cut.ordered)),
        };
        self.tally.rescales += 1;
        self.cool_until = Some(now + Duration::from_millis(self.shape.rescale.cooldown_ms));
        self.tally.message = format!("rescaled {rescale}");
        tracing::info!("rescaled {rescale}");
        self.tally.last_rescale = Some(rescale);
    }
}
