//! Since when everybody has what was given out, as far as this process has seen it. Pure: the time is
//! a value.
//!
//! By the monotonic clock and nobody's dates, so that a wall clock that is wrong or jumps shortens no
//! wait. Whoever begins anew waits anew.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_runtime::clock::Instant;

/// The secret of a job that has pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobSeen {
    /// The job.
    pub(crate) name: String,
    /// Tells its secret from one that is made in its place.
    pub(crate) uid: String,
    /// Nothing had to be written: it holds what the authorities of now give.
    pub(crate) is_fresh: bool,
    /// It never held anything else, and none of the pods is older.
    pub(crate) is_as_created: bool,
}

/// What is waited for.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    /// These authorities,
    version: String,
    /// seen first at this time,
    since: Option<Instant>,
    /// and the secrets that have followed them: since when.
    jobs: BTreeMap<String, (String, Instant)>,
}

impl Settling {
    /// Whether these authorities, and what they gave to all of these jobs, have stood for so long.
    /// Errors: what is waited for.
    pub(crate) fn check(
        &mut self,
        version: &str,
        jobs: &[JobSeen],
        settles: Duration,
        now: Instant,
    ) -> Result<(), String> {
        if self.version != version {
            *self = Self { version: version.to_owned(), ..Self::default() };
        }
        let since = *self.since.get_or_insert(now);
        let before = std::mem::take(&mut self.jobs);
        for job in jobs.iter().filter(|job| job.is_fresh) {
            // What is renewed later by the same authorities stays as good.
            let stood = before.get(&job.name).filter(|(uid, _)| *uid == job.uid);
            let began = stood.map_or(if job.is_as_created { since } else { now }, |(_, at)| *at);
            self.jobs.insert(job.name.clone(), (job.uid.clone(), began));
        }
        if let Some(job) = jobs.iter().find(|job| !job.is_fresh) {
            return Err(format!("the secret of job {}", job.name));
        }
        let newest = self.jobs.values().map(|(_, at)| *at).chain([since]).max().unwrap_or(now);
        let stood = now.saturating_duration_since(newest);
        match settles.checked_sub(stood).filter(|left| !left.is_zero()) {
            Some(left) => {
                let begun_second = u64::from(left.subsec_nanos() > 0);
                Err(format!("{} s", left.as_secs() + begun_second))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, uid: &str, is_fresh: bool, is_as_created: bool) -> JobSeen {
        JobSeen { name: name.to_owned(), uid: uid.to_owned(), is_fresh, is_as_created }
    }

    #[test]
    fn everybody_has_to_have_had_it_for_long_enough() {
        let start = weir_runtime::clock::now();
        let mut settling = Settling::default();
        let mut check = |at: u64, version: &str, jobs: &[JobSeen]| {
            let now = start + Duration::from_secs(at);
            settling.check(version, jobs, Duration::from_secs(100), now)
        };
        let (old, new) = (job("a", "1", true, false), job("b", "1", true, true));
        assert_eq!(check(0, "v1", &[]).unwrap_err(), "100 s", "another operator may not know it");
        assert!(check(100, "v1", &[]).is_ok());
        assert_eq!(check(100, "v1", std::slice::from_ref(&new)), Ok(()), "it had nothing else");
        assert_eq!(check(110, "v1", &[old.clone(), new.clone()]).unwrap_err(), "100 s");
        let stale = job("a", "1", false, false);
        let told = check(150, "v1", &[stale, new.clone()]).unwrap_err();
        assert_eq!(told, "the secret of job a");
        assert_eq!(check(160, "v1", &[old.clone(), new.clone()]).unwrap_err(), "100 s");
        assert_eq!(check(259, "v1", &[old.clone(), new.clone()]).unwrap_err(), "1 s");
        assert!(check(260, "v1", &[old.clone(), new.clone()]).is_ok());
        let remade = job("a", "2", true, false);
        assert!(check(261, "v1", &[remade]).is_err(), "deleted and made again");
        let new = [new];
        assert!(check(262, "v2", &new).is_err(), "other authorities");
        assert!(check(361, "v2", &new).is_err());
        assert!(check(362, "v2", &new).is_ok());
    }
}
