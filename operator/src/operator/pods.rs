//! Pods of workers as they are watched: one watch for all jobs, the facts of each pod, and a channel
//! for each job. Only what somebody decides from is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use weir_engine::cluster::Exit;

use super::{names, template};
use crate::cli::ProcessRole;
use crate::worker::EXIT_TEARDOWN;

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) role: ProcessRole,
    pub(crate) ordinal: u32,
    pub(crate) incarnation: String,
    /// Hash of the form that it was started in.
    pub(crate) template: String,
    /// What to dial, once it has an address.
    pub(crate) address: Option<String>,
    pub(crate) is_ready: bool,
    /// It is labelled as one that takes part.
    pub(crate) is_serving: bool,
    /// Somebody has told it to end.
    pub(crate) is_ending: bool,
    /// How its process ended.
    pub(crate) end: Option<Exit>,
    /// Why it does not start, in one sentence.
    pub(crate) trouble: Option<String>,
}

/// A job's pods, by name.
pub(crate) type Pods = Arc<BTreeMap<String, PodFacts>>;

/// Why a container that waits will not start by itself soon.
const TROUBLES: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

impl PodFacts {
    /// Of a pod that the operator made; `None`: it made none that looks like this.
    pub(crate) fn of(pod: &Pod) -> Option<(String, Self)> {
        let label = |name: &str| pod.metadata.labels.as_ref()?.get(name).cloned();
        let status = pod.status.clone().unwrap_or_default();
        let name = pod.metadata.name.clone()?;
        let ip = status.pod_ip.as_ref().filter(|ip| !ip.is_empty());
        let is_ready = condition(&status, "Ready").is_some_and(|(is, _)| is);
        let facts = Self {
            uid: pod.metadata.uid.clone()?,
            role: match label(names::COMPACTOR.0) {
                Some(part) if part == names::COMPACTOR.1 => ProcessRole::Compactor,
                _ => ProcessRole::Worker,
            },
            ordinal: label(names::ORDINAL)?.parse().ok()?,
            incarnation: label(names::INCARNATION)?,
            template: label(names::TEMPLATE)?,
            address: ip.map(|ip| address(ip)),
            is_ready,
            is_serving: label(names::SERVING).as_deref() == Some("true"),
            is_ending: pod.metadata.deletion_timestamp.is_some(),
            end: end(&name, &status),
            trouble: trouble(&status),
            name,
        };
        Some((label(names::JOB_UID)?, facts))
    }
}

fn address(ip: &str) -> String {
    let port = names::PORT;
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// Whether a condition holds, and its message.
fn condition(status: &PodStatus, type_: &str) -> Option<(bool, String)> {
    let found = status.conditions.iter().flatten().find(|its| its.type_ == type_)?;
    Some((found.status == "True", found.message.clone().unwrap_or_default()))
}

fn container(status: &PodStatus) -> Option<&ContainerStatus> {
    status.container_statuses.iter().flatten().find(|its| its.name == template::CONTAINER)
}

/// Signals, evictions and lost nodes come from outside; other ends are the process's own.
fn end(name: &str, status: &PodStatus) -> Option<Exit> {
    let terminated = |its: &ContainerStatus| its.state.as_ref()?.terminated.clone();
    let ended = container(status).and_then(terminated);
    // A container beside it may run on, and then so does the pod.
    if ended.is_none() && !matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return None;
    }
    let ended = ended.filter(|its| its.reason.as_deref() != Some("ContainerStatusUnknown"));
    let Some(ended) = ended else {
        let mut before = status.init_container_statuses.iter().flatten();
        if let Some((its, code)) = before.find_map(|its| {
            let code = terminated(its)?.exit_code;
            (code != 0).then_some((its, code))
        }) {
            let what =
                format!("pod {name}: its container {} ended with exit code {code}", its.name);
            return Some(Exit::Fault(what));
        }
        let reason = status.reason.as_deref().unwrap_or("unknown reason");
        let message = status.message.as_deref().unwrap_or("it ended");
        return Some(Exit::Lost(format!("pod {name}: {reason}: {message}")));
    };
    let reason = ended.reason.as_deref().unwrap_or_default();
    let what = format!("pod {name} ended with exit code {} ({reason})", ended.exit_code);
    let is_outside = match ended.exit_code {
        0 | EXIT_TEARDOWN => true,
        // 128 + a signal. HUP, INT, KILL, PIPE, TERM come from others.
        129 | 130 | 137 | 141 | 143 => true,
        _ => reason == "OOMKilled",
    };
    Some(if is_outside { Exit::Lost(what) } else { Exit::Fault(what) })
}

