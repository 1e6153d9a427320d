//! PEM texts become what rustls works with: TLS 1.3 alone, both ends with a certificate, nothing
//! resumed (a session that is resumed would not meet the authorities of today).

use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::rustls;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{PeerName, TlsError};

/// A process's identity as texts, as they lie in a mounted secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// `ca.crt`: whom it trusts; two while one authority follows another.
    pub authorities: Vec<u8>,
    /// `tls.crt`: its certificate.
    pub certificate: Vec<u8>,
    /// `tls.key`: the key to it.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        let certificate = String::from_utf8_lossy(&self.certificate);
        f.debug_struct("Pem").field("certificate", &certificate).finish_non_exhaustive()
    }
}

/// What connections are made with.
#[derive(Debug)]
pub(crate) struct Material {
    pub(crate) name: PeerName,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

impl Material {
    pub(super) fn new(pem: &Pem) -> Result<Self, TlsError> {
        let chain = certificates("tls.crt", &pem.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&pem.key)
            .map_err(|_| TlsError::Pem { part: "tls.key", wanted: "a private key" })?;
        let mut roots = RootCertStore::empty();
        for authority in certificates("ca.crt", &pem.authorities)? {
            roots.add(authority).map_err(TlsError::Unusable)?;
        }
        let name = peer_name(&chain).map_err(|found| TlsError::Unnamed { found })?;
        let roots = Arc::new(roots);
        Ok(Self {
            name,
            server: Arc::new(server(Arc::clone(&roots), chain.clone(), key.clone_key())?),
            client: Arc::new(client(roots, chain, key)?),
        })
    }
}

/// The certificates in a PEM text, as DER.
pub fn certificates_in(text: &[u8]) -> Result<Vec<Vec<u8>>, TlsError> {
    let all = certificates("the text", text)?;
    Ok(all.iter().map(|certificate| certificate.to_vec()).collect())
}

/// Whether those who trust `authorities` (`ca.crt`) take `certificate` (`tls.crt`) at a time, in seconds
/// since 1970, from whoever dials and from whoever is dialled.
pub fn is_taken(certificate: &[u8], authorities: &[u8], at_seconds: i64) -> bool {
    let (Ok(chain), Ok(roots)) =
        (certificates("tls.crt", certificate), certificates("ca.crt", authorities))
    else {
        return false;
    };
    let anchors: Result<Vec<_>, _> = roots.iter().map(anchor_from_trusted_cert).collect();
    let (Some(first), Ok(anchors), Ok(at)) = (chain.first(), anchors, u64::try_from(at_seconds))
    else {
        return false;
    };
    let Ok(first) = EndEntityCert::try_from(first) else { return false };
    let algorithms = provider().signature_verification_algorithms.all;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    [KeyUsage::client_auth(), KeyUsage::server_auth()].into_iter().all(|usage| {
        let found = first.verify_for_usage(algorithms, &anchors, &[], at, usage, None, None);
        found.is_ok()
    })
}

fn certificates(part: &'static str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wanted = "at least one certificate";
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(TlsError::Pem { part, wanted }),
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const HTTP2: &[u8] = b"h2";

fn server(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Unusable)?
        .with_client_cert_verifier(clients.map_err(TlsError::Authorities)?)
        .with_single_cert(chain, key)
        .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(TlsError::Unusable)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Who a chain that was checked, or is our own, is for. Errors: the names that are in it.
pub(crate) fn peer_name(chain: &[CertificateDer<'_>]) -> Result<PeerName, String> {
    let Some(first) = chain.first() else { return Err("no certificate".to_owned()) };
    let certificate = EndEntityCert::try_from(first).map_err(|error| error.to_string())?;
    let names: Vec<&str> = certificate.valid_dns_names().collect();
    match names.as_slice() {
        // With several names it would be a matter of taste who it is.
        [one] => PeerName::parse(one).ok_or_else(|| (*one).to_owned()),
        _ => Err(format!("{} DNS names: {}", names.len(), names.join(", "))),
    }
}
