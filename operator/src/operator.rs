//! `weir operator`: runs the jobs that a cluster's `StatefulJob` resources declare.
//!
//! - `operator/plan.rs` — what a job's resource needs next. Pure; start reading here.
//! - `operator/status.rs` — what is shown of a job: phase and conditions. Pure.
//! - `operator/declared.rs` — a resource as it was declared. `operator/template.rs` — a worker's pod. Pure.
//! - `operator/job.rs` — the task of one job: observe, plan, act, show.
//! - `operator/runner.rs` — its coordinator, the same as in `weir run`, over `operator/cluster.rs`.
//! - `operator/snapshots.rs` — snapshots; `operator/keeper.rs` — a job's part in them.
//! - `operator/pods.rs` — the one watch of pods. `operator/secrets.rs` — token and certificates;
//!   `operator/authorities.rs` — those who issue them, one after the other.
//! - `operator/lease.rs` — which jobs are this operator's. `operator/events.rs` — events.
//! - `operator/api.rs`, `operator/conditions.rs` — what jobs and snapshots ask and show alike.
//! - `operator/meters.rs` — what is counted, for `operator/probes.rs` and `operator/metrics.rs`;
//!   `operator/requests.rs` counts what the API server is asked.
//! - `operator/release.rs` — `weir release`: nobody's jobs, before the operator goes for good.
//! - `operator/turns.rs` — how many jobs begin at the same time.
//! - `operator/serving.rs` — the label of pods that take part. `operator/names.rs` — all names.
//!
//! # What must stay true
//!
//! 1. Nothing is decided from a status, and no field of a spec is ever written.
//! 2. Leases and watches are hints; the journal decides who may act.
//! 3. An operator that ends, however it ends, ends no worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DynamicObject};
use kube::client::ClientBuilder;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use weir_runtime::task::{self, Task};
use weir_runtime::{clock, random};

use self::authorities::Authorities;
use self::declared::{Declared, Defaults};
use self::events::Events;
use self::job::JobTask;
use self::lease::Leases;
use self::meters::Meters;
use self::pods::PodStore;
use self::requests::Counting;
use self::runner::Ground;
use self::secrets::Issuing;
use self::snapshots::SnapshotStore;
use self::snapshots::attend::{self, Attention};
use self::turns::Turns;
use crate::cli::OperatorArgs;
use crate::exit::{Exit, report, say};
use crate::probes as http;

mod api;
mod authorities;
mod cluster;
mod conditions;
mod declared;
mod events;
mod job;
mod keeper;
mod lease;
mod meters;
pub(crate) mod metrics;
mod names;
mod plan;
mod pods;
mod probes;
pub(crate) mod release;
mod requests;
mod runner;
mod secrets;
mod serving;
mod snapshots;
mod status;
pub(crate) mod template;
mod turns;

/// Events of jobs that were not looked at yet.
const EVENTS_MAX: usize = 1_024;

/// Runs until SIGTERM or Ctrl-C.
pub(crate) async fn run(args: OperatorArgs) -> Exit {
    crate::log::to_stderr();
    let times = match args.times() {
        Ok(times) => times,
        Err(why) => {
            say(&format!("error: {why}"));
            return Exit::BadInput;
        }
    };
    let meters = Meters::default();
    // Leases have a connection of their own: nobody's requests stand before theirs.
    let clients = async { Ok::<_, kube::Error>((client(&meters).await?, client(&meters).await?)) };
    let (client, own) = match clients.await {
        Ok(clients) => clients,
        Err(error) => {
            report(&error);
            say("the operator needs a cluster: KUBECONFIG, or a pod with a service account");
            return Exit::BadInput;
        }
    };
    let cluster = match cluster_id(&client, args.cluster_id.clone()).await {
        Ok(cluster) => cluster,
        Err(error) => {
            report(&error);
            say("--cluster-id NAME tells this cluster from others without asking it");
            return Exit::Failed;
        }
    };
    let _probes = match http::serve(args.probes, Arc::new(meters.clone())).await {
        Ok(serving) => serving,
        Err(error) => {
            say(&format!("error: cannot serve probes at {}: {error}", args.probes));
            say("--probes ADDRESS names another address; port 0 is any that is free");
            return Exit::Failed;
        }
    };
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return Exit::Failed };
    let identity = format!("{}-{}", pod().unwrap_or("weir".to_owned()), &random::id()[..6]);
    let leases = Api::namespaced(own, &args.namespace);
    let (mut leases, held) = Leases::new(leases, identity.clone(), pod(), meters.clone());
    let defaults = Defaults { image: args.worker_image, state_uri: args.state };
    let issuing = Issuing { client: client.clone(), own_namespace: args.namespace, times };
    let authorities = Authorities::new(issuing, meters.clone());
    let turns = Turns::default();
    let ground = Ground { client: client.clone(), cluster, meters, turns, authorities };
    let events = Events::new(client, &identity);
    let operator = Operator::new(ground, events, defaults, held);
    tokio::select! {
        () = Box::pin(operator.run(args.watch)) => {}
        () = leases.run() => {}
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    // All tasks of jobs are gone by now, so whoever takes over meets nobody.
    leases.release().await;
    Exit::Done
}

