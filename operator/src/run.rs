//! `weir run`: one job on this machine, its workers as child processes.
//!
//! - `run/folder.rs` — the job's folder, its owner and its lock. `run/local.rs` — worker processes.
//! - `run/progress.rs` — what is shown meanwhile. `run/signals.rs` — Ctrl-C and SIGTERM.
//! - `run/watched.rs` — the manifest, once it is edited.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use weir_engine::coordinator::begin::fresh::fresh;
use weir_engine::coordinator::begin::restore::Origin;
use weir_engine::coordinator::begin::{self, BeginError, Begun, Previous, Request, begin};
use weir_engine::coordinator::print::Print;
use weir_engine::coordinator::run::{Outcome, Outside, Target, Wanted, run_job};
use weir_engine::coordinator::snapshots::Wishes;
use weir_engine::coordinator::status::{Phase, Status};
use weir_engine::network::grpc::GrpcNetwork;
use weir_engine::objects::{RealObjects, is_same_store};
use weir_engine::pipeline::spec::{JobSpec, StoreSpec};
use weir_runtime::{clock, random, task};
use weir_state::journal::Root;
use weir_state::journal::record::Authority;
use weir_state::objects::{StoreOptions, open, open_existing};

use crate::cli::{ProcessRole, RunArgs};
use crate::exit::{Exit, chain, report, say};
use crate::log;
use crate::manifest::Manifest;
use crate::translate::{Beginning, RestoreFrom};

pub(crate) mod folder;
mod local;
mod progress;
mod signals;
mod watched;

use folder::JobFolder;
use local::LocalCluster;
use signals::Signals;

/// How long sources that do not answer are waited for before the job has begun.
const UNREACHABLE_MAX: Duration = Duration::from_secs(600);
/// Pauses between two looks at them: the first, and the longest; each is twice the one before.
const UNREACHABLE_PAUSE_FIRST: Duration = Duration::from_secs(1);
const UNREACHABLE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Runs a job until it is finished, failed or stopped. One that its manifest suspends waits for the
/// next edit.
pub(crate) async fn run(args: RunArgs) -> Exit {
    let Some(mut wanted) = read(&args).await else { return Exit::BadInput };
    let folder = match JobFolder::hold(&args.data, &wanted.spec.name) {
        Ok(folder) => folder,
        Err(error) => return refused(&error),
    };
    if let Err(error) = folder.note_base(&wanted.base_folder) {
        return refused(&error);
    }
    match local::open_log(&folder.logs().join("coordinator.log")) {
        Ok(file) => log::to_file(file),
        Err(error) => return refused(&error),
    }
    let mut signals = Signals::listen();
    let mut fresh = args.fresh;
    loop {
        if wanted.suspend {
            match wait_for_edit(&args.file, &mut wanted, &mut signals).await {
                Ok(()) => {}
                Err(exit) => return exit,
            }
        }
        let went_on = wanted.judged.is_some();
        let started = tokio::select! {
            biased;
            () = signals.stopped() => {
                say("stopped before the job began; the same command begins it");
                return Exit::Suspended;
            }
            started = start(&args, &wanted, &folder, &mut fresh) => started,
        };
        wanted.suspend = true;
        match started {
            Ok((Begun::Finished(summary), _)) => {
                say(&format!("finished already: {summary}"));
                say("nothing was changed; --fresh deletes its state and output and runs it again");
                return Exit::Done;
            }
            Ok((Begun::Ready(job), token)) => {
                let ended = drive(*job, &args.file, &wanted.spec, &folder, token, &signals).await;
                if let Ok(exit) = ended {
                    return exit;
                }
                // The same text as before may be what it goes on with.
                wanted.judged = None;
            }
            Err(Exit::BadInput) if went_on => say("the job stays suspended"),
            Err(exit) => {
                if exit == Exit::BadInput {
                    folder.undo();
                }
                return exit;
            }
        }
    }
}

/// The job is suspended, and nobody stops the process.
struct Paused;

/// What is to be run.
struct Job {
    spec: JobSpec,
    base_folder: PathBuf,
    /// What counts when it begins.
    beginning: Beginning,
    /// The manifest says so, or could not be gone on with.
    suspend: bool,
    /// The text that it tried to go on with after it was suspended: the same again is no edit.
    judged: Option<String>,
}

