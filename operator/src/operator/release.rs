//! `weir release`: lets go of a cluster's jobs before their operator is taken away for good. What is
//! left needs nobody: a job, its namespace and its workers can be deleted at any time.
//!
//! First the operator's own deployment is scaled to nothing, since an operator that is there gives a
//! job or a snapshot with `deletionPolicy: Delete` its finalizer back. Then the finalizers go. The state
//! of such a job stays, and what such a snapshot holds of it; a line for each says where.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::json;
use weir_runtime::clock;

use super::declared::{Declared, Defaults};
use super::events::Events;
use super::snapshots::Snapshot;
use super::snapshots::attend;
use super::{api, job, lease, names};
use crate::cli::ReleaseArgs;
use crate::exit::{Exit, chain, report, say};
use crate::state::out;

/// How long the operators may take to end; beyond it the finalizers go all the same.
const OPERATORS_END_MAX: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Jobs or snapshots asked for at once.
const PAGE_OBJECTS: u32 = 500;

/// Why jobs can't be let go of.
#[derive(Debug, thiserror::Error)]
enum ReleaseError {
    #[error("the deployment {name} cannot be scaled to nothing")]
    Scale {
        name: String,
        #[source]
        cause: Box<kube::Error>,
    },
    #[error("the {what} of {place} cannot be listed")]
    List {
        what: String,
        place: String,
        #[source]
        cause: Box<kube::Error>,
    },
}

/// Runs to the end.
pub(crate) async fn run(args: ReleaseArgs) -> Exit {
    crate::log::to_stderr();
    let client = match Client::try_default().await {
        Ok(client) => client,
        Err(error) => {
            report(&error);
            say("this needs a cluster: KUBECONFIG, or a pod with a service account");
            return Exit::BadInput;
        }
    };
    match release(&client, args).await {
        Ok(Released { lines, left: 0 }) => out(&lines),
        Ok(Released { lines, .. }) => {
            out(&lines);
            Exit::Failed
        }
        Err(error) => {
            report(&error);
            Exit::Failed
        }
    }
}

/// What came of it.
#[derive(Debug, Default, PartialEq)]
struct Released {
    /// A line for each job or snapshot that was let go of.
    lines: String,
    /// Those that still have their finalizer.
    left: usize,
}

async fn release(client: &Client, args: ReleaseArgs) -> Result<Released, ReleaseError> {
    if let Some(name) = &args.deployment {
        scale_to_nothing(client, &args.namespace, name).await?;
        wait_for_operators(client, &args.namespace).await;
    }
    let defaults = Defaults { image: String::new(), state_uri: args.state };
    let events = Events::new(client.clone(), "release");
    let mut released = Released::default();
    for scope in api::scopes(args.watch) {
        for object in all(client, scope.as_deref(), &api::job_resource()).await? {
            let Some(declared) = Declared::of(&object, &defaults) else { continue };
            if declared.has_finalizer {
                let_go(client, &events, &declared, &mut released).await;
            }
        }
        for object in all(client, scope.as_deref(), &attend::resource()).await? {
            let Some(snapshot) = Snapshot::of(&object) else { continue };
            if snapshot.has_finalizer {
                let_go_of_snapshot(client, &events, &snapshot, &mut released).await;
            }
        }
    }
    Ok(released)
}

async fn scale_to_nothing(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<(), ReleaseError> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let nothing = Patch::Merge(json!({"spec": {"replicas": 0}}));
    match deployments.patch_scale(name, &PatchParams::default(), &nothing).await {
        Ok(_) => Ok(()),
        // It is gone already.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(cause) => Err(ReleaseError::Scale { name: name.to_owned(), cause: Box::new(cause) }),
    }
}

