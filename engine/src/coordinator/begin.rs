//! Before a job runs: what its journal says, whether the manifest fits it, and the first records.
//!
//! Nothing is written before everything that a user can have got wrong was checked, so a refused
//! manifest leaves nothing behind. `begin/fit.rs` decides (pure); `begin/fresh.rs` deletes;
//! `begin/outline.rs` says what would be, for `weir plan`.
//! `begin/restore.rs` begins from another job's state; `begin/discard.rs` gives state of steps up;
//! `begin/error.rs` says why not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use weir_runtime::task;
use weir_state::ids::Term;
use weir_state::journal::record::{Authority, Plan, StepBytes};
use weir_state::journal::{Doomed, Entry, JobState, Journal, NewJob, Root};
use weir_state::objects::probe_create_if_absent;

use super::cleaner::{self, Grounds};
use super::form;
use super::summary::Summary;
use crate::network::Network;
use crate::objects::{Objects, local, place};
use crate::pipeline::check::{Problem, check};
use crate::pipeline::checked::{CheckedJob, SourceSchemas};
use crate::pipeline::graph::Graph;
use crate::pipeline::spec::{JobSpec, SinkSpec, StepSpec, StoreSpec, Verb};
use crate::protocol::{Deploy, SourcePlan};
use crate::sink::SinkError;
use crate::sink::publish;
use crate::source::{self, Source, SourceError, dealing};

mod discard;
mod error;
mod fit;
pub mod fresh;
pub mod outline;
pub mod restore;

pub use discard::Discard;
pub use error::BeginError;
pub use fit::Misfit;
use restore::{Origin, Source as Other};

/// What a job needs from whoever runs it.
pub struct Request {
    /// What to run.
    pub spec: JobSpec,
    /// The job's state folder.
    pub root: Root,
    /// The state folder's URI, as workers open it.
    pub state_uri: String,
    /// How workers reach it.
    pub state_store: StoreSpec,
    /// What relative URIs of sources and sinks are relative to.
    pub base_folder: String,
    /// Who owns the job.
    pub owner: String,
    /// Whom it follows, if another owner is in the journal.
    pub previous: Option<Previous>,
    /// Opens sources and sinks.
    pub objects: Arc<dyn Objects>,
    /// How workers are reached.
    pub network: Arc<dyn Network>,
    /// The run's token.
    pub token: String,
    /// Whose state it begins from while it has none of its own.
    pub origin: Option<Origin>,
    /// States that may be given up if they do not fit.
    pub discard: Vec<Discard>,
}

/// An owner whose state another one may take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// As the journal has it.
    pub owner: String,
    /// By what right.
    pub authority: Authority,
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

    /// What this job's workers are told, but for where and from which checkpoint.
    pub(crate) fn deploy(&self) -> Deploy {
        let key_groups = self.journal.state().key_groups;
        form::deploy(&self.request, self.sources.values(), key_groups, self.run_id())
    }

    /// Where this job's sinks write, and where an earlier pipeline's left something to be deleted.
    pub(crate) fn grounds(&self) -> Grounds {
        self.request.grounds(self.journal.state())
    }
}

impl Request {
    fn grounds(&self, state: &JobState) -> Grounds {
        let condemned = state.condemned.values().flatten().filter_map(|doomed| match doomed {
            Doomed::Staged { folder, .. } => Some(folder.as_str()),
            Doomed::Object(_) => None,
        });
        let unconfirmed = state.unconfirmed.values().flatten().map(|piece| piece.folder.as_str());
        let none = StoreSpec::default();
        let earlier = condemned.chain(unconfirmed).filter(|folder| !folder.is_empty());
        let declared = self.spec.pipeline.iter().filter_map(|step| match &step.verb {
            Verb::Sink(sink) => sink.folder(),
            _ => None,
        });
        let all = earlier.map(|folder| (folder, &none)).chain(declared);
        let place = |(uri, store): (&str, &StoreSpec)| {
            // A folder that can't be opened was refused, or is left to a later sweep.
            Some((uri.to_owned(), place(&*self.objects, uri, store).ok()?))
        };
        let tables = self.spec.pipeline.iter().filter_map(|step| match &step.verb {
            Verb::Sink(SinkSpec::Table(table)) => Some((step.id.clone(), table.uri.clone())),
            _ => None,
        });
        Grounds { sinks: all.filter_map(place).collect(), tables: tables.collect() }
    }
}

