//! Requests for state objects: the one place that sends them, limits them and repeats them.
//!
//! A write is repeated with the same bytes under the same name, so trying it twice is the same as
//! once. Errors that repeating cannot cure are final at once.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::{Semaphore, SemaphorePermit};
use weir_runtime::clock;

use super::Settings;
use crate::error::{StateError, StoreOp};
use crate::objects::{Backoff, refusal};
use crate::version::TableHandle;

/// State objects lie in this folder of the incarnation's.
const OBJECTS_FOLDER: &str = "objects";
/// The semaphore of bytes counts in this unit.
const PERMIT_BYTES: usize = 1024;
/// After this many failed attempts to read, the object's size is looked at: a cut one is damage.
const LOOK_AT_SIZE_AFTER: u32 = 3;

/// What was sent to the object store since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads, each attempt counted.
    pub reads: u64,
    /// Writes, each attempt counted.
    pub writes: u64,
    /// Bytes of successful reads.
    pub bytes_read: u64,
    /// Bytes of successful writes.
    pub bytes_written: u64,
}

/// Sends requests for state objects.
#[derive(Debug)]
pub(super) struct Requests {
    objects: Arc<dyn ObjectStore>,
    folder: Path,
    requests: Semaphore,
    bytes: Semaphore,
    bytes_permits: u32,
    retry_max: Duration,
    attempt_timeout: Duration,
    reads: AtomicU64,
    writes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

/// Why an attempt failed.
enum Failed {
    /// May succeed if repeated.
    Attempt(object_store::Error),
    NoAnswer,
    /// Would fail again.
    Final(StateError),
}

impl Requests {
    pub(super) fn new(objects: Arc<dyn ObjectStore>, folder: &Path, settings: &Settings) -> Self {
        let permits = permits(settings);
        Self {
            objects,
            folder: folder.clone().join(OBJECTS_FOLDER),
            requests: Semaphore::new(settings.requests_in_flight_max.max(1)),
            bytes: Semaphore::new(permits as usize),
            bytes_permits: permits,
            retry_max: Duration::from_millis(settings.retry_max_ms),
            attempt_timeout: Duration::from_millis(settings.attempt_timeout_ms),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            reads: load(&self.reads),
            writes: load(&self.writes),
            bytes_read: load(&self.bytes_read),
            bytes_written: load(&self.bytes_written),
        }
    }

    /// Full name of a table's object, for messages.
    pub(super) fn object_name(&self, table: &TableHandle) -> String {
        self.path(&table.name).to_string()
    }

