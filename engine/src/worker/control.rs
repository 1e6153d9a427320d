//! The task that owns a worker: one coordinator's stream, one generation, one publisher.
//!
//! Selects an event and applies it. Nothing here waits for the coordinator to read: what it has to
//! hear lies in a bounded outbox, and a coordinator that does not empty it is disconnected.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use weir_runtime::clock::{self, Instant};
use weir_runtime::sim::planted::{Planted, planted};
use weir_runtime::task;
use weir_state::ids::{self, CheckpointId};

use super::commit::{Published, Publisher};
use super::deploy::{self, Ground, Order};
use super::fence::{Fence, superseded};
use super::generation::{self, Generation};
use super::sight::{Doing, Shown};
use super::{Introduced, RegistrySlot, WorkerError};
use crate::exchange::Registry;
use crate::execution::orders::{Orders, Report, TableSet};
use crate::network::WorkerLink;
use crate::protocol::to_coordinator::Body;
use crate::protocol::{
    Declined, Deploy, HelloReply, Leaving, Progress, Stopped, ToCoordinator, ToWorker, Trigger,
    to_worker,
};

/// Messages to a coordinator that does not read them.
const OUTBOX_MESSAGES_MAX: usize = 4_096;
/// How long a worker that leaves waits for others to take its work: less than the 30 s that
/// Kubernetes gives.
const LEAVE_MAX: Duration = Duration::from_secs(25);
/// How long a worker without a coordinator reads on: so much may lie staged, and would have to be
/// read again after a failure.
const ALONE_MAX: Duration = Duration::from_secs(600);
/// How often changed counters are sent.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// The worker.
pub(crate) struct Control {
    ground: Ground,
    registry: Arc<RegistrySlot>,
    fence: Fence,
    opened: mpsc::Receiver<Introduced>,
    link: Option<WorkerLink>,
    outbox: VecDeque<ToCoordinator>,
    generation: Option<Generation>,
    publisher: Publisher,
    told: Progress,
    next_progress: Instant,
    /// When it ends in any case, once it was asked to.
    ends_at: Option<Instant>,
    /// Since when the coordinator is gone.
    alone_since: Option<Instant>,
}

enum Event {
    Introduced(Introduced),
    Message(ToWorker),
    LinkLost,
    Room,
    Generation(generation::Event),
    Published(Published),
    ProgressDue,
    Leave,
    LeaveDue,
    AloneTooLong,
}

impl Control {
    /// A worker that nobody commands yet.
    pub(crate) fn new(
        ground: Ground,
        registry: Arc<RegistrySlot>,
        opened: mpsc::Receiver<Introduced>,
    ) -> Self {
        Self {
            fence: Fence::new(ground.settings.token.clone()),
            ground,
            registry,
            opened,
            link: None,
            outbox: VecDeque::new(),
            generation: None,
            publisher: Publisher::default(),
            told: Progress::default(),
            next_progress: clock::now(),
            ends_at: None,
            alone_since: None,
        }
    }

    /// Runs until it has left, or until an old generation can't be ended.
    pub(crate) async fn run(mut self) -> Result<(), WorkerError> {
        loop {
            let event = self.next().await;
            self.apply(event).await?;
            self.post();
            self.show();
            if self.has_left() {
                return Ok(());
            }
        }
    }

    fn show(&self) {
        let generation = self.generation.as_ref();
        let stages = || generation.and_then(Generation::stages);
        let shown = Shown {
            has_coordinator: self.link.is_some(),
            generation: generation.map_or(0, Generation::number),
            doing: generation.map_or(Doing::Nothing, Generation::doing),
            is_leaving: self.ends_at.is_some(),
            is_held: stages().is_some_and(|stages| stages.orders.borrow().held),
        };
        let board = || stages().map(|stages| Arc::clone(&stages.board));
        self.ground.settings.sight.show(shown, board);
    }

    /// Whether it was asked to leave and nobody needs it any more, or the time is over.
    fn has_left(&self) -> bool {
        let is_free = self.link.is_none() && self.generation.is_none();
        self.ends_at.is_some_and(|end| is_free || clock::now() >= end)
    }

    async fn next(&mut self) -> Event {
        let shows = self.link.is_some() && self.stages_run();
        let room = self.link.as_ref().filter(|_| !self.outbox.is_empty());
        let room = room.map(|link| link.send.clone());
        let hold_at = self.hold_at();
        tokio::select! {
            biased;
            Some(introduced) = self.opened.recv() => Event::Introduced(introduced),
            message = receive(&mut self.link) => message.map_or(Event::LinkLost, Event::Message),
            event = happens(&mut self.generation) => Event::Generation(event),
            published = self.publisher.published() => Event::Published(published),
            () = has_room(room) => Event::Room,
            () = clock::sleep_until(self.next_progress), if shows => Event::ProgressDue,
            () = asked(&mut self.ground.settings.leave), if self.ends_at.is_none() => Event::Leave,
            () = clock::sleep_until(self.ends_at.unwrap_or(self.next_progress)),
                if self.ends_at.is_some() => Event::LeaveDue,
            () = clock::sleep_until(hold_at.unwrap_or(self.next_progress)),
                if hold_at.is_some() => Event::AloneTooLong,
        }
    }

