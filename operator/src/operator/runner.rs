//! A job's coordinator in this process: a task that begins the job and runs it, the same as in `weir
//! run`, over the job's pods. Dropping it is like a crash: its workers work on, and the next one goes
//! on with them as the journal says.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::Api;
use kube::{Client, ResourceExt};
use tokio::sync::{Notify, watch};
use weir_engine::coordinator::begin::fresh::{self, FreshError};
use weir_engine::coordinator::begin::restore::Origin;
use weir_engine::coordinator::begin::{
    BeginError, Begun, Job, Previous, Request, begin, check_fit, is_untouched, present_owner,
};
use weir_engine::coordinator::print::Print;
use weir_engine::coordinator::run::{Outside, Target, Wanted as Order, run_job};
use weir_engine::coordinator::snapshots::Wishes;
use weir_engine::coordinator::status::{Phase, Status};
use weir_engine::network::grpc::GrpcNetwork;
use weir_engine::network::tls::{Tls, TlsError};
use weir_engine::objects::{Objects, RealObjects, SecretObjects, is_same_store, place};
use weir_runtime::clock;
use weir_runtime::task::{self, Task};
use weir_state::journal::Root;
use weir_state::journal::record::Authority;
use weir_state::objects::{Place, StoreError, StoreOptions, open};

use super::api;
use super::authorities::Authorities;
use super::cluster::KubeCluster;
use super::declared::{Declared, DeclaredJob, State, asked_number};
use super::meters::Meters;
use super::plan::{End, Live, Runner as Shown, Wanted, Wish};
use super::pods::Pods;
use super::secrets::{self, Identity, KubeSecrets, SecretError};
use super::snapshots::Snapshot;
use super::snapshots::attend::snapshots_in;
use super::status;
use super::template::{Template, owner};
use super::turns::Turns;
use crate::cli::ProcessRole;
use crate::credentials::SecretStore;
use crate::exit::chain;
use crate::translate::RestoreFrom;

/// Pauses between two attempts to begin: the first, and the longest.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What all coordinators share.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) client: Client,
    /// Tells this cluster from others.
    pub(crate) cluster: String,
    /// What is counted.
    pub(crate) meters: Meters,
    /// Who begins now.
    pub(crate) turns: Turns,
    /// Who issues certificates.
    pub(crate) authorities: Authorities,
}

/// A coordinator and how it is steered.
pub(crate) struct Runner {
    wish: Wish,
    wanted: Wanted,
    is_suspending: bool,
    order: watch::Sender<Order>,
    target: watch::Sender<Target>,
    asked: watch::Sender<u64>,
    wishes: watch::Sender<Wishes>,
    template: watch::Sender<Arc<Template>>,
    shows: watch::Receiver<Shows>,
    _task: Task<()>,
}

/// What a coordinator lets see.
#[derive(Clone, Debug)]
enum Shows {
    Beginning(String),
    Running(Box<Status>),
    Over(End),
}

/// Why a job can't begin now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunnerError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the certificates cannot be used")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Begin(#[from] BeginError),
    #[error("spec.state.uri: {0}")]
    Uri(String),
    #[error("spec.state.uri: the state cannot be used")]
    State(#[source] StoreError),
    #[error(
        "spec.restoreFrom.snapshotRef: there is no JobSnapshot {0} in this namespace; make it, or name \
         another one"
    )]
    NoSnapshot(String),
    #[error("spec.restoreFrom.snapshotRef: JobSnapshot {0} is not ready yet")]
    NotReady(String),
    #[error("JobSnapshot {name} cannot be looked for")]
    Snapshot {
        name: String,
        #[source]
        cause: Box<kube::Error>,
    },
    #[error("the earlier owner {owner} cannot be looked for")]
    Owner {
        owner: String,
        #[source]
        cause: Box<kube::Error>,
    },
}

