//! What a worker's or a compactor's pod looks like. Pure.
//!
//! Two pods of the same form have the same hash. It is made of what the user said alone, so that a
//! newer operator, whose pods may look another way, restarts nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};
use weir_crds::{PodMetadata, StatefulJob, WorkerSpec};
use xxhash_rust::xxh3::xxh3_64;

use super::names;
use super::secrets::{
    AUTHORITIES_KEY, CERTIFICATE_KEY, COMPACTOR_CERTIFICATE_KEY, COMPACTOR_PRIVATE_KEY, PRIVATE_KEY,
};
use crate::cli::ProcessRole;
use crate::worker::{ALLOCATOR, TOKEN_VARIABLE};

mod overlay;

/// Memory of a worker beside its state (docs/benchmarks.md), when the user gives no resources.
const MEMORY_BESIDE_STATE_BYTES: u64 = 320 << 20;
/// From SIGTERM to SIGKILL: a worker hands its work over for up to 25 s.
const GRACE_SECONDS: i64 = 30;
/// For so long a pod stays on a node that does not answer. Kubernetes' own five minutes are for pods
/// that have something to lose there.
const LOST_NODE_SECONDS: u32 = 30;
/// Taints of a node that does not answer.
const LOST_NODE_TAINTS: [&str; 2] =
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// The volume with the process's certificate.
const TLS_VOLUME: &str = "tls";
/// The container that runs the worker.
pub(super) const CONTAINER: &str = "worker";
/// Volumes with the secrets of stores are called so, with a number behind it.
const STORE_VOLUME: &str = "store-";
/// The user that the image runs as.
const USER: i64 = 65_532;

/// The form of a job's pods.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    /// Tells forms apart.
    pub(crate) hash: String,
    namespace: String,
    job: String,
    uid: String,
    /// The user's.
    metadata: PodMetadata,
    spec: PodSpec,
}

/// What a template is made from.
pub(crate) struct Source<'a> {
    /// The job as its resource says it.
    pub(crate) job: &'a StatefulJob,
    pub(crate) namespace: &'a str,
    pub(crate) uid: &'a str,
    /// Secrets of its stores.
    pub(crate) secrets: &'a BTreeSet<String>,
    /// The value of the annotation that restarts workers.
    pub(crate) restart: Option<&'a str>,
    /// The image of jobs that name none.
    pub(crate) default_image: &'a str,
}

impl Template {
    /// The form that a job wants; or what is wrong with `spec.worker`, in one sentence.
    pub(crate) fn of(source: &Source<'_>) -> Result<Self, String> {
        let name = source.job.metadata.name.clone().unwrap_or_default();
        let worker = &source.job.spec.worker;
        let memory_bytes = source.job.spec.state.memory.as_bytes();
        let said = json!({
            "worker": worker,
            "memory": memory_bytes,
            "secrets": source.secrets,
            "restart": source.restart,
        });
        let template = worker.pod_template.as_ref();
        if let Some(why) = template.and_then(overlay::refusal) {
            return Err(why);
        }
        let whole = spec(source, worker, &name, memory_bytes);
        let spec: PodSpec = serde_json::from_value(whole.clone())
            .map_err(|error| format!("spec.worker: no pod can be made of it: {error}"))?;
        if let Some(field) = overlay::unknown(&whole, &json!(spec)) {
            return Err(format!("spec.worker: a pod has no field {field}"));
        }
        Ok(Self {
            hash: format!("{:016x}", xxh3_64(said.to_string().as_bytes())),
            namespace: source.namespace.to_owned(),
            job: name,
            uid: source.uid.to_owned(),
            metadata: template.and_then(|its| its.metadata.clone()).unwrap_or_default(),
            spec,
        })
    }

    /// What is wrong with `spec.worker`, wherever the job is to run.
    pub(crate) fn problem(job: &StatefulJob) -> Option<String> {
        let secrets = BTreeSet::new();
        let source = Source {
            job,
            namespace: "",
            uid: "",
            secrets: &secrets,
            restart: None,
            default_image: "",
        };
        Self::of(&source).err()
    }

