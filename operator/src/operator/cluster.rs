//! The cluster of a job in Kubernetes: each worker is a pod with a name that nobody had before.
//!
//! Seen is what the shared watch shows, and what was done here that it does not show yet: pods that
//! were created, and pods that were deleted. Nobody waits for a deleted pod to end: journal and
//! generations fence it, and one on a lost node would never end. A pod that the watch has lost is
//! gone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use tokio::sync::{Notify, watch};
use weir_engine::cluster::{Cluster, ClusterError, Exit, Member, WorkerState, WorkerView};
use weir_runtime::clock::{self, Instant};
use weir_runtime::random;

use super::api::{by_us, delete_only, is_gone};
use super::names;
use super::pods::{PodFacts, Pods};
use super::template::Template;
use crate::cli::ProcessRole;

/// From SIGTERM to SIGKILL for a pod whose work is done or elsewhere: it has nothing to hand over.
const GRACE_SECONDS: u32 = 1;
/// A created pod that the watch does not show for this long was deleted before it was seen.
const SHOWN_MAX: Duration = Duration::from_secs(30);
/// Pauses after a pod could not be created: the first, and the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The pods of one job in one role.
pub(crate) struct KubeCluster {
    role: ProcessRole,
    api: Api<Pod>,
    template: watch::Receiver<Arc<Template>>,
    pods: watch::Receiver<Pods>,
    /// Places of the workers that were shown last; pods with the same ordinal get different ones.
    places: BTreeMap<u32, PodFacts>,
    created: BTreeMap<String, Created>,
    /// Uids of pods that were deleted here.
    deleted: BTreeSet<String>,
    /// Pods that were ready once. A probe that fails later says nothing about the process.
    was_ready: BTreeSet<String>,
    refused: Option<Refused>,
    /// Told of each pod that is created.
    on_create: Arc<Notify>,
}

/// A pod that was created and is not shown by the watch.
struct Created {
    facts: PodFacts,
    until: Instant,
}

/// No pod can be created for now.
struct Refused {
    why: String,
    pause: Duration,
    until: Instant,
}

impl KubeCluster {
    /// The pods of one job in one role, those that are there already among them.
    pub(crate) fn new(
        role: ProcessRole,
        api: Api<Pod>,
        template: watch::Receiver<Arc<Template>>,
        pods: watch::Receiver<Pods>,
        on_create: Arc<Notify>,
    ) -> Self {
        Self {
            role,
            api,
            template,
            pods,
            places: BTreeMap::new(),
            created: BTreeMap::new(),
            deleted: BTreeSet::new(),
            was_ready: BTreeSet::new(),
            refused: None,
            on_create,
        }
    }

    /// All pods that count, each in a place of its own.
    fn look(&mut self) {
        let shown = Arc::clone(&self.pods.borrow_and_update());
        let now = clock::now();
        self.created.retain(|name, its| !shown.contains_key(name) && now < its.until);
        self.deleted.retain(|uid| shown.values().any(|pod| pod.uid == *uid));
        let created = self.created.values().map(|its| &its.facts);
        let counts = |pod: &&PodFacts| pod.role == self.role && !self.deleted.contains(&pod.uid);
        let all = shown.values().filter(counts).chain(created);
        let (places, twice) = seats(all);
        self.places = places;
        for pod in twice {
            let free = (0..).find(|place| !self.places.contains_key(place));
            self.places.insert(free.unwrap_or(u32::MAX), pod);
        }
        let ready = self.places.values().filter(|pod| pod.is_ready);
        self.was_ready.extend(ready.map(|pod| pod.uid.clone()));
        let there: BTreeSet<&String> = self.places.values().map(|pod| &pod.uid).collect();
        self.was_ready.retain(|uid| there.contains(uid));
    }

    async fn create(&mut self, ordinal: u32) -> Result<(), kube::Error> {
        let place = names::place(self.role, ordinal);
        let incarnation = format!("{place}-{}", random::id());
        let template = Arc::clone(&self.template.borrow());
        let pod = template.pod(self.role, ordinal, &incarnation);
        let made = self.api.create(&by_us(), &pod).await?;
        self.on_create.notify_one();
        if let Some((_, facts)) = PodFacts::of(&made) {
            let until = clock::now() + SHOWN_MAX;
            self.created.insert(facts.name.clone(), Created { facts, until });
        }
        Ok(())
    }

    async fn delete(&mut self, pod: &PodFacts) -> Result<(), kube::Error> {
        delete(&self.api, pod).await?;
        self.created.remove(&pod.name);
        self.deleted.insert(pod.uid.clone());
        Ok(())
    }

    fn view(&self, place: u32, pod: &PodFacts) -> WorkerView {
        let state = state(pod, self.was_ready.contains(&pod.uid));
        let outdated = pod.template != self.template.borrow().hash;
        WorkerView { ordinal: place, state, outdated }
    }
}

fn state(pod: &PodFacts, was_ready: bool) -> WorkerState {
    match (&pod.end, &pod.address) {
        (Some(end), _) => WorkerState::Dead(end.clone()),
        // Nobody is there who could say that it ends; on a lost node it would never be seen to.
        (None, _) if pod.is_ending && !was_ready => {
            let why = format!("pod {} was deleted before it was ready", pod.name);
            WorkerState::Dead(Exit::Lost(why))
        }
        (None, Some(address)) if was_ready => {
            let (incarnation, address) = (pod.incarnation.clone(), address.clone());
            WorkerState::Ready(Member { incarnation, address })
        }
        _ => WorkerState::Starting,
    }
}

