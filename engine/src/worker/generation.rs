//! The generation that a worker runs: from the deployment over its tasks to its end.
//!
//! Owns the stage tasks. Ends when it is stopped; a failure of any task ends all of them, and is
//! kept until the generation is replaced, so that a coordinator that comes later hears of it too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use weir_runtime::clock::{self, Instant};
use weir_runtime::task::{JoinError, Task};

use super::commit::Folders;
use crate::execution::counters::Board;
use crate::execution::error::{Remedy, StageError, chain};
use crate::execution::orders::{Orders, Report, TaskId};
use crate::execution::stage_task::StageTask;
use crate::protocol::to_coordinator::Body;
use crate::protocol::{Deployed, Failed, InputDone};
use crate::worker::deploy::DeployError;
use crate::worker::sight::Doing;

/// How long the tasks of a generation may take to end.
pub(crate) const TEARDOWN_MAX: Duration = Duration::from_secs(2);

/// The tasks of a deployed generation and the lines to them.
pub(crate) struct Stages {
    pub(crate) tasks: FuturesUnordered<StageTask>,
    pub(crate) orders: watch::Sender<Orders>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) board: Arc<Board>,
    pub(crate) folders: Folders,
    /// How long a broken channel may wait for the coordinator to see why.
    pub(crate) disconnect_grace: Duration,
}

impl Stages {
    /// Ends all tasks. Errors: how many did not end within [`TEARDOWN_MAX`].
    async fn stop(mut self) -> Result<(), usize> {
        for stage in self.tasks.iter_mut() {
            stage.task.abort();
        }
        let all = async { while self.tasks.next().await.is_some() {} };
        let in_time = clock::timeout(TEARDOWN_MAX, all).await;
        in_time.map_err(|_| self.tasks.len())
    }
}

/// How far a generation is.
enum Phase {
    Starting(Task<Result<Stages, DeployError>>),
    Running(Stages),
    Over(Failed),
}

/// One generation on this worker.
pub(crate) struct Generation {
    number: u64,
    /// As its Deploy said.
    form: u64,
    phase: Phase,
    /// Tasks that saw the end of all their input.
    done: BTreeSet<TaskId>,
    /// A channel broke: what to report if nobody ends this generation until then.
    broken: Option<(Instant, StageError)>,
}

impl Generation {
    /// A generation that is being deployed.
    pub(crate) fn starting(
        number: u64,
        form: u64,
        deploy: Task<Result<Stages, DeployError>>,
    ) -> Self {
        let phase = Phase::Starting(deploy);
        Self { number, form, phase, done: BTreeSet::new(), broken: None }
    }

    /// Its number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Its form, for whoever wants to know whether it is the one that is wanted.
    pub(crate) fn form(&self) -> u64 {
        self.form
    }

    /// How far it is.
    pub(crate) fn doing(&self) -> Doing {
        match &self.phase {
            Phase::Starting(_) => Doing::Starting,
            Phase::Running(_) => Doing::Running,
            Phase::Over(_) => Doing::Failed,
        }
    }

    /// The stages, if they run.
    pub(crate) fn stages(&self) -> Option<&Stages> {
        match &self.phase {
            Phase::Running(stages) => Some(stages),
            Phase::Starting(_) | Phase::Over(_) => None,
        }
    }

    /// What a coordinator that has just come has to hear.
    pub(crate) fn retell(&self) -> Vec<Body> {
        match &self.phase {
            Phase::Starting(_) => Vec::new(),
            Phase::Over(failed) => vec![Body::Failed(failed.clone())],
            Phase::Running(_) => {
                [Body::Deployed(Deployed {})].into_iter().chain(self.inputs_done()).collect()
            }
        }
    }

    /// Which tasks have seen the end of their input. Repeated with each heartbeat: a coordinator
    /// that still waits for other workers when it is told may not have taken it in.
    pub(crate) fn inputs_done(&self) -> impl Iterator<Item = Body> {
        let done = self.done.iter().filter(|_| matches!(self.phase, Phase::Running(_)));
        done.map(|id| Body::InputDone(InputDone { stage: id.stage, subtask: id.subtask }))
    }

