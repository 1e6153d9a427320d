//! Runs a job until it is finished, whatever dies on the way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::path::Path;
use tokio::sync::watch;
use weir_engine::coordinator::begin::{Begun, Request, begin};
use weir_engine::coordinator::print::Print;
use weir_engine::coordinator::run::{Outside, Wanted, run_job};
use weir_engine::coordinator::status::{Phase, Status};
use weir_engine::network::sim::{NetworkFaults, SimNetwork};
use weir_engine::objects::OneStore;
use weir_runtime::sim::Process;
use weir_runtime::sim::store::{FaultRates, SimStore, SimStoreSettings};
use weir_runtime::{clock, random, task};
use weir_state::journal::Root;
use weir_state::objects::Place;

use super::cluster::{SimCluster, TOKEN, Workers};
use super::draw::{Blow, Scenario};

/// Simulated time after which a job that is not finished is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(900);
/// After this the store and the network heal: what is left must come to its end.
const FAULTS_LAST: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);
pub(crate) const STATE: &str = "state";

/// What a run met, summed over seeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reached {
    pub(crate) worker_kills: u64,
    pub(crate) coordinator_kills: u64,
    pub(crate) stale_coordinators: u64,
    pub(crate) cut_offs: u64,
    pub(crate) checkpoints: u64,
}

impl Reached {
    pub(crate) fn add(&mut self, other: &Self) {
        self.worker_kills += other.worker_kills;
        self.coordinator_kills += other.coordinator_kills;
        self.stale_coordinators += other.stale_coordinators;
        self.cut_offs += other.cut_offs;
        self.checkpoints += other.checkpoints;
    }
}

/// A job that has come to its end.
#[derive(Clone, Debug)]
pub(crate) struct Lived {
    pub(crate) store: SimStore,
    pub(crate) trace_hash: u64,
    pub(crate) reached: Reached,
}

/// How one coordinator process ended; none: it was killed, or runs still.
type End = Arc<Mutex<Option<Result<Phase, String>>>>;

/// One `weir run` with its workers.
struct Running {
    process: Process,
    workers: Workers,
    end: End,
    status: watch::Receiver<Status>,
}

struct Nowhere;

