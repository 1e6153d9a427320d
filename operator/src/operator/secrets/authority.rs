//! The secret with a namespace's authorities, as it is stored. Pure; the format stands in
//! docs/design/0012-transport-security.md, and operators of other versions read it too.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::{CERTIFICATE_KEY, PRIVATE_KEY, SecretError, labels, text};
use crate::certificates::dates::{Validity, validity};
use crate::certificates::plan::{Seen, Step};
use crate::certificates::{Authority, CertificateError};
use crate::operator::names;

const NEXT_CERTIFICATE_KEY: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
/// Without its key: nobody is to issue with it again.
const PREVIOUS_CERTIFICATE_KEY: &str = "previous.crt";
/// The newest format that is read; without the annotation it has `tls.crt` and `tls.key` alone.
const FORMAT: u32 = 1;

/// An authority that can issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer {
    pub(crate) authority: Authority,
    pub(crate) validity: Validity,
}

impl Issuer {
    pub(crate) fn of(authority: Authority) -> Option<Self> {
        let validity = validity(authority.certificate.as_bytes()).ok()?;
        authority.is_whole().then_some(Self { authority, validity })
    }
}

/// What a secret holds. What can't be used is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) current: Option<Issuer>,
    pub(crate) next: Option<Issuer>,
    /// A certificate, and its dates.
    pub(crate) previous: Option<(String, Validity)>,
    /// What the user's annotation says: another value asks for another authority.
    asked: Option<String>,
    /// Its value when the last one was made.
    answered: Option<String>,
}

impl Kept {
    /// Errors: a newer Weir has written it.
    pub(crate) fn read(secret: &Secret) -> Result<Self, SecretError> {
        let annotation = |key: &str| Some(secret.metadata.annotations.as_ref()?.get(key)?.clone());
        if let Some(format) = annotation(names::FORMAT)
            && format.parse::<u32>().is_ok_and(|format| format > FORMAT)
        {
            let name = secret.metadata.name.clone().unwrap_or_default();
            return Err(SecretError::Newer { name, format, known: FORMAT });
        }
        let issuer = |certificate, key| {
            let (certificate, key) = (text(secret, certificate)?, text(secret, key)?);
            Issuer::of(Authority { certificate, key })
        };
        let previous = text(secret, PREVIOUS_CERTIFICATE_KEY);
        Ok(Self {
            current: issuer(CERTIFICATE_KEY, PRIVATE_KEY),
            next: issuer(NEXT_CERTIFICATE_KEY, NEXT_KEY),
            previous: previous
                .and_then(|text| Some((text.clone(), validity(text.as_bytes()).ok()?))),
            asked: annotation(names::ROTATE),
            answered: annotation(names::ROTATED),
        })
    }

    /// What the plan has to know.
    pub(crate) fn seen(&self) -> Seen {
        let dates = |issuer: &Option<Issuer>| issuer.as_ref().map(|its| its.validity);
        Seen {
            current: dates(&self.current),
            next: dates(&self.next),
            previous: self.previous.as_ref().map(|(_, validity)| *validity),
            is_asked: self.asked.is_some() && self.asked != self.answered,
        }
    }

    /// `ca.crt` of everybody: an authority keeps its place when it issues no more.
    pub(crate) fn trusted(&self) -> String {
        let previous = self.previous.as_ref().map(|(text, _)| text);
        let issuers = [&self.current, &self.next].into_iter().flatten();
        let all = previous.into_iter().chain(issuers.map(|its| &its.authority.certificate));
        let lines = all.flat_map(|text| {
            let end = if text.ends_with('\n') { "" } else { "\n" };
            [text.as_str(), end]
        });
        lines.collect()
    }

    /// How many authorities are trusted: more than one while one follows another.
    pub(crate) fn count(&self) -> usize {
        let issuers = [&self.current, &self.next].into_iter().flatten().count();
        issuers + usize::from(self.previous.is_some())
    }

    /// After a step; `make` makes an authority.
    pub(crate) fn after(
        self,
        step: Step,
        make: impl FnOnce() -> Result<Authority, CertificateError>,
    ) -> Result<Self, CertificateError> {
        let make = || {
            let what = "an authority that was just made cannot be read".to_owned();
            Issuer::of(make()?).ok_or(CertificateError::Damaged { what })
        };
        let answered = self.asked.clone();
        Ok(match step {
            Step::Begin => {
                Self { current: Some(make()?), next: None, previous: None, answered, ..self }
            }
            Step::AddNext => Self { next: Some(make()?), answered, ..self },
            Step::Promote => {
                let previous = self.current.map(|its| (its.authority.certificate, its.validity));
                Self { current: self.next, next: None, previous, ..self }
            }
            Step::DropPrevious => Self { previous: None, ..self },
        })
    }

    /// Writes it into the secret that it was read from, or into a new one; what else is there stays.
    pub(crate) fn put_into(&self, secret: &mut Secret) {
        let data = secret.data.get_or_insert_default();
        let current = self.current.as_ref().map(|its| &its.authority);
        let next = self.next.as_ref().map(|its| &its.authority);
        for (key, text) in [
            (CERTIFICATE_KEY, current.map(|its| &its.certificate)),
            (PRIVATE_KEY, current.map(|its| &its.key)),
            (NEXT_CERTIFICATE_KEY, next.map(|its| &its.certificate)),
            (NEXT_KEY, next.map(|its| &its.key)),
            (PREVIOUS_CERTIFICATE_KEY, self.previous.as_ref().map(|(text, _)| text)),
        ] {
            match text {
                Some(text) => {
                    data.insert(key.to_owned(), ByteString(text.clone().into_bytes()));
                }
                None => drop(data.remove(key)),
            }
        }
        secret.metadata.labels.get_or_insert_default().extend(labels());
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(names::FORMAT.to_owned(), FORMAT.to_string());
        if let Some(answered) = &self.answered {
            annotations.insert(names::ROTATED.to_owned(), answered.clone());
        }
        secret.metadata.managed_fields = None;
    }
}
