//! Simulated workers, and a script in the coordinator's place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::{oneshot, watch};
use weir_engine::network::sim::{NetworkFaults, SimNetwork};
use weir_engine::network::{CoordinatorLink, Network};
use weir_engine::objects::{Objects, OneStore};
use weir_engine::pipeline::spec::{JobSpec, SourceSpec, Verb};
use weir_engine::protocol::to_coordinator::Body;
use weir_engine::protocol::{
    Abort, Ack, Commit, Deploy, Failed, Hello, PROTOCOL_VERSION, Progress, Restore, SourcePlan,
    SourcePositions, StepCounters, Stop, ToWorker, Trigger, WorkerRef, to_worker,
};
use weir_engine::source::dealing;
use weir_engine::source::{self, Source};
use weir_engine::worker::sight::Sight;
use weir_engine::worker::{self, WorkerSettings};
use weir_runtime::clock;
use weir_runtime::sim::Process;
use weir_runtime::sim::store::SimStore;

use super::data::{Event, INPUT, OUTPUT, parquet};

const INCARNATION: &str = "1-cafe";
const TOKEN: &str = "token";
/// Nothing that a test waits for takes longer in simulated time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Workers of one life, and the store that outlives them.
pub(crate) struct Rig {
    store: SimStore,
    network: Arc<SimNetwork>,
    processes: Vec<Process>,
    workers: Vec<WorkerRef>,
    sights: Vec<Sight>,
}

impl Rig {
    /// `workers` workers, and a store that holds the rows.
    pub(crate) async fn new(store: SimStore, events: &[Event], workers: usize) -> Self {
        store.plant(&Path::from(INPUT), parquet(events));
        Self::with(store, workers).await
    }

    /// `workers` workers over a store.
    pub(crate) async fn with(store: SimStore, workers: usize) -> Self {
        let network = Arc::new(SimNetwork::new(NetworkFaults::none()));
        let (processes, sights) = (Vec::new(), Vec::new());
        let mut rig = Self { store, network, processes, workers: Vec::new(), sights };
        for number in 0..workers {
            rig.start(format!("w{number}")).await;
        }
        rig
    }

    async fn start(&mut self, incarnation: String) {
        let process = Process::new(incarnation.clone(), 0);
        let (_, leave) = watch::channel(false);
        let token = TOKEN.to_owned();
        let sight = Sight::default();
        self.sights.push(sight.clone());
        let settings = WorkerSettings { incarnation: incarnation.clone(), token, leave, sight };
        let network = Arc::clone(&self.network) as Arc<dyn Network>;
        let objects = Arc::clone(&self.objects());
        let (ready, address) = oneshot::channel();
        process.spawn(async move {
            let open = Arc::new(move |_: &str| Arc::clone(&objects));
            let ready = |address: &str| ready.send(address.to_owned()).unwrap();
            worker::run(settings, network, open, ready).await
        });
        let address = address.await.unwrap();
        self.workers.push(WorkerRef { incarnation, address });
        self.processes.push(process);
    }

    /// Rows that a step has given on, on all workers.
    pub(crate) fn rows_read(&self, step: &str) -> u64 {
        let steps = self.sights.iter().flat_map(|sight| sight.now().progress().steps);
        steps.filter(|its| its.step == step).map(|its| its.rows_out).sum()
    }

    fn objects(&self) -> Arc<dyn Objects> {
        Arc::new(OneStore(Arc::new(self.store.clone()) as Arc<dyn ObjectStore>))
    }

    /// Kills all workers.
    pub(crate) fn kill(&self) {
        self.processes.iter().for_each(Process::kill);
    }

    /// Committed rows, in the order of the files' names.
    pub(crate) fn rows(&self) -> Vec<serde_json::Value> {
        let mut rows = Vec::new();
        for (name, _) in self.store.names() {
            let Some(file) = name.strip_prefix(OUTPUT) else { continue };
            if !file.starts_with("/_weir") && file.ends_with(".ndjson") {
                let bytes = self.store.peek(&Path::from(name.as_str())).unwrap();
                let lines = std::str::from_utf8(&bytes).unwrap().lines();
                rows.extend(
                    lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()),
                );
            }
        }
        rows
    }

    /// Committed output: (key, window's start) to (rows, sum). Panics when a window is there twice.
    pub(crate) fn output(&self) -> BTreeMap<(String, i64), (i64, i64)> {
        let number = |row: &serde_json::Value, name| row[name].as_i64().unwrap();
        self.windows(|row| (number(row, "n"), number(row, "total")))
    }

    /// Committed output: (key, window's start) to what `read` makes of a row. Panics when a window
    /// is there twice.
    pub(crate) fn windows<T: std::fmt::Debug + PartialEq>(
        &self,
        read: impl Fn(&serde_json::Value) -> T,
    ) -> BTreeMap<(String, i64), T> {
        let mut windows = BTreeMap::new();
        for row in self.rows() {
            let start = timestamp_ms(row["window_start"].as_str().unwrap());
            let key = (row["key"].as_str().unwrap().to_owned(), start);
            assert_eq!(windows.insert(key, read(&row)), None, "written twice: {row}");
        }
        windows
    }
}

