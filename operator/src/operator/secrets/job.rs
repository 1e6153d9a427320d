//! A job's secret, as it is stored: the certificates of workers and compactors, whom they trust, their
//! token. Pure.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use weir_engine::network::tls::{PeerName, Pem, Role, Tls, is_taken};

use super::authority::Kept;
use super::{
    AUTHORITIES_KEY, CERTIFICATE_KEY, COMPACTOR_CERTIFICATE_KEY, COMPACTOR_PRIVATE_KEY, Owner,
    PRIVATE_KEY, SecretError, TOKEN_KEY, labels, text,
};
use crate::certificates::dates::validity;
use crate::certificates::issue;
use crate::certificates::times::Times;
use crate::operator::names;

/// How what a job has compares with what it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Freshness {
    /// It can stay.
    Fresh,
    /// It counts, and is to be replaced: by age, or since an older version made it without a compactor's.
    Due,
    /// It is not whole, or of other authorities.
    Stale,
}

/// Looks at a job's secret. `token` is the one that its coordinator has, if one runs.
pub(crate) fn freshness(
    secret: &Secret,
    owner: &Owner,
    token: Option<&str>,
    kept: &Kept,
    times: &Times,
    now: i64,
) -> Freshness {
    let is_owned = |reference: &OwnerReference| {
        let mut all = secret.metadata.owner_references.iter().flatten();
        all.any(|its| its.uid == reference.uid)
    };
    let has_token =
        || text(secret, TOKEN_KEY).is_some_and(|its| token.is_none_or(|known| its == known));
    let is_common = text(secret, AUTHORITIES_KEY).as_deref() == Some(&kept.trusted())
        && has_token()
        && owner.reference.as_ref().is_none_or(is_owned);
    if !is_common {
        return Freshness::Stale;
    }
    let worker = of_role(secret, owner, Role::Worker, kept, times, now);
    let compactor = of_role(secret, owner, Role::Compactor, kept, times, now);
    worker.unwrap_or(Freshness::Stale).max(compactor.unwrap_or(Freshness::Due))
}

/// Looks at one certificate of it; none: there is none.
fn of_role(
    secret: &Secret,
    owner: &Owner,
    role: Role,
    kept: &Kept,
    times: &Times,
    now: i64,
) -> Option<Freshness> {
    let keys = keys(role).map(|key| text(secret, key).map(String::into_bytes));
    let [Some(certificate), Some(key)] = keys else { return None };
    let dates = validity(&certificate).ok().filter(|dates| dates.is_in_force(now));
    let is_ours = kept.current.as_ref().is_some_and(|current| {
        is_taken(&certificate, current.authority.certificate.as_bytes(), now)
    });
    let pem = Pem { authorities: kept.trusted().into_bytes(), certificate, key };
    let is_whole = || Tls::new(&pem).is_ok_and(|tls| *tls.name() == name(owner, role));
    Some(match dates {
        Some(dates) if is_ours && is_whole() => match now < times.certificate_due_at(dates) {
            true => Freshness::Fresh,
            false => Freshness::Due,
        },
        _ => Freshness::Stale,
    })
}

/// Where the certificate and the key of a role stand.
fn keys(role: Role) -> [&'static str; 2] {
    match role {
        Role::Compactor => [COMPACTOR_CERTIFICATE_KEY, COMPACTOR_PRIVATE_KEY],
        Role::Worker | Role::Operator => [CERTIFICATE_KEY, PRIVATE_KEY],
    }
}

/// Issues a certificate for a process of the job.
pub(crate) fn certificate(
    kept: &Kept,
    owner: &Owner,
    role: Role,
    times: &Times,
    now: i64,
) -> Result<Pem, SecretError> {
    let current = kept
        .current
        .as_ref()
        .ok_or_else(|| SecretError::NoAuthority { namespace: owner.namespace.clone() })?;
    let dates = times.certificate(now, current.validity);
    Ok(issue(&current.authority, &name(owner, role), &kept.trusted(), dates)?)
}

fn name(owner: &Owner, role: Role) -> PeerName {
    PeerName { role, job: owner.job.clone(), namespace: owner.namespace.clone() }
}

/// The secret as it is to be: a whole one, or what changes of one that is there.
pub(crate) fn content(
    before: Option<&Secret>,
    owner: &Owner,
    token: &str,
    [worker, compactor]: [Pem; 2],
    now: i64,
) -> Secret {
    let content = [
        (AUTHORITIES_KEY, worker.authorities),
        (CERTIFICATE_KEY, worker.certificate),
        (PRIVATE_KEY, worker.key),
        (COMPACTOR_CERTIFICATE_KEY, compactor.certificate),
        (COMPACTOR_PRIVATE_KEY, compactor.key),
        (TOKEN_KEY, token.as_bytes().to_vec()),
    ];
    let data = content.into_iter().map(|(key, bytes)| (key.to_owned(), ByteString(bytes)));
    let mut labels = labels();
    labels.insert(names::JOB.to_owned(), owner.job.clone());
    Secret {
        metadata: ObjectMeta {
            name: Some(names::job_secret(&owner.job)),
            namespace: Some(owner.namespace.clone()),
            labels: Some(labels),
            annotations: Some([(names::ISSUED.to_owned(), now.to_string())].into()),
            owner_references: owner.reference.clone().map(|reference| vec![reference]),
            // Refused, when somebody else has written it meanwhile.
            resource_version: before.and_then(|before| before.metadata.resource_version.clone()),
            ..ObjectMeta::default()
        },
        data: Some(data.collect()),
        type_: before.is_none().then(|| "Opaque".to_owned()),
        ..Secret::default()
    }
}

/// Whether a secret never held anything else than it does, and none of the pods is older than it.
pub(crate) fn is_as_created(secret: &Secret, oldest_pod: Option<Timestamp>) -> bool {
    let Some(created) = secret.metadata.creation_timestamp.as_ref().map(|time| time.0) else {
        return false;
    };
    let written = secret.metadata.managed_fields.iter().flatten().map(|entry| entry.time.as_ref());
    let mut written = written.peekable();
    // Without a word of when it was written it may have been later.
    written.peek().is_some()
        && written.all(|time| time.is_some_and(|time| time.0 <= created))
        && oldest_pod.is_some_and(|pod| pod >= created)
}
