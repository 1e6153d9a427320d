//! The task of one job: observes, plans, acts, and shows what it sees, in a loop that wakes when its
//! resource, its pods or its coordinator change, or something falls due.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use weir_crds::{StatefulJob, StatefulJobStatus};
use weir_engine::coordinator::status::Phase as Course;
use weir_runtime::clock::{self, Instant};

use super::conditions::holds;
use super::declared::{Declared, version};
use super::events::Events;
use super::keeper::Keeper;
use super::meters::JobMeter;
use super::names;
use super::plan::{self, Action, Deletion, End, Fit, Observed, Runner as Shown, Wish};
use super::pods::Pods;
use super::runner::{self, Ground, Runner};
use super::serving::Labels;
use super::snapshots::Snapshots;
use super::status::{self, Seen};
use super::{api, cluster};
use crate::cli::ProcessRole;

/// Numbers in a status are written no more often than this.
const STATUS_EVERY: Duration = Duration::from_secs(30);
/// How long a coordinator that takes over what ran before may be busy with it until that is shown.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// How long the deletion of a job's state may take before the resource is let go without it.
const DELETION_MAX_SECONDS: i64 = 300;
/// Pauses after something that failed: the first, and the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What a job's task works with.
pub(crate) struct JobTask {
    ground: Ground,
    events: Events,
    meter: JobMeter,
    declared: watch::Receiver<Arc<Declared>>,
    pods: watch::Receiver<Pods>,
    keeper: Keeper,
    runner: Option<Runner>,
    started: Instant,
    fit: Option<Fit>,
    is_clean: bool,
    /// What the API server has, as far as this task knows.
    status: StatefulJobStatus,
    /// The version of the resource that it was seen in.
    status_version: u64,
    written: Option<Instant>,
    retry: Retry,
    /// Since when a change is under way.
    changing: Option<Instant>,
    /// Since when the job recovers.
    recovering: Option<Instant>,
    /// The last wish at which the job was ready: what is missing since was not asked for.
    reached: Option<Wish>,
    labels: Labels,
    /// What the last act came up against.
    obstacle: Option<String>,
    /// The running generation of workers, and its first checkpoint number.
    began: Option<(u64, u64)>,
    checkpoint: Option<(u64, Timestamp)>,
}

/// The pause after something that failed.
pub(crate) struct Retry {
    pause: Duration,
    until: Option<Instant>,
}

impl Retry {
    pub(crate) fn new() -> Self {
        Self { pause: PAUSE_FIRST, until: None }
    }

    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    pub(crate) fn begin(&mut self, now: Instant) {
        self.until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }
}

impl JobTask {
    pub(crate) fn new(
        ground: Ground,
        events: Events,
        declared: watch::Receiver<Arc<Declared>>,
        pods: watch::Receiver<Pods>,
        snapshots: watch::Receiver<Snapshots>,
    ) -> Self {
        let (status, status_version, wish, meter) = {
            let first = declared.borrow();
            let meter = ground.meters.job(&first.namespace, &first.name);
            meter.show(&first.status, None);
            (first.status.clone(), first.resource_version, first.wish.clone(), meter)
        };
        let reached = Some(wish).filter(|wish| {
            let restart = status.acknowledged.as_ref().and_then(|done| done.restart.as_ref());
            let is_same = status.observed_generation == wish.generation;
            is_same && restart == wish.restart.as_ref() && status::is_ready(&status)
        });
        let keeper = Keeper::new(ground.clone(), events.clone(), snapshots);
        Self {
            ground,
            events,
            meter,
            declared,
            pods,
            keeper,
            runner: None,
            started: clock::now(),
            fit: None,
            is_clean: false,
            status,
            status_version,
            written: None,
            retry: Retry::new(),
            changing: None,
            recovering: None,
            reached,
            labels: Labels::default(),
            obstacle: None,
            began: None,
            checkpoint: None,
        }
    }

    /// Until it is aborted: the resource is gone, or another operator's.
    pub(crate) async fn run(mut self) {
        loop {
            let declared = Arc::clone(&self.declared.borrow_and_update());
            self.follow(&declared);
            self.ground.meters.reconciled();
            let seen = self.observe(&declared);
            let actions = plan::plan(&seen);
            let acted = !actions.is_empty();
            if actions.iter().any(Action::takes_time) {
                self.show(&declared, &seen).await;
            }
            for action in actions {
                self.act(&declared, action).await;
            }
            let seen = if acted { self.observe(&declared) } else { seen };
            self.label(&declared, &seen).await;
            self.show(&declared, &seen).await;
            let acted = self.keeper.keep(&declared, &seen, self.runner.as_ref()).await || acted;
            if !acted {
                self.wait().await;
            }
        }
    }

