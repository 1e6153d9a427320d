//! From when until when a certificate counts. Pure.

use weir_engine::network::tls::certificates_in;
use yasna::{ASN1Result, BERReader, Tag};

use super::CertificateError;

/// Everything counts from this long before it was made: clocks of nodes differ, and that of an
/// operator may jump ahead for a while.
const BACKDATED_SECONDS: i64 = 86_400;

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// A certificate counts from then on,
    pub(crate) from_seconds: i64,
    /// until then.
    pub(crate) until_seconds: i64,
}

impl Validity {
    /// Of what is made now and is to last so long.
    pub(crate) fn lasting(now: i64, seconds: i64) -> Self {
        Self { from_seconds: now - BACKDATED_SECONDS, until_seconds: now + seconds }
    }

    /// It ends no later than that.
    pub(crate) fn until_at_most(self, end: i64) -> Self {
        Self { until_seconds: self.until_seconds.min(end), ..self }
    }

    /// Whether it counts now.
    pub(crate) fn is_in_force(self, now: i64) -> bool {
        (self.from_seconds..self.until_seconds).contains(&now)
    }

    /// When the next one is due: after two thirds of its time, which by now is to be `lifetime`.
    pub(crate) fn due_at(self, lifetime: i64) -> i64 {
        let made = self.from_seconds + BACKDATED_SECONDS;
        made + (self.until_seconds - made).min(lifetime) / 3 * 2
    }
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
