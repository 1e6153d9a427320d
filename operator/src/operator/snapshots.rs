//! `JobSnapshot` resources: what each says, who attends to it, and what it needs next.
//!
//! The task of the job attends to the snapshots of its job, since its coordinator writes the journal;
//! those whose job is gone have a task of their own. Where a snapshot lies is written into an annotation
//! before anything is recorded there, so it is known when the job is gone.
//!
//! - `snapshots/plan.rs` — what a snapshot needs next. Pure. `snapshots/shown.rs` — its status. Pure.
//! - `snapshots/attend.rs` — does it. `snapshots/timed.rs` — those of a schedule. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use weir_crds::{DeletionPolicy, JobSnapshotStatus};
use weir_engine::coordinator::snapshots::Wish;

use super::declared::{State, version};
use super::names;

pub(crate) mod attend;
mod plan;
mod shown;
pub(crate) mod timed;

/// Characters of a resource's name that stand in the snapshot's name in the journal.
const NAME_CHARS_MAX: usize = 100;
/// Characters of its uid.
const UID_CHARS: usize = 8;

/// A snapshot's resource.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) resource_version: u64,
    pub(crate) job: String,
    pub(crate) policy: DeletionPolicy,
    /// When its deletion was asked for, in seconds since 1970.
    pub(crate) deleted_at: Option<i64>,
    pub(crate) has_finalizer: bool,
    /// Where it lies: the annotation's content.
    pub(crate) bound: Option<State>,
    /// A schedule of the job made it.
    pub(crate) is_timed: bool,
    pub(crate) status: JobSnapshotStatus,
}

impl Snapshot {
    /// Of a resource as the API server has it; none without a name, a namespace, a uid and a job.
    pub(crate) fn of(object: &DynamicObject) -> Option<Self> {
        let metadata = &object.metadata;
        let spec = object.data.get("spec")?;
        let policy = spec.get("deletionPolicy").cloned();
        let policy = policy.and_then(|policy| serde_json::from_value(policy).ok());
        let job = spec.get("jobRef")?.get("name")?.as_str()?.to_owned();
        let annotation = metadata.annotations.as_ref().and_then(|all| all.get(names::BOUND));
        let label = metadata.labels.as_ref().and_then(|all| all.get(names::SCHEDULE));
        let status = object.data.get("status").cloned().unwrap_or_default();
        Some(Self {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            generation: metadata.generation.unwrap_or_default(),
            resource_version: version(metadata.resource_version.as_deref()),
            policy: policy.unwrap_or(DeletionPolicy::Delete),
            deleted_at: metadata.deletion_timestamp.as_ref().map(|time| time.0.as_second()),
            has_finalizer: metadata
                .finalizers
                .iter()
                .flatten()
                .any(|name| name == names::SNAPSHOT_FINALIZER),
            bound: annotation.and_then(|text| serde_json::from_str(text).ok()),
            is_timed: label == Some(&job),
            status: serde_json::from_value(status).unwrap_or_default(),
            job,
        })
    }

    /// Its name in the journal; another resource of the same name has another one.
    pub(crate) fn in_journal(&self) -> String {
        let plain: String = self.name.chars().take(NAME_CHARS_MAX).collect();
        let uid: String = self.uid.chars().filter(|c| *c != '-').take(UID_CHARS).collect();
        format!("{plain}-{uid}")
    }

    /// What is wished of it in the journal.
    pub(crate) fn wish(&self) -> Option<(String, Wish)> {
        let wish = match (self.deleted_at, self.policy) {
            (Some(_), DeletionPolicy::Delete) => Wish::Drop,
            (Some(_), DeletionPolicy::Retain) => return None,
            (None, _) => Wish::Keep,
        };
        self.bound.as_ref().map(|_| (self.in_journal(), wish))
    }
}

/// Snapshots of one job, by name.
pub(crate) type Snapshots = Arc<BTreeMap<String, Snapshot>>;

/// The snapshots of a scope as they are watched, with a channel for each job.
#[derive(Default)]
pub(crate) struct SnapshotStore(Mutex<Stored>);

#[derive(Default)]
struct Stored {
    jobs: BTreeMap<(String, String), watch::Sender<Snapshots>>,
    /// Uids in the list that is being read.
    listed: BTreeSet<String>,
}