/// What came of looking.
pub enum Begun {
    /// The job is finished already; nothing was changed.
    Finished(Summary),
    /// It can run.
    Ready(Box<Job>),
}

/// The steps of the pipeline that ran last, as the journal has them.
pub(super) fn recorded_steps(state: &JobState) -> Result<Vec<StepSpec>, Misfit> {
    Ok(fit::Recorded::of(state)?.steps().to_vec())
}

/// What the journal and the sources say, before anything is written.
enum Found {
    Finished(Journal, Bytes),
    Fits { journal: Option<Journal>, checked: CheckedJob, plans: Plans, other: Option<Box<Other>> },
}

async fn look(request: &Request) -> Result<Found, BeginError> {
    let journal = Journal::open(&request.root).await?;
    let nothing = JobState::default();
    let state = journal.as_ref().map_or(&nothing, Journal::state);
    if let Some(journal) = &journal {
        journal.check_job(&request.spec.name)?;
    }
    let own = fit::Recorded::of(state)?;
    if let Some(summary) = state.finished.clone() {
        own.check_finished(&request.spec)?;
        if let Some(journal) = journal {
            return Ok(Found::Finished(journal, summary));
        }
    }
    let mut other = match &request.origin {
        Some(origin) if state.is_untouched() => Some(Other::find(origin, &request.root).await?),
        _ => None,
    };
    // What it reads and keeps has to fit the other job's.
    let before = match &other {
        Some(other) => fit::Recorded::at(&other.state, Some(other.checkpoint()))?,
        None => own.clone(),
    };
    before.check_unfinished(&request.spec)?;
    let mut looked = plan_sources(&request.spec, &before, &*request.objects).await;
    let checked = match (check_job(&request.spec, &looked), looked.unreachable.pop()) {
        (Err(problems), _) if !problems.is_empty() => return Err(BeginError::Problems(problems)),
        (_, Some(silent)) => return Err(unreachable(silent)),
        (checked, None) => checked.map_err(BeginError::Problems)?,
    };
    let run = match (&other, &journal) {
        (Some(other), _) => other.run(),
        (None, Some(journal)) => journal.incarnation().id.as_str(),
        (None, None) => "",
    };
    let discarded = before.check_signatures(&checked, run, &request.discard)?;
    if let Some(other) = &mut other {
        other.leave_out(discarded);
    }
    check_sinks(request, &own, other.as_ref()).await?;
    let other = other.map(Box::new);
    Ok(Found::Fits { journal, checked, plans: looked.plans, other })
}

/// Whether [`begin`] would take the job as things are; writes nothing. For a job that runs in
/// another form: it is not stopped for what would be refused.
pub async fn check_fit(request: &Request) -> Result<(), BeginError> {
    look(request).await.map(drop)
}

/// Who owns the state and has not let go of it; none: nobody.
pub async fn present_owner(root: &Root) -> Result<Option<String>, BeginError> {
    let Some(journal) = Journal::open(root).await? else { return Ok(None) };
    let state = journal.state();
    let is_held = !state.released && state.finished.is_none() && !state.owner.is_empty();
    Ok(is_held.then(|| state.owner.clone()))
}

/// Whether no worker of the job ever ran and no checkpoint is kept: it can begin from another state.
pub async fn is_untouched(root: &Root) -> Result<bool, BeginError> {
    let journal = Journal::open(root).await?;
    Ok(journal.is_none_or(|journal| journal.state().is_untouched()))
}

