//! What there is to see of a job; nothing is decided from it. Pure.

use std::collections::BTreeMap;

use weir_runtime::clock::Instant;

use super::{Machine, State};
use crate::coordinator::status::{Phase, Status, StepRows};
use crate::coordinator::summary::Summary;
use crate::protocol::CompactionCounters;

fn total(
    steps: &BTreeMap<String, StepRows>,
    ids: &[String],
    rows: impl Fn(&StepRows) -> u64,
) -> u64 {
    ids.iter().filter_map(|id| steps.get(id)).map(rows).sum()
}

impl Machine {
    /// What there is to see; the rate is renewed at `now`, if that is given.
    pub(crate) fn status(&mut self, now: Option<Instant>) -> Status {
        let steps = self.meters.steps();
        let rows_in = total(&steps, &self.shape.sources, |step| step.rows_out);
        let rows_out = total(&steps, &self.shape.sinks, |step| step.rows_in);
        if let Some(now) = now {
            self.rate = self.meters.rate(rows_in, now);
            self.checkpoint_waits = self.waits_for_checkpoint(now);
        }
        Status {
            phase: self.phase(),
            generation: self.generation,
            workers_wanted: self.shape.replicas,
            workers_ready: 0,
            rows_in,
            rows_out,
            rows_per_second: self.rate,
            watermark_ms: self.meters.watermark_ms(),
            checkpoint: self.completed,
            checkpoints: self.tally.checkpoints,
            checkpoint_numbers: self.tally.checkpoint_numbers,
            checkpoint_failures: self.schedule.failures(),
            checkpoint_waits: self.checkpoint_waits,
            restarts: self.tally.restarts,
            failovers: self.tally.failovers,
            replaced: self.tally.replaced,
            rescales: self.tally.rescales,
            last_rescale: self.tally.last_rescale,
            last_failover: self.tally.last_failover,
            requests: self.meters.requests(),
            answered: self.asked.answered(),
            snapshots: self.naming.kept_now().clone(),
            snapshots_held: self.naming.held_now().clone(),
            message: self.tally.message.clone(),
            is_adopted: self.is_adopted,
            compaction: None,
            serving: self.crew().into_iter().flat_map(|its| its.layout.incarnations()).collect(),
            steps,
        }
    }

    /// What workers tell of compactions that they ordered.
    pub(crate) fn compaction(&self) -> CompactionCounters {
        self.meters.compaction()
    }

    /// This coordinator has made so many requests.
    pub(crate) fn note_requests(&mut self, requests: u64) {
        self.meters.note_own_requests(requests);
    }

    /// The summary as of now.
    pub(crate) fn summary(&mut self) -> Summary {
        Summary::of(&self.status(None))
    }

    pub(super) fn phase(&self) -> Phase {
        match &self.state {
            State::Over(phase) => phase.clone(),
            _ if self.suspend.is_some() => Phase::Suspending,
            State::Adopting(_) => Phase::Adopting,
            State::Running(running) if running.next.is_some() => Phase::Rescaling,
            State::Running(_) | State::Closing => Phase::Running,
            _ if self.moving.is_some() => Phase::Rescaling,
            _ if self.has_run => Phase::Recovering,
            _ => Phase::Starting,
        }
    }
}
