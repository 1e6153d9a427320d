//! Does what the machine says: control streams, journal records, printing, deletions.
//!
//! Journal writes are awaited here, by the job's one owning task, because nothing may be decided
//! before they are settled; control streams keep their heartbeats meanwhile.

use std::time::Duration;

use tokio::sync::mpsc;
use weir_runtime::clock;
use weir_state::ids::{CheckpointId, Generation, Seq};
use weir_state::journal::{Entry, JobState, JournalError, Remedy, release_snapshot};

use super::begin::Job;
use super::cleaner::{Chore, Cleaner, clean_up};
use super::layout::Layout;
use super::links::{Greeting, Heard, LinkId, Stream};
use super::machine::{Effect, Event};
use super::print::{Print, Printer};
use super::records;
use super::run::{Streams, Target, greeting};
use super::snapshots;
use super::status::Phase;
use super::summary::{Summary, Totals};
use crate::cluster::Member;
use crate::execution::error::chain;
use crate::protocol::{Ack, Compactors, Deploy, Piece, ToWorker, WorkerRef, to_worker};

/// How often a record is written anew, after the journal's own repetitions.
const RECORD_ATTEMPTS_MAX: u32 = 3;
/// Pause between two of them.
const RECORD_PAUSE: Duration = Duration::from_secs(1);

/// Everything that the machine's effects touch.
pub(crate) struct Performer {
    job: Job,
    greeting: Greeting,
    streams: Streams,
    hear: mpsc::Sender<(LinkId, Heard)>,
    cleaner: Cleaner,
    printer: Printer,
    /// Who compacts, once that was ever anybody else than the workers.
    compactors: Option<Compactors>,
}

/// Whether a coordinator may still decide over its job.
pub(crate) enum Reign {
    /// No other one has begun.
    Sure,
    /// Another one has.
    Over(Phase),
    /// The store does not say.
    Unknown(String),
}

impl Performer {
    pub(crate) fn new(
        job: Job,
        hear: mpsc::Sender<(LinkId, Heard)>,
        cleaner: Cleaner,
        print: Box<dyn Print>,
    ) -> Self {
        let greeting = greeting(&job);
        let printer = Printer::new(print, &job.request.spec);
        let streams = Streams::new();
        Self { job, greeting, streams, hear, cleaner, printer, compactors: None }
    }

    /// Tells the workers who compacts from now on, if they do not know.
    pub(crate) fn tell_compactors(&mut self, wanted: bool, members: &[Member]) {
        let compactors = members.iter().map(worker_ref).collect();
        let now = Some(Compactors { wanted, compactors });
        if self.compactors == now || (self.compactors.is_none() && !wanted) {
            return;
        }
        self.compactors = now;
        for stream in self.streams.values() {
            self.tell(stream);
        }
    }

    fn tell(&self, stream: &Stream) {
        let Some(compactors) = self.compactors.clone() else { return };
        let body = Some(to_worker::Body::Compactors(compactors));
        // One that does not read is found out by its heartbeats.
        stream.send(ToWorker { term: self.job.term.0, generation: 0, body });
    }

    /// Does one effect; gives what came of it, if the machine has to know.
    pub(crate) async fn perform(&mut self, effect: Effect, summary: Summary) -> Option<Event> {
        match effect {
            Effect::HangUp => {
                self.streams.clear();
                None
            }
            Effect::Dial(link, member) => {
                let hear = self.hear.clone();
                let stream = Stream::open(self.greeting.clone(), link, member, hear);
                self.tell(&stream);
                self.streams.insert(link, stream);
                None
            }
            Effect::Send(link, generation, body) => self.send(link, generation, *body),
            Effect::RecordGeneration(number, layout) => {
                Some(self.record_generation(number, &layout).await)
            }
            Effect::Deploy(generation, layout, links) => self.deploy(generation, &layout, &links),
            Effect::RecordCheckpoint { id, acks, confirmed, totals } => {
                Some(self.record_checkpoint(id, &acks, confirmed, &totals).await)
            }
            Effect::NameSnapshot { name, checkpoint } => {
                Some(self.name_snapshot(name, checkpoint).await)
            }
            Effect::DropSnapshot(name) => Some(self.drop_snapshot(name).await),
            Effect::Print(pieces) => Some(self.print(pieces).await),
            Effect::Finish { confirmed } => {
                let entry = Entry::Finished(summary.to_bytes());
                let done = |state: &JobState| state.finished.is_some();
                Some(self.record_last(entry, &confirmed, done, Phase::Finished).await)
            }
            Effect::Release { confirmed } => {
                let done = |state: &JobState| state.released;
                Some(self.record_last(Entry::Released, &confirmed, done, Phase::Suspended).await)
            }
        }
    }

