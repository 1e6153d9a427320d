//! What is shown of a snapshot. Pure; nothing is decided from it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::{JobSnapshotStatus, SnapshotPhase};

use super::Snapshot;
use super::plan::{Course, Seen};
use crate::operator::conditions::{Shown, whole_seconds};

/// The status of a snapshot; `before` is what its resource has, `trouble` the last thing that failed.
pub(super) fn status(
    snapshot: &Snapshot,
    before: &JobSnapshotStatus,
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
    let conditions = conditions.map(|(type_, is)| {
        let message = if is || type_ == "Ready" { message.clone() } else { String::new() };
        Shown { type_, is, reason, message }.at(snapshot.generation, &before.conditions, now)
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

#[cfg(test)]
mod tests {
    use weir_engine::coordinator::snapshots::Kept;
    use weir_state::ids::CheckpointId;

    use super::super::plan::tests;
    use super::super::tests::object;
    use super::*;

    /// The journal was not looked at.
    fn seen(course: Course) -> Seen {
        Seen { is_known: false, ..tests::seen(course) }
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
        let snapshot = Snapshot::of(&object("monday", "12345678")).unwrap();
        let before = JobSnapshotStatus::default();
        for (seen, phase, reason, holds) in table {
            let now = Timestamp::from_second(100).unwrap();
            let shown = status(&snapshot, &before, &seen, None, now);
            assert_eq!(shown.phase, Some(phase), "{seen:?}");
            for condition in &shown.conditions {
                assert_eq!(condition.reason, reason);
                assert_eq!(condition.status == "True", condition.type_ == holds, "{condition:?}");
            }
            let later = Timestamp::from_second(200).unwrap();
            let again = status(&snapshot, &shown, &seen, None, later);
            assert_eq!(again, shown, "nothing new is nothing to write");
        }
        let status =
            |seen: &Seen, trouble| status(&snapshot, &before, seen, trouble, Timestamp::MIN);
        let taken = status(&Seen { kept, ..seen(Course::Runs) }, None);
        assert_eq!((taken.checkpoint, taken.uri.as_deref()), (Some(7), Some("s3://b/state")));
        assert_eq!(taken.time.unwrap().0.as_second(), 1_700_000_000);
        let stuck = status(&seen(Course::Still), Some("the bucket is away"));
        assert_eq!(stuck.message.as_deref(), Some("the bucket is away"));
    }
}
