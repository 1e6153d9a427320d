//! An object store for simulation: in memory, slow in simulated time, and faulty under a seed.
//!
//! A call takes a request's travel, then its effect, then the answer's travel. Killing the caller
//! while a write's request is on its way may or may not keep it from landing, as with a real one.
//!
//! - `store.rs` — the course of a call. `store/interface.rs` — the [`object_store::ObjectStore`].
//! - `store/settings.rs` — how the store behaves. `store/multipart.rs` — uploads in parts.
//! - `store/fault.rs` — what can go wrong, by chance or by plan.
//! - `store/content.rs` — what is stored and what each operation does to it.
//!
//! What must stay true: with the same seed and the same calls, all answers, their times and the
//! [`SimStore::trace_hash`] are the same. Create-if-absent is atomic (unless switched off).

mod content;
mod fault;
mod interface;
mod multipart;
mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, PutMode, PutResult, Result};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::content::Content;
pub use self::fault::{Fault, FaultRates, Planned};
pub use self::settings::{Operation, SimStoreSettings};
use super::Process;
use crate::{clock, task};

#[derive(Debug)]
struct State {
    settings: SimStoreSettings,
    random: u64,
    planned: Vec<Planned>,
    content: Content,
    counts: BTreeMap<Operation, u64>,
    struck: BTreeMap<&'static str, u64>,
    in_flight: u64,
    in_flight_max: u64,
    trace_hash: u64,
    trace: Vec<String>,
}

/// The simulated store. Clones share what is stored.
#[derive(Clone, Debug)]
pub struct SimStore {
    state: Arc<Mutex<State>>,
}

/// What was drawn for one call when it began.
struct Call {
    operation: Operation,
    path: Path,
    caller: String,
    request_travel: Duration,
    answer_travel: Duration,
    fault: Option<Fault>,
    _gauge: Gauge,
}

/// Counts a call as in flight until it is answered or dropped.
struct Gauge(SimStore);

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

impl SimStore {
    /// An empty store.
    pub fn new(settings: SimStoreSettings) -> Self {
        let content = Content::new(settings.capacity_bytes, settings.ignores_create_if_absent);
        let state = State {
            random: settings.seed,
            settings,
            planned: Vec::new(),
            content,
            counts: BTreeMap::new(),
            struck: BTreeMap::new(),
            in_flight: 0,
            in_flight_max: 0,
            trace_hash: 0,
            trace: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Adds a planned fault.
    pub fn plan(&self, planned: Planned) {
        self.lock().planned.push(planned);
    }

    /// Changes how often faults happen by chance from now on; the default heals the store.
    pub fn set_faults(&self, faults: FaultRates) {
        self.lock().settings.faults = faults;
    }

    /// Changes how many bytes fit from now on.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.lock().content.capacity_bytes = capacity_bytes;
    }

    /// Calls begun so far, by kind.
    pub fn counts(&self) -> BTreeMap<Operation, u64> {
        self.lock().counts.clone()
    }

    /// Faults that have happened so far, by kind.
    pub fn struck(&self) -> BTreeMap<&'static str, u64> {
        self.lock().struck.clone()
    }

    /// Calls begun so far.
    pub fn calls(&self) -> u64 {
        self.lock().counts.values().sum()
    }

    /// Calls in flight now.
    pub fn in_flight(&self) -> u64 {
        self.lock().in_flight
    }

    /// The most calls that were in flight at one time.
    pub fn in_flight_max(&self) -> u64 {
        self.lock().in_flight_max
    }

    /// A hash over all effects and answers, in order, with their times and callers.
    pub fn trace_hash(&self) -> u64 {
        self.lock().trace_hash
    }

