//! The network of real processes: gRPC over TCP, on the loopback interface as it is, between pods
//! with mutual TLS (`network/tls.rs`).
//!
//! One connection per pair of dialling and serving worker carries all its data channels; a control
//! stream has one of its own, so that dialling again never meets an old connection that hangs
//! (`grpc/dialler.rs`, `grpc/accepting.rs`). A call's two directions are bridged to the bounded queues of a [`Link`]: when a queue is full the HTTP/2
//! window closes and the peer's queue fills in turn. Dropping both ends of a link ends the call.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::Shared;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use weir_runtime::task::{self, Task};

use crate::exchange::BATCH_BYTES_MAX;
use crate::execution::error::chain;
use crate::network::tls::{PeerName, Role, Tls, TlsError};
use crate::network::{
    CoordinatorLink, Link, Network, OrderLink, ReceiverLink, Serving, Unreachable, WorkerService,
};
use crate::protocol::worker_client::WorkerClient;
use crate::protocol::worker_server::{Worker, WorkerServer};
use crate::protocol::{
    Frame, FromCompactor, OpenChannel, ToCompactor, ToCoordinator, ToSender, ToWorker, to_sender,
};

mod accepting;
mod connection;
mod dialler;

use accepting::{Caller, accepted};
use dialler::Dialler;

/// Messages that wait in each direction of a call, besides what HTTP/2 holds.
const LINK_MESSAGES_MAX: usize = 16;
/// Greatest message: a batch of rows and its frame.
const MESSAGE_BYTES_MAX: usize = BATCH_BYTES_MAX + (64 << 10);
/// How long a worker waits for the first message of a channel.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a dial may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing comes for this long is asked whether it lives,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// and is given up when no answer comes within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 windows. Readers of channels always drain their stream (credit bounds what is queued),
/// so a stream never holds the connection's window for long.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Channels that one peer may have open at a time.
const STREAMS_MAX: u32 = 1 << 16;

/// gRPC over TCP.
#[derive(Debug)]
pub struct GrpcNetwork {
    /// Connections for data channels, by the address that was dialled.
    connections: Mutex<BTreeMap<String, Channel>>,
    /// Where it serves.
    listen: SocketAddr,
    tls: Option<Arc<Tls>>,
}

impl GrpcNetwork {
    /// On the loopback interface, without TLS: whoever knows the run's token is one of us.
    pub fn loopback() -> Arc<Self> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Arc::new(Self { connections: Mutex::default(), listen, tls: None })
    }

    /// Between pods: dials workers of the own job alone, and serves at `listen`, if asked to, the
    /// operator and the workers of the own job alone.
    pub fn secured(tls: Arc<Tls>, listen: SocketAddr) -> Arc<Self> {
        Arc::new(Self { connections: Mutex::default(), listen, tls: Some(tls) })
    }

    /// A connection to a process of this role at `address`; it connects at its first call.
    fn connect(&self, address: &str, role: Role) -> Result<Channel, Unreachable> {
        let dialler = Dialler::new(address, role, self.tls.clone());
        Ok(endpoint(address)?.connect_with_connector_lazy(dialler))
    }

    /// The one connection to `address` for data channels.
    fn shared(&self, address: &str) -> Result<Channel, Unreachable> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = connections.get(address) {
            return Ok(channel.clone());
        }
        let channel = self.connect(address, Role::Worker)?;
        connections.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Who serves, if it can be seen.
    fn own_name(&self) -> io::Result<Option<PeerName>> {
        let Some(tls) = &self.tls else { return Ok(None) };
        match tls.name() {
            name if name.role != Role::Operator => Ok(Some(name.clone())),
            found => Err(io::Error::other(TlsError::WrongRole {
                found: found.clone(),
                wanted: Role::Worker,
            })),
        }
    }

    /// The call failed: forgets the connection, since the process behind it is probably gone.
    fn failed(&self, address: &str, status: &Status) -> Unreachable {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
        unreachable_at(address, &reason(status))
    }
}

fn client(channel: Channel) -> WorkerClient<Channel> {
    WorkerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// What a call failed of: the worker's own words, or what happened below.
fn reason(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(cause) => chain(cause),
        None => status.message().to_owned(),
    }
}

#[async_trait]
impl Network for GrpcNetwork {
    async fn serve(&self, service: Arc<dyn WorkerService>) -> io::Result<Serving> {
        let own = self.own_name()?;
        let listener = TcpListener::bind(self.listen).await?;
        let address = listener.local_addr()?.to_string();
        let (open, over) = oneshot::channel::<()>();
        let over = over.map(drop).boxed().shared();
        let worker = WorkerServer::new(Bridge { service, own })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let serving = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(worker)
            .serve_with_incoming(accepted(listener, self.tls.clone(), over));
        let task = task::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the worker's service ended");
            }
        });
        Ok(Serving { address, guard: Box::new(Guard { _open: open, _task: task }) })
    }

    async fn control(&self, address: &str) -> Result<CoordinatorLink, Unreachable> {
        let mut client = client(self.connect(address, Role::Worker)?);
        let (send, outgoing) = mpsc::channel::<ToWorker>(LINK_MESSAGES_MAX);
        let called = client.control(ReceiverStream::new(outgoing)).await;
        let stream = called.map_err(|status| self.failed(address, &status))?.into_inner();
        Ok(Link { send, receive: bridged(stream) })
    }

    async fn channel(&self, address: &str, open: OpenChannel) -> Result<ReceiverLink, Unreachable> {
        let mut client = client(self.shared(address)?);
        let (send, outgoing) = mpsc::channel(LINK_MESSAGES_MAX);
        let first = ToSender { body: Some(to_sender::Body::Open(open)) };
        // The queue is new and has room.
        let _ = send.try_send(first);
        let called = client.channel(ReceiverStream::new(outgoing)).await;
        let stream = called.map_err(|status| self.failed(address, &status))?.into_inner();
        Ok(Link { send, receive: bridged(stream) })
    }

    async fn compact(&self, address: &str) -> Result<OrderLink, Unreachable> {
        let mut client = client(self.connect(address, Role::Compactor)?);
        let (send, outgoing) = mpsc::channel::<ToCompactor>(LINK_MESSAGES_MAX);
        let called = client.compact(ReceiverStream::new(outgoing)).await;
        let stream = called.map_err(|status| unreachable_at(address, &reason(&status)))?;
        Ok(Link { send, receive: bridged(stream.into_inner()) })
    }
}

