//! Weir's engine: from a checked pipeline to exactly-once output. Knows nothing of Kubernetes.
//!
//! Modules in reading order:
//!
//! - [`pipeline`] — a job as data, checked against its sources' schemas, cut into stages.
//! - [`rows`] — a batch of rows with event times and origins.
//! - [`source`], [`sink`] — splits and positions in, staged pieces and commits out.
//! - [`objects`] — from a URI to the object store that holds it.
//! - [`exchange`] — channels between subtasks: messages, credit, codec, input gates.
//! - [`network`] — RPC behind a trait: gRPC, or simulated.
//! - [`protocol`] — the messages of `proto/weir.proto`.
//! - `execution` — the tasks of stages: sources, keyed steps, operators, sinks.
//! - [`worker`] — a worker process: fencing, deployments, commits.
//! - [`compactor`] — a compactor process: carries out what workers order.
//! - [`cluster`], [`plan`] — where workers run, and which ones a job needs next.
//! - [`coordinator`] — the task that owns a job: generations, checkpoints, commits, clean-up.

pub mod cluster;
pub mod compactor;
pub mod coordinator;
pub mod exchange;
mod execution;
pub mod network;
pub mod objects;
pub mod pipeline;
pub mod plan;
pub mod protocol;
pub mod rows;
pub mod sink;
pub mod source;
pub mod worker;
