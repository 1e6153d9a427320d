//! `weir plan`: what a manifest would do, before it is run or applied. Nothing is written.
//!
//! Against the state that is there it says whether the manifest fits, in the words of whoever would
//! refuse it; against an earlier manifest (`--from`) what each changed field does. `changes` is pure.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use weir_crds::{RestoreSpec, StatefulJob};
use weir_engine::coordinator::begin::outline::{Before, Outline, outline};
use weir_engine::objects::RealObjects;
use weir_engine::pipeline::spec::JobSpec;
use weir_state::journal::Root;
use weir_state::objects::{Place, StoreError, StoreOptions, open_existing};

use crate::cli::PlanArgs;
use crate::exit::{Exit, report, say};
use crate::manifest::Manifest;
use crate::state::out;
use crate::translate;

/// Columns of a step that are named before the rest is left out.
const COLUMNS_SHOWN: usize = 8;

/// A manifest's resource and its job.
struct Read {
    job: StatefulJob,
    spec: JobSpec,
    base_folder: PathBuf,
}

/// Says what would happen.
pub(crate) async fn run(args: PlanArgs) -> Exit {
    let Ok(now) = read(&args.file).await else { return Exit::BadInput };
    let before = match &args.from {
        Some(file) => match read(file).await {
            Ok(before) => Some(before),
            Err(()) => return Exit::BadInput,
        },
        None => None,
    };
    let (uri, place) = match state(&args, &now).await {
        Ok(found) => found,
        Err(error) => {
            report(&error);
            return if error.is_transient() { Exit::Failed } else { Exit::BadInput };
        }
    };
    let root = place.map(Root::new);
    let objects = RealObjects { base_folder: now.base_folder.clone() };
    let discard = translate::beginning(&now.job).discard;
    let outline = match outline(&now.spec, &discard, root.as_ref(), &objects).await {
        Ok(outline) => outline,
        Err(error) => {
            say(&format!("{}: refused", args.file.display()));
            report(&error);
            return if error.is_bad_input() { Exit::BadInput } else { Exit::Failed };
        }
    };
    let declared = before.as_ref().map(|before| changes(&before.job, &now.job));
    let refused = declared.iter().flatten().any(|change| change.effect == Effect::Refused);
    let written = out(&text(&now, &outline, &uri, declared.as_deref()));
    if refused && written == Exit::Done { Exit::BadInput } else { written }
}

/// Reads a manifest; its problems are said.
async fn read(file: &Path) -> Result<Read, ()> {
    let mut manifest = Manifest::read(file).map_err(|error| report(&error))?;
    if !manifest.problems.is_empty() {
        // All of them at once.
        manifest.check().await;
    }
    for problem in &manifest.problems {
        say(&format!("{}: {problem}", file.display()));
    }
    match (manifest.job, manifest.spec) {
        (Some(job), Some(spec)) if manifest.problems.is_empty() => {
            Ok(Read { job, spec, base_folder: manifest.base_folder })
        }
        _ => Err(()),
    }
}

/// Where the job's state would lie, and that place if something is there: `--state`, the folder of
/// `weir run` if there is one, or what the manifest says.
async fn state(args: &PlanArgs, now: &Read) -> Result<(String, Option<Place>), StoreError> {
    let local = args.data.join(&now.spec.name).join("state");
    let declared = &now.job.spec.state;
    let store = declared.store.as_ref().map(|store| StoreOptions {
        endpoint: store.endpoint.clone(),
        region: store.region.clone(),
        allow_http: store.allow_http,
        path_style: Some(store.path_style),
        credentials: None,
    });
    let (uri, options) = match (&args.state, &declared.uri) {
        (Some(uri), _) => (uri.clone(), store.unwrap_or_default()),
        (None, Some(uri)) if !local.exists() => (uri.clone(), store.unwrap_or_default()),
        (None, _) => (local.display().to_string(), StoreOptions::default()),
    };
    match open_existing(&uri, &options).await {
        Ok(place) => Ok((uri, Some(place))),
        Err(StoreError::Missing { .. }) => Ok((uri, None)),
        Err(error) => Err(error),
    }
}

