//! Does what a snapshot needs: in its job's task, or in one of its own when the job is gone.

use std::collections::BTreeMap;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use weir_crds::{DeletionPolicy, JobSnapshot, JobSnapshotStatus};
use weir_engine::coordinator::snapshots::{self as journal, Kept, SnapshotError, Wishes};
use weir_engine::coordinator::status::Status;
use weir_runtime::clock::{self, Instant};
use weir_state::journal::Root;

use super::plan::{Action, Course, Seen, plan};
use super::{Snapshot, Snapshots, shown};
use crate::exit::chain;
use crate::operator::api;
use crate::operator::declared::{State, version};
use crate::operator::events::Events;
use crate::operator::job::Retry;
use crate::operator::names;
use crate::operator::runner::{self, Ground};

/// How long the deletion of a snapshot may take before its resource is let go without it.
const DELETION_MAX_SECONDS: i64 = 300;

/// The resources of snapshots in a namespace.
pub(crate) fn snapshots_in(client: &Client, namespace: &str) -> Api<DynamicObject> {
    api::of_scope(client, Some(namespace), &resource())
}

pub(crate) fn resource() -> ApiResource {
    ApiResource::erase::<JobSnapshot>(&())
}

/// Who writes the journal of a snapshot's job.
#[derive(Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// A coordinator that shows this.
    Runs(&'a Status),
    /// Nobody.
    Still,
    /// Nobody, since it has failed.
    Failed,
    /// There is no such job.
    Gone,
    /// That is not known now.
    Unsettled,
}

/// What one task knows of the snapshots that it attends to, by uid.
pub(crate) struct Attention {
    ground: Ground,
    events: Events,
    known: BTreeMap<String, Known>,
}

struct Known {
    kept: Option<Kept>,
    /// It is of an earlier run than the present one.
    is_elsewhere: bool,
    /// The journal was looked at.
    is_known: bool,
    retry: Retry,
    trouble: Option<String>,
    /// What the API server has, as far as this task knows.
    status: JobSnapshotStatus,
    version: u64,
}

impl Attention {
    pub(crate) fn new(ground: Ground, events: Events) -> Self {
        Self { ground, events, known: BTreeMap::new() }
    }

