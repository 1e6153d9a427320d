//! RPC behind a trait: gRPC over sockets, or simulated with faults.
//!
//! Both directions of a call are bounded queues ([`Link`]). A broken connection closes the
//! receiving queue; messages in flight may be lost, and an end that is still alive learns it from
//! the closed queue or its own heartbeat deadline.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::protocol::{
    Frame, FromCompactor, OpenChannel, ToCompactor, ToCoordinator, ToSender, ToWorker,
};

pub mod grpc;
pub mod sim;
pub mod tls;

/// One end of a two-way call.
#[derive(Debug)]
pub struct Link<S, R> {
    /// Messages to the other end; an error means that the call is over.
    pub send: mpsc::Sender<S>,
    /// Messages from the other end; `None` means that the call is over.
    pub receive: mpsc::Receiver<R>,
}

/// The coordinator's end of a control stream.
pub type CoordinatorLink = Link<ToWorker, ToCoordinator>;
/// The worker's end of a control stream.
pub type WorkerLink = Link<ToCoordinator, ToWorker>;
/// The receiver's end of a data channel (it opened the channel).
pub type ReceiverLink = Link<ToSender, Frame>;
/// The sender's end of a data channel.
pub type SenderLink = Link<Frame, ToSender>;

/// The end of a compaction of the worker that ordered it.
pub type OrderLink = Link<ToCompactor, FromCompactor>;
/// The compactor's end of a compaction.
pub type CompactionLink = Link<FromCompactor, ToCompactor>;

/// A call could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach worker {address}: {reason}")]
pub struct Unreachable {
    /// Address that was dialled.
    pub address: String,
    /// What happened.
    pub reason: String,
}

/// What a worker or a compactor answers. What is not its business it drops, which ends the call.
pub trait WorkerService: Send + Sync {
    /// A coordinator has opened a control stream. Must not block.
    fn control(&self, link: WorkerLink);
    /// A receiver has opened a data channel. Must not block.
    fn channel(&self, open: OpenChannel, link: SenderLink);
    /// A worker has a compaction to give. Must not block.
    fn compaction(&self, link: CompactionLink) {
        drop(link);
    }
}

/// How processes reach each other.
#[async_trait]
pub trait Network: Send + Sync {
    /// Serves `service` until the returned guard is dropped; gives the address to dial.
    async fn serve(&self, service: Arc<dyn WorkerService>) -> std::io::Result<Serving>;
    /// Opens a control stream to the worker at `address`.
    async fn control(&self, address: &str) -> Result<CoordinatorLink, Unreachable>;
    /// Opens a data channel to the sender at `address`; `open` is its first message.
    async fn channel(&self, address: &str, open: OpenChannel) -> Result<ReceiverLink, Unreachable>;
    /// Opens a call to the compactor at `address`, for one compaction.
    async fn compact(&self, address: &str) -> Result<OrderLink, Unreachable>;
}

/// A service that is being served.
pub struct Serving {
    /// What others dial.
    pub address: String,
    /// Ends the service when dropped.
    pub guard: Box<dyn std::any::Any + Send + Sync>,
}