    /// What is live in a coordinator, and what another wish makes worth another attempt.
    fn follow(&mut self, declared: &Declared) {
        if declared.resource_version >= self.status_version {
            self.status.clone_from(&declared.status);
            self.status_version = declared.resource_version;
        }
        if self.status.observed_generation != declared.wish.generation {
            self.retry.reset();
        }
        if let (Some(runner), Ok(job)) = (&mut self.runner, &declared.job) {
            runner.follow(declared, &job.template);
        }
    }

    fn observe(&mut self, declared: &Declared) -> Observed {
        let pods = Arc::clone(&self.pods.borrow_and_update());
        let runner = self.runner.as_ref().map_or(Shown::None, Runner::observe);
        let now = clock::now();
        let rests = matches!(
            &runner,
            Shown::Over { end: End::Refused(_) | End::Elsewhere(_) | End::Fenced(_), .. }
        );
        if rests && self.retry.until.is_none() {
            self.retry.begin(now);
        }
        let is_late = |at: i64| clock::wall_ms() / 1_000 >= at + DELETION_MAX_SECONDS;
        let deletion = declared
            .deleted_at
            .map(|at| Deletion { is_clean: self.is_clean, is_late: is_late(at) });
        Observed {
            wish: declared.wish.clone(),
            asked: declared.asked.clone(),
            deletion,
            has_finalizer: declared.has_finalizer,
            policy: declared.policy,
            suspend: declared.suspend,
            wanted: declared.job.as_ref().map(|job| job.wanted).map_err(Clone::clone),
            pods: pods.values().filter(|pod| !pod.is_ending && pod.end.is_none()).count(),
            has_pods: !pods.is_empty(),
            runner,
            fit: self.fit.clone(),
            may_retry: self.retry.is_over(now),
        }
    }

    async fn act(&mut self, declared: &Declared, action: Action) {
        tracing::info!(job = declared.name, namespace = declared.namespace, "{action:?}");
        let now = clock::now();
        let done = match action {
            Action::AddFinalizer => self.finalizer(declared, true).await,
            Action::RemoveFinalizer => self.finalizer(declared, false).await,
            Action::Start { suspend } => {
                if let Ok(job) = &declared.job {
                    let pods = self.pods.clone();
                    self.runner = Some(Runner::start(&self.ground, declared, job, pods, suspend));
                    self.started = clock::now();
                    self.fit = None;
                    self.retry.until = None;
                }
                Ok(())
            }
            Action::Drop => {
                self.runner = None;
                Ok(())
            }
            Action::Retarget(target) => {
                self.runner.iter_mut().for_each(|runner| runner.retarget(target));
                Ok(())
            }
            Action::Suspend => {
                self.runner.iter_mut().for_each(Runner::suspend);
                Ok(())
            }
            Action::CheckFit => {
                self.check_fit(declared).await;
                Ok(())
            }
            Action::DeletePods => self.delete_pods(declared).await,
            Action::DeleteState => self.delete_state(declared).await,
        };
        self.obstacle = done.err();
        if let Some(why) = &self.obstacle {
            tracing::warn!(job = declared.name, namespace = declared.namespace, "{why}");
            self.ground.meters.reconcile_failed();
            self.retry.begin(now);
            // Whatever failed, it is not tried at once.
            clock::sleep(PAUSE_FIRST).await;
        }
    }

    async fn check_fit(&mut self, declared: &Declared) {
        let Ok(job) = &declared.job else { return };
        let found = runner::fits(&self.ground, declared, job).await;
        if found.is_err() {
            self.retry.begin(clock::now());
        }
        self.fit = Some(Fit { form: job.wanted.form, found });
    }

    async fn finalizer(&mut self, declared: &Declared, wanted: bool) -> Result<(), String> {
        if !wanted && declared.deleted_at.is_some() && !self.is_clean {
            self.events.warn(declared, "StateKept", &left_behind(declared)).await;
        }
        let patch = finalizer_patch(declared, wanted);
        let jobs = api::jobs_in(&self.ground.client, &declared.namespace);
        match api::apply(&jobs, &declared.name, names::FINALIZER_MANAGER, &patch).await {
            Ok(true) => {
                // The next look is at the resource as it is then.
                let _ = clock::timeout(PAUSE_FIRST, self.declared.changed()).await;
                self.declared.mark_changed();
                Ok(())
            }
            Ok(false) => {
                clock::sleep(PAUSE_FIRST).await;
                Ok(())
            }
            Err(error) => Err(format!("cannot change the finalizer: {error}")),
        }
    }

