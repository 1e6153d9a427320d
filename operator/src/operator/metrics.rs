//! An operator's metrics: its own, and those of the jobs whose tasks it has.

use std::collections::BTreeMap;

use weir_engine::coordinator::status::Status;

use super::lease;
use super::meters::{CertificateNumbers, JobNumbers, Numbers};
use crate::metrics::{Labels, Page, number, seconds};

/// Name, help, value; none: the job has no such number yet.
type JobGauge = (&'static str, &'static str, fn(&JobNumbers) -> Option<f64>);
type JobCounter = (&'static str, &'static str, fn(&Status) -> u64);

const GAUGES: [JobGauge; 10] = [
    ("weir_job_workers_wanted", "Workers that the job asks for", |job| {
        Some(f64::from(course(job)?.workers_wanted))
    }),
    ("weir_job_workers_ready", "Workers that answer", |job| job.status.replicas.map(f64::from)),
    ("weir_job_compactors_ready", "Compactors that can be asked", |job| {
        Some(f64::from(course(job)?.compaction.as_ref()?.ready))
    }),
    ("weir_job_generation", "The generation of workers", |job| job.status.generation.map(number)),
    (
        "weir_job_checkpoint_consecutive_failures",
        "Checkpoints that have failed one after the other",
        |job| Some(f64::from(course(job)?.checkpoint_failures)),
    ),
    (
        "weir_job_last_checkpoint_timestamp_seconds",
        "When the last checkpoint was complete, in seconds since 1970",
        |job| {
            let time = job.status.last_checkpoint.as_ref()?.time.as_ref()?;
            Some(number(u64::try_from(time.0.as_second()).ok()?))
        },
    ),
    (
        "weir_job_last_checkpoint_duration_seconds",
        "From trigger to record of the last checkpoint",
        |job| taken(job).map(|course| seconds(course.checkpoint_numbers.last_ms)),
    ),
    (
        "weir_job_last_checkpoint_bytes",
        "Bytes written to the state store for the last checkpoint",
        |job| taken(job).map(|course| number(course.checkpoint_numbers.last_bytes)),
    ),
    (
        "weir_job_last_rescale_pause_seconds",
        "How long rows stood still for the last rescale",
        |job| Some(seconds(job.status.last_rescale.as_ref()?.pause_ms?)),
    ),
    (
        "weir_job_last_failover_recovery_seconds",
        "From the last loss of workers or error until all ran again",
        |job| Some(seconds(job.status.last_failover.as_ref()?.recovery_ms)),
    ),
];

const COUNTERS: [JobCounter; 11] = [
    ("weir_job_rows_in", "Rows read by sources", |its| its.rows_in),
    ("weir_job_rows_out", "Rows taken by sinks", |its| its.rows_out),
    ("weir_job_late_rows", "Rows that came after all their windows had closed", Status::late_rows),
    ("weir_job_bad_rows", "Rows that did not parse", Status::bad_rows),
    ("weir_job_checkpoints", "Completed checkpoints", |its| its.checkpoints),
    ("weir_job_checkpoints_aborted", "Checkpoints that were given up", |its| {
        its.checkpoint_numbers.aborted
    }),
    ("weir_job_checkpoint_bytes", "Bytes written to the state store for checkpoints", |its| {
        its.checkpoint_numbers.total_bytes
    }),
    ("weir_job_restarts", "Errors reported by workers after which the job went on", |its| {
        its.restarts
    }),
    ("weir_job_failovers", "Generations ended by a lost worker or an error", |its| its.failovers),
    ("weir_job_workers_lost", "Workers that were lost and replaced", |its| its.replaced),
    ("weir_job_rescales", "Changes of replicas or slots that were reached", |its| its.rescales),
];

fn course(job: &JobNumbers) -> Option<&Status> {
    job.course.as_deref()
}

/// The job's coordinator, if it has taken a checkpoint itself.
fn taken(job: &JobNumbers) -> Option<&Status> {
    course(job).filter(|its| its.checkpoint_numbers.total_ms > 0)
}

