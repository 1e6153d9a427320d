//! The custom resource definition that is generated from the types.
//!
//! The derive gives nearly all of it. [`crd`] adds what a derive cannot say: the default of the
//! status as a whole, no `nullable` (a null is then pruned by the API server, so that `has` in a
//! rule means a value), and only those number formats that Kubernetes knows.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

pub use self::reference::reference;
use crate::{JobSnapshot, StatefulJob};

mod reference;

/// The definition of `StatefulJob`.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    settled(StatefulJob::crd())
}

/// The definition of `JobSnapshot`.
#[must_use]
pub fn snapshot_crd() -> CustomResourceDefinition {
    settled(JobSnapshot::crd())
}

fn settled(derived: CustomResourceDefinition) -> CustomResourceDefinition {
    let mut crd = serde_json::to_value(derived).expect("a definition is plain data");
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    settle(schema);
    schema["properties"]["status"]["default"] = json!({"observedGeneration": -1});
    serde_json::from_value(crd).expect("it was a definition before")
}

/// Both definitions as YAML: what `weir crd` prints.
#[must_use]
pub fn crd_yaml() -> String {
    let yaml = |crd| serde_yaml::to_string(&crd).expect("a definition is plain data");
    format!("{}---\n{}", yaml(crd()), yaml(snapshot_crd()))
}

/// A definition as the chart `weir-crds` holds it: it stays when the chart is uninstalled, since
/// with it would go every job.
#[must_use]
pub fn chart_yaml(mut crd: CustomResourceDefinition) -> String {
    let annotations = crd.metadata.annotations.get_or_insert_default();
    annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
    serde_yaml::to_string(&crd).expect("a definition is plain data")
}

/// Drops what an API server would warn of or read in another way, at every depth.
fn settle(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        object.remove("nullable");
        let format = object.get("format").and_then(Value::as_str);
        match format {
            Some("uint64") => object.insert("format".to_owned(), json!("int64")),
            Some(format) if format.starts_with("uint") => object.remove("format"),
            _ => None,
        };
        object.values_mut().for_each(settle);
    } else if let Some(list) = schema.as_array_mut() {
        list.iter_mut().for_each(settle);
    }
}

#[cfg(test)]
mod tests;