    /// Reads a range of a table's object.
    pub(super) async fn read(
        &self,
        table: &TableHandle,
        range: Range<u64>,
    ) -> Result<Bytes, StateError> {
        let path = self.path(&table.name);
        let length = range.end - range.start;
        let _permits = self.permits(length).await;
        let bytes = self
            .retry(StoreOp::Read, &path, async |attempt| {
                self.reads.fetch_add(1, Ordering::Relaxed);
                let read = self.read_once(&path, table.bytes, range.clone()).await;
                match read {
                    Err(Failed::Attempt(error)) if attempt == LOOK_AT_SIZE_AFTER => {
                        Err(self.cut_or(error, &path, table.bytes).await)
                    }
                    other => other,
                }
            })
            .await?;
        self.bytes_read.fetch_add(length, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Writes an object under a name that was never used before.
    pub(super) async fn write(&self, name: &str, parts: &[Bytes]) -> Result<(), StateError> {
        let path = self.path(name);
        let length = parts.iter().map(|part| part.len() as u64).sum();
        let _permits = self.permits(length).await;
        self.retry(StoreOp::Write, &path, async |_| {
            self.writes.fetch_add(1, Ordering::Relaxed);
            let payload: PutPayload = parts.iter().cloned().collect();
            let put = self.objects.put(&path, payload).await;
            put.map(|_| ()).map_err(|error| final_or_attempt(error, &path, StoreOp::Write))
        })
        .await?;
        self.bytes_written.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    async fn read_once(
        &self,
        path: &Path,
        object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Bytes, Failed> {
        let failed = |error| final_or_attempt(error, path, StoreOp::Read);
        let options =
            GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let object = self.objects.get_opts(path, options).await.map_err(failed)?;
        check_size(path, object_bytes, object.meta.size).map_err(Failed::Final)?;
        let bytes = object.bytes().await.map_err(failed)?;
        let length = range.end - range.start;
        if bytes.len() as u64 == length {
            return Ok(bytes);
        }
        Err(Failed::Final(StateError::Damaged {
            object: path.to_string(),
            offset: range.start,
            expected: format!("{length} bytes"),
            found: format!("{} bytes", bytes.len()),
        }))
    }

    /// Damage if the object has another size than it should, else the error as it was.
    async fn cut_or(&self, error: object_store::Error, path: &Path, object_bytes: u64) -> Failed {
        match self.objects.head(path).await {
            Ok(meta) => match check_size(path, object_bytes, meta.size) {
                Ok(()) => Failed::Attempt(error),
                Err(damage) => Failed::Final(damage),
            },
            Err(_) => Failed::Attempt(error),
        }
    }

    /// Repeats `attempt` (which is told its number, from 1) with growing, jittered pauses.
    async fn retry<T, F>(
        &self,
        op: StoreOp,
        path: &Path,
        attempt: impl Fn(u32) -> F,
    ) -> Result<T, StateError>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let mut backoff = Backoff::new(self.retry_max);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let failed = match clock::timeout(self.attempt_timeout, attempt(attempts)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failed)) => failed,
                Err(_) => Failed::NoAnswer,
            };
            let object = path.to_string();
            let limit_ms = u64::try_from(self.attempt_timeout.as_millis()).unwrap_or(u64::MAX);
            let error = match failed {
                Failed::Final(error) => return Err(error),
                Failed::Attempt(source) => {
                    StateError::Store { op, object, attempts, source: Arc::new(source) }
                }
                Failed::NoAnswer => StateError::NoAnswer { op, object, attempts, limit_ms },
            };
            tracing::debug!(%error, "may be tried again");
            if !backoff.wait().await {
                return Err(error);
            }
        }
    }

    async fn permits(&self, bytes: u64) -> (SemaphorePermit<'_>, SemaphorePermit<'_>) {
        let bytes = self.bytes.acquire_many(permits_for(bytes, self.bytes_permits)).await;
        let request = self.requests.acquire().await;
        let open = "the semaphores are never closed";
        (bytes.expect(open), request.expect(open))
    }

    fn path(&self, name: &str) -> Path {
        self.folder.clone().join(name)
    }
}

/// Permits for so many bytes. What is larger than the limit passes alone.
pub(super) fn permits_for(bytes: u64, limit: u32) -> u32 {
    let permits = bytes.div_ceil(PERMIT_BYTES as u64);
    u32::try_from(permits).unwrap_or(u32::MAX).clamp(1, limit)
}

/// The limit of bytes in flight, in permits.
pub(super) fn permits(settings: &Settings) -> u32 {
    let permits = (settings.bytes_in_flight_max / PERMIT_BYTES).max(1);
    u32::try_from(permits).unwrap_or(u32::MAX).min(u32::MAX >> 4)
}

fn final_or_attempt(error: object_store::Error, path: &Path, op: StoreOp) -> Failed {
    use object_store::Error;
    let object = path.to_string();
    match error {
        Error::NotFound { .. } if op == StoreOp::Read => {
            Failed::Final(StateError::Missing { object })
        }
        Error::NotSupported { .. } | Error::NotImplemented { .. } | Error::InvalidPath { .. } => {
            let source = Arc::new(error);
            Failed::Final(StateError::Store { op, object, attempts: 1, source })
        }
        // A full disk or a right that is missing stays for longer than a few attempts: said at once.
        error if refusal(&error).is_some() => {
            let source = Arc::new(error);
            Failed::Final(StateError::Store { op, object, attempts: 1, source })
        }
        _ => Failed::Attempt(error),
    }
}

fn check_size(path: &Path, expected: u64, found: u64) -> Result<(), StateError> {
    if expected == found {
        return Ok(());
    }
    Err(StateError::Damaged {
        object: path.to_string(),
        offset: expected.min(found),
        expected: format!("an object of {expected} bytes"),
        found: format!("{found} bytes"),
    })
}
