//! A cluster: where worker processes run. Observed and acted upon, never asked to decide.
//!
//! Implementations: child processes (`weir run`), simulated processes (tests), later pods. All of
//! them obey the same [`plan`](crate::plan::plan).

use async_trait::async_trait;

/// One worker process as its cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// Its place among the workers; at most one process has it at a time, the dead included.
    pub ordinal: u32,
    /// How far it is.
    pub state: WorkerState,
    /// It was started in another form (image, resources) than is wanted now: it works until as many
    /// as are wanted are ready in the new form.
    pub outdated: bool,
}

/// How far a worker process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// Started, has not announced itself.
    Starting,
    /// Can be dialled.
    Ready(Member),
    /// Ended. Kept until it is forgotten, so that nobody misses how it ended.
    Dead(Exit),
}

/// A worker process that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The process's own random id: a process started again is another incarnation.
    pub incarnation: String,
    /// What to dial.
    pub address: String,
}

/// How a worker process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// From outside (a signal, a lost node, a process that never came up): replaced, not counted.
    Lost(String),
    /// By its own fault (an exit status other than 0, an abort): counted against the budget.
    Fault(String),
}

/// The cluster could not be asked or did not obey.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} worker {ordinal}")]
pub struct ClusterError {
    /// What was tried.
    pub what: &'static str,
    /// Whom it was about.
    pub ordinal: u32,
    /// Cause.
    #[source]
    pub cause: std::io::Error,
}

/// Where worker processes run.
#[async_trait]
pub trait Cluster: Send {
    /// All workers, in order of their ordinals. The first call gives all that run: a job goes on with
    /// those of its last generation.
    async fn observe(&mut self) -> Vec<WorkerView>;
    /// Starts a process for an ordinal that has none.
    async fn start(&mut self, ordinal: u32) -> Result<(), ClusterError>;
    /// Ends the process of an ordinal; it is dead some time later. Doing it twice is the same.
    async fn stop(&mut self, ordinal: u32) -> Result<(), ClusterError>;
    /// Drops what is left of a dead process.
    async fn forget(&mut self, ordinal: u32);
    /// Waits until `observe` would give something else than at its last call. Cancel safe; may
    /// wake too often.
    async fn changed(&mut self);
    /// Whether workers belong to the job rather than to this coordinator: then one that was fenced
    /// leaves them to the other, without another word.
    fn workers_outlive(&self) -> bool;
}