    async fn apply(&mut self, event: Event) -> Result<(), WorkerError> {
        match event {
            Event::Introduced(introduced) => self.introduced(introduced),
            Event::Message(message) => self.message(message).await?,
            Event::LinkLost => self.unlink(),
            Event::Room | Event::LeaveDue => {}
            Event::AloneTooLong => {
                tracing::warn!("no coordinator for {ALONE_MAX:?}: nothing is read until one comes");
                self.give(|orders| orders.held = true);
            }
            Event::Leave => {
                self.ends_at = Some(clock::now() + LEAVE_MAX);
                self.say(Body::Leaving(Leaving {}));
            }
            Event::Generation(event) => self.happened(event).await,
            Event::Published(Published::Done(done)) => self.say(Body::Committed(done)),
            Event::Published(Published::Failed(error)) => {
                self.happened(generation::Event::Report(Report::Failed(error))).await;
            }
            Event::ProgressDue => self.progress(),
        }
        Ok(())
    }

    async fn happened(&mut self, event: generation::Event) {
        if let Some(generation) = &mut self.generation
            && let Some(body) = generation.on(event).await
        {
            self.say(body);
        }
    }

    /// When the sources stop because nobody comes.
    fn hold_at(&self) -> Option<Instant> {
        let stages = self.generation.as_ref().and_then(Generation::stages)?;
        let is_held = stages.orders.borrow().held;
        self.alone_since.filter(|_| !is_held).map(|since| since + ALONE_MAX)
    }

    fn stages_run(&self) -> bool {
        self.generation.as_ref().is_some_and(|generation| generation.stages().is_some())
    }

    fn introduced(&mut self, Introduced { term, hello, link }: Introduced) {
        let worker = self.ground.settings.incarnation.clone();
        let before = self.fence.term();
        if let Err(refused) = self.fence.hello(term, &hello) {
            tracing::warn!(term, "refused a coordinator: {refused}");
            let reply = HelloReply { worker, refused, ..HelloReply::default() };
            let body = Some(Body::Hello(reply));
            // Its queue is new and empty; if it is closed there is nobody to tell.
            let _ = link.send.try_send(ToCoordinator { generation: 0, body });
            return;
        }
        // From here on peers may open channels: those that hear of a generation first do not wait.
        self.registry();
        if before < term && !planted(Planted::ReignUnasked) {
            self.dismiss(superseded(before, term));
        }
        self.unlink();
        self.link = Some(link);
        self.alone_since = None;
        self.give(|orders| orders.held = false);
        let reply = self.hello_reply(worker);
        self.say(Body::Hello(reply));
        self.retell();
        self.told = Progress::default();
    }

    /// Tells the present coordinator why its stream ends, so that it takes nobody for lost.
    fn dismiss(&self, refused: String) {
        let Some(link) = &self.link else { return };
        let worker = self.ground.settings.incarnation.clone();
        let reply = HelloReply { worker, refused, ..HelloReply::default() };
        // If it does not read it hears it when it dials again.
        let _ = link.send.try_send(ToCoordinator { generation: 0, body: Some(Body::Hello(reply)) });
    }

    fn hello_reply(&self, worker: String) -> HelloReply {
        let generation = self.generation.as_ref();
        let stages = generation.and_then(Generation::stages);
        HelloReply {
            worker,
            generation: generation.map_or(0, Generation::number),
            refused: String::new(),
            leaving: self.ends_at.is_some(),
            form: generation.map_or(0, Generation::form),
            triggered: stages.map_or(0, |stages| stages.orders.borrow().triggered.0),
        }
    }

    /// Where channels meet, made when the first accepted coordinator has named the incarnation.
    fn registry(&self) -> Arc<Registry> {
        let incarnation = self.fence.incarnation().unwrap_or_default();
        let token = &self.ground.settings.token;
        Arc::clone(self.registry.get_or_init(|| Registry::new(incarnation, token)))
    }

    async fn message(&mut self, message: ToWorker) -> Result<(), WorkerError> {
        let (term, generation) = (message.term, message.generation);
        match message.body {
            Some(to_worker::Body::Heartbeat(heartbeat)) if self.fence.is_term(term) => {
                self.say(Body::Heartbeat(heartbeat));
                let done: Vec<Body> =
                    self.generation.iter().flat_map(Generation::inputs_done).collect();
                done.into_iter().for_each(|body| self.say(body));
            }
            Some(to_worker::Body::Compactors(now)) if self.fence.is_term(term) => {
                self.ground.compactors.set(&now);
            }
            Some(to_worker::Body::Deploy(deploy)) => {
                self.deploy(term, generation, deploy).await?;
            }
            Some(body) if self.fence.admits(term, generation) => self.order(body).await?,
            _ => tracing::debug!(term, generation, "ignored a message of a superseded sender"),
        }
        Ok(())
    }