/// Reads the journal, checks the manifest against it, and writes the first records.
pub async fn begin(request: Request) -> Result<Begun, BeginError> {
    let (journal, checked, plans, other) = match look(&request).await? {
        Found::Finished(journal, summary) => {
            // The process that finished it may have been killed before its last clean-up.
            cleaner::clean_up(&journal, &request.grounds(journal.state())).await;
            return Ok(Begun::Finished(Summary::from_bytes(&summary)));
        }
        Found::Fits { journal, checked, plans, other } => (journal, checked, plans, other),
    };
    let journal = match journal {
        Some(journal) => journal,
        None => create(&request).await?,
    };
    let sources = planned(&request, plans)?;
    let job = claim(request, journal, checked, sources, other).await?;
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
    other: Option<Box<Other>>,
) -> Result<Job, BeginError> {
    let term = match &request.previous {
        Some(Previous { owner, authority }) => {
            journal.take_over(&request.owner, *authority, owner).await?
        }
        None => journal.claim(&request.owner, Authority::Owner).await?,
    };
    // Another coordinator may have begun from it meanwhile.
    let other = match other.filter(|_| journal.state().is_untouched()) {
        Some(other) => Some(other.copy(&journal).await?),
        None => None,
    };
    // What is given up is decided from the journal that was claimed.
    let discarded = match &other {
        Some(_) => BTreeSet::new(),
        None => {
            let run = &journal.incarnation().id;
            let own = fit::Recorded::of(journal.state())?;
            own.check_signatures(&checked, run, &request.discard)?
        }
    };
    if !discarded.is_empty() {
        tracing::warn!(steps = ?discarded, "state is given up, as upgrade.discard says");
    }
    let discarded = discard::discarded(journal.state(), &discarded);
    let plan = Plan { discarded, ..plan_record(&request.spec, &checked, &sources) };
    if journal.state().plan.as_deref() != Some(&plan) {
        journal.append(Entry::Plan(plan)).await?;
    }
    if let Some(other) = other {
        for entry in other.entries(journal.state(), request.spec.checkpoint.retained) {
            journal.append(entry).await?;
        }
        let (checkpoint, uri) = (other.checkpoint().0, &request.state_uri);
        tracing::info!(checkpoint, uri, "begins from another job's state");
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
        discarded: Vec::new(),
    }
}

type Plans = BTreeMap<String, SourcePlan>;

/// What came of looking at the sources.
#[derive(Default)]
struct Looked {
    plans: Plans,
    /// Missing, damaged, not supported.
    problems: Vec<Problem>,
    /// What is wrong in the manifest itself; the check says it with the path of the field.
    declared: Vec<Problem>,
    /// Those that did not answer.
    unreachable: Vec<(String, SourceError)>,
}

/// The plans that the journal has, and those of sources that are new.
async fn plan_sources(spec: &JobSpec, before: &fit::Recorded, objects: &dyn Objects) -> Looked {
    let mut looked = Looked::default();
    for (index, step) in spec.pipeline.iter().enumerate() {
        let Verb::Source(declared) = &step.verb else { continue };
        if let Some(plan) = before.sources.get(&step.id) {
            looked.plans.insert(step.id.clone(), plan.clone());
            continue;
        }
        let path = format!("spec.pipeline[{index}].source");
        match source::plan(&step.id, declared, objects).await {
            Ok(plan) => {
                looked.plans.insert(step.id.clone(), plan);
            }
            Err(cause @ SourceError::Unreachable { .. }) => looked.unreachable.push((path, cause)),
            Err(cause @ SourceError::Declaration { .. }) => {
                looked.declared.push(Problem { path, message: cause.to_string() });
            }
            Err(cause) => looked.problems.push(Problem { path, message: cause.to_string() }),
        }
    }
    looked
}

