//! What can go wrong in a simulated store, by chance or by plan. Plain data.

use std::time::Duration;

use super::Operation;

/// One thing that goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error; nothing happened.
    ErrorBefore,
    /// It happened, and the answer is an error all the same.
    LostAnswer,
    /// An error now; a write takes effect after this time, also when its writer is dead by then.
    Late(Duration),
    /// "Already exists" to a create that would have succeeded, and nothing is there.
    ExistsWithoutLanding,
    /// The calling process is killed before the call takes effect.
    CrashBefore,
    /// The calling process is killed after the call took effect, before it hears of it.
    CrashAfter,
    /// A write fails: no space is left.
    DiskFull,
}

impl Fault {
    /// What is counted.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ErrorBefore => "error before",
            Self::LostAnswer => "lost answer",
            Self::Late(_) => "late",
            Self::ExistsWithoutLanding => "exists without landing",
            Self::CrashBefore => "crash before",
            Self::CrashAfter => "crash after",
            Self::DiskFull => "disk full",
        }
    }
}

/// How often faults happen by chance, each in calls of a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// [`Fault::ErrorBefore`].
    pub error_before: u16,
    /// [`Fault::LostAnswer`].
    pub lost_answer: u16,
    /// [`Fault::Late`], of writes; the delay is drawn up to [`FaultRates::LATE_MAX`].
    pub late: u16,
    /// [`Fault::ExistsWithoutLanding`], of creates.
    pub exists_without_landing: u16,
    /// [`Fault::CrashBefore`], of calls made by a simulated process.
    pub crash_before: u16,
    /// [`Fault::CrashAfter`], of calls made by a simulated process.
    pub crash_after: u16,
}

impl FaultRates {
    /// The longest time by which chance delays a write.
    pub const LATE_MAX: Duration = Duration::from_secs(20);

    /// The fault that `draw` (0 to 999) stands for, if any.
    pub(super) fn pick(&self, draw: u64, late_by: Duration) -> Option<Fault> {
        let ladder = [
            (self.error_before, Fault::ErrorBefore),
            (self.lost_answer, Fault::LostAnswer),
            (self.late, Fault::Late(late_by)),
            (self.exists_without_landing, Fault::ExistsWithoutLanding),
            (self.crash_before, Fault::CrashBefore),
            (self.crash_after, Fault::CrashAfter),
        ];
        let mut below = 0;
        for (rate, fault) in ladder {
            below += u64::from(rate);
            if draw < below {
                return Some(fault);
            }
        }
        None
    }
}

/// A planned fault: it strikes once, at the `nth` call (from 1) that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Only calls of this kind count; `None`: all.
    pub operation: Option<Operation>,
    /// Only calls whose path contains this count.
    pub path_part: String,
    /// Which matching call, from 1.
    pub nth: u64,
    /// What happens to it.
    pub fault: Fault,
}

impl Planned {
    /// `fault` at the `nth` call of any kind.
    pub fn nth_call(nth: u64, fault: Fault) -> Self {
        Self { operation: None, path_part: String::new(), nth, fault }
    }

    /// `fault` at the `nth` call of one kind.
    pub fn nth_of(operation: Operation, nth: u64, fault: Fault) -> Self {
        Self { operation: Some(operation), path_part: String::new(), nth, fault }
    }

    /// The same for paths that contain `part` only.
    #[must_use]
    pub fn at(self, part: impl Into<String>) -> Self {
        Self { path_part: part.into(), ..self }
    }

    /// Counts a call down; the fault when this is the one.
    pub(super) fn strike(&mut self, operation: Operation, path: &str) -> Option<Fault> {
        let matches =
            self.operation.is_none_or(|only| only == operation) && path.contains(&self.path_part);
        if !matches || self.nth == 0 {
            return None;
        }
        self.nth -= 1;
        (self.nth == 0).then_some(self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_add_up_and_leave_the_rest_alone() {
        let rates = FaultRates { error_before: 10, late: 5, ..FaultRates::default() };
        let late = Duration::from_secs(1);
        assert_eq!(rates.pick(9, late), Some(Fault::ErrorBefore));
        assert_eq!(rates.pick(10, late), Some(Fault::Late(late)));
        assert_eq!(rates.pick(14, late), Some(Fault::Late(late)));
        assert_eq!(rates.pick(15, late), None);
    }

    #[test]
    fn a_plan_strikes_once_at_its_call() {
        let mut plan = Planned::nth_of(Operation::Create, 2, Fault::DiskFull).at("journal");
        assert_eq!(plan.strike(Operation::Create, "journal/1"), None);
        assert_eq!(plan.strike(Operation::Get, "journal/1"), None);
        assert_eq!(plan.strike(Operation::Create, "base/1"), None);
        assert_eq!(plan.strike(Operation::Create, "journal/2"), Some(Fault::DiskFull));
        assert_eq!(plan.strike(Operation::Create, "journal/3"), None);
    }
}
