//! Counts the requests to the Kubernetes API server by verb and class of answer, where they leave.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::{Method, Request, Response};
use tower::{Layer, Service};

use super::meters::Meters;

/// Counts what passes.
#[derive(Clone, Debug)]
pub(crate) struct Counting(pub(crate) Meters);

/// A client that counts.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    meters: Meters,
}

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, meters: self.0.clone() }
    }
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let uri = request.uri();
        let verb = verb(request.method(), uri.path(), uri.query().unwrap_or_default());
        let meters = self.meters.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            meters.requested(verb, answer.as_ref().map_or("none", |answer| class(answer.status())));
            answer
        })
    }
}

fn class(status: axum::http::StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// The verb as roles name it.
fn verb(method: &Method, path: &str, query: &str) -> &'static str {
    let is_watch = || query.split('&').any(|one| matches!(one, "watch=true" | "watch=1" | "watch"));
    match *method {
        Method::GET if is_watch() => "watch",
        Method::GET if is_collection(path) => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

/// Whether a path names all objects of a kind: `/api/v1/pods`, `/apis/G/V/namespaces/N/jobs`.
fn is_collection(path: &str) -> bool {
    let mut parts = path.trim_matches('/').split('/').filter(|part| !part.is_empty());
    let version = match parts.next() {
        Some("api") => parts.next(),
        Some("apis") => parts.next().and_then(|_| parts.next()),
        _ => None,
    };
    let rest: Vec<&str> = parts.collect();
    let of_kind = match rest[..] {
        ["namespaces", _, _, ..] => &rest[2..],
        _ => &rest[..],
    };
    version.is_some() && of_kind.len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_verbs_that_roles_name() {
        for (method, path, query, expected) in [
            (Method::GET, "/api/v1/pods", "", "list"),
            (Method::GET, "/api/v1/namespaces/kube-system", "", "get"),
            (Method::GET, "/api/v1/namespaces/shop/pods", "limit=500", "list"),
            (Method::GET, "/api/v1/namespaces/shop/pods", "limit=5&watch=true", "watch"),
            (Method::GET, "/apis/weir.dev/v1alpha1/statefuljobs", "", "list"),
            (Method::GET, "/apis/weir.dev/v1alpha1/namespaces/shop/statefuljobs/a", "", "get"),
            (
                Method::PATCH,
                "/apis/weir.dev/v1alpha1/namespaces/n/statefuljobs/a/status",
                "",
                "patch",
            ),
            (Method::POST, "/api/v1/namespaces/shop/pods", "", "create"),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/n/leases/l", "", "update"),
            (Method::DELETE, "/api/v1/namespaces/shop/pods/p", "", "delete"),
            (Method::GET, "/version", "", "get"),
        ] {
            assert_eq!(verb(&method, path, query), expected, "{method} {path}?{query}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_counted_by_its_class_and_silence_as_none() {
        let meters = Meters::default();
        for answer in [Some(201), Some(409), Some(503), None] {
            let inner = tower::service_fn(move |_: Request<()>| async move {
                let Some(code) = answer else { return Err("gone") };
                Ok(Response::builder().status(code).body(()).unwrap())
            });
            let request = Request::post("/api/v1/namespaces/n/pods").body(()).unwrap();
            let answered = Counting(meters.clone()).layer(inner).call(request).await;
            assert_eq!(answered.is_ok(), answer.is_some());
        }
        let counted: Vec<_> = meters.with(|numbers| numbers.requests.clone()).into_iter().collect();
        let create = |class| (("create", class), 1);
        assert_eq!(counted, [create("2xx"), create("4xx"), create("5xx"), create("none")]);
    }
}
