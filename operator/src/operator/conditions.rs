//! Conditions of a resource's status, the same for jobs and snapshots. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// A condition without its times.
pub(crate) struct Shown {
    pub(crate) type_: &'static str,
    pub(crate) is: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Shown {
    /// As it is written for this generation of the resource: it changes its time only with its status.
    pub(crate) fn at(self, generation: i64, before: &[Condition], now: Timestamp) -> Condition {
        let status = if self.is { "True" } else { "False" };
        let old = before.iter().find(|old| old.type_ == self.type_);
        let old = old.filter(|old| old.status == status);
        Condition {
            type_: self.type_.to_owned(),
            status: status.to_owned(),
            reason: self.reason.to_owned(),
            message: self.message,
            observed_generation: Some(generation),
            last_transition_time: old
                .map_or_else(|| Time(whole_seconds(now)), |old| old.last_transition_time.clone()),
        }
    }
}

/// Whether the condition of this type is true.
pub(crate) fn holds(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|its| its.type_ == type_ && its.status == "True")
}

/// As an API server keeps times.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
