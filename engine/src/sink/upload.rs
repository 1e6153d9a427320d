//! One object of a length not known beforehand, in bounded memory.
//!
//! What fits one part is written at once at the end; what is longer goes in parts as it comes. At
//! most two parts are in memory: one being filled, one on its way.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use weir_runtime::sim::planted::{Planted, planted};
use weir_runtime::task::{self, Task};

use crate::objects::retry::retry;

/// Bytes of a part; all but the last have exactly as many.
pub(crate) const PART_BYTES: usize = 8 * 1024 * 1024;

/// An object being written. Dropped before its end, it leaves nothing under its name.
pub(crate) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    buffer: Vec<u8>,
    parts: Option<Box<dyn MultipartUpload>>,
    on_its_way: Option<Task<Result<(), Error>>>,
    bytes: u64,
}

impl Upload {
    /// Begins an object; makes no request.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, path: Path) -> Self {
        Self { store, path, buffer: Vec::new(), parts: None, on_its_way: None, bytes: 0 }
    }

    /// Where what is written next is appended.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether [`Upload::flush`] would send something.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= PART_BYTES
    }

    /// Sends the full parts; waits for the one before. Not cancel safe.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        while self.is_full() {
            let rest = self.buffer.split_off(PART_BYTES);
            let part = std::mem::replace(&mut self.buffer, rest);
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, part: Vec<u8>) -> Result<(), Error> {
        if let Some(before) = self.on_its_way.take() {
            joined(before).await?;
        }
        self.bytes += part.len() as u64;
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => none.insert(retry(|| self.store.put_multipart(&self.path)).await?),
        };
        self.on_its_way = Some(task::spawn(parts.put_part(part.into())));
        Ok(())
    }

    /// Writes the rest and ends the object; gives its length. It is durable then.
    pub(crate) async fn finish(mut self) -> Result<u64, Error> {
        self.flush().await?;
        let rest = Bytes::from(std::mem::take(&mut self.buffer));
        let Some(parts) = &mut self.parts else {
            if planted(Planted::AckBeforeUpload) {
                let (store, path, bytes) = (self.store, self.path, rest.len() as u64);
                let late = async move { store.put(&path, PutPayload::from(rest)).await };
                task::spawn(late).detach();
                return Ok(bytes);
            }
            let put = || self.store.put(&self.path, PutPayload::from(rest.clone()));
            retry(put).await?;
            return Ok(rest.len() as u64);
        };
        if let Some(before) = self.on_its_way.take() {
            joined(before).await?;
        }
        if !rest.is_empty() {
            self.bytes += rest.len() as u64;
            parts.put_part(rest.into()).await?;
        }
        parts.complete().await?;
        Ok(self.bytes)
    }
}

async fn joined(part: Task<Result<(), Error>>) -> Result<(), Error> {
    part.await.unwrap_or_else(|cause| Err(Error::Generic { store: "upload", source: cause.into() }))
}
