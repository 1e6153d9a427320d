//! Workers that are lost, silent or leave, and errors that are reported. Pure.
//!
//! A silent worker is lost, unless most of the others are silent too: then it may be this
//! coordinator whom nothing reaches, and each gets a fresh connection first. A worker that is lost
//! is no error; what a worker reports, and a process that fails by itself, uses up the budget.

use std::time::Duration;

use weir_runtime::clock::Instant;

use super::{DEPLOY_MAX, Effect, Machine, State};
use crate::coordinator::budget::Verdict;
use crate::coordinator::links::{HEARTBEATS_PER_TIMEOUT, Heard, LinkId};
use crate::coordinator::status::Phase;
use crate::pipeline::spec::FailoverPolicy;
use crate::protocol::{Stop, to_coordinator, to_worker};

impl Machine {
    /// A worker does not answer: its process is replaced, and that does not count as an error.
    pub(super) fn lose(&mut self, worker: String, why: &str, effects: &mut Vec<Effect>) {
        // Of one that was asked to end it was said before.
        self.tally.replaced += u64::from(!self.leaving.contains(&worker));
        self.tally.message = format!("lost worker {worker}: {why}");
        tracing::warn!(worker, "lost a worker: {why}");
        self.tally.failovers += u64::from(self.crew().is_some());
        self.stop_generation(Some(&worker), effects);
        self.lost.insert(worker);
        self.state = State::Idle;
    }

    /// A worker has said nothing for `failover.timeout`.
    pub(super) fn silent(
        &mut self,
        link: LinkId,
        worker: String,
        why: &str,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let timeout = Duration::from_millis(self.shape.failover.timeout_ms);
        // Two heartbeats were not answered.
        let quiet = timeout / HEARTBEATS_PER_TIMEOUT * 2;
        let State::Running(running) = &mut self.state else {
            return self.lose(worker, why, effects);
        };
        let silent = running.crew.quiet_for(quiet, now).filter(|its| *its != link).count() + 1;
        let Some(member) = running.crew.member(link).cloned() else { return };
        if silent < 2 || silent * 2 <= running.crew.len() {
            return self.lose(worker, why, effects);
        }
        tracing::warn!(worker, silent, "most workers are silent at once: connecting anew");
        let fresh = LinkId(self.next_link);
        self.next_link += 1;
        running.doubted.insert(fresh, link);
        effects.push(Effect::Dial(fresh, member));
    }

    /// From the fresh connection to a worker that was silent like most others. Gives whether it is
    /// one.
    pub(super) fn heard_of_doubted(
        &mut self,
        link: LinkId,
        heard: &Heard,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let State::Running(running) = &mut self.state else { return false };
        let Some(silent) = running.doubted.get(&link).copied() else { return false };
        let Some(worker) = running.crew.incarnation(silent) else { return false };
        match heard {
            Heard::Beat => {}
            Heard::Silent(why) | Heard::Lost(why) => self.lose(worker, why, effects),
            Heard::Said(message) => match &message.body {
                Some(to_coordinator::Body::Hello(reply)) if !reply.refused.is_empty() => {
                    let why =
                        format!("worker {worker} refused this coordinator: {}", reply.refused);
                    self.end(Phase::Fenced(why), effects);
                }
                Some(to_coordinator::Body::Hello(reply)) if reply.worker == worker => {
                    running.doubted.remove(&link);
                    running.crew.relink(silent, link, now);
                    // What was under way to it or from it may be gone.
                    self.drop_checkpoint("a worker had to be connected anew", now, effects);
                }
                _ => self.lose(worker, "its address answers as another worker", effects),
            },
        }
        true
    }

    /// A worker was asked to end: it works until others have its work.
    pub(super) fn note_leaving(&mut self, worker: &str) {
        if self.leaving.insert(worker.to_owned()) {
            self.tally.replaced += 1;
            self.tally.message = format!("worker {worker} was asked to end; its work moves");
            tracing::info!(worker, "a worker was asked to end: its work moves");
        }
    }

    pub(super) fn drop_silent(&mut self, effects: &mut Vec<Effect>) {
        let State::Greeting(crew) = &self.state else { return };
        for worker in crew.silent() {
            self.lose(worker, "it did not answer", effects);
        }
    }

    /// Workers did not set themselves up in time.
    pub(super) fn expire_deployment(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let State::Deploying(crew) = &self.state else { return };
        if now >= crew.since + DEPLOY_MAX {
            let why = format!("workers were not set up within {DEPLOY_MAX:?}");
            self.fault(why, now, effects);
        }
    }

    /// A process ended by its own fault. The generation that goes on without it is left alone.
    pub(super) fn process_fault(&mut self, why: String, now: Instant, effects: &mut Vec<Effect>) {
        match &self.state {
            State::Adopting(_) | State::Deploying(_) | State::Running(_) => {
                if let Some(pause) = self.charge(&why, now, effects) {
                    self.hold_until = Some(now + pause);
                }
            }
            _ => self.fault(why, now, effects),
        }
    }

    /// An error that counts against the budget.
    pub(super) fn fault(&mut self, why: String, now: Instant, effects: &mut Vec<Effect>) {
        if matches!(self.state, State::Closing) {
            return;
        }
        if let Some(pause) = self.charge(&why, now, effects) {
            self.tally.failovers += u64::from(self.crew().is_some());
            self.stop_generation(None, effects);
            self.hold_until = Some(now + pause);
            self.state = State::Idle;
        }
    }

    /// A store does not answer. It is tried again for as long as that takes.
    pub(super) fn outage(&mut self, why: &str, now: Instant, effects: &mut Vec<Effect>) {
        if matches!(self.state, State::Closing) {
            return;
        }
        tracing::warn!("a store does not answer: {why}");
        self.tally.restarts += 1;
        self.tally.message = format!("a store does not answer; it is tried again: {why}");
        self.stop_generation(None, effects);
        self.hold_until = Some(now + self.budget.outage(now));
        self.state = State::Idle;
    }

    /// The pause after an error; none: there is no more, and the job has failed.
    fn charge(&mut self, why: &str, now: Instant, effects: &mut Vec<Effect>) -> Option<Duration> {
        tracing::warn!("a worker failed: {why}");
        match self.budget.error(now) {
            Verdict::Restart(pause) => {
                self.tally.restarts += 1;
                self.tally.message = format!("restarting after an error: {why}");
                Some(pause)
            }
            Verdict::Exhausted => {
                let FailoverPolicy { restarts, within_ms, .. } = self.shape.failover;
                let within = Duration::from_millis(within_ms);
                let why = format!("{why} (given up after {restarts} restarts within {within:?})");
                self.end(Phase::Failed(why), effects);
                None
            }
        }
    }

    /// Tells all workers of the generation, but for `except`, to stop, and forgets what it did.
    pub(super) fn stop_generation(&mut self, except: Option<&str>, effects: &mut Vec<Effect>) {
        let Some(crew) = self.crew() else { return };
        let others = crew.members().filter(|(_, member)| Some(&*member.incarnation) != except);
        let stop =
            |(link, _)| Effect::Send(link, self.generation, to_worker::Body::Stop(Stop {}).into());
        effects.extend(others.map(stop));
        self.meters.generation_over();
    }
}