/// All metrics of an operator at one moment.
pub(super) fn page(numbers: &Numbers) -> Page {
    let mut page = Page::new(Vec::new());
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    page.gauge("weir_build_info", "Which version this is; always 1", [(version, 1.0)]);
    add_operator(&mut page, numbers);
    add_states(&mut page, numbers);
    add_certificates(&mut page, numbers);
    for (name, help, value) in GAUGES {
        let series = numbers.jobs.iter().filter_map(|(key, job)| Some((of(key), value(job)?)));
        page.gauge(name, help, series);
    }
    let courses = || numbers.jobs.iter().filter_map(|(key, job)| Some((key, course(job)?)));
    for (name, help, value) in COUNTERS {
        page.counter(name, help, courses().map(|(key, course)| (of(key), value(course))));
    }
    let compactions =
        courses().filter_map(|(key, course)| Some((key, course.compaction.as_ref()?)));
    let compactions = compactions.flat_map(|(key, its)| {
        [("compactor", its.elsewhere), ("worker", its.here)].map(|(by, count)| {
            let mut labels = of(key);
            labels.push(("by", by.to_owned()));
            (labels, count)
        })
    });
    let help = "Compactions of a job with compactors, by who carried them out";
    page.counter("weir_job_compactions", help, compactions);
    let help = "From trigger to record of all checkpoints together";
    let took = courses().map(|(key, course)| (of(key), course.checkpoint_numbers.total_ms));
    page.seconds_counter("weir_job_checkpoint_seconds", help, took);
    let help = "Requests to the job's state store, by coordinator and workers";
    let requests = courses().map(|(key, course)| (of(key), course.requests));
    page.counter("weir_job_state_requests", help, requests);
    page
}

/// The labels of a job: `weir_job` as its workers have it.
fn of((namespace, name): &(String, String)) -> Labels {
    vec![("namespace", namespace.clone()), ("weir_job", format!("{namespace}/{name}"))]
}

fn add_operator(page: &mut Page, numbers: &Numbers) {
    let alone = |value: u64| [(Vec::new(), value)];
    let help = "Times that a job was looked at";
    page.counter("weir_operator_reconciles", help, alone(numbers.reconciles));
    let help = "Acts on a job, or writes of its status, that failed";
    page.counter("weir_operator_reconcile_errors", help, alone(numbers.reconcile_errors));
    let requests = numbers.requests.iter().map(|((verb, code), count)| {
        (vec![("verb", (*verb).to_owned()), ("code", (*code).to_owned())], *count)
    });
    let help = "Requests to the Kubernetes API server";
    page.counter("weir_operator_kubernetes_requests", help, requests);
    let help = "Rounds of renewing leases that failed";
    page.counter("weir_operator_lease_errors", help, alone(numbers.lease_errors));
    let all = f64::from(lease::SHARDS);
    let help = "Shards that jobs are spread over";
    page.gauge("weir_operator_shards", help, [(Vec::new(), all)]);
    let held = f64::from(numbers.shards_held);
    let help = "Shards whose lease this operator holds";
    page.gauge("weir_operator_shards_held", help, [(Vec::new(), held)]);
}

fn add_states(page: &mut Page, numbers: &Numbers) {
    let phase = |job: &JobNumbers| job.status.phase.map(|phase| format!("{phase:?}"));
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for job in numbers.jobs.values() {
        *counts.entry(phase(job).unwrap_or_else(|| "Pending".to_owned())).or_default() += 1;
    }
    let counts = counts.into_iter().map(|(phase, count)| (vec![("phase", phase)], number(count)));
    let help = "Jobs of the shards that this operator holds";
    page.gauge("weir_operator_jobs", help, counts);
    let phases = numbers.jobs.iter().filter_map(|(key, job)| {
        let mut labels = of(key);
        labels.push(("phase", phase(job)?));
        Some((labels, 1.0))
    });
    page.gauge("weir_job_phase", "1 for the phase that the job is in", phases);
    let conditions = numbers.jobs.iter().flat_map(|(key, job)| {
        job.status.conditions.iter().map(move |condition| {
            let mut labels = of(key);
            labels.push(("condition", condition.type_.clone()));
            (labels, f64::from(u8::from(condition.status == "True")))
        })
    });
    page.gauge("weir_job_condition", "Whether a condition of the job holds", conditions);
}

fn add_certificates(page: &mut Page, numbers: &Numbers) {
    let seconds = |at: i64| number(u64::try_from(at).unwrap_or_default());
    let authorities = |value: &dyn Fn(&CertificateNumbers) -> f64| -> Vec<(Labels, f64)> {
        let all = numbers.certificates.iter().filter(|((_, job), _)| job.is_none());
        let labels = |namespace: &String| vec![("namespace", namespace.clone())];
        all.map(|((namespace, _), its)| (labels(namespace), value(its))).collect()
    };
    let jobs = |value: &dyn Fn(&CertificateNumbers) -> f64| -> Vec<(Labels, f64)> {
        let all = numbers.certificates.iter().filter_map(|((namespace, job), its)| {
            let key = (namespace.clone(), job.clone()?);
            Some((of(&key), value(its)))
        });
        all.collect()
    };
    let help =
        "When the authority that issues a namespace's certificates ends, in seconds since 1970";
    let expiry = authorities(&|its| seconds(its.expiry_seconds));
    page.gauge("weir_authority_expiry_timestamp_seconds", help, expiry);
    let help = "When another authority is to follow it";
    let due = authorities(&|its| seconds(its.due_seconds));
    page.gauge("weir_authority_due_timestamp_seconds", help, due);
    let help = "Authorities that are trusted: more than one while one follows another";
    let count = authorities(&|its| number(its.authorities as u64));
    page.gauge("weir_authorities_trusted", help, count);
    let help = "When the workers' certificate ends, in seconds since 1970";
    let expiry = jobs(&|its| seconds(its.expiry_seconds));
    page.gauge("weir_job_certificate_expiry_timestamp_seconds", help, expiry);
    let help = "When another certificate is to be issued";
    let due = jobs(&|its| seconds(its.due_seconds));
    page.gauge("weir_job_certificate_due_timestamp_seconds", help, due);
}