fn trouble(status: &PodStatus) -> Option<String> {
    if let Some((false, message)) = condition(status, "PodScheduled") {
        return Some(format!("it cannot be scheduled: {message}"));
    }
    let of = |its: &Option<Vec<ContainerStatus>>| its.clone().unwrap_or_default();
    let all = of(&status.init_container_statuses).into_iter().chain(of(&status.container_statuses));
    all.into_iter().find_map(|container| {
        let waiting = container.state?.waiting?;
        let reason = waiting.reason.filter(|reason| TROUBLES.contains(&reason.as_str()))?;
        Some(match waiting.message {
            Some(message) => format!("{reason}: {message}"),
            None => reason,
        })
    })
}

/// All pods of all jobs, by the uid of the job's resource.
#[derive(Default)]
pub(crate) struct PodStore {
    jobs: Mutex<BTreeMap<String, watch::Sender<Pods>>>,
    /// What a list that is under way has shown so far.
    listed: Mutex<Option<BTreeMap<String, BTreeMap<String, PodFacts>>>>,
}

impl PodStore {
    /// The pods of a job, now and from now on.
    pub(crate) fn subscribe(&self, uid: &str) -> watch::Receiver<Pods> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.entry(uid.to_owned()).or_default().subscribe()
    }

    /// Drops what nobody asks for any more.
    pub(crate) fn forget(&self, uid: &str) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Takes an event of the watch of one scope.
    pub(crate) fn apply(&self, event: &Event<Pod>) {
        match event {
            Event::Init => *self.listing() = Some(BTreeMap::new()),
            Event::InitApply(pod) => {
                if let (Some((uid, facts)), Some(listed)) =
                    (PodFacts::of(pod), self.listing().as_mut())
                {
                    listed.entry(uid).or_default().insert(facts.name.clone(), facts);
                }
            }
            Event::InitDone => {
                let listed = self.listing().take();
                self.replace(listed.unwrap_or_default());
            }
            Event::Apply(pod) => self.change(pod, |pods, facts| {
                pods.insert(facts.name.clone(), facts);
            }),
            Event::Delete(pod) => self.change(pod, |pods, facts| {
                pods.remove(&facts.name);
            }),
        }
    }

    fn listing(
        &self,
    ) -> std::sync::MutexGuard<'_, Option<BTreeMap<String, BTreeMap<String, PodFacts>>>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, mut listed: BTreeMap<String, BTreeMap<String, PodFacts>>) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        for (uid, sender) in jobs.iter() {
            publish(sender, listed.remove(uid).unwrap_or_default());
        }
        for (uid, pods) in listed {
            jobs.insert(uid, watch::Sender::new(Arc::new(pods)));
        }
    }

    fn change(&self, pod: &Pod, how: impl Fn(&mut BTreeMap<String, PodFacts>, PodFacts)) {
        let Some((uid, facts)) = PodFacts::of(pod) else { return };
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = jobs.entry(uid).or_default();
        let mut pods = BTreeMap::clone(&sender.borrow());
        how(&mut pods, facts);
        publish(sender, pods);
    }
}

