//! Worker processes as children of `weir run`.
//!
//! A child gets the run's token through its environment and announces itself with one JSON line on
//! its standard output. Its standard input is a pipe that nobody writes to: when this process ends,
//! however it ends, the child reads the end of file and exits at once.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use weir_engine::cluster::{Cluster, ClusterError, Exit, Member, WorkerState, WorkerView};
use weir_runtime::{clock, task};

use crate::cli::ProcessRole;
use crate::exit::say;
use crate::worker::{ALLOCATOR, Announcement, EXIT_TEARDOWN, TOKEN_VARIABLE};

/// Events of children that nobody has looked at yet.
const EVENTS_MAX: usize = 1_024;
/// How long a child may take until it announces itself.
const ANNOUNCE_MAX: Duration = Duration::from_secs(30);
/// How long a child may take to end by itself after its standard input was closed.
const END_MAX: Duration = Duration::from_secs(1);
/// A log longer than this is put aside (one older one is kept) when its worker starts.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The cluster of `weir run`: of its workers, or of its compactors.
pub(crate) struct LocalCluster {
    role: ProcessRole,
    program: PathBuf,
    logs: PathBuf,
    token: String,
    workers: BTreeMap<u32, Slot>,
    starts: u64,
    events: mpsc::Receiver<Event>,
    report: mpsc::Sender<Event>,
}

struct Slot {
    /// Which start of a process this is: what its predecessors still report is ignored.
    start: u64,
    state: WorkerState,
    /// Dropped to end the process.
    keep: Option<oneshot::Sender<()>>,
}

struct Event {
    ordinal: u32,
    start: u64,
    state: WorkerState,
}

impl LocalCluster {
    /// A cluster without processes; `program` is this binary.
    pub(crate) fn new(role: ProcessRole, program: PathBuf, logs: PathBuf, token: String) -> Self {
        let (report, events) = mpsc::channel(EVENTS_MAX);
        Self { role, program, logs, token, workers: BTreeMap::new(), starts: 0, events, report }
    }

    fn apply(&mut self, event: Event) {
        if let Some(slot) = self.workers.get_mut(&event.ordinal)
            && slot.start == event.start
        {
            slot.state = event.state;
        }
    }

    fn log(&self, ordinal: u32) -> PathBuf {
        self.logs.join(format!("{}-{ordinal}.log", self.role.name()))
    }

    fn spawn(&self, ordinal: u32) -> io::Result<Child> {
        let log = open_log(&self.log(ordinal))?;
        Command::new(&self.program)
            .arg("worker")
            .args(["--ordinal", &ordinal.to_string(), "--role", self.role.name()])
            .env(TOKEN_VARIABLE, &self.token)
            .envs(ALLOCATOR)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
    }
}

#[async_trait]
impl Cluster for LocalCluster {
    async fn observe(&mut self) -> Vec<WorkerView> {
        while let Ok(event) = self.events.try_recv() {
            self.apply(event);
        }
        let view = |(ordinal, slot): (&u32, &Slot)| WorkerView {
            ordinal: *ordinal,
            state: slot.state.clone(),
            outdated: false,
        };
        self.workers.iter().map(view).collect()
    }

    async fn start(&mut self, ordinal: u32) -> Result<(), ClusterError> {
        let child = self.spawn(ordinal);
        let child = child.map_err(|cause| ClusterError { what: "start", ordinal, cause })?;
        self.starts += 1;
        let (keep, ended) = oneshot::channel();
        let (role, log) = (self.role, self.log(ordinal));
        let watch = Watch { role, ordinal, start: self.starts, log, report: self.report.clone() };
        task::spawn(watch.run(child, ended)).detach();
        let slot = Slot { start: self.starts, state: WorkerState::Starting, keep: Some(keep) };
        self.workers.insert(ordinal, slot);
        Ok(())
    }

    async fn stop(&mut self, ordinal: u32) -> Result<(), ClusterError> {
        if let Some(slot) = self.workers.get_mut(&ordinal) {
            slot.keep = None;
        }
        Ok(())
    }