impl Runner {
    /// Begins.
    pub(crate) fn start(
        ground: &Ground,
        declared: &Declared,
        job: &DeclaredJob,
        pods: watch::Receiver<Pods>,
        suspend: bool,
    ) -> Self {
        let (order, ordered) = watch::channel(if suspend { Order::Suspend } else { Order::Run });
        let (target, wanted) = watch::channel(job.wanted.target);
        let (asked, wishes) = watch::channel(asked_number(declared.asked.as_ref()));
        let (wish_snapshots, wished) = watch::channel(Wishes::new());
        let (template, form) = watch::channel(Arc::new(job.template.clone()));
        let (show, shows) = watch::channel(Shows::Beginning(status::BEGINS.to_owned()));
        let course = Course {
            ground: ground.clone(),
            declared: declared.clone(),
            job: job.clone(),
            ordered,
            wanted,
            asked: wishes,
            wished,
            form,
            pods,
            show,
        };
        Self {
            wish: declared.wish.clone(),
            wanted: job.wanted,
            is_suspending: suspend,
            order,
            target,
            asked,
            wishes: wish_snapshots,
            template,
            shows,
            _task: task::spawn(course.run()),
        }
    }

    /// What the plan has to know of it.
    pub(crate) fn observe(&self) -> Shown {
        let shows = match &*self.shows.borrow() {
            Shows::Over(end) => {
                return Shown::Over { wish: self.wish.clone(), end: end.clone() };
            }
            Shows::Beginning(why) => Err(why.clone()),
            Shows::Running(status) => Ok(status.clone()),
        };
        Shown::Live(Live { wanted: self.wanted, is_suspending: self.is_suspending, shows })
    }

    /// The pods' form and the wishes; all may change while it runs.
    pub(crate) fn follow(&mut self, declared: &Declared, template: &Template) {
        if !matches!(*self.shows.borrow(), Shows::Over(_)) {
            self.wish.clone_from(&declared.wish);
        }
        let wish = asked_number(declared.asked.as_ref());
        self.asked.send_if_modified(|asked| std::mem::replace(asked, wish) != wish);
        self.template.send_if_modified(|form| {
            let differs = **form != *template;
            if differs {
                *form = Arc::new(template.clone());
            }
            differs
        });
    }

    /// Which snapshots are to be there.
    pub(crate) fn wish(&self, wishes: Wishes) {
        self.wishes.send_if_modified(|before| {
            let differs = *before != wishes;
            *before = wishes;
            differs
        });
    }

    pub(crate) fn retarget(&mut self, target: Target) {
        self.wanted.target = target;
        self.target.send_replace(target);
    }

    pub(crate) fn suspend(&mut self) {
        self.is_suspending = true;
        self.order.send_replace(Order::Suspend);
    }

