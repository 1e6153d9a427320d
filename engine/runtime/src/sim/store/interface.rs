//! The simulated store as an [`ObjectStore`]: each method is one call with its effect.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::content::Content;
use super::{Operation, SimStore, multipart, wall_ms};

/// Deletes of one stream that are in flight at a time.
const DELETES_AT_ONCE_MAX: usize = 10;

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let operation = match options.mode {
            PutMode::Create => Operation::Create,
            PutMode::Overwrite | PutMode::Update(_) => Operation::Put,
        };
        self.put(operation, path, payload.into(), options.mode).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(multipart::Upload::new(self.clone(), path.clone())))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { Operation::Head } else { Operation::Get };
        let from = path.clone();
        self.call(operation, path, move |content| content.get(&from, &options)).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (from, ranges) = (path.clone(), ranges.to_vec());
        self.call(Operation::Get, path, move |content| content.ranges(&from, &ranges)).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let one = move |path: Result<Path>| {
            let store = store.clone();
            async move {
                let path = path?;
                let gone = path.clone();
                let effect = move |content: &mut Content| {
                    content.delete(&gone);
                    Ok(())
                };
                store.call(Operation::Delete, &path, effect).await?;
                Ok(path)
            }
        };
        paths.map(one).buffered(DELETES_AT_ONCE_MAX).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let below = prefix.clone();
        let effect = move |content: &mut Content| Ok(content.list_with_delimiter(&below));
        self.call(Operation::List, &prefix, effect).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let create = options.mode == CopyMode::Create;
        let (source, target) = (from.clone(), to.clone());
        let effect = move |content: &mut Content| content.copy(&source, &target, create, wall_ms());
        self.call(Operation::Copy, to, effect).await
    }
}
