//! Decides what a snapshot's resource needs next. Pure.

use weir_crds::DeletionPolicy;
use weir_engine::coordinator::snapshots::Kept;

/// What is known of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) is_deleted: bool,
    /// The deadline of its deletion is over.
    pub(super) is_late: bool,
    pub(super) policy: DeletionPolicy,
    pub(super) has_finalizer: bool,
    /// It is written down where it lies.
    pub(super) is_bound: bool,
    pub(super) course: Course,
    /// What the journal keeps of it, as far as that was looked at.
    pub(super) kept: Option<Kept>,
    /// It is of an earlier run, in whose journal nobody writes.
    pub(super) is_elsewhere: bool,
    /// The journal was looked at.
    pub(super) is_known: bool,
    /// The pause after something that failed is over.
    pub(super) may_retry: bool,
}

/// Who writes the journal of its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// A coordinator: it is told what is wished.
    Runs,
    /// Nobody, and nobody is about to: the job is suspended or finished.
    Still,
    /// Nobody, and not all of its output may be visible: it has failed.
    Failed,
    /// There is no such job.
    Gone,
    /// That is not known now.
    Unsettled,
}

/// One act. Each is safe to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Write down where it lies, and hold it with the finalizer.
    Bind,
    /// See what the journal keeps.
    Look,
    /// Name the last checkpoint in the journal.
    Name,
    /// Give the name up in the journal.
    Drop,
    /// Let the resource go.
    Release,
}

/// What to do now.
pub(super) fn plan(seen: &Seen) -> Option<Action> {
    match seen.is_deleted {
        true => plan_deletion(seen),
        false => plan_life(seen),
    }
}

fn plan_deletion(seen: &Seen) -> Option<Action> {
    if !seen.has_finalizer {
        return None;
    }
    let is_over = seen.policy == DeletionPolicy::Retain || seen.is_late || !seen.is_bound;
    if is_over || (seen.is_known && seen.kept.is_none()) {
        return Some(Action::Release);
    }
    if !seen.may_retry {
        return None;
    }
    match seen.course {
        Course::Unsettled => None,
        Course::Runs if seen.kept.is_none() => Some(Action::Look),
        Course::Runs if !seen.is_elsewhere => None,
        _ => Some(Action::Drop),
    }
}

fn plan_life(seen: &Seen) -> Option<Action> {
    let is_held = seen.has_finalizer == (seen.policy == DeletionPolicy::Delete);
    if !(seen.is_bound && is_held) {
        let is_there = seen.is_bound || seen.course != Course::Gone;
        return (is_there && seen.may_retry).then_some(Action::Bind);
    }
    if seen.kept.is_some() || !seen.may_retry {
        return None;
    }
    match seen.course {
        Course::Unsettled => None,
        // It may be of an earlier run.
        _ if !seen.is_known => Some(Action::Look),
        Course::Still => Some(Action::Name),
        Course::Gone | Course::Failed | Course::Runs => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One that is there, bound and held, and that the journal does not keep.
    pub(in crate::operator::snapshots) fn seen(course: Course) -> Seen {
        Seen {
            is_deleted: false,
            is_late: false,
            policy: DeletionPolicy::Delete,
            has_finalizer: true,
            is_bound: true,
            course,
            kept: None,
            is_elsewhere: false,
            is_known: true,
            may_retry: true,
        }
    }

    const COURSES: [Course; 5] =
        [Course::Runs, Course::Still, Course::Failed, Course::Gone, Course::Unsettled];

    #[test]
    fn it_is_bound_first_then_named_and_then_left_alone() {
        for course in COURSES {
            let unbound = Seen { is_bound: false, has_finalizer: false, ..seen(course) };
            let bind = (course != Course::Gone).then_some(Action::Bind);
            assert_eq!(plan(&unbound), bind, "{course:?}");
            let unheld = Seen { has_finalizer: false, ..seen(course) };
            assert_eq!(plan(&unheld), Some(Action::Bind), "{course:?}");
            let retained = Seen { policy: DeletionPolicy::Retain, ..seen(course) };
            assert_eq!(plan(&retained), Some(Action::Bind), "nothing waits for it: {course:?}");
            let kept = Seen { kept: Some(Kept::default()), ..seen(course) };
            assert_eq!(plan(&kept), None, "{course:?}");
        }
        assert_eq!(plan(&seen(Course::Runs)), None, "the coordinator is told");
        assert_eq!(plan(&seen(Course::Still)), Some(Action::Name));
        assert_eq!(plan(&seen(Course::Gone)), None);
        assert_eq!(plan(&seen(Course::Failed)), None, "not all output may be visible");
        assert_eq!(plan(&seen(Course::Unsettled)), None);
        for course in COURSES {
            let unknown = Seen { is_known: false, ..seen(course) };
            let look = (course != Course::Unsettled).then_some(Action::Look);
            assert_eq!(plan(&unknown), look, "it may be of an earlier run: {course:?}");
        }
    }

    #[test]
    fn a_deleted_one_goes_from_the_journal_first_but_not_for_ever() {
        let deleted =
            |course| Seen { is_deleted: true, kept: Some(Kept::default()), ..seen(course) };
        assert_eq!(plan(&deleted(Course::Runs)), None, "the coordinator is told");
        let unknown = Seen { is_known: false, kept: None, ..deleted(Course::Runs) };
        assert_eq!(plan(&unknown), Some(Action::Look));
        let elsewhere = Seen { is_elsewhere: true, ..deleted(Course::Runs) };
        assert_eq!(plan(&elsewhere), Some(Action::Drop), "no coordinator writes there");
        assert_eq!(plan(&deleted(Course::Failed)), Some(Action::Drop));
        assert_eq!(plan(&deleted(Course::Still)), Some(Action::Drop));
        assert_eq!(plan(&deleted(Course::Gone)), Some(Action::Drop));
        assert_eq!(plan(&deleted(Course::Unsettled)), None);
        for course in COURSES {
            let gone = Seen { is_known: true, kept: None, ..deleted(course) };
            assert_eq!(plan(&gone), Some(Action::Release), "{course:?}");
            let late = Seen { is_late: true, may_retry: false, ..deleted(course) };
            assert_eq!(plan(&late), Some(Action::Release), "{course:?}");
            let retained = Seen { policy: DeletionPolicy::Retain, ..deleted(course) };
            assert_eq!(plan(&retained), Some(Action::Release), "{course:?}");
            let unbound = Seen { is_bound: false, ..deleted(course) };
            assert_eq!(plan(&unbound), Some(Action::Release), "{course:?}");
            let free = Seen { has_finalizer: false, ..deleted(course) };
            assert_eq!(plan(&free), None, "{course:?}");
            let paused = Seen { may_retry: false, ..deleted(course) };
            assert_eq!(plan(&paused), None, "{course:?}");
        }
    }
}
