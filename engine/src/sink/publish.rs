//! Staged pieces get their final names; staged ones, and those of earlier runs, go.

use crate::objects::Location;
use crate::protocol::Piece;
use crate::sink::SinkError;
use crate::sink::names::{FinalName, StagedName};

/// Makes a staged piece visible under its final name. Twice is the same as once; a missing staged
/// piece means that it was done before.
pub async fn publish(folder: &Location, piece: &Piece) -> Result<(), SinkError> {
    let _ = (folder, piece);
    unimplemented!()
}

/// Deletes staged pieces whose commit is confirmed in a record. Missing ones are no error.
pub async fn delete_staged(folder: &Location, pieces: &[Piece]) -> Result<(), SinkError> {
    let _ = (folder, pieces);
    unimplemented!()
}

/// The committed files of `step` that lie in `folder`, of all runs, by name.
pub async fn committed_files(folder: &Location, step: &str) -> Result<Vec<FinalName>, SinkError> {
    let _ = (folder, step);
    unimplemented!()
}

/// The staged objects of `step` in `folder`, of all runs.
pub async fn staged_objects(folder: &Location, step: &str) -> Result<Vec<StagedName>, SinkError> {
    let _ = (folder, step);
    unimplemented!()
}
