//! A worker process: serves the coordinator's control stream and the data channels of its peers.
//!
//! - `worker/fence.rs` — who may command. Pure; start reading here.
//! - `worker/control.rs` — the owning task: selects an event, applies it.
//! - `worker/generation.rs` — the running generation: stage tasks, their reports, their end.
//! - `worker/deploy.rs` — from a Deploy message to running stage tasks.
//! - `worker/commit.rs` — publishes what a completed checkpoint has staged.
//! - `worker/compactors.rs` — has compactions carried out by other processes.
//! - `worker/sight.rs` — what one sees of it from outside.
//!
//! What must stay true: a worker obeys the newest term and generation that it has seen and nothing
//! older; it never decides that a checkpoint is complete; without a coordinator it goes on
//! processing and holds its output uncommitted.

use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, watch};
use weir_runtime::{clock, task};

use crate::exchange::Registry;
use crate::network::{Network, SenderLink, WorkerLink, WorkerService};
use crate::objects::Objects;
use crate::protocol::{Hello, OpenChannel, to_worker};

use self::deploy::Ground;

mod commit;
mod compactors;
mod control;
mod deploy;
mod fence;
mod generation;
pub mod sight;

/// Control streams that may wait to be looked at.
const STREAMS_MAX: usize = 16;
/// How long a new control stream may take to say who it is.
const HELLO_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// What a worker process is told when it starts.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// The process's own random id; a process started again has another.
    pub incarnation: String,
    /// The run's token: whoever does not know it is refused.
    pub token: String,
    /// Once true, the worker leaves: it works until the coordinator has moved its work to others.
    pub leave: watch::Receiver<bool>,
    /// Where it shows itself.
    pub sight: sight::Sight,
}

/// Opens URIs as a job's manifest means them: relative ones below the given folder.
pub type OpenObjects = Arc<dyn Fn(&str) -> Arc<dyn Objects> + Send + Sync>;

/// Why a worker process ends.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The address can't be served.
    #[error("worker {worker} cannot listen")]
    Listen {
        /// The process's incarnation.
        worker: String,
        /// Cause.
        #[source]
        cause: std::io::Error,
    },
    /// Tasks of an old generation did not end: only the end of the process ends them for sure.
    #[error("{tasks} tasks of generation {generation} did not end in time")]
    Teardown {
        /// The generation.
        generation: u64,
        /// How many.
        tasks: usize,
    },
}

/// Runs a worker until it has left, see [`WorkerSettings::leave`]; `ready` gets the address to dial.
///
/// Dropping the future ends the service and all tasks.
pub async fn run(
    settings: WorkerSettings,
    network: Arc<dyn Network>,
    open_objects: OpenObjects,
    ready: impl FnOnce(&str) + Send,
) -> Result<(), WorkerError> {
    let (streams, opened) = mpsc::channel(STREAMS_MAX);
    let registry = Arc::new(OnceLock::new());
    let front = Front { streams, registry: Arc::clone(&registry) };
    let serving = network.serve(Arc::new(front)).await;
    let serving = serving
        .map_err(|cause| WorkerError::Listen { worker: settings.incarnation.clone(), cause })?;
    ready(&serving.address);
    let compactors = compactors::Pool::new(Arc::clone(&network));
    let ground = Ground { settings, network, open_objects, compactors };
    Box::pin(control::Control::new(ground, registry, opened).run()).await
}

/// Where channels meet, once a coordinator has named the job's incarnation.
pub(crate) type RegistrySlot = OnceLock<Arc<Registry>>;

/// A control stream that has said who it is.
pub(crate) struct Introduced {
    pub(crate) term: u64,
    pub(crate) hello: Hello,
    pub(crate) link: WorkerLink,
}

/// What the network calls; hands everything on without waiting.
struct Front {
    streams: mpsc::Sender<Introduced>,
    registry: Arc<RegistrySlot>,
}

impl WorkerService for Front {
    fn control(&self, link: WorkerLink) {
        let streams = self.streams.clone();
        task::spawn(async move {
            if let Some(introduced) = introduce(link).await {
                // Full: too many at once; the stream is closed and the coordinator dials again.
                let _ = streams.try_send(introduced);
            }
        })
        .detach();
    }

    fn channel(&self, open: OpenChannel, link: SenderLink) {
        // Before a coordinator has named the job there is no channel to open: the link is dropped.
        if let Some(registry) = self.registry.get() {
            registry.opened(&open, link);
        }
    }
}

async fn introduce(mut link: WorkerLink) -> Option<Introduced> {
    let first = clock::timeout(HELLO_MAX, link.receive.recv()).await.ok()??;
    match first.body {
        Some(to_worker::Body::Hello(hello)) => Some(Introduced { term: first.term, hello, link }),
        _ => None,
    }
}
