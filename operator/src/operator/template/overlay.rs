//! `spec.worker.podTemplate`, laid over a worker's pod: what of it is refused, and how both become one.
//! Pure. docs/design/0014-operator.md has the rules.

use serde_json::{Map, Value};
use weir_crds::PodTemplate;

use super::{CONTAINER, TOKEN_VARIABLE};
use crate::operator::names;

/// Where it stands in a manifest.
const PATH: &str = "spec.worker.podTemplate.spec";

/// What of a pod is Weir's own: its field, and why.
const OWN_OF_POD: [(&str, &str); 4] = [
    ("restartPolicy", "a worker that ended is replaced by another pod"),
    ("terminationGracePeriodSeconds", "a worker hands its work over in that time"),
    ("automountServiceAccountToken", "workers hold no token of Kubernetes'; mount one as a volume"),
    ("hostNetwork", "workers of one node would meet at one port"),
];
/// The same of the container that runs the worker.
const OWN_OF_WORKER: [(&str, &str); 7] = [
    ("image", "say it in spec.worker.image"),
    ("command", "Weir starts the worker"),
    ("args", "Weir starts the worker"),
    ("ports", "Weir's own ports are known to its network policies"),
    ("readinessProbe", "Weir waits for it"),
    ("livenessProbe", "the worker answers it"),
    ("startupProbe", "the worker needs none"),
];
/// Lists whose items are told apart by a field: of equal ones the template's wins, field by field.
const KEYED_LISTS: [(&str, &str); 7] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("hostAliases", "ip"),
    ("volumeMounts", "mountPath"),
];
/// Lists to which the template's items are added.
const ADDED_LISTS: [&str; 2] = ["tolerations", "topologySpreadConstraints"];

/// What of a template says what Weir says itself, in one sentence.
pub(super) fn refusal(template: &PodTemplate) -> Option<String> {
    let over = &template.spec.as_ref()?.0;
    let own = |place: String, (field, why): (&str, &str)| {
        format!("{place}.{field}: is Weir's own and cannot be set: {why}")
    };
    if let Some(its) = OWN_OF_POD.into_iter().find(|(field, _)| over.contains_key(*field)) {
        return Some(own(PATH.to_owned(), its));
    }
    let taken = objects(over, "volumes").find_map(|(index, volume)| {
        let name = text(volume, "name").filter(|name| is_our_volume(name))?;
        Some(format!(
            "{PATH}.volumes[{index}]: {name} is a volume of Weir's own; give it another name"
        ))
    });
    if taken.is_some() {
        return taken;
    }
    let mut containers = objects(over, "containers");
    let (index, worker) = containers.find(|(_, its)| text(its, "name") == Some(CONTAINER))?;
    let place = format!("{PATH}.containers[{index}]");
    if let Some(its) = OWN_OF_WORKER.into_iter().find(|(field, _)| worker.contains_key(*field)) {
        return Some(own(place, its));
    }
    let mut variables = objects(worker, "env");
    if let Some((at, _)) = variables.find(|(_, its)| text(its, "name") == Some(TOKEN_VARIABLE)) {
        return Some(format!(
            "{place}.env[{at}]: {TOKEN_VARIABLE} is Weir's own and cannot be set"
        ));
    }
    objects(worker, "volumeMounts").find_map(|(at, mount)| {
        let path = text(mount, "mountPath").filter(|path| is_our_folder(path))?;
        Some(format!(
            "{place}.volumeMounts[{at}]: {path} is a folder of Weir's own; mount it elsewhere"
        ))
    })
}

fn is_our_volume(name: &str) -> bool {
    [super::TLS_VOLUME, "tmp"].contains(&name) || name.starts_with(super::STORE_VOLUME)
}

/// Whether a mount there would hide what Weir has mounted.
fn is_our_folder(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let is_below = |folder: &str| path == folder || path.starts_with(&format!("{folder}/"));
    let is_above = |folder: &str| folder.starts_with(&format!("{path}/"));
    path == "/tmp"
        || [names::TLS_FOLDER, names::STORES_FOLDER]
            .iter()
            .any(|its| is_below(its) || is_above(its))
}

/// The objects of a list, each with its index.
fn objects<'a>(
    of: &'a Map<String, Value>,
    list: &str,
) -> impl Iterator<Item = (usize, &'a Map<String, Value>)> {
    let items = of.get(list).and_then(Value::as_array).into_iter().flatten();
    items.enumerate().filter_map(|(index, its)| Some((index, its.as_object()?)))
}

fn text<'a>(of: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    of.get(field)?.as_str()
}

