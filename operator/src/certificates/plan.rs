//! When to renew a certificate, and how one authority follows another. Pure: the time is a value.
//!
//! An authority is followed in three steps, each of which waits until everybody has what the step
//! before gave out: *next* is trusted, *next* issues, the *previous* one is trusted no more. What
//! `plan` gives is done and looked at again; doing a step twice is the same as once.

use weir_engine::network::tls::PeerName;

use super::BACKDATED_SECONDS;
use super::dates::Validity;

/// For how long an authority is made.
pub(crate) const AUTHORITY_DAYS: u32 = 365;
/// For how long a certificate is made: renewed after two thirds of it, so that a month without an
/// operator does no harm.
pub(crate) const CERTIFICATE_DAYS: u32 = 90;
/// After this long every process has what was written into its secret: the kubelet takes up to two
/// minutes, a process five seconds.
pub(crate) const SETTLES_SECONDS: i64 = 600;

/// An authority as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthoritySeen {
    /// Tells authorities apart.
    pub(crate) id: String,
    /// Its dates.
    pub(crate) validity: Validity,
}

/// A process's certificate as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateSeen {
    /// Who it is for.
    pub(crate) name: PeerName,
    /// Its dates.
    pub(crate) validity: Validity,
    /// Id of the authority that issued it.
    pub(crate) issuer: String,
    /// Ids of the authorities that stand beside it, in their order.
    pub(crate) trusted: Vec<String>,
}

/// All of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The authority that issues.
    pub(crate) current: Option<AuthoritySeen>,
    /// The one that will.
    pub(crate) next: Option<AuthoritySeen>,
    /// The one that did.
    pub(crate) previous: Option<AuthoritySeen>,
    /// Certificates of every process that is to have one.
    pub(crate) certificates: Vec<CertificateSeen>,
    /// Processes that are to have one and have none.
    pub(crate) missing: Vec<PeerName>,
}

impl Seen {
    /// Ids of the authorities that everybody is to trust now.
    pub(crate) fn trusted(&self) -> Vec<String> {
        let all = [&self.previous, &self.current, &self.next];
        all.into_iter().flatten().map(|authority| authority.id.clone()).collect()
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the authority that issues: there is none that can.
    Begin,
    /// Make the authority that will issue.
    AddNext,
    /// The next one issues from now on; the present one is the previous.
    Promote,
    /// Forget the previous one.
    DropPrevious,
    /// Issue a certificate, and write it with those who are trusted.
    Issue(PeerName),
    /// Write those who are trusted beside a certificate that stays as it is.
    Trust(PeerName),
}

/// What to do now, in this order. Authorities first: certificates follow at the next look.
pub(crate) fn plan(seen: &Seen, now_seconds: i64) -> Vec<Step> {
    if let Some(step) = plan_authorities(seen, now_seconds) {
        return vec![step];
    }
    let missing = seen.missing.iter().cloned().map(Step::Issue);
    let stored = seen.certificates.iter();
    missing.chain(stored.filter_map(|its| plan_certificate(seen, its, now_seconds))).collect()
}

/// When to look again, if nothing else happens.
pub(crate) fn look_again_seconds(seen: &Seen, now_seconds: i64) -> i64 {
    let authorities = [&seen.current, &seen.next].into_iter().flatten();
    let due = authorities.map(|authority| renew_at(authority.validity));
    let renewals = due.chain(seen.certificates.iter().map(|its| renew_at(its.validity)));
    let is_rotating = seen.next.is_some() || seen.previous.is_some();
    let settles = is_rotating.then_some(now_seconds + SETTLES_SECONDS);
    let soonest = renewals.chain(settles).filter(|at| *at > now_seconds).min();
    soonest.unwrap_or(now_seconds + SETTLES_SECONDS)
}

fn plan_authorities(seen: &Seen, now: i64) -> Option<Step> {
    let Some(current) = &seen.current else { return Some(Step::Begin) };
    if now >= current.validity.until_seconds {
        // Nothing that it issued is taken any more.
        return Some(if seen.next.is_some() { Step::Promote } else { Step::Begin });
    }
    match (&seen.next, &seen.previous) {
        (Some(next), _) => {
            let all_trust = || seen.certificates.iter().all(|its| its.trusted == seen.trusted());
            (has_settled(next.validity, now) && all_trust()).then_some(Step::Promote)
        }
        (None, Some(_)) => {
            let is_new =
                |its: &CertificateSeen| its.issuer == current.id && has_settled(its.validity, now);
            seen.certificates.iter().all(is_new).then_some(Step::DropPrevious)
        }
        (None, None) => (now >= renew_at(current.validity)).then_some(Step::AddNext),
    }
}

fn plan_certificate(seen: &Seen, its: &CertificateSeen, now: i64) -> Option<Step> {
    let is_current = seen.current.as_ref().is_some_and(|current| current.id == its.issuer);
    if !is_current || now >= renew_at(its.validity) {
        return Some(Step::Issue(its.name.clone()));
    }
    (its.trusted != seen.trusted()).then(|| Step::Trust(its.name.clone()))
}

/// After two thirds of its time.
fn renew_at(validity: Validity) -> i64 {
    let whole = validity.until_seconds - validity.from_seconds;
    validity.from_seconds + whole / 3 * 2
}

/// Whether what was made with these dates has reached everybody.
fn has_settled(validity: Validity, now: i64) -> bool {
    now >= validity.from_seconds + BACKDATED_SECONDS + SETTLES_SECONDS
}
