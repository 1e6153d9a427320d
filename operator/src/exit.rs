//! How a command ends, and the one place that writes to standard error.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;

use indicatif::ProgressBar;

/// How a command ended. The numbers are fixed by pipeline.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Finished, or nothing was to be done.
    Done,
    /// The job or the command failed.
    Failed,
    /// The manifest, the flags or the folders are wrong; trying again gives the same.
    BadInput,
    /// A worker could not end an old generation.
    Teardown,
    /// Suspended by Ctrl-C or SIGTERM.
    Suspended,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::BadInput => 2,
            Exit::Teardown => 3,
            Exit::Suspended => 130,
        })
    }
}

/// The live line of a terminal, once one is shown: it gives way to what is said.
static LIVE: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// From now on lines are written above this one.
pub(crate) fn keep_below(live: &ProgressBar) {
    if let Ok(mut shown) = LIVE.lock() {
        // A job that was suspended and goes on has another one than before.
        *shown = Some(live.clone());
    }
}

/// One line on standard error.
pub(crate) fn say(line: &str) {
    let write = || {
        // Nobody reads it: then there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{line}");
    };
    match LIVE.lock().ok().and_then(|shown| shown.clone()) {
        Some(live) => live.suspend(write),
        None => write(),
    }
}

/// An error with its causes, on standard error.
pub(crate) fn report(error: &dyn Error) {
    say(&format!("error: {}", chain(error)));
}

/// An error and its causes as one text. A cause that its error quotes already is not repeated.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot write x")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_names_each_cause_once() {
        let error = Outer(std::io::Error::other("disk full"));
        assert_eq!(chain(&error), "cannot write x: disk full");
    }
}
