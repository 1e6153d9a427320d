//! Going on with a generation that an earlier coordinator left running. Pure.
//!
//! The workers that its record names are asked who they are and what they run. If all of them run
//! that generation in the form that this coordinator would deploy, the job runs, and nothing was
//! stopped. Otherwise a new generation begins as after a failover. docs/design/0013-adoption.md.

use std::collections::BTreeSet;

use weir_runtime::clock::Instant;
use weir_state::ids::CheckpointId;

use super::crew::Crew;
use super::running::Running;
use super::{DEPLOY_MAX, Effect, Machine, State};
use crate::cluster::Member;
use crate::coordinator::layout::Layout;
use crate::coordinator::links::LinkId;
use crate::coordinator::status::Phase;
use crate::coordinator::summary::Totals;
use crate::protocol::to_coordinator::Body;
use crate::protocol::{Abort, HelloReply, ToCoordinator, to_worker};

/// What the journal says of the generation that an earlier coordinator left.
#[derive(Clone, Debug)]
pub(crate) struct Before {
    /// Who ran what.
    pub(crate) layout: Layout,
    /// The form in which this coordinator would deploy.
    pub(crate) form: u64,
    /// Of the last checkpoint, if it is one of that generation.
    pub(crate) totals: Option<Totals>,
}

/// Workers that are being asked. Those have answered that say that they run.
#[derive(Debug)]
pub(crate) struct Adopting {
    pub(crate) crew: Crew,
    form: u64,
    /// Those that have accepted this coordinator and are the same.
    greeted: BTreeSet<LinkId>,
    /// The greatest checkpoint that any of them has heard of.
    triggered: CheckpointId,
}

impl Machine {
    /// The workers that are there when this coordinator begins.
    pub(super) fn found(&mut self, found: &[Member], now: Instant, effects: &mut Vec<Effect>) {
        let (Some(before), State::Idle) = (self.before.take(), &self.state) else { return };
        let Before { layout, form, totals } = before;
        let there = |its: &Member| found.iter().find(|one| one.incarnation == its.incarnation);
        // Those that live need not wait for the others.
        self.has_run = layout.workers.iter().any(|its| there(its).is_some());
        let workers: Option<Vec<Member>> =
            layout.workers.iter().map(|its| there(its).cloned()).collect();
        let names = layout.subtasks();
        self.last = layout;
        let Some(workers) = workers.filter(|workers| !workers.is_empty()) else { return };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // Where they are dialled is what the cluster says.
        let Some(layout) = Layout::recorded(workers, &names) else { return };
        let first = self.next_link;
        self.next_link += layout.workers.len() as u64;
        let crew = Crew::new(layout, (first..self.next_link).map(LinkId).collect(), now);
        let dial = |(link, member): (LinkId, &Member)| Effect::Dial(link, member.clone());
        effects.extend(crew.members().map(dial));
        if let Some(totals) = totals {
            self.meters.go_on(&totals);
        }
        let (greeted, triggered) = (BTreeSet::new(), self.completed);
        self.state = State::Adopting(Adopting { crew, form, greeted, triggered });
    }

    /// One of them says something.
    pub(super) fn said_to_adopt(
        &mut self,
        link: LinkId,
        worker: &str,
        message: ToCoordinator,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let is_current = message.generation == self.generation.0;
        match message.body {
            Some(Body::Hello(reply)) => self.greeted(link, worker, &reply, effects),
            Some(Body::Deployed(_)) if is_current => {
                let State::Adopting(adopting) = &mut self.state else { return };
                adopting.crew.answer(link);
                if adopting.crew.is_complete() {
                    self.adopt(now, effects);
                }
            }
            Some(Body::Failed(failed)) if is_current && failed.fatal => {
                self.end(Phase::Failed(failed.message), effects);
            }
            Some(Body::Failed(failed)) => {
                self.begin_anew(&format!("worker {worker} had failed: {}", failed.message), effects)
            }
            Some(Body::Progress(progress)) if is_current => {
                self.meters.told(worker, progress);
            }
            // What else they have to say they say again.
            _ => {}
        }
    }

    fn greeted(
        &mut self,
        link: LinkId,
        worker: &str,
        reply: &HelloReply,
        effects: &mut Vec<Effect>,
    ) {
        let State::Adopting(adopting) = &mut self.state else { return };
        if !reply.refused.is_empty() {
            let why = format!("worker {worker} refused this coordinator: {}", reply.refused);
            self.end(Phase::Fenced(why), effects);
        } else if reply.worker != worker {
            self.lose(worker.to_owned(), "its address answers as another worker", effects);
        } else if reply.generation != self.generation.0 {
            let (its, ours) = (reply.generation, self.generation);
            self.begin_anew(&format!("worker {worker} runs generation {its}, not {ours}"), effects);
        } else if reply.form != adopting.form {
            self.begin_anew(&format!("worker {worker} runs the job in another form"), effects);
        } else {
            adopting.greeted.insert(link);
            adopting.triggered = adopting.triggered.max(CheckpointId(reply.triggered));
        }
    }

    /// All run as they should.
    fn adopt(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let State::Adopting(adopting) = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        let crew = adopting.crew.ask_again(now);
        let width = crew.layout.width();
        let replicas = u32::try_from(crew.len()).unwrap_or(u32::MAX);
        tracing::info!(generation = self.generation.0, "took over a generation that runs");
        (self.has_run, self.is_adopted) = (true, true);
        self.reached = Some((replicas, width / replicas.max(1)));
        self.tally.message.clear();
        let mut running = Running::new(crew, self.shape.stages, &self.commits, now);
        // Before the next barrier all hear what is complete, and what is not and never will be.
        running.commit_at(now);
        let links = running.crew.links().to_vec();
        self.state = State::Running(Box::new(running));
        self.order_commits(now, effects);
        self.checkpoint = self.checkpoint.max(adopting.triggered);
        if self.checkpoint > self.completed {
            let abort = to_worker::Body::Abort(Abort { checkpoint: self.checkpoint.0 });
            let send = |link: LinkId| Effect::Send(link, self.generation, abort.clone().into());
            effects.extend(links.into_iter().map(send));
        }
    }

    /// They are not what is wanted: another generation takes their place, and that is no error.
    fn begin_anew(&mut self, why: &str, effects: &mut Vec<Effect>) {
        self.tally.message = format!("the job begins a new generation: {why}");
        tracing::info!(generation = self.generation.0, "cannot go on with a generation: {why}");
        self.stop_generation(None, effects);
        effects.push(Effect::HangUp);
        self.state = State::Idle;
    }

    /// When they should have answered.
    pub(super) fn adopting_deadline(&self, adopting: &Adopting) -> Instant {
        let all_greeted = adopting.greeted.len() >= adopting.crew.len();
        adopting.crew.since + if all_greeted { DEPLOY_MAX } else { self.greeting_max() }
    }

    /// Some have not answered.
    pub(super) fn expire_adopting(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let State::Adopting(adopting) = &self.state else { return };
        if now < self.adopting_deadline(adopting) {
            return;
        }
        let members = adopting.crew.members();
        let silent = members.filter(|(link, _)| !adopting.greeted.contains(link));
        let silent: Vec<String> = silent.map(|(_, its)| its.incarnation.clone()).collect();
        if silent.is_empty() {
            self.begin_anew(&format!("not all workers ran after {DEPLOY_MAX:?}"), effects);
        }
        for worker in silent {
            self.lose(worker, "it did not answer", effects);
        }
    }
}
