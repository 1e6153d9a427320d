//! A pipeline: as it was declared, as it was checked, and as it is run.
//!
//! - `spec.rs` — the job as declared: plain data that travels as JSON. Start here.
//! - `check.rs` — declared and source schemas to checked, or every problem with its path.
//! - `checked.rs` — typed steps with compiled expressions.
//! - `graph.rs` — a checked job cut into stages that exchange rows by key.
//!
//! What must stay true: the same declaration and the same source schemas give the same checked job
//! and the same graph, on the coordinator and on every worker; steps, stages and edges are known by
//! their index.

pub mod check;
pub mod checked;
pub mod graph;
pub mod spec;