/// Waits until the manifest no longer suspends the job, or a signal comes.
async fn wait_for_edit(file: &Path, job: &mut Job, signals: &mut Signals) -> Result<(), Exit> {
    let (name, file_name) = (&job.spec.name, file.display());
    say(&format!(
        "job {name} is suspended by {file_name}; it goes on when `suspend` is false there, and \
         Ctrl-C stops waiting"
    ));
    let resumed = tokio::select! {
        biased;
        () = signals.stopped() => {
            say("stopped waiting; the job stays suspended");
            return Err(Exit::Suspended);
        }
        resumed = watched::resumed(file, name, job.judged.take()) => resumed,
    };
    say(&format!("{file_name}: taken over: job {name} goes on"));
    job.spec = resumed.spec;
    job.beginning = resumed.beginning;
    (job.judged, job.suspend) = (Some(resumed.text), false);
    Ok(())
}

/// Begins the job, with the run's token; waits for sources that do not answer.
async fn start(
    args: &RunArgs,
    wanted: &Job,
    folder: &JobFolder,
    fresh_wanted: &mut bool,
) -> Result<(Begun, String), Exit> {
    let deadline = clock::now() + UNREACHABLE_MAX;
    let mut pause = UNREACHABLE_PAUSE_FIRST;
    loop {
        let request = request(args, wanted, folder).await?;
        if std::mem::take(fresh_wanted) {
            let cleared =
                fresh(&wanted.spec, &request.root, &request.owner, &*request.objects).await;
            cleared.map_err(|error| refused(&error))?;
        }
        let token = request.token.clone();
        match begin(request).await {
            Ok(begun) => return Ok((begun, token)),
            Err(error) if error.is_unreachable() && clock::now() + pause < deadline => {
                say(&format!("{}; tried again in {} s", chain(&error), pause.as_secs()));
                clock::sleep(pause).await;
                pause = (pause * 2).min(UNREACHABLE_PAUSE_MAX);
            }
            Err(error) => return Err(not_begun(&args.file, &error)),
        }
    }
}

fn refused(error: &dyn std::error::Error) -> Exit {
    report(error);
    Exit::BadInput
}

fn not_begun(file: &Path, error: &BeginError) -> Exit {
    match error {
        BeginError::Problems(problems) => {
            for problem in problems {
                say(&format!("{}: {problem}", file.display()));
            }
        }
        error => report(error),
    }
    if error.is_bad_input() { Exit::BadInput } else { Exit::Failed }
}

/// The manifest, if it has no problem; else all of them are told.
async fn read(args: &RunArgs) -> Option<Job> {
    let mut manifest = match Manifest::read(&args.file) {
        Ok(manifest) => manifest,
        Err(error) => {
            report(&error);
            return None;
        }
    };
    let is_new = |spec: &JobSpec| !args.data.join(&spec.name).exists();
    // What is left is checked too: all problems at once. A job's first manifest is checked before
    // anything is made for it; a later one against what its run knows of its sources.
    if !manifest.problems.is_empty() || manifest.spec.as_ref().is_some_and(is_new) {
        manifest.check().await;
    }
    for problem in &manifest.problems {
        say(&format!("{}: {problem}", args.file.display()));
    }
    if !manifest.problems.is_empty() {
        return None;
    }
    let Manifest { suspend, base_folder, beginning, .. } = manifest;
    Some(Job { spec: manifest.spec?, base_folder, beginning, suspend, judged: None })
}

async fn request(args: &RunArgs, wanted: &Job, folder: &JobFolder) -> Result<Request, Exit> {
    let base_folder = &wanted.base_folder;
    let uri = args.state.clone().unwrap_or_else(|| folder.state().display().to_string());
    let place = open(&uri, &StoreOptions::default()).await.map_err(|error| refused(&error))?;
    // Workers have another idea of relative paths.
    let local = place.local.as_ref().map(|path| path.display().to_string());
    let root = Root::new(place);
    let origin = origin(wanted, &root, &uri).await?;
    let previous = wanted.beginning.take_over.clone();
    let previous = previous.map(|owner| Previous { owner, authority: Authority::TakeOver });
    Ok(Request {
        spec: wanted.spec.clone(),
        state_uri: local.unwrap_or(uri),
        state_store: StoreSpec::default(),
        root,
        base_folder: base_folder.display().to_string(),
        owner: folder.owner.clone(),
        previous,
        objects: Arc::new(RealObjects { base_folder: base_folder.clone() }),
        network: GrpcNetwork::loopback(),
        token: format!("{}{}", random::id(), random::id()),
        origin,
        discard: wanted.beginning.discard.clone(),
    })
}

