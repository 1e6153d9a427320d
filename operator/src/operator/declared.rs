//! A job's resource as it was declared: read with the command line's own reader, so that what an API
//! server cannot check is found with the same words. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::json;
use weir_crds::{StatefulJob, StatefulJobStatus};
use weir_engine::coordinator::run::Target;
use weir_engine::pipeline::spec::{JobSpec, SinkSpec, SourceKind, StoreSpec, Verb};
use xxhash_rust::xxh3::xxh3_64;

use super::names;
use super::plan::{Wanted, Wish};
use super::snapshots::timed::Timed;
use super::template::{Source, Template};
use crate::schedule::{BadSchedule, Schedule};
use crate::translate::{self, Beginning};

/// Of a resource that cannot be read.
const CHANGE_MAX: Duration = Duration::from_secs(600);

/// A job's resource.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) resource_version: u64,
    pub(crate) wish: Wish,
    /// The last wish for a checkpoint at once.
    pub(crate) asked: Option<String>,
    /// When it was made.
    pub(crate) created_at: DateTime<Utc>,
    /// When its deletion was asked for, in seconds since 1970.
    pub(crate) deleted_at: Option<i64>,
    pub(crate) has_finalizer: bool,
    pub(crate) suspend: bool,
    pub(crate) policy: weir_crds::DeletionPolicy,
    /// A job that was ready and recovers is ready for this long.
    pub(crate) ready_after: Duration,
    /// A change that is not reached by then is said to have stalled. The job runs on.
    pub(crate) change_max: Duration,
    pub(crate) status: StatefulJobStatus,
    /// Where its state is, whatever is wrong with the rest.
    pub(crate) state: Option<State>,
    /// What is to run, or everything that is wrong with it.
    pub(crate) job: Result<DeclaredJob, String>,
}

/// A job that can be run, as far as its resource tells.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredJob {
    pub(crate) spec: JobSpec,
    pub(crate) state: State,
    pub(crate) template: Template,
    pub(crate) wanted: Wanted,
    /// What counts when it begins.
    pub(crate) beginning: Beginning,
    /// Snapshots by the clock.
    pub(crate) timed: Option<Timed>,
}

/// Where a job's state is; written so into the annotation of its snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// The state folder.
    pub(crate) uri: String,
    /// How to reach it.
    #[serde(default)]
    pub(crate) store: StoreSpec,
}

/// What holds for jobs that say nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    pub(crate) image: String,
    /// Folder of the states of jobs without `state.uri`.
    pub(crate) state_uri: Option<String>,
}

impl Declared {
    /// Of a resource as the API server has it; none without a name, a namespace and a uid.
    pub(crate) fn of(object: &DynamicObject, defaults: &Defaults) -> Option<Self> {
        let metadata = &object.metadata;
        let (namespace, name) = (metadata.namespace.clone()?, metadata.name.clone()?);
        let uid = metadata.uid.clone()?;
        let annotation = |name: &str| metadata.annotations.as_ref()?.get(name).cloned();
        let wish = Wish {
            generation: metadata.generation.unwrap_or_default(),
            restart: annotation(names::RESTART),
        };
        let text = json!({
            "apiVersion": "weir.dev/v1alpha1",
            "kind": "StatefulJob",
            "metadata": {"name": name},
            "spec": object.data.get("spec"),
        });
        let read = weir_crds::inspect_manifest(&text.to_string());
        let problems: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
        let spec = read.job.as_ref().map(|job| &job.spec);
        let finalizers = metadata.finalizers.iter().flatten();
        let status = object.data.get("status").cloned().unwrap_or_default();
        Some(Self {
            resource_version: version(metadata.resource_version.as_deref()),
            created_at: metadata
                .creation_timestamp
                .as_ref()
                .and_then(|time| DateTime::from_timestamp(time.0.as_second(), 0))
                .unwrap_or_default(),
            deleted_at: metadata.deletion_timestamp.as_ref().map(|time| time.0.as_second()),
            has_finalizer: finalizers.into_iter().any(|name| name == names::FINALIZER),
            suspend: spec.is_some_and(|spec| spec.suspend),
            policy: spec.map(|spec| spec.deletion_policy).unwrap_or_default(),
            ready_after: spec.map_or(CHANGE_MAX, |spec| time(spec.failover.ready_after)),
            change_max: spec.map_or(CHANGE_MAX, |spec| {
                time(spec.rescale.deadline) + time(spec.rescale.cooldown)
            }),
            state: State::of(object, &namespace, &name, defaults).ok(),
            // A status that was written by hand says nothing.
            status: serde_json::from_value(status).unwrap_or_default(),
            job: match read.job {
                Some(job) if problems.is_empty() => {
                    DeclaredJob::of(&job, &namespace, &uid, &wish, defaults)
                }
                _ => Err(problems.join("; ")),
            },
            namespace,
            name,
            uid,
            wish,
            asked: annotation(names::CHECKPOINT).filter(|asked| !asked.is_empty()),
        })
    }
}

