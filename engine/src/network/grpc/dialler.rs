//! Connects to a worker: plain, or so that both ends show their certificates.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

use super::connection::Io;
use crate::network::tls::{Role, Tls};

/// Makes the connections to one address, each with the certificates of its time.
#[derive(Clone)]
pub(super) struct Dialler {
    address: String,
    /// Who is expected there.
    role: Role,
    tls: Option<Arc<Tls>>,
}

impl Dialler {
    pub(super) fn new(address: &str, role: Role, tls: Option<Arc<Tls>>) -> Self {
        Self { address: address.to_owned(), role, tls }
    }

    async fn dial(self) -> io::Result<TokioIo<Pin<Box<dyn Io>>>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = self.tls else { return Ok(TokioIo::new(Box::pin(stream))) };
        let name = ServerName::try_from(tls.name().with_role(self.role).dns());
        let name = name.map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&tls.material().client));
        let mut stream = connector.connect(name, stream).await?;
        // Our side is done before the server has looked at our certificate. It speaks first; what
        // it refuses would later only be seen as a connection that was closed.
        if stream.fill_buf().await?.is_empty() {
            return Err(io::Error::other("the connection was closed without a word"));
        }
        Ok(TokioIo::new(Box::pin(stream)))
    }
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<Pin<Box<dyn Io>>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        self.clone().dial().boxed()
    }
}
