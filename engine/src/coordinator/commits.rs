//! Output that a completed checkpoint covers and that is not known to be published yet. Pure.
//!
//! A piece goes `add`ed → `confirm`ed → recorded: workers are told to publish it again and again
//! until they confirm; once all of a checkpoint are, the next journal record says so, and only then
//! their staged objects are deleted.

use std::collections::{BTreeMap, BTreeSet};

use weir_state::ids::CheckpointId;

use crate::protocol::{Commit, Piece};

/// What names a piece: step, folder, staged name.
type PieceKey = (String, String, String);

/// All pieces on their way to being visible.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commits {
    /// By the checkpoint that covers them.
    waiting: BTreeMap<CheckpointId, BTreeMap<PieceKey, Piece>>,
    /// Checkpoints all of whose pieces are visible, and no record says so.
    confirmed: BTreeSet<CheckpointId>,
}

fn key(piece: &Piece) -> PieceKey {
    (piece.step.clone(), piece.folder.clone(), piece.staged.clone())
}

/// Whether the coordinator itself publishes the piece, by handing its rows to standard output.
fn is_printed(piece: &Piece) -> bool {
    piece.folder.is_empty()
}

impl Commits {
    /// `checkpoint` is complete and covers `pieces`.
    pub(crate) fn add(
        &mut self,
        checkpoint: CheckpointId,
        pieces: impl IntoIterator<Item = Piece>,
    ) {
        let pieces: BTreeMap<_, _> = pieces.into_iter().map(|piece| (key(&piece), piece)).collect();
        if !pieces.is_empty() {
            self.waiting.entry(checkpoint).or_default().extend(pieces);
        }
    }

    /// These pieces are visible.
    pub(crate) fn confirm(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let key = key(piece);
            for waiting in self.waiting.values_mut() {
                waiting.remove(&key);
            }
        }
        let (confirmed, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, pieces)| pieces.is_empty());
        self.waiting = waiting;
        self.confirmed.extend(confirmed.into_keys());
    }

    /// Only the planted fault of a lost notification does this.
    pub(crate) fn believe_all(&mut self) {
        let pieces: Vec<Piece> = self.pieces().cloned().collect();
        self.confirm(&pieces);
    }

    /// Whether every piece is known to be visible.
    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether everything that `checkpoint` and those before it cover is known to be visible.
    pub(crate) fn is_visible(&self, checkpoint: CheckpointId) -> bool {
        self.waiting.range(..=checkpoint).next().is_none()
    }

    /// Whether a confirmation waits to be recorded.
    pub(crate) fn has_unrecorded(&self) -> bool {
        !self.confirmed.is_empty()
    }

    /// Confirmed checkpoints, for the next record.
    pub(crate) fn confirmed(&self) -> Vec<CheckpointId> {
        self.confirmed.iter().copied().collect()
    }

    /// A record holds these confirmations.
    pub(crate) fn recorded(&mut self, confirmed: &[CheckpointId]) {
        for checkpoint in confirmed {
            self.confirmed.remove(checkpoint);
        }
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.waiting.values().flat_map(BTreeMap::values)
    }

    /// What each of `workers` workers is told to publish now: every piece has one of them.
    pub(crate) fn orders(&self, checkpoint: CheckpointId, workers: usize) -> Vec<Commit> {
        let mut orders: Vec<Commit> =
            (0..workers).map(|_| Commit { checkpoint: checkpoint.0, pieces: Vec::new() }).collect();
        let files = self.pieces().filter(|piece| !is_printed(piece));
        for (index, piece) in files.enumerate() {
            orders[index % workers.max(1)].pieces.push(piece.clone());
        }
        orders
    }

    /// Pieces to be printed, in order of their checkpoints.
    pub(crate) fn printed(&self) -> Vec<Piece> {
        self.pieces().filter(|piece| is_printed(piece)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(folder: &str, name: &str) -> Piece {
        Piece {
            step: "out".to_owned(),
            folder: folder.to_owned(),
            staged: format!("_weir/{name}"),
            r#final: name.to_owned(),
            rows: 1,
            bytes: 10,
        }
    }

    #[test]
    fn a_piece_is_ordered_until_it_is_confirmed_and_kept_until_that_is_recorded() {
        let mut commits = Commits::default();
        commits.add(CheckpointId(1), [piece("out", "a"), piece("out", "b")]);
        let orders = commits.orders(CheckpointId(1), 2);
        assert_eq!(orders[0].pieces, [piece("out", "a")]);
        assert_eq!(orders[1].pieces, [piece("out", "b")]);

        commits.confirm(&[piece("out", "a")]);
        commits.confirm(&[piece("out", "a")]);
        assert!(!commits.is_settled() && !commits.has_unrecorded());
        assert_eq!(commits.orders(CheckpointId(2), 1)[0].pieces, [piece("out", "b")]);

        commits.confirm(&[piece("out", "b")]);
        assert!(commits.is_settled() && commits.has_unrecorded());
        assert_eq!(commits.confirmed(), [CheckpointId(1)]);
        commits.recorded(&[CheckpointId(1)]);
        assert!(!commits.has_unrecorded());
    }

    #[test]
    fn workers_without_pieces_are_notified_all_the_same() {
        let orders = Commits::default().orders(CheckpointId(7), 3);
        assert_eq!(orders.len(), 3);
        assert!(orders.iter().all(|order| order.checkpoint == 7 && order.pieces.is_empty()));
    }

    #[test]
    fn printed_pieces_go_to_no_worker_and_keep_the_order_of_checkpoints() {
        let mut commits = Commits::default();
        commits.add(CheckpointId(2), [piece("", "a")]);
        commits.add(CheckpointId(1), [piece("", "z")]);
        assert!(commits.orders(CheckpointId(2), 1)[0].pieces.is_empty());
        assert_eq!(commits.printed(), [piece("", "z"), piece("", "a")]);
    }
}
