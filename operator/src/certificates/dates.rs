//! From when until when a certificate counts. Pure.

use weir_engine::network::tls::certificates_in;
use yasna::{ASN1Result, BERReader, Tag};

use super::CertificateError;

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// A certificate counts from then on,
    pub(crate) from_seconds: i64,
    /// until then.
    pub(crate) until_seconds: i64,
}

/// The dates of the first certificate in a PEM text.
pub(crate) fn validity(pem: &[u8]) -> Result<Validity, CertificateError> {
    let damaged = |what: String| CertificateError::Damaged { what };
    let all = certificates_in(pem).map_err(|error| damaged(error.to_string()))?;
    let first = all.first().ok_or_else(|| damaged("an empty text".to_owned()))?;
    yasna::parse_der(first, certificate).map_err(|error| damaged(error.to_string()))
}

/// RFC 5280, section 4.1: as much of it as stands before the dates.
fn certificate(reader: BERReader<'_, '_>) -> ASN1Result<Validity> {
    reader.read_sequence(|certificate| {
        let validity = certificate.next().read_sequence(|signed| {
            let _version =
                signed.next().read_tagged(Tag::context(0), |version| version.read_u8())?;
            let _serial = signed.next().read_der()?;
            let _algorithm = signed.next().read_der()?;
            let _issuer = signed.next().read_der()?;
            let validity = signed.next().read_sequence(|dates| {
                let from_seconds = seconds(dates.next())?;
                Ok(Validity { from_seconds, until_seconds: seconds(dates.next())? })
            })?;
            // Subject, key, extensions.
            while signed.read_optional(|rest| rest.read_der())?.is_some() {}
            Ok(validity)
        })?;
        let _algorithm = certificate.next().read_der()?;
        let _signature = certificate.next().read_der()?;
        Ok(validity)
    })
}

/// `UTCTime` until 2049, then `GeneralizedTime`.
fn seconds(reader: BERReader<'_, '_>) -> ASN1Result<i64> {
    let is_utc = reader.lookahead_tag()? == yasna::tags::TAG_UTCTIME;
    Ok(match is_utc {
        true => reader.read_utctime()?.datetime().unix_timestamp(),
        false => reader.read_generalized_time()?.datetime().unix_timestamp(),
    })
}