impl SnapshotStore {
    /// The snapshots of a job, now and later; it need not be there.
    pub(crate) fn subscribe(&self, namespace: &str, job: &str) -> watch::Receiver<Snapshots> {
        let mut stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stored.of(namespace, job).subscribe()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Snapshot> {
        let stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_job = |its: &watch::Sender<Snapshots>| its.borrow().values().cloned().collect();
        stored.jobs.values().flat_map(|its| -> Vec<Snapshot> { of_job(its) }).collect()
    }

    pub(crate) fn apply(&self, event: &Event<DynamicObject>) {
        let mut stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => stored.listed.clear(),
            Event::InitApply(object) | Event::Apply(object) => {
                if let Some(snapshot) = Snapshot::of(object) {
                    stored.listed.insert(snapshot.uid.clone());
                    stored.put(snapshot);
                }
            }
            Event::Delete(object) => {
                if let Some(snapshot) = Snapshot::of(object) {
                    stored.retain(|its| its.uid != snapshot.uid);
                }
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut stored.listed);
                stored.retain(|its| listed.contains(&its.uid));
            }
        }
    }
}

impl Stored {
    fn of(&mut self, namespace: &str, job: &str) -> &watch::Sender<Snapshots> {
        let key = (namespace.to_owned(), job.to_owned());
        self.jobs.entry(key).or_insert_with(|| watch::channel(Snapshots::default()).0)
    }

    fn put(&mut self, snapshot: Snapshot) {
        self.of(&snapshot.namespace, &snapshot.job).send_if_modified(|all| {
            let differs = all.get(&snapshot.name) != Some(&snapshot);
            if differs {
                Arc::make_mut(all).insert(snapshot.name.clone(), snapshot.clone());
            }
            differs
        });
    }

    fn retain(&self, stays: impl Fn(&Snapshot) -> bool) {
        for job in self.jobs.values() {
            job.send_if_modified(|all| {
                let goes = all.values().any(|its| !stays(its));
                if goes {
                    Arc::make_mut(all).retain(|_, its| stays(its));
                }
                goes
            });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn object(name: &str, uid: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "n", "uid": uid, "resourceVersion": "17", "generation": 1,
                "labels": {"weir.dev/schedule": "flights"},
                "annotations": {"weir.dev/bound": "{\"uri\":\"s3://b/state\"}"},
                "finalizers": ["weir.dev/snapshot"],
            },
            "spec": {"jobRef": {"name": "flights"}, "deletionPolicy": "Retain"},
        }))
        .unwrap()
    }

    #[test]
    fn a_resource_says_of_what_it_is_and_where() {
        let read = Snapshot::of(&object("monday", "12345678-90ab")).unwrap();
        assert_eq!(read.job, "flights");
        assert_eq!(read.bound.as_ref().unwrap().uri, "s3://b/state");
        assert!(read.is_timed && read.has_finalizer);
        assert_eq!(read.policy, DeletionPolicy::Retain);
        assert_eq!(read.in_journal(), "monday-12345678");
        assert_eq!(read.wish(), Some(("monday-12345678".to_owned(), Wish::Keep)));
        let deleted = Snapshot { deleted_at: Some(1), ..read.clone() };
        assert_eq!(deleted.wish(), None, "what it holds is kept");
        let dropped = Snapshot { policy: DeletionPolicy::Delete, ..deleted };
        assert_eq!(dropped.wish(), Some(("monday-12345678".to_owned(), Wish::Drop)));
        assert_eq!(Snapshot { bound: None, ..read }.wish(), None, "nobody knows where");
    }

    #[test]
    fn a_list_forgets_what_is_not_in_it() {
        let store = SnapshotStore::default();
        let names = || store.all().into_iter().map(|its| its.name).collect::<Vec<_>>();
        store.apply(&Event::Init);
        store.apply(&Event::InitApply(object("a", "1")));
        store.apply(&Event::InitApply(object("b", "2")));
        store.apply(&Event::InitDone);
        assert_eq!(names(), ["a", "b"]);
        let mut seen = store.subscribe("n", "flights");
        store.apply(&Event::Apply(object("a", "1")));
        assert!(!seen.has_changed().unwrap(), "nothing is new");
        store.apply(&Event::Delete(object("a", "1")));
        assert_eq!(seen.borrow_and_update().len(), 1);
        store.apply(&Event::Init);
        store.apply(&Event::InitApply(object("c", "3")));
        store.apply(&Event::InitDone);
        assert_eq!(names(), ["c"]);
    }
}