/// Deletes a pod, if it is still that one.
pub(crate) async fn delete(api: &Api<Pod>, pod: &PodFacts) -> Result<(), kube::Error> {
    let grace_period_seconds = Some(GRACE_SECONDS);
    let parameters = DeleteParams { grace_period_seconds, ..delete_only(&pod.uid) };
    match api.delete(&pod.name, &parameters).await {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The first pod of each ordinal, and those whose ordinal another one has. Living ones come first.
fn seats<'a>(pods: impl Iterator<Item = &'a PodFacts>) -> (BTreeMap<u32, PodFacts>, Vec<PodFacts>) {
    let mut sorted: Vec<&PodFacts> = pods.collect();
    sorted.sort_by_key(|pod| (pod.end.is_some(), !pod.is_ready, &pod.name));
    let (mut places, mut twice) = (BTreeMap::new(), Vec::new());
    for pod in sorted {
        match places.contains_key(&pod.ordinal) {
            true => twice.push(pod.clone()),
            false => drop(places.insert(pod.ordinal, pod.clone())),
        }
    }
    (places, twice)
}

fn failed(what: &'static str, ordinal: u32, why: impl Into<String>) -> ClusterError {
    ClusterError { what, ordinal, cause: io::Error::other(why.into()) }
}

#[async_trait]
impl Cluster for KubeCluster {
    async fn observe(&mut self) -> Vec<WorkerView> {
        self.template.borrow_and_update();
        self.look();
        self.places.iter().map(|(place, pod)| self.view(*place, pod)).collect()
    }

    async fn start(&mut self, ordinal: u32) -> Result<(), ClusterError> {
        let now = clock::now();
        if let Some(refused) = &self.refused
            && now < refused.until
        {
            return Err(failed("start", ordinal, &refused.why));
        }
        let Err(error) = self.create(ordinal).await else {
            self.refused = None;
            return Ok(());
        };
        let why = error.to_string();
        let before = self.refused.as_ref().map(|refused| refused.pause * 2);
        let pause = before.unwrap_or(RETRY_FIRST).min(RETRY_MAX);
        self.refused = Some(Refused { why: why.clone(), pause, until: now + pause });
        Err(failed("start", ordinal, why))
    }

    async fn stop(&mut self, ordinal: u32) -> Result<(), ClusterError> {
        let Some(pod) = self.places.get(&ordinal).cloned() else { return Ok(()) };
        let deleted = self.delete(&pod).await;
        deleted.map_err(|error| failed("stop", ordinal, error.to_string()))
    }

    async fn forget(&mut self, ordinal: u32) {
        let Some(pod) = self.places.get(&ordinal).cloned() else { return };
        if let Err(error) = self.delete(&pod).await {
            // It is dead; its owner reference takes it away at the latest.
            tracing::warn!(pod = pod.name, "cannot delete a dead pod: {error}");
            self.deleted.insert(pod.uid);
        }
    }

    fn workers_outlive(&self) -> bool {
        true
    }

    async fn changed(&mut self) {
        let due = self.created.values().map(|its| its.until).min();
        let is_over = tokio::select! {
            changed = self.pods.changed() => changed.is_err(),
            changed = self.template.changed() => changed.is_err(),
            () = clock::sleep_until_some(due) => false,
        };
        if is_over {
            // The operator is ending; it ends this task too.
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ordinal: u32, name: &str, is_ready: bool) -> PodFacts {
        PodFacts {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            role: ProcessRole::Worker,
            ordinal,
            incarnation: format!("{ordinal}-{name}"),
            template: "t".to_owned(),
            address: None,
            is_ready,
            is_serving: false,
            is_ending: false,
            end: None,
            trouble: None,
        }
    }

    #[test]
    fn a_pod_that_is_deleted_before_it_was_ready_is_lost_and_one_that_worked_hands_over() {
        let address = Some("10.0.0.7:7410".to_owned());
        let new = PodFacts { address, ..pod(0, "a", false) };
        let ending = PodFacts { is_ending: true, ..new.clone() };
        assert_eq!(state(&new, false), WorkerState::Starting);
        assert!(matches!(state(&new, true), WorkerState::Ready(_)), "its probe may fail meanwhile");
        assert!(matches!(state(&ending, false), WorkerState::Dead(Exit::Lost(_))));
        assert!(matches!(state(&ending, true), WorkerState::Ready(_)));
    }

    #[test]
    fn of_two_pods_with_one_ordinal_the_ready_one_has_the_place() {
        let dead = PodFacts { end: Some(Exit::Lost(String::new())), ..pod(1, "a", true) };
        let all = [pod(0, "a0", false), pod(0, "b0", true), dead.clone(), pod(1, "b1", false)];
        let (places, twice) = seats(all.iter());
        let names =
            |pods: Vec<&PodFacts>| pods.iter().map(|pod| pod.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(places.values().collect()), ["b0", "b1"]);
        assert_eq!(names(twice.iter().collect()), ["a0", "a"]);
    }
}