/// Whose state the job begins from, if it has none of its own; else the manifest's word has no effect.
async fn origin(wanted: &Job, own: &Root, own_uri: &str) -> Result<Option<Origin>, Exit> {
    let Some(from) = &wanted.beginning.restore_from else { return Ok(None) };
    let is_untouched = begin::is_untouched(own).await.map_err(|error| refused(&error))?;
    if !is_untouched {
        return Ok(None);
    }
    let (uri, store) = match from {
        RestoreFrom::Uri(uri, store) => (uri, store),
        RestoreFrom::Snapshot(name) => {
            say(&format!(
                "spec.restoreFrom.snapshotRef: JobSnapshot {name} lies in a cluster; under `weir run` \
                 write restoreFrom.uri, the state folder of another job"
            ));
            return Err(Exit::BadInput);
        }
    };
    let is_relative = !uri.contains("://");
    let at = match is_relative {
        true => wanted.base_folder.join(uri).display().to_string(),
        false => uri.clone(),
    };
    let options = StoreOptions {
        endpoint: store.endpoint.clone(),
        region: store.region.clone(),
        allow_http: store.allow_http,
        path_style: store.path_style.then_some(true),
        credentials: None,
    };
    let place = open_existing(&at, &options).await;
    let place = place.map_err(|error| {
        say(&format!("spec.restoreFrom.uri: {}", chain(&error)));
        Exit::BadInput
    })?;
    let same_store = is_same_store((&at, store), (own_uri, &StoreSpec::default()));
    Ok(Some(Origin { root: Root::new(place), snapshot: None, same_store }))
}

/// Runs the job until it is over, or paused by its manifest.
async fn drive(
    job: begin::Job,
    file: &Path,
    spec: &JobSpec,
    folder: &JobFolder,
    token: String,
    signals: &Signals,
) -> Result<Exit, Paused> {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Ok(refused(&error)),
    };
    let started = clock::now();
    let name = job.name().to_owned();
    let (wish, wanted) = watch::channel(Wanted::Run);
    let (status, shown) = watch::channel(Status::default());
    let stopping = task::spawn(signals.clone().suspend(wish.clone()));
    let (steer, target) = watch::channel(Target::of(spec));
    let watching = task::spawn(watched::watch(file.to_owned(), spec.clone(), steer, wish));
    let progress = task::spawn(progress::show(shown));
    let processes = |role| LocalCluster::new(role, program.clone(), folder.logs(), token.clone());
    let mut cluster = processes(ProcessRole::Worker);
    let compactors = Box::new(processes(ProcessRole::Compactor));
    let (_ask, asked) = watch::channel(0);
    let (_wish_snapshots, snapshots) = watch::channel(Wishes::new());
    let print = Box::new(StandardOutput);
    let outside = Outside { wanted, target, asked, snapshots, status, print, compactors };
    let outcome = Box::pin(run_job(job, &mut cluster, outside)).await;
    watching.abort();
    stopping.abort();
    if let Err(error) = progress.await {
        tracing::error!("bug in Weir: showing progress: {error}");
    }
    let seconds = started.elapsed().as_secs_f64();
    if outcome.phase == Phase::Suspended && !signals.have_come() {
        say(&format!("job {name} suspended: {}, {seconds:.1} seconds", outcome.summary));
        return Err(Paused);
    }
    Ok(end(&name, &outcome, seconds, &folder.logs()))
}

fn end(name: &str, outcome: &Outcome, seconds: f64, logs: &Path) -> Exit {
    let summary = &outcome.summary;
    match &outcome.phase {
        Phase::Finished => {
            say(&format!("job {name} finished: {summary}, {seconds:.1} seconds"));
            Exit::Done
        }
        Phase::Suspended => {
            say(&format!("job {name} suspended: {summary}, {seconds:.1} seconds"));
            say("the same command goes on from its last checkpoint");
            Exit::Suspended
        }
        Phase::Fenced(why) => {
            say(&format!("error: job {name} runs elsewhere now: {why}"));
            Exit::Failed
        }
        other => {
            let why = match other {
                Phase::Failed(why) => why.as_str(),
                _ => "it ended without a reason, which is a bug in Weir",
            };
            say(&format!("error: job {name} failed: {why}"));
            say(&format!(
                "logs are in {}; the same command goes on from the last checkpoint, --fresh \
                 begins anew",
                logs.display()
            ));
            Exit::Failed
        }
    }
}

/// Rows of `print` sinks.
struct StandardOutput;

impl Print for StandardOutput {
    fn print(&mut self, _step: &str, lines: &[u8]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(lines)?;
        out.flush()
    }
}
