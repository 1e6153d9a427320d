//! Before a job runs: what its journal says, whether the manifest fits it, and the first records.
//!
//! Nothing is written before everything that a user can have got wrong was checked, so a refused
//! manifest leaves nothing behind. `begin/fit.rs` decides (pure); `begin/fresh.rs` deletes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use weir_state::gc::SinkFolders;
use weir_state::ids::Term;
use weir_state::journal::record::{Authority, Plan, StepBytes};
use weir_state::journal::{Doomed, Entry, JobState, Journal, JournalError, NewJob, Root};
use weir_state::objects::{StoreError, probe_create_if_absent};

use super::cleaner;
use super::summary::Summary;
use crate::network::Network;
use crate::objects::{Objects, place};
use crate::pipeline::check::{Problem, check};
use crate::pipeline::checked::{CheckedJob, SourceSchemas};
use crate::pipeline::graph::Graph;
use crate::pipeline::spec::{JobSpec, SinkSpec, StepSpec, StoreSpec, Verb};
use crate::protocol::SourcePlan;
use crate::sink::SinkError;
use crate::sink::publish;
use crate::source::{self, Source, SourceError, dealing};

mod fit;
pub mod fresh;

pub use fit::Misfit;

/// What a job needs from whoever runs it.
pub struct Request {
    /// What to run.
    pub spec: JobSpec,
    /// The job's state folder.
    pub root: Root,
    /// The state folder's URI, as workers open it.
    pub state_uri: String,
    /// What relative URIs of sources and sinks are relative to.
    pub base_folder: String,
    /// Who owns the job.
    pub owner: String,
    /// Opens sources and sinks.
    pub objects: Arc<dyn Objects>,
    /// How workers are reached.
    pub network: Arc<dyn Network>,
    /// The run's token.
    pub token: String,
}

/// A job that is ready to run: checked, planned, and claimed for this coordinator.
pub struct Job {
    pub(crate) request: Request,
    pub(crate) journal: Journal,
    pub(crate) term: Term,
    pub(crate) checked: CheckedJob,
    pub(crate) graph: Graph,
    pub(crate) sources: BTreeMap<String, PlannedSource>,
}

/// A source step with its pinned plan.
pub(crate) struct PlannedSource {
    pub(crate) plan: SourcePlan,
    pub(crate) splits: dealing::Splits,
}

impl Job {
    /// The job's name.
    pub fn name(&self) -> &str {
        &self.request.spec.name
    }

    /// The job's incarnation; users call its id the run.
    pub fn run_id(&self) -> &str {
        &self.journal.incarnation().id
    }

    /// Where this job's sinks write, and where an earlier pipeline's left something to be deleted.
    pub(crate) fn sink_folders(&self) -> SinkFolders {
        self.request.sink_folders(self.journal.state())
    }
}

impl Request {
    fn sink_folders(&self, state: &JobState) -> SinkFolders {
        let condemned = state.condemned.values().flatten().filter_map(|doomed| match doomed {
            Doomed::Staged { folder, .. } => Some(folder.as_str()),
            Doomed::Object(_) => None,
        });
        let unconfirmed = state.unconfirmed.values().flatten().map(|piece| piece.folder.as_str());
        let none = StoreSpec::default();
        let earlier = condemned.chain(unconfirmed).filter(|folder| !folder.is_empty());
        let declared = self.spec.pipeline.iter().filter_map(|step| match &step.verb {
            Verb::Sink(SinkSpec::Files { uri, store }) => Some((uri.as_str(), store)),
            _ => None,
        });
        let all = earlier.map(|folder| (folder, &none)).chain(declared);
        let place = |(uri, store): (&str, &StoreSpec)| {
            // A folder that can't be opened was refused, or is left to a later sweep.
            Some((uri.to_owned(), place(&*self.objects, uri, store).ok()?))
        };
        all.filter_map(place).collect()
    }
}

/// What came of looking.
pub enum Begun {
    /// The job is finished already; nothing was changed.
    Finished(Summary),
    /// It can run.
    Ready(Box<Job>),
}

