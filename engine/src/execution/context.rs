//! What every stage task has: its name, its orders, its reports, its uploads.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_runtime::task::{self, Task};
use weir_state::ids::CheckpointId;

use super::counters::Counters;
use super::error::StageError;
use super::orders::{Orders, OrdersReceiver, Report, ReportSender, TaskId};
use crate::protocol::{Ack, InputDone, Paused};

/// Uploads of checkpoints, aborted ones included, that a task has under way.
const UPLOADS_MAX: usize = 32;

/// One stage task's surroundings.
pub(crate) struct Context {
    id: TaskId,
    orders: OrdersReceiver,
    reports: ReportSender,
    counters: Arc<Counters>,
    uploads: VecDeque<Task<()>>,
}

impl Context {
    /// Of the task `id`.
    pub(crate) fn new(
        id: TaskId,
        orders: OrdersReceiver,
        reports: ReportSender,
        counters: Arc<Counters>,
    ) -> Self {
        Self { id, orders, reports, counters, uploads: VecDeque::new() }
    }

    /// What this task counts.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Which task this is.
    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    /// The newest orders.
    pub(crate) fn orders(&self) -> Orders {
        *self.orders.borrow()
    }

    /// Waits until there are orders that were not looked at. Cancel safe.
    pub(crate) async fn ordered(&mut self) -> Orders {
        if self.orders.changed().await.is_err() {
            // Nobody gives orders any more: this task is about to be stopped.
            std::future::pending::<()>().await;
        }
        *self.orders.borrow_and_update()
    }

    /// An acknowledgement of this task at the barrier, still without what its stage adds.
    pub(crate) fn ack(&self, checkpoint: CheckpointId) -> Ack {
        Ack {
            checkpoint: checkpoint.0,
            stage: self.id.stage,
            subtask: self.id.subtask,
            counters: self.counters.read(),
            ..Ack::default()
        }
    }

    /// Acknowledges a checkpoint when its uploads are done, beside processing.
    pub(crate) async fn acknowledge(
        &mut self,
        uploaded: impl Future<Output = Result<Ack, StageError>> + Send + 'static,
    ) {
        self.uploads.retain(|upload| !upload.is_finished());
        if self.uploads.len() >= UPLOADS_MAX
            && let Some(oldest) = self.uploads.pop_front()
        {
            // It reports its own failure.
            let _ = oldest.await;
        }
        let reports = self.reports.clone();
        self.uploads.push_back(task::spawn(async move {
            let report = match uploaded.await {
                Ok(ack) => Report::Acked(Box::new(ack)),
                Err(error) => Report::Failed(error),
            };
            // Nobody listens any more: the generation is over.
            let _ = reports.send(report).await;
        }));
    }

    /// Reports that this task has stopped behind the barrier of a checkpoint.
    pub(crate) async fn paused(&self, checkpoint: CheckpointId) {
        let TaskId { stage, subtask } = self.id;
        let paused = Paused { checkpoint: checkpoint.0, stage, subtask };
        // Nobody listens any more: the generation is over.
        let _ = self.reports.send(Report::Paused(paused)).await;
    }

    /// Reports that all input is over and all that follows from it is written.
    pub(crate) async fn input_done(&self) {
        let done = InputDone { stage: self.id.stage, subtask: self.id.subtask };
        // Nobody listens any more: the generation is over.
        let _ = self.reports.send(Report::InputDone(done)).await;
    }
}
