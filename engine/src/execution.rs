//! What a worker runs: the tasks of stages, and what is inside them.
//!
//! A stage has a head (a source, or a step with keyed state) and a tail (stateless operators, sinks,
//! edges); each (stage, subtask) is one task, so back-pressure can't run in a circle.
//!
//! - `launch.rs` — starts the tasks of a generation; `stage_task.rs` — how one ends.
//! - `source.rs` — the head that reads. `keyed.rs` — the head with keyed state;
//!   `table.rs` — the head that is a `table` sink.
//! - `tail.rs`, `chain.rs`, `staged.rs` — what is behind a head.
//! - `context.rs`, `orders.rs`, `counters.rs` — what tasks hear and say.
//! - `error.rs`, `names.rs` — failures, in the user's words.
//! - Pure, with tests against models: `alignment.rs` (barriers), `window.rs`, `admission.rs` and
//!   `epochs.rs` (who may start, which watermark may go on), `grouping.rs`, `marks.rs`.
//!
//! What must stay true: nothing overtakes anything within a channel; a task that failed does not go
//! on; everything that a checkpoint acknowledges is durable.

pub(crate) mod admission;
pub(crate) mod alignment;
pub(crate) mod chain;
pub(crate) mod context;
pub(crate) mod counters;
pub(crate) mod epochs;
pub(crate) mod error;
pub(crate) mod grouping;
pub(crate) mod keyed;
pub(crate) mod launch;
pub(crate) mod marks;
pub(crate) mod names;
pub(crate) mod orders;
pub(crate) mod source;
pub(crate) mod stage_task;
pub(crate) mod staged;
pub(crate) mod table;
pub(crate) mod tail;
pub(crate) mod window;
