//! What a worker says of itself to a kubelet and to Prometheus.
//!
//! A worker is alive while it answers, and ready when it can be given work: a coordinator that is away
//! makes no worker unready, since nothing is wrong with it then.

use std::sync::Arc;

use weir_engine::worker::sight::{Doing, Shown, Sight};

use super::metrics;
use crate::probes::Probed;

/// What the answers are made from.
pub(super) struct Probes {
    sight: Sight,
    /// `<namespace>/<job>`.
    job: String,
}

impl Probes {
    /// Of a worker that shows itself there.
    pub(super) fn new(sight: Sight, job: String) -> Arc<Self> {
        Arc::new(Self { sight, job })
    }
}

impl Probed for Probes {
    fn ready(&self) -> (bool, String) {
        readiness(self.sight.now().shown)
    }

    fn metrics(&self) -> String {
        metrics::page(&self.sight.now(), &self.job, weir_runtime::clock::wall_ms()).text()
    }
}

/// Whether it is ready, and a line for each thing that is or is not as one would like it.
fn readiness(shown: Shown) -> (bool, String) {
    let mut is_ready = true;
    let mut lines = Vec::new();
    if shown.is_leaving {
        is_ready = false;
        lines.push(
            "not ready: it was asked to end, and works until others have its work".to_owned(),
        );
    }
    let generation = shown.generation;
    match shown.doing {
        // It can be given the next one. Were it unready, an operator that starts would wait for it.
        Doing::Failed => {
            lines
                .push(format!("ok: generation {generation} failed here and the next one may come"));
        }
        Doing::Nothing => lines.push("ok: has no work yet".to_owned()),
        Doing::Starting => lines.push(format!("ok: generation {generation} is being set up")),
        Doing::Running => lines.push(format!("ok: generation {generation} runs")),
    }
    if !shown.has_coordinator {
        lines.push("ok: no coordinator is connected; what is done stays uncommitted".to_owned());
    }
    if shown.is_held {
        lines.push("ok: the sources wait until a coordinator comes".to_owned());
    }
    (is_ready, lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_ready_without_a_coordinator_and_after_a_failure_and_not_when_it_leaves() {
        let running = Shown { generation: 4, doing: Doing::Running, ..Shown::default() };
        let (is_ready, reasons) = readiness(running);
        assert!(is_ready && reasons.starts_with("ok: generation 4 runs\nok: no coordinator"));
        let (is_ready, reasons) = readiness(Shown { is_leaving: true, ..running });
        assert!(!is_ready && reasons.starts_with("not ready: it was asked to end"), "{reasons}");
        let (is_ready, reasons) = readiness(Shown { doing: Doing::Failed, ..running });
        assert!(is_ready && reasons.starts_with("ok: generation 4 failed"), "{reasons}");
        assert!(readiness(Shown::default()).0, "it can be given work");
    }

    #[test]
    fn a_worker_that_has_no_work_has_metrics() {
        let probes = Probes::new(Sight::default(), "shop/flights".to_owned());
        let metrics = probes.metrics();
        assert!(
            metrics.contains("weir_worker_generation{weir_job=\"shop/flights\"} 0"),
            "{metrics}"
        );
    }
}
