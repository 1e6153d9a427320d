//! Runs a job until it is finished, whatever dies on the way.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};
use std::time::Duration;

use object_store::path::Path;
use weir_engine::coordinator::run::Target;
use weir_engine::coordinator::snapshots::Wishes;
use weir_engine::coordinator::status::{Compaction, Phase};
use weir_engine::network::sim::{NetworkCounters, NetworkFaults, SimNetwork};
use weir_runtime::sim::store::{FaultRates, SimStore, SimStoreSettings};
use weir_runtime::{clock, random, task};
use weir_state::names::TableFile;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::cluster::{SimWorker, Workers};
use super::coordinator::{Running, Start};
use super::draw::{Blow, Scenario};
use super::job::INPUT;

/// Simulated time after which a job that is not finished is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(900);
/// After this the store and the network heal: what is left must come to its end.
const FAULTS_LAST: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);
pub(crate) const STATE: &str = "state";

/// What a run met, by what it is, summed over seeds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reached(pub(crate) BTreeMap<&'static str, u64>);

impl Reached {
    pub(crate) fn count(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            self.count(what, *times);
        }
    }

    fn add_network(&mut self, counters: &NetworkCounters) {
        self.count("dial refused", counters.refused);
        self.count("message repeated", counters.duplicated);
        self.count("message lost", counters.lost);
        self.count("message stalled", counters.stalls);
        self.count("call broken", counters.breaks);
        self.count("crash before a send", counters.crashes_before);
        self.count("crash after a send", counters.crashes - counters.crashes_before);
    }
}

/// A job that has come to its end.
#[derive(Clone, Debug)]
pub(crate) struct Lived {
    pub(crate) store: SimStore,
    /// Messages, object calls and what lies in the store at the end.
    pub(crate) trace_hash: u64,
    /// Object calls and messages that were made.
    pub(crate) calls: u64,
    pub(crate) sends: u64,
    pub(crate) reached: Reached,
    /// The job's last generation.
    pub(crate) generation: u64,
}

struct World {
    scenario: Scenario,
    store: SimStore,
    network: SimNetwork,
    reached: Reached,
    /// Stale workers that woke up.
    woken: Arc<AtomicU64>,
    /// Of all coordinators, if workers outlive them.
    workers: Workers,
    /// The same.
    compactors: Workers,
    /// What compactors and workers of this and earlier coordinators had done.
    compacted: Compaction,
    starts: u32,
    snapshots: Snapshots,
    /// What the job's text says now.
    target: Target,
    /// The last wish for a checkpoint, and the last one that was answered.
    wish: u64,
    answered: u64,
    /// Rescales that were counted.
    rescales: u64,
    /// Checkpoints that failed one after the other.
    failures: u32,
    /// The last start whose coordinator went on with a running generation.
    adopted: u32,
    /// Workers that were asked to leave.
    asked: Vec<SimWorker>,
    /// The next start is one with `--fresh`.
    is_fresh: bool,
}

/// First parts of a table's snapshots, as one sees them in the store.
#[derive(Default)]
struct Snapshots {
    staged: BTreeSet<String>,
    shown: BTreeSet<u64>,
}

impl Snapshots {
    fn look(&mut self, store: &SimStore) {
        for (name, _) in store.names() {
            let Some(name) = name.strip_prefix("table/") else { continue };
            if let Some(file) = TableFile::parse(name) {
                self.shown.insert(file.checkpoint.0);
            } else if name.contains("/table-0-") {
                self.staged.insert(name.to_owned());
            }
        }
    }
}

