//! One simulated coordinator process, with its workers and compactors.

use std::sync::{Arc, Mutex};

use object_store::path::Path;
use tokio::sync::watch;
use weir_engine::coordinator::begin::fresh::fresh;
use weir_engine::coordinator::begin::restore::Origin;
use weir_engine::coordinator::begin::{Begun, Request, begin};
use weir_engine::coordinator::print::Print;
use weir_engine::coordinator::run::{Outside, Target, Wanted, run_job};
use weir_engine::coordinator::snapshots::Wishes;
use weir_engine::coordinator::status::{Phase, Status};
use weir_engine::network::sim::SimNetwork;
use weir_engine::objects::OneStore;
use weir_engine::pipeline::spec::{JobSpec, StoreSpec};
use weir_runtime::sim::Process;
use weir_runtime::sim::store::SimStore;
use weir_state::journal::Root;
use weir_state::objects::Place;

use super::cluster::{SimCluster, TOKEN, Workers};

/// How it ended; none: it was killed, or runs still.
type End = Arc<Mutex<Option<Result<Phase, String>>>>;

/// One `weir run` with its workers.
pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) workers: Workers,
    pub(crate) compactors: Workers,
    end: End,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) target: watch::Sender<Target>,
    pub(crate) ask: watch::Sender<u64>,
    pub(crate) wishes: watch::Sender<Wishes>,
}

impl Running {
    pub(crate) fn kill(&self) {
        self.process.kill();
        self.workers.kill_all();
        self.compactors.kill_all();
    }

    pub(crate) fn is_moving(&self) -> bool {
        self.status.borrow().phase == Phase::Rescaling
    }

    pub(crate) fn take_end(&self) -> Option<Result<Phase, String>> {
        self.end.lock().expect("not poisoned").take()
    }
}

struct Nowhere;

impl Print for Nowhere {
    fn print(&mut self, _: &str, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

/// The state in a folder of the store.
pub(crate) fn root_at(store: &SimStore, folder: &str) -> Root {
    Root::new(Place::new(Arc::new(store.clone()), Path::from(folder), format!("sim://{folder}")))
}

/// What a coordinator works with.
pub(crate) struct Start {
    /// Tells it from the others.
    pub(crate) number: u32,
    pub(crate) store: SimStore,
    pub(crate) network: SimNetwork,
    pub(crate) spec: JobSpec,
    /// Where its state lies.
    pub(crate) folder: &'static str,
    pub(crate) owner: &'static str,
    /// Whose state it begins from.
    pub(crate) origin: Option<Origin>,
    /// Workers and compactors that outlive their coordinators.
    pub(crate) kept: Option<(Workers, Workers)>,
    /// The last wish for a checkpoint.
    pub(crate) wish: u64,
    pub(crate) wishes: Wishes,
    /// What was there before is deleted first.
    pub(crate) is_fresh: bool,
}

impl Start {
    pub(crate) fn start(self) -> Running {
        let process = Process::new(format!("run-{}", self.number), 0);
        let keeps = self.kept.is_some();
        let (workers, compactors) = self.kept.clone().unwrap_or_default();
        let processes = |these: &Workers| {
            SimCluster::new(self.store.clone(), self.network.clone(), these.clone(), keeps)
        };
        let mut cluster = processes(&workers);
        let pool = processes(&compactors).of_compactors();
        let request = self.request();
        let end = End::default();
        let (tell, status) = watch::channel(Status::default());
        let (retarget, target) = watch::channel(Target::of(&request.spec));
        let (ask, asked) = watch::channel(self.wish);
        let (wishes, snapshots) = watch::channel(self.wishes);
        let (told, is_fresh) = (Arc::clone(&end), self.is_fresh);
        drop(process.spawn(async move {
            if is_fresh {
                let Request { spec, root, owner, objects, .. } = &request;
                fresh(spec, root, owner, &**objects).await.expect("the store has no faults");
            }
            let (_keep, wanted) = watch::channel(Wanted::Run);
            let ended = match Box::pin(begin(request)).await {
                Ok(Begun::Finished(_)) => Ok(Phase::Finished),
                Ok(Begun::Ready(job)) => {
                    let (status, print, compactors) = (tell, Box::new(Nowhere), Box::new(pool));
                    let outside =
                        Outside { wanted, target, asked, snapshots, status, print, compactors };
                    Ok(Box::pin(run_job(*job, &mut cluster, outside)).await.phase)
                }
                Err(error) => Err(error.to_string()),
            };
            *told.lock().expect("not poisoned") = Some(ended);
        }));
        Running { process, workers, compactors, end, status, target: retarget, ask, wishes }
    }

    fn request(&self) -> Request {
        Request {
            spec: self.spec.clone(),
            root: root_at(&self.store, self.folder),
            state_uri: self.folder.to_owned(),
            state_store: StoreSpec::default(),
            base_folder: String::new(),
            owner: self.owner.to_owned(),
            previous: None,
            discard: Vec::new(),
            objects: Arc::new(OneStore(Arc::new(self.store.clone()))),
            network: Arc::new(self.network.clone()),
            token: TOKEN.to_owned(),
            origin: self.origin.clone(),
        }
    }
}
