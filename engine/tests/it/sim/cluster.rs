//! Simulated worker processes as a `Cluster`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use tokio::sync::watch;
use weir_engine::cluster::{Cluster, ClusterError, Exit, Member, WorkerState, WorkerView};
use weir_engine::compactor::{self, CompactorSettings};
use weir_engine::network::sim::SimNetwork;
use weir_engine::objects::{Objects, OneStore};
use weir_engine::worker::sight::Sight;
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
    /// Asks it to end in order.
    leave: Arc<watch::Sender<bool>>,
    has_left: Arc<AtomicBool>,
    /// Given up by its cluster, which cannot reach it, and running on.
    is_stale: Arc<AtomicBool>,
}

impl SimWorker {
    pub(crate) fn address(&self) -> Option<String> {
        self.member.lock().expect("not poisoned").as_ref().map(|member| member.address.clone())
    }

    pub(crate) fn ask_to_leave(&self) {
        self.leave.send_replace(true);
    }

    /// Whether it ended as it was asked to, and not in another way.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.process.is_killed() || self.is_stale()
    }

    fn state(&self) -> WorkerState {
        if let Some(fault) = self.fault.lock().expect("not poisoned").clone() {
            return WorkerState::Dead(Exit::Fault(fault));
        }
        if self.process.is_killed() {
            return WorkerState::Dead(Exit::Lost("killed".to_owned()));
        }
        if self.is_stale() {
            return WorkerState::Dead(Exit::Lost("its node does not answer".to_owned()));
        }
        match self.member.lock().expect("not poisoned").clone() {
            Some(member) => WorkerState::Ready(member),
            None => WorkerState::Starting,
        }
    }
}

/// Workers of one cluster; shared with those who kill them.
#[derive(Clone, Default)]
pub(crate) struct Workers(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    workers: Vec<SimWorker>,
    /// Those that the cluster has forgotten and that run on.
    stale: Vec<SimWorker>,
    /// How many coordinators have taken the cluster over; only the last one may act on it.
    taken_over: u64,
}

impl Workers {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().expect("not poisoned")
    }

    pub(crate) fn alive(&self) -> Vec<SimWorker> {
        self.lock().workers.iter().filter(|worker| !worker.is_over()).cloned().collect()
    }

    /// What happens to children some time after their parent.
    pub(crate) fn kill_all(&self) {
        let shared = self.lock();
        for worker in shared.workers.iter().chain(&shared.stale) {
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
    /// Which of the coordinators that took the workers over this is.
    number: u64,
    /// Whether workers outlive their coordinator.
    keeps_workers: bool,
    /// Its processes compact, and do nothing else.
    is_of_compactors: bool,
}

impl SimCluster {
    pub(crate) fn new(
        store: SimStore,
        network: SimNetwork,
        workers: Workers,
        keeps_workers: bool,
    ) -> Self {
        let (changes, changed) = watch::channel(0);
        let number = {
            let mut shared = workers.lock();
            shared.taken_over += 1;
            shared.taken_over
        };
        let seen = Vec::new();
        let is_of_compactors = false;
        Self {
            store,
            network,
            workers,
            changes,
            changed,
            seen,
            number,
            keeps_workers,
            is_of_compactors,
        }
    }

    /// Such that its processes compact.
    pub(crate) fn of_compactors(self) -> Self {
        Self { is_of_compactors: true, ..self }
    }

    fn may_act(&self) -> bool {
        self.workers.lock().taken_over == self.number
    }

    fn look(&self) -> Vec<WorkerView> {
        let shared = self.workers.lock();
        let view =
            |w: &SimWorker| WorkerView { ordinal: w.ordinal, state: w.state(), outdated: false };
        let mut views: Vec<WorkerView> = shared.workers.iter().map(view).collect();
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
        if !self.may_act() {
            return Ok(());
        }
        let skew_ms = i64::try_from(random::below(1_200_000)).expect("small") - 600_000;
        let incarnation = random::id();
        let worker = SimWorker {
            ordinal,
            process: Process::new(format!("worker-{incarnation}"), skew_ms),
            member: Arc::default(),
            fault: Arc::default(),
            leave: Arc::new(watch::Sender::new(false)),
            has_left: Arc::default(),
            is_stale: Arc::default(),
        };
        self.workers.lock().workers.push(worker.clone());
        let leave = worker.leave.subscribe();
        let token = TOKEN.to_owned();
        let sight = Sight::default();
        let compacts = self.is_of_compactors.then(|| CompactorSettings {
            incarnation: incarnation.clone(),
            token: token.clone(),
            leave: leave.clone(),
        });
        let settings = WorkerSettings { incarnation: incarnation.clone(), token, leave, sight };
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
            let ended = match compacts {
                Some(settings) => compactor::run(settings, network, open, ready).boxed().await,
                None => worker::run(settings, network, open, ready).boxed().await,
            };
            match ended {
                Ok(()) => worker.has_left.store(true, Ordering::Relaxed),
                Err(error) => {
                    *worker.fault.lock().expect("not poisoned") = Some(error.to_string());
                }
            }
            changes.send_modify(|n| *n += 1);
            worker.process.kill();
        }));
        Ok(())
    }

    async fn stop(&mut self, ordinal: u32) -> Result<(), ClusterError> {
        // Also when another coordinator has taken over: that it does not come to this is its own care.
        let is_meant = |worker: &&SimWorker| worker.ordinal == ordinal;
        for worker in self.workers.alive().iter().filter(is_meant) {
            // Its node does not answer either: it is given up and wakes up later.
            if worker.address().is_some_and(|address| self.network.is_cut_off(&address)) {
                worker.is_stale.store(true, Ordering::Relaxed);
            } else {
                worker.process.kill();
            }
        }
        Ok(())
    }

    async fn forget(&mut self, ordinal: u32) {
        let mut shared = self.workers.lock();
        let goes = |worker: &mut SimWorker| worker.ordinal == ordinal && worker.is_over();
        let gone: Vec<SimWorker> = shared.workers.extract_if(.., goes).collect();
        shared.stale.extend(gone);
    }

    fn workers_outlive(&self) -> bool {
        self.keeps_workers
    }

    async fn changed(&mut self) {
        while self.look() == self.seen {
            if clock::timeout(LOOK_EVERY, self.changed.changed()).await.is_ok() {
                return;
            }
        }
    }
}
