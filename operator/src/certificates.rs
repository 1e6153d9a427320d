//! Authorities and certificates of jobs: made, and planned over their time. Pure, but for the random
//! bits of keys.
//!
//! - `certificates/plan.rs` — when to renew, when an authority follows another. No clock.
//! - `certificates/dates.rs` — from when until when a certificate counts.
//!
//! What must stay true: whoever can issue is an authority of one namespace, and each certificate
//! names one process (docs/design/0012-transport-security.md). A certificate is issued only by an
//! authority that everybody trusts by then, and an authority is dropped only when nothing that it
//! issued is in use. The keys of authorities never leave the operator's own secret.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;
use weir_engine::network::tls::{PeerName, Pem};

pub(crate) mod dates;
pub(crate) mod plan;
#[cfg(test)]
mod tests;

/// Clocks of nodes differ: everything counts from a little before it was made.
const BACKDATED_SECONDS: i64 = 600;

/// An authority: its certificate, which everybody may see, and its key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    /// PEM.
    pub(crate) certificate: String,
    /// PEM.
    pub(crate) key: String,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The library refuses.
    #[error("cannot {what}")]
    Make {
        /// What was tried.
        what: &'static str,
        /// Cause.
        #[source]
        cause: rcgen::Error,
    },
    /// A stored text is no certificate.
    #[error("this is no certificate: {what}")]
    Damaged {
        /// What is wrong with it.
        what: String,
    },
}

/// Begins an authority of `namespace` that counts for `days` from `now_seconds` (since 1970).
pub(crate) fn make_authority(
    namespace: &str,
    now_seconds: i64,
    days: u32,
) -> Result<Authority, CertificateError> {
    let failed = |cause| CertificateError::Make { what: "make an authority", cause };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = authority_params(namespace);
    (params.not_before, params.not_after) = dates(now_seconds, days)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Authority { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Issues a certificate for `name` that counts for `days` from `now_seconds`. `trusted` are the
/// certificates of all authorities that its owner trusts, the issuing one among them.
pub(crate) fn issue(
    authority: &Authority,
    name: &PeerName,
    trusted: &[&str],
    now_seconds: i64,
    days: u32,
) -> Result<Pem, CertificateError> {
    let failed = |cause| CertificateError::Make { what: "issue a certificate", cause };
    let issuing = KeyPair::from_pem(&authority.key).map_err(failed)?;
    let params = authority_params(&name.namespace);
    let issuer = Issuer::from_params(&params, issuing);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = leaf_params(name, now_seconds, days)?.signed_by(&key, &issuer);
    Ok(Pem {
        authorities: trusted.concat().into_bytes(),
        certificate: certificate.map_err(failed)?.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
    })
}

/// All authorities of a namespace have the same subject; their keys tell them apart.
fn authority_params(namespace: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(&format!("Weir in namespace {namespace}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(
    name: &PeerName,
    now_seconds: i64,
    days: u32,
) -> Result<CertificateParams, CertificateError> {
    let failed = |cause| CertificateError::Make { what: "name a certificate", cause };
    let mut params = CertificateParams::new([name.dns()]).map_err(failed)?;
    params.distinguished_name = subject(name.role.to_string().as_str());
    (params.not_before, params.not_after) = dates(now_seconds, days)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn subject(common_name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    subject
}

fn dates(now: i64, days: u32) -> Result<(OffsetDateTime, OffsetDateTime), CertificateError> {
    let at = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|error| CertificateError::Damaged { what: error.to_string() })
    };
    Ok((at(now - BACKDATED_SECONDS)?, at(now + i64::from(days) * 86_400)?))
}
