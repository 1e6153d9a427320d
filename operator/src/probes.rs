//! What a kubelet and Prometheus ask a process, over plain HTTP: `/healthz`, `/readyz`, `/metrics`.
//! A worker and the operator answer with it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;
use weir_runtime::task::{self, Task};

use crate::metrics;

/// What a process says of itself.
pub(crate) trait Probed: Send + Sync + 'static {
    /// Whether it is ready, and a line for each thing that is or is not as one would like it.
    fn ready(&self) -> (bool, String);

    /// Its metrics as text.
    fn metrics(&self) -> String;
}

/// Serves until the task is dropped. Errors: the address can't be had.
pub(crate) async fn serve(
    address: SocketAddr,
    probed: Arc<dyn Probed>,
) -> std::io::Result<Task<()>> {
    let listener = TcpListener::bind(address).await?;
    Ok(answer(listener, probed))
}

fn answer(listener: TcpListener, probed: Arc<dyn Probed>) -> Task<()> {
    let serving = axum::serve(listener, router(probed));
    task::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "probes are answered no more");
        }
    })
}

fn router(probed: Arc<dyn Probed>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(measured))
        .with_state(probed)
}

async fn ready(State(probed): State<Arc<dyn Probed>>) -> (StatusCode, String) {
    let (is_ready, reasons) = probed.ready();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, reasons)
}

async fn measured(
    State(probed): State<Arc<dyn Probed>>,
) -> ([(HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], probed.metrics())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    struct Unready;

    impl Probed for Unready {
        fn ready(&self) -> (bool, String) {
            (false, "not ready: it waits\n".to_owned())
        }

        fn metrics(&self) -> String {
            "# EOF\n".to_owned()
        }
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_three_paths_answer_over_a_socket() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let _serving = answer(listener, Arc::new(Unready));
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let ready = ask(address, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("not ready: it waits"));
        let metrics = ask(address, "/metrics").await;
        assert!(metrics.contains("application/openmetrics-text") && metrics.ends_with("# EOF\n"));
        assert!(ask(address, "/secrets").await.starts_with("HTTP/1.1 404"));
    }
}
