//! What a version holds, to the byte: from the tails of its files.

use std::sync::Arc;

use super::{Keep, Parts, StateStore};
use crate::error::StateError;
use crate::version::Version;

/// What a version holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentSize {
    /// Uncompressed bytes of keys and contents.
    pub bytes: u64,
    /// Entries; a key that lies in several files counts in each.
    pub entries: u64,
}

impl StateStore {
    /// The exact size of a version's content, clipped files counted by their key groups. Reads the
    /// tail of each file.
    ///
    /// Errors: as of any read.
    pub async fn size_of(self: &Arc<Self>, version: &Version) -> Result<ContentSize, StateError> {
        let mut parts = Parts::new(self, Keep::InCache);
        version.views().iter().for_each(|view| drop(parts.tail(&view.table)));
        parts.load().await?;
        let mut size = ContentSize::default();
        for view in version.views() {
            let tail = loop {
                match parts.tail(&view.table) {
                    Some(tail) => break tail,
                    // It was in the cache a moment ago.
                    None => parts.load().await?,
                }
            };
            let (bytes, entries) = tail.size_of(view.range);
            size.bytes += bytes;
            size.entries += entries;
        }
        Ok(size)
    }
}