    async fn order(&mut self, body: to_worker::Body) -> Result<(), WorkerError> {
        match body {
            to_worker::Body::Trigger(trigger) => self.trigger(trigger),
            to_worker::Body::Abort(abort) => {
                let id = CheckpointId(abort.checkpoint);
                self.give(|orders| orders.aborted = orders.aborted.max(id));
            }
            to_worker::Body::Commit(commit) => {
                let id = CheckpointId(commit.checkpoint);
                self.give(|orders| orders.completed = orders.completed.max(id));
                if let Some(stages) = self.generation.as_ref().and_then(Generation::stages) {
                    self.publisher.publish(commit, stages.folders.clone());
                }
            }
            to_worker::Body::Stop(_) => {
                self.stop().await?;
                self.say(Body::Stopped(Stopped {}));
            }
            to_worker::Body::Hello(_)
            | to_worker::Body::Compactors(_)
            | to_worker::Body::Deploy(_)
            | to_worker::Body::Heartbeat(_) => {}
        }
        Ok(())
    }

    fn trigger(&mut self, trigger: Trigger) {
        if self.stages_run() {
            let id = CheckpointId(trigger.checkpoint);
            self.give(|orders| {
                if id > orders.triggered {
                    (orders.triggered, orders.tables) = (id, TableSet(trigger.tables));
                }
                if trigger.pauses {
                    orders.pausing = orders.pausing.max(id);
                }
            });
        } else {
            let reason = "this worker's stages do not run".to_owned();
            self.say(Body::Declined(Declined { checkpoint: trigger.checkpoint, reason }));
        }
    }

    fn give(&self, change: impl FnOnce(&mut Orders)) {
        if let Some(stages) = self.generation.as_ref().and_then(Generation::stages) {
            stages.orders.send_if_modified(|orders| {
                let before = *orders;
                change(orders);
                *orders != before
            });
        }
    }

    async fn deploy(&mut self, term: u64, number: u64, deploy: Deploy) -> Result<(), WorkerError> {
        if !self.fence.deploy(term, number) {
            if self.fence.admits(term, number) {
                self.retell();
            }
            return Ok(());
        }
        self.stop().await?;
        let incarnation = self.fence.incarnation().unwrap_or_default().to_owned();
        let registry = self.registry();
        registry.begin(ids::Generation(number));
        self.ground.compactors.begin();
        let form = deploy.form;
        let order = Order { incarnation, generation: number, registry, deploy };
        let work = deploy::deploy(self.ground.clone(), order);
        self.generation = Some(Generation::starting(number, form, task::spawn(work)));
        self.told = Progress::default();
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), WorkerError> {
        self.publisher.forget();
        let Some(generation) = self.generation.take() else { return Ok(()) };
        let number = generation.number();
        let stopped = generation.stop().await;
        stopped.map_err(|tasks| WorkerError::Teardown { generation: number, tasks })
    }

    fn retell(&mut self) {
        for body in self.generation.as_ref().map(Generation::retell).unwrap_or_default() {
            self.say(body);
        }
    }

    fn progress(&mut self) {
        self.next_progress = clock::now() + PROGRESS_EVERY;
        let Some(stages) = self.generation.as_ref().and_then(Generation::stages) else { return };
        let compaction = self.ground.compactors.counters();
        let now = Progress { compaction, ..stages.board.read() };
        if now != self.told {
            self.told = now.clone();
            self.say(Body::Progress(now));
        }
    }

    /// Puts a message into the outbox, if there is a coordinator.
    fn say(&mut self, body: Body) {
        if self.link.is_none() {
            return;
        }
        if self.outbox.len() >= OUTBOX_MESSAGES_MAX {
            tracing::warn!("the coordinator does not read: its stream is closed");
            self.unlink();
            return;
        }
        let generation = self.generation.as_ref().map_or(0, Generation::number);
        self.outbox.push_back(ToCoordinator { generation, body: Some(body) });
    }

    /// Sends what the coordinator takes now.
    fn post(&mut self) {
        let Some(link) = &self.link else { return };
        while !self.outbox.is_empty() {
            let Ok(permit) = link.send.try_reserve() else { return };
            if let Some(message) = self.outbox.pop_front() {
                permit.send(message);
            }
        }
    }

    fn unlink(&mut self) {
        if self.link.take().is_some() {
            self.alone_since = Some(clock::now());
        }
        self.outbox.clear();
    }
}

async fn receive(link: &mut Option<WorkerLink>) -> Option<ToWorker> {
    match link {
        Some(link) => link.receive.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits until the worker is asked to leave.
async fn asked(leave: &mut watch::Receiver<bool>) {
    if leave.wait_for(|asked| *asked).await.is_err() {
        // Nobody is left who could ask.
        std::future::pending().await
    }
}

async fn happens(generation: &mut Option<Generation>) -> generation::Event {
    match generation {
        Some(generation) => generation.event().await,
        None => std::future::pending().await,
    }
}

/// Waits until a message can be sent, or the call is over (which the receiving side reports).
async fn has_room(send: Option<mpsc::Sender<ToCoordinator>>) {
    match send {
        Some(send) => match send.reserve().await {
            Ok(_) => {}
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
