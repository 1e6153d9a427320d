//! The workers' pods, as far as a user says how they are. `weir run` has no pods and ignores it.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::SecretRef;
use crate::rule::{NO_OWN_ANNOTATION, NO_OWN_ANNOTATION_WORDS, NO_OWN_LABEL, NO_OWN_LABEL_WORDS};

/// How the workers' pods are. A change is taken over without a stop: new pods first, then the cut.
/// Without effect under `weir run`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerSpec {
    /// Image of the workers. Absent: the operator's own choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// Secrets with which the image is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<SecretRef>,

    /// Requests and limits, as of a container. Absent: `state.memory` and 256Mi more are requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Opaque>,

    /// Environment variables, as of a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub env: Vec<Opaque>,

    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,

    /// Tolerations, as of a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Opaque>,

    /// Affinity, as of a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Opaque>,

    /// Topology spread constraints, as of a pod; without a selector they count this job's workers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread: Vec<Opaque>,

    /// Priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// Service account; its token is never mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,

    /// What else the pods have, laid over those that Weir makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplate>,
}

/// What else the workers' pods have, laid over those that Weir makes. What both say is joined, and this
/// stands above the other fields of `worker`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodMetadata>,

    /// As of a pod. The container that runs the worker is called worker; others run beside it. How it is
    /// started and asked, when it restarts and how long it may take to end is Weir's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<Opaque>,
}

/// Labels and annotations of the workers' pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-weir" = "podMetadata"))]
pub struct PodMetadata {
    /// Labels beside Weir's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new(NO_OWN_LABEL).message(NO_OWN_LABEL_WORDS))]
    pub labels: BTreeMap<String, String>,

    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new(NO_OWN_ANNOTATION).message(NO_OWN_ANNOTATION_WORDS))]
    pub annotations: BTreeMap<String, String>,
}

/// Something of Kubernetes' own that is handed on as it is; a pod with it is what shows whether it
/// is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opaque(pub serde_json::Map<String, serde_json::Value>);

impl JsonSchema for Opaque {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Opaque".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "x-weir": "any",
        })
    }
}

/// What becomes of a job's state when its resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays; the job can be declared again and goes on.
    #[default]
    Retain,
    /// It is deleted; the output stays.
    Delete,
}