    async fn delete_pods(&mut self, declared: &Declared) -> Result<(), String> {
        let pods: Api<Pod> = Api::namespaced(self.ground.client.clone(), &declared.namespace);
        let seen = Arc::clone(&self.pods.borrow());
        for pod in seen.values().filter(|pod| !pod.is_ending) {
            let deleted = cluster::delete(&pods, pod).await;
            deleted.map_err(|error| format!("cannot delete pod {}: {error}", pod.name))?;
        }
        // The watch shows it in a moment.
        let _ = clock::timeout(PAUSE_FIRST, self.pods.changed()).await;
        Ok(())
    }

    async fn delete_state(&mut self, declared: &Declared) -> Result<(), String> {
        let Some(state) = &declared.state else {
            return Err("spec.state says nothing that can be understood".to_owned());
        };
        runner::delete_state(&self.ground, declared, state).await?;
        self.is_clean = true;
        Ok(())
    }

    /// Says of each pod whether it takes part: what `status.selector` selects.
    async fn label(&mut self, declared: &Declared, seen: &Observed) {
        if let Shown::Live(live) = &seen.runner
            && let Ok(status) = &live.shows
            && matches!(status.phase, Course::Running | Course::Rescaling)
        {
            let pods = Arc::clone(&self.pods.borrow());
            let api = Api::namespaced(self.ground.client.clone(), &declared.namespace);
            self.labels.apply(&api, &pods, &status.serving).await;
        }
    }

    async fn show(&mut self, declared: &Declared, seen: &Observed) {
        if self.is_settling(seen) {
            return;
        }
        let more = self.look(declared, seen);
        let now = super::now();
        let shown = status::status(seen, &more, &self.status, now);
        if status::is_ready(&shown) {
            self.reached = Some(seen.wish.clone());
        }
        let course = match &seen.runner {
            Shown::Live(live) => live.shows.as_deref().ok(),
            Shown::None | Shown::Over { .. } => None,
        };
        self.meter.show(&shown, course);
        if shown == self.status {
            return;
        }
        let is_transition = status::is_transition(&self.status, &shown);
        // Who reads a finished job's summary anew counts requests of his own; that is no news.
        let is_over = matches!(seen.runner, Shown::Over { end: End::Finished(_), .. });
        if is_over && !is_transition {
            return;
        }
        let is_due = self.written.is_none_or(|at| clock::now() >= at + STATUS_EVERY);
        if is_transition || is_due {
            self.write(declared, shown).await;
        }
    }

    /// Whether what is shown already will most likely be right again in a moment: an operator that
    /// starts has nothing to tell of a job that goes on, nor another look at one that stays refused.
    fn is_settling(&self, seen: &Observed) -> bool {
        let is_busy = match &seen.runner {
            Shown::Live(live) => match &live.shows {
                Ok(status) => matches!(status.phase, Course::Starting | Course::Adopting),
                Err(_) => true,
            },
            Shown::None | Shown::Over { .. } => false,
        };
        let is_stalled = holds(&self.status.conditions, "Stalled");
        let phases = [weir_crds::Phase::Running, weir_crds::Phase::Finished];
        let is_at_rest = self.status.phase.is_some_and(|phase| phases.contains(&phase));
        let is_told =
            self.status.observed_generation == seen.wish.generation && (is_at_rest || is_stalled);
        is_busy && is_told && clock::now() < self.started + SETTLE_MAX
    }

    /// What the status shows beside what the plan sees.
    fn look(&mut self, declared: &Declared, seen: &Observed) -> Seen {
        let pods = Arc::clone(&self.pods.borrow());
        // What there is to say of compactors is a condition of its own.
        let workers = || pods.values().filter(|pod| pod.role == ProcessRole::Worker);
        let living = || workers().filter(|pod| pod.end.is_none() && !pod.is_ending);
        let form = declared.job.as_ref().ok().map(|job| &job.template.hash);
        let outdated = living().filter(|pod| form.is_some_and(|form| pod.template != *form));
        let shows = match &seen.runner {
            Shown::Live(live) => live.shows.as_ref().ok(),
            _ => None,
        };
        if let Some(status) = shows {
            let (generation, last) = (status.generation.0, status.checkpoint.0);
            if status.phase == Course::Running && self.began.is_none_or(|its| its.0 != generation) {
                // Taken over as it was shown: no checkpoint may come if nothing changes any more.
                let is_known =
                    self.status.generation == Some(generation) && status::is_ready(&self.status);
                self.began = Some((generation, if is_known { 0 } else { last }));
            }
            if last > 0 && self.checkpoint.is_none_or(|its| its.0 != last) {
                let now = super::now();
                let is_known =
                    self.status.last_checkpoint.as_ref().is_some_and(|its| its.id == last);
                self.checkpoint = (!is_known).then_some((last, now));
            }
        }
        let has_checkpoint = match (shows, self.began) {
            (Some(status), Some((generation, first))) => {
                status.generation.0 == generation && status.checkpoint.0 > first
            }
            _ => false,
        };
        let mut more = Seen {
            job: declared.name.clone(),
            outdated: outdated.count(),
            trouble: living().find_map(|pod| {
                let trouble = pod.trouble.as_ref()?;
                Some(format!("pod {}: {trouble}", pod.name))
            }),
            obstacle: self.obstacle.clone(),
            is_late: false,
            is_reached: self.reached.as_ref() == Some(&seen.wish),
            is_recovering_briefly: false,
            has_checkpoint,
            checkpoint_seen: self.checkpoint,
        };
        more.is_recovering_briefly = self.is_recovering_briefly(declared, seen, &more);
        more.is_late = self.is_late(seen, &more);
        more
    }

