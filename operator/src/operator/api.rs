//! What is asked of the API server in several places: our resources in a scope, patches of them, and
//! what its refusals mean.

use std::fmt::Debug;

use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weir_crds::StatefulJob;

use super::names;

/// The resources of jobs in a namespace.
pub(crate) fn jobs_in(client: &Client, namespace: &str) -> Api<DynamicObject> {
    of_scope(client, Some(namespace), &job_resource())
}

pub(crate) fn job_resource() -> ApiResource {
    ApiResource::erase::<StatefulJob>(&())
}

/// Resources of a kind in a namespace, or in all.
pub(crate) fn of_scope(
    client: &Client,
    namespace: Option<&str>,
    kind: &ApiResource,
) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, kind),
        None => Api::all_with(client.clone(), kind),
    }
}

/// What is watched when these namespaces are asked for; none: all of them, as one.
pub(crate) fn scopes(namespaces: Vec<String>) -> Vec<Option<String>> {
    match namespaces.is_empty() {
        true => vec![None],
        false => namespaces.into_iter().map(Some).collect(),
    }
}

/// A scope, in words.
pub(crate) fn scope_name(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("namespace {namespace}"),
        None => "all namespaces".to_owned(),
    }
}

/// Whether an object that was changed by its uid is gone, or another one has its name.
pub(crate) fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
}

/// Creates an object in our name.
pub(crate) fn by_us() -> PostParams {
    PostParams { field_manager: Some(names::MANAGER.to_owned()), ..PostParams::default() }
}

/// What `manager` says of an object, server-side: all of it, and whoever said otherwise. Gives whether
/// the object was there.
///
/// # Errors
///
/// What the API server answers.
pub(crate) async fn apply<K>(
    objects: &Api<K>,
    name: &str,
    manager: &str,
    patch: &Value,
) -> Result<bool, kube::Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    let parameters = PatchParams::apply(manager).force();
    match objects.patch(name, &parameters, &Patch::Apply(patch)).await {
        Ok(_) => Ok(true),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes the object with this uid, and none that has its name by now.
pub(crate) fn delete_only(uid: &str) -> DeleteParams {
    let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
    DeleteParams { preconditions, ..DeleteParams::default() }
}

/// What a server-side apply says of the metadata of the resource with this uid, which must be the one
/// that has its name.
pub(crate) fn metadata_patch<K: Resource<DynamicType = ()>>(
    uid: &str,
    mut metadata: Value,
) -> Value {
    metadata["uid"] = json!(uid);
    json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": metadata})
}

/// The same of its status.
pub(crate) fn status_patch<K: Resource<DynamicType = ()>>(
    uid: &str,
    status: impl Serialize,
) -> Value {
    let mut patch = metadata_patch::<K>(uid, json!({}));
    patch["status"] = json!(status);
    patch
}

#[cfg(test)]
mod tests {
    use weir_crds::JobSnapshot;

    use super::*;

    #[test]
    fn a_patch_names_kind_and_uid() {
        let held = metadata_patch::<JobSnapshot>("u", json!({"finalizers": ["f"]}));
        let expected = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "JobSnapshot",
            "metadata": {"uid": "u", "finalizers": ["f"]},
        });
        assert_eq!(held, expected);
        let shown = status_patch::<StatefulJob>("u", json!({"phase": "Running"}));
        let expected = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "StatefulJob",
            "metadata": {"uid": "u"}, "status": {"phase": "Running"},
        });
        assert_eq!(shown, expected);
    }
}
