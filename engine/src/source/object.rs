//! Range reads of one object that must not have changed since the run began.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::{GetOptions, GetResult, ObjectMeta, ObjectStoreExt, coalesce_ranges};

use crate::objects::Location;
use crate::objects::retry::retry;
use crate::protocol::Split;
use crate::source::SourceError;

/// Ranges that lie closer together than this are read with one request.
const COALESCE_BYTES: u64 = 64 * 1024;

/// An object of a source, with the size and identity that it had when the run began.
#[derive(Clone, Debug)]
pub(crate) struct PinnedObject {
    pub(crate) step: String,
    /// As in the manifest.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// The store's etag, or the time of the last change where there is none.
    pub(crate) etag: String,
    location: Location,
}

impl PinnedObject {
    /// Looks at the object as it is now, and pins that; `None`: it is a folder.
    pub(crate) async fn look(
        step: &str,
        name: &str,
        location: Location,
    ) -> Result<Option<Self>, SourceError> {
        let mut object = Self {
            step: step.to_owned(),
            name: name.to_owned(),
            bytes: 0,
            etag: String::new(),
            location,
        };
        if object.location.path.as_ref().is_empty() {
            return Ok(None);
        }
        match retry(|| object.location.store.head(&object.location.path)).await {
            Ok(meta) => {
                object.etag = etag(&meta);
                object.bytes = meta.size;
                Ok(Some(object))
            }
            Err(object_store::Error::NotFound { .. }) if object.is_folder().await => Ok(None),
            Err(cause) => Err(object.explain(cause)),
        }
    }

    /// An object that a listing of `folder`'s store gave.
    pub(crate) fn listed(step: &str, name: &str, meta: &ObjectMeta, folder: &Location) -> Self {
        Self {
            step: step.to_owned(),
            name: name.to_owned(),
            bytes: meta.size,
            etag: etag(meta),
            location: Location { store: Arc::clone(&folder.store), path: meta.location.clone() },
        }
    }

    /// The object of a split, as the plan pinned it.
    pub(crate) fn of_split(step: &str, split: &Split, location: Location) -> Self {
        Self {
            step: step.to_owned(),
            name: split.object.clone(),
            bytes: split.object_bytes,
            etag: split.object_etag.clone(),
            location,
        }
    }

    /// Reads `range`, which must lie within the object.
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let answer = retry(|| async {
            let options = GetOptions { range: Some(range.clone().into()), ..Default::default() };
            let result = self.location.store.get_opts(&self.location.path, options).await?;
            if let Some(change) = self.change(&result) {
                return Ok(Err(change));
            }
            result.bytes().await.map(Ok)
        });
        match answer.await {
            Ok(Ok(bytes)) if bytes.len() as u64 == range.end - range.start => Ok(bytes),
            Ok(Ok(_)) => Err(self.damaged("it ends early; it was cut after the run began")),
            Ok(Err(change)) => Err(self.damaged(&change)),
            // A range behind the end of an object that shrank is an error of the store.
            Err(cause) => match retry(|| self.location.store.head(&self.location.path)).await {
                Ok(meta) => match self.change_of(&meta) {
                    Some(change) => Err(self.damaged(&change)),
                    None => Err(self.unreachable(cause)),
                },
                Err(cause) => Err(self.explain(cause)),
            },
        }
    }

    /// Reads several ranges, near ones together.
    pub(crate) async fn read_ranges(
        &self,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, SourceError> {
        coalesce_ranges(ranges, |range| self.read(range), COALESCE_BYTES).await
    }

    /// The error of this object that the manifest's author, not a retry, must mend.
    pub(crate) fn damaged(&self, what: &str) -> SourceError {
        SourceError::Object {
            step: self.step.clone(),
            object: self.name.clone(),
            what: what.to_owned(),
        }
    }

    fn unreachable(&self, cause: object_store::Error) -> SourceError {
        let (step, object) = (self.step.clone(), self.name.clone());
        SourceError::Unreachable { step, object, cause }
    }

    fn change(&self, result: &GetResult) -> Option<String> {
        self.change_of(&result.meta)
    }

    fn change_of(&self, meta: &ObjectMeta) -> Option<String> {
        if meta.size != self.bytes {
            return Some(format!(
                "was changed after the run began: it had {} bytes and has {} now; \
                 read it anew with --fresh",
                self.bytes, meta.size
            ));
        }
        (etag(meta) != self.etag)
            .then(|| "was changed after the run began; read it anew with --fresh".to_owned())
    }

    async fn is_folder(&self) -> bool {
        let listed = self.location.store.list_with_delimiter(Some(&self.location.path)).await;
        listed.is_ok_and(|listed| !(listed.objects.is_empty() && listed.common_prefixes.is_empty()))
    }

    /// Says of an object that can't be read whether it is missing.
    fn explain(&self, cause: object_store::Error) -> SourceError {
        match cause {
            object_store::Error::NotFound { .. } => self.damaged("not found"),
            object_store::Error::InvalidPath { source } => {
                self.damaged(&format!("is no name of an object: {source}"))
            }
            cause => self.unreachable(cause),
        }
    }
}

fn etag(meta: &ObjectMeta) -> String {
    meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.to_rfc3339())
}