    async fn forget(&mut self, ordinal: u32) {
        self.workers.remove(&ordinal);
    }

    fn workers_outlive(&self) -> bool {
        false
    }

    async fn changed(&mut self) {
        if let Some(event) = self.events.recv().await {
            self.apply(event);
        }
    }
}

/// Watches one child from its start to its end.
struct Watch {
    role: ProcessRole,
    ordinal: u32,
    start: u64,
    log: PathBuf,
    report: mpsc::Sender<Event>,
}

impl Watch {
    async fn run(self, mut child: Child, mut ended: oneshot::Receiver<()>) {
        let input = child.stdin.take();
        let mut output = child.stdout.take().map(|output| BufReader::new(output).lines());
        let announced = async {
            let line = output.as_mut()?.next_line().await.ok()??;
            serde_json::from_str::<Announcement>(&line).ok()
        };
        let announced = tokio::select! {
            _ = &mut ended => None,
            announced = clock::timeout(ANNOUNCE_MAX, announced) => announced.ok().flatten(),
        };
        if let Some(Announcement { incarnation, address }) = announced {
            if let Some(pid) = child.id() {
                say(&format!("{} {} runs as process {pid}", self.role.name(), self.ordinal));
            }
            self.tell(WorkerState::Ready(Member { incarnation, address })).await;
            tokio::select! {
                _ = &mut ended => {}
                status = child.wait() => {
                    self.tell(WorkerState::Dead(self.exit(status))).await;
                    return;
                }
            }
        }
        // Closed: the child ends by itself. The read end of its output stays open until then.
        drop(input);
        let status = match clock::timeout(END_MAX, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                // Already gone is what is wanted.
                let _ = child.start_kill();
                child.wait().await
            }
        };
        self.tell(WorkerState::Dead(self.exit(status))).await;
    }

    async fn tell(&self, state: WorkerState) {
        let event = Event { ordinal: self.ordinal, start: self.start, state };
        // Nobody looks any more: the run is over.
        let _ = self.report.send(event).await;
    }

    fn exit(&self, status: io::Result<ExitStatus>) -> Exit {
        let status = match status {
            Ok(status) => status,
            Err(error) => return Exit::Lost(format!("cannot be waited for: {error}")),
        };
        exit_of(self.role, self.ordinal, status, &self.log)
    }
}

/// Whether an end came from outside or is the process's own fault.
fn exit_of(role: ProcessRole, ordinal: u32, status: ExitStatus, log: &Path) -> Exit {
    let what =
        format!("{} {ordinal} ended with {status}; its log is {}", role.name(), log.display());
    let is_outside = match (status.code(), status.signal()) {
        (Some(0 | EXIT_TEARDOWN), _) => true,
        (Some(_), _) => false,
        // Of a signal: HUP, INT, KILL, PIPE, TERM come from others; ABRT, SEGV and the like do not.
        (None, Some(signal)) => matches!(signal, 1 | 2 | 9 | 13 | 15),
        (None, None) => true,
    };
    if is_outside { Exit::Lost(what) } else { Exit::Fault(what) }
}

/// A log to be appended to.
pub(crate) fn open_log(path: &Path) -> io::Result<std::fs::File> {
    if std::fs::metadata(path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
        std::fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_from_outside_are_not_faults() {
        let log = Path::new("w.log");
        for (status, is_fault) in [(0, false), (9, false), (15, false), (6, true), (11, true)] {
            let exit = exit_of(ProcessRole::Worker, 0, ExitStatus::from_raw(status), log);
            assert_eq!(matches!(exit, Exit::Fault(_)), is_fault, "{exit:?}");
        }
        let failed = exit_of(ProcessRole::Worker, 3, ExitStatus::from_raw(1 << 8), log);
        let why = "worker 3 ended with exit status: 1; its log is w.log";
        assert_eq!(failed, Exit::Fault(why.to_owned()));
        let torn =
            exit_of(ProcessRole::Compactor, 0, ExitStatus::from_raw(EXIT_TEARDOWN << 8), log);
        assert!(matches!(torn, Exit::Lost(why) if why.starts_with("compactor 0 ended")));
    }
}
