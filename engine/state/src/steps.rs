//! Reads as state machines: a step works with what is in memory and says what else it needs.
//!
//! The same code so answers at once when everything is in memory, and goes on in a future when it
//! is not.

use weir_runtime::task;

use crate::access::{Access, Pending};
use crate::error::StateError;
use crate::store::Parts;

/// A read that is made in steps.
pub(crate) trait Steps: Send + 'static {
    /// What the read answers.
    type Output: Send + 'static;

    /// Goes on as far as parts in memory allow; `None` when parts are wanted.
    fn step(&mut self, parts: &mut Parts) -> Result<Option<Self::Output>, StateError>;
}

/// Runs a read: at once if possible, else in a future.
pub(crate) fn run<S: Steps>(mut steps: S, mut parts: Parts) -> Access<S::Output> {
    match steps.step(&mut parts) {
        Ok(Some(answer)) => Access::Ready(answer),
        // Whoever asked may be busy for long (it waits for room in an edge) while the read holds room
        // that others wait for: what holds room goes on by itself.
        Ok(None) if parts.holds_room() => {
            let read = task::spawn(finish(steps, parts));
            Access::Pending(Pending::new(async {
                read.await.unwrap_or_else(|ended| {
                    let reason = ended.to_string();
                    Err(StateError::TaskEnded { step: String::new(), what: "a read", reason })
                })
            }))
        }
        Ok(None) => Access::Pending(Pending::new(finish(steps, parts))),
        Err(error) => Access::Pending(Pending::new(async { Err(error) })),
    }
}

async fn finish<S: Steps>(mut steps: S, mut parts: Parts) -> Result<S::Output, StateError> {
    loop {
        parts.load().await?;
        if let Some(answer) = steps.step(&mut parts)? {
            return Ok(answer);
        }
    }
}