/// What a changed field does to a job that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing that is running now.
    None,
    /// At once, and no row stands still.
    Live,
    /// New workers first, then a cut: rows stand still for a moment.
    Cut,
    /// Another term from the last checkpoint, on the same workers.
    Restart,
    /// A last checkpoint, and the workers end; or they come back.
    Suspend,
    /// It is not taken.
    Refused,
}

impl Effect {
    fn words(self) -> &'static str {
        match self {
            Self::None => "nothing that runs changes",
            Self::Live => "live: taken over at once, no row stands still",
            Self::Cut => "cut: new workers first, then rows stand still for a moment",
            Self::Restart => "restart: goes on from the last checkpoint, on the same workers",
            Self::Suspend => "a last checkpoint is taken and the workers end, or they begin again",
            Self::Refused => "refused: it is fixed for the job's life; set it back",
        }
    }
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    path: String,
    effect: Effect,
}

/// What differs between two manifests of one job, and what that does.
fn changes(before: &StatefulJob, now: &StatefulJob) -> Vec<Change> {
    let fields = |job: &StatefulJob| match serde_json::to_value(&job.spec) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (before, now) = (fields(before), fields(now));
    let mut found = Vec::new();
    for name in names(&before, &now) {
        let (old, new) = (before.get(&name), now.get(&name));
        match (old, new) {
            (old, new) if old == new => {}
            (Some(Value::Object(old)), Some(Value::Object(new))) if name == "state" => {
                let differs =
                    names(old, new).into_iter().filter(|key| old.get(key) != new.get(key));
                found.extend(differs.map(|key| {
                    // A folder that was the operator's default may be named later.
                    let was_named = old.get("uri").is_some_and(Value::is_string);
                    let is_fixed = key == "keyGroups" || (key == "uri" && was_named);
                    let effect = match key.as_str() {
                        _ if is_fixed => Effect::Refused,
                        "memory" => Effect::Cut,
                        _ => Effect::Restart,
                    };
                    Change { path: format!("spec.state.{key}"), effect }
                }));
            }
            _ => found.push(Change { path: format!("spec.{name}"), effect: effect(&name) }),
        }
    }
    found
}

fn names(before: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    now.keys().chain(gone).cloned().collect()
}

fn effect(field: &str) -> Effect {
    match field {
        "replicas" | "slots" | "worker" => Effect::Cut,
        "checkpoint" | "deletionPolicy" | "rescale" | "compaction" => Effect::Live,
        "suspend" => Effect::Suspend,
        "restoreFrom" | "upgrade" => Effect::None,
        _ => Effect::Restart,
    }
}

