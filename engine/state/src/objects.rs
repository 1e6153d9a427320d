//! Object stores: which one a URI means, what its errors mean to a user, and retries.
//!
//! - `objects.rs` — [`Place`], a folder in a store.
//! - `objects/open.rs` — URIs: local folders, memory, S3.
//! - `objects/copy.rs` — an object of another folder, copied or linked.
//! - `objects/probe.rs` — does the store honour create-if-absent?
//! - `objects/error.rs` — errors by what a user can do about them.
//! - `objects/retry.rs` — the one place that retries.
//!
//! What must stay true: a write that answered is durable (a local folder is written with fsync of
//! file and directory), and a create of a name that exists fails.

mod copy;
mod error;
mod open;
mod probe;
mod retry;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use weir_runtime::clock;

pub(crate) use self::error::refusal;
pub use self::error::{StoreError, StoreOperation, is_outage};
pub use self::open::{Credentials, StoreOptions, open, open_existing};
pub use self::probe::probe_create_if_absent;
pub(crate) use self::retry::Backoff;

/// How long one request may take before its outcome counts as unknown.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// How long requests are repeated before their error is the answer.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// A folder in an object store.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The folder within the store.
    pub prefix: Path,
    /// How a user names the folder; for messages.
    pub uri: String,
    /// The folder on the local disk, if it is one.
    pub local: Option<PathBuf>,
    /// Requests made through this place and the folders below it.
    requests: Arc<AtomicU64>,
}

/// Objects per bulk delete; what S3 allows.
const DELETE_BATCH_MAX: usize = 1_000;

/// What a create-if-absent did, as far as the store says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Create {
    Done,
    Exists,
}