fn time(declared: weir_crds::Duration) -> Duration {
    Duration::from_millis(declared.as_millis())
}

/// Resource versions are numbers that grow.
pub(crate) fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

impl DeclaredJob {
    fn of(
        job: &StatefulJob,
        namespace: &str,
        uid: &str,
        wish: &Wish,
        defaults: &Defaults,
    ) -> Result<Self, String> {
        let (spec, _) = translate::job_spec(job);
        let state = State::in_namespace(&job.spec.state, namespace, &spec.name, defaults)?;
        let secrets = secrets(&spec, &state.store);
        let template = Template::of(&Source {
            job,
            namespace,
            uid,
            secrets: &secrets,
            restart: wish.restart.as_deref(),
            default_image: &defaults.image,
        })?;
        let beginning = translate::beginning(job);
        let Beginning { restore_from, take_over, .. } = &beginning;
        let wanted = Wanted {
            form: form(&spec, &state),
            origin: xxh3_64(format!("{restore_from:?}{take_over:?}").as_bytes()),
            target: Target::of(&spec),
        };
        let timed = timed(job).map_err(|error| format!("spec.checkpoint.snapshots.{error}"))?;
        Ok(Self { spec, state, template, wanted, beginning, timed })
    }
}

impl State {
    /// Of a resource of which nothing else need be right.
    fn of(
        object: &DynamicObject,
        namespace: &str,
        name: &str,
        defaults: &Defaults,
    ) -> Result<Self, String> {
        let spec = object.data.get("spec").and_then(|spec| spec.get("state"));
        let spec = spec.cloned().unwrap_or_else(|| json!({}));
        let spec = serde_json::from_value(spec).map_err(|error| error.to_string())?;
        Self::in_namespace(&spec, namespace, name, defaults)
    }

    fn in_namespace(
        spec: &weir_crds::StateSpec,
        namespace: &str,
        name: &str,
        defaults: &Defaults,
    ) -> Result<Self, String> {
        let uri = match (&spec.uri, &defaults.state_uri) {
            (Some(uri), _) => uri.clone(),
            (None, Some(folder)) => format!("{}/{namespace}/{name}", folder.trim_end_matches('/')),
            (None, None) => {
                let why = "spec.state.uri: is missing, and the operator has no default for it";
                return Err(why.to_owned());
            }
        };
        Ok(Self { uri, store: translate::store(spec.store.as_ref()) })
    }
}

/// When the job wants snapshots.
fn timed(job: &StatefulJob) -> Result<Option<Timed>, BadSchedule> {
    let Some(declared) = &job.spec.checkpoint.snapshots else { return Ok(None) };
    let schedule = Schedule::parse(&declared.schedule, &declared.time_zone)?;
    let retained = usize::try_from(declared.retained).unwrap_or(usize::MAX);
    Ok(Some(Timed { schedule, retained }))
}

