//! What is shown of a snapshot. Pure; nothing is decided from it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use weir_crds::{JobSnapshotStatus, SnapshotPhase};

use super::Snapshot;
use super::plan::{Course, Seen};

/// The status of a snapshot; `trouble` is the last thing that failed.
pub(super) fn status(
    snapshot: &Snapshot,
    seen: &Seen,
    trouble: Option<&str>,
    now: Timestamp,
) -> JobSnapshotStatus {
    let job = &snapshot.job;
    let (phase, reason, words) = match (seen.is_deleted, &seen.kept) {
        (true, _) => (SnapshotPhase::Deleting, "Deleting", "it is given up".to_owned()),
        (false, Some(_)) => (SnapshotPhase::Ready, "Ready", String::new()),
        (false, None) => match seen.course {
            Course::Gone if seen.is_known || !seen.is_bound => {
                let why = format!("there is no StatefulJob {job}, and no snapshot of one");
                (SnapshotPhase::Failed, "JobNotFound", why)
            }
            Course::Runs => {
                (SnapshotPhase::Pending, "TakingCheckpoint", "a checkpoint is taken".to_owned())
            }
            _ => (SnapshotPhase::Pending, "Waiting", format!("it waits for job {job}")),
        },
    };
    let message = match (phase, trouble) {
        (SnapshotPhase::Ready, _) | (_, None) => words,
        (_, Some(trouble)) => trouble.to_owned(),
    };
    let is_ready = phase == SnapshotPhase::Ready;
    let is_stalled = phase == SnapshotPhase::Failed;
    let conditions =
        [("Ready", is_ready), ("Reconciling", !is_ready && !is_stalled), ("Stalled", is_stalled)];
    let before = &snapshot.status;
    let conditions = conditions.map(|(type_, is)| {
        let status = if is { "True" } else { "False" };
        let old = before.conditions.iter().find(|old| old.type_ == type_);
        let old = old.filter(|old| old.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: if is || type_ == "Ready" { message.clone() } else { String::new() },
            observed_generation: Some(snapshot.generation),
            last_transition_time: old
                .map_or_else(|| Time(whole_seconds(now)), |old| old.last_transition_time.clone()),
        }
    });
    let taken = seen.kept.and_then(|kept| Timestamp::from_millisecond(kept.wall_ms).ok());
    JobSnapshotStatus {
        observed_generation: snapshot.generation,
        phase: Some(phase),
        checkpoint: seen.kept.map(|kept| kept.checkpoint.0).or(before.checkpoint),
        time: taken.map(|time| Time(whole_seconds(time))).or_else(|| before.time.clone()),
        uri: snapshot.bound.as_ref().map(|bound| bound.uri.clone()),
        snapshot: snapshot.bound.as_ref().map(|_| snapshot.in_journal()),
        message: Some(message),
        conditions: conditions.into(),
    }
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use weir_crds::DeletionPolicy;
    use weir_engine::coordinator::snapshots::Kept;
    use weir_state::ids::CheckpointId;

    use super::super::tests::object;
    use super::*;

    fn seen(course: Course) -> Seen {
        Seen {
            is_deleted: false,
            is_late: false,
            policy: DeletionPolicy::Delete,
            has_finalizer: true,
            is_bound: true,
            course,
            kept: None,
            is_elsewhere: false,
            is_known: false,
            may_retry: true,
        }
    }

    #[test]
    fn each_place_has_its_phase_and_its_conditions() {
        let kept = Some(Kept { checkpoint: CheckpointId(7), wall_ms: 1_700_000_000_000 });
        use SnapshotPhase::*;
        let table = [
            (seen(Course::Runs), Pending, "TakingCheckpoint", "Reconciling"),
            (seen(Course::Still), Pending, "Waiting", "Reconciling"),
            (seen(Course::Unsettled), Pending, "Waiting", "Reconciling"),
            (Seen { kept, ..seen(Course::Gone) }, Ready, "Ready", "Ready"),
            (Seen { is_known: true, ..seen(Course::Gone) }, Failed, "JobNotFound", "Stalled"),
            (
                Seen { is_deleted: true, kept, ..seen(Course::Runs) },
                Deleting,
                "Deleting",
                "Reconciling",
            ),
        ];
        let mut snapshot = Snapshot::of(&object("monday", "12345678")).unwrap();
        for (seen, phase, reason, holds) in table {
            let now = Timestamp::from_second(100).unwrap();
            let shown = status(&snapshot, &seen, None, now);
            assert_eq!(shown.phase, Some(phase), "{seen:?}");
            for condition in &shown.conditions {
                assert_eq!(condition.reason, reason);
                assert_eq!(condition.status == "True", condition.type_ == holds, "{condition:?}");
            }
            snapshot.status = shown.clone();
            let again = status(&snapshot, &seen, None, Timestamp::from_second(200).unwrap());
            assert_eq!(again, shown, "nothing new is nothing to write");
            snapshot.status = JobSnapshotStatus::default();
        }
        let taken = status(&snapshot, &Seen { kept, ..seen(Course::Runs) }, None, Timestamp::MIN);
        assert_eq!((taken.checkpoint, taken.uri.as_deref()), (Some(7), Some("s3://b/state")));
        assert_eq!(taken.time.unwrap().0.as_second(), 1_700_000_000);
        let stuck =
            status(&snapshot, &seen(Course::Still), Some("the bucket is away"), Timestamp::MIN);
        assert_eq!(stuck.message.as_deref(), Some("the bucket is away"));
    }
}