    fn send(
        &mut self,
        link: LinkId,
        generation: Generation,
        body: to_worker::Body,
    ) -> Option<Event> {
        let term = self.job.term.0;
        let message = ToWorker { term, generation: generation.0, body: Some(body) };
        if self.streams.get(&link).is_none_or(|stream| stream.send(message)) {
            return None;
        }
        Some(Event::Heard(link, Heard::Lost("it does not read its messages".to_owned())))
    }

    async fn record_generation(&mut self, number: Generation, layout: &Layout) -> Event {
        let record = records::generation(number, layout, self.job.journal.state());
        let is_ours = record.clone();
        let done = move |state: &JobState| state.generation.as_deref() == Some(&is_ours);
        match self.record(&Entry::Generation(record), done).await {
            Ok(()) => {
                self.cleaner.give(Chore::Sweep(self.job.journal.reader()));
                Event::GenerationRecorded(number)
            }
            Err(phase) => Event::Over(phase),
        }
    }

    fn deploy(
        &mut self,
        generation: Generation,
        layout: &Layout,
        links: &[LinkId],
    ) -> Option<Event> {
        // Whoever does not belong to it has nothing to say any more.
        self.streams.retain(|link, _| links.contains(link));
        let Job { journal, .. } = &self.job;
        let deploy = Deploy {
            workers: layout.workers.iter().map(worker_ref).collect(),
            subtasks: layout.subtasks(),
            restore: records::restore(journal.state()),
            ..self.job.deploy()
        };
        let mut failed = None;
        for link in links {
            let body = to_worker::Body::Deploy(deploy.clone());
            failed = failed.or(self.send(*link, generation, body));
        }
        failed
    }

    async fn record_checkpoint(
        &mut self,
        id: CheckpointId,
        acks: &[Ack],
        confirmed: Vec<CheckpointId>,
        totals: &Totals,
    ) -> Event {
        let Job { request, journal, checked, graph, sources, .. } = &self.job;
        let retained = request.spec.checkpoint.retained;
        let state = journal.state();
        let collected = records::collect(id, acks, checked, graph, sources, state, retained);
        let mut collected = match collected {
            Ok(collected) => collected,
            Err(error) => {
                let why = format!("bug in Weir, please report it: {error}");
                return Event::Over(Phase::Failed(why));
            }
        };
        collected.entry.totals = totals.to_bytes();
        self.note_confirmed(&confirmed);
        let done = move |state: &JobState| state.last_checkpoint().is_some_and(|c| c.id == id);
        if let Err(phase) = self.record(&Entry::Checkpoint(collected.entry), done).await {
            return Event::Over(phase);
        }
        self.clean(collected.unnamed);
        Event::CheckpointRecorded { id, pieces: collected.pieces, confirmed }
    }

    /// What the journal says already is not said again.
    async fn name_snapshot(&mut self, name: String, checkpoint: CheckpointId) -> Event {
        let is_there = |state: &JobState| snapshots::kept(state).get(&name).copied();
        let state = self.job.journal.state();
        if is_there(state).is_none() && state.checkpoints.contains_key(&checkpoint) {
            let entry = Entry::Snapshot { name: name.clone(), checkpoint };
            if let Err(phase) = self.record(&entry, |state| is_there(state).is_some()).await {
                return Event::Over(phase);
            }
        }
        let kept = is_there(self.job.journal.state());
        Event::SnapshotNamed(name, kept)
    }

    async fn drop_snapshot(&mut self, name: String) -> Event {
        let journal = &self.job.journal;
        if journal.state().snapshots.contains_key(&name) {
            let (root, incarnation) = (journal.root(), journal.incarnation());
            let released = release_snapshot(root, incarnation, &name, clock::wall_ms()).await;
            if let Err(error) = released {
                return Event::SnapshotHeld(name, chain(&error));
            }
            let entry = Entry::DropSnapshot { name: name.clone() };
            let done = |state: &JobState| !state.snapshots.contains_key(&name);
            if let Err(phase) = self.record(&entry, done).await {
                return Event::Over(phase);
            }
            self.clean(Vec::new());
        }
        Event::SnapshotDropped(name)
    }

