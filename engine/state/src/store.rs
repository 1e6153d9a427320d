//! What all shards of one process share: settings, the object store with its limits, the cache.

mod settings;

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

pub use self::settings::Settings;

/// What all shards of one process share. One per worker process.
#[derive(Debug)]
pub struct StateStore {
    objects: Arc<dyn ObjectStore>,
    folder: Path,
    settings: Settings,
}

impl StateStore {
    /// The store of one process, over the job incarnation's `folder` of `objects`.
    pub fn new(objects: Arc<dyn ObjectStore>, folder: Path, settings: Settings) -> Arc<Self> {
        Arc::new(Self { objects, folder, settings })
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