    /// Waits until `observe` would give something else.
    pub(crate) async fn changed(&mut self) {
        if self.shows.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// The task of a coordinator.
struct Course {
    ground: Ground,
    declared: Declared,
    job: DeclaredJob,
    ordered: watch::Receiver<Order>,
    wanted: watch::Receiver<Target>,
    asked: watch::Receiver<u64>,
    wished: watch::Receiver<Wishes>,
    form: watch::Receiver<Arc<Template>>,
    pods: watch::Receiver<Pods>,
    show: watch::Sender<Shows>,
}

impl Course {
    async fn run(self) {
        let mut pause = PAUSE_FIRST;
        let (begun, tls, identity) = loop {
            let error = match Box::pin(self.ground.turns.take(self.begin())).await {
                Ok(begun) => break begun,
                Err(error) => error,
            };
            let why = chain(&error);
            tracing::warn!(job = self.declared.name, "cannot begin: {why}");
            if let Some(end) = end_of(&error, &why) {
                self.show.send_replace(Shows::Over(end));
                return;
            }
            self.show.send_replace(Shows::Beginning(why));
            clock::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        };
        let end = match begun {
            Begun::Finished(summary) => End::Finished(summary.to_string()),
            Begun::Ready(job) => Box::pin(self.drive(*job, &tls, identity)).await,
        };
        self.show.send_replace(Shows::Over(end));
    }

    async fn begin(&self) -> Result<(Begun, Arc<Tls>, Identity), RunnerError> {
        let (mut request, tls, identity) = request(&self.ground, &self.declared, &self.job).await?;
        // What was changed meanwhile counts from the start.
        self.wanted.borrow().put_into(&mut request.spec);
        Ok((begin(request).await?, tls, identity))
    }

    async fn drive(&self, job: Job, tls: &Tls, identity: Identity) -> End {
        let pods: Api<Pod> = Api::namespaced(self.ground.client.clone(), &self.declared.namespace);
        // A pod that was just created needs its secret, and somebody may have deleted that.
        let created = Arc::new(Notify::new());
        let processes = |role| {
            let (form, pods_of) = (self.form.clone(), self.pods.clone());
            KubeCluster::new(role, pods.clone(), form, pods_of, Arc::clone(&created))
        };
        let mut cluster = processes(ProcessRole::Worker);
        let compactors = Box::new(processes(ProcessRole::Compactor));
        let (status, mut shown) = watch::channel(Status::default());
        let mut wanted = self.ordered.clone();
        // Whoever is to suspend from the start has to hear of it.
        wanted.mark_changed();
        let (target, asked) = (self.wanted.clone(), self.asked.clone());
        let snapshots = self.wished.clone();
        let print = Box::new(Log);
        let outside = Outside { wanted, target, asked, snapshots, status, print, compactors };
        let running = Box::pin(run_job(job, &mut cluster, outside));
        let show = async {
            loop {
                let status = Box::new(shown.borrow_and_update().clone());
                self.show.send_replace(Shows::Running(status));
                if shown.changed().await.is_err() {
                    std::future::pending().await
                }
            }
        };
        let outcome = tokio::select! {
            outcome = running => outcome,
            () = show => return End::Fenced("its status ended".to_owned()),
            () = Box::pin(self.renew(tls, identity, &created)) => {
                return End::Fenced("its certificates ended".to_owned());
            }
        };
        match outcome.phase {
            Phase::Finished => End::Finished(outcome.summary.to_string()),
            Phase::Suspended => End::Suspended,
            Phase::Failed(why) => End::Failed(why),
            Phase::Fenced(why) => End::Fenced(why),
            other => End::Failed(format!("it ended while {other}, which is a bug in Weir")),
        }
    }
}

impl Course {
    /// Keeps the job's certificates young, for ever.
    async fn renew(&self, tls: &Tls, first: Identity, created: &Notify) {
        let owner = secret_owner(&self.declared);
        let take = |identity: &Identity| {
            if let Err(error) = tls.replace(&identity.pem) {
                tracing::warn!("the old certificate is used on: {}", chain(&error));
            }
        };
        self.ground.authorities.renew(&owner, first, created, take).await;
    }
}

/// How it ends, unless trying again may help.
fn end_of(error: &RunnerError, why: &str) -> Option<End> {
    match error {
        RunnerError::Begin(BeginError::OwnedElsewhere { .. }) => {
            Some(End::Elsewhere(why.to_owned()))
        }
        RunnerError::Begin(error) if error.is_bad_input() => Some(End::Refused(why.to_owned())),
        RunnerError::Uri(_) => Some(End::Refused(why.to_owned())),
        RunnerError::State(cause) if !cause.is_transient() => Some(End::Refused(why.to_owned())),
        _ => None,
    }
}

/// Whether the job as it is declared now would be taken; why not, or why that cannot be found out.
pub(crate) async fn fits(
    ground: &Ground,
    declared: &Declared,
    job: &DeclaredJob,
) -> Result<(), String> {
    let checked = async { Ok(check_fit(&request(ground, declared, job).await?.0).await?) };
    checked.await.map_err(|error: RunnerError| chain(&error))
}

/// Deletes the state of a job; its output stays.
pub(crate) async fn delete_state(
    ground: &Ground,
    declared: &Declared,
    state: &State,
) -> Result<(), String> {
    let objects = objects(ground, &declared.namespace);
    let place = state_place(&*objects, state).await.map_err(|error| chain(&error))?;
    let owner = owner_id(ground, declared);
    let spec = declared.job.as_ref().ok().map(|job| &job.spec);
    let (name, root) = (&declared.name, Root::new(place));
    let deleted = fresh::delete_state(name, spec, &root, &owner, &*objects).await;
    deleted.map_err(|error: FreshError| chain(&error))
}

async fn request(
    ground: &Ground,
    declared: &Declared,
    job: &DeclaredJob,
) -> Result<(Request, Arc<Tls>, Identity), RunnerError> {
    let objects = objects(ground, &declared.namespace);
    let place = state_place(&*objects, &job.state).await?;
    let root = Root::new(place);
    let origin = origin(ground, declared, job, &root, &*objects).await?;
    let previous = previous(ground, declared, job, &root).await?;
    let issuing = &ground.authorities.issuing;
    let identity = issuing.identity(&secret_owner(declared), None).await?;
    let tls = Tls::new(&identity.pem)?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let request = Request {
        spec: job.spec.clone(),
        root,
        state_uri: job.state.uri.clone(),
        state_store: job.state.store.clone(),
        base_folder: "/".to_owned(),
        owner: owner_id(ground, declared),
        previous,
        objects,
        network: GrpcNetwork::secured(Arc::clone(&tls), listen),
        token: identity.token.clone(),
        origin,
        discard: job.beginning.discard.clone(),
    };
    Ok((request, tls, identity))
}

fn secret_owner(declared: &Declared) -> secrets::Owner {
    secrets::Owner {
        namespace: declared.namespace.clone(),
        job: declared.name.clone(),
        reference: Some(owner(&declared.name, &declared.uid)),
    }
}

pub(crate) fn objects(ground: &Ground, namespace: &str) -> Arc<dyn Objects> {
    let secrets: Api<Secret> = Api::namespaced(ground.client.clone(), namespace);
    let secrets = Arc::new(SecretStore::new(Arc::new(KubeSecrets(secrets))));
    Arc::new(SecretObjects { real: RealObjects { base_folder: PathBuf::from("/") }, secrets })
}

/// The folder of a state.
pub(crate) async fn state_place(
    objects: &dyn Objects,
    state: &State,
) -> Result<Place, RunnerError> {
    if state.uri.starts_with("s3://") {
        let place = place(objects, &state.uri, &state.store);
        return place.map_err(|error| RunnerError::Uri(error.to_string()));
    }
    open(&state.uri, &StoreOptions::default()).await.map_err(RunnerError::State)
}

/// Whose state the job begins from, if it has none of its own.
async fn origin(
    ground: &Ground,
    declared: &Declared,
    job: &DeclaredJob,
    root: &Root,
    objects: &dyn Objects,
) -> Result<Option<Origin>, RunnerError> {
    let Some(from) = &job.beginning.restore_from else { return Ok(None) };
    if !is_untouched(root).await? {
        return Ok(None);
    }
    let (from, snapshot) = match from {
        RestoreFrom::Uri(uri, store) => (State { uri: uri.clone(), store: store.clone() }, None),
        RestoreFrom::Snapshot(name) => {
            let api = snapshots_in(&ground.client, &declared.namespace);
            let found = api.get_opt(name).await.map_err(|cause| RunnerError::Snapshot {
                name: name.clone(),
                cause: Box::new(cause),
            })?;
            let found = found.as_ref().and_then(Snapshot::of);
            let found = found.ok_or_else(|| RunnerError::NoSnapshot(name.clone()))?;
            let in_journal = found.in_journal();
            (found.bound.ok_or_else(|| RunnerError::NotReady(name.clone()))?, Some(in_journal))
        }
    };
    let root = Root::new(state_place(objects, &from).await?);
    let same_store = is_same_store((&from.uri, &from.store), (&job.state.uri, &job.state.store));
    Ok(Some(Origin { root, snapshot, same_store }))
}

/// Who owns the state of a job of this cluster.
fn owner_id(ground: &Ground, declared: &Declared) -> String {
    let Declared { namespace, name, uid, .. } = declared;
    format!("{}/{namespace}/{name}/{uid}", ground.cluster)
}

/// Whom the job follows as the owner of its state: the one that the user names, or one of this cluster
/// whose resource is no more, and which so provably is gone.
async fn previous(
    ground: &Ground,
    declared: &Declared,
    job: &DeclaredJob,
    root: &Root,
) -> Result<Option<Previous>, RunnerError> {
    let Some(owner) = present_owner(root).await? else { return Ok(None) };
    if job.beginning.take_over.as_ref() == Some(&owner) {
        return Ok(Some(Previous { owner, authority: Authority::TakeOver }));
    }
    let parts: Vec<&str> = owner.split('/').collect();
    let [cluster, namespace, name, uid] = parts[..] else { return Ok(None) };
    if cluster != ground.cluster || uid == declared.uid {
        return Ok(None);
    }
    let jobs = api::jobs_in(&ground.client, namespace);
    let found = jobs.get_metadata_opt(name).await;
    let found = found
        .map_err(|cause| RunnerError::Owner { owner: owner.clone(), cause: Box::new(cause) })?;
    let lives = found.is_some_and(|found| found.uid().as_deref() == Some(uid));
    Ok((!lives).then_some(Previous { owner, authority: Authority::PreviousOwnerGone }))
}

/// Rows of `print` sinks: nobody reads an operator's standard output.
struct Log;

impl Print for Log {
    fn print(&mut self, step: &str, lines: &[u8]) -> std::io::Result<()> {
        tracing::info!(step, "{}", String::from_utf8_lossy(lines).trim_end());
        Ok(())
    }
}