/// Of the cluster that kubectl would talk to, or this pod's.
async fn client(meters: &Meters) -> Result<Client, kube::Error> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    Ok(ClientBuilder::try_from(config)?.with_layer(&Counting(meters.clone())).build())
}

/// Tells this cluster from others.
async fn cluster_id(client: &Client, given: Option<String>) -> Result<String, kube::Error> {
    if let Some(given) = given {
        return Ok(given);
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.get("kube-system").await?;
    Ok(system.metadata.uid.unwrap_or_default())
}

/// The present time, as the API server writes it.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millisecond(clock::wall_ms()).unwrap_or_default()
}

/// The pod that this process is the only one of.
fn pod() -> Option<String> {
    std::env::var("POD_NAME").ok().filter(|name| !name.is_empty())
}

/// All jobs of this operator.
struct Operator {
    ground: Ground,
    events: Events,
    defaults: Defaults,
    held: watch::Receiver<BTreeSet<u32>>,
    jobs: BTreeMap<String, Known>,
    scopes: Vec<Arc<Scope>>,
    /// Tasks of snapshots whose job is gone, by uid.
    keepers: BTreeMap<String, Task<()>>,
    /// A snapshot's resource is another one.
    snapshots_changed: Arc<Notify>,
}

/// A job whose resource is there.
struct Known {
    declared: watch::Sender<Arc<Declared>>,
    scope: Arc<Scope>,
    /// Runs while its shard is held.
    task: Option<Task<()>>,
    /// The list of its scope that it was seen in last.
    round: u64,
}

/// From the watch of jobs of one scope.
struct Heard {
    scope: Arc<Scope>,
    /// How many lists have begun there.
    round: u64,
    event: watcher::Event<DynamicObject>,
}

/// A namespace, or all.
struct Scope {
    namespace: Option<String>,
    pods: Arc<PodStore>,
    snapshots: Arc<SnapshotStore>,
    /// All jobs were listed: one that is not known is gone.
    is_listed: AtomicBool,
    changed: Arc<Notify>,
}

impl Scope {
    fn new(namespace: Option<String>, changed: Arc<Notify>) -> Arc<Self> {
        let (pods, snapshots) = (Arc::default(), Arc::default());
        Arc::new(Self { namespace, pods, snapshots, is_listed: AtomicBool::new(false), changed })
    }
}

impl Operator {
    fn new(
        ground: Ground,
        events: Events,
        defaults: Defaults,
        held: watch::Receiver<BTreeSet<u32>>,
    ) -> Self {
        Self {
            ground,
            events,
            defaults,
            held,
            jobs: BTreeMap::new(),
            scopes: Vec::new(),
            keepers: BTreeMap::new(),
            snapshots_changed: Arc::default(),
        }
    }

