//! The task that owns a job: selects an event, lets the machine decide, does what it says.
//!
//! `run_job` is all that `weir run`, the simulation and later the operator need: it observes the
//! cluster, acts on the plan, and ends when the job is over and its workers are gone.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use weir_runtime::clock::{self, Instant};
use weir_runtime::sim::planted::{Planted, planted};
use xxhash_rust::xxh3::xxh3_64;

use super::begin::Job;
use super::cleaner::{Cleaner, Grounds};
use super::compactors::Compactors;
use super::links::{Greeting, Heard, LinkId, Stream};
use super::machine::adopting::Before;
use super::machine::{Event, Machine, Recorded, Shape};
use super::perform::{Performer, Reign};
use super::print::Print;
use super::records;
use super::snapshots::{self, Wishes};
use super::status::{Phase, Status};
use super::summary::{Summary, Totals};
use crate::cluster::{Cluster, ClusterError, Exit, WorkerState, WorkerView};
use crate::pipeline::spec::{
    CheckpointPolicy, CompactionPolicy, JobSpec, RescalePolicy, SinkSpec, Verb,
};
use crate::plan::{self, Action, JobView, Wish};
use crate::protocol::Piece;

/// Messages from workers that were not looked at yet.
const HEARD_MAX: usize = 1_024;
/// Least time between two starts of the same worker, so that one that dies at once does not spin.
const START_PAUSE: Duration = Duration::from_millis(200);
/// From snapshot to snapshot of a table in a job without end.
const TABLE_EVERY: Duration = Duration::from_secs(60);
/// How often the status is renewed while rows flow.
const STATUS_EVERY: Duration = Duration::from_millis(500);
/// For so long after a look at the journal nobody is assumed to have superseded this coordinator.
const REIGN_SURE: Duration = Duration::from_millis(500);
/// Pause before the journal is asked again when it did not answer.
const REIGN_PAUSE: Duration = Duration::from_secs(1);
/// How long a suspension may take before the job is released without a checkpoint.
const SUSPEND_MAX: Duration = Duration::from_secs(10);

/// What is wanted from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Run to the end.
    #[default]
    Run,
    /// Take a last checkpoint and pause.
    Suspend,
}

/// What a running job can change without another beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Worker processes.
    pub replicas: u32,
    /// Subtasks of each stage on each of them.
    pub slots: u32,
    /// When checkpoints are taken.
    pub checkpoint: CheckpointPolicy,
    /// How it comes to another width.
    pub rescale: RescalePolicy,
    /// Who merges table files.
    pub compaction: CompactionPolicy,
}

impl Target {
    /// As a job's text says it.
    pub fn of(spec: &JobSpec) -> Self {
        let JobSpec { replicas, slots, checkpoint, rescale, compaction, .. } = *spec;
        Self { replicas, slots, checkpoint, rescale, compaction }
    }

    /// Makes it what a job's text says.
    pub fn put_into(self, spec: &mut JobSpec) {
        let Self { replicas, slots, checkpoint, rescale, compaction } = self;
        (spec.replicas, spec.slots) = (replicas, slots);
        (spec.checkpoint, spec.rescale, spec.compaction) = (checkpoint, rescale, compaction);
    }
}

/// How a job is steered and watched.
pub struct Outside {
    /// What is wanted.
    pub wanted: watch::Receiver<Wanted>,
    /// The form that it is wanted in; at first that of the job's own text. A width beyond the
    /// number of key groups is nobody's to send.
    pub target: watch::Receiver<Target>,
    /// A checkpoint is to be taken at once. Another number is another wish, 0 is none.
    /// [`Status::answered`] says when one that began after the wish is complete.
    pub asked: watch::Receiver<u64>,
    /// Which snapshots are to be there, and which are to go. [`Status::snapshots`] says which are.
    pub snapshots: watch::Receiver<Wishes>,
    /// What there is to see.
    pub status: watch::Sender<Status>,
    /// Takes the rows of `print` sinks.
    pub print: Box<dyn Print>,
    /// Where compactor processes run; a job whose `compaction` is remote has some.
    pub compactors: Box<dyn Cluster>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Finished, failed, suspended or fenced.
    pub phase: Phase,
    /// What it did until then.
    pub summary: Summary,
}

/// Runs a job until it is over and its workers have ended.
pub async fn run_job(job: Job, cluster: &mut dyn Cluster, outside: Outside) -> Outcome {
    let sinks = job.grounds();
    let mut run = Run::new(job, sinks, outside);
    run.drive(cluster).await;
    Box::pin(run.close()).await
}