fn text(now: &Read, outline: &Outline, uri: &str, declared: Option<&[Change]>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12}{value}");
    };
    let spec = &now.spec;
    let width = spec.replicas * spec.slots;
    let stages: Vec<usize> = outline.steps.iter().flat_map(|step| step.stages.clone()).collect();
    let stages = stages.into_iter().max().map_or(0, |last| last + 1);
    line("job", format!("{}: {} steps in {stages} stages", spec.name, outline.steps.len()));
    let each = u32::from(spec.key_groups) / width.max(1);
    let rest = u32::from(spec.key_groups) % width.max(1);
    let most = if rest == 0 { String::new() } else { format!(" or {}", each + 1) };
    line("width", format!("{width}: {} replicas with {} slots", spec.replicas, spec.slots));
    line("key groups", format!("{}: {each}{most} for each subtask", spec.key_groups));
    let memory = spec.state_memory_bytes >> 20;
    line("memory", format!("{memory} MiB of state for each worker"));
    for step in &outline.steps {
        let stages: Vec<String> = step.stages.iter().map(ToString::to_string).collect();
        let mut more = vec![format!("{} in stage {}", step.verb, stages.join(", "))];
        more.extend(step.has_state.then(|| "keyed state".to_owned()));
        more.extend((step.verb == "source").then(|| match step.splits {
            Some(splits) => format!("{splits} splits"),
            None => "without end".to_owned(),
        }));
        let shown = step.columns.iter().take(COLUMNS_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let rest = step.columns.len().saturating_sub(COLUMNS_SHOWN);
        let rest = if rest == 0 { String::new() } else { format!(" and {rest} more") };
        more.push(format!("columns {shown}{rest}"));
        line("step", format!("{}: {}", step.id, more.join("; ")));
    }
    match &outline.before {
        None => line("state", format!("{uri}: nothing is there yet")),
        Some(before) => line("state", format!("{uri}: {}", described(before))),
    }
    let taken = taken_over(now.job.spec.restore_from.as_ref(), outline.before.as_ref());
    for sentence in taken.into_iter().chain(happens(spec, outline.before.as_ref(), width)) {
        line("then", sentence);
    }
    for step in &outline.discarded {
        line("then", format!("the state of step {step} is given up, as upgrade.discard says"));
    }
    for change in declared.unwrap_or_default() {
        line("change", format!("{}: {}", change.path, change.effect.words()));
    }
    if declared.is_some_and(<[Change]>::is_empty) {
        line("change", "none: both manifests say the same".to_owned());
    }
    text
}

fn described(before: &Before) -> String {
    let phase = match before {
        Before { is_finished: true, .. } => "finished",
        Before { is_released: true, .. } => "suspended",
        _ => "running or interrupted",
    };
    format!(
        "run {}, {phase}, checkpoint {}, generation {} of {} workers with width {}",
        before.run, before.checkpoint, before.generation, before.workers, before.width
    )
}

/// What `restoreFrom.takeOver` does.
fn taken_over(said: Option<&RestoreSpec>, before: Option<&Before>) -> Option<String> {
    let wanted = said?.take_over.as_ref()?;
    let before = before.filter(|its| !its.is_released && !its.is_finished);
    Some(match before {
        Some(before) if before.owner == *wanted => {
            format!("the state is taken over from {wanted}, which is fenced should it still run")
        }
        Some(before) => format!("takeOver has no effect: the owner is {}", before.owner),
        None => "takeOver has no effect: nobody owns the state".to_owned(),
    })
}