fn publish(sender: &watch::Sender<Pods>, pods: BTreeMap<String, PodFacts>) {
    sender.send_if_modified(|shown| {
        let differs = **shown != pods;
        if differs {
            *shown = Arc::new(pods);
        }
        differs
    });
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, status: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {
                "weir.dev/job-uid": "job", "weir.dev/ordinal": "2",
                "weir.dev/incarnation": "2-ab", "weir.dev/template": "t",
            }},
            "status": status,
        }))
        .unwrap()
    }

    fn facts(status: Value) -> PodFacts {
        PodFacts::of(&pod("p", status)).unwrap().1
    }

    fn ended(code: i32, reason: &str) -> Option<Exit> {
        let state = json!({"terminated": {"exitCode": code, "reason": reason}});
        let container = json!({
            "name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": state,
        });
        facts(json!({"phase": "Failed", "containerStatuses": [container]})).end
    }

    #[test]
    fn ends_from_outside_are_not_faults() {
        for (code, is_fault) in
            [(0, false), (3, false), (137, false), (143, false), (1, true), (134, true)]
        {
            let end = ended(code, "Error").unwrap();
            assert_eq!(matches!(end, Exit::Fault(_)), is_fault, "{end:?}");
        }
        assert!(matches!(ended(137, "OOMKilled"), Some(Exit::Lost(_))));
        let evicted = facts(json!({"phase": "Failed", "reason": "Evicted", "message": "disk"})).end;
        assert_eq!(evicted, Some(Exit::Lost("pod p: Evicted: disk".to_owned())));
    }

    #[test]
    fn containers_beside_the_worker_are_told_from_it() {
        let status = |name: &str, state: Value| {
            json!({
                "name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": state,
            })
        };
        let over = |code: i32| json!({"terminated": {"exitCode": code, "reason": "Error"}});
        let runs = || json!({"running": {}});
        let both = |logs: Value, worker: Value| {
            facts(json!({"phase": "Running", "containerStatuses": [
                status("logs", logs), status("worker", worker),
            ]}))
        };
        assert!(matches!(both(runs(), over(1)).end, Some(Exit::Fault(_))), "the pod runs on");
        assert_eq!(both(over(1), runs()).end, None, "the worker does not need it");
        let waits = json!({"waiting": {"reason": "ImagePullBackOff"}});
        assert_eq!(both(waits, runs()).trouble.as_deref(), Some("ImagePullBackOff"));
        let before = facts(json!({"phase": "Failed",
            "initContainerStatuses": [status("first", over(0)), status("second", over(7))],
            "containerStatuses": [status("worker", json!({"waiting": {"reason": "PodInitializing"}}))],
        }));
        let why = "pod p: its container second ended with exit code 7";
        assert_eq!(before.end, Some(Exit::Fault(why.to_owned())));
    }

    #[test]
    fn what_keeps_a_pod_from_starting_is_told() {
        let status = json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes"},
        ]});
        assert_eq!(facts(status).trouble.as_deref(), Some("it cannot be scheduled: 0/1 nodes"));
        let waiting = |reason: &str| {
            facts(json!({"phase": "Pending", "containerStatuses": [{
                "name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason}},
            }]}))
            .trouble
        };
        assert_eq!(waiting("ImagePullBackOff").as_deref(), Some("ImagePullBackOff"));
        assert_eq!(waiting("ContainerCreating"), None);
    }

    #[test]
    fn a_job_sees_its_pods_come_and_go_and_a_new_list_drops_what_it_lacks() {
        let store = PodStore::default();
        let seen = store.subscribe("job");
        let ready =
            json!({"podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}]});
        store.apply(&Event::Apply(pod("a", ready)));
        store.apply(&Event::Apply(pod("b", json!({"podIP": "fd00::1"}))));
        let pods = Arc::clone(&seen.borrow());
        assert_eq!(pods["a"].address.as_deref(), Some("10.0.0.7:7410"));
        assert_eq!(pods["b"].address.as_deref(), Some("[fd00::1]:7410"));
        assert!(pods["a"].is_ready && !pods["b"].is_ready);
        store.apply(&Event::Delete(pod("a", json!({}))));
        assert!(!seen.borrow().contains_key("a"));
        store.apply(&Event::Init);
        store.apply(&Event::InitApply(pod("c", json!({}))));
        assert!(seen.borrow().contains_key("b"), "the list is not over");
        store.apply(&Event::InitDone);
        assert_eq!(seen.borrow().keys().collect::<Vec<_>>(), ["c"]);
    }
}
