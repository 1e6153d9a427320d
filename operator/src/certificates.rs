//! Authorities and certificates of jobs: made, and planned over their time. Pure, but for the random
//! bits of keys.
//!
//! - `certificates/plan.rs` — how one authority of a namespace follows another. No clock.
//! - `certificates/times.rs` — how long things last and how often they are looked at.
//! - `certificates/settling.rs` — since when everybody has what was given out.
//! - `certificates/dates.rs` — from when until when a certificate counts.
//!
//! What must stay true: whoever can issue is an authority of one namespace, and each certificate
//! names one process (docs/design/0012-transport-security.md). A certificate is issued only by an
//! authority that everybody trusts by then, and an authority is dropped only when nothing that it
//! issued is in use. The keys of authorities never leave the operator's own secret.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use time::OffsetDateTime;
use weir_engine::network::tls::{PeerName, Pem, certificates_in};

use self::dates::Validity;

pub(crate) mod dates;
pub(crate) mod plan;
pub(crate) mod settling;
#[cfg(test)]
mod tests;
pub(crate) mod times;

/// An authority: its certificate, which everybody may see, and its key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    /// PEM.
    pub(crate) certificate: String,
    /// PEM.
    pub(crate) key: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    /// Whether its certificate and its key can be read and are of each other.
    pub(crate) fn is_whole(&self) -> bool {
        let Ok(key) = KeyPair::from_pem(&self.key) else { return false };
        let Ok(certificates) = certificates_in(self.certificate.as_bytes()) else { return false };
        let public = key.subject_public_key_info();
        let [certificate] = certificates.as_slice() else { return false };
        certificate.windows(public.len()).any(|part| part == public)
    }
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

/// Begins an authority of `namespace`.
pub(crate) fn make_authority(
    namespace: &str,
    validity: Validity,
) -> Result<Authority, CertificateError> {
    let failed = |cause| CertificateError::Make { what: "make an authority", cause };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = authority_params(namespace);
    (params.not_before, params.not_after) = dates(validity)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Authority { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Issues a certificate for `name`. `trusted` are the certificates of all authorities that its owner
/// trusts, the issuing one among them.
pub(crate) fn issue(
    authority: &Authority,
    name: &PeerName,
    trusted: &str,
    validity: Validity,
) -> Result<Pem, CertificateError> {
    let failed = |cause| CertificateError::Make { what: "issue a certificate", cause };
    let issuing = KeyPair::from_pem(&authority.key).map_err(failed)?;
    let params = authority_params(&name.namespace);
    let issuer = Issuer::from_params(&params, issuing);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = leaf_params(name, validity)?.signed_by(&key, &issuer);
    Ok(Pem {
        authorities: trusted.as_bytes().to_vec(),
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

fn leaf_params(name: &PeerName, validity: Validity) -> Result<CertificateParams, CertificateError> {
    let failed = |cause| CertificateError::Make { what: "name a certificate", cause };
    let mut params = CertificateParams::new([name.dns()]).map_err(failed)?;
    params.distinguished_name = subject(name.role.to_string().as_str());
    (params.not_before, params.not_after) = dates(validity)?;
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

fn dates(validity: Validity) -> Result<(OffsetDateTime, OffsetDateTime), CertificateError> {
    let at = |seconds| {
        OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|error| CertificateError::Damaged { what: error.to_string() })
    };
    Ok((at(validity.from_seconds)?, at(validity.until_seconds)?))
}