impl Place {
    /// A folder of a store that is already open.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, uri: impl Into<String>) -> Self {
        let requests = Arc::new(AtomicU64::new(0));
        Self { store, prefix, uri: uri.into(), local: None, requests }
    }

    /// The place on the local disk.
    #[must_use]
    pub fn at(self, local: Option<PathBuf>) -> Self {
        Self { local, ..self }
    }

    /// Requests made so far through this place, the folders below it, and clones of them; a
    /// listing counts as one, a bulk delete too.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// The folder `name` below this one.
    #[must_use]
    pub fn folder(&self, name: &str) -> Self {
        Self {
            store: Arc::clone(&self.store),
            prefix: self.path(name),
            uri: format!("{}/{name}", self.uri),
            local: self.local.as_ref().map(|folder| folder.join(name)),
            requests: Arc::clone(&self.requests),
        }
    }

    /// The path within the store of `name` (which may contain `/`) below the folder.
    pub fn path(&self, name: &str) -> Path {
        name.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// How a user names the object at `path`.
    pub fn display(&self, path: &Path) -> String {
        let below: Option<Vec<String>> = path
            .prefix_match(&self.prefix)
            .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect());
        match below {
            Some(parts) => format!("{}/{}", self.uri, parts.join("/")),
            None => path.to_string(),
        }
    }

    /// Name below the folder of the object at `path`.
    pub(crate) fn name_of(&self, path: &Path) -> Option<String> {
        let parts: Vec<String> =
            path.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect();
        Some(parts.join("/"))
    }

    /// The object's bytes; `None` when there is none. Repeated on errors that may pass.
    pub async fn read(&self, path: &Path) -> Result<Option<Bytes>, StoreError> {
        let once = || {
            async {
                match self.store.get(path).await {
                    Ok(found) => found.bytes().await.map(Some),
                    Err(Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(error),
                }
            }
            .boxed()
        };
        self.repeat(StoreOperation::Read, path, once).await
    }

    /// The objects below `folder`, those after `offset` only if there is one, in name order.
    pub(crate) async fn list(
        &self,
        folder: &Path,
        offset: Option<&Path>,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let once = || {
            let listing = match offset {
                Some(offset) => self.store.list_with_offset(Some(folder), offset),
                None => self.store.list(Some(folder)),
            };
            listing.try_collect::<Vec<_>>().boxed()
        };
        let mut listed = self.repeat(StoreOperation::List, folder, once).await?;
        listed.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(listed)
    }

    /// Names of the folders directly below this one.
    pub(crate) async fn folders(&self) -> Result<Vec<String>, StoreError> {
        let once = || self.store.list_with_delimiter(Some(&self.prefix));
        let listed = self.repeat(StoreOperation::List, &self.prefix, once).await?;
        let names = listed.common_prefixes.iter().filter_map(|path| path.filename());
        Ok(names.map(str::to_owned).collect())
    }

    /// The objects directly in this folder.
    pub(crate) async fn files(&self) -> Result<Vec<ObjectMeta>, StoreError> {
        let once = || self.store.list_with_delimiter(Some(&self.prefix));
        Ok(self.repeat(StoreOperation::List, &self.prefix, once).await?.objects)
    }

    /// Sends one create-if-absent. After an error it may have landed, or land later.
    pub(crate) async fn create_once(
        &self,
        path: &Path,
        bytes: Bytes,
    ) -> Result<Create, StoreError> {
        let options = PutOptions::from(PutMode::Create);
        let put = self.store.put_opts(path, PutPayload::from(bytes), options);
        self.count_request();
        match within(put).await {
            Ok(_) => Ok(Create::Done),
            Err(Error::AlreadyExists { .. }) => Ok(Create::Exists),
            Err(error) => Err(self.error(StoreOperation::Write, path, error)),
        }
    }

    /// Writes an object whose bytes are always the same. Repeated on errors that may pass.
    pub(crate) async fn write(&self, path: &Path, bytes: Bytes) -> Result<(), StoreError> {
        let once = || self.store.put(path, PutPayload::from(bytes.clone())).boxed();
        self.repeat(StoreOperation::Write, path, once).await.map(drop)
    }

    /// Deletes objects; those that are gone already count as deleted. Repeated on errors that may
    /// pass.
    pub async fn delete(&self, paths: &[Path]) -> Result<(), StoreError> {
        for batch in paths.chunks(DELETE_BATCH_MAX) {
            let mut backoff = Backoff::new(RETRY_MAX);
            let mut left = batch.to_vec();
            while let Some((path, error)) = self.delete_once(&mut left).await {
                let error = self.error(StoreOperation::Delete, &path, error);
                if !error.is_transient() || !backoff.wait().await {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Deletes what it can of `left`; what stays in it failed, one of them with the error.
    async fn delete_once(&self, left: &mut Vec<Path>) -> Option<(Path, Error)> {
        let wanted = std::mem::take(left);
        let paths = futures::stream::iter(wanted.clone().into_iter().map(Ok)).boxed();
        self.count_request();
        let mut results = self.store.delete_stream(paths);
        let mut failed = None;
        for path in wanted {
            // A store that deletes in bulk answers a failed batch with one error and no more.
            let error = match results.next().await {
                Some(Ok(_) | Err(Error::NotFound { .. })) => continue,
                Some(Err(error)) => error,
                None => Error::Generic { store: "delete", source: "no answer".into() },
            };
            left.push(path.clone());
            failed.get_or_insert((path, error));
        }
        failed
    }

    async fn repeat<'a, T>(
        &self,
        operation: StoreOperation,
        path: &Path,
        once: impl Fn() -> BoxFuture<'a, Result<T, Error>>,
    ) -> Result<T, StoreError> {
        let mut backoff = Backoff::new(RETRY_MAX);
        loop {
            self.count_request();
            let error = match within(once()).await {
                Ok(done) => return Ok(done),
                Err(error) => self.error(operation, path, error),
            };
            if !error.is_transient() || !backoff.wait().await {
                return Err(error);
            }
        }
    }

    /// The error of one operation, by what a user can do about it.
    pub fn error(&self, operation: StoreOperation, path: &Path, error: Error) -> StoreError {
        StoreError::classify(operation, self.display(path), error)
    }
}

async fn within<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |source| Error::Generic { store: "request", source: Box::new(source) };
    clock::timeout(REQUEST_MAX, request).await.map_err(late)?
}

#[cfg(test)]
mod tests;
