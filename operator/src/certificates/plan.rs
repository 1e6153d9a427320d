//! How one authority of a namespace follows another. Pure: the time is a value.
//!
//! In three steps, each of which waits until everybody has what the step before gave out: *next* is
//! trusted, *next* issues, the *previous* one is trusted no more. What `plan` gives is done and looked
//! at again.

use super::dates::Validity;
use super::times::Times;

/// The authorities of a namespace. One that can't be used at all is not here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The one that issues.
    pub(crate) current: Option<Validity>,
    /// The one that will.
    pub(crate) next: Option<Validity>,
    /// The one that did.
    pub(crate) previous: Option<Validity>,
    /// Somebody wants another one, whatever its age.
    pub(crate) is_asked: bool,
}

/// One write of the authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the authority that issues: there is none that can.
    Begin,
    /// Make the authority that will issue.
    AddNext,
    /// The next one issues from now on; the present one is the previous.
    Promote,
    /// Forget the previous one.
    DropPrevious,
}

/// When a step may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// At once: nothing is served by waiting.
    Now,
    /// When everybody has what stands there.
    Settled,
}

/// What to do next, if anything.
pub(crate) fn plan(seen: &Seen, times: &Times, now: i64) -> Option<(Step, When)> {
    let counts = |authority: Option<Validity>| authority.is_some_and(|its| its.is_in_force(now));
    if !counts(seen.current) {
        // Nothing that it issued is taken any more, so whoever is to be taken needs the next one.
        let step = if counts(seen.next) { Step::Promote } else { Step::Begin };
        return Some((step, When::Now));
    }
    if let Some(previous) = seen.previous {
        let is_over = now >= previous.until_seconds;
        return Some((Step::DropPrevious, if is_over { When::Now } else { When::Settled }));
    }
    if seen.next.is_some() {
        // One that was made long ago, or by a clock that is wrong, is made again.
        return Some(match counts(seen.next) {
            true => (Step::Promote, When::Settled),
            false => (Step::AddNext, When::Now),
        });
    }
    let is_due = seen.current.is_some_and(|its| now >= times.authority_due_at(its));
    (is_due || seen.is_asked).then_some((Step::AddNext, When::Now))
}
