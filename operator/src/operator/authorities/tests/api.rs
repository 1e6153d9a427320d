//! An API server that is a map: secrets and pods by path, each write under a new version. In a
//! simulation requests take their time and some fail, before or after they were done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{Method, Request, Response};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use weir_runtime::{clock, random, sim};

/// Clones are the same server.
#[derive(Clone)]
pub(super) struct FakeApi {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
}

type Answer = Result<Value, (u16, &'static str)>;

impl Default for FakeApi {
    fn default() -> Self {
        Self { state: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl FakeApi {
    pub(super) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| api.clone().answer(request));
        Client::new(service, "default")
    }

    pub(super) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Tells of each write.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.lock().objects.get(path).cloned()
    }

    pub(super) fn secret(&self, path: &str) -> Option<Secret> {
        self.get(path).map(|object| serde_json::from_value(object).unwrap())
    }

    pub(super) fn put(&self, path: &str, object: Value) {
        self.write(|state| state.put(path, object));
    }

    /// As somebody does by hand.
    pub(super) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        self.write(|state| {
            let mut object = state.objects.get(path).cloned().unwrap();
            change(&mut object);
            state.put(path, object)
        });
    }

    pub(super) fn delete(&self, path: &str) {
        self.write(|state| {
            state.version += 1;
            state.objects.remove(path).unwrap_or_default()
        });
    }

    pub(super) fn add_pod(&self, namespace: &str, job: &str, name: &str) {
        let labels = json!({"weir.dev/job": job});
        let pod = json!({"metadata": {"name": name, "namespace": namespace, "labels": labels}});
        self.put(&format!("/api/v1/namespaces/{namespace}/pods/{name}"), pod);
    }

    fn write(&self, write: impl FnOnce(&mut State) -> Value) -> Value {
        let (object, version) = {
            let mut state = self.lock();
            (write(&mut state), state.version)
        };
        self.changed.send_replace(version);
        object
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(
        self,
        request: Request<Body>,
    ) -> Result<Response<Body>, std::convert::Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let answer = match takes_its_time(97).await {
            true => self.act(&head.method, head.uri.path(), &body),
            false => Err((503, "ServiceUnavailable")),
        };
        let answer = match takes_its_time(99).await {
            true => answer,
            false => Err((504, "Timeout")),
        };
        let (code, body) = answer.map_or_else(
            |(code, reason)| {
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "reason": reason, "message": reason, "code": code,
                });
                (code, status)
            },
            |object| (200, object),
        );
        let body = Body::from(body.to_string().into_bytes());
        Ok(Response::builder().status(code).body(body).unwrap())
    }

    fn act(&self, method: &Method, path: &str, body: &Value) -> Answer {
        let before = self.get(path);
        let is_other = |before: &Value| {
            let wanted = &body["metadata"]["resourceVersion"];
            !wanted.is_null() && *wanted != before["metadata"]["resourceVersion"]
        };
        match *method {
            Method::GET if path.ends_with("/pods") => {
                let state = self.lock();
                let pods = state.objects.iter().filter(|(its, _)| its.starts_with(path));
                let pods: Vec<_> = pods.map(|(_, pod)| pod).collect();
                Ok(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}))
            }
            Method::GET => before.ok_or((404, "NotFound")),
            Method::POST => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if self.get(&path).is_some() {
                    return Err((409, "AlreadyExists"));
                }
                Ok(self.write(|state| state.put(&path, body.clone())))
            }
            Method::PUT | Method::PATCH => {
                let mut object = before.ok_or((404, "NotFound"))?;
                if is_other(&object) {
                    return Err((409, "Conflict"));
                }
                match *method {
                    Method::PUT => object = body.clone(),
                    _ => merge(&mut object, body),
                }
                Ok(self.write(|state| state.put(path, object)))
            }
            _ => Err((405, "MethodNotAllowed")),
        }
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let now = Timestamp::from_second(1_704_067_200 + sim::elapsed_ms() / 1_000).unwrap();
        let now = now.to_string();
        let before = self.objects.get(path).map(|before| before["metadata"].clone());
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        metadata["managedFields"] = json!([{"manager": "m", "operation": "Update", "time": now}]);
        let kept = |key: &str| before.as_ref().map(|before| before[key].clone());
        metadata["uid"] = kept("uid").unwrap_or_else(|| json!(format!("uid-{}", self.version)));
        metadata["creationTimestamp"] = kept("creationTimestamp").unwrap_or_else(|| json!(now));
        self.objects.insert(path.to_owned(), object.clone());
        object
    }
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        object.clone_from(patch);
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(key)),
            _ => merge(&mut object[key], value),
        }
    }
}

/// Part of a request's way; of a hundred so many arrive. Only in a simulation others do not.
async fn takes_its_time(arrive: u64) -> bool {
    if !sim::is_active() {
        return true;
    }
    // Now and then somebody is very slow.
    let ms = if random::below(50) == 0 { 20_000 } else { 300 };
    clock::sleep(Duration::from_millis(random::below(ms))).await;
    random::below(100) < arrive
}
