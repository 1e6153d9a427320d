//! What a stage's sinks have staged and no completed checkpoint has listed yet.
//!
//! Each cut stages its own pieces. When its checkpoint is given up they belong to the next one, so
//! an acknowledgement lists the pieces of every cut since the last completed checkpoint.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, try_join_all};
use weir_state::ids::CheckpointId;

use crate::protocol::Piece;
use crate::sink::SinkError;

/// Cuts in a row without a completed checkpoint that a stage takes.
pub(crate) const CUTS_MAX: usize = 1_000;

type Staging = Shared<BoxFuture<'static, Result<Vec<Piece>, Arc<SinkError>>>>;

/// The cuts of one stage task.
#[derive(Default)]
pub(crate) struct Staged {
    cuts: VecDeque<(CheckpointId, Staging)>,
}

impl Staged {
    /// The sinks were cut at the barrier of `checkpoint`. Gives what the acknowledgement waits for:
    /// all pieces that it lists. `completed`: checkpoints up to this one are complete.
    ///
    /// The future may be dropped: the next cut's waits for the same pieces.
    pub(crate) fn cut(
        &mut self,
        checkpoint: CheckpointId,
        completed: CheckpointId,
        pieces: Vec<BoxFuture<'static, Result<Vec<Piece>, SinkError>>>,
    ) -> BoxFuture<'static, Result<Vec<Piece>, Arc<SinkError>>> {
        self.cuts.retain(|(id, _)| *id > completed);
        if !pieces.is_empty() {
            let all = try_join_all(pieces).map(|done| match done {
                Ok(pieces) => Ok(pieces.into_iter().flatten().collect()),
                Err(error) => Err(Arc::new(error)),
            });
            self.cuts.push_back((checkpoint, all.boxed().shared()));
        }
        let listed: Vec<Staging> = self.cuts.iter().map(|(_, staging)| staging.clone()).collect();
        async move { Ok(try_join_all(listed).await?.into_iter().flatten().collect()) }.boxed()
    }

    /// Whether too many cuts were made without a completed checkpoint.
    pub(crate) fn is_full(&self) -> bool {
        self.cuts.len() >= CUTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(name: &str) -> BoxFuture<'static, Result<Vec<Piece>, SinkError>> {
        let piece = Piece { staged: name.to_owned(), ..Piece::default() };
        async move { Ok(vec![piece]) }.boxed()
    }

    fn names(cut: BoxFuture<'static, Result<Vec<Piece>, Arc<SinkError>>>) -> Vec<String> {
        let pieces = cut.now_or_never().expect("nothing waits").unwrap();
        pieces.into_iter().map(|piece| piece.staged).collect()
    }

    const NONE: CheckpointId = CheckpointId(0);
    const ONE: CheckpointId = CheckpointId(1);
    const TWO: CheckpointId = CheckpointId(2);

    #[test]
    fn a_completed_cut_is_not_listed_again() {
        let mut staged = Staged::default();
        assert_eq!(names(staged.cut(ONE, NONE, vec![piece("a"), piece("b")])), ["a", "b"]);
        assert_eq!(names(staged.cut(TWO, ONE, vec![piece("c")])), ["c"]);
    }

    #[test]
    fn pieces_of_an_aborted_checkpoint_go_with_the_next() {
        let mut staged = Staged::default();
        drop(staged.cut(ONE, NONE, vec![piece("a")]));
        assert_eq!(names(staged.cut(TWO, NONE, vec![piece("b")])), ["a", "b"]);
    }

    #[test]
    fn an_acknowledgement_waits_for_older_uploads_too() {
        let mut staged = Staged::default();
        let (done, upload) = futures::channel::oneshot::channel::<Vec<Piece>>();
        let slow = async move { Ok(upload.await.unwrap()) }.boxed();
        drop(staged.cut(ONE, NONE, vec![slow]));
        let mut cut = staged.cut(TWO, NONE, vec![piece("b")]);
        assert!((&mut cut).now_or_never().is_none());
        done.send(vec![Piece { staged: "a".to_owned(), ..Piece::default() }]).unwrap();
        assert_eq!(names(cut), ["a", "b"]);
    }

    #[test]
    fn a_failed_upload_fails_every_later_acknowledgement() {
        let mut staged = Staged::default();
        let value = || SinkError::Value { step: "out".to_owned(), what: "no".to_owned() };
        let bad = async move { Err(value()) }.boxed();
        drop(staged.cut(ONE, NONE, vec![bad]));
        let cut = staged.cut(TWO, NONE, vec![piece("b")]);
        assert!(cut.now_or_never().unwrap().is_err());
    }

    #[test]
    fn stages_without_sinks_keep_nothing() {
        let mut staged = Staged::default();
        for id in 1..2_000 {
            assert!(names(staged.cut(CheckpointId(id), NONE, vec![])).is_empty());
        }
        assert!(!staged.is_full());
    }
}
