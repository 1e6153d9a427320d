//! From a Deploy message to a generation's running stage tasks.
//!
//! Compiles the job from the same text that the coordinator compiled, opens shards, sources and
//! sinks (none of which makes a request), and starts one task per stage and subtask. The tasks open
//! their channels themselves, so that no two workers wait for each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use weir_state::compaction::Compactor;
use weir_state::ids::{CheckpointId, Generation};
use weir_state::names::ObjectNamer;
use weir_state::store::{Settings, StateStore};
use weir_state::version::record::VersionRecord;

use super::commit::Folders;
use super::compactors::{Orders, Pool};
use super::generation::Stages;
use super::{OpenObjects, WorkerSettings};
use crate::exchange::Registry;
use crate::execution::launch::{Blueprint, LaunchError, Lines, Restored};
use crate::execution::orders::{Orders as StageOrders, REPORTS_MAX};
use crate::network::Network;
use crate::objects::{Objects, OpenError};
use crate::pipeline::check::check;
use crate::pipeline::checked::{CheckedJob, SourceSchemas};
use crate::pipeline::graph::{Graph, Head};
use crate::pipeline::spec::{JobSpec, SourceSpec, StoreSpec, Verb};
use crate::protocol::{CompactionTask, Deploy, PROTOCOL_VERSION, SourcePlan};
use crate::sink::StateFolder;
use crate::source::{self, Source, SourceError};

/// Why a generation can't be deployed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    /// The message is not what this version of Weir sends.
    #[error("cannot deploy: {what}")]
    Message {
        /// What is wrong with it.
        what: String,
    },
    /// The job does not compile here, though it did at the coordinator.
    #[error("cannot deploy: {problems}")]
    Job {
        /// All problems.
        problems: String,
    },
    /// A source is not as planned.
    #[error(transparent)]
    Source(SourceError),
    /// The state's URI leads nowhere.
    #[error("cannot open the state")]
    StateUri(#[source] OpenError),
    /// A shard, a sink or a stage can't be opened.
    #[error(transparent)]
    Launch(LaunchError),
}

impl DeployError {
    /// Whether a store does not answer.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Message { .. } | Self::Job { .. } | Self::StateUri(_) => false,
            Self::Source(error) => error.is_outage(),
            Self::Launch(LaunchError::Sink(error)) => error.is_outage(),
            Self::Launch(LaunchError::State { cause, .. }) => cause.is_outage(),
        }
    }

    /// Whether deploying again fails again.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Message { .. } | Self::Job { .. } | Self::StateUri(_) => true,
            Self::Source(error) => error.is_fatal(),
            Self::Launch(LaunchError::Sink(error)) => error.is_fatal(),
            Self::Launch(LaunchError::State { cause, .. }) => {
                cause.remedy() == weir_state::Remedy::AskHuman
            }
        }
    }
}

/// What a worker has before any job comes.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) settings: WorkerSettings,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) open_objects: OpenObjects,
    pub(crate) compactors: Arc<Pool>,
}

/// One deployment, as far as it is known without compiling the job.
pub(crate) struct Order {
    pub(crate) incarnation: String,
    pub(crate) generation: u64,
    pub(crate) registry: Arc<Registry>,
    pub(crate) deploy: Deploy,
}

/// Deploys a generation on this worker.
pub(crate) async fn deploy(ground: Ground, order: Order) -> Result<Stages, DeployError> {
    let Order { incarnation, generation, registry, deploy } = order;
    let spec: JobSpec = serde_json::from_str(&deploy.spec_json)
        .map_err(|error| DeployError::Message { what: format!("the job's text: {error}") })?;
    let objects = (ground.open_objects)(&deploy.base_folder);
    let job = compile(&spec, &deploy.sources)?;
    let graph = Graph::new(&job);
    let sources = sources(&spec, &deploy.sources, objects.as_ref())?;
    let state = state_folder(&deploy, &incarnation, objects.as_ref())?;
    let own: Vec<u32> = (0..)
        .zip(&deploy.subtasks)
        .filter(|(_, worker)| **worker == ground.settings.incarnation)
        .map(|(subtask, _)| subtask)
        .collect();
    let shards = own.len() * graph.stages.iter().filter(|stage| stage.head == Head::Keyed).count();
    let settings = Settings::for_memory(deploy.state_memory_bytes, shards);
    let orders = orders(&ground, &incarnation, &deploy);
    let (objects_of_state, folder) = (Arc::clone(&state.store), state.path.clone());
    let store = StateStore::with_compactor(objects_of_state, folder, settings, Some(orders));
    let blueprint = Blueprint {
        generation: Generation(generation),
        run: deploy.run.clone(),
        worker: ground.settings.incarnation.clone(),
        width: width(&deploy)?,
        groups: groups(&deploy)?,
        peers: peers(&deploy, &ground.settings.incarnation)?,
        restored: restored(&deploy)?,
        namer: ObjectNamer::new(Generation(generation), &ground.settings.incarnation),
        network: ground.network,
        failover: Duration::from_millis(spec.failover.timeout_ms),
        registry,
        objects,
        state,
        store,
        sources,
        spec,
        job,
        graph,
    };
    start(&blueprint, &own)
}

