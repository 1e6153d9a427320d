//! What is counted of this operator and its jobs, for probes and metrics. Nothing is decided from it.
//!
//! Each job has a meter for as long as its task lives here, so what is shown has a limit: the jobs of
//! the shards that are held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_crds::StatefulJobStatus;
use weir_engine::coordinator::status::Status;
use weir_runtime::clock::{self, Instant};

/// Counters of one operator. Clones count the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters(Arc<Mutex<Numbers>>);

/// All numbers at one moment.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Times that a job was looked at.
    pub(crate) reconciles: u64,
    /// Acts on a job, or writes of its status, that failed.
    pub(crate) reconcile_errors: u64,
    /// Requests to the API server by verb and class of answer.
    pub(crate) requests: BTreeMap<(&'static str, &'static str), u64>,
    /// Shards whose lease is held.
    pub(crate) shards_held: u32,
    /// Rounds of the leases that failed.
    pub(crate) lease_errors: u64,
    /// When all leases were read and the own ones written last.
    pub(crate) leases_renewed: Option<Instant>,
    /// Namespaces (`""`: all) whose jobs are watched.
    pub(crate) scopes: BTreeMap<String, Scope>,
    /// Jobs that have a task here, by namespace and name.
    pub(crate) jobs: BTreeMap<(String, String), JobNumbers>,
    /// Certificates of jobs that run here, and (without a name) the authorities of their namespaces.
    pub(crate) certificates: BTreeMap<(String, Option<String>), CertificateNumbers>,
}

/// What is shown of a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CertificateNumbers {
    /// When it ends, in seconds since 1970.
    pub(crate) expiry_seconds: i64,
    /// When another one is due.
    pub(crate) due_seconds: i64,
    /// How many authorities are trusted there.
    pub(crate) authorities: usize,
}

/// The watches of one namespace, or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Pods and jobs were listed once.
    pub(crate) is_listed: bool,
    /// Why a watch does not work now.
    pub(crate) trouble: Option<String>,
}

/// What is shown of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobNumbers {
    /// As its resource has it.
    pub(crate) status: StatefulJobStatus,
    /// As its coordinator had it last.
    pub(crate) course: Option<Box<Status>>,
}

impl Meters {
    /// What `look` makes of them as they are now; nobody counts meanwhile.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Numbers) -> T) -> T {
        look(&self.lock())
    }

    /// A job was looked at.
    pub(crate) fn reconciled(&self) {
        self.lock().reconciles += 1;
    }

    /// Something that a job needed failed.
    pub(crate) fn reconcile_failed(&self) {
        self.lock().reconcile_errors += 1;
    }

    /// The API server has answered a request, or not.
    pub(crate) fn requested(&self, verb: &'static str, code: &'static str) {
        *self.lock().requests.entry((verb, code)).or_default() += 1;
    }

    /// A round of the leases is done, and these shards are held.
    pub(crate) fn leases_renewed(&self) {
        self.lock().leases_renewed = Some(clock::now());
    }

    /// A round of the leases has failed.
    pub(crate) fn leases_failed(&self) {
        self.lock().lease_errors += 1;
    }

    /// These shards are held now.
    pub(crate) fn shards_held(&self, held: &BTreeSet<u32>) {
        self.lock().shards_held = u32::try_from(held.len()).unwrap_or(u32::MAX);
    }

    /// A namespace, or all, begins to be watched.
    pub(crate) fn watching(&self, scope: Option<&str>) {
        self.lock().scopes.entry(scope.unwrap_or_default().to_owned()).or_default();
    }

    /// A watch works; `is_listed`: pods and jobs are known by now.
    pub(crate) fn watched(&self, scope: Option<&str>, is_listed: bool) {
        let mut numbers = self.lock();
        let scope = numbers.scopes.entry(scope.unwrap_or_default().to_owned()).or_default();
        scope.is_listed |= is_listed;
        scope.trouble = None;
    }

    /// A watch does not work.
    pub(crate) fn watch_failed(&self, scope: Option<&str>, why: String) {
        let mut numbers = self.lock();
        numbers.scopes.entry(scope.unwrap_or_default().to_owned()).or_default().trouble = Some(why);
    }

    /// Shows a job for as long as the meter is kept.
    pub(crate) fn job(&self, namespace: &str, name: &str) -> JobMeter {
        let key = (namespace.to_owned(), name.to_owned());
        self.lock().jobs.entry(key.clone()).or_default();
        JobMeter { meters: self.clone(), key }
    }

    /// Shows a job's certificate, or its namespace's authority, for as long as the meter is kept.
    pub(crate) fn certificate(&self, namespace: &str, job: Option<&str>) -> CertificateMeter {
        let key = (namespace.to_owned(), job.map(str::to_owned));
        CertificateMeter { meters: self.clone(), key }
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The meter of one job.
#[derive(Debug)]
pub(crate) struct JobMeter {
    meters: Meters,
    key: (String, String),
}

impl JobMeter {
    /// Shows it so from now on; a coordinator's last numbers stay when there is none any more.
    pub(crate) fn show(&self, status: &StatefulJobStatus, course: Option<&Status>) {
        let mut numbers = self.meters.lock();
        let Some(job) = numbers.jobs.get_mut(&self.key) else { return };
        job.status.clone_from(status);
        if let Some(course) = course {
            job.course = Some(Box::new(course.clone()));
        }
    }
}

impl Drop for JobMeter {
    fn drop(&mut self) {
        self.meters.lock().jobs.remove(&self.key);
    }
}

/// The meter of one certificate.
#[derive(Debug)]
pub(crate) struct CertificateMeter {
    meters: Meters,
    key: (String, Option<String>),
}

impl CertificateMeter {
    /// Shows it so from now on.
    pub(crate) fn show(&self, expiry_seconds: i64, due_seconds: i64, authorities: usize) {
        let shown = CertificateNumbers { expiry_seconds, due_seconds, authorities };
        self.meters.lock().certificates.insert(self.key.clone(), shown);
    }
}

impl Drop for CertificateMeter {
    fn drop(&mut self) {
        self.meters.lock().certificates.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_shown_while_its_task_lives() {
        let meters = Meters::default();
        let job = meters.job("shop", "flights");
        let status = StatefulJobStatus { restarts: Some(3), ..StatefulJobStatus::default() };
        job.show(&status, Some(&Status { rows_in: 5, ..Status::default() }));
        job.show(&StatefulJobStatus::default(), None);
        let shown = meters.with(|numbers| numbers.jobs.values().next().unwrap().clone());
        assert_eq!((shown.status.restarts, shown.course.unwrap().rows_in), (None, 5));
        drop(job);
        assert!(meters.with(|numbers| numbers.jobs.is_empty()));
    }
}