    /// Whether the job recovers, and not for so long that it is not ready any more.
    fn is_recovering_briefly(&mut self, declared: &Declared, seen: &Observed, more: &Seen) -> bool {
        if !status::is_recovering(seen, more) {
            self.recovering = None;
            return false;
        }
        let since = *self.recovering.get_or_insert_with(clock::now);
        clock::now() < since + declared.ready_after
    }

    /// Whether what is under way takes longer than it may.
    fn is_late(&mut self, seen: &Observed, more: &Seen) -> bool {
        if !status::is_under_way(seen, more) {
            self.changing = None;
            return false;
        }
        let since = *self.changing.get_or_insert_with(clock::now);
        clock::now() >= since + self.change_max()
    }

    async fn write(&mut self, declared: &Declared, shown: StatefulJobStatus) {
        let patch = api::status_patch::<StatefulJob>(&declared.uid, &shown);
        let parameters = PatchParams::apply(names::STATUS_MANAGER).force();
        let jobs = api::jobs_in(&self.ground.client, &declared.namespace);
        let before = self.status.phase;
        let patched = jobs.patch_status(&declared.name, &parameters, &Patch::Apply(&patch)).await;
        self.written = Some(clock::now());
        match patched {
            Ok(object) => {
                let object: DynamicObject = object;
                self.status_version = version(object.metadata.resource_version.as_deref());
                if before != shown.phase {
                    self.events.phase(declared, &shown).await;
                }
                self.status = shown;
            }
            Err(error) if api::is_gone(&error) => {}
            Err(error) => {
                tracing::warn!(job = declared.name, "cannot write the status: {error}");
                self.ground.meters.reconcile_failed();
                clock::sleep(PAUSE_FIRST).await;
            }
        }
    }

    fn change_max(&self) -> Duration {
        self.declared.borrow().change_max
    }

    async fn wait(&mut self) {
        let retry = self.retry.until;
        let late = self.changing.map(|since| since + self.change_max());
        let unready = self.recovering.map(|since| since + self.declared.borrow().ready_after);
        let shown = match &self.runner {
            // Numbers that were held back.
            Some(_) => self.written.map(|at| at + STATUS_EVERY),
            None => None,
        };
        let deletion = self.declared.borrow().deleted_at.map(|_| clock::now() + PAUSE_MAX);
        let settled = Some(self.started + SETTLE_MAX);
        let kept = self.keeper.due();
        let due = [retry, late, unready, shown, deletion, settled, kept];
        let due = due.into_iter().flatten().filter(|due| *due > clock::now()).min();
        let runner = async {
            match &mut self.runner {
                Some(runner) => runner.changed().await,
                None => std::future::pending().await,
            }
        };
        let is_over = tokio::select! {
            changed = self.declared.changed() => changed.is_err(),
            changed = self.pods.changed() => changed.is_err(),
            () = self.keeper.changed() => false,
            () = runner => false,
            () = clock::sleep_until_some(due) => false,
        };
        if is_over {
            // Whoever dropped the channel aborts this task next.
            std::future::pending().await
        }
    }
}

/// A job with its finalizer, or without.
pub(super) fn finalizer_patch(declared: &Declared, wanted: bool) -> Value {
    let finalizers = if wanted { vec![names::FINALIZER] } else { Vec::new() };
    api::metadata_patch::<StatefulJob>(&declared.uid, json!({"finalizers": finalizers}))
}

/// What to do about state that is left when a resource had to be let go.
fn left_behind(declared: &Declared) -> String {
    match &declared.state {
        Some(state) if declared.policy == weir_crds::DeletionPolicy::Delete => {
            format!("the state is still there; delete it by hand: {}", state.uri)
        }
        Some(state) => format!("the state is kept; weir state gc {} tidies it", state.uri),
        None => "the state, if there is any, was not deleted".to_owned(),
    }
}