/// Ends the service when dropped: no new connections, and the present ones break.
struct Guard {
    _open: oneshot::Sender<()>,
    _task: Task<()>,
}

/// Resolves when the service is over.
type Over = Shared<futures::future::BoxFuture<'static, ()>>;

fn endpoint(address: &str) -> Result<Endpoint, Unreachable> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| unreachable_at(address, &error.to_string()))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

fn unreachable_at(address: &str, reason: &str) -> Unreachable {
    Unreachable { address: address.to_owned(), reason: reason.to_owned() }
}

/// The service that tonic calls: turns streams into links.
struct Bridge {
    service: Arc<dyn WorkerService>,
    /// Whose calls are answered: those of this process's job. None: everybody's.
    own: Option<PeerName>,
}

impl Bridge {
    /// Errors: why the caller is refused.
    fn admit<T>(&self, request: &Request<T>, wanted: Role) -> Result<(), Status> {
        let Some(own) = &self.own else { return Ok(()) };
        let wanted = own.with_role(wanted);
        let found = match request.extensions().get::<Caller>() {
            Some(Caller::Named(name)) if *name == wanted => return Ok(()),
            Some(Caller::Named(name)) => format!("the caller's certificate is that of {name}"),
            Some(Caller::Unnamed(why)) => {
                format!("the caller's certificate names nobody ({why})")
            }
            Some(Caller::Loopback) | None => "the caller shows no certificate".to_owned(),
        };
        tracing::warn!("refused a call: {found}, wanted is {wanted}");
        Err(Status::permission_denied(format!("this call is for {wanted}; {found}")))
    }
}

type Outgoing<T> = futures::stream::BoxStream<'static, Result<T, Status>>;

#[async_trait]
impl Worker for Bridge {
    type ControlStream = Outgoing<ToCoordinator>;
    type ChannelStream = Outgoing<Frame>;
    type CompactStream = Outgoing<FromCompactor>;

    async fn compact(
        &self,
        request: Request<Streaming<ToCompactor>>,
    ) -> Result<Response<Self::CompactStream>, Status> {
        self.admit(&request, Role::Worker)?;
        let (send, outgoing) = mpsc::channel(LINK_MESSAGES_MAX);
        self.service.compaction(Link { send, receive: bridged(request.into_inner()) });
        Ok(Response::new(stream_of(outgoing)))
    }

    async fn control(
        &self,
        request: Request<Streaming<ToWorker>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        self.admit(&request, Role::Operator)?;
        let (send, outgoing) = mpsc::channel(LINK_MESSAGES_MAX);
        self.service.control(Link { send, receive: bridged(request.into_inner()) });
        Ok(Response::new(stream_of(outgoing)))
    }

    async fn channel(
        &self,
        request: Request<Streaming<ToSender>>,
    ) -> Result<Response<Self::ChannelStream>, Status> {
        self.admit(&request, Role::Worker)?;
        let mut stream = request.into_inner();
        let first = weir_runtime::clock::timeout(OPEN_TIMEOUT, stream.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the channel was not named"))??;
        let Some(to_sender::Body::Open(open)) = first.and_then(|first| first.body) else {
            return Err(Status::invalid_argument("a channel's first message must name it"));
        };
        let (send, outgoing) = mpsc::channel(LINK_MESSAGES_MAX);
        self.service.channel(open, Link { send, receive: bridged(stream) });
        Ok(Response::new(stream_of(outgoing)))
    }
}

fn stream_of<T: Send + 'static>(outgoing: mpsc::Receiver<T>) -> Outgoing<T> {
    Box::pin(ReceiverStream::new(outgoing).map(Ok))
}

/// A queue that is fed by a task of its own until either end is gone.
fn bridged<T: Send + 'static>(mut stream: Streaming<T>) -> mpsc::Receiver<T> {
    let (feed, queue) = mpsc::channel(LINK_MESSAGES_MAX);
    let bridge = async move {
        loop {
            let message = tokio::select! {
                biased;
                () = feed.closed() => return,
                message = stream.message() => message,
            };
            match message {
                Ok(Some(message)) => {
                    if feed.send(message).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(%status, "a call broke");
                    return;
                }
            }
        }
    };
    task::spawn(bridge).detach();
    queue
}

#[cfg(test)]
mod tests;