    async fn run(mut self, namespaces: Vec<String>) {
        let (hear, mut heard) = mpsc::channel(EVENTS_MAX);
        let mut watches = Vec::new();
        for namespace in api::scopes(namespaces) {
            let scope = Scope::new(namespace, Arc::clone(&self.snapshots_changed));
            self.scopes.push(Arc::clone(&scope));
            watches.push(task::spawn(watch_scope(self.ground.clone(), scope, hear.clone())));
        }
        let changed = Arc::clone(&self.snapshots_changed);
        loop {
            tokio::select! {
                Some(heard) = heard.recv() => {
                    if self.apply(heard) {
                        self.follow_snapshots();
                    }
                }
                () = changed.notified() => self.follow_snapshots(),
                changed = self.held.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.follow_leases();
                    self.follow_snapshots();
                }
            }
        }
    }

    /// Takes what was heard; whether other jobs are known than before.
    fn apply(&mut self, Heard { scope, round, event }: Heard) -> bool {
        let before = self.jobs.len();
        let is_listed = matches!(event, watcher::Event::InitDone);
        match event {
            watcher::Event::Init => {}
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                self.declare(&scope, &object, round);
            }
            watcher::Event::Delete(object) => {
                if let Some(uid) = &object.metadata.uid {
                    self.forget(uid);
                }
            }
            watcher::Event::InitDone => {
                let is_gone = |known: &Known| {
                    let in_scope = match &scope.namespace {
                        Some(namespace) => known.declared.borrow().namespace == *namespace,
                        None => true,
                    };
                    in_scope && known.round < round
                };
                let gone = self.jobs.iter().filter(|(_, known)| is_gone(known));
                let gone: Vec<String> = gone.map(|(uid, _)| uid.clone()).collect();
                gone.iter().for_each(|uid| self.forget(uid));
                scope.is_listed.store(true, Ordering::Relaxed);
            }
        }
        is_listed || self.jobs.len() != before
    }

    fn declare(&mut self, scope: &Arc<Scope>, object: &DynamicObject, round: u64) {
        let Some(declared) = Declared::of(object, &self.defaults) else { return };
        let uid = declared.uid.clone();
        match self.jobs.get_mut(&uid) {
            Some(known) => {
                known.round = round;
                known.declared.send_replace(Arc::new(declared));
            }
            None => {
                let (declared, _) = watch::channel(Arc::new(declared));
                let scope = Arc::clone(scope);
                self.jobs.insert(uid, Known { declared, scope, task: None, round });
                self.follow_leases();
            }
        }
    }

    fn forget(&mut self, uid: &str) {
        let Some(known) = self.jobs.remove(uid) else { return };
        if known.task.is_some() {
            // They go with the resource that owns them too, but hand their work over first, and there
            // is nobody any more who would take it.
            let pods = Arc::clone(&known.scope.pods.subscribe(uid).borrow());
            let namespace = known.declared.borrow().namespace.clone();
            let api: Api<Pod> = Api::namespaced(self.ground.client.clone(), &namespace);
            let end = async move {
                for pod in pods.values() {
                    if let Err(error) = cluster::delete(&api, pod).await {
                        tracing::info!(pod = pod.name, "left to its owner reference: {error}");
                    }
                }
            };
            task::spawn(end).detach();
        }
        known.scope.pods.forget(uid);
    }

    /// Runs the jobs of held shards and no others.
    fn follow_leases(&mut self) {
        let held = self.held.borrow_and_update().clone();
        self.ground.meters.shards_held(&held);
        for (uid, known) in &mut self.jobs {
            let is_ours = held.contains(&lease::shard(uid));
            if is_ours && known.task.is_none() {
                let (declared, pods) =
                    (known.declared.subscribe(), known.scope.pods.subscribe(uid));
                let snapshots = {
                    let its = known.declared.borrow();
                    known.scope.snapshots.subscribe(&its.namespace, &its.name)
                };
                let (ground, events) = (self.ground.clone(), self.events.clone());
                let job = JobTask::new(ground, events, declared, pods, snapshots);
                known.task = Some(task::spawn(job.run()));
            } else if !is_ours {
                // Dropping it is what ends it; its workers work on.
                known.task = None;
            }
        }
    }
}

impl Operator {
    /// Runs a task for each snapshot of a held shard whose job is gone, and no others.
    fn follow_snapshots(&mut self) {
        let held = self.held.borrow().clone();
        let jobs: BTreeSet<(String, String)> = self
            .jobs
            .values()
            .map(|known| {
                let its = known.declared.borrow();
                (its.namespace.clone(), its.name.clone())
            })
            .collect();
        let mut orphans = BTreeSet::new();
        let listed = self.scopes.iter().filter(|scope| scope.is_listed.load(Ordering::Relaxed));
        for scope in listed {
            for its in scope.snapshots.all() {
                let has_job = jobs.contains(&(its.namespace.clone(), its.job.clone()));
                if has_job || !held.contains(&lease::shard(&its.uid)) {
                    continue;
                }
                orphans.insert(its.uid.clone());
                self.keepers.entry(its.uid.clone()).or_insert_with(|| {
                    let attention = Attention::new(self.ground.clone(), self.events.clone());
                    let all = scope.snapshots.subscribe(&its.namespace, &its.job);
                    task::spawn(attend::keep(attention, all, its.name.clone()))
                });
            }
        }
        // Dropping a task is what ends it.
        self.keepers.retain(|uid, _| orphans.contains(uid));
    }
}