    /// When something that failed is tried again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        let now = clock::now();
        self.known.values().filter_map(|known| known.retry.until()).filter(|at| *at > now).min()
    }

    /// Forgets snapshots that are no more.
    pub(crate) fn forget_others(&mut self, all: &Snapshots) {
        self.known.retain(|uid, _| all.values().any(|its| its.uid == *uid));
    }

    /// Does at most one thing for a snapshot of a job whose state lies at `bound`; whether it did.
    pub(crate) async fn attend(
        &mut self,
        snapshot: &Snapshot,
        whose: Whose<'_>,
        bound: Option<State>,
    ) -> bool {
        let seen = self.see(snapshot, whose);
        let Some(action) = plan(&seen) else {
            self.show(snapshot, &seen).await;
            return false;
        };
        let (name, namespace) = (&snapshot.name, &snapshot.namespace);
        tracing::info!(snapshot = name, namespace, "{action:?}");
        let done = self.act(snapshot, action, bound, &seen).await;
        let known = self.known.entry(snapshot.uid.clone()).or_insert_with(|| Known::of(snapshot));
        match done {
            Ok(()) => {
                known.trouble = None;
                known.retry.reset();
            }
            Err(why) => {
                tracing::warn!(snapshot = name, namespace, "{why}");
                known.trouble = Some(why);
                known.retry.begin(clock::now());
            }
        }
        let seen = self.see(snapshot, whose);
        self.show(snapshot, &seen).await;
        true
    }

    fn see(&mut self, snapshot: &Snapshot, whose: Whose<'_>) -> Seen {
        let known = self.known.entry(snapshot.uid.clone()).or_insert_with(|| Known::of(snapshot));
        if snapshot.resource_version >= known.version {
            known.status.clone_from(&snapshot.status);
            known.version = snapshot.resource_version;
        }
        let course = match whose {
            Whose::Runs(status) => {
                // One that has just begun shows nothing yet.
                let has_read = status.generation.0 > 0 || status.checkpoint.0 > 0;
                if has_read && !known.is_elsewhere {
                    let name = snapshot.in_journal();
                    known.kept = status.snapshots.get(&name).copied();
                    known.trouble = status.snapshots_held.get(&name).cloned();
                }
                if has_read { Course::Runs } else { Course::Unsettled }
            }
            Whose::Still => Course::Still,
            Whose::Failed => Course::Failed,
            Whose::Gone => Course::Gone,
            Whose::Unsettled => Course::Unsettled,
        };
        let is_late = |at: i64| clock::wall_ms() / 1_000 >= at + DELETION_MAX_SECONDS;
        Seen {
            is_deleted: snapshot.deleted_at.is_some(),
            is_late: snapshot.deleted_at.is_some_and(is_late),
            policy: snapshot.policy,
            has_finalizer: snapshot.has_finalizer,
            is_bound: snapshot.bound.is_some(),
            course,
            kept: known.kept,
            is_elsewhere: known.is_elsewhere,
            is_known: known.is_known,
            may_retry: known.retry.is_over(clock::now()),
        }
    }

    async fn act(
        &mut self,
        snapshot: &Snapshot,
        action: Action,
        bound: Option<State>,
        seen: &Seen,
    ) -> Result<(), String> {
        match action {
            Action::Bind => {
                let Some(bound) = snapshot.bound.clone().or(bound) else {
                    return Err(
                        "its job says nothing that can be run, so nobody knows its state".into()
                    );
                };
                self.hold(snapshot, Some(&bound), snapshot.policy == DeletionPolicy::Delete).await
            }
            Action::Look | Action::Name | Action::Drop => self.visit(snapshot, action).await,
            Action::Release => {
                if seen.is_late && seen.kept.is_some() {
                    let note = left_behind(snapshot);
                    tracing::warn!(snapshot = snapshot.name, "{note}");
                    self.events.warn_snapshot(snapshot, "StateKept", &note).await;
                }
                self.hold(snapshot, snapshot.bound.as_ref(), false).await
            }
        }
    }

    /// Does it in the journal, which nobody else writes.
    async fn visit(&mut self, snapshot: &Snapshot, action: Action) -> Result<(), String> {
        let Some(bound) = &snapshot.bound else { return Ok(()) };
        let objects = runner::objects(&self.ground, &snapshot.namespace);
        let place = runner::state_place(&*objects, bound).await;
        let root = Root::new(place.map_err(|error| chain(&error))?);
        let name = snapshot.in_journal();
        let visited = async {
            match action {
                Action::Name => drop(journal::name(&root, &name).await?),
                Action::Drop => journal::drop_snapshot(&root, &*objects, &name).await?,
                _ => {}
            }
            let found = journal::find(&root, &name).await?;
            Ok((found, root.present().await?))
        };
        let visited = visited.await;
        let (found, present) = visited.map_err(|error: SnapshotError| chain(&error))?;
        if let Some(known) = self.known.get_mut(&snapshot.uid) {
            known.is_known = true;
            known.kept = found.as_ref().map(|found| found.kept);
            known.is_elsewhere = found.is_some_and(|its| Some(its.incarnation) != present);
        }
        Ok(())
    }

    /// What the coordinator of the job is told: to keep those that are nowhere else, and to drop those
    /// that are to go.
    pub(crate) fn wishes(&self, all: &Snapshots) -> Wishes {
        let is_here = |its: &&Snapshot| {
            let known = self.known.get(&its.uid);
            known.is_some_and(|its| (its.is_known || its.kept.is_some()) && !its.is_elsewhere)
        };
        all.values().filter(is_here).filter_map(Snapshot::wish).collect()
    }

    /// Writes down where the snapshot lies, and whether its resource waits for it.
    async fn hold(
        &self,
        snapshot: &Snapshot,
        bound: Option<&State>,
        is_held: bool,
    ) -> Result<(), String> {
        let patch = hold_patch(snapshot, bound, is_held);
        let snapshots = snapshots_in(&self.ground.client, &snapshot.namespace);
        let held = api::apply(&snapshots, &snapshot.name, names::SNAPSHOT_MANAGER, &patch).await;
        held.map(|_| ()).map_err(|error| format!("cannot change the snapshot's resource: {error}"))
    }

    async fn show(&mut self, snapshot: &Snapshot, seen: &Seen) {
        let Some(known) = self.known.get_mut(&snapshot.uid) else { return };
        let is_told = known.status.observed_generation == snapshot.generation;
        let is_settled = seen.is_known || seen.kept.is_some() || known.trouble.is_some();
        if is_told && !is_settled && !seen.is_deleted {
            // What is shown already will most likely be right again in a moment.
            return;
        }
        let (trouble, now) = (known.trouble.as_deref(), crate::operator::now());
        let status = shown::status(snapshot, &known.status, seen, trouble, now);
        if status == known.status {
            return;
        }
        let patch = api::status_patch::<JobSnapshot>(&snapshot.uid, &status);
        let parameters = PatchParams::apply(names::STATUS_MANAGER).force();
        let snapshots = snapshots_in(&self.ground.client, &snapshot.namespace);
        match snapshots.patch_status(&snapshot.name, &parameters, &Patch::Apply(&patch)).await {
            Ok(object) => {
                known.version = version(object.metadata.resource_version.as_deref());
                known.status = status;
            }
            Err(error) if api::is_gone(&error) => {}
            Err(error) => {
                tracing::warn!(snapshot = snapshot.name, "cannot write the status: {error}");
                known.retry.begin(clock::now());
            }
        }
    }
}