struct Run {
    machine: Machine,
    performer: Performer,
    heard: mpsc::Receiver<(LinkId, Heard)>,
    wanted: watch::Receiver<Wanted>,
    target: watch::Receiver<Target>,
    asked: watch::Receiver<u64>,
    snapshots: watch::Receiver<Wishes>,
    status: watch::Sender<Status>,
    /// When each worker was started last.
    started: BTreeMap<u32, Instant>,
    next_status: Instant,
    is_suspended: bool,
    /// Until then it need not ask whether it still reigns.
    sure_until: Instant,
    /// Another coordinator has the job.
    is_superseded: bool,
    compactors: Compactors,
}

/// What woke the task.
enum Wake {
    Event(Event),
    Deleted(weir_state::ids::Seq),
    Cluster,
    Wanted,
    Target,
    Asked,
    Snapshots,
    Status,
}

impl Run {
    fn new(job: Job, grounds: Grounds, outside: Outside) -> Self {
        let now = clock::now();
        let machine = Machine::new(shape(&job), recorded(&job), now);
        let (hear, heard) = mpsc::channel(HEARD_MAX);
        let cleaner = Cleaner::start(grounds);
        let performer = Performer::new(job, hear, cleaner, outside.print);
        Self {
            machine,
            performer,
            heard,
            wanted: outside.wanted,
            target: outside.target,
            asked: outside.asked,
            snapshots: outside.snapshots,
            status: outside.status,
            started: BTreeMap::new(),
            next_status: now,
            is_suspended: false,
            sure_until: now,
            is_superseded: false,
            compactors: Compactors::new(outside.compactors, now),
        }
    }

    /// Until the job is over and no worker is left.
    async fn drive(&mut self, cluster: &mut dyn Cluster) {
        self.ask().await;
        self.wish().await;
        let found = plan::members(cluster.observe().await.iter());
        self.apply(Event::Found(found)).await;
        loop {
            let is_fenced = matches!(self.machine.ended(), Some(Phase::Fenced(_)));
            if cluster.workers_outlive() && (is_fenced || self.is_superseded) {
                // They are the other one's now.
                return;
            }
            let seen = cluster.observe().await;
            self.machine.note_gone(&seen);
            let view = self.view(cluster);
            let plan = plan::plan(&view, &seen);
            let mut wait = None;
            let forgets = plan.actions.iter().any(|act| matches!(act, Action::Forget { .. }));
            for action in plan.actions {
                wait = self.act(action, cluster).await.into_iter().chain(wait).min();
            }
            if forgets {
                // What was seen is no more; nobody else would wake us to look again.
                continue;
            }
            wait = self.keep_compactors(view.wish).await.into_iter().chain(wait).min();
            self.show(&seen, plan.waiting);
            let is_empty = seen.is_empty() && self.compactors.is_empty();
            let is_left = is_empty || view.wish == Wish::Leave;
            if self.machine.ended().is_some() && is_left {
                return;
            }
            match self.next(cluster, wait).await {
                Wake::Event(event) => self.apply(event).await,
                Wake::Deleted(through) => self.performer.note_deleted(through),
                Wake::Wanted => self.suspend().await,
                Wake::Target => self.retarget().await,
                Wake::Asked => self.ask().await,
                Wake::Snapshots => self.wish().await,
                Wake::Cluster | Wake::Status => {}
            }
        }
    }

    /// What the plan has to know. Workers that others can use are not this coordinator's to end once
    /// it is fenced.
    fn view(&self, cluster: &dyn Cluster) -> JobView {
        let mut view = self.machine.view();
        if cluster.workers_outlive() && matches!(self.machine.ended(), Some(Phase::Fenced(_))) {
            view.wish = Wish::Leave;
        }
        view
    }

    async fn next(&mut self, cluster: &mut dyn Cluster, wait: Option<Instant>) -> Wake {
        let due = self.machine.deadline().into_iter().chain(wait).min();
        tokio::select! {
            biased;
            Ok(()) = self.wanted.changed(), if !self.is_suspended => Wake::Wanted,
            Ok(()) = self.target.changed() => Wake::Target,
            Ok(()) = self.asked.changed() => Wake::Asked,
            Ok(()) = self.snapshots.changed() => Wake::Snapshots,
            Some((link, heard)) = self.heard.recv() => Wake::Event(Event::Heard(link, heard)),
            () = cluster.changed() => Wake::Cluster,
            () = self.compactors.changed() => Wake::Cluster,
            through = self.performer.deleted() => Wake::Deleted(through),
            () = clock::sleep_until_some(due) => Wake::Event(Event::Tick),
            // Whatever was overlooked is seen then: also workers that have ended without a sign.
            () = clock::sleep_until(self.next_status) => Wake::Status,
        }
    }