    /// The pod of a process.
    pub(crate) fn pod(&self, role: ProcessRole, ordinal: u32, incarnation: &str) -> Pod {
        let mut spec = self.spec.clone();
        let component = match role {
            ProcessRole::Worker => names::COMPONENT,
            ProcessRole::Compactor => {
                for volume in spec.volumes.iter_mut().flatten() {
                    compactors_certificate(volume);
                }
                names::COMPACTOR
            }
        };
        if let Some(container) = spec.containers.first_mut() {
            container.args = Some(args(role, ordinal, incarnation));
        }
        let labels = [
            names::MANAGED_BY,
            component,
            (names::JOB, self.job.as_str()),
            (names::JOB_UID, self.uid.as_str()),
            (names::ORDINAL, &ordinal.to_string()),
            (names::INCARNATION, incarnation),
            (names::TEMPLATE, self.hash.as_str()),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let PodMetadata { labels: users, annotations } = &self.metadata;
        Pod {
            metadata: ObjectMeta {
                name: Some(names::pod(&self.job, incarnation)),
                namespace: Some(self.namespace.clone()),
                labels: Some(users.clone().into_iter().chain(labels.map(owned)).collect()),
                annotations: Some(annotations.clone()).filter(|its| !its.is_empty()),
                owner_references: Some(vec![owner(&self.job, &self.uid)]),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
            status: None,
        }
    }
}

/// What ties an object to its job: it goes when the resource goes.
pub(crate) fn owner(job: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "weir.dev/v1alpha1".to_owned(),
        kind: "StatefulJob".to_owned(),
        name: job.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }
}

/// Makes the volume with a worker's certificate one with a compactor's.
fn compactors_certificate(volume: &mut Volume) {
    let Some(secret) = volume.secret.as_mut().filter(|_| volume.name == TLS_VOLUME) else { return };
    for item in secret.items.iter_mut().flatten() {
        item.key = match item.path.as_str() {
            CERTIFICATE_KEY => COMPACTOR_CERTIFICATE_KEY,
            PRIVATE_KEY => COMPACTOR_PRIVATE_KEY,
            other => other,
        }
        .to_owned();
    }
}

fn args(role: ProcessRole, ordinal: u32, incarnation: &str) -> Vec<String> {
    let listen = format!("0.0.0.0:{}", names::PORT);
    let ordinal = ordinal.to_string();
    let args = [
        ["worker", "--ordinal"].as_slice(),
        &[&ordinal, "--listen", &listen, "--tls", names::TLS_FOLDER],
        &["--stores", names::STORES_FOLDER, "--incarnation", incarnation],
        match role {
            // What an image of an older Weir knows too.
            ProcessRole::Worker => &[],
            ProcessRole::Compactor => &["--role", "compactor"],
        },
    ];
    args.concat().into_iter().map(str::to_owned).collect()
}

fn spec(source: &Source<'_>, worker: &WorkerSpec, job: &str, memory_bytes: u64) -> Value {
    let selector: BTreeMap<&str, &str> = BTreeMap::from([(names::JOB, job), names::COMPONENT]);
    let select = |constraint: &mut Value| {
        if let Some(constraint) = constraint.as_object_mut() {
            constraint.entry("labelSelector").or_insert_with(|| json!({"matchLabels": selector}));
        }
    };
    let stores = source.secrets.iter().enumerate().map(|(index, secret)| {
        json!({"name": format!("{STORE_VOLUME}{index}"), "secret": {"secretName": secret, "optional": true}})
    });
    let items =
        [AUTHORITIES_KEY, CERTIFICATE_KEY, PRIVATE_KEY].map(|key| json!({"key": key, "path": key}));
    let certificate = json!({"name": TLS_VOLUME, "secret": {
        "secretName": names::job_secret(job),
        "items": items,
    }});
    let temporary = json!({"name": "tmp", "emptyDir": {}});
    let volumes: Vec<Value> = [certificate, temporary].into_iter().chain(stores).collect();
    let mut whole = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "serviceAccountName": worker.service_account_name,
        "priorityClassName": worker.priority_class_name,
        "imagePullSecrets": worker.image_pull_secrets,
        "nodeSelector": worker.node_selector,
        "tolerations": worker.tolerations,
        "affinity": worker.affinity,
        "topologySpreadConstraints": worker.topology_spread,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container(source, worker, job, memory_bytes)],
        "volumes": volumes,
    });
    let template = worker.pod_template.as_ref().and_then(|its| its.spec.as_ref());
    if let (Some(whole), Some(over)) = (whole.as_object_mut(), template) {
        overlay::lay_over(whole, &over.0);
    }
    let list = |whole: &mut Value, name: &str| whole[name].as_array_mut().map(std::mem::take);
    if let Some(said) = list(&mut whole, "tolerations") {
        whole["tolerations"] = json!(tolerations(said));
    }
    if let Some(mut said) = list(&mut whole, "topologySpreadConstraints") {
        said.iter_mut().for_each(select);
        whole["topologySpreadConstraints"] = json!(said);
    }
    whole
}