pub(crate) async fn live(scenario: &Scenario) -> Result<Lived, String> {
    let latency = Duration::from_millis(scenario.slow_ms);
    let mut settings = SimStoreSettings::with_latency(scenario.seed, Duration::ZERO, latency);
    settings.list_latency = Duration::ZERO..=Duration::from_millis(scenario.list_ms);
    settings.keep_trace = scenario.is_shown;
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
    for (name, lines) in scenario.query.input_files() {
        store.plant(&Path::from(format!("{INPUT}/{name}")), lines);
    }
    let network = SimNetwork::new(faults);
    for planned in &scenario.planned {
        store.plan(planned.clone());
    }
    if let Some((send, crash)) = scenario.crash_at {
        network.crash_at(send, crash);
    }
    let world = World {
        scenario: scenario.clone(),
        store,
        network,
        reached: Reached::default(),
        woken: Arc::default(),
        workers: Workers::default(),
        compactors: Workers::default(),
        compacted: Compaction::default(),
        starts: 0,
        snapshots: Snapshots::default(),
        target: Target::of(&scenario.spec),
        wish: 0,
        answered: 0,
        rescales: 0,
        failures: 0,
        adopted: 0,
        asked: Vec::new(),
        is_fresh: false,
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
        let mut kills_at_end = self.scenario.kills_at_end;
        loop {
            clock::sleep(LOOK_EVERY).await;
            if self.scenario.query.table.is_some() {
                self.snapshots.look(&self.store);
            }
            self.look_at_rescales(&running);
            self.look_at_checkpoints(&running);
            self.look_at_adoption(&running);
            self.look_at_wishes(&running)?;
            self.look_at_compaction(&running);
            if clock::now() > stuck {
                let (starts, status) = (self.starts, running.status.borrow());
                return Err(format!("stuck after {STUCK_AFTER:?} and {starts} starts: {status:?}"));
            }
            if clock::now() > heals {
                self.store.set_faults(FaultRates::default());
                self.network.set_faults(NetworkFaults::none());
            }
            let end = running.take_end();
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
            let rows_in = running.status.borrow().rows_in;
            if kills_at_end && rows_in >= self.scenario.query.events && !running.process.is_killed()
            {
                kills_at_end = false;
                self.reached.count("coordinator killed at the end", 1);
                let orphans_live = Duration::from_secs(5);
                self.strike(Blow::Coordinator { orphans_live }, &mut running, &mut stale);
            }
            if let Some((_, blow)) = next.filter(|_| clock::now() >= due) {
                self.strike(blow, &mut running, &mut stale);
                next = blows.next();
                due = clock::now() + next.map_or(Duration::ZERO, |(after, _)| after);
            }
        }
        let checkpoints = running.status.borrow().checkpoints;
        self.reached.count("checkpoint", checkpoints);
        let (staged, shown) = (self.snapshots.staged.len(), self.snapshots.shown.len());
        self.reached.count("table snapshot replaced", shown.saturating_sub(1) as u64);
        self.reached.count("table snapshot given up", staged.saturating_sub(shown) as u64);
        self.end(running, stale).await
    }

    fn strike(&mut self, blow: Blow, running: &mut Running, stale: &mut Vec<Running>) {
        match blow {
            Blow::Worker(_) | Blow::NewWorker | Blow::Leave(_) => self.hit_worker(blow, running),
            Blow::Compactor { which, cut_off } => self.hit_compactor(which, cut_off, running),
            Blow::Rescale { replicas, slots } => {
                self.in_a_rescale(running, "other target in a rescale");
                self.retarget(running, replicas, slots);
            }
            Blow::Ask => {
                self.wish += 1;
                running.ask.send_replace(self.wish);
            }
            Blow::Back => {
                self.in_a_rescale(running, "rescale cancelled");
                let (replicas, slots) = (self.scenario.spec.replicas, self.scenario.spec.slots);
                self.retarget(running, replicas, slots);
            }
            Blow::Coordinator { orphans_live } => {
                self.reached.count("coordinator killed", 1);
                self.in_a_rescale(running, "coordinator killed in a rescale");
                running.process.kill();
                self.orphan(running, orphans_live);
                *running = self.start();
            }
            Blow::Second => {
                self.reached.count("coordinator made stale", 1);
                let second = self.start();
                stale.push(std::mem::replace(running, second));
            }
            Blow::CutOff { worker, lasts } => {
                let alive = running.workers.alive();
                let at = usize::try_from(worker).expect("64 bits") % alive.len().max(1);
                let Some(worker) = alive.get(at).cloned() else { return };
                let Some(address) = worker.address() else { return };
                self.reached.count("worker cut off", 1);
                self.network.cut_off(&address);
                let (network, woken) = (self.network.clone(), Arc::clone(&self.woken));
                task::spawn(async move {
                    clock::sleep(lasts).await;
                    network.join_again(&address);
                    let wakes = worker.is_stale() && !worker.process.is_killed();
                    woken.fetch_add(u64::from(wakes), atomic::Ordering::Relaxed);
                })
                .detach();
            }
            Blow::Deleted | Blow::DeletedBeneath => {
                self.reached.count("job made again", 1);
                if matches!(blow, Blow::Deleted) {
                    running.process.kill();
                    self.orphan(running, Duration::from_secs(10));
                }
                for (name, _) in self.store.names() {
                    if !name.starts_with(INPUT) {
                        self.store.uproot(&Path::from(name));
                    }
                }
                let anew = self.start();
                let old = std::mem::replace(running, anew);
                if matches!(blow, Blow::DeletedBeneath) {
                    stale.push(old);
                }
            }
            Blow::Fresh => {
                self.reached.count("job made again", 1);
                self.is_fresh = true;
                let anew = self.start();
                stale.push(std::mem::replace(running, anew));
            }
            Blow::Apart { workers, breaks, lasts } => self.part(running, workers, breaks, lasts),
        }
    }

    fn hit_worker(&mut self, blow: Blow, running: &Running) {
        let alive = running.workers.alive();
        let at = |which: u64| usize::try_from(which).expect("64 bits") % alive.len().max(1);
        let (place, what) = match blow {
            Blow::Worker(which) => (at(which), "worker killed in a rescale"),
            Blow::Leave(which) => (at(which), "worker asked to leave in a rescale"),
            _ => (alive.len().saturating_sub(1), "new worker killed in a rescale"),
        };
        let Some(worker) = alive.get(place) else { return };
        self.in_a_rescale(running, what);
        if matches!(blow, Blow::Leave(_)) {
            worker.ask_to_leave();
            self.asked.push(worker.clone());
        } else {
            self.reached.count("worker killed", 1);
            worker.process.kill();
        }
    }

    fn hit_compactor(&mut self, which: u64, cut_off: Option<Duration>, running: &Running) {
        let alive = running.compactors.alive();
        let place = usize::try_from(which).expect("64 bits") % alive.len().max(1);
        let Some(compactor) = alive.get(place) else { return };
        let Some(lasts) = cut_off else {
            self.reached.count("compactor killed", 1);
            return compactor.process.kill();
        };
        let Some(address) = compactor.address() else { return };
        self.reached.count("compactor cut off", 1);
        self.network.cut_off(&address);
        let network = self.network.clone();
        task::spawn(async move {
            clock::sleep(lasts).await;
            network.join_again(&address);
        })
        .detach();
    }

    fn in_a_rescale(&mut self, running: &Running, what: &'static str) {
        self.reached.count(what, u64::from(running.is_moving()));
    }

    /// The job's text is changed, and whoever runs it sees that.
    fn retarget(&mut self, running: &Running, replicas: u32, slots: u32) {
        self.target = Target { replicas, slots, ..self.target };
        self.reached.count("target changed", 1);
        running.target.send_replace(self.target);
    }

    fn look_at_checkpoints(&mut self, running: &Running) {
        let failures = running.status.borrow().checkpoint_failures;
        self.reached.count("checkpoint given up", u64::from(failures > self.failures));
        self.failures = failures;
    }

    fn look_at_adoption(&mut self, running: &Running) {
        if running.status.borrow().is_adopted && self.adopted != self.starts {
            self.adopted = self.starts;
            self.reached.count("generation adopted", 1);
        }
    }

    fn look_at_wishes(&mut self, running: &Running) -> Result<(), String> {
        let answered = running.status.borrow().answered;
        // One that has just begun shows nothing yet.
        if answered == 0 {
            return Ok(());
        }
        if answered > self.wish || answered < self.answered {
            let (wish, before) = (self.wish, self.answered);
            return Err(format!("answered wish {answered} of {wish}, after {before}"));
        }
        self.reached.count("wish answered", u64::from(answered > self.answered));
        self.answered = answered;
        Ok(())
    }

    fn look_at_compaction(&mut self, running: &Running) {
        let Some(now) = running.status.borrow().compaction.clone() else { return };
        let before = std::mem::replace(&mut self.compacted, now.clone());
        // A new generation counts from 0.
        let more = |now: u64, before: u64| now.saturating_sub(before);
        self.reached.count("compacted elsewhere", more(now.elsewhere, before.elsewhere));
        self.reached.count("compacted here after all", more(now.here, before.here));
        self.reached.count("compaction given up", more(now.given_up, before.given_up));
    }

    fn look_at_rescales(&mut self, running: &Running) {
        let status = running.status.borrow();
        let Some(last) = status.last_rescale.filter(|_| status.rescales > self.rescales) else {
            return;
        };
        self.rescales = status.rescales;
        let width = |(replicas, slots)| replicas * slots;
        let what = match width(last.to).cmp(&width(last.from)) {
            _ if last.pause_ms.is_none() => "rescaled with a failover",
            Ordering::Greater => "rescaled out",
            Ordering::Less => "rescaled in",
            Ordering::Equal => "rescaled to the same width",
        };
        self.reached.count(what, 1);
        let is_slow = last.pause_ms.is_some() && self.scenario.slow_ms >= 15;
        self.reached.count("rescaled over a slow store", u64::from(is_slow));
    }

    fn part(&mut self, running: &Running, workers: u64, breaks: bool, lasts: Duration) {
        let alive = running.workers.alive();
        let addresses: Vec<String> = alive.iter().filter_map(SimWorker::address).collect();
        let first = usize::try_from(workers).expect("64 bits") % addresses.len().max(1);
        let Some(one) = addresses.get(first).cloned() else { return };
        let other = addresses[(first + 1) % addresses.len()].clone();
        if one == other {
            return;
        }
        self.reached.count("two workers parted", 1);
        self.network.part(&one, &other);
        if breaks {
            self.network.break_between(&one, &other);
        }
        let network = self.network.clone();
        task::spawn(async move {
            clock::sleep(lasts).await;
            network.unite(&one, &other);
        })
        .detach();
    }

    /// After a crash at an object call or a send.
    fn restart(&mut self, dead: &Running) -> Running {
        self.reached.count("coordinator crashed", 1);
        self.orphan(dead, Duration::from_millis(random::below(10_000)));
        self.start()
    }

    /// The workers of a dead coordinator end some time later, or are taken over.
    fn orphan(&mut self, dead: &Running, live: Duration) {
        if self.scenario.keeps_workers {
            self.reached.count("workers taken over", 1);
            return;
        }
        let (orphans, compactors) = (dead.workers.clone(), dead.compactors.clone());
        task::spawn(async move {
            clock::sleep(live).await;
            orphans.kill_all();
            compactors.kill_all();
        })
        .detach();
    }

    fn start(&mut self) -> Running {
        self.starts += 1;
        let mut spec = self.scenario.spec.clone();
        self.target.put_into(&mut spec);
        let (workers, compactors) = (self.workers.clone(), self.compactors.clone());
        let start = Start {
            number: self.starts,
            store: self.store.clone(),
            network: self.network.clone(),
            spec,
            folder: STATE,
            owner: "owner",
            origin: None,
            kept: self.scenario.keeps_workers.then_some((workers, compactors)),
            wish: self.wish,
            wishes: Wishes::new(),
            is_fresh: std::mem::take(&mut self.is_fresh),
        };
        start.start()
    }

    /// Lets everything that is stale wake up and do its worst, then ends it.
    async fn end(mut self, running: Running, stale: Vec<Running>) -> Result<Lived, String> {
        clock::sleep(Duration::from_secs(60)).await;
        self.store.set_faults(FaultRates::default());
        for old in stale.iter().chain([&running]) {
            old.kill();
        }
        clock::sleep(Duration::from_secs(60)).await;
        for (fault, times) in self.store.struck() {
            self.reached.count(fault, times);
        }
        let generation = running.status.borrow().generation.0;
        let left = self.asked.iter().filter(|worker| worker.has_left()).count();
        self.reached.count("worker left in order", left as u64);
        let sends = self.network.counters().sent;
        self.reached.add_network(&self.network.counters());
        self.reached.count("stale worker woken", self.woken.load(atomic::Ordering::Relaxed));
        let mut trace_hash = self.store.trace_hash() ^ self.network.trace_hash().rotate_left(1);
        for (name, _) in self.store.names() {
            let bytes = self.store.peek(&Path::from(name.as_str())).unwrap_or_default();
            trace_hash = xxh3_64_with_seed(name.as_bytes(), trace_hash);
            trace_hash = xxh3_64_with_seed(&bytes, trace_hash);
        }
        let (calls, store, reached) = (self.store.calls(), self.store, self.reached);
        Ok(Lived { store, trace_hash, calls, sends, reached, generation })
    }
}