/// Milliseconds of a time on 1969-12-31 or 1970-01-01, in the form of the sinks.
pub(crate) fn timestamp_ms(text: &str) -> i64 {
    let (day, time) = text.split_once('T').unwrap();
    let days = match day {
        "1969-12-31" => -1,
        "1970-01-01" => 0,
        other => panic!("not expected here: {other}"),
    };
    let mut parts = time.trim_end_matches('Z').split([':', '.']);
    let mut part = || parts.next().unwrap().parse::<i64>().unwrap();
    let (hours, minutes, seconds, millis) = (part(), part(), part(), part());
    (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000 + millis
}

/// A complete checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    id: u64,
    acks: Vec<Ack>,
    restore: Restore,
}

/// A script in the coordinator's place.
pub(crate) struct Driver {
    links: Vec<CoordinatorLink>,
    workers: Vec<WorkerRef>,
    term: u64,
    pub(crate) generation: u64,
    job: JobSpec,
    plan: SourcePlan,
    splits: dealing::Splits,
    /// What this generation was restored from.
    restored: SourcePositions,
    next_checkpoint: u64,
    hellos: Vec<(u64, String)>,
    input_done: BTreeSet<(u32, u32)>,
    progress: BTreeMap<usize, Progress>,
    /// How much later each further worker is told something.
    pub(crate) stagger: Duration,
}

fn source_of(job: &JobSpec) -> (String, SourceSpec) {
    let source = job.pipeline.iter().find_map(|step| match &step.verb {
        Verb::Source(source) => Some((step.id.clone(), source.clone())),
        _ => None,
    });
    source.unwrap()
}