/// What becomes of the job, as far as its state tells.
fn happens(spec: &JobSpec, before: Option<&Before>, width: u32) -> Vec<String> {
    let Some(before) = before else {
        return vec!["the job begins".to_owned()];
    };
    if before.is_finished {
        return vec!["nothing: the job is finished, and its pipeline is the same".to_owned()];
    }
    let mut then = vec!["the manifest fits the state".to_owned()];
    if !before.changed.is_empty() {
        then.push(format!(
            "changed steps ({}): the job goes on with them from checkpoint {}",
            before.changed.join(", "),
            before.checkpoint
        ));
    }
    let is_other = before.width != width as usize || before.workers != spec.replicas as usize;
    if before.generation.0 > 0 && is_other {
        then.push(format!(
            "width {} on {} workers becomes {width} on {}: new workers first, then a cut; no state \
             is copied",
            before.width, before.workers, spec.replicas
        ));
    }
    if then.len() == 1 {
        then.push("nothing changes of steps and width".to_owned());
    }
    then
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: &str) -> StatefulJob {
        let text = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StatefulJob\nmetadata: {{name: j}}\nspec:\n{spec}  \
             pipeline:\n  - {{id: s, source: {{generate: {{keys: {{}}}}}}}}\n  \
             - {{id: o, from: s, sink: {{blackhole: {{}}}}}}\n"
        );
        weir_crds::read_manifest(&text).unwrap()
    }

    #[test]
    fn each_field_has_its_effect() {
        let before = job("  state: {uri: s3://b/x}\n");
        let effects = |spec: &str| -> Vec<(String, Effect)> {
            let found = changes(&before, &job(spec));
            found.into_iter().map(|change| (change.path, change.effect)).collect()
        };
        let one = |path: &str, effect| vec![(path.to_owned(), effect)];
        let kept = "  state: {uri: s3://b/x}\n";
        for (more, path, effect) in [
            ("  replicas: 3\n", "spec.replicas", Effect::Cut),
            ("  slots: 2\n", "spec.slots", Effect::Cut),
            ("  worker: {image: other}\n", "spec.worker", Effect::Cut),
            ("  worker: {podTemplate: {spec: {}}}\n", "spec.worker", Effect::Cut),
            ("  checkpoint: {interval: 1s}\n", "spec.checkpoint", Effect::Live),
            ("  deletionPolicy: Delete\n", "spec.deletionPolicy", Effect::Live),
            ("  failover: {restarts: 3}\n", "spec.failover", Effect::Restart),
            ("  suspend: true\n", "spec.suspend", Effect::Suspend),
            ("  upgrade: {discard: []}\n", "spec.upgrade", Effect::None),
        ] {
            assert_eq!(effects(&format!("{more}{kept}")), one(path, effect));
        }
        for (state, path, effect) in [
            ("uri: s3://b/y", "spec.state.uri", Effect::Refused),
            ("uri: s3://b/x, keyGroups: 256", "spec.state.keyGroups", Effect::Refused),
            ("uri: s3://b/x, memory: 1Gi", "spec.state.memory", Effect::Cut),
            ("uri: s3://b/x, order: Strict", "spec.state.order", Effect::Restart),
        ] {
            assert_eq!(effects(&format!("  state: {{{state}}}\n")), one(path, effect));
        }
        assert_eq!(effects(kept), []);
        let unnamed = job("");
        let named = changes(&unnamed, &before);
        assert_eq!(named, [Change { path: "spec.state.uri".to_owned(), effect: Effect::Restart }]);
    }

    #[test]
    fn taking_over_has_an_effect_on_the_owner_that_is_named_alone() {
        let said = |owner: &str| {
            let job = job(&format!("  restoreFrom: {{takeOver: {owner}}}\n"));
            let before = Before {
                run: "1-a".to_owned(),
                is_finished: false,
                is_released: false,
                owner: "there/n/j/u".to_owned(),
                generation: weir_state::ids::Generation(1),
                workers: 1,
                width: 1,
                checkpoint: weir_state::ids::CheckpointId(1),
                changed: Vec::new(),
            };
            let let_go = Before { is_released: true, ..before.clone() };
            let said = job.spec.restore_from;
            [Some(&before), Some(&let_go), None].map(|its| taken_over(said.as_ref(), its).unwrap())
        };
        let [taken, free, none] = said("there/n/j/u");
        assert!(taken.contains("is taken over from there/n/j/u"), "{taken}");
        assert!(free.contains("no effect: nobody owns") && none == free, "{free}");
        let [other, ..] = said("elsewhere/n/j/u");
        assert!(other.contains("no effect: the owner is there/n/j/u"), "{other}");
    }

    /// Every field of the schema has an effect that was thought of.
    #[test]
    fn no_field_is_forgotten() {
        let known = [
            "replicas",
            "slots",
            "pipeline",
            "state",
            "checkpoint",
            "failover",
            "suspend",
            "deletionPolicy",
            "worker",
            "rescale",
            "compaction",
            "upgrade",
            "restoreFrom",
        ];
        let Value::Object(fields) = serde_json::to_value(&job("").spec).unwrap() else { panic!() };
        let unknown: Vec<_> =
            fields.keys().filter(|field| !known.contains(&field.as_str())).collect();
        assert!(unknown.is_empty(), "what does `weir plan` say of {unknown:?}?");
    }
}
