//! Staged pieces get their final names.
//!
//! Publishing copies (a hard link in a local folder), so it can be repeated by anyone until the
//! staged piece is deleted, which happens only after the commit is confirmed in a record. That is
//! why a missing staged piece means that it was published before. Deleting is `weir_state::gc`'s.

use std::fmt;

use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use weir_runtime::sim::planted::{Planted, planted};
use weir_state::names::committed_by;

use crate::objects::Location;
use crate::objects::retry::retry;
use crate::protocol::Piece;
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
    if planted(Planted::DeletedBeforePublished) {
        let bytes = folder.store.get(staged).await?.bytes().await?;
        folder.store.delete(staged).await?;
        return folder.store.put(r#final, bytes.into()).await.map(drop);
    }
    match retry(|| folder.store.copy_if_not_exists(staged, r#final)).await {
        Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => {
            retry(|| folder.store.copy(staged, r#final)).await
        }
        answer => answer,
    }
}

/// A committed file that lies in a sink's folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommittedFile {
    /// Its name.
    pub name: String,
    /// The run that wrote it.
    pub run: String,
}

impl fmt::Display for CommittedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The committed files of `step` that lie in `folder`, of all runs, by name.
pub async fn committed_files(
    folder: &Location,
    step: &str,
) -> Result<Vec<CommittedFile>, SinkError> {
    let listed = retry(|| folder.store.list_with_delimiter(Some(&folder.path))).await;
    let listed = listed.map_err(|cause| SinkError::Read {
        step: step.to_owned(),
        object: folder.path.to_string(),
        cause,
    })?;
    let names = listed.objects.iter().filter_map(|object| object.location.filename());
    let mut files: Vec<_> = names.filter_map(|name| of_step(name, step)).collect();
    files.sort();
    Ok(files)
}

fn of_step(name: &str, step: &str) -> Option<CommittedFile> {
    let (by, run) = committed_by(name)?;
    (by == step).then(|| CommittedFile { name: name.to_owned(), run })
}

fn in_folder(piece: &Piece, name: &str) -> String {
    format!("{}/{name}", piece.folder.trim_end_matches('/'))
}
