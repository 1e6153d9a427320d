//! The coordinator: one task that owns a running job.
//!
//! It dials the workers, keeps a control stream to each, and writes the journal; workers need to
//! know nothing but its messages. `weir run`, the simulation and the operator run the same code.
//!
//! # Where things are
//!
//! - `machine.rs` — every decision: events in, effects out. Pure; start reading here.
//! - `layout.rs` — who runs which subtask. `schedule.rs`, `budget.rs`, `open.rs`, `commits.rs`, `meters.rs` — its parts. Pure.
//! - `form.rs` — what a deployment depends on, as a number. Pure.
//! - `begin.rs` — before the job runs: does the manifest fit the state? The first records.
//! - `run.rs` — the owning task: selects an event, applies it, obeys the plan of workers.
//! - `perform.rs` — does effects. `records.rs` — acknowledgements to records and back. Pure.
//! - `compactors.rs` — how many compactor processes there are, and which.
//! - `links.rs` — control streams with heartbeats. `print.rs` — `print`.
//! - `snapshots.rs` — snapshots of a job that does not run, and what is wished of one that does.
//! - `cleaner.rs` — deletions. `leftovers.rs` — the same for a tool, with no job running.
//! - `status.rs`, `summary.rs` — what is shown; nothing is decided from it.
//!
//! # What must stay true
//!
//! 1. The journal decides: every step that can't be undone is recorded before it is taken.
//! 2. One writer: all records of a job are written by the one task that owns its journal.
//! 3. A coordinator whose number went to a newer term stops; it never writes again.

pub mod begin;
mod budget;
mod cleaner;
mod commits;
mod compactors;
mod form;
mod layout;
pub mod leftovers;
mod links;
mod machine;
mod meters;
mod open;
mod perform;
pub mod print;
mod records;
pub mod run;
mod schedule;
pub mod snapshots;
pub mod status;
pub mod summary;
mod tables;
