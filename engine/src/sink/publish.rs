//! Staged pieces get their final names; staged ones, and those of earlier runs, go.
//!
//! Publishing copies (a hard link in a local folder), so it can be repeated by anyone until the
//! staged piece is deleted, which happens only after the commit is confirmed in a record. That is
//! why a missing staged piece means that it was published before.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use weir_state::names::SinkFile;

use crate::objects::Location;
use crate::objects::retry::retry;
use crate::protocol::Piece;
use crate::sink::names::{STAGED_FOLDER, StagedName};
use crate::sink::{SinkError, below};

/// How often "exists" without anything being there is taken for a fault.
const PHANTOMS_MAX: u32 = 5;

/// Makes a staged piece visible under its final name. Twice is the same as once.
///
/// Errors: [`SinkError::Conflict`] when something else already has the final name.
pub async fn publish(folder: &Location, piece: &Piece) -> Result<(), SinkError> {
    let staged = below(&folder.path, &piece.staged);
    let r#final = below(&folder.path, &piece.r#final);
    let failed = |cause| SinkError::store(&piece.step, &in_folder(piece, &piece.r#final), cause);
    for _ in 0..PHANTOMS_MAX {
        match copy(folder, &staged, &r#final).await {
            // Missing: published before, and deleted after the commit was confirmed.
            Ok(()) | Err(Error::NotFound { .. }) => return Ok(()),
            Err(Error::AlreadyExists { .. }) => {}
            Err(cause) => return Err(failed(cause)),
        }
        match retry(|| folder.store.head(&r#final)).await {
            Ok(meta) if meta.size == piece.bytes => return Ok(()),
            Ok(meta) => {
                return Err(SinkError::Conflict {
                    step: piece.step.clone(),
                    object: in_folder(piece, &piece.r#final),
                    found_bytes: meta.size,
                    expected_bytes: piece.bytes,
                });
            }
            Err(Error::NotFound { .. }) => {}
            Err(cause) => return Err(failed(cause)),
        }
    }
    let source = "the store says that it exists and that it is missing".into();
    Err(failed(Error::Generic { store: "sink", source }))
}

/// Creates by copy where the store can, else replaces what could only be the same bytes.
async fn copy(folder: &Location, staged: &Path, r#final: &Path) -> Result<(), Error> {
    match retry(|| folder.store.copy_if_not_exists(staged, r#final)).await {
        Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => {
            retry(|| folder.store.copy(staged, r#final)).await
        }
        answer => answer,
    }
}

/// Deletes staged pieces whose commit is confirmed in a record. Missing ones are no error.
pub async fn delete_staged(folder: &Location, pieces: &[Piece]) -> Result<(), SinkError> {
    for piece in pieces {
        delete(folder, &piece.step, &piece.staged).await?;
    }
    Ok(())
}

/// Deletes an object of `step` by its name below the sink's folder. A missing one is no error.
pub async fn delete(folder: &Location, step: &str, name: &str) -> Result<(), SinkError> {
    let path = below(&folder.path, name);
    match retry(|| folder.store.delete(&path)).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(cause) => {
            Err(SinkError::Delete { step: step.to_owned(), object: path.to_string(), cause })
        }
    }
}

/// The committed files of `step` that lie in `folder`, of all runs, by name.
pub async fn committed_files(folder: &Location, step: &str) -> Result<Vec<SinkFile>, SinkError> {
    let listed = retry(|| folder.store.list_with_delimiter(Some(&folder.path))).await;
    let listed = listed.map_err(|cause| unlisted(folder, step, cause))?;
    let names = listed.objects.iter().filter_map(|object| object.location.filename());
    let mut files: Vec<_> =
        names.filter_map(SinkFile::parse).filter(|file| file.step == step).collect();
    files.sort_by_cached_key(ToString::to_string);
    Ok(files)
}

/// The staged objects of `step` in `folder`, of all runs, by name.
pub async fn staged_objects(folder: &Location, step: &str) -> Result<Vec<StagedName>, SinkError> {
    let staging = below(&folder.path, STAGED_FOLDER);
    let listed = retry(|| folder.store.list(Some(&staging)).try_collect::<Vec<_>>()).await;
    let listed = listed.map_err(|cause| unlisted(folder, step, cause))?;
    let names = listed.iter().filter_map(|object| {
        let parts = object.location.prefix_match(&folder.path)?;
        let name: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
        StagedName::parse(&name.join("/"))
    });
    let mut staged: Vec<_> = names.filter(|name| name.step == step).collect();
    staged.sort();
    Ok(staged)
}

fn in_folder(piece: &Piece, name: &str) -> String {
    format!("{}/{name}", piece.folder.trim_end_matches('/'))
}

fn unlisted(folder: &Location, step: &str, cause: Error) -> SinkError {
    let (step, object) = (step.to_owned(), folder.path.to_string());
    SinkError::Read { step, object, cause }
}
