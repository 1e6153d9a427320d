//! What a kubelet and Prometheus ask a worker, over plain HTTP.
//!
//! A worker is alive while it answers, and ready when it can be given work: a coordinator that is away
//! makes no worker unready, since nothing is wrong with it then.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;
use weir_engine::worker::sight::{Doing, Shown, Sight};
use weir_runtime::task::{self, Task};

use super::metrics;

/// What the answers are made from.
pub(super) struct Probes {
    sight: Sight,
    /// `<namespace>/<job>`.
    job: String,
}

impl Probes {
    /// Of a worker that shows itself there.
    pub(super) fn new(sight: Sight, job: String) -> Arc<Self> {
        Arc::new(Self { sight, job })
    }
}

/// Serves until the task is dropped. Errors: the address can't be had.
pub(super) async fn serve(address: SocketAddr, probes: Arc<Probes>) -> std::io::Result<Task<()>> {
    let listener = TcpListener::bind(address).await?;
    let serving = axum::serve(listener, router(probes));
    Ok(task::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "probes are answered no more");
        }
    }))
}

fn router(probes: Arc<Probes>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(measured))
        .with_state(probes)
}

async fn ready(State(probes): State<Arc<Probes>>) -> (StatusCode, String) {
    let (is_ready, reasons) = readiness(probes.sight.now().shown);
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, reasons)
}

async fn measured(State(probes): State<Arc<Probes>>) -> ([(HeaderName, &'static str); 1], String) {
    let text = metrics::text(&probes.sight.now(), &probes.job, weir_runtime::clock::wall_ms());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
}

/// Whether it is ready, and a line for each thing that is or is not as one would like it.
fn readiness(shown: Shown) -> (bool, String) {
    let mut is_ready = true;
    let mut lines = Vec::new();
    if shown.is_leaving {
        is_ready = false;
        lines.push(
            "not ready: it was asked to end, and works until others have its work".to_owned(),
        );
    }
    let generation = shown.generation;
    match shown.doing {
        Doing::Failed => {
            is_ready = false;
            lines.push(format!("not ready: generation {generation} failed here; see the log"));
        }
        Doing::Nothing => lines.push("ok: has no work yet".to_owned()),
        Doing::Starting => lines.push(format!("ok: generation {generation} is being set up")),
        Doing::Running => lines.push(format!("ok: generation {generation} runs")),
    }
    if !shown.has_coordinator {
        lines.push("ok: no coordinator is connected; what is done stays uncommitted".to_owned());
    }
    if shown.is_held {
        lines.push("ok: the sources wait until a coordinator comes".to_owned());
    }
    (is_ready, lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[test]
    fn a_worker_without_a_coordinator_is_ready_and_one_that_leaves_or_failed_is_not() {
        let running = Shown { generation: 4, doing: Doing::Running, ..Shown::default() };
        let (is_ready, reasons) = readiness(running);
        assert!(is_ready && reasons.starts_with("ok: generation 4 runs\nok: no coordinator"));
        let (is_ready, reasons) = readiness(Shown { is_leaving: true, ..running });
        assert!(!is_ready && reasons.starts_with("not ready: it was asked to end"), "{reasons}");
        let (is_ready, reasons) = readiness(Shown { doing: Doing::Failed, ..running });
        assert!(!is_ready && reasons.starts_with("not ready: generation 4 failed"), "{reasons}");
        assert!(readiness(Shown::default()).0, "it can be given work");
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_three_paths_answer_over_a_socket() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let probes = Probes::new(Sight::default(), "shop/flights".to_owned());
        let _serving = serve(address, probes).await.unwrap();
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/readyz").await.contains("ok: has no work yet"));
        let metrics = ask(address, "/metrics").await;
        assert!(
            metrics.contains("weir_worker_generation{weir_job=\"shop/flights\"} 0"),
            "{metrics}"
        );
        assert!(ask(address, "/secrets").await.starts_with("HTTP/1.1 404"));
    }
}
