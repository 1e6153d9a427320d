//! Simulated worker processes as a `Cluster`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use weir_engine::cluster::{Cluster, ClusterError, Exit, Member, WorkerState, WorkerView};
use weir_engine::network::sim::SimNetwork;
use weir_engine::objects::{Objects, OneStore};
use weir_engine::worker::{self, WorkerSettings};
use weir_runtime::sim::Process;
use weir_runtime::sim::store::SimStore;
use weir_runtime::{clock, random};

/// How soon the death of a process is seen that nobody announced.
const LOOK_EVERY: Duration = Duration::from_millis(20);
pub(crate) const TOKEN: &str = "token";

#[derive(Clone)]
pub(crate) struct SimWorker {
    ordinal: u32,
    pub(crate) process: Process,
    /// Set once it listens.
    member: Arc<Mutex<Option<Member>>>,
    /// Set when it ended by itself.
    fault: Arc<Mutex<Option<String>>>,
}

impl SimWorker {
    pub(crate) fn address(&self) -> Option<String> {
        self.member.lock().expect("not poisoned").as_ref().map(|member| member.address.clone())
    }

    fn state(&self) -> WorkerState {
        if let Some(fault) = self.fault.lock().expect("not poisoned").clone() {
            return WorkerState::Dead(Exit::Fault(fault));
        }
        if self.process.is_killed() {
            return WorkerState::Dead(Exit::Lost("killed".to_owned()));
        }
        match self.member.lock().expect("not poisoned").clone() {
            Some(member) => WorkerState::Ready(member),
            None => WorkerState::Starting,
        }
    }
}

/// Workers that one coordinator process has started; shared with those who kill them.
#[derive(Clone, Default)]
pub(crate) struct Workers(Arc<Mutex<Vec<SimWorker>>>);

impl Workers {
    pub(crate) fn alive(&self) -> Vec<SimWorker> {
        let workers = self.0.lock().expect("not poisoned");
        workers.iter().filter(|worker| !worker.process.is_killed()).cloned().collect()
    }

    /// What happens to children some time after their parent.
    pub(crate) fn kill_all(&self) {
        for worker in self.alive() {
            worker.process.kill();
        }
    }
}

pub(crate) struct SimCluster {
    store: SimStore,
    network: SimNetwork,
    workers: Workers,
    changes: watch::Sender<u64>,
    changed: watch::Receiver<u64>,
    /// What `observe` gave last.
    seen: Vec<WorkerView>,
}

impl SimCluster {
    pub(crate) fn new(store: SimStore, network: SimNetwork, workers: Workers) -> Self {
        let (changes, changed) = watch::channel(0);
        Self { store, network, workers, changes, changed, seen: Vec::new() }
    }

    fn look(&self) -> Vec<WorkerView> {
        let workers = self.workers.0.lock().expect("not poisoned");
        let view = |w: &SimWorker| WorkerView { ordinal: w.ordinal, state: w.state() };
        let mut views: Vec<WorkerView> = workers.iter().map(view).collect();
        views.sort_by_key(|view| view.ordinal);
        views
    }
}

#[async_trait]
impl Cluster for SimCluster {
    async fn observe(&mut self) -> Vec<WorkerView> {
        self.seen = self.look();
        self.seen.clone()
    }

    async fn start(&mut self, ordinal: u32) -> Result<(), ClusterError> {
        let skew_ms = i64::try_from(random::below(1_200_000)).expect("small") - 600_000;
        let incarnation = random::id();
        let worker = SimWorker {
            ordinal,
            process: Process::new(format!("worker-{incarnation}"), skew_ms),
            member: Arc::default(),
            fault: Arc::default(),
        };
        self.workers.0.lock().expect("not poisoned").push(worker.clone());
        let settings = WorkerSettings { incarnation: incarnation.clone(), token: TOKEN.to_owned() };
        let objects: Arc<dyn Objects> = Arc::new(OneStore(Arc::new(self.store.clone())));
        let network = Arc::new(self.network.clone());
        let changes = self.changes.clone();
        let process = worker.process.clone();
        drop(process.spawn(async move {
            clock::sleep(Duration::from_millis(random::below(40))).await;
            let member = Arc::clone(&worker.member);
            let told = changes.clone();
            let ready = move |address: &str| {
                let address = address.to_owned();
                *member.lock().expect("not poisoned") = Some(Member { incarnation, address });
                told.send_modify(|n| *n += 1);
            };
            let open = Arc::new(move |_: &str| Arc::clone(&objects));
            let ended = Box::pin(worker::run(settings, network, open, ready)).await;
            let Err(error) = ended;
            *worker.fault.lock().expect("not poisoned") = Some(error.to_string());
            changes.send_modify(|n| *n += 1);
            worker.process.kill();
        }));
        Ok(())
    }

    async fn stop(&mut self, ordinal: u32) -> Result<(), ClusterError> {
        for worker in self.workers.alive().iter().filter(|worker| worker.ordinal == ordinal) {
            worker.process.kill();
        }
        Ok(())
    }

    async fn forget(&mut self, ordinal: u32) {
        let mut workers = self.workers.0.lock().expect("not poisoned");
        workers.retain(|worker| worker.ordinal != ordinal || !worker.process.is_killed());
    }

    async fn changed(&mut self) {
        while self.look() == self.seen {
            if clock::timeout(LOOK_EVERY, self.changed.changed()).await.is_ok() {
                return;
            }
        }
    }
}