    /// Waits until something happens. Cancel safe; hand the event to [`Generation::on`].
    pub(crate) async fn event(&mut self) -> Event {
        match &mut self.phase {
            Phase::Over(_) => std::future::pending().await,
            Phase::Starting(deploy) => Event::Started(Box::new(deploy.await)),
            Phase::Running(stages) => stages_event(stages, self.broken.as_ref()).await,
        }
    }

    /// What the coordinator has to hear of an event. Not cancel safe.
    pub(crate) async fn on(&mut self, event: Event) -> Option<Body> {
        match event {
            Event::Started(outcome) => Some(self.started(*outcome)),
            Event::Report(Report::Acked(ack)) => Some(Body::Ack(*ack)),
            Event::Report(Report::Paused(paused)) => Some(Body::Paused(paused)),
            Event::Report(Report::InputDone(done)) => {
                self.done.insert(TaskId { stage: done.stage, subtask: done.subtask });
                Some(Body::InputDone(done))
            }
            Event::Report(Report::Failed(error)) | Event::Ended(Some(error)) => {
                self.failed(error).await
            }
            Event::Ended(None) => None,
            Event::GraceOver => {
                let (_, error) = self.broken.take()?;
                Some(self.give_up(&error).await)
            }
        }
    }

    fn started(&mut self, outcome: Result<Result<Stages, DeployError>, JoinError>) -> Body {
        let failed = match outcome {
            Ok(Ok(stages)) => {
                self.phase = Phase::Running(stages);
                return Body::Deployed(Deployed {});
            }
            Ok(Err(error)) => Failed {
                message: chain(&error),
                fatal: error.is_fatal(),
                outage: error.is_outage(),
            },
            Err(error) => Failed {
                message: format!("bug in Weir, please report it: deploying: {error}"),
                ..Failed::default()
            },
        };
        self.phase = Phase::Over(failed.clone());
        Body::Failed(failed)
    }

    async fn failed(&mut self, error: StageError) -> Option<Body> {
        if error.remedy() == Remedy::AwaitCoordinator {
            let grace = self.stages().map_or(Duration::ZERO, |stages| stages.disconnect_grace);
            self.broken.get_or_insert_with(|| (clock::now() + grace, error));
            return None;
        }
        Some(self.give_up(&error).await)
    }

    async fn give_up(&mut self, error: &StageError) -> Body {
        let failed = Failed {
            message: chain(error),
            fatal: error.remedy() == Remedy::FailJob,
            outage: error.is_outage(),
        };
        tracing::error!(generation = self.number, "{}", failed.message);
        let phase = std::mem::replace(&mut self.phase, Phase::Over(failed.clone()));
        if let Phase::Running(stages) = phase {
            // Those that hang are seen when the generation is replaced: it is over either way.
            let _ = stages.stop().await;
        }
        Body::Failed(failed)
    }

    /// Ends everything. Errors: how many tasks did not end in time.
    pub(crate) async fn stop(self) -> Result<(), usize> {
        match self.phase {
            Phase::Starting(deploy) => {
                deploy.abort();
                clock::timeout(TEARDOWN_MAX, deploy).await.map(|_| ()).map_err(|_| 1)
            }
            Phase::Running(stages) => stages.stop().await,
            Phase::Over(_) => Ok(()),
        }
    }
}

/// Something that happened to a generation.
pub(crate) enum Event {
    Started(Box<Result<Result<Stages, DeployError>, JoinError>>),
    Report(Report),
    Ended(Option<StageError>),
    GraceOver,
}

async fn stages_event(stages: &mut Stages, broken: Option<&(Instant, StageError)>) -> Event {
    tokio::select! {
        biased;
        Some(report) = stages.reports.recv() => Event::Report(report),
        Some(ended) = stages.tasks.next() => Event::Ended(ended),
        () = clock::sleep_until_some(broken.map(|its| its.0)) => Event::GraceOver,
        else => std::future::pending().await,
    }
}
