//! A job's part in its snapshots: tells its coordinator what is wished, attends to each, and makes and
//! prunes those of its schedule.

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::sync::watch;
use weir_engine::coordinator::status::Phase;
use weir_runtime::clock::{self, Instant};

use super::api;
use super::declared::Declared;
use super::events::Events;
use super::names;
use super::plan::{End, Observed, Runner as Shown};
use super::runner::{Ground, Runner};
use super::snapshots::Snapshots;
use super::snapshots::attend::{Attention, Whose, snapshots_in};
use super::snapshots::timed::{self, Timed};

/// Snapshots of one job.
pub(crate) struct Keeper {
    ground: Ground,
    attention: Attention,
    snapshots: watch::Receiver<Snapshots>,
    /// The minute of the last one that this task made, whatever became of it.
    made: Option<DateTime<Utc>>,
    /// When the schedule is to be looked at.
    next: Option<Instant>,
}

impl Keeper {
    pub(crate) fn new(
        ground: Ground,
        events: Events,
        snapshots: watch::Receiver<Snapshots>,
    ) -> Self {
        let attention = Attention::new(ground.clone(), events);
        Self { ground, attention, snapshots, made: None, next: None }
    }

    /// When something is due by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.next.into_iter().chain(self.attention.retry_at()).min()
    }

    /// Waits until a snapshot's resource is another one. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.snapshots.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Does what is to be done; whether anything was.
    pub(crate) async fn keep(
        &mut self,
        declared: &Declared,
        seen: &Observed,
        runner: Option<&Runner>,
    ) -> bool {
        let all = Snapshots::clone(&self.snapshots.borrow_and_update());
        self.attention.forget_others(&all);
        let whose = whose(seen);
        let bound = || declared.job.as_ref().ok().map(|job| job.state.clone());
        let mut acted = false;
        for snapshot in all.values() {
            acted |= self.attention.attend(snapshot, whose, bound()).await;
        }
        if let Some(runner) = runner {
            runner.wish(self.attention.wishes(&all));
        }
        self.next = None;
        if let (Ok(job), Whose::Runs(status)) = (&declared.job, whose)
            && let Some(timed) = &job.timed
            && status.phase == Phase::Running
        {
            let is_kept = |name: &str| status.snapshots.contains_key(name);
            self.keep_time(declared, timed, &all, is_kept).await;
        }
        if acted {
            // The watch shows what was changed.
            let pause = std::time::Duration::from_secs(1);
            let _ = clock::timeout(pause, self.snapshots.changed()).await;
            self.snapshots.mark_changed();
        }
        acted
    }

    async fn keep_time(
        &mut self,
        declared: &Declared,
        timed: &Timed,
        all: &Snapshots,
        is_kept: impl Fn(&str) -> bool,
    ) {
        let now = DateTime::from_timestamp_millis(clock::wall_ms()).unwrap_or_default();
        let since = self.made.unwrap_or(declared.created_at);
        if let Some(minute) = timed::due(timed, all, since, now) {
            match self.make(declared, &timed::name(&declared.name, minute)).await {
                Ok(()) => self.made = Some(minute),
                Err(error) => {
                    tracing::warn!(job = declared.name, "no snapshot by schedule: {error}");
                    self.next = Some(clock::now() + RETRY);
                    return;
                }
            }
        }
        for name in timed::outdated(timed, all, |its| is_kept(&its.in_journal())) {
            let Some(snapshot) = all.get(&name) else { continue };
            let snapshots = snapshots_in(&self.ground.client, &declared.namespace);
            if let Err(error) = snapshots.delete(&name, &api::delete_only(&snapshot.uid)).await {
                tracing::warn!(snapshot = name, "an old snapshot stays for now: {error}");
            }
        }
        let next = timed.schedule.next(now).and_then(|next| (next - now).to_std().ok());
        self.next = next.map(|wait| clock::now() + wait);
    }

    /// Makes a snapshot's resource; one that is there is no error.
    async fn make(&self, declared: &Declared, name: &str) -> Result<(), kube::Error> {
        let object = serde_json::from_value(json!({
            "apiVersion": "weir.dev/v1alpha1",
            "kind": "JobSnapshot",
            "metadata": {
                "name": name,
                "labels": {
                    names::MANAGED_BY.0: names::MANAGED_BY.1, names::SCHEDULE: declared.name,
                },
            },
            "spec": {"jobRef": {"name": declared.name}, "deletionPolicy": "Delete"},
        }));
        let object = object.map_err(kube::Error::SerdeError)?;
        let api = snapshots_in(&self.ground.client, &declared.namespace);
        match api.create(&api::by_us(), &object).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// How soon a snapshot by schedule that could not be made is tried again.
const RETRY: std::time::Duration = std::time::Duration::from_secs(10);

/// Who writes the job's journal now.
fn whose(seen: &Observed) -> Whose<'_> {
    match &seen.runner {
        _ if seen.deletion.is_some() => Whose::Unsettled,
        Shown::Live(live) => match &live.shows {
            Ok(status) => Whose::Runs(status),
            Err(_) => Whose::Unsettled,
        },
        Shown::Over { end: End::Finished(_), .. } => Whose::Still,
        Shown::Over { end: End::Failed(_), .. } => Whose::Failed,
        Shown::Over { end: End::Suspended, .. } | Shown::None if seen.suspend && seen.pods == 0 => {
            Whose::Still
        }
        Shown::None | Shown::Over { .. } => Whose::Unsettled,
    }
}
