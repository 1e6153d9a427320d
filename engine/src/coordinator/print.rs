//! `print` sinks: the coordinator itself reads their pieces and hands the rows on.

use std::collections::BTreeMap;

use weir_state::objects::{Place, StoreError};

use crate::pipeline::spec::{JobSpec, SinkSpec, Verb};
use crate::protocol::Piece;

/// Takes the rows of `print` sinks, a few whole lines of ndjson at a time.
pub trait Print: Send {
    /// Writes lines of a step; an error fails the job.
    fn print(&mut self, step: &str, lines: &[u8]) -> std::io::Result<()>;
}

/// Why rows could not be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrintError {
    /// A staged piece can't be read.
    #[error("{step}: cannot read the rows to print")]
    Read {
        step: String,
        #[source]
        cause: StoreError,
    },
    /// A staged piece that a completed checkpoint names is not there.
    #[error("{step}: {object}, which has rows to print, is missing")]
    Missing { step: String, object: String },
    /// The lines can't be written.
    #[error("{step}: cannot print")]
    Write {
        step: String,
        #[source]
        cause: std::io::Error,
    },
}

/// What is printed, and how much more each step may print.
pub(crate) struct Printer {
    out: Box<dyn Print>,
    /// Rows left, of steps that have a limit.
    left: BTreeMap<String, u64>,
}

impl Printer {
    pub(crate) fn new(out: Box<dyn Print>, spec: &JobSpec) -> Self {
        let limits = spec.pipeline.iter().filter_map(|step| match &step.verb {
            Verb::Sink(SinkSpec::Print { limit: Some(limit) }) => Some((step.id.clone(), *limit)),
            _ => None,
        });
        Self { out, left: limits.collect() }
    }

    /// Prints one piece, as far as its step's limit goes.
    pub(crate) async fn print(&mut self, piece: &Piece, objects: &Place) -> Result<(), PrintError> {
        let step = &piece.step;
        let left = self.left.get(step).copied();
        if left == Some(0) {
            return Ok(());
        }
        let path = objects.path(&piece.staged);
        let bytes = objects.read(&path).await;
        let bytes = bytes.map_err(|cause| PrintError::Read { step: step.clone(), cause })?;
        let missing = || PrintError::Missing { step: step.clone(), object: objects.display(&path) };
        let bytes = bytes.ok_or_else(missing)?;
        let lines = first_lines(&bytes, left);
        self.out
            .print(step, lines)
            .map_err(|cause| PrintError::Write { step: step.clone(), cause })?;
        if let Some(left) = self.left.get_mut(step) {
            *left = left.saturating_sub(count_lines(lines));
        }
        Ok(())
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The first `limit` lines; none: all.
fn first_lines(bytes: &[u8], limit: Option<u64>) -> &[u8] {
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return bytes };
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let end = ends.map(|(at, _)| at + 1).take(limit).last().unwrap_or(0);
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_cuts_at_lines() {
        let bytes = b"a\nbb\nccc\n";
        assert_eq!(first_lines(bytes, None), bytes);
        assert_eq!(first_lines(bytes, Some(2)), b"a\nbb\n");
        assert_eq!(first_lines(bytes, Some(9)), bytes);
        assert_eq!(first_lines(bytes, Some(0)), b"");
        assert_eq!(count_lines(bytes), 3);
    }
}
