//! The network of simulated processes: delays and faults under the run's seed.
//!
//! Every direction of a call is a pump that takes messages from one end's queue, keeps them for a
//! drawn delay and puts them, in order, into the other end's. It belongs to the network, not to
//! either process, so it sees processes die and decides what the survivors see.
//!
//! - `sim.rs` — the network: serving, dialling, what a test may do to it.
//! - `sim/fault.rs` — what can go wrong, by chance or by plan.
//! - `sim/pump.rs` — one direction of one call.
//!
//! What must stay true: a call's messages arrive in order; data messages arrive once or never,
//! control messages possibly twice; all choices come from the run's seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use weir_runtime::sim::{self, Process};
use weir_runtime::{clock, random};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::network::{
    CoordinatorLink, Link, Network, OrderLink, ReceiverLink, Serving, Unreachable, WorkerService,
};
use crate::protocol::OpenChannel;

mod fault;
mod pump;

pub use fault::{Crash, NetworkCounters, NetworkFaults};
use pump::{End, Pump};

/// Messages that wait in an end's queue.
const LINK_MESSAGES_MAX: usize = 16;
/// How long a dial to an address waits that is cut off.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// A network in one process. Cheap to clone; all clones are one network.
#[derive(Clone, Debug)]
pub struct SimNetwork {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// All pumps; no process's death ends them.
    process: Process,
    state: Mutex<State>,
    /// Counts changes of `State::cut_off`, for those who wait for its end.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    faults: NetworkFaults,
    planned: BTreeMap<u64, Crash>,
    counters: NetworkCounters,
    servers: BTreeMap<String, Server>,
    served: u64,
    cut_off: BTreeSet<String>,
    /// Pairs of addresses between which nothing passes, the lesser one first.
    apart: BTreeSet<(String, String)>,
    trace_hash: u64,
    calls: Vec<Weak<Call>>,
}

#[derive(Clone)]
struct Server {
    service: Arc<dyn WorkerService>,
    process: Option<Process>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("process", &self.process).finish_non_exhaustive()
    }
}

/// What both directions of a call share.
#[derive(Debug)]
struct Call {
    /// Dialled address.
    address: String,
    /// Addresses of which none may be cut off: the dialled one and the dialler's own.
    through: Vec<String>,
    broken: watch::Sender<bool>,
}

impl SimNetwork {
    /// A network with these faults.
    pub fn new(faults: NetworkFaults) -> Self {
        let state = State {
            faults,
            planned: BTreeMap::new(),
            counters: NetworkCounters::default(),
            servers: BTreeMap::new(),
            served: 0,
            cut_off: BTreeSet::new(),
            apart: BTreeSet::new(),
            trace_hash: 0,
            calls: Vec::new(),
        };
        let process = Process::new("network", 0);
        let changed = watch::Sender::new(0);
        Self { shared: Arc::new(Shared { process, state: Mutex::new(state), changed }) }
    }

    /// From now on these faults.
    pub fn set_faults(&self, faults: NetworkFaults) {
        self.shared.lock().faults = faults;
    }

    /// Kills the process that makes the `send`-th send (from 1) of the whole network.
    pub fn crash_at(&self, send: u64, crash: Crash) {
        self.shared.lock().planned.insert(send, crash);
    }

    /// Cuts `address` off: nothing arrives there or leaves it; what is sent waits.
    pub fn cut_off(&self, address: &str) {
        self.shared.lock().cut_off.insert(address.to_owned());
        self.shared.changed.send_modify(|changes| *changes += 1);
    }

    /// Ends what [`SimNetwork::cut_off`] began.
    pub fn join_again(&self, address: &str) {
        self.shared.lock().cut_off.remove(address);
        self.shared.changed.send_modify(|changes| *changes += 1);
    }

    /// Parts two addresses: nothing passes between them, what is sent waits. Others reach both.
    pub fn part(&self, one: &str, other: &str) {
        self.shared.lock().apart.insert(pair(one, other));
        self.shared.changed.send_modify(|changes| *changes += 1);
    }

    /// Ends what [`SimNetwork::part`] began.
    pub fn unite(&self, one: &str, other: &str) {
        self.shared.lock().apart.remove(&pair(one, other));
        self.shared.changed.send_modify(|changes| *changes += 1);
    }

    /// Breaks all calls between two addresses; messages in flight are lost.
    pub fn break_between(&self, one: &str, other: &str) {
        for call in self.shared.calls() {
            if [one, other].iter().all(|end| call.through.iter().any(|at| at == end)) {
                call.broken.send_replace(true);
            }
        }
    }

    /// Whether `address` is cut off.
    pub fn is_cut_off(&self, address: &str) -> bool {
        self.shared.lock().cut_off.contains(address)
    }

    /// A hash over all messages sent and delivered, in order, with their times and calls.
    pub fn trace_hash(&self) -> u64 {
        self.shared.lock().trace_hash
    }

    /// Breaks all calls to `address`; messages in flight are lost.
    pub fn break_calls(&self, address: &str) {
        for call in self.shared.calls() {
            if call.address == address {
                call.broken.send_replace(true);
            }
        }
    }

    /// What has happened so far.
    pub fn counters(&self) -> NetworkCounters {
        self.shared.lock().counters
    }

