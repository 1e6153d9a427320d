//! What all shards of one process share: settings, the object store with its limits, the cache.
//!
//! - `settings.rs` — plain data.
//! - `requests.rs` — the one place that sends requests, limits them and retries.
//! - `load.rs` — loading parts of table files for reads.
//! - `size.rs` — what a version holds, to the byte.

mod load;
mod requests;
mod settings;
mod size;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::Semaphore;

use self::load::OnItsWay;
use self::requests::Requests;
pub use crate::cache::CacheCounts;
use crate::cache::{Cache, PartKey};
use crate::compaction::Compactor;
use crate::error::StateError;
use crate::obsolete::Obsolete;
use crate::table::FinishedTable;
use crate::version::TableHandle;

pub(crate) use self::load::{Keep, Parts};
pub use self::requests::Counters;
pub use self::settings::Settings;
pub use self::size::ContentSize;

/// What all shards of one process share. One per worker process.
#[derive(Debug)]
pub struct StateStore {
    settings: Settings,
    requests: Requests,
    cache: Cache,
    /// Room for parts that point reads have loaded and not used yet.
    reading: Arc<Semaphore>,
    on_their_way: Mutex<BTreeMap<PartKey, OnItsWay>>,
    /// Who carries out compactions in other processes.
    compactor: Option<Arc<dyn Compactor>>,
}

impl StateStore {
    /// The store of one process, over the job incarnation's `folder` of `objects`.
    pub fn new(objects: Arc<dyn ObjectStore>, folder: Path, settings: Settings) -> Arc<Self> {
        Self::with_compactor(objects, folder, settings, None)
    }

    /// The same, whose shards may have their compactions carried out elsewhere.
    pub fn with_compactor(
        objects: Arc<dyn ObjectStore>,
        folder: Path,
        settings: Settings,
        compactor: Option<Arc<dyn Compactor>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            compactor,
            requests: Requests::new(objects, &folder, &settings),
            cache: Cache::new(settings.cache_bytes),
            reading: Arc::new(Semaphore::new(requests::permits(&settings) as usize)),
            settings,
            on_their_way: Mutex::default(),
        })
    }

    /// Who carries out compactions in other processes, if anybody may.
    pub(crate) fn compactor(&self) -> Option<Arc<dyn Compactor>> {
        self.compactor.clone()
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was sent to the object store so far.
    pub fn counters(&self) -> Counters {
        self.requests.counters()
    }

    /// Bytes in the cache: blocks, and rows that stayed in memory after their flush.
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Most bytes that the cache ever has.
    pub fn cache_limit_bytes(&self) -> usize {
        self.cache.limit_bytes()
    }

    /// How often a part of a table file was found in the cache.
    pub fn cache_counts(&self) -> CacheCounts {
        self.cache.counts()
    }

    /// Makes room for rows in the cache's limit; false: they don't fit.
    pub(crate) fn reserve_rows(&self, bytes: usize) -> bool {
        self.cache.reserve(bytes)
    }

    /// Gives room back that was taken by [`StateStore::reserve_rows`].
    pub(crate) fn release_rows(&self, bytes: usize) {
        self.cache.release(bytes);
    }

    /// Stores a table file; on an error its name is obsolete, since a put may land all the same.
    pub(crate) async fn write_table(
        &self,
        table: FinishedTable,
        written_by: &Arc<Obsolete>,
    ) -> Result<Arc<TableHandle>, StateError> {
        // Made first: dropped on an error, it reports the name.
        let handle = TableHandle::written(table.meta, written_by);
        self.requests.write(&handle.name, &table.parts).await?;
        Ok(handle)
    }
}