    fn clean(&mut self, unnamed: Vec<String>) {
        if !self.job.journal.state().condemned.is_empty() {
            self.cleaner.give(Chore::Condemned(self.job.journal.reader()));
        }
        if !unnamed.is_empty() {
            self.cleaner.give(Chore::Unnamed(self.job.journal.reader(), unnamed));
        }
    }

    async fn print(&mut self, pieces: Vec<Piece>) -> Event {
        let objects = self.job.journal.objects();
        for piece in &pieces {
            if let Err(error) = self.printer.print(piece, &objects).await {
                return Event::Over(Phase::Failed(chain(&error)));
            }
        }
        Event::Printed(pieces)
    }

    async fn record_last(
        &mut self,
        entry: Entry,
        confirmed: &[CheckpointId],
        done: impl Fn(&JobState) -> bool,
        phase: Phase,
    ) -> Event {
        self.note_confirmed(confirmed);
        match self.record(&entry, done).await {
            Ok(()) => Event::Over(phase),
            Err(phase) => Event::Over(phase),
        }
    }

    fn note_confirmed(&mut self, confirmed: &[CheckpointId]) {
        for checkpoint in confirmed {
            self.job.journal.note_confirmed(*checkpoint);
        }
    }

    /// The job is wanted in this form from now on.
    pub(crate) fn retarget(&mut self, target: Target) {
        target.put_into(&mut self.job.request.spec);
    }

    /// Asks the journal whether this coordinator still reigns.
    pub(crate) async fn reign(&mut self) -> Reign {
        let Err(error) = self.job.journal.refresh().await else { return Reign::Sure };
        match error.remedy() {
            Remedy::StopWriting => Reign::Over(Phase::Fenced(chain(&error))),
            Remedy::Retry | Remedy::DecideAgain => Reign::Unknown(chain(&error)),
            // What is damaged is nobody else's.
            Remedy::AskHuman => Reign::Sure,
        }
    }

    /// Requests made so far for the journal and for clean-up.
    pub(crate) fn requests(&self) -> u64 {
        self.job.journal.place().requests()
    }

    /// The next record says that what was condemned up to `through` is deleted.
    pub(crate) fn note_deleted(&mut self, through: Seq) {
        self.job.journal.note_deleted(through);
    }

    /// Waits until condemned objects are deleted. Cancel safe.
    pub(crate) async fn deleted(&mut self) -> Seq {
        self.cleaner.deleted().await
    }

    /// Appends until it is known that the record is there, or that this coordinator has to stop.
    ///
    /// `done` says of a state that the record is in it: a put whose answer was lost may have landed.
    async fn record(
        &mut self,
        entry: &Entry,
        done: impl Fn(&JobState) -> bool,
    ) -> Result<(), Phase> {
        let journal = &mut self.job.journal;
        let mut attempt = 1;
        loop {
            let error = match journal.append(entry.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            tracing::warn!(attempt, "cannot write the journal: {}", chain(&error));
            match error.remedy() {
                Remedy::StopWriting | Remedy::AskHuman => return Err(stopped(&error)),
                Remedy::Retry | Remedy::DecideAgain => {}
            }
            if attempt >= RECORD_ATTEMPTS_MAX {
                let why = format!("the journal cannot be written: {}", chain(&error));
                return Err(Phase::Failed(why));
            }
            attempt += 1;
            match journal.refresh().await {
                Ok(()) if done(journal.state()) => return Ok(()),
                Ok(()) => {}
                Err(error) if error.remedy() == Remedy::Retry => clock::sleep(RECORD_PAUSE).await,
                // `Finished` may be what this very record says.
                Err(_) if done(journal.state()) => return Ok(()),
                Err(error) => return Err(stopped(&error)),
            }
        }
    }

    /// Ends the streams; then, unless another coordinator reigns, cleans up once more.
    pub(crate) async fn close(mut self, is_owner: bool) {
        self.streams.clear();
        self.cleaner.finish().await;
        if is_owner {
            clean_up(&self.job.journal, &self.job.grounds()).await;
        }
    }
}

fn worker_ref(worker: &Member) -> WorkerRef {
    WorkerRef { incarnation: worker.incarnation.clone(), address: worker.address.clone() }
}

fn stopped(error: &JournalError) -> Phase {
    match error.remedy() {
        Remedy::StopWriting => Phase::Fenced(chain(error)),
        _ => Phase::Failed(chain(error)),
    }
}
