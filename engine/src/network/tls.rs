//! Mutual TLS between the processes of one job: who a peer is, by its certificate.
//!
//! - `tls/name.rs` — the name in a certificate: role, job, namespace. Pure; start reading here.
//! - `tls/material.rs` — PEM texts become what rustls works with.
//! - `tls/watched.rs` — reads a folder again and again, so that certificates rotate.
//!
//! What must stay true: a process speaks only to peers of its own job and namespace, in the roles
//! that a call is for; new material is for new connections, and those that exist live on. See
//! docs/design/0012-transport-security.md.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_rustls::rustls;
use weir_runtime::task::Task;

pub use self::material::{Pem, certificates_in, is_taken};
pub use self::name::{PeerName, Role};

pub(crate) use self::material::{Material, peer_name};

mod material;
mod name;
#[cfg(test)]
pub(crate) mod tests;
mod watched;

/// Why there is no identity to speak with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {file}")]
    Read {
        /// The file.
        file: String,
        /// Cause.
        #[source]
        cause: std::io::Error,
    },
    /// A text holds no certificate, or no key.
    #[error("{part} is not PEM with {wanted}")]
    Pem {
        /// `ca.crt`, `tls.crt` or `tls.key`.
        part: &'static str,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The certificate says not who this process is.
    #[error("tls.crt names no role, job and namespace, but: {found}")]
    Unnamed {
        /// The names that are in it.
        found: String,
    },
    /// The certificate is another process's.
    #[error("tls.crt is that of {found}, not of {wanted}")]
    WrongRole {
        /// Who it names.
        found: PeerName,
        /// Whom it should name.
        wanted: Role,
    },
    /// The certificate was renewed for somebody else.
    #[error("tls.crt is now that of {found}; this process is {ours}")]
    Renamed {
        /// Who it names now.
        found: PeerName,
        /// Whom it named when this process began.
        ours: PeerName,
    },
    /// The parts do not fit together, or have what rustls does not take.
    #[error("the certificates cannot be used")]
    Unusable(#[source] rustls::Error),
    /// The authorities can't be used to check peers.
    #[error("the authorities in ca.crt cannot be used")]
    Authorities(#[source] rustls::server::VerifierBuilderError),
}

/// This process's certificate, its key, and whom it trusts. What is replaced counts for connections
/// that are made from then on.
#[derive(Debug)]
pub struct Tls {
    name: PeerName,
    material: watch::Sender<Arc<Material>>,
}

impl Tls {
    /// With these texts, until they are replaced.
    pub fn new(pem: &Pem) -> Result<Arc<Self>, TlsError> {
        let material = Material::new(pem)?;
        let name = material.name.clone();
        Ok(Arc::new(Self { name, material: watch::Sender::new(Arc::new(material)) }))
    }

    /// With `ca.crt`, `tls.crt` and `tls.key` of a folder, which is looked at every few seconds for
    /// as long as the task lives.
    pub async fn watch_folder(
        folder: impl Into<std::path::PathBuf>,
    ) -> Result<(Arc<Self>, Task<()>), TlsError> {
        watched::watch(folder.into()).await
    }

    /// Who this process is.
    pub fn name(&self) -> &PeerName {
        &self.name
    }

    /// Errors, when the certificate is not for this process any more: then nothing has changed.
    pub fn replace(&self, pem: &Pem) -> Result<(), TlsError> {
        let material = Material::new(pem)?;
        if material.name != self.name {
            return Err(TlsError::Renamed { found: material.name, ours: self.name.clone() });
        }
        self.material.send_replace(Arc::new(material));
        Ok(())
    }

    /// What the next connection is made with.
    pub(crate) fn material(&self) -> Arc<Material> {
        Arc::clone(&self.material.borrow())
    }
}
