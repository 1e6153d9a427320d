//! The authorities of the namespaces whose jobs run here: looked at again and again, and led from one
//! to the next (`certificates/plan.rs`). A job's coordinator hears of it and renews its own.
//!
//! Each operator does so for the namespaces of its own jobs; several may at once. The API server takes
//! one write of a version, and whoever is late looks again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use tokio::sync::{Notify, watch};
use weir_runtime::task::{self, Task};
use weir_runtime::{clock, random};

use super::meters::{CertificateMeter, Meters};
use super::names;
use super::secrets::job::{Freshness, is_as_created};
use super::secrets::{Found, Identity, Issuing, Looked, Owner, SecretError, now_seconds};
use crate::certificates::plan::{When, plan};
use crate::certificates::settling::{JobSeen, Settling};
use crate::exit::chain;

/// From look to look after one that failed, at most.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Within this time all jobs of a namespace look at their certificates after the authorities changed.
const SPREAD_MAX: Duration = Duration::from_secs(60);

/// Of all namespaces. Clones are the same.
#[derive(Clone)]
pub(crate) struct Authorities {
    pub(crate) issuing: Issuing,
    meters: Meters,
    watched: Arc<Mutex<BTreeMap<String, Weak<Watched>>>>,
}

/// The authorities of one namespace are looked at for as long as somebody has this.
pub(crate) struct Watched {
    /// None: nobody has looked yet.
    version: watch::Receiver<Option<String>>,
    _task: Task<()>,
}

impl Authorities {
    pub(crate) fn new(issuing: Issuing, meters: Meters) -> Self {
        Self { issuing, meters, watched: Arc::default() }
    }

    /// Looks at a namespace's authorities from now on, if nobody does yet.
    fn watch(&self, namespace: &str) -> Arc<Watched> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|_, its| its.strong_count() > 0);
        if let Some(its) = watched.get(namespace).and_then(Weak::upgrade) {
            return its;
        }
        let (show, version) = watch::channel(None);
        let tending = Tending {
            issuing: self.issuing.clone(),
            namespace: namespace.to_owned(),
            meter: self.meters.certificate(namespace, None),
            settling: Settling::default(),
            show,
        };
        let its = Arc::new(Watched { version, _task: task::spawn(tending.run()) });
        watched.insert(namespace.to_owned(), Arc::downgrade(&its));
        its
    }

    /// Keeps a job's certificates young and of the present authorities, for ever; `take` gets each new
    /// identity of its coordinator. A `hint` says that the secret may be needed now.
    pub(crate) async fn renew(
        &self,
        owner: &Owner,
        first: Identity,
        hint: &Notify,
        mut take: impl FnMut(&Identity),
    ) {
        let watched = self.watch(&owner.namespace);
        let meter = self.meters.certificate(&owner.namespace, Some(&owner.job));
        let times = self.issuing.times;
        let mut version = watched.version.clone();
        version.mark_changed();
        let mut had = first;
        loop {
            if let Some(validity) = had.validity {
                let due = times.certificate_due_at(validity);
                meter.show(validity.until_seconds, due, 0);
            }
            tokio::select! {
                () = clock::sleep(times.renew()) => {}
                () = hint.notified() => {}
                changed = version.changed() => {
                    if changed.is_err() {
                        std::future::pending().await
                    }
                    let is_known = |seen: &String| *seen == had.version;
                    if version.borrow_and_update().as_ref().is_none_or(is_known) {
                        continue;
                    }
                    // A thousand jobs of a namespace hear of it at once.
                    let spread = (times.look() / 2).min(SPREAD_MAX);
                    let ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
                    clock::sleep(Duration::from_millis(random::below(ms))).await;
                }
            }
            had = loop {
                match self.issuing.identity(owner, Some(&had.token)).await {
                    Ok(identity) => break identity,
                    Err(error) => {
                        let job = &owner.job;
                        tracing::warn!(job, "certificates cannot be looked at: {}", chain(&error));
                        clock::sleep(times.look().min(RETRY_MAX)).await;
                    }
                }
            };
            take(&had);
        }
    }
}