    /// Lets the machine decide and does what it says, until there is nothing more to do.
    async fn apply(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.machine.on(event, clock::now()) {
                let summary = self.summary();
                events.extend(self.performer.perform(effect, summary).await);
            }
        }
    }

    async fn suspend(&mut self) {
        if *self.wanted.borrow_and_update() == Wanted::Suspend {
            self.is_suspended = true;
            self.apply(Event::Suspend(clock::now() + SUSPEND_MAX)).await;
        }
    }

    async fn retarget(&mut self) {
        let target = *self.target.borrow_and_update();
        self.performer.retarget(target);
        self.apply(Event::Target(target)).await;
    }

    async fn ask(&mut self) {
        let wish = *self.asked.borrow_and_update();
        self.apply(Event::Ask(wish)).await;
    }

    async fn wish(&mut self) {
        let wishes = self.snapshots.borrow_and_update().clone();
        self.apply(Event::Wish(wishes)).await;
    }

    /// Does what the plan says; gives when to look again, if that is only later.
    async fn act(&mut self, action: Action, cluster: &mut dyn Cluster) -> Option<Instant> {
        let is_on_process = matches!(action, Action::Start { .. } | Action::Stop { .. });
        if is_on_process && cluster.workers_outlive() && !self.may_act().await {
            return Some(clock::now() + REIGN_PAUSE);
        }
        let done = match action {
            Action::Start { ordinal } => return self.start(ordinal, cluster).await,
            Action::Stop { ordinal } => cluster.stop(ordinal).await,
            Action::Forget { ordinal, exit } => {
                cluster.forget(ordinal).await;
                match exit {
                    Exit::Fault(why) => self.apply(Event::ProcessFault(why)).await,
                    Exit::Lost(why) => tracing::info!(ordinal, "{why}"),
                }
                Ok(())
            }
            Action::Deploy { workers, width } => {
                self.apply(Event::Deploy(workers, width)).await;
                Ok(())
            }
        };
        if let Err(error) = done {
            self.cluster_failed(&error).await;
        }
        None
    }

    /// Whether this coordinator may still start and stop processes that are the job's and not its
    /// own. One that slept while another took over would otherwise end what that one runs.
    async fn may_act(&mut self) -> bool {
        let is_ours = matches!(self.machine.ended(), Some(Phase::Finished | Phase::Suspended));
        let is_asked = !planted(Planted::ReignUnasked);
        if is_ours || !is_asked || clock::now() < self.sure_until {
            return !self.is_superseded;
        }
        match self.performer.reign().await {
            Reign::Sure => {
                self.sure_until = clock::now() + REIGN_SURE;
                true
            }
            Reign::Over(phase) => {
                self.is_superseded = true;
                self.apply(Event::Over(phase)).await;
                false
            }
            Reign::Unknown(why) => {
                let why =
                    format!("no worker is started or stopped before the journal answers: {why}");
                self.apply(Event::StartFailed(why)).await;
                false
            }
        }
    }

    async fn start(&mut self, ordinal: u32, cluster: &mut dyn Cluster) -> Option<Instant> {
        let now = clock::now();
        let earliest = self.started.get(&ordinal).map_or(now, |last| *last + START_PAUSE);
        if now < earliest {
            return Some(earliest);
        }
        self.started.insert(ordinal, now);
        match cluster.start(ordinal).await {
            Ok(()) => None,
            Err(error) => {
                self.cluster_failed(&error).await;
                Some(now + START_PAUSE)
            }
        }
    }

    /// Has as many compactors as are wanted, and the workers know them. Gives when to look again.
    async fn keep_compactors(&mut self, wish: Wish) -> Option<Instant> {
        let policy = self.target.borrow().compaction;
        let now = clock::now();
        let here = self.machine.compaction().here;
        let wanted = match wish {
            Wish::Run | Wish::Hold => self.compactors.wanted(policy, here, now),
            Wish::End => 0,
            Wish::Leave => return None,
        };
        let due = self.compactors.observe(wanted).await;
        if due && self.compactors.outlive() && !self.may_act().await {
            return Some(now + REIGN_PAUSE);
        }
        let wait = self.compactors.act(now).await;
        self.performer.tell_compactors(policy.remote, self.compactors.members());
        wait
    }

    async fn cluster_failed(&mut self, error: &ClusterError) {
        let why = format!("{error}: {}; it is tried again", error.cause);
        tracing::warn!("{why}");
        self.apply(Event::StartFailed(why)).await;
    }

    fn show(&mut self, seen: &[WorkerView], waiting: Option<plan::Waiting>) {
        let now = clock::now();
        let is_late = now >= self.next_status;
        if is_late {
            self.next_status = now + STATUS_EVERY;
        }
        let ready = seen.iter().filter(|worker| matches!(worker.state, WorkerState::Ready(_)));
        self.machine.note_requests(self.performer.requests());
        let mut status = self.machine.status(is_late.then_some(now));
        status.workers_ready = u32::try_from(ready.count()).unwrap_or(u32::MAX);
        let told = self.machine.compaction();
        status.compaction = self.compactors.status(self.target.borrow().compaction, told);
        if let Some(waiting) = waiting
            && status.message.is_empty()
        {
            status.message = waiting.to_string();
        }
        self.status.send_if_modified(|shown| {
            let differs = *shown != status;
            if differs {
                *shown = status;
            }
            differs
        });
    }

    fn summary(&mut self) -> Summary {
        self.machine.note_requests(self.performer.requests());
        self.machine.summary()
    }

    /// The last clean-up, once no worker lives.
    async fn close(mut self) -> Outcome {
        let phase = self.machine.ended().cloned().unwrap_or_default();
        let summary = self.summary();
        self.performer.close(!matches!(phase, Phase::Fenced(_))).await;
        Outcome { phase, summary }
    }
}

