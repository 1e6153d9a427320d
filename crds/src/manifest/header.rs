//! apiVersion, kind and metadata: whether this is a `StatefulJob` at all, and its name.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::node::{Content, Cut, Node};
use super::walk::{did_you_mean, field};
use super::{Problems, walk};

const API_VERSION: &str = "weir.dev/v1alpha1";
const KIND: &str = "StatefulJob";

/// Characters of a job's name: the names of its pods add to it and stay below 63.
const NAME_CHARS_MAX: usize = 40;

const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Fields of `metadata` that Kubernetes knows.
const METADATA_FIELDS: [&str; 15] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// Checks what stands around `spec`; none if the document is something else.
pub(super) fn check(document: &Node, problems: &mut Problems) -> Option<ObjectMeta> {
    if !matches!(document.content, Content::Map(_)) {
        let message = format!(
            "expected a mapping with apiVersion, kind, metadata and spec, found {document}"
        );
        problems.add(&format!("line {}", document.line), message);
        return None;
    }
    let ours = exactly(document, "apiVersion", API_VERSION, problems);
    let kind = exactly(document, "kind", KIND, problems);
    // Another kind of thing: what else it holds is not ours to judge.
    if !kind || (!ours && document.get("apiVersion").is_some_and(is_foreign)) {
        return None;
    }
    fields_known("", document, &FIELDS, problems);
    Some(metadata(document, problems))
}

fn is_foreign(api_version: &Node) -> bool {
    !api_version.words().is_some_and(|text| text.starts_with("weir.dev/"))
}

fn exactly(document: &Node, name: &str, expected: &str, problems: &mut Problems) -> bool {
    let found = document.get(name);
    if found.and_then(Node::words) == Some(expected) {
        return true;
    }
    let message = match found {
        None => format!("is missing; write {name}: {expected}"),
        Some(node) if name == "kind" && node.words() == Some("JobSnapshot") => {
            "a JobSnapshot is of a job in a cluster, for kubectl; here a StatefulJob is read"
                .to_owned()
        }
        Some(node) => format!("expected {expected}, found {node}"),
    };
    problems.add(name, message);
    false
}

/// Reports fields that are unknown or come twice.
fn fields_known(path: &str, node: &Node, known: &[&str], problems: &mut Problems) {
    for (index, (key, _)) in node.entries().iter().enumerate() {
        let name = key.text.as_str();
        let path = field(path, name);
        if node.entries()[..index].iter().any(|(earlier, _)| earlier.text == name) {
            problems.note(&path, "is given twice");
        } else if !known.contains(&name) {
            problems
                .note(&path, walk::unknown_field(name, did_you_mean(name, known.iter().copied())));
        }
    }
}

fn metadata(document: &Node, problems: &mut Problems) -> ObjectMeta {
    let Some(node) = document.get("metadata").filter(|node| !node.is_null()) else {
        problems.note("metadata.name", "is missing; a job needs a name");
        return ObjectMeta::default();
    };
    if !matches!(node.content, Content::Map(_)) {
        problems.note("metadata", format!("expected a mapping, found {node}"));
        return ObjectMeta::default();
    }
    fields_known("metadata", node, &METADATA_FIELDS, problems);
    let name = match node.get("name") {
        None => {
            problems.note("metadata.name", "is missing; a job needs a name");
            None
        }
        Some(name) => {
            text("metadata.name", name, problems).inspect(|name| check_name(name, problems))
        }
    };
    ObjectMeta {
        name,
        namespace: node
            .get("namespace")
            .and_then(|node| text("metadata.namespace", node, problems)),
        labels: texts(node, "labels", problems),
        annotations: texts(node, "annotations", problems),
        ..ObjectMeta::default()
    }
}

fn text(path: &str, node: &Node, problems: &mut Problems) -> Option<String> {
    let wrong = walk::not_a_text(node);
    if let Some(message) = wrong {
        problems.note(path, message);
        return None;
    }
    node.words().map(str::to_owned)
}

/// Labels or annotations.
fn texts(metadata: &Node, name: &str, problems: &mut Problems) -> Option<BTreeMap<String, String>> {
    let node = metadata.get(name).filter(|node| !node.is_null())?;
    let path = field("metadata", name);
    if !matches!(node.content, Content::Map(_)) {
        problems.note(&path, format!("expected a mapping, found {node}"));
        return None;
    }
    let entries = node.entries().iter().filter_map(|(key, node)| {
        Some((key.text.clone(), text(&field(&path, &key.text), node, problems)?))
    });
    Some(entries.collect())
}

fn check_name(name: &str, problems: &mut Problems) {
    let characters = name.chars().count();
    if characters > NAME_CHARS_MAX {
        let message =
            format!("has {characters} characters; a job's name has at most {NAME_CHARS_MAX}");
        problems.note("metadata.name", message);
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let sound = name.chars().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-');
    if !sound {
        let message = format!(
            "`{}` is not a job's name: lower-case letters, digits and -, a letter first and no - last",
            Cut(name)
        );
        problems.note("metadata.name", message);
    }
}
