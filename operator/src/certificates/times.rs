//! How long authorities and certificates last, and how often they are looked at.

use std::time::Duration;

use super::dates::Validity;

/// The kubelet takes up to two minutes to show a changed secret in a pod, a process five seconds to
/// look at it.
const DELIVERED_SECONDS: i64 = 150;
/// A look is two requests to the API server.
const LOOK_SECONDS: std::ops::RangeInclusive<i64> = 10..=3_600;
/// How often a job's own secret is looked at, if nothing happens.
const RENEW_SECONDS_MAX: i64 = 6 * 3_600;

/// Settings, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    authority_seconds: i64,
    certificate_seconds: i64,
    look_seconds: i64,
}

impl Times {
    /// Of an authority's life, a certificate's, and from look to look. Errors: what is too short or
    /// too long, and what would do.
    pub(crate) fn new(
        authority: Duration,
        certificate: Duration,
        look: Duration,
    ) -> Result<Self, String> {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let times = Self {
            authority_seconds: seconds(authority),
            certificate_seconds: seconds(certificate),
            look_seconds: seconds(look),
        };
        if !LOOK_SECONDS.contains(&times.look_seconds) {
            return Err("--certificate-check-interval is 10s to 1h".to_owned());
        }
        let settles = times.settles_seconds();
        // A third of a certificate's time is left when the next one is due.
        let least = settles * 4;
        if times.certificate_seconds < least {
            return Err(format!(
                "--certificate-lifetime is at least {least}s: what changes takes {settles}s to reach \
                 everybody (three times --certificate-check-interval, at least {DELIVERED_SECONDS}s)"
            ));
        }
        let least = times.certificate_seconds.max(settles * 12);
        if times.authority_seconds < least {
            return Err(format!(
                "--authority-lifetime is at least {least}s: --certificate-lifetime, and twelve times \
                 the {settles}s that what changes takes to reach everybody"
            ));
        }
        Ok(times)
    }

    /// After this long everybody has what was given out: every operator has looked, every kubelet has
    /// brought it into the pods.
    pub(crate) fn settles(&self) -> Duration {
        Duration::from_secs(self.settles_seconds().unsigned_abs())
    }

    fn settles_seconds(&self) -> i64 {
        (self.look_seconds * 3).max(DELIVERED_SECONDS)
    }

    /// From look to look at a namespace's authorities.
    pub(crate) fn look(&self) -> Duration {
        Duration::from_secs(self.look_seconds.unsigned_abs())
    }

    /// From look to look at a job's certificates, if nothing happens.
    pub(crate) fn renew(&self) -> Duration {
        let seconds = (self.certificate_seconds / 12).min(RENEW_SECONDS_MAX);
        Duration::from_secs(seconds.max(self.look_seconds).unsigned_abs())
    }

    /// The dates of an authority that is made now.
    pub(crate) fn authority(&self, now: i64) -> Validity {
        Validity::lasting(now, self.authority_seconds)
    }

    /// The dates of a certificate that this authority issues now.
    pub(crate) fn certificate(&self, now: i64, authority: Validity) -> Validity {
        Validity::lasting(now, self.certificate_seconds).until_at_most(authority.until_seconds)
    }

    /// When an authority is to be followed.
    pub(crate) fn authority_due_at(&self, validity: Validity) -> i64 {
        validity.due_at(self.authority_seconds)
    }

    /// When a certificate is to be issued anew.
    pub(crate) fn certificate_due_at(&self, validity: Validity) -> i64 {
        validity.due_at(self.certificate_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn times(authority: u64, certificate: u64, look: u64) -> Result<Times, String> {
        let seconds = Duration::from_secs;
        Times::new(seconds(authority), seconds(certificate), seconds(look))
    }

    #[test]
    fn what_could_not_be_rotated_in_time_is_refused() {
        let usual = times(365 * DAY, 90 * DAY, 600).unwrap();
        assert_eq!((usual.settles().as_secs(), usual.renew().as_secs()), (1_800, 6 * 3_600));
        let shortest = times(1_800, 600, 10).unwrap();
        assert_eq!((shortest.settles().as_secs(), shortest.renew().as_secs()), (150, 50));
        for (authority, certificate, look, named) in [
            (365 * DAY, 90 * DAY, 9, "--certificate-check-interval"),
            (365 * DAY, 90 * DAY, 3_601, "--certificate-check-interval"),
            (365 * DAY, 599, 10, "--certificate-lifetime is at least 600s"),
            (365 * DAY, 11 * 3_600, 3_600, "--certificate-lifetime is at least 43200s"),
            (1_799, 600, 10, "--authority-lifetime is at least 1800s"),
            (89 * DAY, 90 * DAY, 600, "--authority-lifetime is at least 7776000s"),
        ] {
            let told = times(authority, certificate, look).unwrap_err();
            assert!(told.starts_with(named), "{told}");
        }
    }

    #[test]
    fn a_certificate_ends_with_its_authority_and_a_shorter_setting_counts_for_what_is_there() {
        let usual = times(365 * DAY, 90 * DAY, 600).unwrap();
        let (now, day) = (1_795_219_200, 86_400);
        let authority = usual.authority(now);
        assert_eq!(authority.until_seconds, now + 365 * day);
        assert_eq!(usual.certificate(now, authority).until_seconds, now + 90 * day);
        let late = usual.certificate(now + 300 * day, authority);
        assert_eq!(late.until_seconds, authority.until_seconds);
        assert_eq!(usual.authority_due_at(authority), now + 365 * day / 3 * 2);
        let shorter = times(30 * DAY, 6 * DAY, 600).unwrap();
        assert_eq!(shorter.authority_due_at(authority), now + 20 * day);
    }
}