fn shape(job: &Job) -> Shape {
    let spec = &job.request.spec;
    let stages = u32::try_from(job.graph.stages.len()).unwrap_or(u32::MAX);
    let ids = |wanted: fn(&Verb) -> bool| {
        let steps = spec.pipeline.iter().filter(move |step| wanted(&step.verb));
        steps.map(|step| step.id.clone()).collect()
    };
    Shape {
        replicas: spec.replicas,
        slots: spec.slots,
        stages,
        sources: ids(|verb| matches!(verb, Verb::Source(_))),
        sinks: ids(|verb| matches!(verb, Verb::Sink(_))),
        tables: tables(job),
        checkpoint: spec.checkpoint,
        spread: xxh3_64(job.run_id().as_bytes()),
        failover: spec.failover,
        rescale: spec.rescale,
    }
}

/// From snapshot to snapshot of each table: of a job that ends at the end alone, unless it says so.
fn tables(job: &Job) -> Vec<Option<Duration>> {
    let ends = job.sources.values().all(|source| source.splits.count().is_some());
    let default = (!ends).then_some(TABLE_EVERY);
    let steps = job.request.spec.pipeline.iter();
    let tables = steps.filter_map(|step| match &step.verb {
        Verb::Sink(SinkSpec::Table(table)) => Some(table.every_ms.map(Duration::from_millis)),
        _ => None,
    });
    tables.map(|every| every.or(default)).collect()
}

fn recorded(job: &Job) -> Recorded {
    let state = job.journal.state();
    let unconfirmed = state.unconfirmed.iter().flat_map(|(checkpoint, pieces)| {
        pieces.iter().map(|piece| (*checkpoint, records::piece_from_record(piece)))
    });
    let unconfirmed: Vec<(_, Piece)> = unconfirmed.collect();
    let totals = state.last_checkpoint().map(|last| Totals::from_bytes(&last.totals));
    let living = state.generation_number();
    let of_living = totals.as_ref().filter(|totals| totals.generation == living.0);
    let before = records::layout(state).map(|layout| Before {
        layout,
        form: job.deploy().form,
        totals: of_living.cloned(),
    });
    Recorded {
        generation: state.generation_number(),
        checkpoint: state.last_checkpoint().map(|last| last.id).unwrap_or_default(),
        unconfirmed,
        snapshots: snapshots::kept(state),
        totals: totals.unwrap_or_default(),
        before,
    }
}

/// The greeting that a job's coordinator sends to its workers.
pub(crate) fn greeting(job: &Job) -> Greeting {
    Greeting::new(
        std::sync::Arc::clone(&job.request.network),
        job.term,
        job.journal.incarnation().to_string(),
        job.request.token.clone(),
        Duration::from_millis(job.request.spec.failover.timeout_ms),
    )
}

/// Open control streams by their number.
pub(crate) type Streams = BTreeMap<LinkId, Stream>;