/// Why a job can't begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// The manifest has problems.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// The manifest does not fit the state.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// A sink folder holds committed files of a run that the state does not know.
    #[error(
        "{path}: {folder} holds files of step {step} from another run ({file}); move them away, \
         choose another folder, or run with --fresh, which deletes them"
    )]
    ForeignFiles {
        /// Where in the manifest.
        path: String,
        /// The folder.
        folder: String,
        /// The sink's step.
        step: String,
        /// One of the files.
        file: String,
    },
    /// A source does not answer: not the manifest's fault.
    #[error("{path}: the source cannot be reached")]
    Unreachable {
        /// Where in the manifest.
        path: String,
        /// Cause.
        #[source]
        cause: Box<SourceError>,
    },
    /// A sink's folder can't be looked at.
    #[error("{path}: the sink cannot be used")]
    Sink {
        /// Where in the manifest.
        path: String,
        /// Cause.
        #[source]
        cause: Box<SinkError>,
    },
    /// The state's store can't be used.
    #[error("spec.state.uri: the state cannot be used")]
    State(#[source] StoreError),
    /// The journal refuses.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl BeginError {
    /// Whether trying again with the same manifest and folders gives the same.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Unreachable { .. } => false,
            Self::Sink { cause, .. } => cause.is_fatal(),
            Self::State(cause) => !cause.is_transient(),
            Self::Journal(cause) => {
                matches!(cause.remedy(), weir_state::journal::Remedy::AskHuman)
                    || matches!(cause, JournalError::OwnedElsewhere { .. })
            }
            _ => true,
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads the journal, checks the manifest against it, and writes the first records.
pub async fn begin(request: Request) -> Result<Begun, BeginError> {
    let journal = Journal::open(&request.root).await?;
    let nothing = JobState::default();
    let state = journal.as_ref().map_or(&nothing, Journal::state);
    if let Some(journal) = &journal {
        journal.check_job(&request.spec.name)?;
    }
    let before = fit::Recorded::of(state)?;
    if let Some(journal) = &journal
        && let Some(summary) = &state.finished
    {
        before.check_finished(&request.spec)?;
        // The process that finished it may have been killed before its last clean-up.
        cleaner::clean_up(journal, &request.sink_folders(state)).await;
        return Ok(Begun::Finished(Summary::from_bytes(summary)));
    }
    before.check_unfinished(&request.spec)?;
    let sources = plan_sources(&request.spec, &before, &*request.objects).await?;
    let (checked, plans) = check_job(&request.spec, sources)?;
    before.check_signatures(&checked)?;
    check_sinks(&request, &before).await?;

    let journal = match journal {
        Some(journal) => journal,
        None => create(&request).await?,
    };
    let sources = planned(&request, plans)?;
    let job = claim(request, journal, checked, sources).await?;
    Ok(Begun::Ready(Box::new(job)))
}

async fn create(request: &Request) -> Result<Journal, BeginError> {
    probe_create_if_absent(&request.root.place).await.map_err(BeginError::State)?;
    let new = NewJob {
        job: request.spec.name.clone(),
        owner: request.owner.clone(),
        key_groups: request.spec.key_groups,
    };
    Ok(Journal::create(&request.root, &new, None).await?)
}

async fn claim(
    request: Request,
    mut journal: Journal,
    checked: CheckedJob,
    sources: BTreeMap<String, PlannedSource>,
) -> Result<Job, BeginError> {
    let term = journal.claim(&request.owner, Authority::Owner).await?;
    let plan = plan_record(&request.spec, &checked, &sources);
    if journal.state().plan.as_deref() != Some(&plan) {
        journal.append(Entry::Plan(plan)).await?;
    }
    let graph = Graph::new(&checked);
    Ok(Job { request, journal, term, checked, graph, sources })
}

/// What the `Plan` record says.
fn plan_record(
    spec: &JobSpec,
    checked: &CheckedJob,
    sources: &BTreeMap<String, PlannedSource>,
) -> Plan {
    let signed = checked.steps.iter().filter_map(|step| {
        let bytes = step.signature.clone()?.into_bytes().into();
        Some(StepBytes { step: step.id.clone(), bytes })
    });
    let planned = sources.iter().map(|(step, source)| StepBytes {
        step: step.clone(),
        bytes: source.plan.encode_to_vec().into(),
    });
    Plan {
        pipeline: fit::pipeline_bytes(&spec.pipeline),
        signatures: signed.collect(),
        sources: planned.collect(),
    }
}

type Plans = BTreeMap<String, SourcePlan>;

/// The plans that the journal has, and those of sources that are new.
async fn plan_sources(
    spec: &JobSpec,
    before: &fit::Recorded,
    objects: &dyn Objects,
) -> Result<(Plans, Vec<Problem>), BeginError> {
    let (mut plans, mut problems) = (Plans::new(), Vec::new());
    for (index, step) in spec.pipeline.iter().enumerate() {
        let Verb::Source(declared) = &step.verb else { continue };
        if let Some(plan) = before.sources.get(&step.id) {
            plans.insert(step.id.clone(), plan.clone());
            continue;
        }
        let path = format!("spec.pipeline[{index}].source");
        match source::plan(&step.id, declared, objects).await {
            Ok(plan) => {
                plans.insert(step.id.clone(), plan);
            }
            Err(cause @ SourceError::Unreachable { .. }) => {
                return Err(BeginError::Unreachable { path, cause: cause.into() });
            }
            Err(cause) => problems.push(Problem { path, message: cause.to_string() }),
        }
    }
    Ok((plans, problems))
}

/// Checks everything that can be checked; problems of sources and of steps come together.
fn check_job(
    spec: &JobSpec,
    (plans, mut problems): (Plans, Vec<Problem>),
) -> Result<(CheckedJob, Plans), BeginError> {
    let mut schemas = SourceSchemas::new();
    for (step, plan) in &plans {
        match source::schema(plan) {
            Ok(schema) => {
                schemas.insert(step.clone(), schema.as_ref().clone());
            }
            Err(cause) => problems.push(Problem {
                path: step_path(&spec.pipeline, step),
                message: cause.to_string(),
            }),
        }
    }
    match check(spec, &schemas) {
        Ok(checked) if problems.is_empty() => Ok((checked, plans)),
        Ok(_) => Err(BeginError::Problems(problems)),
        Err(more) => {
            let fresh = more.into_iter().filter(|problem| {
                // A source that can't be planned has no columns: that was said already.
                !problems.iter().any(|known| problem.path.starts_with(&known.path))
            });
            let fresh: Vec<Problem> = fresh.collect();
            problems.extend(fresh);
            Err(BeginError::Problems(problems))
        }
    }
}

/// All problems of a manifest that show without a journal, for `weir validate`; second: sources
/// that did not answer, each in one sentence.
pub async fn problems(spec: &JobSpec, objects: &dyn Objects) -> (Vec<Problem>, Vec<String>) {
    match plan_sources(spec, &fit::Recorded::default(), objects).await {
        Ok(sources) => match check_job(spec, sources) {
            Ok(_) => (Vec::new(), Vec::new()),
            Err(BeginError::Problems(problems)) => (problems, Vec::new()),
            Err(other) => (Vec::new(), vec![other.to_string()]),
        },
        Err(BeginError::Problems(problems)) => (problems, Vec::new()),
        Err(unreachable) => {
            let mut text = unreachable.to_string();
            if let Some(cause) = std::error::Error::source(&unreachable) {
                text = format!("{text}: {cause}");
            }
            (Vec::new(), vec![text])
        }
    }
}

fn planned(request: &Request, plans: Plans) -> Result<BTreeMap<String, PlannedSource>, BeginError> {
    let mut sources = BTreeMap::new();
    for (index, step) in request.spec.pipeline.iter().enumerate() {
        let (Verb::Source(declared), Some(plan)) = (&step.verb, plans.get(&step.id)) else {
            continue;
        };
        let opened = Source::new(declared, plan, 0, &*request.objects);
        let source = opened.map_err(|cause| {
            let path = format!("spec.pipeline[{index}].source");
            BeginError::Problems(vec![Problem { path, message: cause.to_string() }])
        })?;
        let (plan, splits) = (plan.clone(), source.splits());
        sources.insert(step.id.clone(), PlannedSource { plan, splits });
    }
    Ok(sources)
}

/// A sink that this state has never written to must not hold another run's files.
async fn check_sinks(request: &Request, before: &fit::Recorded) -> Result<(), BeginError> {
    let claimed = request.root.claimed().await?;
    let known: BTreeSet<&str> = claimed.iter().map(|run| run.id.as_str()).collect();
    for (index, step) in request.spec.pipeline.iter().enumerate() {
        let Verb::Sink(SinkSpec::Files { uri, store }) = &step.verb else { continue };
        if before.has_step(step) {
            continue;
        }
        let path = format!("spec.pipeline[{index}].sink");
        let failed = |cause| BeginError::Sink { path: path.clone(), cause: Box::new(cause) };
        let folder = request.objects.open(uri, store);
        let folder =
            folder.map_err(|cause| failed(SinkError::Uri { step: step.id.clone(), cause }))?;
        let files = publish::committed_files(&folder, &step.id).await.map_err(failed)?;
        if let Some(file) = files.iter().find(|file| !known.contains(file.run.as_str())) {
            return Err(BeginError::ForeignFiles {
                path,
                folder: uri.clone(),
                step: step.id.clone(),
                file: file.to_string(),
            });
        }
    }
    Ok(())
}

fn step_path(steps: &[StepSpec], id: &str) -> String {
    let index = steps.iter().position(|step| step.id == id).unwrap_or_default();
    format!("spec.pipeline[{index}]")
}
