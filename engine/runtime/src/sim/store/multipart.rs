//! Uploads in parts: each part is a call of its own; the object appears whole at the end.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{MultipartUpload, PutMode, PutPayload, PutResult, Result, UploadPart};

use super::{Operation, SimStore, failure};

type Parts = Arc<Mutex<Vec<Option<Bytes>>>>;

#[derive(Debug)]
pub(super) struct Upload {
    store: SimStore,
    path: Path,
    parts: Parts,
}

impl Upload {
    pub(super) fn new(store: SimStore, path: Path) -> Self {
        Self { store, path, parts: Parts::default() }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let parts = Arc::clone(&self.parts);
        let index = {
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.push(None);
            parts.len() - 1
        };
        let (store, path) = (self.store.clone(), self.path.clone());
        Box::pin(async move {
            let effect = move |_: &mut super::Content| {
                parts.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(data.into());
                Ok(())
            };
            store.call(Operation::PutPart, &path, effect).await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let mut whole = BytesMut::new();
        for part in self.parts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let part = part.as_ref().ok_or_else(|| failure("a part of the upload is missing"))?;
            whole.extend_from_slice(part);
        }
        self.store.put(Operation::Put, &self.path, whole.freeze(), PutMode::Overwrite).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }
}
