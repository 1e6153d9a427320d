//! From a URI to the object store that holds it, behind a trait so that simulation has its own.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use crate::pipeline::spec::StoreSpec;

pub mod retry;

/// Where a URI leads: a store, and a file or folder in it.
#[derive(Clone, Debug)]
pub struct Location {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The file or folder.
    pub path: Path,
}

/// A URI that leads nowhere; the message says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{uri}: {what}")]
pub struct OpenError {
    /// The URI as in the manifest.
    pub uri: String,
    /// What is wrong with it.
    pub what: String,
}

/// Opens the URIs of sources and sinks. Opening makes no request.
pub trait Objects: Send + Sync {
    /// Where `uri` (as in the manifest) leads.
    fn open(&self, uri: &str, store: &StoreSpec) -> Result<Location, OpenError>;
}

/// Every URI is a path in one store: of the simulation, and of tests.
#[derive(Clone, Debug)]
pub struct OneStore(pub Arc<dyn ObjectStore>);

impl Objects for OneStore {
    fn open(&self, uri: &str, _store: &StoreSpec) -> Result<Location, OpenError> {
        let path = Path::parse(uri.trim_matches('/'))
            .map_err(|cause| OpenError { uri: uri.to_owned(), what: cause.to_string() })?;
        Ok(Location { store: Arc::clone(&self.0), path })
    }
}
