//! The one place that spawns tasks, reads the clock and makes random numbers.
//!
//! Everything above calls these functions and never tokio's, so a whole job (coordinator, workers,
//! exchange, object store) also runs in one process under a seed: [`sim`] starts a seeded
//! current-thread runtime whose clock moves only when nothing else can run.
//!
//! - `task.rs` — spawning; a panic surfaces where the task is joined.
//! - `clock.rs` — monotonic and wall time, sleeping, deadlines.
//! - `random.rs` — ids and random numbers.
//! - `sim.rs` — the seeded runtime, simulated processes that can be killed, a faulty object store.
//!
//! What must stay true: under [`sim::run`] nothing here depends on real time, the operating
//! system's randomness, threads or hash-map order.

pub mod clock;
pub mod random;
pub mod sim;
pub mod task;
