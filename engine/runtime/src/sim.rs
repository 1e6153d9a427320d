//! The simulation kernel: a seeded runtime, simulated processes, a faulty object store.
//!
//! - `sim/store.rs` — the object store. `sim/planted.rs` — faults that show that tests have teeth.
//!
//! [`run`] drives a future on a current-thread runtime with tokio's paused clock and a seeded
//! scheduler. [`Process`] groups tasks so that a kill ends all of them at their await points, as
//! `kill -9` would between two system calls.
//!
//! What must stay true: the same seed gives the same run, step by step.

pub mod planted;
pub mod store;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::RngSeed;
use tokio::task::{AbortHandle, JoinHandle};

use crate::clock::{self, Instant};
use crate::task;

/// Wall time at the start of every simulated run: 2024-01-01T00:00:00Z.
const WALL_START_MS: i64 = 1_704_067_200_000;

thread_local! {
    static RUN: RefCell<Option<Rc<Run>>> = const { RefCell::new(None) };
}

tokio::task_local! {
    static PROCESS: Arc<ProcessState>;
}

struct Run {
    random: Cell<u64>,
    started: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct ProcessState {
    name: String,
    skew_ms: i64,
    tasks: Mutex<Option<Vec<AbortHandle>>>,
}

/// A simulated process: all tasks spawned by its tasks are its own.
#[derive(Clone, Debug)]
pub struct Process {
    state: Arc<ProcessState>,
}

impl Process {
    /// A new process with no tasks; `skew_ms` is what its wall clock is off by.
    pub fn new(name: impl Into<String>, skew_ms: i64) -> Self {
        let tasks = Mutex::new(Some(Vec::new()));
        Self { state: Arc::new(ProcessState { name: name.into(), skew_ms, tasks }) }
    }

    /// The process of the running task, if it has one.
    pub fn current() -> Option<Self> {
        PROCESS.try_with(|state| Self { state: Arc::clone(state) }).ok()
    }

    /// The name given to [`Process::new`].
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Starts `future` as a task of this process; of a killed one it never runs.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let handle = task::spawn_unowned(PROCESS.scope(Arc::clone(&self.state), future));
        let mut tasks = self.state.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *tasks {
            Some(tasks) => {
                tasks.retain(|task| !task.is_finished());
                tasks.push(handle.abort_handle());
            }
            None => handle.abort(),
        }
        handle
    }

    /// Ends all tasks of this process at their current await points, and all that it would spawn.
    pub fn kill(&self) {
        let tasks = self.state.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        for task in tasks.into_iter().flatten() {
            task.abort();
        }
    }

    /// Whether [`Process::kill`] was called.
    pub fn is_killed(&self) -> bool {
        self.state.tasks.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// Runs `future` to its end on a runtime that depends on `seed` alone.
pub fn run<F: Future>(seed: u64, future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()
        .expect("a current-thread runtime without I/O starts");
    let run = Rc::new(Run { random: Cell::new(seed), started: Cell::new(None) });
    RUN.set(Some(Rc::clone(&run)));
    let output = runtime.block_on(async {
        run.started.set(Some(clock::now()));
        future.await
    });
    drop(runtime);
    RUN.set(None);
    output
}

/// Whether this thread is inside [`run`].
pub fn is_active() -> bool {
    RUN.with_borrow(Option::is_some)
}

pub(crate) fn spawn_in_current<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match Process::current() {
        Some(process) => process.spawn(future),
        None => task::spawn_unowned(future),
    }
}

/// Milliseconds since the run began; 0 outside of one.
pub fn elapsed_ms() -> i64 {
    let started = RUN.with_borrow(|run| run.as_ref().and_then(|run| run.started.get()));
    started.map_or(0, |started| i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX))
}

/// Wall time without any process's skew.
fn true_wall_ms() -> i64 {
    WALL_START_MS + elapsed_ms()
}

pub(crate) fn wall_ms() -> Option<i64> {
    let skew = || Process::current().map_or(0, |process| process.state.skew_ms);
    is_active().then(|| true_wall_ms() + skew())
}

/// The next number of the run's own sequence.
pub(crate) fn random_u64() -> Option<u64> {
    RUN.with_borrow(|run| {
        let run = run.as_ref()?;
        let mut state = run.random.get();
        let drawn = splitmix(&mut state);
        run.random.set(state);
        Some(drawn)
    })
}

/// The next number of the sequence that `state` stands in (splitmix64, Steele et al. 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