/// Checks everything that can be checked; problems of sources and of steps come together, in the
/// order of the steps.
fn check_job(spec: &JobSpec, looked: &Looked) -> Result<CheckedJob, Vec<Problem>> {
    let mut problems = looked.problems.clone();
    let mut schemas = SourceSchemas::new();
    for (step, plan) in &looked.plans {
        match source::schema(plan) {
            Ok(schema) => {
                schemas.insert(step.clone(), schema.as_ref().clone());
            }
            Err(cause) => problems.push(Problem {
                path: format!("{}.source", step_path(&spec.pipeline, step)),
                message: cause.to_string(),
            }),
        }
    }
    let (checked, more) = match check(spec, &schemas) {
        Ok(checked) => (Some(checked), Vec::new()),
        Err(more) => (None, more),
    };
    // What the check found below a source is what is wrong in its declaration.
    let told = |path: &str| more.iter().any(|problem| is_below(&problem.path, path));
    let declared = looked.declared.iter().filter(|problem| !told(&problem.path));
    problems.extend(declared.cloned());
    // A source that can't be planned has no columns: that was said already.
    let silent = |path: &str| {
        problems.iter().any(|problem| problem.path == path)
            || looked.declared.iter().any(|problem| problem.path == path)
            || looked.unreachable.iter().any(|(unreachable, _)| unreachable == path)
    };
    let more: Vec<Problem> = more.into_iter().filter(|problem| !silent(&problem.path)).collect();
    problems.extend(more);
    problems.sort_by_key(|problem| step_index(&problem.path));
    match checked {
        Some(checked) if problems.is_empty() => Ok(checked),
        // Without its columns nothing is checked: then the source is what is wrong.
        _ => Err(problems),
    }
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// The index in `spec.pipeline[7].filter`; the last of all for another path.
fn step_index(path: &str) -> usize {
    let rest = path.strip_prefix("spec.pipeline[").and_then(|rest| rest.split_once(']'));
    rest.and_then(|(index, _)| index.parse().ok()).unwrap_or(usize::MAX)
}

/// All problems of a manifest that show without a journal, for `weir validate`; second: sources
/// that did not answer.
pub async fn problems(spec: &JobSpec, objects: &dyn Objects) -> (Vec<Problem>, Vec<BeginError>) {
    let looked = plan_sources(spec, &fit::Recorded::default(), objects).await;
    let problems = check_job(spec, &looked).err().unwrap_or_default();
    let unreachable = looked.unreachable.into_iter().map(unreachable).collect();
    (problems, unreachable)
}

fn unreachable((path, cause): (String, SourceError)) -> BeginError {
    BeginError::Unreachable { path, cause: Box::new(cause) }
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

/// A sink that this state has never written to must not hold another run's files, but for what the
/// job that it begins from wrote up to there.
async fn check_sinks(
    request: &Request,
    before: &fit::Recorded,
    other: Option<&Other>,
) -> Result<(), BeginError> {
    let claimed = request.root.claimed().await?;
    let known: BTreeSet<&str> = claimed.iter().map(|run| run.id.as_str()).collect();
    for (index, step) in request.spec.pipeline.iter().enumerate() {
        let Verb::Sink(sink) = &step.verb else { continue };
        let Some((uri, store)) = sink.folder() else { continue };
        if before.has_step(step) {
            continue;
        }
        let path = format!("spec.pipeline[{index}].sink");
        let failed = |cause| BeginError::Sink { path: path.clone(), cause: Box::new(cause) };
        if let Some(folder) = request.objects.local_folder(uri)
            && let Ok(Err(cause)) = task::blocking(move || local::probe(&folder)).await
        {
            return Err(BeginError::Unwritable { path, folder: uri.to_owned(), cause });
        }
        let folder = request.objects.open(uri, store);
        let folder =
            folder.map_err(|cause| failed(SinkError::Uri { step: step.id.clone(), cause }))?;
        let files = publish::committed_files(&folder, &step.id).await.map_err(failed)?;
        let is_known = |file: &&publish::CommittedFile| {
            known.contains(file.run.as_str()) || other.is_some_and(|other| other.has_written(file))
        };
        if let Some(file) = files.iter().find(|file| !is_known(file)) {
            return Err(BeginError::ForeignFiles {
                path,
                folder: uri.to_owned(),
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