fn start(blueprint: &Blueprint, own: &[u32]) -> Result<Stages, DeployError> {
    let checkpoint = blueprint.restored.checkpoint;
    // Checkpoints up to the restored one are over, whatever becomes of their messages.
    let first = StageOrders {
        triggered: checkpoint,
        pausing: checkpoint,
        aborted: checkpoint,
        completed: checkpoint,
        ..StageOrders::default()
    };
    let (orders, heard) = watch::channel(first);
    let (said, reports) = mpsc::channel(REPORTS_MAX);
    let lines = Lines { orders: heard, reports: said };
    let launched = blueprint.launch(own, &lines).map_err(DeployError::Launch)?;
    Ok(Stages {
        tasks: launched.tasks.into_iter().collect::<FuturesUnordered<_>>(),
        orders,
        reports,
        board: Arc::new(launched.board),
        folders: Folders::new(&blueprint.spec, Arc::clone(&blueprint.objects)),
        disconnect_grace: blueprint.failover,
    })
}

fn message(what: &str) -> DeployError {
    DeployError::Message { what: what.to_owned() }
}

fn compile(spec: &JobSpec, plans: &[SourcePlan]) -> Result<CheckedJob, DeployError> {
    let mut schemas = SourceSchemas::new();
    for plan in plans {
        let schema = source::schema(plan).map_err(DeployError::Source)?;
        schemas.insert(plan.step.clone(), schema.as_ref().clone());
    }
    check(spec, &schemas).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        DeployError::Job { problems: problems.join("; ") }
    })
}

/// The job's sources by their number in origins: (id, source).
fn sources(
    spec: &JobSpec,
    plans: &[SourcePlan],
    objects: &dyn Objects,
) -> Result<Vec<(String, Source)>, DeployError> {
    let of = |verb: &Verb| -> Option<SourceSpec> {
        match verb {
            Verb::Source(source) => Some(source.clone()),
            _ => None,
        }
    };
    let steps = spec.pipeline.iter().filter_map(|step| Some((&step.id, of(&step.verb)?)));
    let mut sources = Vec::new();
    for (number, (id, source)) in steps.enumerate() {
        let plan = plans.iter().find(|plan| plan.step == *id);
        let plan = plan.ok_or_else(|| message(&format!("source {id} has no plan")))?;
        let number = u8::try_from(number).map_err(|_| message("more than 256 sources"))?;
        let source = Source::new(&source, plan, number, objects).map_err(DeployError::Source)?;
        sources.push((id.clone(), source));
    }
    Ok(sources)
}

fn state_folder(
    deploy: &Deploy,
    incarnation: &str,
    objects: &dyn Objects,
) -> Result<StateFolder, DeployError> {
    let store = match deploy.state_store_json.as_str() {
        "" => StoreSpec::default(),
        json => serde_json::from_str(json).map_err(|error| DeployError::Message {
            what: format!("the state's store: {error}"),
        })?,
    };
    let location = objects.open(&deploy.state_uri, &store).map_err(DeployError::StateUri)?;
    Ok(StateFolder { store: location.store, path: location.path.join(incarnation) })
}

/// How this generation's shards order compactions.
fn orders(ground: &Ground, incarnation: &str, deploy: &Deploy) -> Arc<dyn Compactor> {
    let task = CompactionTask {
        protocol: PROTOCOL_VERSION,
        incarnation: incarnation.to_owned(),
        token: ground.settings.token.clone(),
        state_uri: deploy.state_uri.clone(),
        state_store_json: deploy.state_store_json.clone(),
        base_folder: deploy.base_folder.clone(),
        order: Vec::new(),
    };
    Arc::new(Orders { pool: Arc::clone(&ground.compactors), task })
}

fn width(deploy: &Deploy) -> Result<u32, DeployError> {
    let width = u32::try_from(deploy.subtasks.len()).unwrap_or_default();
    if width == 0 { Err(message("no subtasks")) } else { Ok(width) }
}

fn groups(deploy: &Deploy) -> Result<u16, DeployError> {
    let groups = u16::try_from(deploy.key_groups).unwrap_or_default();
    if groups == 0 { Err(message("no key groups")) } else { Ok(groups) }
}

/// The address of each subtask's worker; none: this worker.
fn peers(deploy: &Deploy, own: &str) -> Result<Vec<Option<String>>, DeployError> {
    let addresses: BTreeMap<&str, &str> = deploy
        .workers
        .iter()
        .map(|worker| (worker.incarnation.as_str(), worker.address.as_str()))
        .collect();
    let peer = |worker: &String| match addresses.get(worker.as_str()) {
        _ if worker == own => Ok(None),
        Some(address) => Ok(Some((*address).to_owned())),
        None => Err(message(&format!("worker {worker} has no address"))),
    };
    deploy.subtasks.iter().map(peer).collect()
}

fn restored(deploy: &Deploy) -> Result<Restored, DeployError> {
    let Some(restore) = &deploy.restore else { return Ok(Restored::default()) };
    if !restore.waiting_rows.is_empty() {
        return Err(message("the checkpoint has waiting rows, written by a newer Weir"));
    }
    let versions = restore.versions.iter().map(|bytes| VersionRecord::decode(bytes.clone()));
    let versions = versions.collect::<Result<Vec<_>, _>>();
    Ok(Restored {
        checkpoint: CheckpointId(restore.checkpoint),
        sources: restore.sources.clone(),
        versions: versions.map_err(|error| message(&format!("a shard's version: {error}")))?,
        watermarks: restore.watermarks.clone(),
    })
}