/// A hash of what a coordinator cannot change while it runs.
fn form(spec: &JobSpec, state: &State) -> u64 {
    let mut said = serde_json::to_value(spec).unwrap_or_default();
    if let Some(fields) = said.as_object_mut() {
        for live in JobSpec::LIVE {
            fields.remove(live);
        }
    }
    xxh3_64(json!([said, state.uri, state.store]).to_string().as_bytes())
}

/// A wish for a checkpoint, as a coordinator takes it.
pub(crate) fn asked_number(asked: Option<&String>) -> u64 {
    asked.map_or(0, |asked| xxh3_64(asked.as_bytes()).max(1))
}

/// Names of all secrets that the job's stores need.
fn secrets(spec: &JobSpec, state_store: &StoreSpec) -> BTreeSet<String> {
    let stores = spec.pipeline.iter().filter_map(|step| match &step.verb {
        Verb::Source(source) => match &source.kind {
            SourceKind::Files { store, .. } => Some(store),
            _ => None,
        },
        Verb::Sink(SinkSpec::Files { store, .. }) => Some(store),
        Verb::Sink(SinkSpec::Table(table)) => Some(&table.store),
        _ => None,
    });
    stores.chain([state_store]).filter_map(|store| store.secret.clone()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn declared(spec: &Value) -> Declared {
        let object = serde_json::from_value(json!({
            "metadata": {
                "name": "j", "namespace": "n", "uid": "u", "generation": 3, "resourceVersion": "17",
                "finalizers": ["weir.dev/state"], "annotations": {"weir.dev/restart": "now"},
            },
            "spec": spec,
        }));
        let image = "weir:1".to_owned();
        let defaults = Defaults { image, state_uri: Some("s3://states/all/".to_owned()) };
        Declared::of(&object.unwrap(), &defaults).unwrap()
    }

    fn spec() -> Value {
        json!({"replicas": 2, "deletionPolicy": "Delete", "pipeline": [
            {"id": "s", "source": {"generate": {"keys": {}}}},
            {"id": "o", "from": "s", "sink": {
                "files": {"uri": "s3://out/x", "store": {"secretRef": {"name": "keys"}}},
            }},
        ]})
    }

    #[test]
    fn a_resource_says_what_is_to_run_and_where() {
        let read = declared(&spec());
        assert_eq!((read.wish.generation, read.resource_version), (3, 17));
        assert!(read.has_finalizer && read.policy == weir_crds::DeletionPolicy::Delete);
        let job = read.job.unwrap();
        assert_eq!(job.state.uri, "s3://states/all/n/j");
        assert_eq!(read.state.as_ref(), Some(&job.state));
        assert_eq!(job.wanted.target.replicas, 2);
        assert_eq!(secrets(&job.spec, &job.state.store), BTreeSet::from(["keys".to_owned()]));
    }

    #[test]
    fn what_can_change_while_it_runs_is_no_other_form() {
        let form = |change: &dyn Fn(&mut Value)| {
            let mut spec = spec();
            change(&mut spec);
            declared(&spec).job.unwrap().wanted.form
        };
        let before = form(&|_| {});
        assert_eq!(before, form(&|spec| spec["replicas"] = json!(5)));
        assert_eq!(before, form(&|spec| spec["checkpoint"] = json!({"interval": "1s"})));
        assert_eq!(before, form(&|spec| spec["rescale"] = json!({"cooldown": "1s"})));
        assert_eq!(before, form(&|spec| spec["worker"] = json!({"image": "x"})));
        assert_ne!(before, form(&|spec| spec["state"] = json!({"order": "Strict"})));
        assert_ne!(before, form(&|spec| spec["state"] = json!({"uri": "s3://b/x"})));
    }

    #[test]
    fn what_no_api_server_checks_is_told() {
        let mut wrong = spec();
        wrong["pipeline"][1]["from"] = json!("nobody");
        let wrong = declared(&wrong);
        let state = wrong.state.expect("its state is to be found all the same");
        assert_eq!(state.uri, "s3://states/all/n/j");
        let told = wrong.job.unwrap_err();
        assert!(told.contains("spec.pipeline[1].from") && told.contains("nobody"), "{told}");
    }
}