    /// A line per effect and answer, when the settings ask for it.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.clone()
    }

    /// Names and sizes of all objects, in name order; no call, no fault.
    pub fn names(&self) -> Vec<(String, u64)> {
        self.lock().content.names()
    }

    /// An object's bytes; no call, no fault.
    pub fn peek(&self, path: &Path) -> Option<Bytes> {
        self.lock().content.bytes(path).ok()
    }

    /// Puts an object as it is, for example a damaged one; no call, no fault.
    pub fn plant(&self, path: &Path, bytes: impl Into<Bytes>) {
        let planted = self.lock().content.put(path, bytes.into(), &PutMode::Overwrite, 0);
        planted.expect("a planted object fits");
    }

    /// Takes an object away; no call, no fault.
    pub fn uproot(&self, path: &Path) {
        self.lock().content.delete(path);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, operation: Operation, path: &Path) -> Call {
        let process = Process::current();
        let mut state = self.lock();
        let latency = state.draw_latency(operation);
        let request_travel = latency.mul_f64(state.draw_fraction());
        let by_chance = state.draw_fault();
        let mut planned = None;
        for plan in &mut state.planned {
            planned = planned.or(plan.strike(operation, path.as_ref()));
        }
        *state.counts.entry(operation).or_default() += 1;
        state.in_flight += 1;
        state.in_flight_max = state.in_flight_max.max(state.in_flight);
        let fault = planned.or(by_chance).filter(|fault| applies(*fault, operation, &process));
        Call {
            operation,
            path: path.clone(),
            caller: process.map_or_else(String::new, |process| process.name().to_owned()),
            request_travel,
            answer_travel: latency - request_travel,
            fault,
            _gauge: Gauge(self.clone()),
        }
    }

    /// One call from beginning to answer; `effect` is what it does to the content.
    async fn call<T, E>(&self, operation: Operation, path: &Path, effect: E) -> Result<T>
    where
        T: Send + 'static,
        E: FnOnce(&mut Content) -> Result<T> + Send + 'static,
    {
        let call = self.begin(operation, path);
        pass(call.request_travel).await;
        if let Some(fault) = call.fault.filter(|fault| *fault != Fault::CrashAfter) {
            self.strike(fault);
        }
        match call.fault {
            Some(Fault::ErrorBefore) => {
                return self.refuse(&call, "error before", failure("no answer"));
            }
            Some(Fault::DiskFull) => {
                return self.refuse(&call, "disk full", content::disk_full());
            }
            Some(Fault::ExistsWithoutLanding) => {
                return self.refuse(&call, "exists?", content::already_exists(path));
            }
            Some(Fault::CrashBefore) => {
                self.note(&call.caller, operation, path, "crash before");
                return crash().await;
            }
            Some(Fault::Late(delay)) => {
                self.spawn_effect(&call, delay, effect).detach();
                return self.refuse(&call, "late", failure("no answer in time"));
            }
            Some(Fault::LostAnswer | Fault::CrashAfter) | None => {}
        }
        let answer = if call.answer_travel.is_zero() {
            self.take_effect(&call.caller, operation, path, effect)
        } else {
            self.land(&call, effect).await
        };
        match call.fault {
            Some(Fault::CrashAfter) => {
                self.strike(Fault::CrashAfter);
                crash().await
            }
            Some(Fault::LostAnswer) => self.refuse(&call, "lost answer", failure("answer lost")),
            _ => answer,
        }
    }

    /// Lets a request that arrived take effect half way through its answer's travel. A write does
    /// so whether or not anyone still waits for it.
    async fn land<T, E>(&self, call: &Call, effect: E) -> Result<T>
    where
        T: Send + 'static,
        E: FnOnce(&mut Content) -> Result<T> + Send + 'static,
    {
        let half = call.answer_travel / 2;
        let answer = if call.operation.writes() || call.operation == Operation::Delete {
            self.spawn_effect(call, half, effect).wait().await?
        } else {
            pass(half).await;
            self.take_effect(&call.caller, call.operation, &call.path, effect)
        };
        pass(half).await;
        answer
    }

    fn spawn_effect<T, E>(&self, call: &Call, delay: Duration, effect: E) -> Effect<T>
    where
        T: Send + 'static,
        E: FnOnce(&mut Content) -> Result<T> + Send + 'static,
    {
        let (store, path, operation) = (self.clone(), call.path.clone(), call.operation);
        let caller = call.caller.clone();
        Effect(task::spawn_unowned(async move {
            pass(delay).await;
            store.take_effect(&caller, operation, &path, effect)
        }))
    }

    fn take_effect<T>(
        &self,
        caller: &str,
        operation: Operation,
        path: &Path,
        effect: impl FnOnce(&mut Content) -> Result<T>,
    ) -> Result<T> {
        let result = effect(&mut self.lock().content);
        let outcome = match &result {
            Ok(_) => "ok",
            Err(Error::AlreadyExists { .. }) => "exists",
            Err(Error::NotFound { .. }) => "not found",
            Err(_) => "failed",
        };
        self.note(caller, operation, path, outcome);
        result
    }

    fn refuse<T>(&self, call: &Call, outcome: &str, error: Error) -> Result<T> {
        self.note(&call.caller, call.operation, &call.path, outcome);
        Err(error)
    }

    fn strike(&self, fault: Fault) {
        *self.lock().struck.entry(fault.name()).or_default() += 1;
    }

    fn note(&self, caller: &str, operation: Operation, path: &Path, outcome: &str) {
        let at_ms = super::elapsed_ms();
        let line = format!("{at_ms} {caller} {operation:?} {path} {outcome}");
        let mut state = self.lock();
        state.trace_hash = xxh3_64_with_seed(line.as_bytes(), state.trace_hash);
        if state.settings.keep_trace {
            state.trace.push(line);
        }
    }

    async fn put(
        &self,
        operation: Operation,
        path: &Path,
        bytes: Bytes,
        mode: PutMode,
    ) -> Result<PutResult> {
        let to = path.clone();
        self.call(operation, path, move |content| content.put(&to, bytes, &mode, wall_ms())).await
    }

    fn list_from(
        &self,
        prefix: Option<&Path>,
        offset: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let offset = offset.cloned();
        let listing = async move {
            let below = prefix.clone();
            let effect = move |content: &mut Content| Ok(content.list(&below, offset.as_ref()));
            let listed = store.call(Operation::List, &prefix, effect).await?;
            Ok::<_, Error>(stream::iter(listed.into_iter().map(Ok)))
        };
        stream::once(listing).try_flatten().boxed()
    }
}