/// Names of all metrics.
#[cfg(test)]
pub(crate) fn names() -> std::collections::BTreeSet<String> {
    page(&Numbers::default()).names().clone()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use weir_crds::{CheckpointStatus, Phase, StatefulJobStatus};
    use weir_engine::coordinator::status::{CheckpointNumbers, Compaction};

    use super::super::meters::Meters;
    use super::*;

    #[test]
    fn certificates_are_shown_for_as_long_as_somebody_keeps_them() {
        let meters = Meters::default();
        let authority = meters.certificate("shop", None);
        let job = meters.certificate("shop", Some("a"));
        assert!(!meters.with(page).text().contains("shop"), "nobody has looked yet");
        authority.show(1_800_000_000, 1_700_000_000, 2);
        job.show(1_600_000_000, 1_500_000_000, 0);
        let text = meters.with(page).text();
        let of = "namespace=\"shop\",weir_job=\"shop/a\"";
        for line in [
            "weir_authority_expiry_timestamp_seconds{namespace=\"shop\"} 1800000000.0".to_owned(),
            "weir_authority_due_timestamp_seconds{namespace=\"shop\"} 1700000000.0".to_owned(),
            "weir_authorities_trusted{namespace=\"shop\"} 2.0".to_owned(),
            format!("weir_job_certificate_expiry_timestamp_seconds{{{of}}} 1600000000.0"),
            format!("weir_job_certificate_due_timestamp_seconds{{{of}}} 1500000000.0"),
        ] {
            assert!(text.lines().any(|its| its == line), "{line}\n{text}");
        }
        drop((authority, job));
        assert!(!meters.with(page).text().contains("shop"), "nobody keeps them any more");
    }

    #[test]
    fn a_job_that_runs_shows_its_numbers_and_one_that_never_did_none() {
        let meters = Meters::default();
        let time = Time(Timestamp::from_second(1_700_000_000).unwrap());
        let status = StatefulJobStatus {
            phase: Some(Phase::Running),
            last_checkpoint: Some(CheckpointStatus { id: 7, time: Some(time) }),
            ..StatefulJobStatus::default()
        };
        let checkpoint_numbers =
            CheckpointNumbers { total_ms: 2_500, last_ms: 500, ..Default::default() };
        let compaction = Some(Compaction { ready: 2, elsewhere: 9, ..Compaction::default() });
        let course = Status {
            checkpoints: 5,
            checkpoint_numbers,
            failovers: 2,
            compaction,
            ..Status::default()
        };
        let running = meters.job("shop", "a");
        running.show(&status, Some(&course));
        let _young = meters.job("shop", "b");
        meters.requested("patch", "2xx");
        let text = meters.with(page).text();
        let of = "namespace=\"shop\",weir_job=\"shop/a\"";
        for line in [
            format!("weir_job_phase{{{of},phase=\"Running\"}} 1.0"),
            format!("weir_job_checkpoint_seconds_total{{{of}}} 2.5"),
            format!("weir_job_last_checkpoint_duration_seconds{{{of}}} 0.5"),
            format!("weir_job_last_checkpoint_timestamp_seconds{{{of}}} 1700000000.0"),
            format!("weir_job_failovers_total{{{of}}} 2"),
            format!("weir_job_compactors_ready{{{of}}} 2.0"),
            format!("weir_job_compactions_total{{{of},by=\"compactor\"}} 9"),
            "weir_operator_jobs{phase=\"Pending\"} 1.0".to_owned(),
            "weir_operator_kubernetes_requests_total{verb=\"patch\",code=\"2xx\"} 1".to_owned(),
        ] {
            assert!(text.lines().any(|its| its == line), "{line}\n{text}");
        }
        assert!(!text.contains("shop/b"), "{text}");
    }
}
