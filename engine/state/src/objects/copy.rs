//! An object of another folder, copied: linked on one disk, by the store itself within one store, else
//! through this process, a part at a time.

use std::path::Path as FilePath;

use futures::{FutureExt, StreamExt};
use object_store::{Error, GetResult, ObjectStoreExt, PutPayload};
use weir_runtime::task;

use super::{Place, StoreError, StoreOperation};

/// An object up to this size is written in one go, a larger one in parts of it.
const PART_BYTES: usize = 8 * 1024 * 1024;

impl Place {
    /// Copies the object `name` of the folder `other` to the same name here; false: there is none.
    /// `same_store`: this folder's store sees the paths of the other one's.
    ///
    /// Doing it again is harmless: objects have the same bytes for ever.
    pub async fn copy_from(
        &self,
        other: &Self,
        name: &str,
        same_store: bool,
    ) -> Result<bool, StoreError> {
        if let (Some(from), Some(to)) = (&other.local, &self.local) {
            let (from, to) = (from.join(name), to.join(name));
            let linked = task::blocking(move || link(&from, &to)).await;
            if let Ok(Some(found)) = linked {
                return Ok(found);
            }
        }
        let (from, to) = (other.path(name), self.path(name));
        let once = || {
            async {
                let copied = match same_store {
                    true => self.store.copy(&from, &to).await,
                    false => self.carry(other, &from, &to).await,
                };
                match copied {
                    Ok(()) => Ok(true),
                    Err(Error::NotFound { .. }) => Ok(false),
                    Err(error) => Err(error),
                }
            }
            .boxed()
        };
        self.repeat(StoreOperation::Write, &to, once).await
    }

    async fn carry(
        &self,
        other: &Self,
        from: &object_store::path::Path,
        to: &object_store::path::Path,
    ) -> Result<(), Error> {
        let found = other.store.get(from).await?;
        if found.meta.size <= PART_BYTES as u64 {
            let bytes = found.bytes().await?;
            return self.store.put(to, PutPayload::from(bytes)).await.map(drop);
        }
        let mut upload = self.store.put_multipart(to).await?;
        let sent = send_parts(found, &mut *upload).await;
        match sent {
            Ok(()) => upload.complete().await.map(drop),
            Err(error) => {
                // What was sent is no object, and the store's own to tidy if this fails too.
                drop(upload.abort().await);
                Err(error)
            }
        }
    }
}

async fn send_parts(
    found: GetResult,
    upload: &mut dyn object_store::MultipartUpload,
) -> Result<(), Error> {
    let mut bytes = found.into_stream();
    let mut part = Vec::with_capacity(PART_BYTES);
    while let Some(chunk) = bytes.next().await {
        let mut chunk = chunk?;
        while !chunk.is_empty() {
            let room = PART_BYTES - part.len();
            part.extend_from_slice(&chunk.split_to(room.min(chunk.len())));
            if part.len() == PART_BYTES {
                let full = std::mem::replace(&mut part, Vec::with_capacity(PART_BYTES));
                upload.put_part(PutPayload::from(full)).await?;
            }
        }
    }
    if !part.is_empty() {
        upload.put_part(PutPayload::from(part)).await?;
    }
    Ok(())
}

/// A second name for the file; false: there is none. `None`: it can't be linked, being on another disk
/// for instance.
fn link(from: &FilePath, to: &FilePath) -> Option<bool> {
    let folder = to.parent()?;
    std::fs::create_dir_all(folder).ok()?;
    match std::fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !from.exists() => {
            return Some(false);
        }
        Err(_) => return None,
    }
    // The name is durable, as that of a file that was written.
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).ok()?;
    Some(true)
}