    /// Reaches the server at `address`, after the delays and refusals on the way.
    async fn dial(&self, address: &str) -> Result<(Server, Arc<Call>), Unreachable> {
        let failed = |reason: &str| {
            self.shared.lock().counters.refused += 1;
            Unreachable { address: address.to_owned(), reason: reason.to_owned() }
        };
        let (delay, refused) = {
            let mut state = self.shared.lock();
            state.counters.dials += 1;
            (state.faults.draw_delay().0, state.faults.draw_refusal())
        };
        clock::sleep(delay).await;
        let through = self.shared.through(address);
        let reached = clock::timeout(DIAL_TIMEOUT, self.shared.joined(&through)).await;
        reached.map_err(|_| failed("the connection timed out"))?;
        if refused {
            return Err(failed("the connection was reset"));
        }
        let server = self.shared.lock().servers.get(address).cloned();
        let alive = |server: &Server| !server.process.as_ref().is_some_and(Process::is_killed);
        let server = server.filter(alive).ok_or_else(|| failed("connection refused"))?;
        let broken = watch::Sender::new(false);
        let call = Arc::new(Call { address: address.to_owned(), through, broken });
        let mut state = self.shared.lock();
        state.calls.retain(|call| call.strong_count() > 0);
        state.calls.push(Arc::downgrade(&call));
        drop(state);
        Ok((server, call))
    }

    /// Two ends of a call, joined by two pumps; `S` goes from the dialler.
    fn connect<S, R>(&self, server: &Server, call: &Arc<Call>, control: bool) -> Ends<S, R>
    where
        S: Clone + Send + Sync + 'static,
        R: Clone + Send + Sync + 'static,
    {
        let dialler = End { process: Process::current() };
        let serving = End { process: server.process.clone() };
        let (send, out) = mpsc::channel(LINK_MESSAGES_MAX);
        let (into, receive) = mpsc::channel(LINK_MESSAGES_MAX);
        let (back, answer) = mpsc::channel(LINK_MESSAGES_MAX);
        let (answers, answered) = mpsc::channel(LINK_MESSAGES_MAX);
        let there = Pump::new(&self.shared, call, dialler.clone(), serving.clone(), control);
        let back_again = Pump::new(&self.shared, call, serving, dialler, control);
        drop(self.shared.process.spawn(there.run(out, into)));
        drop(self.shared.process.spawn(back_again.run(answer, answers)));
        (Link { send, receive: answered }, Link { send: back, receive })
    }

    /// Hands a call to the service inside the serving process.
    fn hand_over(&self, server: &Server, give: impl FnOnce(&dyn WorkerService) + Send + 'static) {
        let service = Arc::clone(&server.service);
        let process = server.process.as_ref().unwrap_or(&self.shared.process);
        drop(process.spawn(async move { give(service.as_ref()) }));
    }
}

type Ends<S, R> = (Link<S, R>, Link<R, S>);

#[async_trait]
impl Network for SimNetwork {
    async fn serve(&self, service: Arc<dyn WorkerService>) -> io::Result<Serving> {
        let process = Process::current();
        let mut state = self.shared.lock();
        state.served += 1;
        let address = format!("sim:{}", state.served);
        state.servers.insert(address.clone(), Server { service, process });
        drop(state);
        let guard = Guard { network: self.clone(), address: address.clone() };
        Ok(Serving { address, guard: Box::new(guard) })
    }

    async fn control(&self, address: &str) -> Result<CoordinatorLink, Unreachable> {
        let (server, call) = self.dial(address).await?;
        let (near, far) = self.connect(&server, &call, true);
        self.hand_over(&server, move |service| service.control(far));
        Ok(near)
    }

    async fn channel(&self, address: &str, open: OpenChannel) -> Result<ReceiverLink, Unreachable> {
        let (server, call) = self.dial(address).await?;
        let (near, far) = self.connect(&server, &call, false);
        self.hand_over(&server, move |service| service.channel(open, far));
        Ok(near)
    }

    async fn compact(&self, address: &str) -> Result<OrderLink, Unreachable> {
        let (server, call) = self.dial(address).await?;
        let (near, far) = self.connect(&server, &call, true);
        self.hand_over(&server, move |service| service.compaction(far));
        Ok(near)
    }
}

/// Ends a service when dropped. If its process was killed, the pumps decide what others see.
struct Guard {
    network: SimNetwork,
    address: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let server = self.network.shared.lock().servers.remove(&self.address);
        let killed = server.and_then(|server| server.process).is_some_and(|p| p.is_killed());
        if !killed {
            self.network.break_calls(&self.address);
        }
    }
}

/// Two addresses as [`State::apart`] has them.
fn pair(one: &str, other: &str) -> (String, String) {
    (one.min(other).to_owned(), one.max(other).to_owned())
}

impl State {
    fn is_free(&self, through: &[String]) -> bool {
        let all = |address: &String| through.iter().any(|other| other == address);
        through.iter().all(|address| !self.cut_off.contains(address))
            && !self.apart.iter().any(|(one, other)| all(one) && all(other))
    }

    fn note(&mut self, address: &str, number: u64, what: &str) {
        let line = format!("{} {address} {number} {what}", sim::elapsed_ms());
        self.trace_hash = xxh3_64_with_seed(line.as_bytes(), self.trace_hash);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> Vec<Arc<Call>> {
        self.lock().calls.iter().filter_map(Weak::upgrade).collect()
    }

    /// The dialled address, and those that the dialling process serves.
    fn through(&self, address: &str) -> Vec<String> {
        let mut through = vec![address.to_owned()];
        if let Some(dialler) = Process::current() {
            for (own, server) in &self.lock().servers {
                if server.process.as_ref().is_some_and(|other| other.name() == dialler.name()) {
                    through.push(own.clone());
                }
            }
        }
        through
    }

    /// Waits until none of `addresses` is cut off and no two of them are apart.
    async fn joined(&self, addresses: &[String]) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.lock().is_free(addresses) {
                return;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}

/// True about `per_million` times in a million.
fn chance(per_million: u32) -> bool {
    per_million > 0 && random::below(1_000_000) < u64::from(per_million)
}

#[cfg(test)]
mod tests;