impl State {
    fn draw(&mut self) -> u64 {
        super::splitmix(&mut self.random)
    }

    fn draw_fraction(&mut self) -> f64 {
        // 1,024 steps: exact in a float, so the same on every machine.
        f64::from(u32::try_from(self.draw() % 1_025).unwrap_or(0)) / 1_024.0
    }

    fn draw_latency(&mut self, operation: Operation) -> Duration {
        let range = self.settings.latency(operation).clone();
        let fraction = self.draw_fraction();
        *range.start() + range.end().saturating_sub(*range.start()).mul_f64(fraction)
    }

    fn draw_fault(&mut self) -> Option<Fault> {
        let draw = self.draw() % 1_000;
        let late_by = FaultRates::LATE_MAX.mul_f64(self.draw_fraction());
        self.settings.faults.pick(draw, late_by)
    }
}

/// An effect under way on the store's side; dropping it does not stop it.
struct Effect<T>(tokio::task::JoinHandle<Result<T>>);

impl<T> Effect<T> {
    fn detach(self) {}

    async fn wait(self) -> Result<Result<T>> {
        self.0.await.map_err(Error::from)
    }
}

/// Whether a fault makes sense for a call.
fn applies(fault: Fault, operation: Operation, process: &Option<Process>) -> bool {
    match fault {
        Fault::ErrorBefore | Fault::LostAnswer => true,
        Fault::Late(_) => operation.writes() || operation == Operation::Delete,
        Fault::ExistsWithoutLanding => operation == Operation::Create,
        Fault::CrashBefore | Fault::CrashAfter => process.is_some(),
        Fault::DiskFull => operation.writes(),
    }
}

/// Kills the calling process; nothing after it runs.
async fn crash<T>() -> T {
    if let Some(process) = Process::current() {
        process.kill();
    }
    std::future::pending().await
}

async fn pass(duration: Duration) {
    if !duration.is_zero() {
        clock::sleep(duration).await;
    }
}

fn wall_ms() -> u64 {
    u64::try_from(super::true_wall_ms()).unwrap_or(0)
}

fn failure(what: &'static str) -> Error {
    Error::Generic { store: content::STORE, source: what.into() }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(content::STORE)
    }
}

#[cfg(test)]
mod tests;