/// Operators delete their own lease when they end, and one that was killed lets it pass.
async fn wait_for_operators(client: &Client, namespace: &str) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let until = clock::now() + OPERATORS_END_MAX;
    loop {
        match leases.list(&lease::members()).await {
            Ok(found) if !lease::has_live_member(&found.items, super::now()) => return,
            Ok(_) => {}
            Err(error) => tracing::warn!("leases cannot be listed: {error}"),
        }
        if clock::now() >= until {
            say("an operator is still there, and may take jobs that are let go of back");
            return;
        }
        clock::sleep(LOOK_EVERY).await;
    }
}

/// All of a kind in a namespace, or in all; without its definition there are none.
async fn all(
    client: &Client,
    scope: Option<&str>,
    kind: &ApiResource,
) -> Result<Vec<DynamicObject>, ReleaseError> {
    let objects = api::of_scope(client, scope, kind);
    let mut found = Vec::new();
    let mut page = ListParams::default().limit(PAGE_OBJECTS);
    loop {
        let list = match objects.list(&page).await {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(found),
            Err(cause) => {
                let (what, place) = (kind.plural.clone(), api::scope_name(scope));
                return Err(ReleaseError::List { what, place, cause: Box::new(cause) });
            }
        };
        found.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

async fn let_go(client: &Client, events: &Events, declared: &Declared, released: &mut Released) {
    let whose = format!("{}/{}", declared.namespace, declared.name);
    let patch = job::finalizer_patch(declared, false);
    let jobs = api::jobs_in(client, &declared.namespace);
    match api::apply(&jobs, &declared.name, names::FINALIZER_MANAGER, &patch).await {
        Ok(false) => {}
        Ok(true) => {
            let line = match &declared.state {
                Some(state) => format!("weir state gc {}  # {whose}", state.uri),
                None => format!("# {whose}: nothing says where its state is"),
            };
            released.lines.push_str(&line);
            released.lines.push('\n');
            events.warn(declared, "StateKept", &format!("the state is kept; {line}")).await;
        }
        Err(error) => {
            released.left += 1;
            say(&format!("{whose}: its finalizer stays: {}", chain(&error)));
        }
    }
}

async fn let_go_of_snapshot(
    client: &Client,
    events: &Events,
    snapshot: &Snapshot,
    released: &mut Released,
) {
    let whose = format!("{}/{}", snapshot.namespace, snapshot.name);
    let patch = attend::hold_patch(snapshot, snapshot.bound.as_ref(), false);
    let snapshots = attend::snapshots_in(client, &snapshot.namespace);
    match api::apply(&snapshots, &snapshot.name, names::SNAPSHOT_MANAGER, &patch).await {
        Ok(false) => {}
        Ok(true) => {
            let note = attend::left_behind(snapshot);
            released.lines.push_str(&format!("# {whose}: {note}\n"));
            events.warn_snapshot(snapshot, "StateKept", &note).await;
        }
        Err(error) => {
            released.left += 1;
            say(&format!("snapshot {whose}: its finalizer stays: {}", chain(&error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::{Method, Request, Response};
    use jiff::Timestamp;
    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    fn resource(namespace: &str, name: &str, finalizers: &[&str], spec: &Value) -> Value {
        json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "StatefulJob",
            "metadata": {"name": name, "namespace": namespace, "uid": name, "finalizers": finalizers},
            "spec": spec,
        })
    }

    /// What an API server with these jobs and no operator answers.
    fn answer(request: &Request<Body>) -> (u16, Value) {
        let sound = json!({"deletionPolicy": "Delete", "pipeline": [
            {"id": "s", "source": {"generate": {"keys": {}}}},
            {"id": "o", "from": "s", "sink": {"blackhole": {}}},
        ]});
        let ours = [names::FINALIZER];
        let jobs = json!([
            resource("shop", "held", &ours, &sound),
            resource("shop", "free", &[], &sound),
            resource("lab", "wrong", &ours, &json!({"pipeline": []})),
            resource("lab", "stuck", &ours, &sound),
        ]);
        let snapshot = |name: &str, finalizers: &[&str]| {
            json!({
                "metadata": {"name": name, "namespace": "shop", "uid": "12345678-9",
                    "finalizers": finalizers,
                    "annotations": {names::BOUND: "{\"uri\":\"s3://states/shop/held\"}"}},
                "spec": {"jobRef": {"name": "held"}, "deletionPolicy": "Delete"},
            })
        };
        let snapshots =
            json!([snapshot("monday", &[names::SNAPSHOT_FINALIZER]), snapshot("tuesday", &[])]);
        let path = request.uri().path();
        match *request.method() {
            Method::GET if path.ends_with("/leases") => (
                200,
                json!({"apiVersion": "coordination.k8s.io/v1", "kind": "LeaseList",
                    "metadata": {}, "items": []}),
            ),
            Method::GET if path.ends_with("/jobsnapshots") => (
                200,
                json!({"apiVersion": "weir.dev/v1alpha1",
                "kind": "JobSnapshotList", "metadata": {}, "items": snapshots}),
            ),
            Method::GET => (
                200,
                json!({"apiVersion": "weir.dev/v1alpha1",
                "kind": "StatefulJobList", "metadata": {}, "items": jobs}),
            ),
            Method::PATCH if path.ends_with("/scale") => (
                200,
                json!({"apiVersion":
                "autoscaling/v1", "kind": "Scale", "metadata": {}, "spec": {"replicas": 0}}),
            ),
            Method::PATCH if path.ends_with("/stuck") => {
                (403, json!({"status": "Failure", "code": 403, "message": "no", "reason": ""}))
            }
            Method::PATCH => (200, jobs[0].clone()),
            _ => (201, json!({})),
        }
    }

    #[tokio::test]
    async fn the_operator_ends_first_and_every_finalizer_of_ours_goes() {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let server = tower::service_fn(move |request: Request<Body>| {
            let line = format!("{} {}", request.method(), request.uri().path());
            log.lock().unwrap().push(line);
            let (code, body) = answer(&request);
            let response =
                Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            async move { Ok::<_, std::convert::Infallible>(response.unwrap()) }
        });
        let client = Client::new(server, "default");
        let args = ReleaseArgs {
            watch: Vec::new(),
            namespace: "weir-system".to_owned(),
            deployment: Some("weir".to_owned()),
            state: Some("s3://states".to_owned()),
        };
        let released = release(&client, args).await.unwrap();
        assert_eq!(released.left, 1, "one was refused");
        let lines: Vec<&str> = released.lines.lines().collect();
        assert_eq!(lines[0], "weir state gc s3://states/shop/held  # shop/held");
        assert_eq!(lines[1], "weir state gc s3://states/lab/wrong  # lab/wrong");
        let left = "# shop/monday: snapshot monday-12345678 is still in s3://states/shop/held; ";
        assert!(lines[2].starts_with(left), "{}", lines[2]);
        assert_eq!(lines.len(), 3);
        let asked = asked.lock().unwrap();
        let patched: Vec<&str> =
            asked.iter().filter_map(|line| line.strip_prefix("PATCH ")).collect();
        let job = |place: &str| format!("/apis/weir.dev/v1alpha1/namespaces/{place}");
        assert_eq!(
            patched,
            [
                "/apis/apps/v1/namespaces/weir-system/deployments/weir/scale".to_owned(),
                job("shop/statefuljobs/held"),
                job("lab/statefuljobs/wrong"),
                job("lab/statefuljobs/stuck"),
                job("shop/jobsnapshots/monday"),
            ]
        );
    }

    #[test]
    fn an_operator_counts_while_its_lease_is_young() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let lease: Lease = serde_json::from_value(json!({
            "metadata": {"name": "weir-member-a", "labels": {"weir.dev/lease": "member"}},
            "spec": {"holderIdentity": "a", "renewTime": "1970-01-01T00:01:40.000000Z"},
        }))
        .unwrap();
        assert!(lease::has_live_member(std::slice::from_ref(&lease), at(101)));
        assert!(!lease::has_live_member(std::slice::from_ref(&lease), at(200)));
        assert!(!lease::has_live_member(&[], at(101)));
    }
}
