//! Accepts connections: plain ones at once, others when both ends have shown their certificates.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use weir_runtime::clock;

use super::Over;
use super::connection::Connection;
use crate::network::tls::{PeerName, Tls, peer_name};

/// How long the certificates may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at the same time; more wait in the listener's backlog.
const HANDSHAKES_MAX: usize = 64;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// Whoever reaches the loopback interface.
    Loopback,
    /// The owner of this certificate, which one of our authorities has signed.
    Named(PeerName),
    /// Its certificate is signed by one of ours, but is no process's of a job.
    Unnamed(String),
}

/// Connections that may be used. One whose certificates are refused is logged and dropped.
pub(super) fn accepted(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    over: Over,
) -> impl Stream<Item = io::Result<Connection>> {
    let introduce = move |stream: io::Result<TcpStream>| {
        let (tls, over) = (tls.clone(), over.clone());
        async move {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => return Some(Err(error)),
            };
            let address = stream.peer_addr();
            match introduced(stream, tls).await {
                Ok((stream, caller)) => Some(Ok(Connection::new(stream, caller, over))),
                Err(error) => {
                    tracing::warn!(?address, "refused a connection: {error}");
                    None
                }
            }
        }
    };
    let connections = TcpListenerStream::new(listener).map(introduce);
    connections.buffer_unordered(HANDSHAKES_MAX).filter_map(std::future::ready)
}

type Io = Box<dyn super::connection::Io>;

async fn introduced(stream: TcpStream, tls: Option<Arc<Tls>>) -> io::Result<(Io, Caller)> {
    // Tonic applies its own option only to listeners that it makes itself.
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok((Box::new(stream), Caller::Loopback)) };
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.material().server));
    let stream = clock::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let stream = stream.map_err(|elapsed| io::Error::other(elapsed.to_string()))??;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let caller = match peer_name(chain) {
        Ok(name) => Caller::Named(name),
        Err(why) => Caller::Unnamed(why),
    };
    Ok((Box::new(stream), caller))
}