impl Print for Nowhere {
    fn print(&mut self, _: &str, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

struct World {
    scenario: Scenario,
    store: SimStore,
    network: SimNetwork,
    reached: Reached,
    starts: u32,
}

pub(crate) fn root(store: &SimStore) -> Root {
    Root::new(Place::new(Arc::new(store.clone()), Path::from(STATE), format!("sim://{STATE}")))
}

pub(crate) async fn live(scenario: &Scenario) -> Result<Lived, String> {
    let latency = Duration::from_millis(scenario.slow_ms);
    let mut settings = SimStoreSettings::with_latency(scenario.seed, Duration::ZERO, latency);
    settings.keep_trace = std::env::var_os("SEED").is_some();
    if scenario.faulty_store {
        settings.faults = FaultRates {
            error_before: 5,
            lost_answer: 5,
            late: 2,
            exists_without_landing: 3,
            crash_before: 2,
            crash_after: 2,
        };
    }
    let faults = if scenario.faulty_network {
        NetworkFaults { crash_per_million: 300, crashes_max: 3, ..NetworkFaults::rough() }
    } else {
        NetworkFaults::none()
    };
    let store = SimStore::new(settings);
    let network = SimNetwork::new(faults);
    let world = World {
        scenario: scenario.clone(),
        store,
        network,
        reached: Reached::default(),
        starts: 0,
    };
    world.live().await
}

impl World {
    async fn live(mut self) -> Result<Lived, String> {
        let stuck = clock::now() + STUCK_AFTER;
        let heals = clock::now() + FAULTS_LAST;
        let mut blows = self.scenario.blows.clone().into_iter();
        let mut next = blows.next();
        let mut due = clock::now() + next.map_or(Duration::ZERO, |(after, _)| after);
        let mut running = self.start();
        let mut stale: Vec<Running> = Vec::new();
        loop {
            clock::sleep(LOOK_EVERY).await;
            if clock::now() > stuck {
                let (starts, status) = (self.starts, running.status.borrow());
                return Err(format!("stuck after {STUCK_AFTER:?} and {starts} starts: {status:?}"));
            }
            if clock::now() > heals {
                self.store.set_faults(FaultRates::default());
                self.network.set_faults(NetworkFaults::none());
            }
            let end = running.end.lock().expect("not poisoned").take();
            match end {
                Some(Ok(Phase::Finished)) => break,
                Some(Ok(Phase::Fenced(_))) => running = self.start(),
                Some(Ok(phase)) => return Err(format!("ended as {phase:?}")),
                Some(Err(problem)) => {
                    // A store that failed while the job began: a user would start it again.
                    clock::sleep(Duration::from_millis(100)).await;
                    if clock::now() > heals + FAULTS_LAST {
                        return Err(format!("does not begin: {problem}"));
                    }
                    running = self.start();
                }
                None if running.process.is_killed() => running = self.restart(&running),
                None => {}
            }
            if let Some((_, blow)) = next.filter(|_| clock::now() >= due) {
                self.strike(blow, &mut running, &mut stale);
                next = blows.next();
                due = clock::now() + next.map_or(Duration::ZERO, |(after, _)| after);
            }
        }
        self.reached.checkpoints += running.status.borrow().checkpoints;
        self.end(running, stale).await
    }

    fn strike(&mut self, blow: Blow, running: &mut Running, stale: &mut Vec<Running>) {
        match blow {
            Blow::Worker(which) => {
                let alive = running.workers.alive();
                if !alive.is_empty() {
                    self.reached.worker_kills += 1;
                    alive[usize::try_from(which).expect("64 bits") % alive.len()].process.kill();
                }
            }
            Blow::Coordinator { orphans_live } => {
                self.reached.coordinator_kills += 1;
                running.process.kill();
                let orphans = running.workers.clone();
                task::spawn(async move {
                    clock::sleep(orphans_live).await;
                    orphans.kill_all();
                })
                .detach();
                *running = self.start();
            }
            Blow::Second => {
                self.reached.stale_coordinators += 1;
                let second = self.start();
                stale.push(std::mem::replace(running, second));
            }
            Blow::CutOff { worker, lasts } => {
                let alive = running.workers.alive();
                let at = usize::try_from(worker).expect("64 bits") % alive.len().max(1);
                if let Some(address) = alive.get(at).and_then(super::cluster::SimWorker::address) {
                    self.reached.cut_offs += 1;
                    self.network.cut_off(&address);
                    let network = self.network.clone();
                    task::spawn(async move {
                        clock::sleep(lasts).await;
                        network.join_again(&address);
                    })
                    .detach();
                }
            }
        }
    }

    /// After a crash at an object call or a send: the workers are orphans.
    fn restart(&mut self, dead: &Running) -> Running {
        self.reached.coordinator_kills += 1;
        let orphans = dead.workers.clone();
        let live = Duration::from_millis(random::below(10_000));
        task::spawn(async move {
            clock::sleep(live).await;
            orphans.kill_all();
        })
        .detach();
        self.start()
    }

    fn start(&mut self) -> Running {
        self.starts += 1;
        let process = Process::new(format!("run-{}", self.starts), 0);
        let workers = Workers::default();
        let end: End = Arc::default();
        let (tell, status) = watch::channel(Status::default());
        let mut cluster =
            SimCluster::new(self.store.clone(), self.network.clone(), workers.clone());
        let request = self.request();
        let told = Arc::clone(&end);
        drop(process.spawn(async move {
            let (_keep, wanted) = watch::channel(Wanted::Run);
            let ended = match Box::pin(begin(request)).await {
                Ok(Begun::Finished(_)) => Ok(Phase::Finished),
                Ok(Begun::Ready(job)) => {
                    let outside = Outside { wanted, status: tell, print: Box::new(Nowhere) };
                    Ok(Box::pin(run_job(*job, &mut cluster, outside)).await.phase)
                }
                Err(error) => Err(error.to_string()),
            };
            *told.lock().expect("not poisoned") = Some(ended);
        }));
        Running { process, workers, end, status }
    }

    fn request(&self) -> Request {
        Request {
            spec: self.scenario.spec.clone(),
            root: root(&self.store),
            state_uri: STATE.to_owned(),
            base_folder: String::new(),
            owner: "owner".to_owned(),
            objects: Arc::new(OneStore(Arc::new(self.store.clone()))),
            network: Arc::new(self.network.clone()),
            token: TOKEN.to_owned(),
        }
    }

    /// Lets everything that is stale wake up and do its worst, then ends it.
    async fn end(self, running: Running, stale: Vec<Running>) -> Result<Lived, String> {
        clock::sleep(Duration::from_secs(60)).await;
        self.store.set_faults(FaultRates::default());
        for old in stale.iter().chain([&running]) {
            old.process.kill();
            old.workers.kill_all();
        }
        clock::sleep(Duration::from_secs(60)).await;
        Ok(Lived { trace_hash: self.store.trace_hash(), store: self.store, reached: self.reached })
    }
}