/// Watches pods first: what a job's task sees of them at its start has to be all there is.
async fn watch_scope(ground: Ground, scope: Arc<Scope>, hear: mpsc::Sender<Heard>) {
    let Ground { client, meters, .. } = ground;
    let namespace = scope.namespace.as_deref();
    meters.watching(namespace);
    let config = watcher::Config::default().labels(&names::made_by_us());
    let pods: Api<Pod> = match &scope.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let jobs = api::of_scope(&client, namespace, &api::job_resource());
    let snapshots = api::of_scope(&client, namespace, &attend::resource());
    let mut pods = watcher(pods, config).default_backoff().boxed();
    loop {
        match pods.try_next().await {
            Ok(Some(event)) => {
                scope.pods.apply(&event);
                if matches!(event, watcher::Event::InitDone) {
                    break;
                }
            }
            Ok(None) => return,
            Err(error) => failed(&meters, namespace, "pods", &error),
        }
    }
    let mut snapshots = watcher(snapshots, watcher::Config::default()).default_backoff().boxed();
    let mut jobs = watcher(jobs, watcher::Config::default()).default_backoff().boxed();
    let mut round = 0;
    loop {
        tokio::select! {
            event = pods.try_next() => match event {
                Ok(Some(event)) => scope.pods.apply(&event),
                Ok(None) => return,
                Err(error) => failed(&meters, namespace, "pods", &error),
            },
            event = snapshots.try_next() => match event {
                Ok(Some(event)) => {
                    scope.snapshots.apply(&event);
                    scope.changed.notify_one();
                }
                Ok(None) => return,
                Err(error) => failed(&meters, namespace, "snapshots", &error),
            },
            event = jobs.try_next() => match event {
                Ok(Some(event)) => {
                    round += u64::from(matches!(event, watcher::Event::Init));
                    meters.watched(namespace, matches!(event, watcher::Event::InitDone));
                    let scope = Arc::clone(&scope);
                    if hear.send(Heard { scope, round, event }).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => failed(&meters, namespace, "jobs", &error),
            },
        }
    }
}

/// A watch begins anew after a pause.
fn failed(meters: &Meters, namespace: Option<&str>, what: &str, error: &watcher::Error) {
    let why = format!("{what} cannot be watched: {error}");
    tracing::warn!("{why}");
    meters.watch_failed(namespace, why);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::certificates::times::Times;

    const DAY: Duration = Duration::from_secs(86_400);

    fn job(namespace: &str, name: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{name}")},
            "spec": {},
        }))
        .unwrap()
    }

    /// Lists of two namespaces at the same time: what one has seen is nothing of the other's.
    #[tokio::test]
    async fn a_list_of_one_namespace_forgets_no_job_of_another() {
        let client = Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let (_held, held) = watch::channel(BTreeSet::new());
        let events = Events::new(client.clone(), "me");
        let times = Times::new(DAY * 365, DAY * 90, DAY / 144).unwrap();
        let own_namespace = "own".to_owned();
        let issuing = Issuing { client: client.clone(), own_namespace, times };
        let (meters, turns) = (Meters::default(), Turns::default());
        let authorities = Authorities::new(issuing, meters.clone());
        let ground = Ground { client, cluster: "c".to_owned(), meters, turns, authorities };
        let defaults = Defaults { image: "weir:1".to_owned(), state_uri: None };
        let mut operator = Operator::new(ground, events, defaults, held);
        let scope = |name: &str| Scope::new(Some(name.to_owned()), Arc::default());
        let (one, two) = (scope("one"), scope("two"));
        let mut tell = |scope: &Arc<Scope>, round, event| {
            operator.apply(Heard { scope: Arc::clone(scope), round, event });
            operator.jobs.keys().cloned().collect::<Vec<_>>()
        };
        tell(&one, 1, watcher::Event::Init);
        tell(&one, 1, watcher::Event::InitApply(job("one", "a")));
        tell(&two, 1, watcher::Event::Init);
        tell(&one, 1, watcher::Event::InitApply(job("one", "b")));
        assert_eq!(tell(&one, 1, watcher::Event::InitDone), ["uid-a", "uid-b"]);
        tell(&two, 1, watcher::Event::InitApply(job("two", "c")));
        assert_eq!(tell(&two, 1, watcher::Event::InitDone), ["uid-a", "uid-b", "uid-c"]);
        tell(&one, 2, watcher::Event::Init);
        tell(&one, 2, watcher::Event::InitApply(job("one", "b")));
        assert_eq!(tell(&one, 2, watcher::Event::InitDone), ["uid-b", "uid-c"], "a is gone");
    }
}
