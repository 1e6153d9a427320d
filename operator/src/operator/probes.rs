//! What an operator says of itself to a kubelet and to Prometheus.
//!
//! It is alive while it answers, and ready when it knows the jobs that there are and renews its
//! leases: also when it holds none, since another one then has them all.

use weir_runtime::clock::{self, Instant};

use super::meters::{Meters, Numbers};
use super::{api, lease, metrics};
use crate::probes::Probed;

impl Probed for Meters {
    fn ready(&self) -> (bool, String) {
        self.with(|numbers| readiness(numbers, clock::now()))
    }

    fn metrics(&self) -> String {
        self.with(metrics::page).text()
    }
}

/// Whether it is ready, and a line for each thing that is or is not as one would like it.
fn readiness(numbers: &Numbers, now: Instant) -> (bool, String) {
    let mut is_ready = true;
    let mut lines = Vec::new();
    for (scope, its) in &numbers.scopes {
        let place = api::scope_name(Some(scope.as_str()).filter(|scope| !scope.is_empty()));
        lines.push(match (&its.trouble, its.is_listed) {
            (None, true) => format!("ok: the jobs of {place} are watched"),
            (Some(why), true) => format!("ok: the jobs of {place} were listed; now: {why}"),
            (why, false) => {
                is_ready = false;
                let why = why.as_deref().unwrap_or("no answer yet");
                format!("not ready: the jobs of {place} were not listed: {why}")
            }
        });
    }
    lines.push(match numbers.leases_renewed {
        Some(renewed) if now < renewed + lease::HOLD_MAX => {
            let (held, all) = (numbers.shards_held, lease::SHARDS);
            format!("ok: the leases of {held} of {all} shards are held")
        }
        Some(renewed) => {
            is_ready = false;
            format!("not ready: leases were renewed {} s ago", (now - renewed).as_secs())
        }
        None => {
            is_ready = false;
            "not ready: no lease was written yet".to_owned()
        }
    });
    (is_ready, lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_ready_with_a_list_and_a_lease_and_says_what_is_missing() {
        let meters = Meters::default();
        let now = clock::now();
        let says = |meters: &Meters, now| meters.with(|numbers| readiness(numbers, now));
        meters.watching(None);
        let (is_ready, lines) = says(&meters, now);
        assert!(!is_ready);
        assert_eq!(
            lines,
            "not ready: the jobs of all namespaces were not listed: no answer yet\n\
             not ready: no lease was written yet\n"
        );
        meters.watch_failed(None, "jobs cannot be watched: 404".to_owned());
        meters.leases_renewed();
        let (is_ready, lines) = says(&meters, now);
        assert!(!is_ready && lines.contains("were not listed: jobs cannot be watched: 404"));
        meters.watched(None, true);
        let (is_ready, lines) = says(&meters, now);
        assert!(is_ready, "{lines}");
        meters.watch_failed(None, "jobs cannot be watched: 500".to_owned());
        assert!(says(&meters, now).0, "what was listed is known");
        let (is_ready, lines) = says(&meters, clock::now() + Duration::from_secs(30));
        assert!(!is_ready && lines.contains("not ready: leases were renewed 30 s ago"), "{lines}");
    }
}