impl Known {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            kept: None,
            is_elsewhere: false,
            is_known: false,
            retry: Retry::new(),
            trouble: None,
            status: snapshot.status.clone(),
            version: snapshot.resource_version,
        }
    }
}

/// Attends to one snapshot whose job is gone, until the task is aborted.
pub(crate) async fn keep(
    mut attention: Attention,
    mut all: watch::Receiver<Snapshots>,
    name: String,
) {
    loop {
        let snapshot = all.borrow_and_update().get(&name).cloned();
        if let Some(snapshot) = &snapshot
            && attention.attend(snapshot, Whose::Gone, None).await
            && attention.retry_at().is_none()
        {
            continue_soon(&mut all).await;
            continue;
        }
        tokio::select! {
            changed = all.changed() => if changed.is_err() { return },
            () = clock::sleep_until_some(attention.retry_at()) => {}
        }
    }
}

/// After an act the watch shows the resource as it is then; it is not waited for for ever.
async fn continue_soon(all: &mut watch::Receiver<Snapshots>) {
    let _ = clock::timeout(std::time::Duration::from_secs(2), all.changed()).await;
}

/// Where a snapshot lies, and whether its resource waits for it, as `names::SNAPSHOT_MANAGER` applies it.
pub(crate) fn hold_patch(snapshot: &Snapshot, bound: Option<&State>, is_held: bool) -> Value {
    let bound = bound.map(|bound| serde_json::to_string(bound).unwrap_or_default());
    let annotations: BTreeMap<&str, String> =
        bound.into_iter().map(|bound| (names::BOUND, bound)).collect();
    let finalizers = if is_held { vec![names::SNAPSHOT_FINALIZER] } else { Vec::new() };
    let metadata = json!({"annotations": annotations, "finalizers": finalizers});
    api::metadata_patch::<JobSnapshot>(&snapshot.uid, metadata)
}

/// What to do about a snapshot that is left when its resource had to be let go.
pub(crate) fn left_behind(snapshot: &Snapshot) -> String {
    let (name, uri) = (snapshot.in_journal(), snapshot.bound.as_ref().map(|bound| &bound.uri));
    let uri = uri.map_or("its state", String::as_str);
    format!(
        "snapshot {name} is still in {uri}; it holds its files there until that state is deleted"
    )
}
