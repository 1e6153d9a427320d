//! Names, labels and annotations of what the operator makes. They are seen by users and by operators
//! of other versions: docs/design/0014-operator.md lists them.

use crate::cli::ProcessRole;

/// Field manager of objects that the operator makes.
pub(crate) const MANAGER: &str = "weir-operator";
/// Field manager of a job's status.
pub(crate) const STATUS_MANAGER: &str = "weir-operator-status";
/// Field manager of a job's finalizer.
pub(crate) const FINALIZER_MANAGER: &str = "weir-operator-finalizer";

/// Finalizer of jobs whose state goes with them.
pub(crate) const FINALIZER: &str = "weir.dev/state";

/// Finalizer of snapshots that are given up with their resource.
pub(crate) const SNAPSHOT_FINALIZER: &str = "weir.dev/snapshot";
/// Field manager of a snapshot's finalizer and annotation.
pub(crate) const SNAPSHOT_MANAGER: &str = "weir-operator-snapshot";
/// Annotation of snapshots: where their state lies.
pub(crate) const BOUND: &str = "weir.dev/bound";
/// Label of snapshots: the job whose schedule made them.
pub(crate) const SCHEDULE: &str = "weir.dev/schedule";

/// Label of everything that the operator makes.
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "weir");

/// Selects everything that has that label.
pub(crate) fn made_by_us() -> String {
    format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)
}

/// Label of pods: which part they play.
pub(crate) const COMPONENT: (&str, &str) = ("app.kubernetes.io/component", "worker");
/// The same of pods that compact.
pub(crate) const COMPACTOR: (&str, &str) = (COMPONENT.0, "compactor");
/// Label: the job's name.
pub(crate) const JOB: &str = "weir.dev/job";
/// Label: the uid of the job's resource; a job deleted and made again has other pods.
pub(crate) const JOB_UID: &str = "weir.dev/job-uid";
/// Label of pods: the worker's place among the job's workers.
pub(crate) const ORDINAL: &str = "weir.dev/ordinal";
/// Label of pods: the worker process.
pub(crate) const INCARNATION: &str = "weir.dev/incarnation";
/// Label of pods: the form that it was started in.
pub(crate) const TEMPLATE: &str = "weir.dev/template";

/// Label of pods that run the living generation, with the value `true`.
pub(crate) const SERVING: &str = "weir.dev/serving";

/// Annotation of jobs: another value restarts all workers, new ones first.
pub(crate) const RESTART: &str = "weir.dev/restart";
/// Annotation of jobs: another value asks for a checkpoint at once.
pub(crate) const CHECKPOINT: &str = "weir.dev/checkpoint";
/// Annotation of a namespace's authority: another value makes another authority follow it.
pub(crate) const ROTATE: &str = "weir.dev/rotate";
/// Annotation of a namespace's authority: the value of `ROTATE` for which the newest one was made.
pub(crate) const ROTATED: &str = "weir.dev/rotated";
/// Annotation of a namespace's authority: the format of its secret.
pub(crate) const FORMAT: &str = "weir.dev/authority-format";
/// Annotation of the job's secret: when its certificate was made, in seconds since 1970.
pub(crate) const ISSUED: &str = "weir.dev/issued";

/// Port of a worker's service.
pub(crate) const PORT: u16 = 7410;
/// Port of a worker's probes and metrics.
pub(crate) const METRICS_PORT: u16 = 7411;

/// Folder in a pod with the certificate.
pub(crate) const TLS_FOLDER: &str = "/var/run/weir/tls";
/// Folder in a pod with a folder for each secret of a store.
pub(crate) const STORES_FOLDER: &str = "/var/run/weir/stores";

/// The secret with a job's token and certificate.
pub(crate) fn job_secret(job: &str) -> String {
    format!("{job}-weir-tls")
}

/// The secret, in the operator's namespace, with the authorities of a namespace.
pub(crate) fn authority_secret(namespace: &str) -> String {
    format!("weir-authority-{namespace}")
}

/// The pod of a worker process. A name is never used twice.
pub(crate) fn pod(job: &str, incarnation: &str) -> String {
    format!("{job}-{incarnation}")
}

/// What the incarnation of a process begins with.
pub(crate) fn place(role: ProcessRole, ordinal: u32) -> String {
    match role {
        ProcessRole::Worker => ordinal.to_string(),
        ProcessRole::Compactor => format!("c{ordinal}"),
    }
}

/// Selects the pods of a job's workers that take part in it.
pub(crate) fn selector(job: &str) -> String {
    format!("{JOB}={job},{SERVING}=true")
}