/// The task of one namespace.
struct Tending {
    issuing: Issuing,
    namespace: String,
    meter: CertificateMeter,
    settling: Settling,
    show: watch::Sender<Option<String>>,
}

impl Tending {
    async fn run(mut self) {
        let look = self.issuing.times.look();
        loop {
            let pause = match Box::pin(self.look()).await {
                Ok(()) => look,
                Err(error) => {
                    let namespace = &self.namespace;
                    tracing::warn!(namespace, "authorities cannot be looked at: {}", chain(&error));
                    look.min(RETRY_MAX)
                }
            };
            clock::sleep(pause).await;
        }
    }

    /// Looks, and takes the step that is due.
    async fn look(&mut self) -> Result<(), SecretError> {
        let found = self.issuing.authorities(&self.namespace).await?;
        self.tell(&found);
        let due = plan(&found.kept.seen(), &self.issuing.times, now_seconds());
        let Some((step, when)) = due else { return Ok(()) };
        if when == When::Settled
            && let Err(what) = self.has_settled(&found).await?
        {
            tracing::info!(namespace = self.namespace, "authority: {step:?} waits for {what}");
            return Ok(());
        }
        // Else somebody was quicker, and the next look shows what they did.
        if let Some(found) = self.issuing.step(&self.namespace, found, step).await? {
            self.tell(&found);
        }
        Ok(())
    }

    fn tell(&self, found: &Found) {
        let version = Some(found.version.clone());
        self.show.send_if_modified(|shown| std::mem::replace(shown, version.clone()) != version);
        if let Some(current) = &found.kept.current {
            let due = self.issuing.times.authority_due_at(current.validity);
            self.meter.show(current.validity.until_seconds, due, found.kept.count());
        }
    }

    /// Whether everybody has what these authorities gave out; else what is waited for. Jobs whose
    /// operator is away or has failed are helped on.
    async fn has_settled(&mut self, found: &Found) -> Result<Result<(), String>, SecretError> {
        let pods: Api<Pod> = Api::namespaced(self.issuing.client.clone(), &self.namespace);
        let pods = pods.list(&ListParams::default().labels(&names::made_by_us())).await;
        let pods = pods.map_err(|cause| SecretError::Pods {
            namespace: self.namespace.clone(),
            cause: Box::new(cause),
        })?;
        let mut jobs = Vec::new();
        for (job, oldest_pod) in living(&pods.items) {
            let (namespace, reference) = (self.namespace.clone(), None);
            let owner = Owner { namespace, job: job.clone(), reference };
            let looked = self.issuing.look_at_job(&owner, None).await?;
            if looked.found.version != found.version {
                return Ok(Err("a look at the authorities that somebody has changed".to_owned()));
            }
            jobs.push(seen(job, &looked, oldest_pod));
        }
        let settles = self.issuing.times.settles();
        Ok(self.settling.check(&found.version, &jobs, settles, clock::now()))
    }
}

fn seen(name: String, looked: &Looked, oldest_pod: Option<Timestamp>) -> JobSeen {
    let before = looked.before.as_ref();
    JobSeen {
        name,
        uid: before.and_then(|secret| secret.metadata.uid.clone()).unwrap_or_default(),
        // One that was renewed by age was as good before.
        is_fresh: looked.freshness != Freshness::Stale,
        is_as_created: looked.freshness == Freshness::Fresh
            && before.is_some_and(|secret| is_as_created(secret, oldest_pod)),
    }
}

/// Jobs with pods that work or are about to, and when the oldest of those was made.
fn living(pods: &[Pod]) -> BTreeMap<String, Option<Timestamp>> {
    let mut jobs = BTreeMap::new();
    for pod in pods {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let is_over = matches!(phase, Some("Succeeded" | "Failed"));
        let labels = pod.metadata.labels.as_ref();
        let Some(job) = labels.and_then(|labels| labels.get(names::JOB)) else { continue };
        // One that was told to end gets no work, and one on a lost node would never be gone.
        if is_over || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let made = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let oldest = jobs.entry(job.clone()).or_insert(made);
        *oldest = (*oldest).min(made);
    }
    jobs
}

#[cfg(test)]
mod tests;
