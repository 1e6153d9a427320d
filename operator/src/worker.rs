//! `weir worker`: the process that runs a job's subtasks. Started by a cluster, never by hand.
//!
//! - `worker/pod.rs` — in a pod: certificates, a fixed address, no parent.
//! - `worker/probes.rs`, `worker/metrics.rs` — what it says of itself to a kubelet and to Prometheus.
//!
//! As the child of a `weir run` it announces itself with one JSON line on standard output, ends at once when its standard input
//! does (its parent is gone), and ignores Ctrl-C, which a terminal sends to the whole process
//! group: what that means is for the parent to decide. SIGTERM asks it to leave: it works until
//! others have its work; a second one ends it.

use std::io::{Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use weir_engine::compactor::{self, CompactorSettings};
use weir_engine::network::grpc::GrpcNetwork;
use weir_engine::objects::RealObjects;
use weir_engine::worker::sight::Sight;
use weir_engine::worker::{self, OpenObjects, WorkerError, WorkerSettings};
use weir_runtime::{random, task};

use crate::cli::{ProcessRole, WorkerArgs};
use crate::exit::Exit;

pub(crate) mod metrics;
mod pod;
mod probes;

/// Environment variable with the run's token.
pub(crate) const TOKEN_VARIABLE: &str = "WEIR_TOKEN";
/// Settings for the C library's allocator, with which memory that was freed is free: few arenas, and
/// large pieces (a memtable's, a table file's) given back at once.
pub(crate) const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "262144"),
    ("MALLOC_TRIM_THRESHOLD_", "1048576"),
];
/// Exit status when an old generation's tasks did not end: replaced like a lost process.
pub(crate) const EXIT_TEARDOWN: i32 = 3;

/// The line with which a worker announces itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Announcement {
    /// The process's own random id.
    pub(crate) incarnation: String,
    /// What to dial.
    pub(crate) address: String,
}

/// Runs until the process ends.
pub(crate) async fn run(args: WorkerArgs) -> Exit {
    let Ok(token) = std::env::var(TOKEN_VARIABLE) else {
        crate::exit::say("`weir worker` is started by `weir run` or by the operator, not by hand");
        return Exit::BadInput;
    };
    crate::log::to_stderr();
    match pod::Pod::of(&args) {
        Some(pod) => Box::pin(pod.run(token)).await,
        None => run_child(args.role, args.ordinal, token).await,
    }
}

/// Below a `weir run`. The ordinal is in the name that messages and files have of it.
async fn run_child(role: ProcessRole, ordinal: u32, token: String) -> Exit {
    end_with_parent();
    ignore_interrupts();
    let settings = WorkerSettings {
        incarnation: format!("{ordinal}-{}", random::id()),
        token,
        leave: asked_to_leave(),
        sight: Sight::default(),
    };
    let incarnation = settings.incarnation.clone();
    let network = GrpcNetwork::loopback();
    let objects: OpenObjects =
        Arc::new(|folder: &str| Arc::new(RealObjects { base_folder: folder.into() }) as _);
    work(role, settings, network, objects, |address| announce(&incarnation, address)).await
}

/// Works until it has left, or can't.
async fn work(
    role: ProcessRole,
    settings: WorkerSettings,
    network: Arc<GrpcNetwork>,
    objects: OpenObjects,
    ready: impl FnOnce(&str) + Send,
) -> Exit {
    let ended = match role {
        ProcessRole::Worker => worker::run(settings, network, objects, ready).await,
        ProcessRole::Compactor => {
            let WorkerSettings { incarnation, token, leave, .. } = settings;
            let settings = CompactorSettings { incarnation, token, leave };
            compactor::run(settings, network, objects, ready).await
        }
    };
    match ended {
        Ok(()) => Exit::Done,
        Err(error) => {
            crate::exit::report(&error);
            match error {
                WorkerError::Teardown { .. } => Exit::Teardown,
                WorkerError::Listen { .. } => Exit::Failed,
            }
        }
    }
}

fn announce(incarnation: &str, address: &str) {
    let line = Announcement { incarnation: incarnation.to_owned(), address: address.to_owned() };
    let line = serde_json::to_string(&line).expect("two strings are JSON");
    // A parent that does not read any more is gone: end_with_parent sees it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn end_with_parent() {
    task::spawn(async {
        let read = task::blocking(|| {
            let mut buffer = [0; 64];
            // Anything but the end of file is nobody's message.
            while !matches!(std::io::stdin().read(&mut buffer), Ok(0) | Err(_)) {}
        });
        // However the reading ended, there is no parent to work for.
        let _ = read.await;
        tracing::warn!("the parent process is gone");
        std::process::exit(0);
    })
    .detach();
}

/// True from the first SIGTERM on.
fn asked_to_leave() -> watch::Receiver<bool> {
    let (ask, asked) = watch::channel(false);
    task::spawn(async move {
        // Without a handler the signal ends the process, as ever.
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
        terminate.recv().await;
        ask.send_replace(true);
        terminate.recv().await;
        std::process::exit(0);
    })
    .detach();
    asked
}

fn ignore_interrupts() {
    task::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} }).detach();
}