/// The user's, and ours of what they say nothing of.
fn tolerations(said: Vec<Value>) -> Vec<Value> {
    // One without a key is of every taint.
    let is_said = |taint: &str| {
        let mut keys = said.iter().map(|its| its.get("key").and_then(Value::as_str));
        keys.any(|key| key.is_none_or(|key| key.is_empty() || key == taint))
    };
    let ours = LOST_NODE_TAINTS.iter().filter(|taint| !is_said(taint)).map(|taint| {
        json!({
            "key": taint, "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": LOST_NODE_SECONDS,
        })
    });
    let ours: Vec<Value> = ours.collect();
    said.into_iter().chain(ours).collect()
}

fn container(source: &Source<'_>, worker: &WorkerSpec, job: &str, memory_bytes: u64) -> Value {
    let request = (memory_bytes + MEMORY_BESIDE_STATE_BYTES).to_string();
    let resources = match &worker.resources {
        Some(resources) => Value::Object(resources.0.clone()),
        None => json!({"requests": {"memory": request}}),
    };
    let token = json!({"name": TOKEN_VARIABLE, "valueFrom": {"secretKeyRef": {
        "name": names::job_secret(job), "key": super::secrets::TOKEN_KEY,
    }}});
    // The user's come behind and win.
    let allocator = ALLOCATOR.map(|(name, value)| json!({"name": name, "value": value}));
    let own = worker.env.iter().map(|variable| Value::Object(variable.0.clone()));
    let stores = source.secrets.iter().enumerate().map(|(index, secret)| {
        let path = format!("{}/{secret}", names::STORES_FOLDER);
        json!({"name": format!("{STORE_VOLUME}{index}"), "mountPath": path, "readOnly": true})
    });
    let mounts = [
        json!({"name": TLS_VOLUME, "mountPath": names::TLS_FOLDER, "readOnly": true}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": names::METRICS_PORT},
            "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 5,
        })
    };
    json!({
        "name": CONTAINER,
        "image": worker.image.as_deref().unwrap_or(source.default_image),
        "env": allocator.into_iter().chain(own).chain([token]).collect::<Vec<_>>(),
        "resources": resources,
        "ports": [
            {"name": "weir", "containerPort": names::PORT},
            {"name": "metrics", "containerPort": names::METRICS_PORT},
        ],
        "readinessProbe": probe("/readyz", 1, 3),
        "livenessProbe": probe("/healthz", 10, 6),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts.into_iter().chain(stores).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(worker: &str) -> StatefulJob {
        let text = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StatefulJob\nmetadata: {{name: j}}\nspec:\n  \
             worker: {worker}\n  pipeline:\n  - {{id: s, source: {{generate: {{keys: {{}}}}}}}}\n  \
             - {{id: o, from: s, sink: {{blackhole: {{}}}}}}\n"
        );
        weir_crds::read_manifest(&text).unwrap()
    }

    pub(super) fn template(
        worker: &str,
        image: &str,
        restart: Option<&str>,
    ) -> Result<Template, String> {
        Template::of(&Source {
            job: &job(worker),
            namespace: "n",
            uid: "u",
            secrets: &BTreeSet::from(["keys".to_owned()]),
            restart,
            default_image: image,
        })
    }

    #[test]
    fn a_pod_has_what_the_user_said() {
        let said = "{image: mine:1, resources: {limits: {cpu: 1}}, env: [{name: A, value: b}], \
                    topologySpread: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule}]}";
        let pod = template(said, "ours:1", None).unwrap().pod(ProcessRole::Worker, 3, "3-ab");
        assert_eq!(pod.metadata.name.as_deref(), Some("j-3-ab"));
        let spec = pod.spec.unwrap();
        let container = &spec.containers[0];
        assert_eq!(container.image.as_deref(), Some("mine:1"));
        assert_eq!(container.args.as_ref().unwrap().last().unwrap(), "3-ab");
        let env: Vec<&str> =
            container.env.iter().flatten().map(|variable| variable.name.as_str()).collect();
        let allocator = ALLOCATOR.map(|(name, _)| name);
        assert_eq!(env, [&allocator[..], &["A", TOKEN_VARIABLE]].concat());
        assert!(container.resources.as_ref().unwrap().limits.is_some());
        let spread = &spec.topology_spread_constraints.unwrap()[0];
        assert!(spread.label_selector.is_some(), "it counts this job's workers");
        assert!(spec.volumes.unwrap().iter().any(|volume| volume.name == "store-0"));
    }

    #[test]
    fn a_lost_node_is_left_soon_unless_the_user_says_how_long_it_is_waited_for() {
        let keys = |worker: &str| -> Vec<(Option<String>, Option<i64>)> {
            let pod = template(worker, "ours:1", None).unwrap().pod(ProcessRole::Worker, 0, "0-a");
            let spec = pod.spec.unwrap();
            let tolerations = spec.tolerations.unwrap_or_default().into_iter();
            tolerations.map(|its| (its.key, its.toleration_seconds)).collect()
        };
        let lost = |taint: &str| (Some(format!("node.kubernetes.io/{taint}")), Some(30));
        assert_eq!(keys("{}"), [lost("not-ready"), lost("unreachable")]);
        let said = "{tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists}]}";
        assert_eq!(keys(said)[1..], [lost("not-ready")]);
        assert_eq!(keys("{tolerations: [{operator: Exists}]}"), [(None, None)]);
    }

    #[test]
    fn a_compactors_pod_shows_its_own_certificate_and_is_no_worker() {
        let template = template("{}", "ours:1", None).unwrap();
        let worker = template.pod(ProcessRole::Worker, 0, "0-a");
        let compactor = template.pod(ProcessRole::Compactor, 0, "c0-a");
        let keys = |pod: &Pod| -> Vec<String> {
            let volumes = pod.spec.as_ref().unwrap().volumes.as_ref().unwrap();
            let secret = volumes.iter().find(|volume| volume.name == "tls").unwrap();
            let items = secret.secret.as_ref().unwrap().items.as_ref().unwrap();
            assert_eq!(items.iter().map(|its| &its.path[..]).collect::<Vec<_>>()[1], "tls.crt");
            items.iter().map(|item| item.key.clone()).collect()
        };
        assert_eq!(keys(&worker), ["ca.crt", "tls.crt", "tls.key"]);
        assert_eq!(keys(&compactor), ["ca.crt", "compactor.crt", "compactor.key"]);
        let component =
            |pod: &Pod| pod.metadata.labels.as_ref().unwrap()[names::COMPONENT.0].clone();
        assert_eq!(component(&worker), "worker");
        assert_eq!(component(&compactor), "compactor");
        let args = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].args.clone().unwrap();
        assert!(!args(&worker).contains(&"--role".to_owned()), "an older image does not know it");
        assert_eq!(args(&compactor).last().unwrap(), "compactor");
    }

    #[test]
    fn pods_meet_the_restricted_standard() {
        let spec = template("{}", "ours:1", None)
            .unwrap()
            .pod(ProcessRole::Worker, 0, "0-a")
            .spec
            .unwrap();
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!(spec.security_context.unwrap().run_as_non_root, Some(true));
        let container = spec.containers[0].security_context.clone().unwrap();
        assert_eq!(container.allow_privilege_escalation, Some(false));
        assert_eq!(container.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    }

    #[test]
    fn a_newer_operator_restarts_nothing_and_whatever_the_user_changes_does() {
        let hash =
            |worker: &str, image: &str, restart| template(worker, image, restart).unwrap().hash;
        let before = hash("{}", "ours:1", None);
        assert_eq!(before, hash("{}", "ours:2", None));
        assert_ne!(before, hash("{image: ours:1}", "ours:1", None));
        assert_ne!(before, hash("{}", "ours:1", Some("now")));
        assert_ne!(before, hash("{nodeSelector: {a: b}}", "ours:1", None));
    }

    #[test]
    fn what_is_no_pod_is_told() {
        let told = template("{tolerations: [{tolerationSeconds: soon}]}", "i", None).unwrap_err();
        assert!(told.starts_with("spec.worker: no pod can be made of it: "), "{told}");
    }
}