/// Lays `over` over `base`: objects are joined field by field, lists as above, and everything else is
/// replaced. What is null says nothing.
pub(super) fn lay_over(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (field, said) in over {
        match (base.get_mut(field), said) {
            (_, Value::Null) => {}
            (Some(Value::Object(base)), Value::Object(said)) => lay_over(base, said),
            (Some(Value::Array(base)), Value::Array(said)) => join(field, base, said),
            _ => drop(base.insert(field.clone(), said.clone())),
        }
    }
}

fn join(field: &str, base: &mut Vec<Value>, said: &[Value]) {
    if ADDED_LISTS.contains(&field) {
        base.extend_from_slice(said);
        return;
    }
    let Some((_, key)) = KEYED_LISTS.iter().find(|(list, _)| *list == field) else {
        *base = said.to_vec();
        return;
    };
    for item in said {
        let id = item.get(key);
        let same = base.iter_mut().find(|its| id.is_some() && its.get(key) == id);
        match (same, item) {
            (Some(Value::Object(same)), Value::Object(item)) => lay_over(same, item),
            _ => base.push(item.clone()),
        }
    }
}

/// A field of `said` that is not in `kept`, what was understood of it: Kubernetes has none of this name,
/// or a newer one than this operator knows.
pub(super) fn unknown(said: &Value, kept: &Value) -> Option<String> {
    match (said, kept) {
        (Value::Object(said), Value::Object(kept)) => {
            said.iter().find_map(|(field, value)| match kept.get(field) {
                Some(kept) => {
                    let below = unknown(value, kept)?;
                    let dot = if below.starts_with('[') { "" } else { "." };
                    Some(format!("{field}{dot}{below}"))
                }
                None => (!is_nothing(value)).then(|| field.clone()),
            })
        }
        (Value::Array(said), Value::Array(kept)) => {
            let mut both = said.iter().zip(kept).enumerate();
            both.find_map(|(index, (said, kept))| {
                Some(format!("[{index}].{}", unknown(said, kept)?))
            })
        }
        _ => None,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::template;
    use super::*;
    use crate::cli::ProcessRole;

    /// The pod with this template, as JSON; or why there is none.
    fn laid(over: &Value) -> Result<Value, String> {
        let template = template(&json!({"podTemplate": over}).to_string(), "ours:1", None)?;
        Ok(json!(template.spec))
    }

    #[test]
    fn a_template_adds_to_the_pod_and_changes_what_is_the_users() {
        let over = json!({"spec": {
            "nodeSelector": {"disk": "fast"},
            "runtimeClassName": "gvisor",
            "securityContext": {"runAsUser": 1000, "supplementalGroups": [7]},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
            ],
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}],
            "containers": [
                {"name": "worker",
                 "env": [{"name": "A", "value": "b"}, {"name": "MALLOC_ARENA_MAX", "value": "9"}],
                 "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                 "securityContext": {"readOnlyRootFilesystem": false}},
                {"name": "logs", "image": "logs:1"},
            ],
        }});
        let pod = laid(&over).unwrap();
        let is = |pointer: &str, value: Value| {
            assert_eq!(pod.pointer(pointer), Some(&value), "{pointer} of {pod:#}");
        };
        is("/nodeSelector", json!({"disk": "fast"}));
        is("/runtimeClassName", json!("gvisor"));
        is("/securityContext/runAsUser", json!(1000));
        is("/securityContext/supplementalGroups", json!([7]));
        is("/securityContext/runAsNonRoot", json!(true));
        is("/tolerations/0/key", json!("spot"));
        is("/tolerations/1/key", json!("node.kubernetes.io/not-ready"));
        is("/topologySpreadConstraints/0/labelSelector/matchLabels/weir.dev~1job", json!("j"));
        is("/imagePullSecrets", json!([{"name": "pull"}]));
        is("/restartPolicy", json!("Never"));
        is("/containers/0/name", json!("worker"));
        is("/containers/0/image", json!("ours:1"));
        is("/containers/0/securityContext/readOnlyRootFilesystem", json!(false));
        is("/containers/0/securityContext/allowPrivilegeEscalation", json!(false));
        is("/containers/1/name", json!("logs"));
        let names = |pointer: &str, field: &str| -> Vec<String> {
            let items = pod.pointer(pointer).unwrap().as_array().unwrap();
            items.iter().map(|its| its[field].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("/volumes", "name"), ["tls", "tmp", "store-0", "cache"]);
        let mounts = names("/containers/0/volumeMounts", "mountPath");
        assert_eq!(mounts.last().unwrap(), "/cache");
        assert_eq!(mounts.len(), 4);
        let env = names("/containers/0/env", "name");
        assert_eq!(env.iter().filter(|name| *name == "MALLOC_ARENA_MAX").count(), 1);
        assert!(env.contains(&"A".to_owned()) && env.contains(&TOKEN_VARIABLE.to_owned()));
    }

    #[test]
    fn labels_and_annotations_come_beside_ours() {
        let over = json!({"podTemplate": {"metadata": {
            "labels": {"team": "flights"}, "annotations": {"sidecar.istio.io/inject": "false"},
        }}});
        let pod =
            template(&over.to_string(), "ours:1", None).unwrap().pod(ProcessRole::Worker, 0, "0-a");
        let labels = pod.metadata.labels.unwrap();
        assert_eq!(labels["team"], "flights");
        assert_eq!(labels[names::JOB], "j");
        assert_eq!(pod.metadata.annotations.unwrap()["sidecar.istio.io/inject"], "false");
        let none = template("{}", "ours:1", None).unwrap().pod(ProcessRole::Worker, 0, "0-a");
        assert_eq!(none.metadata.annotations, None);
    }

    #[test]
    fn another_template_is_another_form() {
        let hash = |worker: &str| template(worker, "ours:1", None).unwrap().hash;
        let empty = hash("{podTemplate: {}}");
        for (worker, is_same) in [
            ("{podTemplate: {}}", true),
            ("{podTemplate: {metadata: {labels: {a: b}}}}", false),
            ("{podTemplate: {spec: {runtimeClassName: gvisor}}}", false),
        ] {
            assert_eq!(hash(worker) == empty, is_same, "{worker}");
        }
    }

    #[test]
    fn what_is_weirs_own_is_refused_with_its_place() {
        let worker = |fields: &str| format!("containers: [{{name: worker, {fields}}}]");
        let cases = [
            ("restartPolicy: Always".to_owned(), "restartPolicy: is Weir's own"),
            ("terminationGracePeriodSeconds: 5".to_owned(), "terminationGracePeriodSeconds: is"),
            ("automountServiceAccountToken: true".to_owned(), "automountServiceAccountToken: is"),
            ("hostNetwork: true".to_owned(), "hostNetwork: is"),
            ("volumes: [{name: a}, {name: tls}]".to_owned(), "volumes[1]: tls is a volume of"),
            ("volumes: [{name: store-7}]".to_owned(), "volumes[0]: store-7 is"),
            (
                worker("image: mine"),
                "containers[0].image: is Weir's own and cannot be set: say it in",
            ),
            (worker("command: [sh]"), "containers[0].command: is"),
            (worker("args: [x]"), "containers[0].args: is"),
            (worker("ports: []"), "containers[0].ports: is"),
            (worker("livenessProbe: {}"), "containers[0].livenessProbe: is"),
            (worker("readinessProbe: {}"), "containers[0].readinessProbe: is"),
            (worker("env: [{name: A}, {name: WEIR_TOKEN}]"), "containers[0].env[1]: WEIR_TOKEN is"),
            (worker("volumeMounts: [{mountPath: /tmp}]"), "volumeMounts[0]: /tmp is a folder of"),
            (
                worker("volumeMounts: [{mountPath: /var/run/weir}]"),
                "volumeMounts[0]: /var/run/weir is",
            ),
            (
                worker("volumeMounts: [{mountPath: /var/run/weir/tls/}]"),
                "volumeMounts[0]: /var/run",
            ),
        ];
        for (spec, said) in cases {
            let told = template(&format!("{{podTemplate: {{spec: {{{spec}}}}}}}"), "ours:1", None);
            let told = told.unwrap_err();
            assert!(told.starts_with(PATH) && told.contains(said), "{told}");
        }
        let other = "{podTemplate: {spec: {containers: [{name: logs, image: x, args: [a], ports: [\
                     {containerPort: 1}], volumeMounts: [{name: tmp, mountPath: /tmp}]}]}}}";
        assert!(template(other, "ours:1", None).is_ok(), "a container beside it is the user's");
    }

    #[test]
    fn a_field_that_no_pod_has_is_told() {
        for (worker, said) in [
            ("{podTemplate: {spec: {nodeSelectr: {a: b}}}}", "nodeSelectr"),
            (
                "{podTemplate: {spec: {containers: [{name: worker, envs: [1]}]}}}",
                "containers[0].envs",
            ),
            ("{tolerations: [{key: a, operater: Exists}]}", "tolerations[0].operater"),
            ("{affinity: {nodeAfinity: {x: 1}}}", "affinity.nodeAfinity"),
        ] {
            let told = template(worker, "ours:1", None).unwrap_err();
            assert_eq!(told, format!("spec.worker: a pod has no field {said}"));
        }
    }
}