impl Driver {
    /// Introduces itself to all workers.
    pub(crate) async fn connect(rig: &Rig, job: JobSpec, term: u64) -> Self {
        let (step, spec) = source_of(&job);
        let objects = rig.objects();
        let plan = source::plan(&step, &spec, objects.as_ref()).await.unwrap();
        let splits = Source::new(&spec, &plan, 0, objects.as_ref()).unwrap().splits();
        let mut driver = Self {
            links: Vec::new(),
            workers: rig.workers.clone(),
            term,
            generation: 1,
            job,
            plan,
            splits,
            restored: SourcePositions::default(),
            next_checkpoint: 1,
            hellos: Vec::new(),
            input_done: BTreeSet::new(),
            progress: BTreeMap::new(),
            stagger: Duration::ZERO,
        };
        for worker in &rig.workers {
            driver.links.push(rig.network.control(&worker.address).await.unwrap());
        }
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            incarnation: INCARNATION.to_owned(),
            token: TOKEN.to_owned(),
        };
        driver.tell(to_worker::Body::Hello(hello)).await;
        while driver.hellos.len() < driver.links.len() {
            match driver.next(PATIENCE).await.expect("an answer") {
                (_, Body::Hello(reply)) => driver.hellos.push((reply.generation, reply.refused)),
                (_, other) => driver.note(0, other),
            }
        }
        driver
    }

    /// Introduces itself and deploys generation 1, or a later one after a restore.
    pub(crate) async fn deploy(rig: &Rig, job: JobSpec, from: Option<Checkpoint>) -> Self {
        let mut driver = Self::connect(rig, job, 1).await;
        if let Some(from) = &from {
            driver.generation = 2;
            driver.next_checkpoint = from.id + 1;
        }
        driver.redeploy(from).await;
        driver
    }

    /// Deploys `self.generation`.
    pub(crate) async fn redeploy(&mut self, from: Option<Checkpoint>) {
        let restore = from.map(|from| from.restore);
        self.restored = restore.as_ref().map(|r| r.sources[0].clone()).unwrap_or_default();
        self.input_done.clear();
        let deploy = Deploy {
            form: 0,
            spec_json: serde_json::to_string(&self.job).unwrap(),
            sources: vec![self.plan.clone()],
            workers: self.workers.clone(),
            subtasks: (0..self.width())
                .map(|subtask| self.workers[subtask % self.workers.len()].incarnation.clone())
                .collect(),
            key_groups: self.job.key_groups.into(),
            restore,
            state_uri: "state".to_owned(),
            base_folder: String::new(),
            state_memory_bytes: self.job.state_memory_bytes,
            run: "cafe".to_owned(),
            state_store_json: String::new(),
        };
        self.tell(to_worker::Body::Deploy(deploy)).await;
        let is_deployed = |body: &Body| matches!(body, Body::Deployed(_));
        for _ in 0..self.links.len() {
            self.until(is_deployed).await;
        }
    }

    fn width(&self) -> usize {
        self.workers.len() * self.job.slots as usize
    }

    /// Stage tasks: a source and some aggregates, each at full width.
    fn tasks(&self) -> usize {
        let steps = self.job.pipeline.iter();
        let keyed = steps.filter(|step| matches!(step.verb, Verb::Aggregate(_))).count();
        (1 + keyed) * self.width()
    }

    /// (generation, refusal) of each worker's answer to the introduction.
    pub(crate) fn replies(&self) -> Vec<(u64, String)> {
        self.hellos.clone()
    }

    async fn tell(&mut self, body: to_worker::Body) {
        for link in &self.links {
            let (term, generation) = (self.term, self.generation);
            // A stream that was ended takes nothing.
            let _ = link.send.send(ToWorker { term, generation, body: Some(body.clone()) }).await;
            clock::sleep(self.stagger).await;
        }
    }

    /// The next message of any worker, with the worker's place.
    pub(crate) async fn next(&mut self, patience: Duration) -> Option<(usize, Body)> {
        let any = self.links.iter_mut().enumerate().map(|(place, link)| {
            Box::pin(async move { Some((place, link.receive.recv().await?.body?)) })
        });
        let any = futures::future::select_all(any);
        clock::timeout(patience, any).await.ok()?.0
    }

    /// Whether the streams end before long.
    pub(crate) async fn is_ended(&mut self) -> bool {
        let until = clock::now() + Duration::from_secs(1);
        while clock::now() < until {
            if self.next(Duration::from_secs(2)).await.is_none() {
                return clock::now() < until;
            }
        }
        false
    }

    fn note(&mut self, place: usize, body: Body) {
        match body {
            Body::InputDone(done) => {
                assert!(
                    self.input_done.insert((done.stage, done.subtask)) || self.term > 1,
                    "{done:?} was said twice"
                );
            }
            Body::Progress(progress) => {
                self.progress.insert(place, progress);
            }
            _ => {}
        }
    }

    /// The next message that `wanted` is true for. Panics on a failure that is not wanted.
    async fn until(&mut self, wanted: impl Fn(&Body) -> bool) -> Body {
        loop {
            let (place, body) = self.next(PATIENCE).await.expect("the workers say something");
            if wanted(&body) {
                return body;
            }
            assert!(!matches!(body, Body::Failed(_)), "{body:?}");
            self.note(place, body);
        }
    }

    /// Reads all that comes for a while; how often `wanted` was true.
    pub(crate) async fn answers(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&Body) -> bool,
    ) -> usize {
        let until = clock::now() + patience;
        let mut count = 0;
        while let Some(left) = until.checked_duration_since(clock::now()) {
            let Some((place, body)) = self.next(left).await else { break };
            count += usize::from(wanted(&body));
            self.note(place, body);
        }
        count
    }

    pub(crate) async fn until_failed(&mut self) -> Failed {
        match self.until(|body| matches!(body, Body::Failed(_))).await {
            Body::Failed(failed) => failed,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until all subtasks of all stages have said that their input is done.
    pub(crate) async fn until_input_done(&mut self) {
        while self.input_done.len() < self.tasks() {
            let (place, body) = self.next(PATIENCE).await.expect("the job goes on");
            assert!(!matches!(body, Body::Failed(_)), "{body:?}");
            self.note(place, body);
        }
    }

    pub(crate) async fn trigger(&mut self) {
        self.order(false).await;
    }

    async fn order(&mut self, pauses: bool) {
        let checkpoint = self.next_checkpoint;
        self.next_checkpoint += 1;
        let trigger = Trigger { checkpoint, tables: 0, pauses };
        self.tell(to_worker::Body::Trigger(trigger)).await;
    }

    /// Another number of subtasks from the next deployment on.
    pub(crate) fn set_slots(&mut self, slots: u32) {
        self.job.slots = slots;
    }

    /// Aborts the checkpoint that was triggered last.
    pub(crate) async fn abort(&mut self) {
        let checkpoint = self.next_checkpoint - 1;
        self.tell(to_worker::Body::Abort(Abort { checkpoint })).await;
    }

    pub(crate) async fn stop_only(&mut self) {
        self.tell(to_worker::Body::Stop(Stop {})).await;
    }

    /// Takes a checkpoint when the source has read this many rows.
    pub(crate) async fn checkpoint_when_read(&mut self, rows: u64) -> Checkpoint {
        while self.counters("events", |step| step.rows_out) < rows {
            let (place, body) = self.next(PATIENCE).await.expect("the source goes on");
            self.note(place, body);
        }
        self.checkpoint().await
    }

    /// Takes a checkpoint: all acknowledgements of all stages.
    pub(crate) async fn checkpoint(&mut self) -> Checkpoint {
        self.trigger().await;
        self.acknowledged().await
    }

    /// Takes a checkpoint at which the sources pause.
    pub(crate) async fn cut(&mut self) -> Checkpoint {
        self.order(true).await;
        self.acknowledged().await
    }

    async fn acknowledged(&mut self) -> Checkpoint {
        let id = self.next_checkpoint - 1;
        let mut acks: BTreeMap<(u32, u32), Ack> = BTreeMap::new();
        while acks.len() < self.tasks() {
            let ack = self.until(|body| matches!(body, Body::Ack(ack) if ack.checkpoint == id));
            if let Body::Ack(ack) = ack.await {
                let before = acks.insert((ack.stage, ack.subtask), ack);
                assert!(before.is_none(), "acknowledged twice: {before:?}");
            }
        }
        let acks: Vec<Ack> = acks.into_values().collect();
        let of_sources: Vec<SourcePositions> =
            acks.iter().filter_map(|ack| ack.source.clone()).collect();
        let sources = dealing::merge(&self.plan.step, &self.splits, &self.restored, &of_sources);
        let keyed = acks.iter().filter(|ack| ack.watermark.is_some());
        let restore = Restore {
            checkpoint: id,
            sources: vec![sources],
            versions: keyed.clone().map(|ack| ack.version.clone()).collect(),
            watermarks: keyed.filter_map(|ack| ack.watermark.clone()).collect(),
            waiting_rows: Vec::new(),
        };
        Checkpoint { id, acks, restore }
    }

    /// Publishes a checkpoint's pieces, dealt to the workers, until they confirm.
    pub(crate) async fn commit(&mut self, checkpoint: &Checkpoint) {
        let pieces: Vec<_> = checkpoint.acks.iter().flat_map(|ack| ack.pieces.clone()).collect();
        let count = self.links.len();
        for (place, link) in self.links.iter().enumerate() {
            let own = pieces.iter().enumerate().filter(|(piece, _)| piece % count == place);
            let commit = Commit {
                checkpoint: checkpoint.id,
                pieces: own.map(|(_, piece)| piece.clone()).collect(),
            };
            let (term, generation) = (self.term, self.generation);
            let body = Some(to_worker::Body::Commit(commit));
            link.send.send(ToWorker { term, generation, body }).await.unwrap();
        }
        let id = checkpoint.id;
        let mut confirmed = 0;
        for _ in 0..count {
            let is_ours = |body: &Body| matches!(body, Body::Committed(c) if c.checkpoint == id);
            if let Body::Committed(committed) = self.until(is_ours).await {
                confirmed += committed.pieces.len();
            }
        }
        assert_eq!(confirmed, pieces.len());
    }

    /// Runs to the end of the input and takes the final checkpoint.
    pub(crate) async fn finish(&mut self) -> Checkpoint {
        self.until_input_done().await;
        self.checkpoint().await
    }

    /// A counter of a step, over all workers.
    pub(crate) fn counters(&self, step: &str, of: impl Fn(&StepCounters) -> u64) -> u64 {
        let steps = self.progress.values().flat_map(|progress| &progress.steps);
        steps.filter(|counters| counters.step == step).map(of).sum()
    }
}
